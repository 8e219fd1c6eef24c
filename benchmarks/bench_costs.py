"""What recording costs programs of other kinds: computing, forking, starting, fighting for the interpreter.

    python -m benchmarks.bench_costs [--quick]

Each program runs bare, under both engines and under strace with the same calls, in turns; figures are
medians of the seconds from start to exit, with the ratio to bare. What starting and ending the tracer
takes is in them, and a row of its own; the last column is the work without it, as a ratio to strace's.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench_engines import Tracer, tracers

COMPUTE = """
import sys, time
from multiprocessing import Process

def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(2000))

if __name__ == "__main__":
    children = [Process(target=work, args=(float(sys.argv[1]),)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
"""
FORKS = """
import os, sys

for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
"""
FIGHT = """
import sys, threading

def work(count):
    for number in range(count):
        sum(range(200))

threads = [threading.Thread(target=work, args=(int(sys.argv[1]),)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
NOTHING = "nothing (start and end)"
PROGRAMS = (
    ("two processes that compute", COMPUTE, "10", "2"),
    ("300 short-lived processes", FORKS, "300", "100"),
    ("4 threads that fight for the interpreter", FIGHT, "200000", "50000"),
    (NOTHING, "", "", ""),
)

LIMITS = """
What limits 300 short-lived processes: the work itself takes two thirds of what it takes under strace (seven stops a
process with ptrace, five with perf, 0.1 ms of the tracer); what is left is start and end, 0.05 s with ptrace and 0.07
with perf, where strace needs 0.01. The interpreter is 11 ms of it, modules 23, BPF's rings 8. Where strace is slow the
two are quicker, where it is quick (0.17 s) they are 0.02 to 0.04 s behind. Start and end took 0.17 s once: a plain
command line is understood without Typer (25 ms), the classes that every recording makes need no `dataclasses` (15),
python-ptrace is loaded when registers are read (12), nor are typing, pathlib, shutil (10) and zipfile (7) loaded,
nobody looks through all of /proc for tracees where there are none (15 to 20), garbage is not looked for (2), and the
interpreter is not taken apart (2). With perf it was 0.49 s, and 0.14 lately: nothing waits until the kernel has taken
a tracepoint out of use (30 ms each), whether perf is there is asked without opening an event (20), and of a program
that is over at once calls are made without NumPy (50). A process's descriptors and mappings are looked at before its
end only if it made a call that comes through the rings (0.2 ms): a byte that BPF sets says so. What makes a process
comes through them, too.

What limits two processes that compute is start and end. The looks of the hang watch took 0.15 s of CPU time for the
first, which loads the analysis, and 0.07 for each later one, two in ten seconds: 1.03 to 1.05 of untraced. Of a
program of which all threads compute, but for the first one's join, there is none now before twelve seconds are over,
and few after that; what waits for anything else is looked at as before. That all threads stand still for
`--hang-after` brings a look at once. NumPy, which perf needs, was 0.15 s of CPU time to load, and is 0.1 without the
threads of its linear algebra. Beside a computing program there are left twenty ticks a second of the watch, 0.1 ms
each, and with perf as many empty looks into the rings, as long.
"""
"""Printed below the table."""


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    rounds = 3 if chosen.quick else chosen.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = [way for way in tracers(folder) if way.name != "rings"]
        print("| program | " + " | ".join(way.name for way in ways) + " | without start and end, of strace |")
        print("|---|" + "---|" * (len(ways) + 1))
        rows = {}
        for title, source, full, quick in PROGRAMS:
            rows[title] = _row(folder, ways, source, quick if chosen.quick else full, rounds)
        for title, row in rows.items():
            print(f"| {title} | " + " | ".join(row.cells) + f" | {_beside_strace(row, rows[NOTHING])} |")
        python = statistics.median(_timed([sys.executable, "-c", "pass"]) for _ in range(rounds))
        print(
            f"\nOf start and end, {python:.2f} s is an interpreter that does nothing: what is written in Python cannot "
            "begin before, and a program that is over in less is not recorded as quickly as by strace."
        )
        print(LIMITS)


@dataclass(frozen=True)
class _Row:
    seconds: dict[str, float]
    cells: list[str]


def _row(folder: Path, ways: Sequence[Tracer], source: str, size: str, rounds: int) -> _Row:
    script = folder / "program.py"
    script.write_text(source)
    taken: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            taken[way.name].append(_timed([*way.before, sys.executable, str(script), size]))
    middle = {name: statistics.median(some) for name, some in taken.items()}
    bare = middle[ways[0].name]
    cells = [
        f"{middle[name]:.2f} s ({middle[name] / bare:.2f}; {min(some):.2f} to {max(some):.2f})"
        for name, some in taken.items()
    ]
    return _Row(middle, cells)


def _timed(command: Sequence[str]) -> float:
    begun = time.monotonic()
    subprocess.run(command, capture_output=True, check=True)
    return time.monotonic() - begun


def _beside_strace(row: _Row, nothing: _Row) -> str:
    """Return what the work itself takes under each engine, as a ratio to what it takes under strace."""
    if "strace" not in row.seconds or row is nothing:
        return ""
    work = {name: seconds - nothing.seconds[name] for name, seconds in row.seconds.items()}
    return ", ".join(f"{name} {work[name] / work['strace']:.2f}" for name in work if name in ("perf", "ptrace"))


if __name__ == "__main__":
    main()
