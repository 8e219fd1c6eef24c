"""Whatever processes do with descriptors, the replay knows which object each one was."""

from __future__ import annotations

import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrace.decode.descriptors import Descriptors, replay
from tests.decode.kernel import Kernel

META = {"architecture": "x86_64"}
CASES = int(os.environ.get("QTRACE_FUZZ", "100"))


def _replayed(kernel: Kernel) -> Descriptors:
    return replay(kernel.array(), META, kernel.lifecycle, kernel.sightings)


def _object(found: Descriptors, pid: int, fd: int, time_ns: int) -> str | None:
    number = int(found.numbers_at(np.array([pid]), np.array([fd]), np.array([time_ns]))[0])
    return None if number < 0 else found.objects[number]


def test_a_sighting_names_a_pipe_in_every_process_and_for_all_its_past() -> None:
    """One look at one descriptor names the pipe for its maker, its child and all copies."""
    kernel = Kernel()
    read, write = kernel.pipe(100)
    kernel.tick()
    made_ns = kernel.now - 10
    kernel.fork(100, share=False)
    kernel.tick()
    kernel.close(100, write)
    kernel.tick()
    kernel.sight(101, write)
    found = _replayed(kernel)
    assert _object(found, 100, read, made_ns) == "pipe:[2]"
    assert _object(found, 100, write, made_ns) == "pipe:[2]"
    assert _object(found, 100, write, kernel.now) is None
    assert _object(found, 101, write, kernel.now) == "pipe:[2]"
    assert [(h.pid, h.fd, h.access) for h in found.held_at(kernel.now)] == [
        (100, read, "r"),
        (101, read, "r"),
        (101, write, "w"),
    ]
    node = found.nodes[0]
    assert (node.creator_pid, node.created_ns) == (100, 1_000)


def test_a_number_given_anew_before_its_close_returned_is_the_new_object() -> None:
    """close(3) begins, another thread's pipe gets 3, close returns: 3 is the pipe."""
    kernel = Kernel()
    kernel.pipe(100)
    kernel.tick()
    kernel.close(100, 0, spent=500)
    kernel.tick()
    kernel.pipe(100)
    kernel.tick()
    kernel.sight(100, 0)
    found = _replayed(kernel)
    assert _object(found, 100, 0, kernel.now) == "pipe:[3]"


def test_an_object_that_nobody_looked_at_still_has_an_identity() -> None:
    """Both ends of an unseen pipe are one object, and two pipes are two."""
    kernel = Kernel()
    first, second = kernel.pipe(100), kernel.pipe(100)
    kernel.tick()
    found = _replayed(kernel)
    names = [_object(found, 100, fd, kernel.now) for fd in (*first, *second)]
    assert names[0] == names[1] != names[2] == names[3]
    assert str(names[0]).startswith("pipe:100:")


def test_a_contradicting_sighting_is_right_from_then_on() -> None:
    """What was not recorded is learned late, and not forgotten for what was before."""
    kernel = Kernel()
    kernel.pipe(100)
    kernel.tick()
    before = kernel.now
    kernel.sight(100, 0)
    kernel.tick()
    kernel.sightings.append((kernel.now, 100, 0, "socket:[9]", "socket:[9]", "rw", None))
    found = _replayed(kernel)
    assert _object(found, 100, 0, before) == "pipe:[2]"
    assert _object(found, 100, 0, kernel.now) == "socket:[9]"
    assert _object(found, 100, 1, kernel.now) == "pipe:[2]"


def test_the_other_end_of_a_socketpair_is_known() -> None:
    """Two sockets, each the other's peer."""
    kernel = Kernel()
    one, two = kernel.socketpair(100)
    kernel.tick()
    kernel.sight(100, one)
    kernel.sight(100, two)
    found = _replayed(kernel)
    first = found.objects.index(str(_object(found, 100, one, kernel.now)))
    second = found.objects.index(str(_object(found, 100, two, kernel.now)))
    assert (int(found.peers[first]), int(found.peers[second])) == (second, first)


