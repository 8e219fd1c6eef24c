"""Bytes through pipes and sockets: their level over time, and the messages that they make up.

Each pipe, and each direction of a socketpair, is a *stream*, called after the object that is read
from. Bytes are counted, not seen: the first byte written is the first byte read, so that who read
which message follows from sums alone, whatever the clocks of the traced threads say.

`multiprocessing.connection.Connection` frames a message in one of three ways (CPython 3.7 to 3.13):
up to 16,384 bytes of body, one write of a 4-byte length (``!i``) and the body; above, a write of the
length and a write of the body; above 2 GiB - 1, a write of the length -1, a write of 8 bytes
(``!Q``) with the true one, and the body. A stream whose writes do not fit this is not a
Connection's, and has a level but no messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from qtrace.decode.arrays import (
    BoolArray,
    CallArray,
    IntArray,
    architecture_of,
    chosen,
    distinct,
    ends_of,
    kept,
    parts_of,
)
from qtrace.decode.blocking import unfinished_of
from qtrace.decode.descriptors import Descriptors
from qtrace.decode.inferred import UNSEEN, lengths_from_calls
from qtrace.decode.operands import Operands
from qtrace.model.records import CallFlag

READS = ("read", "readv", "recvfrom", "recvmsg")
WRITES = ("write", "writev", "sendto", "sendmsg")
_SIZED = ("write", "sendto", "read", "recvfrom")
MERGED, UNFRAMED = 1 << 15, 1 << 14
"""In `flags`, never in a file: a merged call (`qtrace.decode.condensed`); and a read of somebody who does not read as
a Connection does."""
_MSG_PEEK = 2
_NEVER = np.int64(1 << 62)
_HEADER, _LONG_HEADER = 4, 12
_PAGE = 4096
_REPLAYED = 2_000


@dataclass(frozen=True, eq=False)
class Transfers:
    """Reads or writes that moved bytes, or are still trying to: sorted by stream, then by their end."""

    stream: IntArray
    """Number of the object that is read from."""
    call: IntArray
    """Place of the call."""
    start_ns: IntArray
    end_ns: IntArray
    """For a call that has not returned: later than any time."""
    bytes: IntArray
    """Moved; for a write that has not returned, asked for."""
    asked: IntArray
    """Asked for; what was moved where that is unknown."""
    length: IntArray
    """The first four bytes as a signed big-endian number; -2 where they are unknown, `UNSEEN` where
    what was asked for may tell them."""
    long_length: IntArray
    """The first eight bytes likewise; -2 where they are unknown."""
    unfinished: BoolArray
    tid: IntArray
    pid: IntArray

    def part(self, stream: int) -> slice:
        """Return where a stream's rows are."""
        return slice(*np.searchsorted(self.stream, [stream, stream + 1]).tolist())


@dataclass(frozen=True, eq=False)
class Messages:
    """Messages through Connections; times are `_NEVER`-free: missing ones are -1."""

    stream: IntArray
    seq: IntArray
    size: IntArray
    """Body in bytes."""
    total: IntArray
    """Header and body."""
    first_byte: IntArray
    """Place of the header's first byte in the stream."""
    sender: IntArray
    sender_pid: IntArray
    write_start_ns: IntArray
    write_end_ns: IntArray
    written: IntArray
    """Bytes of it that writes asked to put in; how much of a write that has not returned did get in
    is not known from here."""
    receiver: IntArray
    read_start_ns: IntArray
    read_end_ns: IntArray
    received: IntArray
    """Bytes of it that reads have taken."""

    @property
    def complete(self) -> BoolArray:
        """Which messages were read to the end."""
        done: BoolArray = self.received >= self.total
        return done


@dataclass(frozen=True, eq=False)
class Fill:
    """Levels of pipes: each from its time until the pipe's next; sorted by stream, then time."""

    stream: IntArray
    time_ns: IntArray
    bytes: IntArray
    capacity: IntArray
    """-1 where it is unknown."""


