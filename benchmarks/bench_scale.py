"""How reading, tables, verdict and report grow with the number of calls: time, memory, bytes.

Loading pandas and NumPy takes as long for one call as for ten million: the time a call is without it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.big_recording import make_big

SIZES = (100_000, 1_000_000, 10_000_000)


def _tables(path: Path) -> dict[str, object]:
    import qtrace

    trace = qtrace.load(path)
    counts = {"calls": len(trace.calls), "waits": len(trace.waits), "wakes": len(trace.wakes)}
    counts |= {"messages": len(trace.messages), "fill": len(trace.fill), "objects": len(trace.objects)}
    assert trace.verdict is not None
    return {**counts, "verdict": str(trace.verdict.kind), "slow": trace.bottleneck}


def _explain(path: Path) -> dict[str, object]:
    import qtrace

    return {"verdict": str(qtrace.explain(path).kind)}


def _report(path: Path) -> dict[str, object]:
    import qtrace

    page = qtrace.report(path, path.with_suffix(".html"))
    return {"page_bytes": page.stat().st_size}


TASKS: dict[str, Callable[[Path], dict[str, object]]] = {
    "tables": _tables, "explain": _explain, "hang": _explain, "report": _report,
}  # fmt: skip


def measured(task: str, path: Path) -> dict[str, object]:
    """Run a task in a process of its own; seconds, peak memory in bytes, and what it found."""
    command = [sys.executable, "-m", "benchmarks.bench_scale", "--task", task, str(path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return found


def _run_task(task: str, path: Path) -> None:
    begun = time.monotonic()
    if task == "tables":
        import pandas  # noqa: F401

        import qtrace.analyse.trace  # noqa: F401
    loaded = time.monotonic()
    found = TASKS[task](path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": time.monotonic() - begun, "loading": loaded - begun, "peak_bytes": peak, **found}))


def run(sizes: tuple[int, ...] = SIZES) -> list[dict[str, object]]:
    """Return one row a size."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path = make_big(size, Path(folder) / f"calls_{size}.qtrace")
            row: dict[str, object] = {"size": size, "file_bytes": path.stat().st_size}
            for task in TASKS:
                if task == "hang":
                    hung = make_big(size, Path(folder) / f"hang_{size}.qtrace", hang=True)
                    row[task] = measured(task, hung)
                    hung.unlink()
                else:
                    row[task] = measured(task, path)
            rows.append(row)
            path.unlink()
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| calls | bytes a call on disk | tables and verdict | of it loading | peak memory | µs a call "
        "| explain | explain a hang | its peak memory | report | page |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        tables, explain, hang, report = row["tables"], row["explain"], row["hang"], row["report"]
        assert isinstance(tables, dict)
        assert isinstance(explain, dict)
        assert isinstance(hang, dict)
        assert isinstance(report, dict)
        assert hang["verdict"] == "deadlock", "the program hangs"
        spent = tables["seconds"] - tables["loading"]
        calls = tables["calls"]
        lines.append(
            f"| {calls:,} | {int(str(row['file_bytes'])) / calls:.1f} | {tables['seconds']:.2f} s "
            f"| {tables['loading']:.2f} s | {tables['peak_bytes'] / 1e9:.2f} GB | {spent / calls * 1e6:.2f} "
            f"| {explain['seconds']:.2f} s | {hang['seconds']:.2f} s | {hang['peak_bytes'] / 1e9:.2f} GB "
            f"| {report['seconds']:.1f} s | {report['page_bytes'] / 1e6:.1f} MB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        _run_task(sys.argv[2], Path(sys.argv[3]))
    else:
        print(table(run(tuple(int(float(size)) for size in sys.argv[1:]) or SIZES)))
