"""Slots of a robust queue: who has put how many items, and what became of them.

Takes the place of the bounded semaphore. A semaphore only knows a number: a slot whose
owner dies is gone. Here the number of used slots follows from counters,

    used = admitted - consumed - written off

each of which has an owner: every process counts what it put and sent in a row of its own,
and when it dies, the items it had not sent are written off by whoever notices.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import control as c
from .feeder import FeederClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from .control import Control, Row

__all__ = ["Member", "SharedFeederClock", "Slots"]

# A waiter looks for dead processes this often. Nobody announces a death.
LOOK_S = 0.1


@dataclass(frozen=True)
class Member:
    """A process that has the queue.

    Attributes:
        pid: its process id.
        done: it has closed the queue and sent everything.
    """

    pid: int
    done: bool


class Slots:
    """Counts slots in shared memory, with a semaphore's `acquire` and `release`.

    Args:
        settle_writer: repairs what a writer that died left unfinished, if there is such a
            one and nobody else is at it; called before a dead writer's row is given back.
    """

    def __init__(self, control: Control, maxsize: int, unbounded: bool, hints: tuple[Any, Any]) -> None:
        self._control = control
        self._words = control.words
        self._mutex = control.slots_lock
        self._maxsize = maxsize
        self._unbounded = unbounded
        # Semaphores without meaning of their own: a token says "look again". One that gets
        # lost with its taker costs the others one LOOK_S.
        self._space_hint, self._join_hint = self.hints = hints
        self._threads = threading.Lock()
        self.settle_writer: Callable[[], None] = lambda: None
        self.row = 0

    def register(self) -> None:
        """Take a row for this process. Once in each process that has the queue."""
        self._threads = threading.Lock()
        words = self._words
        with self._mutex:
            self._repair()
            index = self._free_row()
            base = c.ROWS + index * c.ROW_WORDS
            for place in range(1, c.ROW_WORDS):
                words[base + place] = 0
            words[base + c.TICKS] = c.start_ticks(os.getpid()) or 0
            if index >= words[c.ROWS_HIGH]:
                words[c.ROWS_HIGH] = index + 1
            # Last: it makes the row one.
            words[base + c.PID] = os.getpid()
        self.row = index
        self._put_word = base + c.PUT

    def _free_row(self) -> int:
        words = self._words
        high = words[c.ROWS_HIGH]
        for attempt in range(2):
            for index in range(high):
                if not words[c.ROWS + index * c.ROW_WORDS + c.PID]:
                    return index
            if high < c.ROW_COUNT:
                return high
            if attempt == 0:
                self._fold_dead()
        raise RuntimeError(f"more than {c.ROW_COUNT} processes have this queue")

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take a slot for an item of this process; return whether there was one in time."""
        words = self._words
        if self._unbounded:
            with self._threads:
                words[self._put_word] += 1
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._mutex:
                if self._admit():
                    return True
                if not block:
                    self._fold_dead()
                    return self._admit()
                words[c.SPACE_WAITERS] += 1
            wait_s = LOOK_S if deadline is None else min(LOOK_S, deadline - time.monotonic())
            try:
                hinted = wait_s > 0 and self._space_hint.acquire(True, wait_s)
            finally:
                with self._mutex:
                    words[c.SPACE_WAITERS] = max(0, words[c.SPACE_WAITERS] - 1)
            if not hinted:
                self.reap()
                if deadline is not None and time.monotonic() >= deadline:
                    block = False

    def _admit(self) -> bool:
        # The caller holds the mutex.
        words = self._words
        if words[c.DIRTY] or words[c.FOLD_STATE]:
            self._repair()
        used = words[c.ADMITTED] - words[c.CONSUMED] - words[c.WRITTEN_OFF]
        if used >= self._maxsize:
            return False
        words[c.DIRTY] = 1
        words[self._put_word] += 1
        words[c.ADMITTED] += 1
        words[c.DIRTY] = 0
        # One token may stand for several slots that came free: pass it on.
        if used + 1 < self._maxsize and words[c.SPACE_WAITERS]:
            self.wake_putter()
        return True

    def release(self) -> None:
        """Give back the slot of an item that could not be sent."""
        words = self._words
        with self._mutex:
            words[c.DIRTY] = 1
            words[c.ROWS + self.row * c.ROW_WORDS + c.WITHDRAWN] += 1
            words[c.WRITTEN_OFF] += 1
            words[c.DIRTY] = 0
        self.wake_putter()

    def wake_putter(self) -> None:
        """Let one waiting `put` look again. For the reader that has made room."""
        if self._words[c.SPACE_WAITERS] and self._space_hint._semlock._is_zero():
            self._space_hint.release()

    def used(self) -> int:
        """Return how many items are put and not yet got, of processes that live or whose items are in the pipe."""
        return max(0, self._admitted() - self._words[c.CONSUMED] - self._written_off())

    def _admitted(self) -> int:
        return self._words[c.PAST_PUT] + sum(row.put for row in self._control.rows())

    def _written_off(self) -> int:
        return self._words[c.PAST_OFF] + sum(row.withdrawn for row in self._control.rows())

    def members(self) -> list[Member]:
        """Return the other living processes that have the queue."""
        own = self.row
        return [
            Member(row.pid, row.closed and not row.unsent)
            for row in self._control.rows()
            if row.index != own and c.alive(row)
        ]

    def reap(self, wait: bool = True) -> None:
        """Write off what dead processes had put and not sent; without `wait`, unless somebody has the slots' lock."""
        if not self._mutex.acquire(wait):
            return
        try:
            self._repair()
            self._fold_dead()
        finally:
            self._mutex.release()
        self.wake_putter()

    def _fold_dead(self) -> None:
        for row in self._control.rows():
            if row.index != self.row and not c.alive(row):
                self._fold(row)

    def _fold(self, row: Row) -> None:
        # The caller holds the mutex. All results first, then the commit, then the effects,
        # which can be repeated: whoever finds FOLD_STATE set does so.
        words = self._words
        base = c.ROWS + row.index * c.ROW_WORDS
        if words[c.W_STATE] and words[c.BATCH_ROW] == row.index:
            self.settle_writer()
            if words[c.W_STATE] and words[c.BATCH_ROW] == row.index:
                # Somebody else is repairing it; the next look will find it done.
                return
        put, sent, withdrawn = words[base + c.PUT], words[base + c.SENT], words[base + c.WITHDRAWN]
        words[c.FOLD_ROW] = row.index
        words[c.FOLD_PUT] = words[c.PAST_PUT] + put
        words[c.FOLD_OFF] = words[c.PAST_OFF] + put - sent
        words[c.FOLD_LOST] = words[c.PAST_LOST] + put - sent - withdrawn
        words[c.FOLD_STATE] = 1
        self._repair()

    def _repair(self) -> None:
        # The caller holds the mutex.
        words = self._words
        if words[c.FOLD_STATE]:
            base = c.ROWS + words[c.FOLD_ROW] * c.ROW_WORDS
            for place in range(c.ROW_WORDS):
                words[base + place] = 0
            words[c.PAST_PUT] = words[c.FOLD_PUT]
            words[c.PAST_OFF] = words[c.FOLD_OFF]
            words[c.PAST_LOST] = words[c.FOLD_LOST]
            words[c.DIRTY] = 1
            words[c.FOLD_STATE] = 0
        if words[c.DIRTY]:
            words[c.ADMITTED] = self._admitted()
            words[c.WRITTEN_OFF] = self._written_off()
            words[c.DIRTY] = 0

    def lost(self) -> int:
        """Return how many items will never be got because a process ended."""
        words = self._words
        return int(words[c.PAST_LOST] + words[c.TORN] + words[c.LOST_READS])

    def _unfinished(self) -> int:
        words = self._words
        gone = self._written_off() + words[c.TORN] + words[c.LOST_READS]
        return int(self._admitted() - words[c.DONE] - gone)

    def task_done(self) -> bool:
        """Count one task as done; return False if there is none unfinished."""
        words = self._words
        with self._mutex:
            self._repair()
            if self._unfinished() <= 0:
                return False
            words[c.DONE] += 1
            if words[c.JOIN_WAITERS] and self._unfinished() <= 0:
                for _ in range(words[c.JOIN_WAITERS]):
                    self._join_hint.release()
        return True

    def join(self) -> None:
        """Wait until every item put so far is done or lost."""
        words = self._words
        while True:
            with self._mutex:
                self._repair()
                if self._unfinished() <= 0:
                    return
                words[c.JOIN_WAITERS] += 1
            try:
                hinted = self._join_hint.acquire(True, LOOK_S)
            finally:
                with self._mutex:
                    words[c.JOIN_WAITERS] = max(0, words[c.JOIN_WAITERS] - 1)
            if not hinted:
                self.reap()


class SharedFeederClock(FeederClock):
    """A feeder's clock that the other processes can read."""

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self._words = slots._words
        # A process's row stays the same; a forked child makes its own clock.
        self._place = c.ROWS + slots.row * c.ROW_WORDS + c.FEEDER_STATE
        self.enter(self.NOT_STARTED)

    def enter(self, state: int) -> None:
        """Note the state here and in this process's row."""
        self.state = state
        self.since_ns = since_ns = time.monotonic_ns()
        words, place = self._words, self._place
        words[place] = state
        words[place + c.FEEDER_SINCE_NS - c.FEEDER_STATE] = since_ns
