"""`qtrace summary` and `qtrace diff`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qtrace import pipeline
from tests.tracefile.recordings import event, packed, write_recording

EXAMPLE = Path(__file__).parents[2] / "examples" / "join_before_get.py"
MS = 1_000_000


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "qtrace", *words], capture_output=True, text=True)


def test_calls_are_summed_by_name(hung: Path) -> None:
    """Counts, errors, wall time and calls without return agree with the table of calls."""
    found = pipeline.summary_object(hung)
    syscalls, raw = pipeline.load(hung).syscalls, pipeline.load(hung).calls
    rows = {row["name"]: row for row in found["calls"]}  # type: ignore[attr-defined]
    assert set(rows) == set(syscalls["name"].astype(str))
    for name, row in rows.items():
        which = (syscalls["name"] == name).to_numpy()
        assert row["calls"] == which.sum()
        assert row["errors"] == syscalls["errno"][which].notna().sum()
        assert row["unfinished"] == syscalls["unfinished"][which].sum()
        assert row["ns"] == raw["dur_ns"][which].sum()
        assert row["mean_ns"] == row["ns"] // row["calls"]
    assert rows["wait4"]["unfinished"] == 1
    assert [row["ns"] for row in found["calls"]] == sorted((row["ns"] for row in rows.values()), reverse=True)  # type: ignore[attr-defined]


def test_the_printed_summary(hung: Path) -> None:
    """The columns of `strace -c` and one for calls without return; then each thread's time."""
    done = _run("summary", str(hung))
    assert done.returncode == 0
    head, table, threads = done.stdout.split("\n\n")
    assert re.match(r"hung\.qtrace: \d+ calls, 2 processes, 3 threads, .*, deadlock", head)
    lines = table.splitlines()
    assert lines[0].split() == ["%", "time", "seconds", "usecs/call", "calls", "errors", "unfinished", "call"]
    rows = [line.split() for line in lines[2:-2]]
    assert sum(float(row[0]) for row in rows) == pytest.approx(100, abs=0.1)
    assert lines[-1].split()[-1] == "total"
    assert int(lines[-1].split()[2]) == sum(int(row[3]) for row in rows)
    assert [row[-2:] for row in rows if row[-1] == "wait4"] == [["1", "wait4"]]
    assert threads.splitlines()[0] == "time by thread"
    assert len(threads.splitlines()) == 4
    assert re.search(r"join_before_get.py: child-exit \d+\.\d %", threads)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_counts_are_those_of_strace(tmp_path: Path) -> None:
    """The same program, counted by `strace -c` from a log and by qtrace from its import."""
    log = tmp_path / "a.log"
    subprocess.run(["strace", "-f", "-T", "-o", log, "ls", "/"], check=True, capture_output=True)
    lines = log.read_text().splitlines()
    path, _ = pipeline.import_strace(log)
    rows = {row["name"]: row["calls"] for row in pipeline.summary_object(path)["calls"]}  # type: ignore[attr-defined]
    for name in ("read", "close", "execve"):
        assert rows[name] == sum(f" {name}(" in line for line in lines)


def test_threads_share_their_lives_out(finished: Path) -> None:
    """What is no wait is running; the parts make the whole."""
    for row in pipeline.summary_object(finished)["threads"]:  # type: ignore[attr-defined]
        assert sum(row["ns"].values()) == row["life_ns"]
        assert min(row["ns"].values()) > 0


def _two_threads(path: Path, reads: list[tuple[int, int]], pid: int = 100) -> Path:
    """A process whose two threads read a pipe at (begin, length) milliseconds, the second sleeps at last."""
    other = pid + 1
    calls = [packed(0, 10, pid, "pipe2", (0, 0), head=(3 | 4 << 32).to_bytes(8, "little"))]
    calls += [packed(begin * MS, length * MS, pid, "read", (3, 0, 4), 4) for begin, length in reads]
    calls += [packed(900 * MS, 90 * MS, other, "nanosleep", (1, 0), 0, pid=pid)]
    rows = {
        "processes": [(pid, 0, 1, "app.py", "[]", "", 0, 0, 1000 * MS, 0, None)],
        "threads": [(pid, pid, None, None, None, 0, 1000 * MS), (other, pid, None, pid, None, MS, 1000 * MS)],
        "lifecycle": [event(MS, pid, pid, "clone", other, flags=0x10F00, thread=True)],
    }
    return write_recording(path, calls, rows, root_pid=pid, end_ns=1000 * MS)


def test_the_first_wait_that_differs(tmp_path: Path) -> None:
    """Threads and pipes have other numbers; a wait that is missing, and one that took twice as long, differ."""
    first = _two_threads(tmp_path / "a.qtrace", [(100, 50), (200, 50), (300, 50)])
    second = _two_threads(tmp_path / "b.qtrace", [(100, 60), (200, 130)], pid=4000)
    found = pipeline.diff(first, second)
    assert found.least_ns == 20 * MS
    assert [
        (one.thread, one.first and one.first.since_ns, one.second and one.second.dur_ns) for one in found.waits
    ] == [
        ("app.py", 200 * MS, 130 * MS),
        ("app.py", 300 * MS, None),
    ]
    assert [(one.thread, one.kind, one.change_ns) for one in found.shifts] == [
        ("app.py", "pipe-empty", 40 * MS),
        ("app.py", "running", -40 * MS),
    ]


def test_a_recording_does_not_differ_from_itself(finished: Path) -> None:
    """Exit status 0, and one sentence."""
    done = _run("diff", str(finished), str(finished))
    assert done.returncode == 0
    assert "No wait of" in done.stdout


def test_a_good_and_a_hung_run(hung: Path, tmp_path: Path) -> None:
    """The wait that never ended is found, and where the time went."""
    good = tmp_path / "good.qtrace"
    pipeline.record([str(EXAMPLE), "1000"], good, python=sys.executable)
    done = _run("diff", str(good), str(hung))
    assert done.returncode == 1
    assert re.search(r"the first wait that differs, in .*join_before_get.py", done.stdout)
    assert "not ended" in done.stdout
    plain = json.loads(_run("diff", "--json", str(good), str(hung)).stdout)
    assert plain["schema"] == "qtrace.diff/1"
    assert {"child-exit", "pipe-full"} <= {wait["second"]["kind"] for wait in plain["waits"]}
    assert all(shift["second_ns"] > shift["first_ns"] for shift in plain["shifts"][:3])
    assert "pipe-full" in {shift["kind"] for shift in plain["shifts"][:3]}
