"""The same for what the perf engine has recorded: without heads, and with blocks that overlap in time.

While the rings are busy, the frequent calls come into the recording later than the rare ones of the same time. So
all calls that can give a descriptor to something else are looked up first, and a block is judged by those of its time.

Of the perf engine's messages the sizes of single reads and writes tell the lengths (`qtrace.decode.inferred`). Merged
calls have none: of each stream, all up to its last merged write becomes one message, if it was read to its end
(`collapsed`). What follows is told by the calls one by one. The state of each reader is followed through the merged
calls all the same: where somebody reads otherwise than a Connection does (4 bytes, then a body), nothing of the
stream is taken for messages, as it would not be if all calls were there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from qtrace.decode.arrays import BoolArray, CallArray, IntArray, architecture_of
from qtrace.decode.condensed import KEPT_BLOCKS, KEPT_NS, LOW, Columns, Rules, mixed, rows_of
from qtrace.decode.inferred import HEADER_BYTES, TOGETHER_BYTES, UNSEEN
from qtrace.decode.streams import MERGED, UNFRAMED, Streams, Transfers
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture

if TYPE_CHECKING:
    from qtrace.tracefile.reader import TraceReader

_MOST_CHANGES = 1 << 20
"""So many calls on descriptors as such are not compared with every block."""


def condensed_by_times(reader: TraceReader, until_ns: int) -> CallArray | None:
    """Return the calls of a recording of the perf engine: see `qtrace.decode.condensed.condensed_calls`."""
    rules = _PerfRules(architecture_of(reader.meta))
    changes = reader.numbered(rules.changing | rules.new_program)
    if changes is None or len(changes) > _MOST_CHANGES or len(reader.rows("rings")):
        return None
    changes_end = changes["start_ns"] + changes["dur_ns"]
    ends = np.array(reader.block_ends, dtype=np.int64)
    late = np.flatnonzero(ends > until_ns - KEPT_NS)
    exact_from = min(len(ends) - KEPT_BLOCKS, int(late[0]) if len(late) else len(ends))
    parts = []
    for place, block in enumerate(reader.columns()):
        if block is None or block["start_ns"].min() < 0 or block["dur_ns"].min() < 0:
            return None
        if place >= exact_from:
            parts.append(rows_of(block, np.arange(len(block["nr"]))))
            continue
        window = _window(rules, block)
        about_then = changes[(changes["start_ns"] <= window[1]) & (changes_end >= window[0])]
        # What was read must have been written before: reads are kept from a block before the writes on.
        parts.append(rules.condensed_at(block, window[0], about_then, reads=place < exact_from - 1))
    parts.append(reader.pending_calls())
    calls = np.concatenate(parts)
    return calls[np.argsort(calls["start_ns"], kind="stable")]


def _window(rules: Rules, block: Columns) -> tuple[int, int]:
    """Return between which times the frequent calls of a block ended."""
    number = block["nr"].astype(np.uint16)
    ends = (block["start_ns"] + block["dur_ns"])[rules.last_only[number] | rules.is_data(number)]
    return (int(ends.min()), int(ends.max())) if len(ends) else (0, 0)


@dataclass(slots=True)
class _Reader:
    """How far into a message a thread has read from a descriptor."""

    parts: int
    """0: a header is next; 1: a body."""
    rest: int
    """Bytes of the last read that are still to come."""


class _PerfRules(Rules):
    def __init__(self, machine: Architecture) -> None:
        super().__init__(machine)
        self._readers: dict[int, _Reader | None] = {}
        """By thread and descriptor; None where it is not known how far it is."""

    def condensed_at(self, block: Columns, since_ns: int, changes: CallArray, *, reads: bool) -> CallArray:
        """Return the calls of a block, merged where that may be.

        Args:
            block: Its columns.
            since_ns: When the first of its frequent calls ended.
            changes: The calls of that time that may give descriptors to something else.
            reads: Whether reads may be merged.
        """
        number, ret = block["nr"].astype(np.uint16), block["ret"]
        done = (block["flags"] & int(CallFlag.UNFINISHED)) == 0
        data = self.is_data(number)
        fd = block["a0"] & LOW
        around = {name: changes[name] for name in changes.dtype.names or ()}
        changed = self.changes(block, fd, [around])
        # One that began before this block did may have been on what the descriptor was then.
        free = done & (block["start_ns"] >= since_ns) & ~changed
        unframed = self._read_otherwise(block, np.flatnonzero((number == self.read) & done & (ret > 0)), changed)
        moved = free & ~unframed & (ret > 0)
        whole = (ret > HEADER_BYTES) & (ret < TOGETHER_BYTES) & (block["a2"] == ret.astype(np.uint64))
        moved &= ((number == self.read) & reads) | ((number == self.write) & whole)
        alike = free & (self.last_only[number] | (data & (ret <= 0)))
        at = np.flatnonzero(moved | alike)
        about = np.where(number == self.futex, block["a1"], moved.astype(np.uint64))[at]
        keys = mixed(block["tid"][at], number[at], np.where(data[at], fd[at], block["a0"][at]), about)
        order = np.argsort(keys, kind="stable")
        begins = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
        last = at[order[np.append(begins[1:], len(order)) - 1]] if len(at) else at
        told = rows_of(block, last)
        if len(last):
            total = np.add.reduceat(np.where(moved, ret, 0)[at][order], begins)
            gone = moved[last]
            told["ret"][gone] = told["a2"][gone] = total[gone]
            told["flags"][gone] |= np.uint16(MERGED)
        kept = np.flatnonzero(~(moved | alike))
        rows = rows_of(block, kept)
        rows["flags"][unframed[kept]] |= np.uint16(UNFRAMED)
        return np.concatenate([rows, told])

    def _read_otherwise(self, block: Columns, at: IntArray, changed: BoolArray) -> BoolArray:
        """Which reads are of a thread that does not read a descriptor as a Connection does."""
        found = np.zeros(len(block["nr"]), dtype=bool)
        if not len(at):
            return found
        keys = block["tid"][at].astype(np.uint64) << np.uint64(32) | (block["a0"][at] & LOW)
        order = np.argsort(keys, kind="stable")
        begins = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
        for first, stop in zip(begins.tolist(), [*begins[1:].tolist(), len(order)], strict=True):
            rows = at[order[first:stop]]
            key = int(keys[order[first]])
            if changed[rows].any():
                self._readers[key] = None  # both sides of the change are kept as they are
                continue
            asked, got = block["a2"][rows].astype(np.int64), block["ret"][rows]
            known = self._readers.get(key, _Reader(0, 0))
            states = [known] if known is not None else [_Reader(0, 0), _Reader(1, 0)]
            after = [state for state in (_read_on(state, asked, got) for state in states) if state is not None]
            self._readers[key] = after[0] if after else None
            found[rows] = not after
        return found


def _read_on(state: _Reader, asked: IntArray, got: IntArray) -> _Reader | None:
    """Return how far a thread is after some reads; None if they are not those of a Connection."""
    rest = np.concatenate([[state.rest], asked - got])
    goes_on = (rest[:-1] > 0) & (asked == rest[:-1])
    part = np.cumsum(~goes_on) + state.parts - 1
    wrong = (rest[:-1] > 0) & ~goes_on
    wrong |= ~goes_on & (part % 2 == 0) & (asked != HEADER_BYTES)
    return None if wrong.any() else _Reader(int(part[-1] + 1) % 2, int(rest[-1]))


# Streams of merged calls --------------------------------------------------------------------------


def collapsed(streams: Streams, flags: np.ndarray[Any, np.dtype[np.uint16]]) -> Streams | None:
    """Return streams in which all up to the last merged write is one message.

    Args:
        streams: As merged calls give them.
        flags: Of the calls.

    Returns:
        None where merged bytes were not read to the end of a message: then all calls are needed.
    """
    writes, reads = _Collapsing(streams.writes), _Collapsing(streams.reads)
    merged_writes = (flags[streams.writes.call] & MERGED) != 0
    merged_reads = (flags[streams.reads.call] & MERGED) != 0
    unframed = (flags[streams.reads.call] & UNFRAMED) != 0
    with_merged = {*streams.writes.stream[merged_writes].tolist(), *streams.reads.stream[merged_reads].tolist()}
    for stream in with_merged:
        of_writes, of_reads = streams.writes.part(stream), streams.reads.part(stream)
        is_framed = not unframed[of_reads].any()
        ends = _common_end(
            _rows(streams.writes, of_writes),
            _rows(streams.reads, of_reads),
            np.flatnonzero(merged_writes[of_writes]),
            np.flatnonzero(merged_reads[of_reads]),
            is_framed,
        )
        if ends is None:
            return None
        upto = int(streams.writes.bytes[of_writes][: ends[0] + 1].sum())
        first, begin = of_writes.start, of_reads.start
        writes.replace(first, first + ends[0], [upto], upto - HEADER_BYTES if is_framed else UNSEEN)
        reads.replace(begin, begin + ends[1], [HEADER_BYTES, upto - HEADER_BYTES] if is_framed else [upto], UNSEEN)
    return Streams(writes.done(), reads.done(), streams.waited_for)


def _common_end(
    writes: Transfers, reads: Transfers, merged_writes: IntArray, merged_reads: IntArray, is_framed: bool
) -> tuple[int, int] | None:
    """Return which write and which read end at the first end of a message behind all merged ones; None: no such."""
    upto, taken = np.cumsum(writes.bytes), np.cumsum(reads.bytes)
    last = int(merged_writes[-1]) if len(merged_writes) else 0
    least = int(taken[merged_reads[-1]]) if len(merged_reads) else 0
    # A write of 4 bytes may be a header whose body has not been read.
    fits = (np.arange(len(upto)) >= last) & (upto >= least) & (writes.bytes != HEADER_BYTES)
    fits &= np.cumsum(writes.unfinished) == 0
    at = np.flatnonzero(fits)
    read = np.searchsorted(taken, upto[at])
    at, read = at[read < len(taken)], read[read < len(taken)]
    ends = taken[read] == upto[at]
    if is_framed:
        ends &= np.append(reads.asked, HEADER_BYTES)[read + 1] == HEADER_BYTES
    found = np.flatnonzero(ends)
    return (int(at[found[0]]), int(read[found[0]])) if len(found) else None


def _rows(transfers: Transfers, rows: slice | IntArray) -> Transfers:
    return Transfers(**{field.name: getattr(transfers, field.name)[rows] for field in fields(Transfers)})


class _Collapsing:
    """Transfers of which some in a row are replaced by one or two, that are like the last of them but for the size."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers
        self._new: list[tuple[int, int, list[int], int]] = []

    def replace(self, first: int, last: int, sizes: list[int], length: int) -> None:
        """Have some that stand in a row replaced, with their first and last place."""
        self._new.append((first, last, sizes, length))

    def done(self) -> Transfers:
        """Return the rows with all that was replaced."""
        if not self._new:
            return self._transfers
        index, changed, place = [], [], 0
        filled = 0
        for first, last, sizes, length in sorted(self._new):
            index += [np.arange(place, first), np.full(len(sizes), last)]
            filled += first - place
            changed += [(filled + number, size, length) for number, size in enumerate(sizes)]
            filled += len(sizes)
            place = last + 1
        index.append(np.arange(place, len(self._transfers.stream)))
        found = _rows(self._transfers, np.concatenate(index))
        at, size, length_of = (np.array(column, dtype=np.int64) for column in zip(*changed, strict=True))
        found.bytes[at] = found.asked[at] = size
        found.length[at] = length_of
        found.long_length[at] = -2
        return found
