"""Bytes are conserved, and messages come out as they went in, whatever their size and however they were read."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrace.decode.descriptors import Descriptors, replay
from qtrace.decode.operands import Operands, Words, operands
from qtrace.decode.streams import Messages, Streams, fill_of, messages_of, streams_of
from qtrace.model.records import CALL_FIELDS, CallFlag
from tests.tracefile.recordings import packed

META = {"architecture": "x86_64"}
CASES = int(os.environ.get("QTRACE_FUZZ", "100"))
SMALL = 16_384
LONG = 0x7FFFFFFF


@dataclass
class Pipe:
    """One pipe between a writer (tid 201, descriptor 4) and readers (descriptor 3), as calls."""

    calls: list[bytes] = field(default_factory=list)
    now: int = 1_000

    def __post_init__(self) -> None:
        self.calls.append(packed(10, 5, 100, "pipe2", (0, 0), 0, head=struct.pack("<ii", 3, 4)))
        self.sightings = [(900, 100, 3, "pipe:[7]", "pipe:[7]", "r", 65_536)]

    def write(
        self, asked: int, head: bytes, *, got: int | None = None, tid: int = 201, unfinished: bool = False
    ) -> None:
        """A write of `asked` bytes."""
        flags = int(CallFlag.UNFINISHED) if unfinished else 0
        ret = 0 if unfinished else asked if got is None else got
        call = packed(self.now, 10, 201, "write", (4, 0, asked), ret, pid=100, head=head[:8], flags=flags)
        self.calls.append(call)
        self.now += 20

    def send(self, size: int, body: bytes = b"\1\2\3\4") -> None:
        """A message as Connection.send_bytes writes it."""
        if size > LONG:
            self.write(4, struct.pack("!i", -1))
            self.write(8, struct.pack("!Q", size))
            self.write(size, body)
        elif size > SMALL:
            self.write(4, struct.pack("!i", size))
            self.write(size, body)
        else:
            self.write(4 + size, struct.pack("!i", size) + body[:size])

    def read(self, got: int, tid: int = 300) -> None:
        """A read that returned so many bytes."""
        self.calls.append(packed(self.now, 10, tid, "read", (3, 0, got), got, pid=100))
        self.now += 20

    def decoded(self) -> tuple[Streams, Descriptors, Operands]:
        """Return what the decoder makes of it."""
        records = np.frombuffer(b"".join(self.calls), dtype=np.dtype(CALL_FIELDS))
        descriptors = replay(records, META, [], self.sightings)
        on = operands(records, META, descriptors, Words([], []))
        return streams_of(records, META, descriptors, on), descriptors, on

    def messages(self) -> Messages:
        """Return its messages."""
        return messages_of(self.decoded()[0])


_SIZES = st.one_of(
    st.integers(0, 40),
    st.integers(SMALL - 3, SMALL + 3),
    st.integers(65_000, 70_000),
    st.sampled_from([LONG, LONG + 1, 1 << 33]),
)


@settings(max_examples=CASES, deadline=None)
@given(
    sizes=st.lists(_SIZES, max_size=30),
    bodies=st.binary(min_size=8, max_size=8),
    pieces=st.lists(st.integers(1, 1 << 16), min_size=1),
    share=st.floats(0, 1),
)
def test_fuzz_messages_come_out_as_they_went_in(
    sizes: list[int], bodies: bytes, pieces: list[int], share: float
) -> None:
    """All three forms of header, any body, read in any pieces and not to the end."""
    pipe = Pipe()
    for size in sizes:
        pipe.send(size, bodies)
    headers = [12 if size > LONG else 4 for size in sizes]
    total = sum(sizes) + sum(headers)
    wanted = taken = int(total * share)
    if total > 1 << 24:
        pieces = [piece << 14 for piece in pieces]
    at = 0
    while taken:
        got = min(taken, pieces[at % len(pieces)])
        pipe.read(got, 300 + at % 2)
        taken -= got
        at += 1
    found = pipe.messages()
    assert found.size.tolist() == sizes
    ends = np.cumsum(np.array(sizes, dtype=np.int64) + np.array(headers, dtype=np.int64))
    assert found.complete.tolist() == [int(end) <= wanted for end in ends]
    assert int(found.received.sum()) == wanted
    assert np.all(found.receiver[found.received > 0] >= 300)
    assert np.all(found.receiver[found.received == 0] == -1)
    streams, descriptors, on = pipe.decoded()
    number = on.objects.index("pipe:[7]")
    assert streams.written(number) == total
    assert streams.written(number) - streams.taken(number) == total - wanted
    fill = fill_of(streams, descriptors, on)
    assert np.all((fill.bytes >= 0) & (fill.bytes <= 65_536))
    if total - wanted <= 65_536 and total:
        assert int(fill.bytes[-1]) == total - wanted


def test_a_body_that_looks_like_a_header_is_a_body() -> None:
    """A large body may begin with bytes that would be a length, of itself or of the next write."""
    pipe = Pipe()
    size = 20_000
    for disguise in (size - 4, size, 4, 0):
        pipe.send(size, struct.pack("!i", disguise))
    pipe.send(4, struct.pack("!i", 0))
    assert pipe.messages().size.tolist() == [size] * 4 + [4]


def test_a_message_cut_short_by_its_writer() -> None:
    """The seed's torn message: 61,496 of 65,592 bytes were received, the write never returned."""
    pipe = Pipe()
    pipe.send(10)
    pipe.read(14)
    pipe.write(4, struct.pack("!i", 65_592))
    pipe.write(65_592, b"\x80\5", unfinished=True)
    pipe.read(4)
    pipe.read(61_496)
    found = pipe.messages()
    assert found.size.tolist() == [10, 65_592]
    assert found.received.tolist() == [14, 61_500]
    assert found.complete.tolist() == [True, False]
    assert found.write_end_ns.tolist() == [1_010, -1]
    assert found.read_end_ns.tolist()[1] == -1


