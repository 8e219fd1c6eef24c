"""The pipe of a robust queue: messages that survive whoever dies in the middle of one.

What it guarantees: a process that is killed at any instruction of `get` or `put` stops
nobody else. What it had begun is lost and counted; every other message is delivered once,
whole and in its producer's order. The bytes in the pipe are the standard ones.

How:

- The locks are robust mutexes: the kernel hands them on when their holder dies.
- A writer announces a batch in shared memory, with the stream offset at which each message
  ends, before it writes the first byte. So a reader knows each message's bounds without
  its header, and whoever comes after a dead writer knows what the batch should have been.
- Each side counts its bytes after each call, in a word that is exact except while a call is
  under way (an odd sequence number says so). If one side died just then, its count follows
  from the other's and from what the kernel says is in the pipe: read + level = written.
- A torn message's end is moved to where its bytes really end. Its reader takes them, raises
  TruncatedMessage, and is at the start of the next one.

Why not the obvious ways: bytes cannot be looked for a message start (a pickle may contain
anything), and a checksum or a marker would change the bytes on the pipe.

A process must never wait inside a read or write call, or its count would be inexact for as
long as it waits: a read is made only where bytes are known to be there, and the write end
is non-blocking. Waiting is done in poll.

One case is beyond it: a reader and a writer both dead within their last call, before
anybody noticed the first. Then nobody knows where in the stream the pipe begins; unless
the numbers leave one possibility, all that is in the pipe is given up, and counted as lost.
"""

from __future__ import annotations

import os
import time
from itertools import accumulate
from queue import Empty
from typing import TYPE_CHECKING, Any

