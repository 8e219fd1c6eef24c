"""Repair of a robust pipe's books after a reader or a writer ended in the middle of a call.

Everything here may itself be cut off at any instruction and is then done again by the next
one: results are computed from what is in shared memory and the kernel, stored as absolute
values, and the word that says "to be repaired" is cleared last.

Lock order: neither side waits for the other's lock while it holds its own. Repair that
needs both tries for the second one, and gives way if that is taken.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from . import control as c
from .pipes import bytes_in_pipe

if TYPE_CHECKING:
    from .control import Control

__all__ = ["Recovery"]

# Long against the time that a store takes to be seen by other processors, and against a
# read or write that does not wait.
NAP_S = 0.001


class Recovery:
    """The books of both sides of the pipe, and how each is repaired."""

    def __init__(self, control: Control, reader: Any, writer: Any) -> None:
        self._control = control
        self._words = control.words
        self._ends = control.ends
        self._tears = control.tears
        self._reader = reader
        self._writer = writer
        self.rlock = control.rlock
        self.wlock = control.wlock

    def settle_writer(self, reader_locked: bool = False) -> None:
        """Repair what a writer left unfinished, unless a living one is at it."""
        if self.wlock.acquire(False):
            try:
                if self._words[c.W_STATE]:
                    self.recover_writer(reader_locked)
            finally:
                self.wlock.release()

    def recover_writer(self, reader_locked: bool) -> None:
        """Finish the books of a batch that was cut off. The caller holds the write lock.

        Whole messages stay. The one in the middle of which the writer stopped ends where its
        bytes end. Those of which nothing is in the pipe were never announced.
        """
        words = self._words
        words[c.W_STATE] = c.W_RECOVERING
        if reader_locked:
            self._recover_writer_alone()
            return
        # Readers that begin a call from now on see the state and stay away. One that looked
        # just before has its odd R_SEQ visible after the nap: then wait for its end.
        time.sleep(NAP_S)
        while words[c.R_SEQ] & 1:
            if self.rlock.acquire(False):
                # Its reader is dead.
                try:
                    self._recover_writer_alone()
                finally:
                    self.rlock.release()
                return
            time.sleep(NAP_S)
        self._recover_writer_alone()

    def _recover_writer_alone(self) -> None:
        # No reader is inside a call, nor begins one.
        words, ends, tears = self._words, self._ends, self._tears
        if words[c.W_SEQ] & 1:
            if words[c.R_SEQ] & 1:
                self._recover_both()
                return
            words[c.W_BYTES] = words[c.R_BYTES] + self._level_bytes()
            words[c.W_SEQ] += 1
        written = words[c.W_BYTES]
        length = len(ends)
        number = words[c.BATCH_FIRST]
        last = number + words[c.BATCH_COUNT]
        torn = 0
        while number < last and ends[number % length] <= written:
            torn += tears[number % length] != 0
            number += 1
        if number < last:
            slot = number % length
            start = ends[slot - 1]
            if written > start:
                tears[slot] = c.tear(self._pid_of(words[c.BATCH_ROW]), ends[slot] - start)
                ends[slot] = written
                torn += 1
                number += 1
        words[c.PUBLISHED] = number
        words[c.TORN] = words[c.BATCH_TORN] + torn
        self._close_batch(number)

    def _close_batch(self, number: int) -> None:
        words = self._words
        sent_word = c.ROWS + words[c.BATCH_ROW] * c.ROW_WORDS + c.SENT
        words[sent_word] = words[c.BATCH_SENT] + number - words[c.BATCH_FIRST]
        words[c.W_STATE] = c.W_IDLE

    def _level_bytes(self) -> int:
        # Both ends tell. A process that has closed its read end may still have to repair, to
        # send what it has in its deque; one that only reads may have closed the write end.
        return bytes_in_pipe((self._reader if self._writer.closed else self._writer).fileno())

    def _empty_pipe(self) -> None:
        if self._reader.closed:
            # The link of an end of a pipe opens the pipe again, in the direction asked for (proc_pid_fd(5)).
            handle = os.open(f"/proc/self/fd/{self._writer.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        else:
            handle = os.dup(self._reader.fileno())
        try:
            while level := bytes_in_pipe(handle):
                os.read(handle, level)
        finally:
            os.close(handle)

    def _pid_of(self, row: int) -> int:
        return int(self._words[c.ROWS + row * c.ROW_WORDS + c.PID])

    def recover_reader(self) -> None:
        """Find out how far a reader got that stopped inside a read. The caller holds the read lock."""
        words = self._words
        while words[c.R_SEQ] & 1:
            seq = words[c.W_SEQ]
            if not seq & 1:
                level = self._level_bytes()
                written = words[c.W_BYTES]
                if words[c.W_SEQ] == seq:
                    words[c.R_BYTES] = written - level
                    words[c.R_SEQ] += 1
                    return
            elif self.wlock.acquire(False):
                try:
                    if words[c.W_SEQ] & 1:
                        self._recover_both()
                finally:
                    self.wlock.release()
            else:
                # A living writer inside a call is out of it soon. A living writer that repairs
                # needs our lock for that: it must have the chance to take it.
                self.rlock.release()
                time.sleep(NAP_S)
                self.rlock.acquire()

    def _recover_both(self) -> None:
        # The caller holds both locks; a reader and a writer died inside their calls.
        words, ends = self._words, self._ends
        level = self._level_bytes()
        length = len(ends)
        batch_end = ends[(words[c.BATCH_FIRST] + words[c.BATCH_COUNT] - 1) % length]
        lowest = max(words[c.R_BYTES], words[c.W_BYTES] - level)
        highest = min(ends[words[c.CONSUMED] % length], batch_end - level)
        words[c.W_STATE] = c.W_RECOVERING
        if lowest == highest:
            words[c.R_BYTES] = lowest
            words[c.W_BYTES] = lowest + level
            words[c.R_SEQ] += 1
            words[c.W_SEQ] += 1
            self._recover_writer_alone()
            return
        self._give_up_pipe(batch_end)

    def _give_up_pipe(self, batch_end: int) -> None:
        # Start anew behind everything that was announced. R_SEQ becomes even last; W_SEQ before the
        # batch is closed, because whoever writes next looks at it only where a batch is open.
        words, ends = self._words, self._ends
        self._empty_pipe()
        last = words[c.BATCH_FIRST] + words[c.BATCH_COUNT]
        words[c.PUBLISHED] = last
        ends[(last - 1) % len(ends)] = batch_end
        words[c.W_BYTES] = batch_end
        words[c.R_BYTES] = batch_end
        words[c.LOST_READS] += last - words[c.CONSUMED]
        words[c.CONSUMED] = last
        words[c.W_SEQ] += 1
        self._close_batch(last)
        words[c.R_SEQ] += 1
