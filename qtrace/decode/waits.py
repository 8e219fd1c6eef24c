"""Blocked intervals, what each was for, and which thread ended it.

Who ends a wait is known best where bytes or results are counted: the writer of the first byte that
a waiting reader got, the child whose pid wait4 returned. For futexes it is the last wake on the same
word before the waiter came back; for room in a pipe, the last read that began before. A wait that
the clock, a signal or the outside ended has no waker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qtrace.decode.arrays import BoolArray, CallArray, IntArray, chosen, distinct, ends_of
from qtrace.decode.blocking import blocked, floor_of, futex_waits, futex_wakes
from qtrace.decode.decoded import Decoded
from qtrace.decode.streams import READS, WRITES, Streams
from qtrace.model.kinds import WaitKind
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import by_number

KINDS: list[WaitKind] = list(WaitKind)
"""A kind's number is its place here."""

_BY_CALL: Mapping[WaitKind, tuple[str, ...]] = {
    WaitKind.LOCK: ("futex", "futex_wait", "futex_waitv"),
    WaitKind.CHILD_EXIT: ("wait4", "waitid", "vfork", "clone", "clone3"),
    WaitKind.POLL: ("poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2"),
    WaitKind.SLEEP: ("nanosleep", "clock_nanosleep"),
    WaitKind.FILE_LOCK: ("flock", "fcntl"),
    WaitKind.SIGNAL: ("pause", "rt_sigsuspend", "rt_sigtimedwait"),
    WaitKind.ACCEPT: ("accept", "accept4"),
    WaitKind.CONNECT: ("connect",),
    WaitKind.TIMEOUT: ("restart_syscall",),
}
_READ_KINDS = {
    "pipe": WaitKind.PIPE_EMPTY, "fifo": WaitKind.PIPE_EMPTY, "socket": WaitKind.SOCKET_EMPTY,
    "eventfd": WaitKind.EVENTFD, "clock": WaitKind.SLEEP, "signal": WaitKind.SIGNAL,
}  # fmt: skip
_WRITE_KINDS = {
    "pipe": WaitKind.PIPE_FULL, "fifo": WaitKind.PIPE_FULL, "socket": WaitKind.SOCKET_FULL,
    "eventfd": WaitKind.EVENTFD,
}  # fmt: skip
_FUTEX_PRIVATE = 128
_TOLD_LATER_NS = 100_000_000
"""A process that exits closes its descriptors before its parent, and the tracer, are told of the exit."""
_SLOWEST_FILE_NS = 10_000_000
"""A read of a file is work for the disk, not a wait, up to ten milliseconds: on a busy machine the many short
reads of an import last so long because their thread is not given a processor."""


@dataclass(frozen=True, eq=False)
class Waits:
    """Blocked intervals in the order of their begin."""

    call: IntArray
    """Place of the call."""
    kind: np.ndarray[Any, np.dtype[np.int8]]
    """Number in `KINDS`."""
    woken_by: IntArray
    """tid; -1: nobody, or unknown."""
    woken_ns: IntArray
    """When that thread did what ended the wait; -1 where nobody did."""
    floor_ns: int
    """Shorter intervals are not told from the cost of tracing."""


def waits_of(decoded: Decoded, streams: Streams) -> Waits:
    """Return every blocked interval."""
    calls, meta = decoded.calls, decoded.meta
    floor = floor_of(calls, meta)
    waited = blocked(calls, meta, floor)
    waited[_served_at_once(decoded, streams)] = False
    at = np.flatnonzero(waited)
    kind = _kinds(decoded, at)
    keep = ~((kind == KINDS.index(WaitKind.EXTERNAL)) & _on_files(decoded, at))
    at, kind = at[keep], kind[keep]
    woken_by = np.full(len(at), -1, dtype=np.int64)
    woken_ns = np.full(len(at), -1, dtype=np.int64)
    place = np.full(len(calls), -1, dtype=np.int64)
    place[at] = np.arange(len(at))
    for rows, tids, times in (
        _by_futex(decoded, at, kind),
        _by_writer(calls, streams, place),
        _by_reader(calls, streams, place),
        _by_closing(decoded, at, kind),
        _by_child(decoded, at),
        _by_thread_end(decoded, at, kind),
        _by_poll(decoded, streams, at, kind),
    ):
        woken_by[rows], woken_ns[rows] = tids, times
    own = woken_by == calls["tid"][at]
    waiting = (calls["flags"][at] & int(CallFlag.UNFINISHED)) != 0
    woken_by[own | waiting] = woken_ns[own | waiting] = -1
    ends = ends_of(calls)[at]
    return Waits(at, kind, woken_by, np.where(woken_by >= 0, np.minimum(woken_ns, ends), -1), floor)


