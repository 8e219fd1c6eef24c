"""Take a running tree without stopping it: events of perf on every thread, until no new one appears.

What such an event's thread makes later inherits it. A thread that appears while the events are being
opened may have inherited them or not, and nobody tells: those get a second set of rings, and what the
first set has of them is dropped from it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from qtrace.capture import perf_events, procfs, seccomp
from qtrace.capture.members import Member, tree_of
from qtrace.capture.perf_events import EventKind, Ring, Rings
from qtrace.errors import EngineError, TargetError
from qtrace.model.syscalls import Architecture, number_of

_ROUNDS = 20
_FIRST = ("futex", "read", "write", "poll", "wait4")
_FILES = 1 << 20
"""How many descriptors are asked for: three for each thread and CPU."""
_TOLD_BYTES = 256 << 10
_AT_ONCE = 1
"""A new program is looked at as soon as possible: it may end within a millisecond."""
LACKS = (
    "no memory of calls that end within some milliseconds (lengths of messages are inferred, of pipes in use at the "
    "attach not at all), no descriptors that are closed at once, no makers of semaphores, no stops"
)


@dataclass(slots=True)
class JoinedTree:
    """The events of a running tree, not yet enabled."""

    root: int
    rings: Rings
    told: tuple[Ring, ...]
    """On each CPU, what the kernel tells of tasks and signals."""
    members: dict[int, Member] = field(default_factory=dict)
    threads: dict[int, int] = field(default_factory=dict)
    """Thread to process."""
    late: set[int] = field(default_factory=set)
    late_rings: Rings | None = None

    def enable(self) -> None:
        """Begin to record."""
        for rings in (self.rings, *self._late()):
            # Exits first: one without its entry is known to be from before, an entry without its exit would not be.
            for ring in (*self.told, *rings.exits, *rings.enters):
                ring.enable()

    def disable(self) -> None:
        """Record no more: the tree is let go."""
        for rings in (self.rings, *self._late()):
            for ring in (*rings, *self.told):
                ring.disable()

    def close(self) -> None:
        """Close what the collector does not."""
        for ring in (*self.told, *(ring for rings in self._late() for ring in rings)):
            ring.close()

    def _late(self) -> tuple[Rings, ...]:
        return (self.late_rings,) if self.late_rings is not None else ()


@dataclass(frozen=True, slots=True)
class _Kinds:
    enter: EventKind
    leave: EventKind
    told: tuple[EventKind, ...]


def join(pid: int, machine: Architecture, ring_bytes: int | None) -> JoinedTree:
    """Open events on every thread of a process and its descendants. Nobody is stopped.

    Raises:
        TargetError: There is no such process, or it is qtrace itself or one that it runs under.
        EngineError: The kernel refused.
    """
    numbers = set(seccomp.recorded_numbers(machine)) - {number_of("openat", machine)}
    first = [number for name in _FIRST if (number := number_of(name, machine)) is not None]
    accepted = perf_events.filter_text(numbers, first)
    _want_files()
    try:
        kinds = _Kinds(
            perf_events.tracepoint("raw_syscalls/sys_enter", accepted),
            perf_events.tracepoint("raw_syscalls/sys_exit", accepted),
            (
                perf_events.tasks(),
                *(perf_events.tracepoint(f"signal/signal_{name}") for name in ("generate", "deliver")),
            ),
        )
        return _joined(pid, kinds, accepted, ring_bytes)
    except OSError as error:
        raise EngineError(
            f"the events of perf could not be opened: {error.strerror}",
            "Smaller buffers may be permitted (--perf-buffer 1M), or more open files (ulimit -n);\n"
            "or record with --engine ptrace.",
        ) from None


def _joined(pid: int, kinds: _Kinds, accepted: bytes, ring_bytes: int | None) -> JoinedTree:
    joined: JoinedTree | None = None
    with contextlib.ExitStack() as stack:
        for turn in range(_ROUNDS):
            tree = tree_of(pid, "down")
            if os.getpid() in tree.members or pid == os.getpid():
                raise TargetError(
                    f"process {pid} is qtrace itself, or waits for it", "Name a process of another program."
                )
            fresh = 0
            for member, tid in _threads(tree.members.values()):
                if joined is not None and tid in joined.threads:
                    continue
                with _gone_is_gone():
                    if joined is None:
                        joined = _first_of(pid, tid, kinds, accepted, ring_bytes, stack)
                    elif turn:
                        _add_late(joined, tid, kinds, accepted, ring_bytes)
                    else:
                        _add(joined.rings, tid, kinds)
                        _add_told(joined, tid, kinds)
                    joined.members.setdefault(member.pid, member)
                    joined.threads[tid] = member.pid
                    fresh += 1
            if not fresh:
                break
        if joined is None:
            raise TargetError(f"process {pid} has ended", "List the running ones with: ps -ef | grep python")
        stack.pop_all()
    return joined


def _threads(members: Iterable[Member]) -> Iterator[tuple[Member, int]]:
    for member in members:
        for tid in procfs.thread_ids(member.pid):
            # A main thread that has ended is a zombie while others of its process live on.
            if tid != member.pid or member.stat.state not in "ZX":
                yield member, tid


@contextlib.contextmanager
def _gone_is_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise


def _first_of(
    root: int, tid: int, kinds: _Kinds, accepted: bytes, ring_bytes: int | None, stack: contextlib.ExitStack
) -> JoinedTree:
    rings = perf_events.open_rings(tid, accepted, ring_bytes, on_exec=False)
    stack.callback(rings.close)
    told = []
    for ring in rings.enters:
        told.append(Ring(kinds.told[0], tid, ring.cpu, _TOLD_BYTES, False, _AT_ONCE))
        stack.callback(told[-1].close)
        for kind in kinds.told[1:]:
            told[-1].add(kind, tid)
    return JoinedTree(root, rings, tuple(told))


def _add(rings: Rings, tid: int, kinds: _Kinds) -> None:
    for ring in rings.enters:
        ring.add(kinds.enter, tid)
    for ring in rings.exits:
        ring.add(kinds.leave, tid)


def _add_told(joined: JoinedTree, tid: int, kinds: _Kinds) -> None:
    for ring in joined.told:
        for kind in kinds.told:
            ring.add(kind, tid)


def _add_late(joined: JoinedTree, tid: int, kinds: _Kinds, accepted: bytes, ring_bytes: int | None) -> None:
    if joined.late_rings is None:
        joined.late_rings = perf_events.open_rings(tid, accepted, ring_bytes, on_exec=False)
    else:
        _add(joined.late_rings, tid, kinds)
    _add_told(joined, tid, kinds)  # what is told twice is noticed
    joined.late.add(tid)


def _want_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
