"""What recording costs programs of other kinds: computing, forking, starting, fighting for the interpreter.

    python -m benchmarks.bench_costs [--quick]

Each program runs bare, under both engines and under strace with the same calls, in turns; figures are
medians of the seconds from start to exit, with the ratio to bare.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench_engines import tracers

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
PROGRAMS = (
    ("two processes that compute", COMPUTE, "4", "2"),
    ("300 short-lived processes", FORKS, "300", "100"),
    ("4 threads that fight for the interpreter", FIGHT, "200000", "50000"),
    ("nothing (start and end)", "", "", ""),
)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    rounds = 3 if chosen.quick else chosen.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = tracers(folder)
        print("| program | " + " | ".join(way.name for way in ways) + " |")
        print("|---|" + "---|" * len(ways))
        for title, source, full, quick in PROGRAMS:
            script = folder / "program.py"
            script.write_text(source)
            command = [sys.executable, str(script), quick if chosen.quick else full]
            seconds: dict[str, list[float]] = {way.name: [] for way in ways}
            for _ in range(rounds):
                for way in ways:
                    begun = time.monotonic()
                    subprocess.run([*way.before, *command], capture_output=True, check=True)
                    seconds[way.name].append(time.monotonic() - begun)
            bare = statistics.median(next(iter(seconds.values())))
            cells = []
            for taken in seconds.values():
                middle = statistics.median(taken)
                cells.append(f"{middle:.2f} s ({middle / bare:.2f}; {min(taken):.2f} to {max(taken):.2f})")
            print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