def _served_at_once(decoded: Decoded, streams: Streams) -> IntArray:
    # On a busy machine a call takes long because its thread is not given a processor. Bytes tell:
    # a read did not wait whose first byte had been written before it began, nor a write that found
    # at least half of the pipe empty (whole pages can be lost to small writes, but not half of all).
    found = []
    for stream in streams.numbers():
        writes, reads = streams.writes.part(stream), streams.reads.part(stream)
        written, taken = np.cumsum(streams.writes.bytes[writes]), np.cumsum(streams.reads.bytes[reads])
        source = np.searchsorted(written, taken - streams.reads.bytes[reads], side="right")
        known = np.flatnonzero(source < len(written))
        early = streams.writes.end_ns[writes][source[known]] < streams.reads.start_ns[reads][known]
        found.append(streams.reads.call[reads][known[early]])
        capacity = decoded.descriptors.capacity_at(stream, decoded.end_ns)
        if capacity is not None and len(written):
            gone = np.searchsorted(streams.reads.end_ns[reads], streams.writes.start_ns[writes], side="right")
            level = written - np.concatenate([[0], taken])[gone]
            room = (level <= capacity // 2) & ~streams.writes.unfinished[writes]
            found.append(streams.writes.call[writes][room])
    return np.concatenate([*found, np.zeros(0, dtype=np.int64)])


# Kinds --------------------------------------------------------------------------------------------


def _kinds(decoded: Decoded, at: IntArray) -> np.ndarray[Any, np.dtype[np.int8]]:
    calls, architecture = decoded.calls, decoded.architecture
    by_number_of_call = np.full(1 << 16, KINDS.index(WaitKind.EXTERNAL), dtype=np.int8)
    names = {row.name: number for number, row in by_number(architecture).items()}
    for kind, members in _BY_CALL.items():
        for name in members:
            if name in names:
                by_number_of_call[names[name]] = KINDS.index(kind)
    kinds = by_number_of_call[calls["nr"][at].astype(np.uint16)]
    objects = decoded.on.objects
    for table, names_of_calls in ((_READ_KINDS, READS), (_WRITE_KINDS, WRITES)):
        by_object = np.array(
            [KINDS.index(table.get(name.partition(":")[0], WaitKind.EXTERNAL)) for name in objects]
            + [KINDS.index(WaitKind.EXTERNAL)],
            dtype=np.int8,
        )
        mine = chosen(calls, architecture, names_of_calls)[at]
        kinds[mine] = by_object[decoded.on.number[at][mine]]
    kinds[_sleeps(calls, decoded, at)] = KINDS.index(WaitKind.SLEEP)
    gil = np.zeros(len(objects) + 1, dtype=bool)
    for number, mapping in decoded.on.mapping.items():
        gil[number] = _is_interpreter(mapping, decoded.processes)
    futex = kinds == KINDS.index(WaitKind.LOCK)
    kinds[futex & gil[decoded.on.number[at]]] = KINDS.index(WaitKind.GIL)
    kinds[futex & _joins_thread(decoded, at)] = KINDS.index(WaitKind.THREAD_JOIN)
    return kinds


def _sleeps(calls: CallArray, decoded: Decoded, at: IntArray) -> BoolArray:
    # A poll of nothing is a sleep.
    found: BoolArray = chosen(calls, decoded.architecture, ["poll", "ppoll"])[at] & (calls["a1"][at] == 0)
    found |= chosen(calls, decoded.architecture, ["select", "pselect6"])[at] & (calls["a0"][at] == 0)
    return found


def _is_interpreter(mapping: str, processes: Iterable[tuple[Any, ...]]) -> bool:
    # The interpreter lock lies in the static data (_PyRuntime) of python or of libpython.
    if not mapping.startswith("/"):
        return False
    name = mapping.rpartition("/")[2]
    return name.startswith(("libpython", "python")) or any(row[5] == mapping for row in processes)


def _joins_thread(decoded: Decoded, at: IntArray) -> BoolArray:
    # pthread_join waits, in a futex that is not private, on a word that holds the thread's own id.
    tids = np.array([row[0] for row in decoded.threads] or [0], dtype=np.int64)
    joins: BoolArray = np.isin(decoded.calls["a2"][at].astype(np.int64), tids)
    joins &= (decoded.calls["a1"][at] & np.uint64(_FUTEX_PRIVATE)) == 0
    joins &= futex_waits(decoded.calls, decoded.meta)[at]
    return joins


def _on_files(decoded: Decoded, at: IntArray) -> BoolArray:
    files = np.array([name.startswith(("file:", "path:")) for name in decoded.on.objects] + [False])
    quick = decoded.calls["dur_ns"][at] < _SLOWEST_FILE_NS
    found: BoolArray = files[decoded.on.number[at]] & quick
    return found


# Wakers -------------------------------------------------------------------------------------------

Woken = tuple[IntArray, IntArray, IntArray]
"""Rows of waits, who ended each, and when."""


def latest_before(group: IntArray, time: IntArray, event_group: IntArray, event_time: IntArray) -> IntArray:
    """Return for each (group, time) the place of the group's last event at or before the time; -1: none."""
    count = len(event_time)
    # Events go first where times are equal. Sorting by time and then, stably, by group is quick:
    # both are nearly sorted, or small numbers.
    order = np.argsort(np.concatenate([event_time, time]), kind="stable")
    groups = np.concatenate([event_group, group])[order]
    narrow = groups.astype(np.uint16) if len(groups) and groups.min() >= 0 and groups.max() < 1 << 16 else groups
    order = order[np.argsort(narrow, kind="stable")]
    groups = np.concatenate([event_group, group])[order]
    is_event = order < count
    last = np.maximum.accumulate(np.where(is_event, np.arange(len(order)), -1)) if len(order) else order
    found = np.full(len(time), -1, dtype=np.int64)
    asked = np.flatnonzero(~is_event)
    hit = last[asked]
    same = (hit >= 0) & (groups[np.maximum(hit, 0)] == groups[asked])
    found[order[asked[same]] - count] = order[hit[same]]
    return found


def _by_futex(decoded: Decoded, at: IntArray, kind: np.ndarray[Any, Any]) -> Woken:
    calls = decoded.calls
    waiting = np.flatnonzero(futex_waits(calls, decoded.meta)[at] & (calls["ret"][at] == 0))
    wakes = np.flatnonzero(futex_wakes(calls, decoded.meta) & (calls["ret"] > 0) & (decoded.on.number >= 0))
    mine = at[waiting]
    ends = ends_of(calls)[mine]
    number = decoded.on.number[mine].astype(np.int64)
    event = latest_before(number, ends, decoded.on.number[wakes].astype(np.int64), calls["start_ns"][wakes])
    known = event >= 0
    waker = wakes[event[known]]
    # A wake that had returned before the wait began cannot have ended it.
    after = ends_of(calls)[waker] >= calls["start_ns"][mine[known]]
    waker = waker[after]
    return waiting[known][after], calls["tid"][waker].astype(np.int64), calls["start_ns"][waker]


def _by_writer(calls: CallArray, streams: Streams, place: IntArray) -> Woken:
    # The first byte that a waiting reader got was not there before: who wrote it woke the reader.
    found = [_first_byte_writers(streams, stream, place) for stream in distinct(streams.reads.stream)]
    return _joined(found)


def _first_byte_writers(streams: Streams, stream: int, place: IntArray) -> Woken:
    reads, writes = streams.reads.part(stream), streams.writes.part(stream)
    row = place[streams.reads.call[reads]]
    waited = np.flatnonzero(row >= 0)
    upto = np.cumsum(streams.writes.bytes[writes])
    taken = np.cumsum(streams.reads.bytes[reads]) - streams.reads.bytes[reads]
    source = np.searchsorted(upto, taken[waited], side="right")
    known = source < len(upto)
    chosen_writes = source[known] + writes.start
    return row[waited[known]], streams.writes.tid[chosen_writes], streams.writes.start_ns[chosen_writes]


def _joined(parts: list[Woken]) -> Woken:
    empty = np.zeros(0, dtype=np.int64)
    rows, tids, times = (np.concatenate([part[column] for part in parts] or [empty]) for column in range(3))
    return rows, tids, times


def _by_reader(calls: CallArray, streams: Streams, place: IntArray) -> Woken:
    writes, reads = streams.writes, streams.reads
    row = place[writes.call]
    waited = np.flatnonzero((row >= 0) & ~writes.unfinished)
    order = np.argsort(reads.start_ns, kind="stable")
    event = latest_before(writes.stream[waited], writes.end_ns[waited], reads.stream[order], reads.start_ns[order])
    known = event >= 0
    reader = order[event[known]]
    mine = waited[known]
    during = reads.end_ns[reader] >= writes.start_ns[mine]
    return row[mine[during]], reads.tid[reader[during]], reads.start_ns[reader[during]]


def _by_closing(decoded: Decoded, at: IntArray, kind: np.ndarray[Any, Any]) -> Woken:
    # The end of a stream comes when the last write end is closed, by close(), exec or exit.
    calls = decoded.calls
    rows = np.flatnonzero((kind == KINDS.index(WaitKind.PIPE_EMPTY)) & (calls["ret"][at] == 0))
    number, time, pid = decoded.descriptors.write_ends_closed()
    order = np.argsort(time, kind="stable")
    mine = at[rows]
    event = latest_before(
        decoded.on.number[mine].astype(np.int64), ends_of(calls)[mine] + _TOLD_LATER_NS, number[order], time[order]
    )
    known = event >= 0
    known[known] = time[order[event[known]]] >= calls["start_ns"][mine[known]]
    closing = order[event[known]]
    return rows[known], pid[closing], time[closing]


def _by_child(decoded: Decoded, at: IntArray) -> Woken:
    calls = decoded.calls
    rows = np.flatnonzero(chosen(calls, decoded.architecture, ["wait4"])[at] & (calls["ret"][at] > 0))
    child = calls["ret"][at[rows]]
    ends = {row[1]: row[0] for row in decoded.lifecycle if row[3] == "exit"}
    times = np.array([ends.get(int(pid), -1) for pid in child], dtype=np.int64)
    return rows, child, np.where(times >= 0, times, ends_of(calls)[at[rows]])


def _by_thread_end(decoded: Decoded, at: IntArray, kind: np.ndarray[Any, Any]) -> Woken:
    calls = decoded.calls
    rows = np.flatnonzero((kind == KINDS.index(WaitKind.THREAD_JOIN)) & (calls["ret"][at] == 0))
    joined = calls["a2"][at[rows]].astype(np.int64)
    ends = {row[2]: row[0] for row in decoded.lifecycle if row[3] == "exit"}
    times = np.array([ends.get(int(tid), -1) for tid in joined], dtype=np.int64)
    known = times >= 0
    return rows[known], joined[known], times[known]


def _by_poll(decoded: Decoded, streams: Streams, at: IntArray, kind: np.ndarray[Any, Any]) -> Woken:
    # A poll of one pipe: the last write that began before; where nobody wrote, the end of a child,
    # which closed the last write end (multiprocessing's sentinel).
    calls = decoded.calls
    rows = np.flatnonzero((kind == KINDS.index(WaitKind.POLL)) & (calls["ret"][at] > 0) & (decoded.on.number[at] >= 0))
    ends = ends_of(calls)[at[rows]]
    number = decoded.on.number[at[rows]].astype(np.int64)
    order = np.argsort(streams.writes.start_ns, kind="stable")
    wrote = latest_before(number, ends, streams.writes.stream[order], streams.writes.start_ns[order])
    by_write = wrote >= 0
    by_write[by_write] = streams.writes.end_ns[order[wrote[by_write]]] >= calls["start_ns"][at[rows[by_write]]]
    writer = order[wrote[by_write]]
    parts = [(rows[by_write], streams.writes.tid[writer], streams.writes.start_ns[writer])]
    parts.append(_by_sentinel(decoded, at, rows[~by_write]))
    return _joined(parts)


def _by_sentinel(decoded: Decoded, at: IntArray, rows: IntArray) -> Woken:
    parents = {int(row[0]): int(row[2] or 0) for row in decoded.processes}
    exits = [row for row in decoded.lifecycle if row[3] == "exit" and row[1] == row[2]]
    time = np.array([row[0] for row in exits], dtype=np.int64)
    child = np.array([row[1] for row in exits], dtype=np.int64)
    parent = np.array([parents.get(row[1], 0) for row in exits], dtype=np.int64)
    calls = decoded.calls
    ends = ends_of(calls)[at[rows]]
    event = latest_before(calls["pid"][at[rows]].astype(np.int64), ends, parent, time)
    known = event >= 0
    known[known] = time[event[known]] >= calls["start_ns"][at[rows[known]]]
    return rows[known], child[event[known]], time[event[known]]
