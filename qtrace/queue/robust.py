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
import select
import time
from queue import Empty
from typing import TYPE_CHECKING, Any

# By name: an attribute of the module would cost as much again in the paths that every message takes.
from .control import (
    BATCH_COUNT,
    BATCH_FIRST,
    BATCH_ROW,
    BATCH_SENT,
    BATCH_TORN,
    CLOSED,
    CONSUMED,
    LOST_READS,
    PUBLISHED,
    R_BYTES,
    R_SEQ,
    ROW_WORDS,
    ROWS,
    SENT,
    SPACE_WAITERS,
    TORN,
    W_BYTES,
    W_IDLE,
    W_RECOVERING,
    W_SEQ,
    W_STATE,
    W_WRITING,
    Control,
    alive,
    untear,
)
from .errors import TruncatedMessage
from .feeder import MAX_BATCH_MESSAGES, FeederClock
from .pipes import bytes_in_pipe, pipe_capacity_bytes
from .recovery import Recovery
from .slots import SharedFeederClock, Slots
from .stats import FeederStats, QueueStats
from .wire import (
    LONG_HEADER_BYTES,
    MAX_ATOMIC_BYTES,
    MAX_JOINED_BYTES,
    MAX_SHORT_BYTES,
    SHORT_HEADER_BYTES,
    FramedMessage,
    ReadBuffer,
    body_of,
    header_of,
    pieces_of,
    poller_of,
    readable_within,
    unpack_header,
    writes_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .wire import Buffer, Payload

__all__ = ["RobustPipe"]

# A pickle is no shorter than 4 bytes (protocol, one opcode, argument or memo, stop), and its header has 4.
_MIN_MESSAGE_BYTES = 8

# In the middle of a message whose rest does not come, look this often whether somebody still writes it.
_FIRST_LOOK_MS = 5
_LAST_LOOK_MS = 200

# Above this size, os.read() of the whole message into new memory each time costs more than a buffer.
_BUFFERED_BYTES = 32768


class RobustPipe(Recovery):
    """A queue's pipe with its locks and slots. See the module for what it guarantees."""

    def __init__(self, reader: Any, writer: Any, control: Control, maxsize: int, unbounded: bool, hints: Any) -> None:
        super().__init__(control, reader, writer)
        # Held while the pipe is full, and for as long as a large message takes.
        self.wlock.brief = False
        self._maxsize = maxsize
        self._unbounded = unbounded
        self._buffer = ReadBuffer()
        self._room: select.poll | None = None
        self._incoming: select.poll | None = None
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
        # A thread of the parent may have been polling: then these say so for ever.
        self._room = self._incoming = None

    def feeder_clock(self) -> FeederClock:
        """Return a clock for this process's feeder that `stats()` in any process can read."""
        return SharedFeederClock(self.slots)

    def mark_closed(self) -> None:
        """Note that this process puts nothing more."""
        self._words[ROWS + self.slots.row * ROW_WORDS + CLOSED] = 1

    def close_writer(self) -> None:
        """Close the write end, as the last act of the feeder."""
        self.mark_closed()
        self._writer.close()

    # ---- writing

    def put_message(self, payload: Buffer) -> None:
        """Count and write one message, for a queue without a feeder."""
        self.slots.acquire()
        for error, _ in self.send_messages((payload,)):
            self.slots.release()
            raise error

    def send_messages(self, payloads: Sequence[Payload]) -> list[tuple[Exception, Buffer]]:
        """Write messages in order, waiting for room in the pipe.

        Returns:
            The messages that could not be written, each with what went wrong.
        """
        words = self._words
        handle = self._writer.fileno()
        # What can be done before the lock is taken.
        writes = writes_of(payloads, _one_piece)
        sizes = [_message_bytes(len(payload)) for payload in payloads]
        sent_word = ROWS + self.slots.row * ROW_WORDS + SENT
        with self.wlock:
            if words[W_STATE]:
                self.recover_writer(reader_locked=False)
            self._announce(sizes, sent_word)
            try:
                for _, pieces in writes:
                    self._write(handle, pieces)
            except OSError as error:
                # The pipe is broken, or closed under our hands. What is in it as a whole was sent.
                self.recover_writer(reader_locked=False)
                torn = words[TORN] - words[BATCH_TORN]
                sent = words[sent_word] - words[BATCH_SENT] - torn
                return [(error, body_of(payload)) for payload in payloads[sent:]]
            words[sent_word] = words[BATCH_SENT] + len(payloads)
            words[W_STATE] = W_IDLE
        return []

    def _announce(self, sizes: Sequence[int], sent_word: int) -> None:
        words, ends, tears = self._words, self._ends, self._tears
        length, count = len(ends), len(sizes)
        first = words[PUBLISHED]
        while first + count - words[CONSUMED] >= length:
            # Only messages shorter than a pickle can get here. Readers make room.
            time.sleep(0.001)
        end = words[W_BYTES]
        slot = first % length
        for size in sizes:
            end += size
            ends[slot] = end
            tears[slot] = 0
            slot += 1
            if slot == length:
                slot = 0
        words[BATCH_FIRST] = first
        words[BATCH_COUNT] = count
        words[BATCH_ROW] = self.slots.row
        words[BATCH_SENT] = words[sent_word]
        words[BATCH_TORN] = words[TORN]
        # From here on it is for whoever takes the lock next to finish or undo the batch.
        words[W_STATE] = W_WRITING
        words[PUBLISHED] = first + count

    def _write(self, handle: int, pieces: Sequence[Buffer]) -> None:
        words = self._words
        seq: int = words[W_SEQ]
        offset: int = words[W_BYTES]
        for piece in pieces:
            remaining = len(piece)
            while remaining:
                words[W_SEQ] = seq + 1
                try:
                    written = os.write(handle, piece)
                except BlockingIOError:
                    written = 0
                except OSError:
                    words[W_SEQ] = seq + 2
                    raise
                offset += written
                words[W_BYTES] = offset
                seq += 2
                words[W_SEQ] = seq
                remaining -= written
                if remaining:
                    # Only a full pipe takes less than it is given.
                    piece = memoryview(piece)[written:]
                    self._await_room()

    def _await_room(self) -> None:
        # Under the write lock, so that no two threads poll the same object at once.
        poller = self._room
        if poller is None:
            poller = self._room = select.poll()
            poller.register(self._writer.fileno(), select.POLLOUT)
        poller.poll()

    # ---- reading

    def receive(self, block: bool = True, timeout: float | None = None) -> Buffer:
        """Return the next message's body.

        Raises:
            Empty: none came in time.
            TruncatedMessage: its writer ended in the middle of it.
            EOFError: every write end is closed.
        """
        deadline = time.monotonic() + timeout if block and timeout is not None else None
        if not self.rlock.acquire(block, timeout):
            raise Empty
        try:
            message = self._take_next(block, deadline)
        finally:
            self.rlock.release()
        if self._words[SPACE_WAITERS]:
            self.slots.wake_putter()
        if isinstance(message, TruncatedMessage):
            raise message
        self.rlock.brief = len(message) <= MAX_JOINED_BYTES
        return message

    def _take_next(self, block: bool, deadline: float | None) -> Buffer | TruncatedMessage:
        words, ends = self._words, self._ends
        seq, start, written, count = words[R_SEQ], words[R_BYTES], words[W_BYTES], words[CONSUMED]
        slot = count % len(ends)
        if written <= start or seq & 1 or start != ends[slot - 1]:
            # Nothing there, or somebody died.
            count = self._settled()
            if words[W_BYTES] <= words[R_BYTES]:
                self._await_message(block, deadline)
            return self._take(count)
        end = ends[slot]
        if end > written or end - start > _BUFFERED_BYTES:
            return self._take(count)
        # The common case in few steps: the next message is small, it is in the pipe as a whole, and
        # nobody has died. The order of the steps is that of _take.
        words[R_SEQ] = seq + 1
        if words[W_STATE] == W_RECOVERING or self._tears[slot]:
            words[R_SEQ] = seq + 2
            return self._take(count)
        message = os.read(self._reader.fileno(), end - start)
        words[R_BYTES] = start + len(message)
        words[R_SEQ] = seq + 2
        words[CONSUMED] = count + 1
        return _body_of(message)

    def _settled(self) -> int:
        # Returns the number of the next message, with the stream at its start.
        words, ends = self._words, self._ends
        while True:
            if words[R_SEQ] & 1:
                self.recover_reader()
            count: int = words[CONSUMED]
            if words[R_BYTES] == ends[count % len(ends) - 1]:
                return count
            # Somebody died, or was interrupted, with part of this one in hand. The rest may still have
            # to come, from a writer that dies before: not to be waited for inside a read.
            self._await_rest(count % len(ends))
            self._take(count, begun=True)

    def _await_message(self, block: bool, deadline: float | None) -> None:
        handle = self._reader.fileno()
        timeout = None
        if not block:
            timeout = 0.0
        elif deadline is not None:
            timeout = deadline - time.monotonic()
        if not readable_within(handle, timeout, self._arrivals()):
            raise Empty

    def _take(self, count: int, begun: bool = False) -> Buffer | TruncatedMessage:
        # Reads message `count` and steps over it. Of one that somebody else has begun to read
        # nothing is returned: what is left of it is no message.
        words, ends = self._words, self._ends
        slot = count % len(ends)
        start: int = ends[slot - 1]
        size: int = ends[slot] - start
        whole = self._buffer.take(size)
        read_into = self._buffer.reader_of(self._reader.fileno())
        position: int = words[R_BYTES]
        seq: int = words[R_SEQ]
        while position < ends[slot]:
            # One read call, inside an odd R_SEQ. A recovering writer moves the message's end only
            # while R_SEQ is even, so the end is looked at again in here.
            words[R_SEQ] = seq + 1
            seq += 2
            end = ends[slot]
            if words[W_STATE] == W_RECOVERING or position >= end:
                words[R_SEQ] = seq
                self._await_rest(slot)
                continue
            taken = read_into(whole[position - start : end - start]) or 0
            position += taken
            words[R_BYTES] = position
            words[R_SEQ] = seq
            if position == end:
                break
            if not taken:
                raise EOFError
            if words[W_BYTES] <= position:
                self._await_rest(slot)
        tear = self._tears[slot]
        if begun and not tear:
            words[LOST_READS] += 1
        words[CONSUMED] = count + 1
        if begun:
            return b""
        if tear:
            return self._truncated(tear, ends[slot] - start)
        return _body_of(whole)

    def _await_rest(self, slot: int) -> None:
        # Returns when there is more of the message, or its end has moved to where we are.
        words, ends = self._words, self._ends
        poller = self._arrivals()
        look_ms = _FIRST_LOOK_MS
        while ends[slot] > words[R_BYTES]:
            if words[W_STATE] != W_RECOVERING and (words[W_BYTES] > words[R_BYTES] or poller.poll(look_ms)):
                return
            self.settle_writer(reader_locked=True)
            if words[W_STATE] == W_RECOVERING:
                time.sleep(0.001)
            look_ms = min(2 * look_ms, _LAST_LOOK_MS)

    def _arrivals(self) -> select.poll:
        # Under the read lock, so that no two threads poll the same object at once.
        poller = self._incoming
        if poller is None:
            poller = self._incoming = poller_of(self._reader.fileno())
        return poller

    def _truncated(self, tear: int, present_bytes: int) -> TruncatedMessage:
        pid, message_bytes = untear(tear)
        body_bytes = _body_bytes(message_bytes)
        header_bytes = message_bytes - body_bytes
        return TruncatedMessage(pid, body_bytes, max(0, present_bytes - header_bytes))

    # ---- looking

    def stats(self, handle: int, feeder: FeederStats | None) -> QueueStats:
        """Return one look at the queue; `feeder` is this process's own."""
        words = self._words
        rows = [row for row in self._control.rows() if alive(row)]
        if len(rows) < len(self._control.rows()):
            self.slots.reap(wait=False)
        consumed = words[CONSUMED]
        return QueueStats(
            robust=True,
            items_in_deque=sum(row.unsent for row in rows),
            messages_in_pipe=max(0, words[PUBLISHED] - consumed),
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
            torn=words[TORN],
            lost=self.slots.lost(),
        )


def _one_piece(payload: Payload) -> list[Buffer]:
    # A reader that finds only the header, because that came with a write of its own, has woken up in vain.
    return [payload.whole] if isinstance(payload, FramedMessage) else pieces_of(payload)


def _message_bytes(body_bytes: int) -> int:
    return body_bytes + (LONG_HEADER_BYTES if body_bytes > MAX_SHORT_BYTES else SHORT_HEADER_BYTES)


def _body_bytes(message_bytes: int) -> int:
    short = message_bytes - SHORT_HEADER_BYTES
    return short if short <= MAX_SHORT_BYTES else message_bytes - LONG_HEADER_BYTES


def _body_of(message: bytes | memoryview) -> Buffer:
    body_bytes = len(message) - SHORT_HEADER_BYTES
    if body_bytes >= 0 and unpack_header(message) == (body_bytes,):
        # A small copy is cheaper than a view.
        return (
            message[SHORT_HEADER_BYTES:] if body_bytes <= MAX_ATOMIC_BYTES else memoryview(message)[SHORT_HEADER_BYTES:]
        )
    body_bytes = len(message) - LONG_HEADER_BYTES
    if message[:LONG_HEADER_BYTES] != header_of(body_bytes):
        raise OSError(f"{len(message)} bytes in the pipe that no put of this queue announced")
    return memoryview(message)[LONG_HEADER_BYTES:]
