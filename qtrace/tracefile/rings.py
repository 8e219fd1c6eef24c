"""Entries and exits from perf's ring buffers to calls, in bulk.

The recorder makes calls of them as it finds the time; what a killed one had only stored as it came
(the table `rings`), the reader makes calls of.

What is guaranteed: of one thread, calls come out in the order in which they were made, and an entry is
paired with its own exit, on whatever CPUs the two were recorded. A row is looked at only when every
ring has been read up to a time after it (the *horizon*): the thread that made it was then seen doing
everything that came before.

Nearly all rows are an entry followed by its exit, and are paired by NumPy at once. What is left (calls
in progress, calls that a signal interrupts, threads that end, gaps) goes through `Threads` one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qtrace.model.records import CALL_FIELDS, CALL_STRUCT, ENTER_BYTES, EXIT_BYTES, CallFlag
from qtrace.model.syscalls import Architecture
from qtrace.tracefile.threads import HEADER_BYTES, LATEST_NS, RESTARTS, SAMPLE, End, OpenCall, Threads

Array = np.ndarray[Any, Any]

ENTER = np.dtype({
    "names": ["type", "size", "pid", "tid", "time", "nr", "args"],
    "formats": ["<u4", "<u2", "<i4", "<i4", "<i8", "<i8", ("<u8", (6,))],
    "offsets": [0, 6, 8, 12, 16, 36, 44],
    "itemsize": ENTER_BYTES,
})  # fmt: skip
"""PERF_RECORD_SAMPLE with TID, TIME and RAW (whose size, 4 bytes, comes before the tracepoint's own
fields: 8 common bytes, id, args)."""
EXIT = np.dtype({
    "names": ["type", "size", "pid", "tid", "time", "nr", "ret"],
    "formats": ["<u4", "<u2", "<i4", "<i4", "<i8", "<i8", "<i8"],
    "offsets": [0, 6, 8, 12, 16, 36, 44],
    "itemsize": EXIT_BYTES,
})  # fmt: skip
_LOST = 2  # PERF_RECORD_LOST
_FIRST_WINDOW = 1 << 10
_HIGHEST = 1 << 15
"""No number of a call is as high: a record that says so is damaged."""
_CALL = np.dtype(CALL_FIELDS)
_FROM_PERF = int(CallFlag.FROM_PERF)
_AT_ATTACH = int(CallFlag.AT_ATTACH)
_UNFINISHED = int(CallFlag.UNFINISHED)
_ENTERS, _EXITS, _ENDS = 0, 1, 2


def records_of(raw: bytes, kind: np.dtype[Any]) -> tuple[list[Array], int]:
    """Return the samples in a ring's bytes, in pieces, and how many the kernel says it had to drop.

    Args:
        raw: What a ring gave: whole records.
        kind: `ENTER` or `EXIT`.
    """
    found: list[Array] = []
    lost = place = 0
    window = _FIRST_WINDOW
    while place < len(raw):
        records = np.frombuffer(raw, kind, min((len(raw) - place) // kind.itemsize, window), place)
        of_perf = (records["type"] == SAMPLE) & (records["size"] == kind.itemsize)
        of_bpf = (records["type"] == kind.itemsize - HEADER_BYTES) & (records["size"] == 0)
        other = np.flatnonzero(~(of_perf | of_bpf))
        count = int(other[0]) if len(other) else len(records)
        if count:
            found.append(records[:count])
            place += count * kind.itemsize
        # Where other records are frequent (damage), not all that follows is looked at again and again.
        window = _FIRST_WINDOW if count < len(records) else window * 2
        if place < len(raw) and (count < len(records) or not len(records)):
            word, size = int.from_bytes(raw[place : place + 4], "little"), raw[place + 6 : place + 8]
            if word == _LOST:
                lost += int.from_bytes(raw[place + 16 : place + 24], "little")  # header, id, lost
            place += max(int.from_bytes(size, "little"), 8)
    return found, lost


class Pairing:
    """Makes calls of rows. One thread feeds it; others may copy `open_calls` and `interrupted`."""

    def __init__(self, machine: Architecture) -> None:
        """Begin with no thread in a call.

        Args:
            machine: Whose numbers the calls have.
        """
        self._threads = Threads(machine)
        self._enters: Array = np.empty(0, ENTER)
        self._exits: Array = np.empty(0, EXIT)
        self._ends: list[End] = []

    @property
    def open_calls(self) -> dict[int, OpenCall]:
        """Calls in progress, by tid."""
        return self._threads.open_calls

    @property
    def interrupted(self) -> dict[int, OpenCall]:
        """Calls that a signal has interrupted and that may go on."""
        return self._threads.interrupted

    @property
    def unpaired(self) -> int:
        """How many entries and exits came without their other half."""
        return self._threads.unpaired

    @property
    def has_waiting(self) -> bool:
        """Whether something was later than the last horizon."""
        return bool(len(self._enters) or len(self._exits) or self._ends)

    def pid_of(self, tid: int) -> int:
        """Return the process of a thread that is in a call."""
        return self._threads.pid_of.get(tid, tid)

    def pending(self, now_ns: int) -> dict[int, bytes]:
        """Return a packed record, by tid, of each call that has not ended."""
        return self._threads.pending(now_ns)

    def state(self, now_ns: int) -> list[tuple[str, bytes]]:
        """Return all from which another one could go on: kinds and contents of rows of the table `rings`."""
        threads = self._threads
        at = threads.interrupted_at
        return [
            ("open", b"".join(threads.packed(threads.open_calls, lambda tid: now_ns).values())),
            ("interrupted", b"".join(threads.packed(threads.interrupted, at.__getitem__).values())),
            ("enter", _as_given(self._enters, ENTER)),
            ("exit", _as_given(self._exits, EXIT)),
        ]

    def go_on_from(self, kind: str, packed: bytes) -> None:
        """Take up calls of another one's `state`: of kind ``open`` or ``interrupted``."""
        threads = self._threads
        for start, spent, tid, pid, number, flags, _, *args, head in CALL_STRUCT.iter_unpack(packed):
            if not (0 <= start < LATEST_NS and 0 <= spent < LATEST_NS and 0 <= number < _HIGHEST):
                continue  # a damaged recording's
            begun = (start, [number, *args], flags & ~_UNFINISHED, head)
            threads.pid_of[tid] = pid
            if kind == "open":
                threads.open_calls[tid] = begun
            else:
                threads.interrupted[tid] = begun
                threads.interrupted_at[tid] = start + spent

    def all_joined(self, time_ns: int) -> None:
        """From now on entries and exits are seen of every thread."""
        self._threads.joined_ns = time_ns

    def left(self, time_ns: int) -> None:
        """From now on neither need be seen any more."""
        self._threads.left_ns = time_ns

    def join(self, tid: int, pid: int, call: list[int] | None, time_ns: int) -> None:
        """Take note of a thread that is there at an attach, and of the call that it is in, if it is in one."""
        self._threads.joined.add(tid)
        if call is not None:
            self._threads.pid_of[tid] = pid
            self._threads.open_calls[tid] = (time_ns, call, _FROM_PERF | _AT_ATTACH, 0)

    def calls(
        self, enters: Sequence[Array], exits: Sequence[Array], ends: Iterable[End], horizon_ns: int
    ) -> tuple[Array, Array]:
        """Return the calls that have ended, as records of `CALL_FIELDS` in no order, and all new entries.

        Args:
            enters: New records of `ENTER`, in pieces each in the order of time.
            exits: Likewise of `EXIT`.
            ends: Threads that have ended.
            horizon_ns: Every ring was read after this: what is later waits for the next time.
        """
        entered, self._enters = _up_to(np.concatenate([self._enters, *enters]), horizon_ns)
        exited, self._exits = _up_to(np.concatenate([self._exits, *exits]), horizon_ns)
        known = [*self._ends, *ends]
        ended = [end for end in known if end.time_ns <= horizon_ns]
        self._ends = [end for end in known if end.time_ns > horizon_ns]
        if not (len(entered) or len(exited) or ended):
            return np.empty(0, _CALL), entered
        return self._paired(entered, exited, ended), entered

    def _paired(self, enters: Array, exits: Array, ends: list[End]) -> Array:
        sizes = len(enters), len(exits), len(ends)
        kind = np.repeat(np.array([_ENTERS, _EXITS, _ENDS], np.int8), sizes)
        place = np.concatenate([np.arange(size) for size in sizes])
        tid = np.concatenate([enters["tid"], exits["tid"], np.array([end.tid for end in ends], np.int32)])
        time = np.concatenate([enters["time"], exits["time"], np.array([end.time_ns for end in ends], np.int64)])
        number = np.concatenate([enters["nr"], exits["nr"], np.zeros(len(ends), np.int64)])
        # By thread, then by time: two stable sorts, of numbers that are nearly in order and of
        # small ones, are several times quicker than one by both.
        order = np.argsort(time, kind="stable")
        rank = _small(tid)
        order = order[np.argsort(rank[order], kind="stable")]
        kind, place, tid, number = kind[order], place[order], tid[order], number[order]
        same = np.append(tid[1:] == tid[:-1], False)  # as the next row
        pair = same & (kind == _ENTERS)
        pair[:-1] &= (kind[1:] == _EXITS) & (number[1:] == number[:-1])
        slow = self._slow_rows(pair, same, kind, place, tid, exits)
        first = np.flatnonzero(pair & ~slow)
        quick = _records(enters[place[first]], exits[place[first + 1]])
        self._one_by_one(np.flatnonzero(slow), kind, place, enters, exits, ends)
        done, self._threads.done = self._threads.done, []
        return np.concatenate([quick, np.frombuffer(b"".join(done), _CALL)]) if done else quick

    def _slow_rows(self, pair: Array, same: Array, kind: Array, place: Array, tid: Array, exits: Array) -> Array:
        # Rows of no pair; a pair that was interrupted; one after such a pair, or after an entry
        # whose exit is missing; the first of a thread that is in a call already.
        restarts = np.zeros(len(kind), bool)
        is_exit = kind == _EXITS
        restarts[is_exit] = np.isin(exits["ret"][place[is_exit]], RESTARTS)
        slow_pair = np.zeros(len(kind), bool)
        slow_pair[1:] = (restarts | ((kind == _ENTERS) & ~pair))[:-1] & same[:-1]
        slow_pair[:-1] |= pair[:-1] & restarts[1:]
        first = np.ones(len(kind), bool)
        first[1:] = ~same[:-1]
        busy = [*self._threads.open_calls, *self._threads.interrupted]
        if busy:
            slow_pair |= first & np.isin(tid, busy)
        in_pair = pair.copy()
        in_pair[1:] |= pair[:-1]
        slow: Array = ~in_pair
        slow |= pair & slow_pair
        slow[1:] |= pair[:-1] & slow_pair[:-1]
        return slow

    def _one_by_one(self, rows: Array, kind: Array, place: Array, enters: Array, exits: Array, ends: list[End]) -> None:
        threads = self._threads
        for what, at in zip(kind[rows].tolist(), place[rows].tolist(), strict=True):
            if what == _ENTERS:
                row = enters[at]
                call = [int(row["nr"]), *row["args"].tolist()]
                threads.enter(int(row["time"]), int(row["pid"]), int(row["tid"]), call)
            elif what == _EXITS:
                row = exits[at]
                threads.exit(int(row["time"]), int(row["tid"]), int(row["nr"]), int(row["ret"]))
            else:
                threads.end(ends[at])
        for tid in [tid for tid in threads.pid_of if tid not in threads.open_calls and tid not in threads.interrupted]:
            del threads.pid_of[tid]