def test_a_thread_shares_its_processes_descriptors_and_outlives_the_main_thread() -> None:
    """The table goes when the last thread does."""
    kernel = Kernel()
    kernel.pipe(100)
    kernel.lifecycle.append((kernel.now, 100, 100, "clone", 555, '{"thread": true}'))
    kernel.tick()
    kernel.lifecycle.append((kernel.now, 100, 100, "exit", 0, "{}"))
    kernel.tick()
    alive = kernel.now
    kernel.lifecycle.append((kernel.now + 1, 100, 555, "exit", 0, "{}"))
    found = _replayed(kernel)
    assert len(found.held_at(alive)) == 2
    assert found.held_at(alive + 2) == []


def test_capacity_changes_with_time() -> None:
    """F_SETPIPE_SZ from its return on; a pipe begins with 64 KiB."""
    kernel = Kernel()
    read, _ = kernel.pipe(100)
    kernel.tick()
    before = kernel.now
    kernel.tick()
    kernel.record(100, "fcntl", (read, 1031, 1 << 20), 1 << 20)
    kernel.tick()
    found = _replayed(kernel)
    assert [found.capacity_at(0, at) for at in (before, kernel.now)] == [65536, 1 << 20]


_OPERATIONS = st.sampled_from(
    [
        "pipe",
        "socketpair",
        "open",
        "dup",
        "dup3",
        "dupfd",
        "close",
        "close_range",
        "fork",
        "share",
        "exec",
        "exit",
        "look",
    ]
)


@settings(max_examples=CASES, deadline=None)
@given(
    steps=st.lists(
        st.tuples(_OPERATIONS, st.integers(0, 50), st.integers(0, 9), st.integers(0, 9), st.integers(1, 400)),
        min_size=1,
        max_size=60,
    )
)
def test_fuzz_the_replay_agrees_with_a_kernel(steps: list[tuple[str, int, int, int, int]]) -> None:
    """Random interleavings of all calls: every descriptor is the right object at every moment."""
    kernel = Kernel()
    for name, which, one, two, spent in steps:
        pid = sorted(kernel.tables)[which % len(kernel.tables)]
        _run(kernel, name, pid, one, two, spent)
        kernel.tick()
    found = _replayed(kernel)
    asked = [(pid, fd, at) for at, tables in kernel.truths for pid in tables for fd in range(14)]
    pids, fds, times = (np.array(column, dtype=np.int64) for column in zip(*asked, strict=True))
    numbers = found.numbers_at(pids, fds, times)
    truth = dict(kernel.truths)
    names: dict[str, str] = {}
    for (pid, fd, at), number in zip(asked, numbers.tolist(), strict=True):
        expected = truth[at][pid].get(fd)
        if expected is None:
            # Nothing tells when a file was opened by a call that is not traced, only when it was seen.
            assert number == -1 or found.objects[number].startswith("file:"), (pid, fd, at)
        else:
            assert number >= 0, (pid, fd, at, expected)
            # An object nobody looked at has a name of the replay's own, always the same one.
            known = names.setdefault(expected.object_id, found.objects[number])
            assert found.objects[number] == known
            assert known == expected.object_id or expected.object_id not in kernel.seen
    at, tables = kernel.truths[-1]
    held = {(h.pid, h.fd): h.access for h in found.held_at(at)}
    assert held == {(pid, fd): d.access for pid, table in tables.items() for fd, d in table.items()}


def _run(kernel: Kernel, name: str, pid: int, one: int, two: int, spent: int) -> None:
    if name == "pipe":
        kernel.pipe(pid, cloexec=bool(two % 2), spent=spent)
    elif name == "socketpair":
        kernel.socketpair(pid, spent)
    elif name == "open":
        kernel.unrecorded_open(pid)
    elif name in ("dup", "dupfd"):
        kernel.dup(pid, one, None, name == "dupfd", spent)
    elif name == "dup3":
        kernel.dup(pid, one, two, bool(spent % 2), spent)
    elif name == "close":
        kernel.close(pid, one, spent)
    elif name == "close_range":
        kernel.close_range(pid, min(one, two), max(one, two))
    elif name in ("fork", "share"):
        kernel.fork(pid, share=name == "share")
    elif name == "exec":
        kernel.exec(pid)
    elif name == "exit":
        kernel.exit(pid)
    else:
        kernel.sight(pid, one)
