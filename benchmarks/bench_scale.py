"""How reading, tables, verdict and report grow with the number of calls: time, memory, bytes.

Loading pandas, NumPy and the modules of qtrace takes as long for one call as for ten million, and so does making ten
tables. So the tables and the verdict of a recording of a few hundred calls come first, twice in the same process: that
is the fixed part, and the second of them is taken off. What is left is given as CPU time a call: the same work on a
busy machine. Every run is in a process of its own, as a user has it, whose memory the kernel has to clear first; the
median of several counts.
"""

from __future__ import annotations

import compileall
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import qtrace
from benchmarks.big_recording import hot_recording, make_big
from qtrace.cli.memory import for_large_tables

SIZES = (100_000, 1_000_000, 10_000_000)


def _tables(path: Path) -> dict[str, object]:
    trace = qtrace.load(path)
    counts = {"calls": len(trace.calls), "waits": len(trace.waits), "wakes": len(trace.wakes)}
    counts |= {"messages": len(trace.messages), "fill": len(trace.fill), "objects": len(trace.objects)}
    assert trace.verdict is not None
    return {**counts, "verdict": str(trace.verdict.kind), "slow": trace.bottleneck}


def _explain(path: Path) -> dict[str, object]:
    return {"verdict": str(qtrace.explain(path).kind)}


def _report(path: Path) -> dict[str, object]:
    page = qtrace.report(path, path.with_suffix(".html"))
    return {"page_bytes": page.stat().st_size}


TASKS: dict[str, Callable[[Path], dict[str, object]]] = {
    "tables": _tables, "explain": _explain, "hang": _explain, "perf-hang": _explain, "report": _report,
}  # fmt: skip
_ON_TABLES = ("tables", "report")
_HANGS = {"hang": "ptrace", "perf-hang": "perf"}
"""Tasks on a recording of a hang, and the engine that makes it."""
_RUNS = {"tables": 5}
"""What is not done once."""
_FEW_MESSAGES = 20
_FLAT = 1.2

LIMITS = """
What a call costs of the program's own CPU time was 0.43 to 0.49 µs in one run, 0.26 to 0.43 in the next, 0.8 at all
sizes on a slower day, and 1.2 before: what descriptors were and what bytes moved is looked up by 65,536 calls at
a time, whose columns stay in the cache, records are put in order as bytes instead of field by field, and names are
taken from a column of names. The kernel's part was 0.4 to 0.9 µs: every column above 32 MB was cleared anew, in huge
pages. With freed memory kept for the next column, and with ordinary pages (`qtrace/cli/memory.py`, as the command line
does), it is 0.1 to 0.2 where the machine has the memory. A virtual machine that gives freed memory back to its host has
to fetch each page again: 4 µs a page were seen, 0.3 µs a call among ten million (3.5 GB), and 0.8 the first time; one
million fit into what it still has. Ten million calls took 22 s in all before. Of the program's own part, a column of a
hundred thousand calls stays in the cache, and one of ten million does not: 0.4 and 0.65 us in one run. What moved
through pipes, messages and waits would have to be made by parts of the file to be flat, as descriptors are already.
"""
"""Printed below the table: measured on 2 CPUs."""


def measured(task: str, path: Path, small: Path) -> dict[str, object]:
    """Run a task in a process of its own; seconds, peak memory in bytes, and what it found."""
    command = [sys.executable, "-m", "benchmarks.bench_scale", "--task", task, str(path), str(small)]
    settings = {"NUMPY_MADVISE_HUGEPAGE": "0"} if task in _ON_TABLES else {}  # NumPy is loaded before a task begins
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **settings})
    found: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return found


