"""When the hang watch looks: often enough to find a hang soon, seldom enough not to be felt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qtrace.tracefile.reader import TraceReader
from tests.capture.test_ending import PROGRAMS, PYTHON, end_of, words
from tests.support.engines import prefix

SOON_NS = 5_000_000_000
"""By its backed-off looks alone the watch would come eight seconds after the program has come to rest."""


def test_a_hang_after_long_computing_is_found_soon(tmp_path: Path) -> None:
    """While a program computes it is looked at ever less often; that all stand still is seen all the same."""
    recording = tmp_path / "late.qtrace"
    command = words(recording, "computes_then_hangs.py", options=("--hang-after", "1", "--timeout", "60"))
    subprocess.run(command, check=False, capture_output=True, timeout=120)
    reason, verdict = end_of(recording)
    assert (reason, verdict["verdict"]) == ("hang", "deadlock")
    with TraceReader(recording) as reader:
        calls = reader.calls()
        ended_ns = next(row[0] for row in reader.rows("lifecycle") if row[3] == "end-begins")
    begun = calls["start_ns"][calls["start_ns"] < ended_ns]
    assert 1_000_000_000 <= ended_ns - int(begun.max()) < SOON_NS


@pytest.mark.parametrize("engine", ["ptrace", "perf"])
@pytest.mark.parametrize(("words_", "looks"), [(("4",), False), (("4", "slowly"), True)], ids=["joined", "polled"])
def test_a_program_of_which_all_compute_is_left_alone(
    words_: tuple[str, ...], looks: bool, engine: str, tmp_path: Path
) -> None:
    """Looks would take its CPUs; where somebody waits for what nobody can tell from outside, it is looked at."""
    before = prefix() if engine == "perf" else ()
    if before is None:
        pytest.skip("perf is not permitted here (root or CAP_PERFMON, tracefs)")
    count = [sys.executable, str(PROGRAMS / "count_looks.py"), str(tmp_path / "run.qtrace"), engine]
    argv = [*before, *count, PYTHON, str(PROGRAMS / "computes.py"), *words_]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert (int(done.stdout) > 0) == looks