@dataclass(frozen=True, eq=False)
class Streams:
    """All that was read and written."""

    writes: Transfers
    reads: Transfers
    waited_for: frozenset[int] = frozenset()
    """Streams that a living thread waits to read from: they are empty."""
    whole: bool = True
    """Whether what merged calls of the perf engine have written was read to its end, so that it can be one message."""

    def numbers(self) -> list[int]:
        """Return the streams that were written to or read from."""
        return sorted({*distinct(self.writes.stream), *distinct(self.reads.stream)})

    def written(self, stream: int) -> int:
        """Return how many bytes were put into a stream by writes that returned."""
        part = self.writes.part(stream)
        return int(self.writes.bytes[part][~self.writes.unfinished[part]].sum())

    def taken(self, stream: int) -> int:
        """Return how many bytes were read from a stream."""
        return int(self.reads.bytes[self.reads.part(stream)].sum())


def streams_of(calls: CallArray, meta: Mapping[str, str], descriptors: Descriptors, on: Operands) -> Streams:
    """Return what went through pipes, fifos and socketpairs."""
    architecture = architecture_of(meta)
    count = len(on.objects)
    reads_from = np.full(count + 1, -1, dtype=np.int32)
    writes_to = np.full(count + 1, -1, dtype=np.int32)
    for number, name in enumerate(on.objects):
        kind = name.partition(":")[0]
        if kind in ("pipe", "fifo"):
            reads_from[number] = writes_to[number] = number
        elif kind == "socket" and number < len(descriptors.peers) and descriptors.peers[number] >= 0:
            reads_from[number] = number
            writes_to[number] = descriptors.peers[number]
    reads = chosen(calls, architecture, READS)
    for name, flags in (("recvfrom", "a3"), ("recvmsg", "a2")):
        at = np.flatnonzero(chosen(calls, architecture, [name]))
        reads[at] = (calls[flags][at] & np.uint64(_MSG_PEEK)) == 0
    writes = chosen(calls, architecture, WRITES)
    sized = chosen(calls, architecture, _SIZED)
    waiting = np.flatnonzero(reads & unfinished_of(calls))
    waiting = waiting[(calls["flags"][waiting] & int(CallFlag.KILLED)) == 0]
    found = Streams(
        _transfers(calls, writes, writes_to[on.number], sized, keep_unfinished=True),
        _transfers(calls, reads, reads_from[on.number], sized, keep_unfinished=False),
        frozenset(reads_from[on.number[waiting]].tolist()) - {-1},
    )
    if meta.get("engine") != "perf" or not kept(calls, "merged", lambda: bool((calls["flags"] & MERGED).any())):
        return found
    from qtrace.decode.condensed_perf import collapsed

    return collapsed(found, calls["flags"]) or replace(found, whole=False)


def _transfers(
    calls: CallArray, which: BoolArray, streams: np.ndarray[Any, Any], sized: BoolArray, *, keep_unfinished: bool
) -> Transfers:
    waiting = unfinished_of(calls)
    places = [_moving(calls, which, streams, part, keep_unfinished) for part in parts_of(len(calls))]
    at = np.concatenate([*places, np.zeros(0, dtype=np.int64)])
    # First by end, then by stream, which keeps the former order: two sorts of nearly sorted or
    # small numbers are several times quicker than one by both.
    end = ends_of(calls)[at]
    end[waiting[at]] = _NEVER
    at = at[np.argsort(end, kind="stable")]
    del end
    stream = streams[at]
    narrow = stream.astype(np.uint16) if stream.size and stream.max() < 1 << 16 else stream
    at = at[np.argsort(narrow, kind="stable")]
    found = Transfers(streams[at].astype(np.int64), at, *(np.empty(len(at), dtype) for dtype in _TRANSFER_COLUMNS))
    for part in parts_of(len(at)):
        _fill_in(found, part, calls, waiting, sized)
    return found


_TRANSFER_COLUMNS = (np.int64,) * 6 + (bool,) + (np.int64,) * 2


def _moving(
    calls: CallArray, which: BoolArray, streams: np.ndarray[Any, Any], part: slice, keep_unfinished: bool
) -> IntArray:
    # Places of a part's calls that moved bytes, or are still trying to.
    at = np.flatnonzero(which[part] & (streams[part] >= 0))
    waiting = unfinished_of(calls)[part][at]
    moved = (calls["ret"][part][at] > 0) & ~waiting
    found: IntArray = at[moved | waiting if keep_unfinished else moved] + part.start
    return found


