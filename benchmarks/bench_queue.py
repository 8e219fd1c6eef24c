"""Throughput of qtrace.queue beside multiprocessing.Queue.

    python -m benchmarks.bench_queue [--rounds 7] [--scale 1.0] [--shapes 1:1,4:4] [--write reports/bench_queue.md]

For each shape (producers:consumers) and message size, the three queues run in turn, round
after round, so that what else the machine does hits all alike. A figure is the median of
the rounds; a ratio is the median of the rounds' own ratios to the standard queue, with the
lowest and the highest of them behind it.

Time runs from the moment all processes are let go until the last consumer has its sentinel.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pathlib
import platform
import statistics
import time
from typing import Any

import qtrace.queue as ours

SHAPES = ((1, 1), (1, 4), (4, 1), (4, 4))
# Body size in bytes, messages of a round.
SIZES = ((10, 40_000), (1024, 40_000), (102_400, 2_000))
KINDS = ("standard", "default", "robust")

context = multiprocessing.get_context("fork")


def make_queue(kind: str) -> Any:
    """Return an unbounded queue of `kind`."""
    if kind == "standard":
        return context.Queue()
    return ours.Queue(ctx=context, robust=kind == "robust")


def produce(queue: Any, start: Any, body: bytes, count: int) -> None:
    start.wait()
    for _ in range(count):
        queue.put(body)


def consume(queue: Any, start: Any, finished: Any) -> None:
    start.wait()
    while queue.get() is not None:
        pass
    finished.put(time.monotonic())


def throughput(kind: str, shape: tuple[int, int], size_bytes: int, count: int) -> float:
    """Return messages per second of one round."""
    producers, consumers = shape
    queue = make_queue(kind)
    finished = context.SimpleQueue()
    start = context.Barrier(producers + consumers + 1)
    share = count // producers
    writers = [context.Process(target=produce, args=(queue, start, bytes(size_bytes), share)) for _ in range(producers)]
    readers = [context.Process(target=consume, args=(queue, start, finished)) for _ in range(consumers)]
    for process in writers + readers:
        process.start()
    start.wait()
    started = time.monotonic()
    for process in writers:
        process.join()
    for _ in readers:
        queue.put(None)
    ended = max(finished.get() for _ in readers)
    for process in readers:
        process.join()
    queue.close()
    queue.join_thread()
    return share * producers / (ended - started)


def size_text(size_bytes: int) -> str:
    """Return "10 B" or "100 KiB"."""
    return f"{size_bytes} B" if size_bytes < 1024 else f"{size_bytes // 1024} KiB"


def row(shape: tuple[int, int], size_bytes: int, count: int, rounds: int) -> str:
    """Measure one shape and size, and return its line of the table."""
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(rounds):
        # Each kind is first, second and third equally often.
        order = KINDS[turn % len(KINDS) :] + KINDS[: turn % len(KINDS)]
        for kind in order:
            rates[kind].append(throughput(kind, shape, size_bytes, count))
    cells = [f"{shape[0]}:{shape[1]}", size_text(size_bytes), f"{statistics.median(rates['standard']):,.0f}"]
    for kind in KINDS[1:]:
        ratios = [rate / base for rate, base in zip(rates[kind], rates["standard"], strict=True)]
        cells.append(f"{statistics.median(rates[kind]):,.0f}")
        cells.append(f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})")
    return f"| {' | '.join(cells)} |"


def table(shapes: list[tuple[int, int]], rounds: int, scale: float) -> list[str]:
    """Print the result table line by line, and return the lines."""
    lines = [
        "| producers:consumers | message | standard, msg/s | default, msg/s | ratio | robust, msg/s | ratio |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    for size_bytes, count in SIZES:
        for shape in shapes:
            lines.append(row(shape, size_bytes, int(count * scale), rounds))
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Measure, print, and write the table if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of messages")
    parser.add_argument("--shapes", default=",".join(f"{producers}:{consumers}" for producers, consumers in SHAPES))
    parser.add_argument("--write", type=pathlib.Path, help="file for the table")
    options = parser.parse_args()
    shapes = [(int(shape.split(":")[0]), int(shape.split(":")[1])) for shape in options.shapes.split(",")]
    lines = table(shapes, options.rounds, options.scale)
    if options.write:
        where = f"CPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} CPUs"
        how = f"Made by `python -m benchmarks.bench_queue --rounds {options.rounds} --scale {options.scale:g}`"
        text = (
            f"# Throughput of qtrace.queue beside multiprocessing.Queue\n\n{how} on {where}. "
            "The three kinds run in turn; figures are medians, ratios are to the standard queue "
            "of the same round, with the lowest and the highest in brackets.\n\n"
        )
        options.write.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
