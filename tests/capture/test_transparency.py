"""A program under the tracer prints, and ends, as it does without one, and leaves nobody behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import in_session, running

PROGRAMS = Path(__file__).resolve().parent.parent / "programs" / "behaviour"
FAMILIES = ("tree", "signals", "execs", "calls")
RACY = {
    "clone-parent", "double-fork", "exec-by-thread", "exec-by-thread-with-others", "exec-with-threads",
    "exit-group-by-thread", "killed-in-exec", "killed-while-stopped", "main-thread-ends-first", "sigtstp",
    "stop-and-continue", "stop-from-outside", "threads-stop", "vfork-exec", "sleep-across-a-stop",
}  # fmt: skip
"""Behaviours whose order of events is decided by timing: each is run in a loop."""
LOOP = 20

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler (gcc)")


@cache
def program(family: str) -> Path:
    """Return the compiled program of a family of behaviours."""
    folder = Path(f"/tmp/qtrace-behaviour-{Path('/proc/self').resolve().name}")
    folder.mkdir(exist_ok=True)
    target = folder / family
    subprocess.run(["gcc", "-O1", "-pthread", "-o", target, PROGRAMS / f"{family}.c"], check=True)
    return target


def names(family: str) -> list[str]:
    """Return the behaviours of a family, read from its table."""
    table = (PROGRAMS / f"{family}.c").read_text().rpartition("struct behaviour table[]")[2]
    return [part.split('"')[1] for part in table.split("{") if part.startswith('"')]


@dataclass(frozen=True)
class Seen:
    """What a run printed, how it ended, and who was left of its session."""

    output: str
    status: int
    leftovers: int


def run(argv: list[str]) -> Seen:
    """Run to the end and return what was seen."""
    with running(argv, stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=60)
        leftovers = len(in_session(process.pid))
    return Seen(output, process.returncode, leftovers)


def recorded(argv: list[str], tmp_path: Path) -> Seen:
    """Run under `qtrace record` and return what was seen."""
    recording = tmp_path / "behaviour.qtrace"
    return run([sys.executable, "-m", "qtrace", "record", "-q", "-f", "-o", str(recording), "--", *argv])


@pytest.mark.parametrize(("family", "name"), [(family, name) for family in FAMILIES for name in names(family)])
def test_a_behaviour_is_the_same_under_record(family: str, name: str, tmp_path: Path) -> None:
    """Output, exit status or signal, and the number of processes left are those of a bare run."""
    argv = [str(program(family)), name]
    bare = run(argv)
    assert bare.status != 99, "the program does not know the behaviour"
    for _ in range(LOOP if name in RACY else 1):
        assert recorded(argv, tmp_path) == bare
