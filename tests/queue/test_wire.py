"""The bytes on the pipe, and how they are cut into writes: the same as a standard Connection's."""

from __future__ import annotations

import mmap
import os
import select
import struct
import threading
from collections.abc import Iterator
from multiprocessing import connection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtrace.queue.wire import MessageReader, MessageWriter, header_of, pieces_of, writes_of

Pipe = tuple[connection.Connection, connection.Connection]

# Around every border of the format that fits into memory.
SIZES = (0, 1, 4, 4095, 4096, 16383, 16384, 16385, 32767, 32768, 65536, 65537, 1_000_000)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe as queues make it: reader, writer."""
    reader, writer = connection.Pipe(duplex=False)
    with reader, writer:
        yield reader, writer


class Recording(connection.Connection):
    """A standard Connection that remembers its writes instead of making them."""

    def __init__(self) -> None:
        self.opened = os.open(os.devnull, os.O_WRONLY)
        super().__init__(self.opened, readable=False)
        self.writes: list[bytes | memoryview] = []

    def _send(self, buf: bytes | memoryview, write: object = None) -> None:
        self.writes.append(buf)


def standard_writes(payload: bytes | memoryview) -> list[bytes | memoryview]:
    """Return the writes that a standard Connection makes for one message."""
    with Recording() as standard:
        standard._send_bytes(payload)  # type: ignore[attr-defined]
        return standard.writes


def body(size: int) -> bytes:
    """Return `size` bytes, no two neighbours alike."""
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def untouched(size: int) -> memoryview:
    """Return a buffer of `size` bytes that takes address space only: nobody touches its pages."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    return memoryview(mmap.mmap(-1, size, flags=flags))


def test_a_header_is_a_signed_32_bit_big_endian_length() -> None:
    """Up to 0x7fffffff the header has four bytes."""
    assert header_of(0) == b"\0\0\0\0"
    assert header_of(0x01020304) == b"\x01\x02\x03\x04"
    assert header_of(0x7FFFFFFF) == b"\x7f\xff\xff\xff"


def test_a_longer_body_has_minus_one_and_a_64_bit_length() -> None:
    """From 0x80000000 on the header is -1 and eight bytes."""
    assert header_of(0x80000000) == b"\xff\xff\xff\xff" + b"\0\0\0\0\x80\0\0\0"


@pytest.mark.parametrize("size", [0, 1, 16383, 16384])
def test_header_and_body_share_a_write_to_16384_bytes(size: int) -> None:
    """A small message is one write."""
    assert pieces_of(body(size)) == [struct.pack("!i", size) + body(size)]


@pytest.mark.parametrize("size", [16385, 65536])
def test_above_16384_bytes_the_body_has_its_own_write(size: int) -> None:
    """A large message is two writes, and the body is not copied."""
    payload = body(size)
    pieces = pieces_of(payload)
    assert pieces == [struct.pack("!i", size), payload]
    assert pieces[1] is payload


@pytest.mark.parametrize("size", [*SIZES, 0x7FFFFFFF, 0x80000000, 0x80000001])
def test_writes_are_cut_as_the_standard_connection_cuts_them(size: int) -> None:
    """All three forms are the standard ones; the last needs no 2 GiB, only an address range of that size."""
    payload = body(size) if size < 0x7FFFFFFF else untouched(size)
    ours, theirs = pieces_of(payload), standard_writes(payload)
    if size < 0x7FFFFFFF:
        assert ours == theirs
    else:
        assert [len(piece) for piece in ours] == [len(piece) for piece in theirs]
        assert b"".join(ours[:-1]) == b"".join(theirs[:-1])
        assert ours[-1] is payload


@pytest.mark.parametrize("size", SIZES)
def test_a_standard_connection_reads_what_we_write(size: int, pipe: Pipe) -> None:
    """Writer ours, reader standard."""
    reader, writer = pipe
    thread = threading.Thread(target=MessageWriter(writer).send_bytes, args=(body(size),))
    thread.start()
    assert reader.recv_bytes() == body(size)
    thread.join()


@pytest.mark.parametrize("size", SIZES)
def test_we_read_what_a_standard_connection_writes(size: int, pipe: Pipe) -> None:
    """Writer standard, reader ours."""
    reader, writer = pipe
    thread = threading.Thread(target=writer.send_bytes, args=(body(size),))
    thread.start()
    assert MessageReader(reader).recv_bytes() == body(size)
    thread.join()


def test_the_long_form_is_read_by_both(pipe: Pipe) -> None:
    """The length decides, not the form: a short body behind a 12-byte header is a message too."""
    reader, writer = pipe
    message = struct.pack("!i", -1) + struct.pack("!Q", 5) + b"hello"
    os.write(writer.fileno(), message)
    assert MessageReader(reader).recv_bytes() == b"hello"
    os.write(writer.fileno(), message)
    assert reader.recv_bytes() == b"hello"