def _fill_in(found: Transfers, part: slice, calls: CallArray, waiting: BoolArray, sized: BoolArray) -> None:
    at = found.call[part]
    unfinished, ret = waiting[at], calls["ret"][at]
    found.unfinished[part] = unfinished
    found.start_ns[part] = calls["start_ns"][at]
    found.end_ns[part] = np.where(unfinished, _NEVER, ends_of(calls)[at])
    found.asked[part] = asked = np.where(sized[at], calls["a2"][at].astype(np.int64), ret)
    found.bytes[part] = np.where(unfinished, np.maximum(asked, 0), ret)
    found.length[part], found.long_length[part] = _lengths(calls, at, asked)
    found.tid[part], found.pid[part] = calls["tid"][at], calls["pid"][at]


def _lengths(calls: CallArray, at: IntArray, asked: IntArray) -> tuple[IntArray, IntArray]:
    flags = calls["flags"][at]
    has_head = (flags & int(CallFlag.HAS_HEAD)) != 0
    head = calls["head"][at]
    short = (head & np.uint64(0xFFFFFFFF)).astype(np.uint32).byteswap().view(np.int32).astype(np.int64)
    long = head.astype(np.uint64).byteswap().view(np.int64)
    from_perf = (flags & int(CallFlag.FROM_PERF)) != 0
    unknown = np.where(from_perf & ~has_head & (asked >= _HEADER), UNSEEN, -2)
    return np.where(has_head & (asked >= _HEADER), short, unknown), np.where(has_head & (asked >= 8), long, -2)


# Messages -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Framed:
    first: IntArray  # place of the first write of each message
    last: IntArray
    size: IntArray
    header: IntArray


_Columns = TypeVar("_Columns", "Messages", "Fill")


def messages_of(streams: Streams) -> Messages:
    """Return every message of every stream that carries a Connection's."""
    parts = []
    for stream in distinct(streams.writes.stream):
        found = _messages_of(streams, stream)
        if found is not None:
            parts.append(found)
    return _joined(Messages, parts)


def _joined(kind: type[_Columns], parts: list[_Columns]) -> _Columns:
    # Column by column, each given up when it has been joined: so not all of millions are there twice.
    if len(parts) == 1:
        return parts[0]
    columns = [vars(part) for part in parts]
    empty = np.zeros(0, dtype=np.int64)
    names = [field.name for field in fields(kind)]
    return kind(**{name: np.concatenate([column.pop(name) for column in columns] or [empty]) for name in names})


def _messages_of(streams: Streams, stream: int) -> Messages | None:
    where = streams.writes.part(stream)
    writes = _rows(streams.writes, where)
    reads = _rows(streams.reads, streams.reads.part(stream))
    length = lengths_from_calls(writes.length, writes.bytes, writes.asked, writes.tid, reads.bytes, reads.asked)
    framed = _frame(replace(writes, length=length))
    if not len(framed.first):
        return None
    upto = np.cumsum(writes.bytes)
    first_byte = upto[framed.first] - writes.bytes[framed.first]
    total = framed.size + framed.header
    written = np.minimum(upto[framed.last] - first_byte, total)
    finished = ~writes.unfinished[framed.last] & (written >= total)
    taken = np.cumsum(reads.bytes)
    received = np.clip((taken[-1] if len(taken) else 0) - first_byte, 0, total)
    begin = np.searchsorted(taken, first_byte, side="right")
    end = np.searchsorted(taken, first_byte + total, side="left")
    begun, whole = received > 0, received >= total
    return Messages(
        stream=np.full(len(framed.first), stream, dtype=np.int64),
        seq=np.arange(len(framed.first)),
        size=framed.size,
        total=total,
        first_byte=first_byte,
        sender=writes.tid[framed.first],
        sender_pid=writes.pid[framed.first],
        write_start_ns=writes.start_ns[framed.first],
        write_end_ns=np.where(finished, writes.end_ns[framed.last], -1),
        written=written,
        receiver=_taken_where(begun, reads.tid, begin),
        read_start_ns=_taken_where(begun, reads.start_ns, begin),
        read_end_ns=_taken_where(whole, reads.end_ns, end),
        received=received,
    )


def _taken_where(condition: BoolArray, values: IntArray, places: IntArray) -> IntArray:
    found = np.full(len(places), -1, dtype=np.int64)
    found[condition] = values[places[condition]]
    return found


def _rows(transfers: Transfers, where: slice | IntArray) -> Transfers:
    return Transfers(**{name: getattr(transfers, name)[where] for name in Transfers.__dataclass_fields__})