def _run_task(task: str, path: Path, small: Path) -> None:
    if task in _ON_TABLES:
        for_large_tables()  # as the command line does
    begun = time.monotonic()
    if task == "tables":
        _tables(small)
    fixed = time.monotonic() - begun
    few = _spent(task, small) if task == "tables" else _NOTHING
    all_calls = _spent(task, path)
    own, kernel = all_calls.own - few.own, all_calls.kernel - few.kernel
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    times = {"seconds": fixed + all_calls.seconds, "fixed": fixed + few.seconds, "kernel": kernel, "cpu": own + kernel}
    print(json.dumps({**times, "peak_bytes": peak, **all_calls.found}))


class _Spent(NamedTuple):
    seconds: float
    own: float
    kernel: float
    found: dict[str, object]


_NOTHING = _Spent(0, 0, 0, {})


def _spent(task: str, path: Path) -> _Spent:
    used, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    found = TASKS[task](path)
    seconds, now = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
    return _Spent(seconds, now.ru_utime - used.ru_utime, now.ru_stime - used.ru_stime, found)


def run(sizes: tuple[int, ...] = SIZES) -> list[dict[str, object]]:
    """Return one row a size."""
    rows = []
    compileall.compile_dir(Path(qtrace.__file__).parent, quiet=1)  # as an installed package is
    with tempfile.TemporaryDirectory() as folder:
        small, *_ = hot_recording(Path(folder), messages=_FEW_MESSAGES)
        for size in sizes:
            path = make_big(size, Path(folder) / f"calls_{size}.qtrace")
            row: dict[str, object] = {"size": size, "file_bytes": path.stat().st_size}
            for task in TASKS:
                if task in _HANGS:
                    hung = make_big(size, Path(folder) / f"hang_{size}.qtrace", hang=True, engine=_HANGS[task])
                    row[task] = measured(task, hung, small)
                    hung.unlink()
                else:
                    row[task] = _median([measured(task, path, small) for _ in range(_RUNS.get(task, 1))])
            rows.append(row)
            path.unlink()
    return rows


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run that takes the middle place by CPU time."""
    return sorted(runs, key=lambda run: float(run.get("cpu", 0)))[len(runs) // 2]


def table(rows: list[dict[str, object]]) -> str:
    """Return the rows as Markdown."""
    each = []
    titles = [
        "calls", "bytes a call on disk", "tables and verdict", "of it fixed", "peak memory",
        "µs of CPU a call beyond that", "of it the kernel's", "explain", "explain a hang", "its peak memory",
        "the same, engine perf", "its peak memory, perf", "report", "page",
    ]  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        tables, explain, hang, perf_hang, report = (row[task] for task in TASKS)
        assert isinstance(tables, dict)
        assert isinstance(explain, dict)
        assert isinstance(hang, dict)
        assert isinstance(perf_hang, dict)
        assert isinstance(report, dict)
        assert hang["verdict"] == perf_hang["verdict"] == "deadlock", "the program hangs"
        calls = tables["calls"]
        each.append(tables["cpu"] / calls)
        lines.append(
            f"| {calls:,} | {int(str(row['file_bytes'])) / calls:.1f} | {tables['seconds']:.2f} s "
            f"| {tables['fixed']:.2f} s | {tables['peak_bytes'] / 1e9:.2f} GB | {each[-1] * 1e6:.2f} "
            f"| {tables['kernel'] / calls * 1e6:.2f} "
            f"| {explain['seconds']:.2f} s | {hang['seconds']:.2f} s | {hang['peak_bytes'] / 1e9:.2f} GB "
            f"| {perf_hang['seconds']:.2f} s | {perf_hang['peak_bytes'] / 1e9:.2f} GB "
            f"| {report['seconds']:.1f} s | {report['page_bytes'] / 1e6:.1f} MB |"
        )
    reached = max(each) <= _FLAT * min(each)
    lines += ["", f"From the fewest calls to the most, a call takes {min(each) * 1e6:.2f} to {max(each) * 1e6:.2f} µs: "
              f"flat within 20 %: {'reached' if reached else 'not reached'}.", LIMITS]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        _run_task(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        print(table(run(tuple(int(float(size)) for size in sys.argv[1:]) or SIZES)))
