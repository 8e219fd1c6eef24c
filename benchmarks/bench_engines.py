"""What recording costs: small messages through one queue, untraced, by both engines, and under strace.

    python -m benchmarks.bench_engines [--rounds 5] [--messages 20000]

Prints a Markdown table. The tracers take turns, so that a machine that is busy for a while is so for all
of them; each figure is the median over the rounds, with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qtrace.capture.perf_events import why_not
from qtrace.model.syscalls import TABLE

PROGRAM = """
import sys, time
from multiprocessing import Process, Queue

def produce(queue, count):
    for number in range(count):
        queue.put(number)

if __name__ == "__main__":
    count, pairs = int(sys.argv[1]), int(sys.argv[2])
    queue = Queue()
    children = [Process(target=produce, args=(queue, count // pairs)) for _ in range(pairs)]
    begun = time.perf_counter()
    for child in children:
        child.start()
    if pairs == 1:
        for _ in range(count):
            queue.get()
    else:
        def take(queue, count):
            for _ in range(count):
                queue.get()
        takers = [Process(target=take, args=(queue, count // pairs)) for _ in range(pairs)]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join()
    spent = time.perf_counter() - begun
    for child in children:
        child.join()
    print(f"{count / spent:.0f}")
"""
"""Prints messages per second; starting and ending the tracer is not in it."""

_PRIVATELY = ["unshare", "-m", "sh", "-c", 'mount -t tracefs nodev /sys/kernel/tracing && exec "$@"', "sh"]
_GOALS = {"perf": (("untraced", 0.7), ("strace", 8.0)), "ptrace": (("strace", 3.0),)}


@dataclass(frozen=True)
class Tracer:
    """A way to run the program."""

    name: str
    label: str
    before: tuple[str, ...]
    """What stands before the program's own command line."""


def perf_prefix() -> list[str] | None:
    """Return what makes the perf engine usable for one command; None if nothing does."""
    if not why_not():
        return []
    ask = "from qtrace.capture.perf_events import why_not; import sys; sys.exit(bool(why_not()))"
    asked = subprocess.run([*_PRIVATELY, sys.executable, "-c", ask], capture_output=True, check=False)
    return _PRIVATELY if asked.returncode == 0 else None


def tracers(folder: Path) -> list[Tracer]:
    """Return the ways that this machine permits."""
    record = [sys.executable, "-m", "qtrace", "record", "-q", "-f", "-o", str(folder / "a.qtrace"), "--engine"]
    calls = ",".join(f"?{row.name}" for row in TABLE if row.recorded)
    found = [Tracer("untraced", "no tracer", ())]
    before = perf_prefix()
    if before is not None:
        found.append(Tracer("perf", "qtrace, engine perf", (*before, *record, "perf", "--")))
    found.append(Tracer("ptrace", "qtrace, engine ptrace", (*record, "ptrace", "--")))
    words = ["strace", "-f", "--seccomp-bpf", "-q", "-o", str(folder / "log"), "-e", f"trace={calls}", "--"]
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return found
    return [*found, Tracer("strace", "strace -f --seccomp-bpf, same calls", tuple(words))]


def measured(ways: Sequence[Tracer], command: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Return messages per second of each round, by tracer; the tracers take turns."""
    found: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            ran = subprocess.run([*way.before, *command], capture_output=True, text=True, check=True, timeout=600)
            found[way.name].append(float(ran.stdout))
    return found


def table(ways: Sequence[Tracer], rates: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| tracer | messages/s | lowest to highest | of untraced | times strace | goal |",
        "|---|---|---|---|---|---|",
    ]
    middle = {name: statistics.median(some) for name, some in rates.items()}
    for way in ways:
        some = rates[way.name]
        ratio = {
            name: f"{middle[way.name] / middle[name]:.2f}" if name in middle else "-" for name in ("untraced", "strace")
        }
        goals = []
        for name, least in _GOALS.get(way.name, ()):
            if name in middle:
                reached = middle[way.name] / middle[name] >= least
                goals.append(f"{least:g} of {name}: {'reached' if reached else 'not reached'}")
        lines.append(
            f"| {way.label} | {middle[way.name]:,.0f} | {min(some):,.0f} to {max(some):,.0f} "
            f"| {ratio['untraced']} | {ratio['strace']} | {'; '.join(goals)} |"
        )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qtrace-bench-") as name:
        folder = Path(name)
        script = folder / "hot_queue.py"
        script.write_text(PROGRAM)
        ways = tracers(folder)
        print(f"Python {platform.python_version()}, Linux {platform.release()}; {options.rounds} rounds in turn.")
        for pairs in (1, 4):
            command = [sys.executable, str(script), str(options.messages), str(pairs)]
            print(f"\n{options.messages:,} small messages, {pairs} to {pairs}\n")
            print("\n".join(table(ways, measured(ways, command, options.rounds))), flush=True)


if __name__ == "__main__":
    main()