def _small(tid: Array) -> Array:
    """Return numbers in the same order, of 16 bits where that is possible: these sort in one sweep."""
    lowest = int(tid.min())
    if int(tid.max()) - lowest < 1 << 16:
        return (tid - lowest).astype(np.uint16)
    tids, rank = np.unique(tid, return_inverse=True)
    return rank.astype(np.uint16) if len(tids) < 1 << 16 else rank


def _up_to(records: Array, horizon_ns: int) -> tuple[Array, Array]:
    early = records["time"] <= horizon_ns
    if early.all():
        return records, records[:0]
    return records[early], records[~early]


def _records(enters: Array, exits: Array) -> Array:
    found = np.zeros(len(enters), _CALL)
    found["start_ns"] = enters["time"]
    found["dur_ns"] = exits["time"] - enters["time"]
    found["tid"], found["pid"], found["nr"] = enters["tid"], enters["pid"], enters["nr"]
    found["flags"] = _FROM_PERF
    found["ret"] = exits["ret"]
    for number in range(6):
        found[f"a{number}"] = enters["args"][:, number]
    return found


def _as_given(records: Array, kind: np.dtype[Any]) -> bytes:
    # NumPy leaves the gaps between fields out when it joins arrays.
    given = np.zeros(len(records), kind)
    for name in kind.names or ():
        given[name] = records[name]
    return given.tobytes()


