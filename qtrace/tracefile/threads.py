"""Entries, exits and ends to calls, one by one: what is not done in bulk, and all of it where there is little.

No NumPy here: a program that is over in a moment does not wait until it is loaded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from qtrace.model.records import CALL_STRUCT, ENTER_BYTES, EXIT_BYTES, CallFlag
from qtrace.model.syscalls import Architecture, number_of

OpenCall = tuple[int, list[int], int, int]
"""Entry time, [nr, a0...a5], flags, head."""
RESTARTS = (-512, -513, -514, -516)  # ERESTARTSYS and its kin, as in the loop
LATEST_NS = 1 << 61
HEADER_BYTES = 8
"""A ring of BPF's begins each record with its length without this, and its place in the ring, in pages."""
SAMPLE = 9  # PERF_RECORD_SAMPLE
_FROM_PERF = int(CallFlag.FROM_PERF)
_AT_ATTACH = int(CallFlag.AT_ATTACH)
_RESTARTED, _UNFINISHED, _KILLED = int(CallFlag.RESTARTED), int(CallFlag.UNFINISHED), int(CallFlag.KILLED)
_ENTER = struct.Struct("<IHHiiq12xq6Q4x")
"""`qtrace.tracefile.rings.ENTER`: header, pid, tid, time, number and arguments."""
_EXIT = struct.Struct("<IHHiiq12xqq4x")
_ENTERS, _EXITS, _ENDS = 0, 1, 2


class End:
    """A thread has ended."""

    __slots__ = ("killed", "tid", "time_ns")

    time_ns: int
    tid: int
    killed: bool

    def __init__(self, time_ns: int, tid: int, killed: bool) -> None:
        self.time_ns = time_ns
        self.tid = tid
        self.killed = killed


