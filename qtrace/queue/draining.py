"""Taking everything out of a queue: `drain()` and `join_processes()`.

Both wait for processes and for the pipe at once, so that a child that cannot end
because the pipe is full always finds a reader.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing import connection
from queue import Empty
from typing import TYPE_CHECKING, Any

from .errors import TruncatedMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.process import BaseProcess

    from .queues import Queue

__all__ = ["drain", "join_processes"]

# How often to look whether writers are done that have no sentinel to wait on: processes
# that are not our children, and our own feeder.
LOOK_S = 0.02


def drain(queue: Queue, processes: Iterable[BaseProcess] | None, timeout: float | None) -> Iterator[Any]:
    """Yield items of `queue` until its writers are done and the pipe is empty; see `Queue.drain`."""
    writers = None if processes is None else list(processes)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        # Looked at before the pipe: what a writer wrote before it was done is in the pipe by now.
        over = (writers_done(queue, writers)) or (deadline is not None and time.monotonic() >= deadline)
        while True:
            try:
                yield queue.get_nowait()
            except Empty:
                break
        if over and queue.empty():
            return
        wait_s = LOOK_S if deadline is None else min(LOOK_S, max(0.0, deadline - time.monotonic()))
        connection.wait([queue._reader], LOOK_S if over else wait_s)


def writers_done(queue: Queue, writers: list[BaseProcess] | None) -> bool:
    """Return whether nobody will put into `queue` any more, as far as can be known."""
    clock = queue._clock
    if queue._buffer or clock.pending:
        return False
    if writers is not None:
        return not any(process.is_alive() for process in writers)
    children = {process.pid for process in multiprocessing.active_children()}
    if queue._robust is None:
        return not children
    # A forked child registers a moment after its start: until then, being alive counts.
    members = queue._robust.slots.members()
    unknown = children - {member.pid for member in members}
    return not unknown and all(member.done for member in members)


def join_processes(queue: Queue, processes: Iterable[BaseProcess], timeout: float | None) -> list[Any]:
    """Wait for `processes` and return what was in the queue meanwhile; see `Queue.join_processes`."""
    alive = list(processes)
    taken: list[Any] = []
    deadline = None if timeout is None else time.monotonic() + timeout
    while alive:
        wait_s = None if deadline is None else deadline - time.monotonic()
        if wait_s is not None and wait_s <= 0:
            return taken
        ready = connection.wait([queue._reader, *(process.sentinel for process in alive)], wait_s)
        if queue._reader in ready:
            _take_one(queue, taken)
        for process in [process for process in alive if process.sentinel in ready]:
            process.join()
            alive.remove(process)
    # All of them have ended, and with them their feeders: what they wrote is in the pipe.
    while not queue.empty():
        if not _take_one(queue, taken):
            # Another consumer holds the read lock; what is left is for it.
            return taken
    return taken


def _take_one(queue: Queue, taken: list[Any]) -> bool:
    try:
        taken.append(queue.get_nowait())
    except Empty:
        # Another consumer was faster. It may be in the middle of a large message,
        # with the pipe readable all the time: do not spin beside it.
        time.sleep(0.001)
        return False
    except TruncatedMessage:
        # Not an item; counted in stats().
        return True
    return True
