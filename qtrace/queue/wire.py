"""The bytes on the pipe: `multiprocessing.connection`'s message format, both directions.

A message is a header and a body. The header is a signed 32-bit big-endian length;
for a body above 0x7fffffff bytes it is -1 followed by an unsigned 64-bit length.
How the bytes are cut into writes is part of the format, because it decides when a
pipe is full: header and body in one write up to 16,384 bytes of body, else one
write each. A batch of small messages shares writes of up to PIPE_BUF bytes: the
kernel makes those whole or not at all (pipe(7)), so that a writer's death tears
none of them, as it tears none that is written alone.

A standard Connection reads what `MessageWriter` writes, and the other way round.
"""

from __future__ import annotations

import io
import os
import select
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from typing import TypeAlias

    Buffer = bytes | bytearray | memoryview
    # A message to be sent: its body, or that with its header.
    Payload: TypeAlias = "Buffer | FramedMessage"

__all__ = [
    "MAX_ATOMIC_BYTES",
    "MAX_JOINED_BYTES",
    "FramedMessage",
    "MessageReader",
    "MessageWriter",
    "ReadBuffer",
    "body_of",
    "header_of",
    "pieces_of",
    "poller_of",
    "readable_within",
    "unpack_header",
    "writes_of",
]

MAX_SHORT_BYTES = 0x7FFFFFFF
# Bodies up to here share a write with their header, as in Connection since 3.4.
MAX_JOINED_BYTES = 16384
# Several messages share a write up to here: PIPE_BUF, below which a write is never cut.
MAX_ATOMIC_BYTES = select.PIPE_BUF
# A read buffer above this size is not kept for the next message.
MAX_KEPT_BYTES = 1 << 20
LONG_MARK = struct.pack("!i", -1)
SHORT_HEADER_BYTES = 4
LONG_HEADER_BYTES = 12

_pack_short = struct.Struct("!i").pack
# The first four bytes of a message as a tuple of one number.
unpack_header = struct.Struct("!i").unpack_from
_unpack_short = struct.Struct("!i").unpack
_pack_long = struct.Struct("!Q").pack
_unpack_long = struct.Struct("!Q").unpack


def header_of(size: int) -> bytes:
    """Return the header of a body of `size` bytes: 4 bytes, or 12 above 2 GiB - 1."""
    if size > MAX_SHORT_BYTES:
        return LONG_MARK + _pack_long(size)
    return _pack_short(size)


class FramedMessage:
    """A message whose body was made behind room for its header, so that both are one buffer.

    Args:
        memory: writable, the body from LONG_HEADER_BYTES on.
        body_bytes: size of the body.
    """

    __slots__ = ("_header_bytes", "whole")

    def __init__(self, memory: memoryview, body_bytes: int) -> None:
        header = header_of(body_bytes)
        start = LONG_HEADER_BYTES - len(header)
        memory[start:LONG_HEADER_BYTES] = header
        self._header_bytes = len(header)
        self.whole = memory[start : LONG_HEADER_BYTES + body_bytes]

    def __len__(self) -> int:
        return len(self.whole) - self._header_bytes

    @property
    def body(self) -> memoryview:
        """The message without its header."""
        return self.whole[self._header_bytes :]


def body_of(payload: Payload) -> Buffer:
    """Return a message's body, whether or not it has a header."""
    return payload.body if isinstance(payload, FramedMessage) else payload


def pieces_of(payload: Payload) -> list[Buffer]:
    """Return one message as the buffers that go to the pipe with one write each."""
    payload = body_of(payload)
    size = len(payload)
    if size > MAX_SHORT_BYTES:
        return [LONG_MARK, _pack_long(size), payload]
    if size > MAX_JOINED_BYTES:
        return [_pack_short(size), payload]
    return [_pack_short(size) + payload]


