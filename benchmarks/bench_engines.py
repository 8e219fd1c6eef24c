"""What recording costs: small messages through one queue, untraced, by both engines, and by their peers.

    python -m benchmarks.bench_engines [--rounds 5] [--messages 20000]

Prints Markdown tables: as a user starts each, and with everything on one CPU. The tracers take turns, so
that a machine that is busy for a while is so for all of them; each figure is the median over the rounds,
with the lowest and the highest. The empty loop in C (`empty_loop.c`) is no tracer that anybody could use:
it shows what ptrace itself allows with two stops a call.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import qtrace
from qtrace.capture.machine import architecture
from qtrace.capture.perf_events import why_not
from qtrace.capture.seccomp import recorded_numbers
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

LIMITS = """
What limits the perf engine: the row of the rings alone is what no engine that reads them can save. Programs of BPF
fill them, two records a call. A write to a pipe or a read of it takes 0.20 us untraced, 0.21 under a seccomp filter,
0.26 where the programs let nothing through (the kernel makes every call by its slow way then), and 0.41 recorded: two
readings of the clock, two reservations, and the registers. perf's own rings left 0.45 to 0.58 of untraced at 4 to 4
(0.3 us a record, and a task's events change with every change of task). What the engine adds in a run of 0.13 s: 10 ms
of the loop for 8 processes, and 5 at their ends, for their descriptors. Copies of records are made at the program's
cost, above all where memory is fresh: 0.1 us a call. So while a program begins its records stay in the rings until one
is half full: that, no NumPy, and one stop less a process brought 4 to 4 from 0.63 to 0.68 to 0.76 to 0.90. Before the
first 0.1 s are over, tracer and program are not put on one CPU for the stops of a start: 8 processes would begin
there. Making calls of the records, 2 us each on one CPU, waits until the program is less busy, or 128 MB wait. Tried:
events on CPUs instead of tasks (no cost of changes, but they see all other programs, with their losses); ftrace's
rings, with its own filter by process (0.72 to 0.78, but they stay when the recorder is killed); huge pages for the
copies (no gain). Not tried: one record a call, made at its exit, with the entry kept by thread.

What limits the ptrace engine: each call stops twice, and each stop costs a change to the tracer and back, waitpid,
GET_SYSCALL_INFO and the resumption, which the empty loop in C has too. As the user starts both, on two CPUs, a tracer
gains over strace by sharing one CPU with the program while stops are frequent. The library in C handles a hot stop in
what the empty loop takes, and records it: in turns with the loop in Python, 1.35 of the messages at 1 to 1, and 1.43
at 4 to 4. There eight processes share the CPU and wait for each other's locks, since each stop lets another one run
while the one before may hold a lock: 58 % of the stops were those of futex. To let one go on until it waits makes 1.3
of the messages, with 193,000 stops instead of 268,000, fewer than there are untraced; not to ask waitpid for a stop of
which GET_SYSCALL_INFO tells, another 1.04. So 4 to 4 came from 1.4 of strace to 2.6 to 2.9, and beyond the empty loop
on one CPU (2.2). What is left is 8.5 us a stop, 5 of them changes of task: 3 times strace would be 7.5 here. A yield
of the CPU tells that the other one waits; on a busy machine it costs a slice, so then there are no turns. Tried: the
scheduler's batch policy (no gain); other priorities (less); turns of 20 and of 400 stops (0.9, 1.01 of those of 100).
Without the library, on one CPU, the loop in C has 4.0 us a stop over the untraced program, strace 5.7, and the loop in
Python 8.7. Tried there: ptrace without argument types and errno (0.9 us less), /proc/TID/mem kept open (0.8 less), one
view for the words of a call and packing after the resumption (0.3 less), all in use; PTRACE_PEEKUSER and PEEKDATA (no
gain); user notifications in place of the entry stop (they see no result). A result needs the exit stop and a wait that
lasts needs the entry stop, so none of the two can be left out. How much all this gains depends on the machine: 4 to 4
was 2.6 to 3.0 of strace with one kernel (6.18.44-fc-v595), and is 4.7 to 5.1 with its successor.
"""
"""Printed below the tables: measured on 2 CPUs."""

_PRIVATELY = ["unshare", "-m", "sh", "-c", 'mount -t tracefs nodev /sys/kernel/tracing && exec "$@"', "sh"]
_GOALS = {"perf": (("untraced", 0.7), ("strace", 8.0)), "ptrace": (("strace", 3.0),)}
_GOALS_ON_ONE_CPU = {"ptrace": (("strace", 0.9),)}
_FEW = 200
"""Messages where a tracer takes tens of milliseconds for each."""


@dataclass(frozen=True)
class Tracer:
    """A way to run the program."""

    name: str
    label: str
    before: tuple[str, ...]
    """What stands before the program's own command line."""
    messages: int | None = None
    """Fewer messages than the others', where it is too slow for so many."""


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
    # As an installed package is: an editable one is compiled anew each time where nothing may be written.
    compileall.compile_dir(Path(qtrace.__file__).parent, quiet=1)
    calls = ",".join(f"?{row.name}" for row in TABLE if row.recorded)
    found = [Tracer("untraced", "no tracer", ())]
    before = perf_prefix()
    if before is not None:
        found.append(Tracer("perf", "qtrace, engine perf", (*before, *record, "perf", "--")))
    if before is not None:
        alone = [sys.executable, "-m", "benchmarks.rings_only", "--"]
        found.append(Tracer("rings", "its rings, emptied and thrown away", (*before, *alone)))
    found.append(Tracer("ptrace", "qtrace, engine ptrace", (*record, "ptrace", "--")))
    words = ["strace", "-f", "--seccomp-bpf", "-q", "-o", str(folder / "log"), "-e", f"trace={calls}", "--"]
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return found
    return [*found, Tracer("strace", "strace -f --seccomp-bpf, same calls", tuple(words))]


def peers(folder: Path) -> list[Tracer]:
    """Return the other tracers that are installed here."""
    found = []
    if shutil.which("gcc"):
        numbers = ",".join(map(str, recorded_numbers(architecture())))
        loop = folder / "empty_loop"
        subprocess.run(["gcc", "-O2", "-o", str(loop), str(Path(__file__).with_name("empty_loop.c"))], check=True)
        found.append(Tracer("empty", "empty ptrace loop in C, same calls", (str(loop), numbers)))
    before = perf_prefix()
    if before is not None and shutil.which("perf"):
        trace = ["perf", "trace", "-o", str(folder / "perf.txt"), "-e", "read,write,futex,wait4", "--"]
        record = ["perf", "record", "-q", "-o", str(folder / "perf.data")]
        record += ["-e", "raw_syscalls:sys_enter", "-e", "raw_syscalls:sys_exit", "--"]
        found.append(Tracer("perf-trace", "perf trace, 4 calls", (*before, *trace)))
        found.append(Tracer("perf-record", "perf record, every call", (*before, *record)))
    script = Path(sys.executable).with_name("strace.py")
    if script.exists():
        words = [sys.executable, "-W", "ignore", str(script), "-f", "-o", str(folder / "python-ptrace.txt")]
        found.append(Tracer("python-ptrace", f"python-ptrace's strace.py, {_FEW} messages", tuple(words), _FEW))
    return found


def measured(
    ways: Sequence[Tracer], script: Path, messages: int, pairs: int, rounds: int, before: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Return messages per second of each round, by tracer; the tracers take turns. Empty for one that failed."""
    found: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            count = min(messages, way.messages or messages)
            command = [*before, *way.before, sys.executable, str(script), str(count), str(pairs)]
            try:
                ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
                found[way.name].append(float(ran.stdout.split()[-1]))
            except (subprocess.SubprocessError, ValueError, IndexError) as error:
                print(f"{way.label}: {error}", file=sys.stderr)
    return found


def table(
    ways: Sequence[Tracer],
    rates: Mapping[str, Sequence[float]],
    wanted: Mapping[str, Sequence[tuple[str, float]]] = _GOALS,
) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| tracer | messages/s | lowest to highest | of untraced | times strace | goal |",
        "|---|---|---|---|---|---|",
    ]
    middle = {name: statistics.median(some) for name, some in rates.items() if some}
    for way in ways:
        some = rates[way.name]
        if not some:
            lines.append(f"| {way.label} | did not finish | | | | |")
            continue
        ratio = {
            name: f"{middle[way.name] / middle[name]:.2f}" if name in middle else "-" for name in ("untraced", "strace")
        }
        goals = []
        for name, least in wanted.get(way.name, ()):
            if name in middle:
                reached = middle[way.name] / middle[name] >= least
                goals.append(f"{least:g} of {name}: {'reached' if reached else 'not reached'}")
        lines.append(
            f"| {way.label} | {middle[way.name]:,.0f} | {min(some):,.0f} to {max(some):,.0f} "
            f"| {ratio['untraced']} | {ratio['strace']} | {'; '.join(goals)} |"
        )
    return lines


def limit_words(rates: Mapping[str, Sequence[float]], times_strace: float) -> str:
    """Return how far a goal of the ptrace engine lies from what ptrace allows; empty where that is unknown."""
    if not rates.get("empty") or not rates.get("strace") or not rates.get("ptrace"):
        return ""
    empty, strace, ours = (statistics.median(rates[name]) for name in ("empty", "strace", "ptrace"))
    return (
        f"\nThe goal of {times_strace:g} times strace is {times_strace * strace:,.0f} messages/s here. The empty loop "
        f"in C, which asks the kernel what each stop is and keeps nothing, makes {empty:,.0f}: {empty / strace:.2f} "
        f"of strace. The ptrace engine makes {ours / empty:.2f} of the empty loop."
    )


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
        ways = [*tracers(folder), *peers(folder)]
        print(f"Python {platform.python_version()}, Linux {platform.release()}; {options.rounds} rounds in turn.")
        for pairs in (1, 4):
            print(f"\n{options.messages:,} small messages, {pairs} to {pairs}\n")
            rates = measured(ways, script, options.messages, pairs, options.rounds)
            print("\n".join(table(ways, rates)), limit_words(rates, 3), sep="\n", flush=True)
        one = ["taskset", "-c", str(max(os.sched_getaffinity(0)))]
        print(f"\n{options.messages:,} small messages, 1 to 1, tracer and program on one CPU\n")
        rates = measured(ways, script, options.messages, 1, options.rounds, one)
        print("\n".join(table(ways, rates, _GOALS_ON_ONE_CPU)), limit_words(rates, 0.9), sep="\n")
        print(LIMITS)


if __name__ == "__main__":
    main()
