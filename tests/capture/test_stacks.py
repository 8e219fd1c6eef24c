"""Python stacks of long waits: when they are taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from qtrace.errors import RecordingError
from qtrace.tracefile.reader import TraceReader
from tests.support.processes import running, wait_until

PROGRAM = Path(__file__).resolve().parent / "programs" / "hot_beside_a_wait.py"
SHARE_AFTER_NS = 900_000_000
"""Only then does py-spy's share of the time, 5 %, allow for one run of some 50 ms."""


def _taken(recording: Path) -> list[int]:
    """Return when the stacks of the thread that waits were taken, as far as they are in the recording."""
    try:
        with TraceReader(recording) as reader:
            return [row[3] for row in reader.rows("stacks") if "waits_here" in row[7]]
    except RecordingError:
        return []


def test_a_hot_program_gets_its_stacks_when_it_costs_little(tmp_path: Path) -> None:
    """Not beside the calls, unless they go on for long; and the wait that lasts gets its stack afterwards."""
    recording = tmp_path / "a.qtrace"
    command = [sys.executable, "-m", "qtrace", "record", "-q", "-o", str(recording), "--engine", "ptrace"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": None}
    with running([*command, "--", sys.executable, str(PROGRAM)], **streams) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        over = int(process.stdout.readline())
        wait_until(lambda: _taken(recording), what="a stack of the thread that waits")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(timeout=30) == 0
    with TraceReader(recording) as reader:
        start = int(reader.meta["start_ns"])
    assert min(_taken(recording)) >= min(over, start + SHARE_AFTER_NS)
