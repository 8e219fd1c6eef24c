"""Tracer and tracees share a CPU while stops are frequent; a program finds the affinity that it has by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtrace.capture.placement import TOGETHER_STOPS_PER_SECOND, Placement
from tests.capture.test_ending import words
from tests.support.processes import wait_until

USUAL = os.sched_getaffinity(0)
pytestmark = pytest.mark.skipif(len(USUAL) < 2, reason="needs two CPUs")

ASKS = "asks_for_affinity.py"
COMPUTES = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"


@pytest.fixture
def placement() -> Iterator[Placement]:
    """A placement whose tracer is this thread."""
    yield Placement("auto", threading.get_native_id(), lambda tid: None)
    os.sched_setaffinity(0, USUAL)


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that waits."""
    yield from _run(["sleep", "60"])


@pytest.fixture
def pair() -> Iterator[list[tuple[int, int]]]:
    """Two processes that compute."""
    children = [subprocess.Popen([sys.executable, "-c", COMPUTES]) for _ in range(2)]
    yield [(child.pid, child.pid) for child in children]
    for child in children:
        child.kill()
        child.wait()


def _run(command: list[str]) -> Iterator[int]:
    child = subprocess.Popen(command)
    yield child.pid
    child.kill()
    child.wait()


class Stops:
    """A count of stops that goes on by as many a second as is asked for."""

    def __init__(self) -> None:
        self.count = 0
        self._last = time.monotonic()

    def at(self, rate: float) -> int:
        """Return the count after a moment at this rate."""
        time.sleep(0.05)
        now = time.monotonic()
        self.count += int(rate * (now - self._last))
        self._last = now
        return self.count


FREQUENT, RARE = 10 * TOGETHER_STOPS_PER_SECOND, 0


def part(placement: Placement, stops: Stops, threads: list[tuple[int, int]]) -> None:
    """Let stops be rare until all are apart."""
    for _ in range(10):
        if not placement.together:
            return
        placement.tick(stops.at(RARE), threads)
    pytest.fail("rare stops keep nobody together")


def test_who_has_parted_shares_a_cpu_again_with_the_next_frequent_stops(placement: Placement, sleeper: int) -> None:
    """Also if that comes before everybody made meanwhile was looked for: all move, and all get their own back."""
    threads, stops = [(sleeper, sleeper)], Stops()
    placement.begin(sleeper)
    assert os.sched_getaffinity(sleeper) == os.sched_getaffinity(0)
    assert len(os.sched_getaffinity(sleeper)) == 1
    for _ in range(3):
        part(placement, stops, threads)
        assert (os.sched_getaffinity(sleeper), os.sched_getaffinity(0)) == (USUAL, USUAL)
        placement.tick(stops.at(FREQUENT), threads)
        assert placement.together
        assert os.sched_getaffinity(sleeper) == os.sched_getaffinity(0)
        assert len(os.sched_getaffinity(sleeper)) == 1
    part(placement, stops, threads)
    assert os.sched_getaffinity(sleeper) == USUAL


def test_a_start_with_many_stops_brings_nobody_together_but_short_lives_do(placement: Placement, sleeper: int) -> None:
    """Where few calls stop a program begins apart: many stops at first are its start, ends of processes go on."""
    threads, stops = [(sleeper, sleeper)], Stops()
    placement.begin(sleeper, stops_often=False)
    assert not placement.together
    placement.tick(stops.at(FREQUENT), threads, ended=2)
    assert not placement.together
    placement.tick(stops.count + FREQUENT, threads, ended=20)
    assert placement.together


def test_of_threads_that_are_new_nothing_is_known(placement: Placement, pair: list[tuple[int, int]]) -> None:
    """They may all compute: what they do is looked at before they are put on one CPU."""
    stops = Stops()
    placement.tick(stops.at(FREQUENT), pair[:1])
    placement.tick(stops.at(FREQUENT), [*pair, (os.getpid(), threading.get_native_id())])
    assert not placement.together


def test_one_that_is_busy_alone_stays_beside_the_tracer(
    placement: Placement, pair: list[tuple[int, int]], sleeper: int
) -> None:
    """It competes with nobody: a program's start is such a one, and makes many calls."""
    threads, stops = [pair[0], (sleeper, sleeper)], Stops()
    placement.begin(pair[0][0])
    for _ in range(6):
        placement.tick(stops.at(FREQUENT), threads)
        assert placement.together


def test_two_that_compute_are_let_apart_however_many_stops_there_are(
    placement: Placement, pair: list[tuple[int, int]]
) -> None:
    """On one CPU they would take twice the time."""
    stops = Stops()
    placement.begin(pair[0][0])
    placement.tick(stops.at(FREQUENT), pair)
    deadline = time.monotonic() + 30  # on a busy machine others may take that CPU from them for a while
    while placement.together and time.monotonic() < deadline:
        placement.tick(stops.at(FREQUENT), pair)
    assert not placement.together
    for pid, _ in pair:
        assert os.sched_getaffinity(pid) == USUAL


@pytest.mark.parametrize("mode", ["auto", "together", "free"])
def test_a_program_finds_its_own_affinity_and_keeps_what_it_sets(mode: str, tmp_path: Path) -> None:
    """Asked for at the start, after it was moved, by children, and after it was set: as without a tracer."""
    script = Path(__file__).parent / "programs" / ASKS
    bare = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    command = words(tmp_path / "a.qtrace", ASKS, options=("--engine", "ptrace", "--placement", mode))
    traced = subprocess.run(command, capture_output=True, text=True, check=True)
    seen = [line for line in traced.stdout.splitlines() if line.startswith("affinity")]
    assert len(seen) >= 6
    assert seen == bare.stdout.splitlines()


def test_a_tree_that_is_let_go_has_its_own_affinity(sleeper: int, tmp_path: Path) -> None:
    """It shared the tracer's CPU for as long as it was traced."""
    command = [sys.executable, "-m", "qtrace", "record", "--engine", "ptrace", "--placement", "together"]
    command += ["-o", str(tmp_path / "a.qtrace"), "-p", str(sleeper), "--duration", "60"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as recorder:
        wait_until(lambda: len(os.sched_getaffinity(sleeper)) == 1)
        recorder.send_signal(signal.SIGINT)
        assert recorder.wait(60) == 0
    assert os.sched_getaffinity(sleeper) == USUAL
