"""A thread that the tracer holds for a moment runs; one in a group stop is stopped, traced or not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtrace.capture import ptrace_calls
from qtrace.capture.snapshot import take_snapshot_of
from qtrace.model.ids import Tid
from qtrace.model.snapshot import Thread
from tests.capture.test_ending import end_of, words

PTRACE_INTERRUPT = 0x4207


@pytest.fixture
def held() -> Iterator[int]:
    """A process that sleeps and that this one has stopped by ptrace."""
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        assert ptrace_calls.request(ptrace_calls.SEIZE, sleeper.pid) == 0
        assert ptrace_calls.request(PTRACE_INTERRUPT, sleeper.pid) == 0
        os.waitpid(sleeper.pid, 0)
        yield sleeper.pid
    finally:
        sleeper.kill()
        sleeper.wait()


def thread_of(pid: int, stopped: tuple[int, ...] = ()) -> Thread:
    """Return the thread as a snapshot by its tracer shows it."""
    return take_snapshot_of(pid, lambda: [pid], python=False, apart_ns=0, stopped=stopped).threads[Tid(pid)]


def test_a_thread_that_its_tracer_holds_is_about_to_run(held: int) -> None:
    """/proc says t for it in whatever call it was: that is our stop, not the program's wait."""
    assert thread_of(held).state == "R"


def test_a_thread_in_a_group_stop_is_stopped_though_it_is_traced(held: int) -> None:
    """A tracee that listens in a group stop is t too: only its tracer can tell."""
    assert thread_of(held, stopped=(held,)).state == "T"


def test_a_recorded_child_that_has_stopped_itself_is_said_to_be_stopped(tmp_path: Path) -> None:
    """The verdict at the end of the time names the stop and not the call that led to it."""
    recording = tmp_path / "stops.qtrace"
    command = words(recording, "child_stops_itself.py", options=("--timeout", "3"))
    subprocess.run(command, check=False, capture_output=True)
    reason, verdict = end_of(recording)
    assert (reason, verdict["verdict"]) == ("timeout", "external")
    chain = verdict["chain"]
    assert isinstance(chain, list)
    assert [wait["kind"] for wait in chain] == ["child-exit", "stopped"]
