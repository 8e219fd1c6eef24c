"""The shared memory of a robust queue: what every process that has the queue can see.

One memfd, mapped by all: three mutexes, some words, a row for each process, and two rings
with an entry for each message between "announced" and "read". All words are unsigned 64-bit,
and each is written by the holder of one lock only (the row's own process for a row), so that
single loads and stores are all that is needed, and a process can die between any two.

    page 0   words 0-15: writer side, 16-31: reader side, 32-63: slots; mutexes behind them
    rows     ROW_COUNT rows of ROW_WORDS words
    ends     ring: stream offset at which message k ends (it begins where k-1 ends)
    tears    ring: 0, or for a torn message what it should have been

A stream offset counts all bytes ever written to the pipe.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from dataclasses import dataclass
from multiprocessing import reduction
from typing import Any

from .mutex import MUTEX_BYTES, RobustMutex

__all__ = ["Control", "Row", "alive", "start_ticks", "tear", "untear"]

# Writer side: guarded by the write lock.
W_SEQ = 0  # odd while a write call is under way
W_BYTES = 1  # stream offset written so far; exact while W_SEQ is even
W_STATE = 2  # one of the three below
PUBLISHED = 3  # messages announced so far
BATCH_FIRST = 4  # the batch that W_STATE speaks of: number of its first message
BATCH_COUNT = 5
BATCH_ROW = 6  # row of its writer
BATCH_SENT = 7  # that row's SENT before the batch
BATCH_TORN = 8  # TORN before the batch
TORN = 9  # messages cut short so far

W_IDLE, W_WRITING, W_RECOVERING = range(3)

# Reader side: guarded by the read lock.
R_SEQ = 16  # odd while a read call is under way
R_BYTES = 17  # stream offset read so far; exact while R_SEQ is even
CONSUMED = 18  # messages read so far
LOST_READS = 19  # of those, the ones that no `get` returned

# Slots: guarded by the slots' mutex.
DIRTY = 32  # the sums below may not fit the rows
ADMITTED = 33  # items put so far by all processes (kept for bounded queues only)
WRITTEN_OFF = 34  # of those, the ones that will never be in the pipe
PAST_PUT = 35  # sums over the rows that are given back
PAST_OFF = 36
PAST_LOST = 37
FOLD_STATE = 38  # 1: a row is being given back, with these results
FOLD_ROW = 39
FOLD_PUT = 40
FOLD_OFF = 41
FOLD_LOST = 42
ROWS_HIGH = 43  # rows from here on were never used
SPACE_WAITERS = 44
JOIN_WAITERS = 45
DONE = 46  # tasks done

_WORDS = 64
_MUTEX_OFFSET = _WORDS * 8
_PAGE_BYTES = 4096

# Words of a row.
PID = 0
TICKS = 1  # start time of the process, which with its pid names it for ever
PUT = 2  # items put
SENT = 3  # items in the pipe, or that were
WITHDRAWN = 4  # items that could not be pickled or sent
FEEDER_STATE = 5
FEEDER_SINCE_NS = 6
CLOSED = 7
ROW_WORDS = 8
ROW_COUNT = 1024
ROWS = _PAGE_BYTES // 8

_RINGS = ROWS + ROW_COUNT * ROW_WORDS


@dataclass(frozen=True)
class Row:
    """One process's row, read at one moment."""

    index: int
    pid: int
    ticks: int
    put: int
    sent: int
    withdrawn: int
    feeder_state: int
    feeder_since_ns: int
    closed: bool

    @property
    def unsent(self) -> int:
        """Items in its deque or in its feeder's hands."""
        return max(0, self.put - self.sent - self.withdrawn)


class Control:
    """A process's mapping of a queue's shared memory."""

    def __init__(self, handle: int, ring_length: int) -> None:
        self.handle = handle
        self.ring_length = ring_length
        self._mapping = mmap.mmap(handle, _bytes_of(ring_length))
        whole = memoryview(self._mapping).cast("Q")
        self.words = whole[:_RINGS]
        self.ends = whole[_RINGS : _RINGS + ring_length]
        self.tears = whole[_RINGS + ring_length :]
        self.rlock, self.wlock, self.slots_lock = (
            RobustMutex(self._mapping, _MUTEX_OFFSET + place * MUTEX_BYTES) for place in range(3)
        )
        weakref.finalize(self, os.close, handle)

    @classmethod
    def create(cls, ring_length: int) -> Control:
        """Return the memory of a new queue, whose rings have `ring_length` entries."""
        handle = _anonymous_file()
        os.truncate(handle, _bytes_of(ring_length))
        control = cls(handle, ring_length)
        for mutex in (control.rlock, control.wlock, control.slots_lock):
            mutex.initialize()
        return control

    def state(self) -> tuple[Any, int]:
        """Return what `attach` needs in a process that is being spawned."""
        return reduction.DupFd(self.handle), self.ring_length

    @classmethod
    def attach(cls, state: tuple[Any, int]) -> Control:
        """Return the memory of the queue that `state` came from."""
        duplicate, ring_length = state
        return cls(duplicate.detach(), ring_length)

    def rows(self) -> list[Row]:
        """Return the rows in use."""
        words = self.words
        rows = []
        for index in range(words[ROWS_HIGH]):
            base = ROWS + index * ROW_WORDS
            pid, ticks, put, sent, withdrawn, state, since_ns, closed = words[base : base + ROW_WORDS].tolist()
            if pid:
                rows.append(Row(index, pid, ticks, put, sent, withdrawn, state, since_ns, bool(closed)))
        return rows


def _bytes_of(ring_length: int) -> int:
    return (_RINGS + 2 * ring_length) * 8


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("qtrace-queue", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as backing:
        return os.dup(backing.fileno())


def start_ticks(pid: int) -> int | None:
    """Return when process `pid` started, in clock ticks since boot; None if it is gone or a zombie.

    Fields 3, 20 and 22 of proc_pid_stat(5). A zombie whose other threads still run is
    not gone: only its main thread has ended.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The name, field 2, may hold anything, parentheses and spaces included.
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in (b"X", b"x") or (fields[0] == b"Z" and int(fields[17]) <= 1):
        return None
    return int(fields[19])


def alive(row: Row) -> bool:
    """Return whether the process of `row` lives; a process that may not be looked at counts as living."""
    try:
        return start_ticks(row.pid) == row.ticks
    except OSError:
        return True


# A tear is one word, so that it is there or not: the low bits name the writer, the rest says
# how long the message should have been, header included. Linux pids have at most 22 bits.
_TEAR_PID_BITS = 22


def tear(pid: int, message_bytes: int) -> int:
    """Return the ring entry of a torn message."""
    return message_bytes << _TEAR_PID_BITS | pid


def untear(entry: int) -> tuple[int, int]:
    """Return the writer's process id and the bytes the message should have had, header included."""
    return entry & ((1 << _TEAR_PID_BITS) - 1), entry >> _TEAR_PID_BITS