def writes_of(
    payloads: Sequence[Payload], pieces_of: Callable[[Payload], list[Buffer]] = pieces_of
) -> list[tuple[int, list[Buffer]]]:
    """Return several messages as writes: the same bytes in the same order, in fewer calls.

    Neighbouring small messages share a write as long as that is atomic. So whoever is
    killed or leaves in the middle of it leaves whole messages, as if each had its own.

    Args:
        payloads: the messages.
        pieces_of: cuts one that does not share its write into the buffers for one write each.

    Returns:
        For one message after the other, or several that share a write: how many, and the
        buffers that are one write each.
    """
    if len(payloads) == 1:
        return [(1, pieces_of(payloads[0]))]
    writes: list[tuple[int, list[Buffer]]] = []
    joined: list[Buffer] = []
    room = MAX_ATOMIC_BYTES
    for payload in payloads:
        size = len(payload)
        room -= size + SHORT_HEADER_BYTES
        if room < 0:
            if joined:
                writes.append((len(joined) // 2, [b"".join(joined)]))
                joined = []
            room = MAX_ATOMIC_BYTES - size - SHORT_HEADER_BYTES
            if room < 0:
                writes.append((1, pieces_of(payload)))
                room = MAX_ATOMIC_BYTES
                continue
        # Of this size none has its header already.
        joined += (_pack_short(size), payload)  # type: ignore[arg-type]
    if joined:
        writes.append((len(joined) // 2, [b"".join(joined)]))
    return writes


class MessageWriter:
    """Writes messages to the write end of a pipe. Callers hold the queue's write lock."""

    __slots__ = ("_connection", "_write")

    def __init__(self, connection: Connection, write: Callable[[int, Buffer], int] = os.write) -> None:
        self._connection = connection
        self._write = write

    def send_bytes(self, payload: Buffer) -> None:
        """Write one message, blocking until the pipe has taken all of it."""
        handle = self._connection.fileno()
        for piece in pieces_of(payload):
            self._send(handle, piece)

    def send_messages(self, payloads: Sequence[Payload]) -> list[tuple[Exception, Buffer]]:
        """Write messages in order, neighbouring small ones in one write.

        Returns:
            The messages that could not be written, each with what went wrong. As with
            separate writes, those after it are tried all the same.
        """
        handle = self._connection.fileno()
        failed: list[tuple[Exception, Buffer]] = []
        first = 0
        for count, pieces in writes_of(payloads):
            try:
                for piece in pieces:
                    self._send(handle, piece)
            except Exception as error:  # noqa: BLE001 - goes to the queue's error hook
                failed += [(error, body_of(payload)) for payload in payloads[first : first + count]]
            first += count
        return failed

    def _send(self, handle: int, piece: Buffer) -> None:
        remaining = len(piece)
        written = self._write(handle, piece)
        while written != remaining:
            # A signal can cut a blocking write short after part of it went through (pipe(7)).
            remaining -= written
            piece = memoryview(piece)[written:]
            written = self._write(handle, piece)


class ReadBuffer:
    """Memory for large bodies, used again from message to message.

    A new buffer of 100 KiB for each would be given back to the system and faulted in anew
    each time (malloc's trim threshold): 35 us a message, against 10 for reading it.
    """

    __slots__ = ("_file", "_spare")

    def __init__(self) -> None:
        self._spare: bytearray | None = None
        self._file: io.FileIO | None = None

    def take(self, size: int) -> memoryview:
        """Return a writable buffer of `size` bytes, which nobody else has."""
        spare, self._spare = self._spare, None
        if spare is None or len(spare) < size:
            spare = bytearray(size)
        return memoryview(spare)[:size]

    def give_back(self, body: Buffer) -> None:
        """Keep the memory of a body that has been unpickled, if it came from `take` and is not huge."""
        if type(body) is memoryview and type(body.obj) is bytearray and len(body.obj) <= MAX_KEPT_BYTES:
            self._spare = body.obj

    def reader_of(self, handle: int) -> Callable[[memoryview], int | None]:
        """Return what reads from `handle` into memory: read(2); os.readv would be another call to a tracer."""
        opened = self._file
        if opened is None or opened.fileno() != handle:
            opened = self._file = io.FileIO(handle, "rb", closefd=False)
        return opened.readinto


class MessageReader:
    """Reads messages from the read end of a pipe. Callers hold the queue's read lock.

    Never reads beyond the message: another process may hold the lock next.
    """

    __slots__ = ("_buffer", "_connection", "_read", "give_back")

    def __init__(self, connection: Connection, read: Callable[[int, int], bytes] = os.read) -> None:
        self._connection = connection
        self._read = read
        self._buffer = ReadBuffer()
        self.give_back = self._buffer.give_back

    def recv_bytes(self) -> Buffer:
        """Return the next body, waiting for it.

        A large one is a view of memory that is used again once it was handed to `give_back`.

        Raises:
            EOFError: every write end is closed and no message is left.
            OSError: every write end is closed in the middle of a message.
        """
        connection = self._connection
        # What fileno() returns, in two calls less; None once it is closed.
        handle = connection._handle  # type: ignore[attr-defined]
        if handle is None:
            handle = connection.fileno()
        read = self._read
        header = read(handle, SHORT_HEADER_BYTES)
        if len(header) != SHORT_HEADER_BYTES:
            header = bytes(self._recv(handle, SHORT_HEADER_BYTES, header, end=not header))
        (size,) = _unpack_short(header)
        if size == -1:
            (size,) = _unpack_long(self._recv(handle, 8))
        if size > MAX_JOINED_BYTES:
            return self._recv(handle, size)
        # It came in one write with its header: most often it is there as a whole.
        body = read(handle, size)
        if len(body) == size:
            return body
        return self._recv(handle, size, body, end=not body)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether bytes (or end of file) arrive within `timeout` seconds; None waits for ever."""
        return readable_within(self._connection.fileno(), timeout)

    # The names of the locals are Connection's: whoever looks at a stack sees from them that this
    # is the middle of a message, and how much is missing.
    def _recv(self, handle: int, size: int, begun: bytes = b"", end: bool = False) -> memoryview:
        # Into one buffer: a pipe gives at most what it holds, so a large body comes in chunks,
        # and each os.read() of "the rest" would allocate the whole rest anew.
        body = self._buffer.take(size)
        body[: len(begun)] = begun
        remaining = size - len(begun)
        read_into = self._buffer.reader_of(handle)
        while remaining > 0:
            count = 0 if end else read_into(body[size - remaining :])
            if not count:
                raise end_of_file(at_start=remaining == size)
            remaining -= count
        return body


def end_of_file(*, at_start: bool) -> Exception:
    """Return what Connection raises at end of file: EOFError between messages, else OSError."""
    return EOFError() if at_start else OSError("got end of file during message")


def poller_of(handle: int) -> select.poll:
    """Return what waits until `handle` is readable or hung up. Not to be polled by two threads at once."""
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    return poller


def readable_within(handle: int, timeout: float | None, poller: select.poll | None = None) -> bool:
    """Return whether `handle` becomes readable (or hung up) within `timeout` seconds.

    Args:
        handle: the read end.
        timeout: None waits for ever.
        poller: the `poller_of` this handle, if the caller keeps one.
    """
    poller = poller or poller_of(handle)
    if timeout is None:
        return bool(poller.poll())
    # Rounded up, or the last part of a millisecond would be spent spinning.
    milliseconds = -int(-timeout * 1000 // 1) if timeout > 0 else 0
    return bool(poller.poll(min(milliseconds, 0x7FFFFFFF)))


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("qtrace.queue works on pipes of POSIX systems only")
