"""How reading, tables, verdict and report grow with the number of calls: time, memory, bytes."""

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


TASKS: dict[str, Callable[[Path], dict[str, object]]] = {"tables": _tables, "explain": _explain, "report": _report}


def measured(task: str, path: Path) -> dict[str, object]:
    """Run a task in a process of its own; seconds, peak memory in bytes, and what it found."""
    command = [sys.executable, "-m", "benchmarks.bench_scale", "--task", task, str(path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return found


def _run_task(task: str, path: Path) -> None:
    begun = time.monotonic()
    found = TASKS[task](path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": time.monotonic() - begun, "peak_bytes": peak, **found}))


def run(sizes: tuple[int, ...] = SIZES) -> list[dict[str, object]]:
    """Return one row a size."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path = make_big(size, Path(folder) / f"calls_{size}.qtrace")
            row: dict[str, object] = {"size": size, "file_bytes": path.stat().st_size}
            for task in TASKS:
                row[task] = measured(task, path)
            rows.append(row)
            path.unlink()
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| calls | bytes a call on disk | tables and verdict | peak memory | µs a call | explain | report | page |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        tables, explain, report = row["tables"], row["explain"], row["report"]
        assert isinstance(tables, dict)
        assert isinstance(explain, dict)
        assert isinstance(report, dict)
        calls = tables["calls"]
        lines.append(
            f"| {calls:,} | {int(str(row['file_bytes'])) / calls:.1f} | {tables['seconds']:.2f} s "
            f"| {tables['peak_bytes'] / 1e9:.2f} GB | {tables['seconds'] / calls * 1e6:.2f} "
            f"| {explain['seconds']:.2f} s | {report['seconds']:.1f} s | {report['page_bytes'] / 1e6:.1f} MB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        _run_task(sys.argv[2], Path(sys.argv[3]))
    else:
        print(table(run(tuple(int(float(size)) for size in sys.argv[1:]) or SIZES)))