def test_a_body_written_in_parts() -> None:
    """A write that a signal cut short goes on where it stopped."""
    pipe = Pipe()
    pipe.write(4, struct.pack("!i", 100_000))
    pipe.write(100_000, b"\1" * 8, got=60_000)
    pipe.write(40_000, b"\0\0\0\4")
    pipe.write(54, struct.pack("!i", 50), got=30)
    pipe.write(24, b"\0\0\0\x14")
    pipe.send(3)
    assert pipe.messages().size.tolist() == [100_000, 50, 3]


@pytest.mark.parametrize("first", [b"hello world", b"\0", b"\x80\5\x95\0", struct.pack("<q", 12_345)])
def test_other_bytes_are_no_messages(first: bytes) -> None:
    """Text, single bytes, pickles without a length: a level, but no messages."""
    pipe = Pipe()
    pipe.write(len(first), first)
    pipe.write(len(first), first)
    pipe.read(len(first))
    assert len(pipe.messages().seq) == 0
    streams, descriptors, on = pipe.decoded()
    assert fill_of(streams, descriptors, on).bytes.tolist() == [len(first), 2 * len(first), len(first)]


def test_a_reader_that_waited_before_the_write_began_makes_no_negative_level() -> None:
    """Read: 1000 to 2000; write: 1900 to 2100. The bytes were in the pipe from 1900 to 2000."""
    pipe = Pipe()
    pipe.calls.append(packed(1_000, 1_000, 300, "read", (3, 0, 4), 4, pid=100))
    pipe.calls.append(packed(1_900, 200, 201, "write", (4, 0, 4), 4, pid=100, head=b"\0\0\0\0"))
    streams, descriptors, on = pipe.decoded()
    fill = fill_of(streams, descriptors, on)
    assert list(zip(fill.time_ns.tolist(), fill.bytes.tolist(), strict=True)) == [(1_900, 4), (2_000, 0)]


def test_a_blocked_write_fills_the_pipe_as_far_as_was_seen() -> None:
    """The rule of pages says 61,500 of 65,536 bytes; what the kernel said goes before it."""
    pipe = Pipe()
    pipe.write(4, struct.pack("!i", 65_592))
    pipe.write(65_592, b"\x80\5", unfinished=True)
    streams, descriptors, on = pipe.decoded()
    number = on.objects.index("pipe:[7]")
    assert fill_of(streams, descriptors, on).bytes.tolist() == [4, 61_500]
    seen = fill_of(streams, descriptors, on, {number: (5_000, 61_000)})
    assert seen.bytes.tolist() == [4, 61_000]
    assert seen.capacity.tolist() == [65_536, 65_536]


def test_a_pipe_that_is_waited_for_is_empty_whoever_died_at_the_other_end() -> None:
    """What a dead writer put in is what was read: 61,500 lay there until they were taken."""
    pipe = Pipe()
    pipe.write(4, struct.pack("!i", 65_592))
    pipe.write(65_592, b"\x80\5", unfinished=True)
    pipe.read(4)
    pipe.read(61_496)
    pipe.calls.append(packed(pipe.now, 10, 300, "read", (3, 0, 4_096), pid=100, flags=int(CallFlag.UNFINISHED)))
    streams, descriptors, on = pipe.decoded()
    assert fill_of(streams, descriptors, on).bytes.tolist() == [4, 61_500, 61_496, 0]


def test_both_directions_of_a_socketpair_are_streams_of_their_readers() -> None:
    """What is written to one socket is read from the other."""
    calls = [
        packed(10, 5, 100, "socketpair", (1, 1, 0), 0, head=struct.pack("<ii", 3, 4)),
        packed(100, 5, 100, "write", (3, 0, 9), 9, head=struct.pack("!i", 5)),
        packed(110, 5, 101, "read", (4, 0, 4), 4, pid=100),
        packed(120, 5, 101, "read", (4, 0, 5), 5, pid=100),
        packed(130, 5, 101, "write", (4, 0, 6), 6, pid=100, head=struct.pack("!i", 2)),
    ]
    records = np.frombuffer(b"".join(calls), dtype=np.dtype(CALL_FIELDS))
    sightings = [(90, 100, fd, f"socket:[{fd - 2}]", f"socket:[{fd - 2}]", "rw", None) for fd in (3, 4)]
    descriptors = replay(records, META, [], sightings)
    on = operands(records, META, descriptors, Words([], []))
    found = messages_of(streams_of(records, META, descriptors, on))
    named = [(on.objects[stream], size) for stream, size in zip(found.stream, found.size, strict=True)]
    assert sorted(named) == [("socket:[1]", 2), ("socket:[2]", 5)]
    assert sorted(found.complete.tolist()) == [False, True]
