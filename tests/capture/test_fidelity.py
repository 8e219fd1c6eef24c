"""strace is the measure: the recorded calls, their results and their order are those that it sees."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.capture.behaviours import every_behaviour, first_recording, needs_compiler, program, recorded
from tests.capture.call_sequences import (
    UNKNOWN,
    Sequences,
    differences,
    of_recording,
    run_strace,
    without,
)

DECIDED_BY_TIMING = frozenset({"futex"})
"""Calls that a program makes only if a lock happens to be taken, or a thread not to have ended yet."""

TIMED = dict.fromkeys(("tgkill", "threads-stop", "parent-death-signal"), frozenset({"clock_nanosleep"}))
"""Behaviours that sleep until another thread has come so far: nobody knows how often."""

CUT_SHORT = frozenset({
    "stop-and-continue", "stop-from-outside", "exec-by-thread", "exec-with-threads", "exec-by-thread-with-others",
    "killed-in-exec", "own-interrupts", "exec-beside-ending-threads", "exec-beside-futexes",
})  # fmt: skip
"""Behaviours that kill a thread, or end it by an exec, at a moment that timing decides."""

UNTRACED_BY_STRACE = frozenset({"clone-untraced"})
"""strace lets CLONE_UNTRACED children go; a recording has them."""

NOT_UNDER_STRACE = frozenset({"group-signals", "profiled", "new-pid-namespace", "pid-used-again"})
"""strace dies of the signals that a program sends to its whole group; how often a profiler's signal comes is decided
by timing; ids of another namespace name nobody in the log."""

OWN_FILTERS = frozenset({"supervised", "filtered-call", "strict-filter"})
"""What the program's own filter answers never comes to the tracer's: these are recorded without it."""

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace to compare with")
PROGRAMS = Path(__file__).resolve().parent / "programs"


@needs_compiler
@pytest.mark.parametrize(("family", "name"), [pair for pair in every_behaviour() if pair[1] not in NOT_UNDER_STRACE])
def test_the_calls_of_a_behaviour_are_those_of_strace(family: str, name: str, tmp_path: Path) -> None:
    """Per thread the same calls, on the same descriptors, with the same results, in the same order."""
    left_out = DECIDED_BY_TIMING | TIMED.get(name, frozenset())
    expected = without(run_strace([str(program(family)), name], tmp_path / "log"), left_out)
    if name in OWN_FILTERS:
        recording = tmp_path / "run.qtrace"
        recorded([str(program(family)), name], recording, "--no-seccomp")
    else:
        _, recording = first_recording(family, name)
    actual = without(of_recording(recording), left_out)
    assert expected["0"], "strace saw nothing"
    if name in UNTRACED_BY_STRACE:
        assert len(actual) > len(expected)
        actual = {thread: calls for thread, calls in actual.items() if thread in expected}
    if name in CUT_SHORT:
        expected, actual = _up_to_the_cut(expected, actual)
    assert differences(expected, actual) == []


def _up_to_the_cut(one: Sequences, other: Sequences) -> tuple[Sequences, Sequences]:
    """Leave out what the killed threads had not finished, and of each thread but the first what only one run has."""
    one, other = _finished(one), _finished(other)
    for thread in (one.keys() | other.keys()) - {"0"}:
        shorter = min(len(one.get(thread, ())), len(other.get(thread, ())))
        for run in (one, other):
            run[thread] = run.get(thread, [])[:shorter]
    return one, other


def _finished(run: Sequences) -> Sequences:
    # A leader that an exec ends may not have come back from making the very thread that execs, and strace prints
    # the end of that thread's exec as the thread's or as the leader's.
    return {
        thread: [call for call in calls if call.result != UNKNOWN and call.name not in ("clone3", "execve")]
        for thread, calls in run.items()
    }


@pytest.mark.parametrize(
    ("script", "output", "left_out"),
    [
        ("queue_of_two.py", "34900 0\n", DECIDED_BY_TIMING | {"exit"}),
        ("futex_words.py", "EAGAIN ETIMEDOUT 0\nEAGAIN ETIMEDOUT 0\n", frozenset()),
    ],
)
def test_the_calls_of_a_python_program_are_those_of_strace(
    script: str, output: str, left_out: frozenset[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue between two processes with its feeder thread; futex calls that no other thread decides.

    Whether the feeder gets to its own exit before its process ends is decided by timing.
    """
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    argv = [os.path.realpath(sys.executable), "-S", str(PROGRAMS / script)]
    assert recorded(argv, tmp_path / "run.qtrace").output == output
    expected = run_strace(argv, tmp_path / "log")
    assert differences(without(expected, left_out), without(of_recording(tmp_path / "run.qtrace"), left_out)) == []
