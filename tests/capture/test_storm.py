"""Many processes at once: nothing is missed, nothing is left, and the tracer does not grow."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from qtrace.model.syscalls import Architecture, number_of
from qtrace.tracefile.reader import TraceReader
from tests.capture.behaviours import needs_compiler, record_words
from tests.support.processes import in_session, running

STORM = Path(__file__).resolve().parent / "programs" / "storm.c"
PROCESSES, THREADS, WRITES = 500, 4, 3
CHILD_STATUS = 7
MOST_GROWTH_BYTES = 24 << 20
COMMANDS = 200


def _resident_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(found[0]) * 1024 if found else 0


def _growth(process: subprocess.Popen[str]) -> int:
    """Return by how much a tracer's memory grew from its first second of tracing to its highest."""
    sizes = []
    while process.poll() is None:
        sizes.append(_resident_bytes(process.pid))
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    # By its first eighth the tracer has loaded what it needs.
    return max(sizes) - max(sizes[: max(len(sizes) // 8, 10)])


def _events(path: Path) -> dict[str, int]:
    with sqlite3.connect(path) as database:
        return dict(database.execute("SELECT event, count(*) FROM lifecycle GROUP BY event"))


def _query(path: Path, sql: str) -> int:
    with sqlite3.connect(path) as database:
        return int(database.execute(sql).fetchone()[0])


@needs_compiler
def test_a_storm_of_processes_and_threads_is_recorded_whole(tmp_path: Path) -> None:
    """500 processes of 4 threads: every birth, write and end is there, and memory stays flat."""
    program, recording = tmp_path / "storm", tmp_path / "storm.qtrace"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", program, STORM], check=True)
    words = record_words(recording, [str(program), str(PROCESSES), "20"])
    with running(words, stdout=subprocess.PIPE) as process:
        growth = _growth(process)
        assert process.stdout is not None
        assert process.stdout.read() == f"sum {PROCESSES * CHILD_STATUS}\n"
        assert process.returncode == 0
        assert in_session(process.pid) == []
    events = _events(recording)
    births = PROCESSES * THREADS  # each process is a fork and three threads
    assert events["clone"] == births
    assert events["exit"] == births + 1
    assert _query(recording, "SELECT count(*) FROM threads WHERE end_ns IS NOT NULL") == births + 1
    assert _query(recording, f"SELECT count(*) FROM processes WHERE exit_code = {CHILD_STATUS}") == PROCESSES
    with TraceReader(recording) as reader:
        calls = reader.calls()
    wrote = calls[(calls["nr"] == number_of("write", Architecture.X86_64)) & (calls["a2"] == 1)]
    assert len(wrote) == births * WRITES
    assert set(wrote["ret"]) == {1}
    assert growth < MOST_GROWTH_BYTES


@pytest.mark.skipif(shutil.which("seq") is None, reason="no seq")
def test_a_pipeline_of_two_hundred_commands_is_recorded_whole(tmp_path: Path) -> None:
    """Each command is a process with an exec of its own, and each has ended well."""
    recording = tmp_path / "pipeline.qtrace"
    commands = " | ".join(["seq 1 2000", *["cat"] * (COMMANDS - 2), "tail -1"])
    with running(record_words(recording, ["/bin/sh", "-c", commands]), stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=120)
        assert (output, process.returncode) == ("2000\n", 0)
        assert in_session(process.pid) == []
    events = _events(recording)
    own_exec = 1
    assert events["clone"] == COMMANDS
    assert events["exec"] == COMMANDS + own_exec
    assert events["exit"] == COMMANDS + 1
    assert _query(recording, "SELECT count(DISTINCT pid) FROM processes WHERE exit_code = 0") == COMMANDS + 1
    assert _query(recording, "SELECT count(*) FROM processes WHERE exe LIKE '%/cat'") == COMMANDS - 2
    assert os.path.getsize(recording) > 0