def _possible(records: Array) -> Array:
    # The slow way packs numbers anew, and must not stumble over what no kernel gives.
    right = (records["nr"] >= 0) & (records["nr"] < _HIGHEST) & (records["tid"] > 0) & (records["time"] >= 0)
    right &= records["time"] < LATEST_NS
    return records if right.all() else records[right]


@dataclass(frozen=True, slots=True)
class CallsLeft:
    """What rows of the table `rings` hold."""

    ended: Array
    """Records of `CALL_FIELDS`, in no order."""
    pending: list[bytes]
    """Packed records of calls that have not ended."""
    lost: int
    """Entries and exits that the kernel had to drop."""
    unpaired: int


def calls_left(rows: Iterable[tuple[int, int, str, bytes]], ends: Sequence[End], machine: Architecture) -> CallsLeft:
    """Make calls of what a killed recorder had stored as it came.

    Args:
        rows: Of the table `rings`, in order.
        ends: Threads that have ended, at any time.
        machine: Whose numbers the calls have.
    """
    pairing = Pairing(machine)
    pieces: dict[str, list[Array]] = {"enter": [], "exit": []}
    lost = horizon = 0
    for _, time_ns, kind, raw in rows:
        horizon = max(horizon, time_ns)
        if kind in pieces:
            found, gone = records_of(raw, ENTER if kind == "enter" else EXIT)
            pieces[kind] += [_possible(records) for records in found]
            lost += gone
        elif len(raw) % CALL_STRUCT.size == 0:
            pairing.go_on_from(kind, raw)
    # What is later than the last look into all rings may lack what came before it.
    ended, _ = pairing.calls(pieces["enter"], pieces["exit"], ends, horizon)
    return CallsLeft(ended, list(pairing.pending(horizon).values()), lost, pairing.unpaired)
