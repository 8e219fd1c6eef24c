"""Throughput of qtrace.queue beside multiprocessing.Queue.

    python benchmarks/bench_queue.py [--rounds 5] [--scale 1.0] [--write reports/queue_bench.md]

For each shape (producers:consumers) and message size, the three queues run in turn, round
after round, so that what else the machine does hits all alike. A figure is the median of
the rounds; a ratio is the median of the rounds' own ratios to the standard queue.

Time runs from the moment all processes are let go until the last consumer has its sentinel.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pathlib
import platform
import statistics
import sys
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

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


def table(rounds: int, scale: float) -> list[str]:
    """Return the lines of the result table."""
    lines = [
        "| producers:consumers | message | standard, msg/s | default, msg/s | ratio | robust, msg/s | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for size_bytes, count in SIZES:
        for shape in SHAPES:
            rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for _ in range(rounds):
                for kind in KINDS:
                    rates[kind].append(throughput(kind, shape, size_bytes, int(count * scale)))
            ratio = {
                kind: statistics.median(rate / base for rate, base in zip(rates[kind], rates["standard"], strict=True))
                for kind in KINDS
            }
            middle = {kind: statistics.median(rates[kind]) for kind in KINDS}
            size = f"{size_bytes} B" if size_bytes < 1024 else f"{size_bytes // 1024} KiB"
            lines.append(
                f"| {shape[0]}:{shape[1]} | {size} | {middle['standard']:,.0f} | {middle['default']:,.0f} "
                f"| {ratio['default']:.2f} | {middle['robust']:,.0f} | {ratio['robust']:.2f} |"
            )
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Measure, print, and write the table if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of messages")
    parser.add_argument("--write", type=pathlib.Path, help="file for the table")
    options = parser.parse_args()
    lines = table(options.rounds, options.scale)
    if options.write:
        where = f"CPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} CPUs"
        text = f"# Throughput of the queues\n\n{where}; {options.rounds} rounds, in turn; medians.\n\n"
        options.write.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