def _frame(writes: Transfers) -> _Framed:
    # Nearly all streams are made of whole messages in one write, and of lengths each followed by
    # its body; where bodies cannot be taken for headers, these are told apart all at once.
    size, length, asked = writes.bytes, writes.length, writes.asked
    single = (length >= 0) & (asked == length + _HEADER) & (size == asked) & ~writes.unfinished
    pair = np.zeros(len(size), dtype=bool)
    pair[:-1] = (length[:-1] > 0) & (size[:-1] == _HEADER) & (size[1:] == length[:-1]) & ~writes.unfinished[1:]
    body = np.zeros(len(size), dtype=bool)
    body[1:] = pair[:-1]
    starts = single | pair
    if np.all(starts ^ body):
        first = np.flatnonzero(starts)
        return _Framed(first, first + pair[first], length[first], np.full(len(first), _HEADER))
    rows = list(_walk(writes, single))
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    first, last, body_size, header = (table[:, column] for column in range(4))
    return _expanded(first, last, body_size, header, length)


def _expanded(first: IntArray, last: IntArray, size: IntArray, header: IntArray, length: IntArray) -> _Framed:
    # Rows with a size of -1 stand for a run of messages of one write each.
    runs = np.where(size < 0, last - first + 1, 1)
    row = np.repeat(np.arange(len(runs)), runs)
    place = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(runs) - runs, runs)
    in_run = size[row] < 0
    return _Framed(
        place,
        np.where(in_run, place, last[row]),
        np.where(in_run, length[place], size[row]),
        np.where(in_run, _HEADER, header[row]),
    )


def _walk(writes: Transfers, single: BoolArray) -> Iterator[tuple[int, int, int, int]]:
    # (first, last, body, header) of each message in turn; runs of single writes as one row, body -1.
    count = len(single)
    others = np.flatnonzero(~single)
    size, length, asked, long_length = (
        column.tolist() for column in (writes.bytes, writes.length, writes.asked, writes.long_length)
    )
    place, other = 0, 0
    while place < count:
        while other < len(others) and others[other] < place:
            other += 1
        stop = int(others[other]) if other < len(others) else count
        if stop > place:
            yield place, stop - 1, -1, _HEADER
            place = stop
            continue
        header, body = _header_at(place, length, asked, long_length, size)
        if header == 0:
            return  # not a Connection's, or no more
        last, got = place, size[place]
        while got < header + body and last + 1 < count:
            last += 1
            got += size[last]
        if got > header + body:
            return
        yield place, last, body, header
        place = last + 1


def _header_at(
    place: int, length: list[int], asked: list[int], long_length: list[int], size: list[int]
) -> tuple[int, int]:
    if length[place] >= 0 and asked[place] in (_HEADER, length[place] + _HEADER):
        return _HEADER, length[place]
    if length[place] == -1 and size[place] == _HEADER and place + 1 < len(size) and size[place + 1] == 8:
        return (_LONG_HEADER, long_length[place + 1]) if long_length[place + 1] >= 0 else (0, 0)
    return 0, 0


# Level --------------------------------------------------------------------------------------------


def fill_of(
    streams: Streams, descriptors: Descriptors, on: Operands, known: Mapping[int, tuple[int, int]] | None = None
) -> Fill:
    """Return the level of each pipe over time.

    A write counts from its entry (what a reader takes must have been put in before), a read from its
    return; what does not fit is still in the writer's hands, so the level never exceeds the
    capacity. A pipe is full below its capacity where writes did not fill their pages (pipe(7)): how
    full it is under a write that has not returned is what the kernel said (`known`), or follows from
    its rule.

    Args:
        streams: What was read and written.
        descriptors: The replay: capacities, and which pipes were made under the tracer. Of others
            some of the bytes may not have been recorded, and they have a level only if both ends were used.
        on: Names of the objects.
        known: (time, level) that was seen while a pipe was full, by number.
    """
    parts = [
        _level_of(streams, stream, descriptors, (known or {}).get(stream))
        for stream in streams.numbers()
        if on.objects[stream].startswith("pipe:") and _is_whole(streams, stream, descriptors)
    ]
    return _joined(Fill, parts)


def _is_whole(streams: Streams, stream: int, descriptors: Descriptors) -> bool:
    if stream < len(descriptors.nodes) and descriptors.nodes[stream].creator_pid is not None:
        return True
    return bool(streams.written(stream) and streams.taken(stream))


