"""The C programs of `tests/programs/behaviour`: one behaviour a name, run bare or under the tracer."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.capture.loaded import LoadedQtrace
from tests.support.processes import in_session, running

PROGRAMS = Path(__file__).resolve().parent.parent / "programs" / "behaviour"
FAMILIES = ("tree", "signals", "execs", "calls", "corners")

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler (gcc)")


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="qtrace-behaviour-")
    os.chmod(folder, 0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def program(family: str, *options: str) -> Path:
    """Return the compiled program of a family of behaviours.

    Args:
        family: Which.
        options: More for the compiler.
    """
    target = _folder() / "".join([family, *options])
    subprocess.run(["gcc", "-O1", "-pthread", *options, "-o", target, PROGRAMS / f"{family}.c"], check=True)
    return target


@cache
def cannot_compile(option: str) -> str:
    """Return why the compiler cannot make programs with an option; empty if it can."""
    command = ["gcc", option, "-x", "c", "-o", os.devnull, "-"]
    done = subprocess.run(command, input="int main(void) { return 0; }", capture_output=True, text=True)
    return f"gcc cannot make programs with {option} (gcc-multilib)" if done.returncode else ""


def names(family: str) -> list[str]:
    """Return the behaviours of a family, read from its table."""
    table = (PROGRAMS / f"{family}.c").read_text().rpartition("struct behaviour table[]")[2]
    return [part.split('"')[1] for part in table.split("{") if part.startswith('"')]


def every_behaviour() -> list[tuple[str, str]]:
    """Return the family and the name of each behaviour."""
    return [(family, name) for family in FAMILIES for name in names(family)]


@dataclass(frozen=True)
class Seen:
    """What a run printed, how it ended, and who was left of its session."""

    output: str
    status: int
    leftovers: int


def run(argv: Sequence[str]) -> Seen:
    """Run to the end and return what was seen.

    Raises:
        AssertionError: The program does not know the behaviour that it was asked for.
    """
    with running(argv, stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=60)
        leftovers = len(in_session(process.pid))
    assert process.returncode != 99, f"{argv} names no behaviour"
    return Seen(output, process.returncode, leftovers)


def record_words(recording: Path, argv: Sequence[str], *options: str) -> list[str]:
    """Return the command line that records a program quietly."""
    return [sys.executable, "-m", "qtrace", "record", "-q", "-f", "-o", str(recording), *options, "--", *argv]


def recorded(argv: Sequence[str], recording: Path, *options: str) -> Seen:
    """Run under `qtrace record` and return what was seen."""
    return run(record_words(recording, argv, *options))


@cache
def first_recording(family: str, name: str) -> tuple[Seen, Path]:
    """Record a behaviour, once for all tests: what was seen, and the recording."""
    recording = program(family).with_name(f"{family}-{name}.qtrace")
    return recorded([str(program(family)), name], recording), recording


def recorded_repeatedly(argv: Sequence[str], times: int, folder: Path) -> list[Seen]:
    """Record a program many times, two at once, and return what was seen of each."""
    seen = []
    with LoadedQtrace() as one, LoadedQtrace() as other:
        for _ in range(times // 2):
            began = [(qtrace, _begin(qtrace, argv, folder / f"{number}")) for number, qtrace in enumerate((one, other))]
            seen += [_end(qtrace, pid, folder / f"{number}") for number, (qtrace, pid) in enumerate(began)]
    return seen


def _begin(qtrace: LoadedQtrace, argv: Sequence[str], stem: Path) -> int:
    options = ["record", "-q", "-f", "-o", str(stem.with_suffix(".qtrace"))]
    return qtrace.start([*options, "--", *argv], stem.with_suffix(".out"))


def _end(qtrace: LoadedQtrace, pid: int, stem: Path) -> Seen:
    status = qtrace.wait()
    left = in_session(pid)
    for member in left:
        os.kill(member, signal.SIGKILL)
    return Seen(stem.with_suffix(".out").read_text(), status, len(left))