class Threads:
    """Which call each thread is in."""

    def __init__(self, machine: Architecture) -> None:
        """Begin with no thread in a call.

        Args:
            machine: Whose numbers the calls have.
        """
        self._restart_number = number_of("restart_syscall", machine)
        self._makers = frozenset(number_of(name, machine) for name in ("clone", "clone3", "fork", "vfork"))
        self.open_calls: dict[int, OpenCall] = {}
        self.interrupted: dict[int, OpenCall] = {}
        self.interrupted_at: dict[int, int] = {}
        self.pid_of: dict[int, int] = {}
        """Of the threads that are in a call."""
        self.joined: set[int] = set()
        """Threads that were there at an attach, and whose first exit may be that of an earlier call."""
        self.joined_ns = 0
        self.left_ns = LATEST_NS
        """Before the one and after the other time exits are seen of which the entries are not."""
        self.unpaired = 0
        """Entries and exits whose other half is missing."""
        self.done: list[bytes] = []

    def pending(self, now_ns: int) -> dict[int, bytes]:
        """Return a packed record, by tid, of each call that has not ended."""
        every = self.interrupted.copy() | self.open_calls.copy()
        return self.packed(every, lambda tid: now_ns)

    def packed(self, calls: dict[int, OpenCall], until: Callable[[int], int]) -> dict[int, bytes]:
        """Return unfinished records, by tid, of calls that last until a time that depends on the tid."""
        found = {}
        for tid, (start, (number, *args), flags, head) in calls.items():
            spent, pid = until(tid) - start, self.pid_of.get(tid, tid)
            found[tid] = CALL_STRUCT.pack(start, spent, tid, pid, number, flags | _UNFINISHED, 0, *args, head)
        return found

    def enter(self, time_ns: int, pid: int, tid: int, call: list[int]) -> None:
        """A thread has begun a call."""
        before = self.interrupted.pop(tid, None)
        self.pid_of[tid] = pid
        if before is not None:
            start, old, flags, head = before
            at = self.interrupted_at.pop(tid)
            if call[0] == self._restart_number or call == old:
                self.open_calls[tid] = (start, old, flags | _RESTARTED, head)
                return
            self.emit(tid, before, at, -512)
        else:
            lost = self.open_calls.pop(tid, None)
            # One that was seen at an attach may have begun since: then this is its entry, or that of an earlier one.
            self.unpaired += lost is not None and not lost[2] & _AT_ATTACH
        self.open_calls[tid] = (time_ns, call, _FROM_PERF, 0)

    def exit(self, time_ns: int, tid: int, number: int, ret: int) -> None:
        """A call has returned."""
        begun = self.open_calls.get(tid)
        if begun is not None and time_ns < begun[0] and begun[2] & _AT_ATTACH:
            return  # of a call before the one that was seen at the attach
        self.open_calls.pop(tid, None)
        if begun is None and ret == 0 and number in self._makers:
            return  # a new thread comes out of the call that made it
        if begun is None or (number != begun[1][0] and number != self._restart_number):
            if begun is None and not self.joined_ns < time_ns < self.left_ns:
                return
            if tid in self.joined or (begun is not None and begun[2] & _AT_ATTACH):
                self.joined.discard(tid)  # the end of a call that had begun before the attach
            else:
                self.unpaired += 1 if begun is None else 2
            return
        if ret in RESTARTS:
            self.interrupted[tid] = begun
            self.interrupted_at[tid] = time_ns
        else:
            self.emit(tid, begun, time_ns, ret)

    def end(self, end: End) -> None:
        """A thread has ended, maybe inside of a call."""
        begun = self.open_calls.get(end.tid) or self.interrupted.get(end.tid)
        if begun is not None and begun[0] <= end.time_ns:
            self.open_calls.pop(end.tid, None)
            self.interrupted.pop(end.tid, None)
            # One that was struck in a wait was taken out of it before anybody could see it end.
            at = self.interrupted_at.pop(end.tid, end.time_ns)
            self.emit(end.tid, begun, at, 0, _UNFINISHED | (_KILLED if end.killed else 0))

    def emit(self, tid: int, begun: OpenCall, end_ns: int, ret: int, more: int = 0) -> None:
        """A call is over."""
        start, (number, *args), flags, head = begun
        pid = self.pid_of.get(tid, tid)
        self.done.append(CALL_STRUCT.pack(start, end_ns - start, tid, pid, number, flags | more, ret, *args, head))


Entry = tuple[int, int, int, list[int]]
"""Time, pid, tid, [nr, a0...a5]."""


def calls_of_few(
    contents: Iterable[tuple[str, bytes]], ends: Iterable[End], machine: Architecture
) -> tuple[Threads, list[Entry]] | None:
    """Return the state of threads after all that rings gave, with the calls that have ended in `done`, and all entries.

    It takes 10 us a call. None if there is anything but samples among the records: then losses are to be told.

    Args:
        contents: Kinds, ``enter`` or ``exit``, and what rings gave.
        ends: Threads that have ended.
        machine: Whose numbers the calls have.
    """
    threads = Threads(machine)
    rows: list[tuple[int, int, int, tuple[int, ...]]] = []
    for kind, raw in contents:
        layout, what, each = (_ENTER, _ENTERS, ENTER_BYTES) if kind == "enter" else (_EXIT, _EXITS, EXIT_BYTES)
        if len(raw) % each:
            return None
        for word, _, size, *facts in layout.iter_unpack(raw):
            if (word, size) not in ((SAMPLE, each), (each - HEADER_BYTES, 0)):
                return None
            pid, tid, time_ns, *call = facts
            rows.append((time_ns, what, tid, (pid, *call)))
    rows += [(end.time_ns, _ENDS, end.tid, (end.killed,)) for end in ends]
    rows.sort()
    entries = []
    for time_ns, what, tid, (first, *call) in rows:
        if what == _ENTERS:
            entries.append((time_ns, first, tid, call))
            threads.enter(time_ns, first, tid, call)
        elif what == _EXITS:
            threads.exit(time_ns, tid, *call)
        else:
            threads.end(End(time_ns, tid, bool(first)))
    return threads, entries