def _level_of(streams: Streams, stream: int, descriptors: Descriptors, known: tuple[int, int] | None) -> Fill:
    writes = _rows(streams.writes, streams.writes.part(stream))
    reads = _rows(streams.reads, streams.reads.part(stream))
    written = writes.bytes
    if writes.unfinished.any():
        written = np.where(writes.unfinished, 0, written)
        first = int(np.argmax(writes.unfinished))
        got = _put_in_by_unfinished(streams, stream, descriptors, known) - int(written.sum())
        written[first] = min(max(got, 0), int(writes.bytes[first]))
    time = np.concatenate([writes.start_ns, reads.end_ns])
    order = np.argsort(time, kind="stable")
    time = time[order]
    level = np.cumsum(np.concatenate([written, -reads.bytes])[order])
    capacity = _capacities(descriptors, stream, time)
    level = np.clip(level, 0, np.where(capacity >= 0, capacity, _NEVER))
    return Fill(np.full(len(time), stream, dtype=np.int64), time, level, capacity)


def _put_in_by_unfinished(
    streams: Streams, stream: int, descriptors: Descriptors, known: tuple[int, int] | None
) -> int:
    # All bytes that were ever put in, where the last write has not returned: what was taken, and
    # what lies in the pipe. A reader that waits there says that nothing does; then the kernel's word,
    # if somebody asked it (a writer that lives fills up again what was taken since); then its rule.
    taken = streams.taken(stream)
    if stream in streams.waited_for:
        return taken
    if known is not None:
        return taken + known[1]
    last = descriptors.nodes[stream].capacities[-1:] if stream < len(descriptors.nodes) else []
    return taken + level_of_blocked(streams, stream, last[0][1] if last else None)


def _capacities(descriptors: Descriptors, stream: int, time: IntArray) -> IntArray:
    changes = descriptors.nodes[stream].capacities if stream < len(descriptors.nodes) else []
    if not changes:
        return np.full(len(time), -1, dtype=np.int64)
    sizes = np.array([size for _, size in changes], dtype=np.int64)
    place = np.searchsorted([at for at, _ in changes], time, side="right") - 1
    return sizes[np.maximum(place, 0)]


def number_map(values: Mapping[str, Any], objects: list[str]) -> dict[int, Any]:
    """Return the values by object number instead of object id."""
    places = {name: number for number, name in enumerate(objects)}
    return {places[name]: value for name, value in values.items() if name in places}


def level_of_blocked(streams: Streams, stream: int, capacity: int | None) -> int:
    """Return how much a pipe holds whose writer waits for room, by the kernel's rule for its pages.

    A pipe is a ring of pages. A write first fills up the last page with what is left over after
    whole pages, if that fits, and then takes a page for each 4096 bytes (fs/pipe.c, pipe_write): so a
    4-byte header takes a page that a large body can share only with its odd bytes. The last
    `_REPLAYED` writes are replayed. Where the waiting write itself has been read from, pages are
    free in parts, and the level is that of a pipe it has just filled anew.
    """
    slots = capacity // _PAGE if capacity is not None and capacity >= _PAGE else 16
    writes = _rows(streams.writes, streams.writes.part(stream))
    first = max(len(writes.bytes) - _REPLAYED, 0)
    taken = max(streams.taken(stream) - int(writes.bytes[:first].sum()), 0)
    pages: list[int] = []
    done = ~writes.unfinished
    for size in writes.bytes[first:][done[first:]].tolist():
        _put_pages(pages, size, len(pages) + size // _PAGE + 2)
    lying = sum(pages) - taken
    while pages and taken >= pages[0]:
        taken -= pages.pop(0)
    if lying <= 0:
        pages, taken = [], max(-lying, 0)  # what was taken beyond came from the write that waits
    for size in writes.bytes[~done].tolist():
        _put_pages(pages, size - taken if not pages else size, slots)
        taken = 0 if lying <= 0 else taken
    return max(sum(pages) - taken, 0)


def _put_pages(pages: list[int], size: int, slots: int) -> None:
    odd = size % _PAGE
    if odd and pages and pages[-1] + odd <= _PAGE:
        pages[-1] += odd
        size -= odd
    while size > 0 and len(pages) < slots:
        pages.append(min(size, _PAGE))
        size -= pages[-1]
