"""Millions of calls, as few as the verdict at the end needs: what is merged, and when that is exact.

The moment itself was kept by the recorder; of the calls it needs who used what, who took which lock last,
and which message was cut off. So most calls are told by their like:

- whole messages of one write each that a thread put into a descriptor become one message of that many
  bytes, and its reads become one read: the bytes of each stream stay what they were;
- of waits, polls, sleeps, and reads and writes that moved nothing, each thread's last on an object is kept.

All else is kept as it is: rare calls, calls that did not return, everything near the end, and everything
on a descriptor that changed hands about then. Whoever uses the result has to ask `tells_the_end` whether
every merged message was read to its end; otherwise one of them is the one that matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from qtrace.decode.arrays import BoolArray, CallArray, IntArray, architecture_of
from qtrace.decode.streams import MERGED, streams_of
from qtrace.model.records import CALL_FIELDS, CallFlag
from qtrace.model.syscalls import Architecture, Trait, by_number, number_of

if TYPE_CHECKING:
    from qtrace.decode.decoded import Decoded
    from qtrace.tracefile.reader import TraceReader

FROM_CALLS = 300_000
"""Fewer are read as they are."""
KEPT_NS = 1_000_000_000
KEPT_BLOCKS = 3
"""What ended so shortly before the moment, or stands in so many blocks at the end, is kept as it is."""
_LAST_ONLY = (
    "futex", "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "nanosleep", "clock_nanosleep",
)  # fmt: skip
_NEW_PROGRAM = ("execve", "execveat", "exit", "exit_group", "close_range")
LOW = np.uint64(0xFFFFFFFF)
_HEADER = 4
_MIX = np.uint64(0x9E3779B97F4A7C15)


def condensed_calls(reader: TraceReader, until_ns: int) -> CallArray | None:
    """Return the calls of a recording, merged where its last moment does not need them one by one.

    Args:
        reader: The recording.
        until_ns: The moment.

    Returns:
        In the order of entry, as `TraceReader.calls`; None where they have to be read whole.
    """
    if reader.call_count < FROM_CALLS:
        return None
    if reader.meta.get("engine") == "perf":
        from qtrace.decode.condensed_perf import condensed_by_times

        return condensed_by_times(reader, until_ns)
    rules = Rules(architecture_of(reader.meta))
    parts = []
    # A descriptor can change hands in one block, by a call that ends in the next.
    blocks = _with_neighbours(reader.columns())
    left = len(reader.block_ends)
    for before, block, after in blocks:
        if block is None or after is None:
            return None
        left -= 1
        ends = block["start_ns"] + block["dur_ns"]
        if not len(ends) or block["start_ns"].min() < 0 or block["dur_ns"].min() < 0:
            return None
        if left < KEPT_BLOCKS or ends.max() > until_ns - KEPT_NS:
            parts.append(rows_of(block, np.arange(len(ends))))
        else:
            parts.append(rules.condensed(block, ends, [some for some in (before, block, after) if some]))
    parts.append(reader.pending_calls())
    calls = np.concatenate(parts)
    return calls[np.argsort(calls["start_ns"], kind="stable")]


def tells_the_end(decoded: Decoded) -> bool:
    """Return whether every merged message was read to its end, so that none of them is open."""
    streams = streams_of(decoded.calls, decoded.meta, decoded.descriptors, decoded.on)
    if decoded.meta.get("engine") == "perf":
        return streams.whole
    merged = (decoded.calls["flags"][streams.writes.call] & MERGED) != 0
    for stream in np.unique(streams.writes.stream[merged]).tolist():
        part = streams.writes.part(stream)
        upto = np.cumsum(streams.writes.bytes[part])
        if streams.taken(stream) < int(upto[np.flatnonzero(merged[part])[-1]]):
            return False
    return True


Columns = dict[str, np.ndarray[Any, Any]]


def _with_neighbours(
    blocks: Iterator[Columns | None],
) -> Iterator[tuple[Columns | None, Columns | None, Columns | None]]:
    before: Columns | None = {}
    block: Columns | None = next(blocks, {})
    for after in blocks:
        yield before, block, after
        before, block = block, after
    yield before, block, {}


def rows_of(block: Columns, at: IntArray) -> CallArray:
    """Return some calls of a block as records."""
    records = np.empty(len(at), dtype=np.dtype(CALL_FIELDS))
    for name, _ in CALL_FIELDS:
        records[name] = block[name][at]
    return records


class Rules:
    """Which calls may be merged, by the numbers of a machine."""

    def __init__(self, machine: Architecture) -> None:
        self.read, self.write = number_of("read", machine), number_of("write", machine)
        self.futex = number_of("futex", machine)
        self.last_only = numbers_of(machine, _LAST_ONLY)
        self.new_program = numbers_of(machine, _NEW_PROGRAM)
        changing = [row.name for row in by_number(machine).values() if row.traits & Trait.FD]
        self.changing = numbers_of(machine, changing)

    def condensed(self, block: Columns, ends: IntArray, around: list[Columns]) -> CallArray:
        """Return the calls of a block, merged where that may be; `around` are its neighbours and itself."""
        number, ret = block["nr"].astype(np.uint16), block["ret"]
        done = (block["flags"] & int(CallFlag.UNFINISHED)) == 0
        data = self.is_data(number)
        fd = block["a0"] & LOW
        # One that began before this block did may have been on what the descriptor was then.
        free = done & (block["start_ns"] >= ends.min()) & ~self.changes(block, fd, around)
        moved = data & free & (ret > 0)
        moved &= (number == self.read) | self._whole(block)
        alike = free & (self.last_only[number] | (data & (ret <= 0)))
        at = np.flatnonzero(moved | alike)
        about = np.where(number == self.futex, block["a1"], block["head"] & LOW)[at]
        about = np.where(data[at], moved[at].astype(np.uint64), about)
        keys = mixed(block["tid"][at], number[at], np.where(data[at], fd[at], block["a0"][at]), about)
        order = np.argsort(keys, kind="stable")
        begins = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
        last = at[order[np.append(begins[1:], len(order)) - 1]] if len(at) else at
        kept = rows_of(block, np.flatnonzero(~(moved | alike)))
        told = rows_of(block, last)
        if len(last):
            count = np.diff(np.append(begins, len(order)))
            total = np.add.reduceat(np.where(moved, ret, 0)[at][order], begins)
            several = moved[last] & (count > 1) & (total < 1 << 31)
            if not np.array_equal(several, moved[last] & (count > 1)):
                return rows_of(block, np.arange(len(ends)))  # too many bytes for one message's header
            self._become_one(told, several, total)
        return np.concatenate([kept, told])

    def is_data(self, number: np.ndarray[Any, np.dtype[np.uint16]]) -> BoolArray:
        """Return which numbers are those of reads and writes."""
        found: BoolArray = (number == self.read) | (number == self.write)
        return found

    def _become_one(self, told: CallArray, several: BoolArray, total: IntArray) -> None:
        told["ret"][several] = told["a2"][several] = total[several]
        told["flags"][several] |= np.uint16(MERGED)
        writes = several & (told["nr"] == self.write)
        told["head"][writes] = (total[writes] - _HEADER).astype(np.uint32).byteswap()

    def _whole(self, block: Columns) -> BoolArray:
        """Which writes are a message of a Connection each: its length, and as many bytes."""
        length = (block["head"] & LOW).astype(np.uint32).byteswap().view(np.int32).astype(np.int64)
        headed = (block["flags"] & int(CallFlag.HAS_HEAD)) != 0
        found: BoolArray = headed & (length >= 0) & (block["ret"] == length + _HEADER)
        found &= block["a2"] == block["ret"].astype(np.uint64)
        return found

    def changes(self, block: Columns, fd: np.ndarray[Any, Any], around: list[Columns]) -> BoolArray:
        """Return which calls are on a number that a process gave to something else about then, or of a new program."""
        changed: set[int] = set()
        renewed: set[int] = set()
        for some in around:
            number = some["nr"].astype(np.uint16)
            renewed.update(some["pid"][self.new_program[number]].tolist())
            rows = np.flatnonzero(self.changing[number])
            for column in ("a0", "a1", "ret", "head"):
                words = some[column][rows].astype(np.uint64)
                changed.update((words & LOW).tolist())
                changed.update((words >> np.uint64(32)).tolist() if column == "head" else ())
        found: BoolArray = np.isin(block["pid"], list(renewed))
        if changed:
            found |= np.isin(fd, np.array(sorted(changed), dtype=np.uint64)) & ~self.last_only[block["nr"]]
        return found


def numbers_of(machine: Architecture, names: Iterable[str]) -> BoolArray:
    """Return for each number whether it is that of one of some calls."""
    found = np.zeros(1 << 16, dtype=bool)
    found[[number for number in (number_of(name, machine) for name in names) if number is not None]] = True
    return found


def mixed(*columns: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return one number for several: two that differ give the same once in 2**64."""
    found = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        found ^= column.astype(np.uint64)
        found *= _MIX
        found ^= found >> np.uint64(29)
    return found
