"""`stats()`: what is where in a queue, read without taking a lock."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .feeder import FeederClock
from .pipes import bytes_in_pipe, pipe_capacity_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .mutex import Holder

__all__ = ["FeederStats", "QueueStats", "stats_of"]


@dataclass(frozen=True)
class FeederStats:
    """A feeder thread's state.

    Attributes:
        state: one of "not started", "waiting for items", "pickling", "sending", "ended".
        since_ns: CLOCK_MONOTONIC time at which it entered that state.
        unsent: items of its process that are put and not yet in the pipe.
    """

    state: str
    since_ns: int
    unsent: int


@dataclass(frozen=True)
class QueueStats:
    """One look at a queue. None where a standard-mode queue does not know.

    The parts are read one after the other while others go on: they need not add up.

    Attributes:
        robust: the queue keeps its books in shared memory; the fields below are known.
        items_in_deque: put and not yet in the pipe; of all living processes if robust,
            else of this one.
        messages_in_pipe: whole or begun messages that nobody has read.
        bytes_in_pipe: unread bytes, headers included.
        capacity_bytes: size of the pipe.
        maxsize: slots of the queue.
        used_slots: items put and not yet got.
        feeder: this process's feeder.
        feeders: feeder by process id, for every living process that has the queue; only this
            one's if not robust.
        read_locked: somebody holds the read lock (a `get` that waits for a message does).
        write_locked: somebody holds the write lock.
        read_lock_holder: who, if that can be known.
        write_lock_holder: who, if that can be known.
        torn: messages cut short so far by a writer's end.
        lost: items that were put and will never be got: torn, unsent when their process
            ended, or read by a process that died before it had them whole.
    """

    robust: bool
    items_in_deque: int
    messages_in_pipe: int | None
    bytes_in_pipe: int
    capacity_bytes: int
    maxsize: int | None
    used_slots: int | None
    feeder: FeederStats | None
    feeders: Mapping[int, FeederStats]
    read_locked: bool
    write_locked: bool
    read_lock_holder: Holder | None
    write_lock_holder: Holder | None
    torn: int | None
    lost: int | None


def stats_of(queue: Any) -> QueueStats:
    """Return one look at `queue`, a Queue, JoinableQueue or SimpleQueue of this package."""
    handle = queue._reader.fileno()
    feeder = _own_feeder(queue)
    if queue._robust is not None:
        return queue._robust.stats(handle, feeder)  # type: ignore[no-any-return]
    counted = feeder is not None
    return QueueStats(
        robust=False,
        items_in_deque=feeder.unsent if feeder else 0,
        messages_in_pipe=None,
        bytes_in_pipe=bytes_in_pipe(handle),
        capacity_bytes=pipe_capacity_bytes(handle),
        maxsize=queue._maxsize if counted else None,
        used_slots=queue.qsize() if counted else None,
        feeder=feeder,
        feeders={} if feeder is None else {os.getpid(): feeder},
        read_locked=queue._rlock._semlock._is_zero(),
        write_locked=queue._wlock._semlock._is_zero(),
        read_lock_holder=None,
        write_lock_holder=None,
        torn=None,
        lost=None,
    )


def _own_feeder(queue: Any) -> FeederStats | None:
    clock: FeederClock | None = getattr(queue, "_clock", None)
    if clock is None:
        return None
    return FeederStats(FeederClock.NAMES[clock.state], clock.since_ns, len(queue._buffer) + clock.pending)