from . import control as c
from .control import Control
from .errors import TruncatedMessage
from .feeder import MAX_BATCH_MESSAGES, FeederClock
from .pipes import bytes_in_pipe, pipe_capacity_bytes
from .recovery import Recovery
from .slots import SharedFeederClock, Slots
from .stats import FeederStats, QueueStats
from .wire import (
    LONG_HEADER_BYTES,
    MAX_SHORT_BYTES,
    SHORT_HEADER_BYTES,
    ReadBuffer,
    header_of,
    readable_within,
    writable_within,
    writes_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .wire import Buffer

__all__ = ["RobustPipe"]

# A pickle is no shorter than 4 bytes (protocol, one opcode, argument or memo, stop), and its header has 4.
_MIN_MESSAGE_BYTES = 8

# In the middle of a message whose rest does not come, look this often whether somebody still writes it.
_FIRST_LOOK_S = 0.005
_LAST_LOOK_S = 0.2

# Above this size, os.read() of the whole message into new memory each time costs more than a buffer.
_BUFFERED_BYTES = 32768


class RobustPipe(Recovery):
    """A queue's pipe with its locks and slots. See the module for what it guarantees."""

    def __init__(self, reader: Any, writer: Any, control: Control, maxsize: int, unbounded: bool, hints: Any) -> None:
        super().__init__(control, reader)
        self._writer = writer
        self._maxsize = maxsize
        self._unbounded = unbounded
        self._buffer = ReadBuffer()
        self.give_back = self._buffer.give_back
        self.slots = Slots(control, maxsize, unbounded, hints)
        self.slots.settle_writer = self.settle_writer
        self.slots.register()
        # A writer that died holding the last write end would otherwise be the last to be waited for.
        os.set_blocking(writer.fileno(), False)

    @classmethod
    def create(cls, reader: Any, writer: Any, maxsize: int, ctx: Any) -> RobustPipe:
        """Return the pipe of a new queue; `maxsize` 0 or a semaphore's largest value means no limit."""
        from multiprocessing import synchronize

        largest = int(synchronize.SEM_VALUE_MAX)  # type: ignore[attr-defined]
        unbounded = maxsize <= 0 or maxsize >= largest
        ring_length = pipe_capacity_bytes(reader.fileno()) // _MIN_MESSAGE_BYTES + 2 * MAX_BATCH_MESSAGES
        hints = (ctx.Semaphore(0), ctx.Semaphore(0))
        return cls(reader, writer, Control.create(ring_length), maxsize or largest, unbounded, hints)

    def state(self) -> tuple[Any, ...]:
        """Return what `attach` needs in a process that is being spawned."""
        return self._control.state(), self._maxsize, self._unbounded, self.slots.hints

    @classmethod
    def attach(cls, reader: Any, writer: Any, state: tuple[Any, ...]) -> RobustPipe:
        """Return the pipe that `state` came from, in this process."""
        control_state, maxsize, unbounded, hints = state
        return cls(reader, writer, Control.attach(control_state), maxsize, unbounded, hints)

    def after_fork(self) -> None:
        """Become a member of the queue in a forked child."""
        self.slots.register()

    def feeder_clock(self) -> FeederClock:
        """Return a clock for this process's feeder that `stats()` in any process can read."""
        return SharedFeederClock(self.slots)

    def mark_closed(self) -> None:
        """Note that this process puts nothing more."""
        self._words[c.ROWS + self.slots.row * c.ROW_WORDS + c.CLOSED] = 1

    def close_writer(self) -> None:
        """Close the write end, as the last act of the feeder."""
        self.mark_closed()
        self._writer.close()

    # ---- writing

    def put_message(self, payload: Buffer) -> None:
        """Count and write one message, for a queue without a feeder."""
        self.slots.acquire()
        self.send_messages((payload,))

    def send_messages(self, payloads: Sequence[Buffer]) -> None:
        """Write messages in order, waiting for room in the pipe."""
        words = self._words
        handle = self._writer.fileno()
        with self.wlock:
            if words[c.W_STATE]:
                self.recover_writer(reader_locked=False)
            self._announce(payloads)
            for piece in writes_of(payloads):
                self._write(handle, piece)
            words[self._sent_word()] = words[c.BATCH_SENT] + len(payloads)
            words[c.W_STATE] = c.W_IDLE

    def _sent_word(self) -> int:
        return c.ROWS + self.slots.row * c.ROW_WORDS + c.SENT

    def _announce(self, payloads: Sequence[Buffer]) -> None:
        words, ends, tears = self._words, self._ends, self._tears
        length, count = len(ends), len(payloads)
        first = words[c.PUBLISHED]
        while first + count - words[c.CONSUMED] >= length:
            # Only messages shorter than a pickle can get here. Readers make room.
            time.sleep(0.001)
        offset = words[c.W_BYTES]
        if count == 1:
            slot = first % length
            ends[slot] = offset + _message_bytes(len(payloads[0]))
            tears[slot] = 0
        else:
            offsets = accumulate((_message_bytes(len(payload)) for payload in payloads), initial=offset)
            next(offsets)
            for slot, end in enumerate(offsets, first):
                ends[slot % length] = end
                tears[slot % length] = 0
        words[c.BATCH_FIRST] = first
        words[c.BATCH_COUNT] = count
        words[c.BATCH_ROW] = self.slots.row
        words[c.BATCH_SENT] = words[self._sent_word()]
        words[c.BATCH_TORN] = words[c.TORN]
        # From here on it is for whoever takes the lock next to finish or undo the batch.
        words[c.W_STATE] = c.W_WRITING
        words[c.PUBLISHED] = first + count

    def _write(self, handle: int, piece: Buffer) -> None:
        words = self._words
        remaining = len(piece)
        while True:
            seq = words[c.W_SEQ]
            words[c.W_SEQ] = seq + 1
            try:
                written = os.write(handle, piece)
            except BlockingIOError:
                words[c.W_SEQ] = seq + 2
                writable_within(handle, None)
                continue
            except OSError:
                words[c.W_SEQ] = seq + 2
                raise
            words[c.W_BYTES] += written
            words[c.W_SEQ] = seq + 2
            remaining -= written
            if not remaining:
                return
            piece = memoryview(piece)[written:]
            # Only a full pipe takes less than it is given.
            writable_within(handle, None)

    # ---- reading

    def receive(self, block: bool = True, timeout: float | None = None) -> Buffer:
        """Return the next message's body.

        Raises:
            Empty: none came in time.
            TruncatedMessage: its writer ended in the middle of it.
            EOFError: every write end is closed.
        """
        message: Buffer | TruncatedMessage | None
        deadline = time.monotonic() + timeout if block and timeout is not None else None
        if not self.rlock.acquire(block, timeout):
            raise Empty
        try:
            message = self._take_whole()
            if message is None:
                message = self._await_and_take(block, deadline)
        finally:
            self.rlock.release()
        if self._words[c.SPACE_WAITERS]:
            self.slots.wake_putter()
        if isinstance(message, TruncatedMessage):
            raise message
        return message

    def _take_whole(self) -> Buffer | None:
        # The common case in few steps: the next message is small, it is in the pipe as a whole, and
        # nobody has died. The order of the steps is that of _take and _read_some.
        words, ends = self._words, self._ends
        seq, start, written = words[c.R_SEQ], words[c.R_BYTES], words[c.W_BYTES]
        if written <= start or seq & 1:
            return None
        count = words[c.CONSUMED]
        slot = count % len(ends)
        end = ends[slot]
        if end > written or end - start > _BUFFERED_BYTES or start != ends[slot - 1]:
            return None
        words[c.R_SEQ] = seq + 1
        if words[c.W_STATE] == c.W_RECOVERING or self._tears[slot]:
            words[c.R_SEQ] = seq + 2
            return None
        message = os.read(self._reader.fileno(), end - start)
        words[c.R_BYTES] = start + len(message)
        words[c.R_SEQ] = seq + 2
        words[c.CONSUMED] = count + 1
        return _body_of(message)

    def _await_and_take(self, block: bool, deadline: float | None) -> Buffer | TruncatedMessage:
        count = self._settled()
        words = self._words
        if words[c.W_BYTES] <= words[c.R_BYTES]:
            self._await_message(block, deadline)
        return self._take(count)

    def _settled(self) -> int:
        # Returns the number of the next message, with the stream at its start.
        words, ends = self._words, self._ends
        while True:
            if words[c.R_SEQ] & 1:
                self.recover_reader()
            count: int = words[c.CONSUMED]
            if words[c.R_BYTES] == ends[count % len(ends) - 1]:
                return count
            # Somebody died, or was interrupted, with part of this one in hand.
            self._take(count, begun=True)

    def _await_message(self, block: bool, deadline: float | None) -> None:
        handle = self._reader.fileno()
        timeout = None
        if not block:
            timeout = 0.0
        elif deadline is not None:
            timeout = deadline - time.monotonic()
        if not readable_within(handle, timeout):
            raise Empty

    def _take(self, count: int, begun: bool = False) -> Buffer | TruncatedMessage:
        # Reads message `count` and steps over it. Of one that somebody else has begun to read
        # nothing is returned: what is left of it is no message.
        words, ends = self._words, self._ends
        slot = count % len(ends)
        start: int = ends[slot - 1]
        size: int = ends[slot] - start
        whole = None if begun or size < _BUFFERED_BYTES else self._buffer.take(size)
        chunk: bytes | None = b""
        chunks: list[bytes] = []
        while True:
            position = words[c.R_BYTES]
            remaining = ends[slot] - position
            if remaining <= 0:
                break
            chunk = self._read_some(slot, position, remaining, whole, position - start)
            if chunk is None:
                self._await_rest(slot)
                continue
            if not begun:
                chunks.append(chunk)
            if words[c.R_BYTES] == ends[slot]:
                break
            if words[c.W_BYTES] <= words[c.R_BYTES]:
                self._await_rest(slot)
        tear = self._tears[slot]
        if begun and not tear:
            words[c.LOST_READS] += 1
        words[c.CONSUMED] = count + 1
        if begun:
            return b""
        if tear:
            return self._truncated(tear, ends[slot] - start)
        if whole is not None:
            return _body_of(whole)
        return _body_of(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def _read_some(
        self, slot: int, position: int, remaining: int, whole: memoryview | None, offset: int
    ) -> bytes | None:
        # One read call, inside an odd R_SEQ. A recovering writer moves the message's end only
        # while R_SEQ is even, so the end is looked at again in here. Large messages go into
        # `whole`, small ones are returned.
        words = self._words
        seq = words[c.R_SEQ]
        words[c.R_SEQ] = seq + 1
        if words[c.W_STATE] == c.W_RECOVERING:
            words[c.R_SEQ] = seq + 2
            return None
        remaining = min(remaining, self._ends[slot] - position)
        if remaining <= 0:
            words[c.R_SEQ] = seq + 2
            return b""
        if whole is None:
            chunk = os.read(self._reader.fileno(), remaining)
            count = len(chunk)
        else:
            chunk = b""
            count = self._buffer.reader_of(self._reader.fileno())(whole[offset : offset + remaining]) or 0
        words[c.R_BYTES] = position + count
        words[c.R_SEQ] = seq + 2
        if not count:
            raise EOFError
        return chunk

    def _await_rest(self, slot: int) -> None:
        # Returns when there is more of the message, or its end has moved to where we are.
        words, ends = self._words, self._ends
        handle = self._reader.fileno()
        look_s = _FIRST_LOOK_S
        while ends[slot] > words[c.R_BYTES]:
            if words[c.W_STATE] != c.W_RECOVERING and (
                words[c.W_BYTES] > words[c.R_BYTES] or readable_within(handle, look_s)
            ):
                return
            self.settle_writer(reader_locked=True)
            if words[c.W_STATE] == c.W_RECOVERING:
                time.sleep(0.001)
            look_s = min(2 * look_s, _LAST_LOOK_S)

    def _truncated(self, tear: int, present_bytes: int) -> TruncatedMessage:
        pid, message_bytes = c.untear(tear)
        body_bytes = _body_bytes(message_bytes)
        header_bytes = message_bytes - body_bytes
        return TruncatedMessage(pid, body_bytes, max(0, present_bytes - header_bytes))

    # ---- looking

    def stats(self, handle: int, feeder: FeederStats | None) -> QueueStats:
        """Return one look at the queue; `feeder` is this process's own."""
        words = self._words
        rows = [row for row in self._control.rows() if c.alive(row)]
        if len(rows) < len(self._control.rows()):
            self.slots.reap()
        consumed = words[c.CONSUMED]
        return QueueStats(
            robust=True,
            items_in_deque=sum(row.unsent for row in rows),
            messages_in_pipe=max(0, words[c.PUBLISHED] - consumed),
            bytes_in_pipe=bytes_in_pipe(handle),
            capacity_bytes=pipe_capacity_bytes(handle),
            maxsize=self._maxsize,
            used_slots=self.slots.used(),
            feeder=feeder,
            feeders={
                row.pid: FeederStats(FeederClock.NAMES[row.feeder_state], row.feeder_since_ns, row.unsent)
                for row in rows
            },
            read_locked=self.rlock.locked,
            write_locked=self.wlock.locked,
            read_lock_holder=self.rlock.holder(),
            write_lock_holder=self.wlock.holder(),
            torn=words[c.TORN],
            lost=self.slots.lost(),
        )


def _message_bytes(body_bytes: int) -> int:
    return body_bytes + (LONG_HEADER_BYTES if body_bytes > MAX_SHORT_BYTES else SHORT_HEADER_BYTES)


def _body_bytes(message_bytes: int) -> int:
    short = message_bytes - SHORT_HEADER_BYTES
    return short if short <= MAX_SHORT_BYTES else message_bytes - LONG_HEADER_BYTES


def _body_of(message: bytes | memoryview) -> Buffer:
    body_bytes = _body_bytes(len(message))
    header = header_of(body_bytes)
    if message[: len(header)] != header:
        raise OSError(f"{len(message)} bytes in the pipe that no put of this queue announced")
    return memoryview(message)[len(header) :]