def test_a_write_cut_short_goes_on_where_it_stopped(pipe: Pipe) -> None:
    """A signal can cut a blocking write; nothing is sent twice or left out."""
    reader, writer = pipe
    ours = MessageWriter(writer, lambda handle, piece: os.write(handle, piece[:7]))
    ours.send_messages([body(10), body(1000), body(17000)])
    assert [reader.recv_bytes() for _ in range(3)] == [body(10), body(1000), body(17000)]


def test_a_read_cut_short_goes_on_where_it_stopped(pipe: Pipe) -> None:
    """A pipe gives what it has: header and body may come in pieces."""
    reader, writer = pipe
    writer.send_bytes(body(1000))
    ours = MessageReader(reader, lambda handle, size: os.read(handle, min(size, 3)))
    assert ours.recv_bytes() == body(1000)


def test_a_reader_takes_nothing_of_the_next_message(pipe: Pipe) -> None:
    """The next one may be for another process."""
    reader, writer = pipe
    MessageWriter(writer).send_messages([b"first", b"second"])
    assert MessageReader(reader).recv_bytes() == b"first"
    assert reader.recv_bytes() == b"second"


def test_memory_of_large_bodies_is_used_again(pipe: Pipe) -> None:
    """Once a body was given back, and never before."""
    reader, writer = pipe
    ours = MessageReader(reader)
    for number in range(2):
        writer.send_bytes(bytes([number]) * 20_000)
    one, other = ours.recv_bytes(), ours.recv_bytes()
    assert (one, other) == (bytes(20_000), b"\x01" * 20_000)
    ours.give_back(one)
    writer.send_bytes(b"\x02" * 19_000)
    again = ours.recv_bytes()
    assert isinstance(one, memoryview)
    assert isinstance(again, memoryview)
    assert again.obj is one.obj
    assert (again, other) == (b"\x02" * 19_000, b"\x01" * 20_000)


def test_end_of_file_between_messages_and_in_the_middle_of_one(pipe: Pipe) -> None:
    """EOFError where a message could begin, OSError inside one, as Connection raises them."""
    reader, writer = pipe
    os.write(writer.fileno(), header_of(10) + b"abc")
    writer.close()
    with pytest.raises(OSError, match="got end of file during message"):
        MessageReader(reader).recv_bytes()
    with pytest.raises(EOFError):
        MessageReader(reader).recv_bytes()


def test_end_of_file_in_the_middle_of_a_large_message(pipe: Pipe) -> None:
    """The same for a body that is read into one buffer."""
    reader, writer = pipe
    os.write(writer.fileno(), header_of(50_000) + b"abc")
    writer.close()
    with pytest.raises(OSError, match="got end of file during message"):
        MessageReader(reader).recv_bytes()


def test_poll_says_whether_bytes_are_there(pipe: Pipe) -> None:
    """Also for the last part of a millisecond."""
    reader, writer = pipe
    ours = MessageReader(reader)
    assert not ours.poll()
    assert not ours.poll(0.0001)
    writer.send_bytes(b"x")
    assert ours.poll()
    assert ours.poll(None)


SMALL_AND_LARGE = st.one_of(
    st.integers(0, 40), st.sampled_from([1000, 2046, 4092, 4093, 16380, 16381, 16384, 16385, 20000])
)


@given(st.lists(SMALL_AND_LARGE, min_size=1))
def test_a_batch_is_the_same_bytes_in_fewer_writes(sizes: list[int]) -> None:
    """Batching changes neither the bytes nor their order, and the writes say how many messages are in each."""
    payloads = [body(size) for size in sizes]
    single = [piece for payload in payloads for piece in pieces_of(payload)]
    writes = writes_of(payloads)
    pieces = [piece for _, group in writes for piece in group]
    assert b"".join(pieces) == b"".join(single)
    assert len(pieces) <= len(single)
    first = 0
    for count, group in writes:
        assert b"".join(group) == b"".join(header_of(len(each)) + each for each in payloads[first : first + count])
        first += count
    assert first == len(payloads)


@given(st.lists(SMALL_AND_LARGE, min_size=1))
def test_messages_share_a_write_only_where_it_is_atomic(sizes: list[int]) -> None:
    """PIPE_BUF bytes at most: a write that can be cut holds one message, as a standard one does."""
    for count, group in writes_of([body(size) for size in sizes]):
        assert count == 1 or [len(piece) <= select.PIPE_BUF for piece in group] == [True]


def test_what_cannot_be_written_is_told_and_the_rest_is_tried(pipe: Pipe) -> None:
    """Message by message, as if each had its own write."""
    reader, writer = pipe
    calls = iter(range(100))

    def write(handle: int, piece: bytes | bytearray | memoryview) -> int:
        if next(calls) == 1:
            raise OSError("the second one")
        return os.write(handle, piece)

    small, large = [body(1000)] * 8, body(5000)
    failed = MessageWriter(writer, write).send_messages([*small, large])
    assert [(str(error), payload) for error, payload in failed] == [("the second one", body(1000))] * 4
    assert [reader.recv_bytes() for _ in range(5)] == [*small[:4], large]
    assert not reader.poll()
