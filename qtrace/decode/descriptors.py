"""Which object each descriptor of each process was, at every moment: a replay of its history.

The rare calls that make, copy and close descriptors are replayed one by one, in the order in which
they took effect; reads and writes, of which there are millions, are then looked up in bulk.

A pipe that has just been made has no name yet: its inode is learned when somebody looks at a
descriptor of it (a *sighting*). So the replay deals in nodes, which are copied by dup and fork like
descriptors, and a sighting names the node for all of its past. Where a sighting contradicts the
replay, something was not recorded (a descriptor that came through a socket, a file opened by a call
that is not traced), and the sighting is right from then on.

What takes effect when: a close at its entry (another thread can be given the same number before the
closer returns), everything else at its return.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from qtrace.decode.arrays import CallArray, IntArray, architecture_of, chosen
from qtrace.decode.json_text import mapping_of, numbers_of
from qtrace.model.kinds import ObjectKind
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture, Trait, by_number

O_CLOEXEC = 0o2000000
F_DUPFD, F_SETFD, F_DUPFD_CLOEXEC, F_SETPIPE_SZ = 0, 2, 1030, 1031
CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC = 2, 4
CLONE_VM, CLONE_FILES, CLONE_THREAD = 0x100, 0x400, 0x10000
PIPE_BYTES = 65536
"""Capacity of a new pipe: 16 pages (pipe(7))."""

_MAKERS: Mapping[str, tuple[ObjectKind, int | None]] = {
    "socket": (ObjectKind.SOCKET, 1),
    "accept": (ObjectKind.SOCKET, None),
    "accept4": (ObjectKind.SOCKET, 3),
    "eventfd": (ObjectKind.EVENTFD, None),
    "eventfd2": (ObjectKind.EVENTFD, 1),
    "epoll_create": (ObjectKind.EPOLL, None),
    "epoll_create1": (ObjectKind.EPOLL, 0),
    "pidfd_open": (ObjectKind.PIDFD, None),
    "pidfd_getfd": (ObjectKind.OTHER, None),
    "open": (ObjectKind.FILE, 1),
    "openat": (ObjectKind.FILE, 2),
}
"""Calls that return a new descriptor: its kind, and the argument with O_CLOEXEC."""
_PAIRS = {"pipe": None, "pipe2": 1, "socketpair": 1}
"""Calls whose head holds two new descriptors, and the argument with O_CLOEXEC."""
_REPLAYED = (*_MAKERS, *_PAIRS, "dup", "dup2", "dup3", "fcntl", "close", "close_range")
_ALWAYS_CLOEXEC = frozenset({"pidfd_open", "pidfd_getfd"})
_ACCESS = ("", "r", "w", "rw")
_ABSENT = -1
_LONG_AGO = -1


@dataclass(slots=True)
class Node:
    """One object, named or not yet."""

    kind: ObjectKind
    object_id: str | None = None
    creator_pid: int | None = None
    creator_tid: int | None = None
    created_ns: int | None = None
    peer: int | None = None
    """The node at the other end of a socketpair."""
    first_fd: int = -1
    capacities: list[tuple[int, int]] = field(default_factory=list)
    """(time, bytes): what was asked for, or seen."""


@dataclass(slots=True)
class _Entry:
    node: int
    access: str
    cloexec: bool


@dataclass(slots=True)
class _Table:
    entries: dict[int, _Entry]
    pids: list[int]


@dataclass(frozen=True, slots=True)
class Held:
    """A descriptor at one moment."""

    pid: int
    fd: int
    number: int
    """The object's number in `Descriptors.objects`."""
    access: str


@dataclass(frozen=True, eq=False)
class Descriptors:
    """The history of every descriptor, ready to be asked in bulk."""

    objects: list[str]
    """Object ids by number; those never seen by name are ``KIND:PID:FD:CREATED_NS``."""
    nodes: list[Node]
    """What is known of each object, by number."""
    peers: IntArray
    """Number of the other end of a socketpair; -1: none."""
    _keys: IntArray  # distinct pid << 32 | fd, sorted
    _first: IntArray  # where a key's events begin; one more for the end
    _time: IntArray
    _number: IntArray  # -1: closed
    _access: IntArray

    def numbers_at(self, pid: IntArray, fd: IntArray, time_ns: IntArray) -> IntArray:
        """Return the number of the object that each descriptor was at a time; -1: unknown or closed."""
        found = np.full(len(pid), -1, dtype=np.int64)
        if not len(self._keys) or not len(pid):
            return found
        place = self._places(pid, fd)
        first, last = int(time_ns.min()), int(time_ns.max())
        if not (self._at(last) - self._at(first)):
            return self._numbers_as_of(first)[place]
        known = np.flatnonzero(place >= 0)
        found[known] = self._among_several(place[known], time_ns[known])
        return found

    @cached_property
    def _times(self) -> IntArray:
        # Distinct times of events, in order.
        return np.unique(self._time)

    @cached_property
    def _event_place(self) -> IntArray:
        # For each event the place of its key.
        return np.repeat(np.arange(len(self._keys)), np.diff(self._first))

    def _at(self, time_ns: int) -> int:
        # So many times of events are not later.
        return int(np.searchsorted(self._times, time_ns, side="right"))

    def _numbers_as_of(self, time_ns: int) -> IntArray:
        # For each key the number at a time, and -1 behind the last, for keys that there are not.
        found = np.full(len(self._keys) + 1, -1, dtype=np.int64)
        before = np.flatnonzero(self._time <= time_ns)
        found[self._event_place[before]] = self._number[before]  # of several for one key the last counts
        return found

    @cached_property
    def _grid(self) -> tuple[IntArray, IntArray, int] | None:
        # Row of each pid, places of keys by row and descriptor, and how wide a row is; None where that were too large.
        pids = np.unique(self._keys >> 32)
        fds = self._keys & 0xFFFFFFFF
        wide = int(fds.max()) + 1
        if len(pids) * wide > 1 << 26 or int(pids[-1]) >= 1 << 26:
            return None
        row_of_pid = np.full(int(pids[-1]) + 1, -1, dtype=np.int64)
        row_of_pid[pids] = np.arange(len(pids))
        grid = np.full((len(pids) + 1) * wide, -1, dtype=np.int64)
        grid[row_of_pid[self._keys >> 32] * wide + fds] = np.arange(len(self._keys))
        return row_of_pid, grid, wide

    def _places(self, pid: IntArray, fd: IntArray) -> IntArray:
        # Through two small tables; a binary search in the keys would cost more than all the rest.
        if self._grid is None:
            place = np.searchsorted(self._keys, pid << 32 | fd)
            place = np.minimum(place, len(self._keys) - 1)
            return np.where(self._keys[place] == (pid << 32 | fd), place, -1)
        row_of_pid, grid, wide = self._grid
        last = len(row_of_pid) - 1
        row = np.where((pid >= 0) & (pid <= last), row_of_pid[np.clip(pid, 0, last)], -1)
        inside = (row >= 0) & (fd >= 0) & (fd < wide)
        return grid[np.where(inside, row * wide + fd, len(grid) - 1)]

    def _among_several(self, place: IntArray, time: IntArray) -> IntArray:
        # One search over all keys at once: events and questions as (key, rank of the time).
        wide = len(self._times) + 1
        events = self._event_place * wide + np.searchsorted(self._times, self._time, side="right")
        asked = place * wide + np.searchsorted(self._times, time, side="right")
        last = np.searchsorted(events, asked, side="right") - 1
        return np.where(last >= self._first[place], self._number[np.maximum(last, 0)], -1)

    def held_at(self, time_ns: int) -> list[Held]:
        """Return every open descriptor of every process at a time."""
        before = np.flatnonzero(self._time <= time_ns)
        if not len(before):
            return []
        place = self._event_place[before]
        ends = np.append(np.flatnonzero(np.diff(place)), len(place) - 1)
        return [
            Held(int(key >> 32), int(key & 0xFFFFFFFF), int(self._number[at]), _ACCESS[self._access[at]])
            for key, at in zip(self._keys[place[ends]], before[ends], strict=True)
            if self._number[at] >= 0
        ]

    def write_ends_closed(self) -> tuple[IntArray, IntArray, IntArray]:
        """Return when descriptors that could write were closed: object's number, time, and process."""
        place = self._event_place
        writes = np.array(["w" in access for access in _ACCESS])[self._access]
        open_before = np.flatnonzero(writes[:-1] & (place[:-1] == place[1:]) & (self._number[:-1] != self._number[1:]))
        return (
            self._number[open_before],
            self._time[open_before + 1],
            self._keys[place[open_before]] >> 32,
        )

    def capacity_at(self, number: int, time_ns: int) -> int | None:
        """Return a pipe's capacity in bytes at a time; None where it is no pipe or unknown."""
        known = self.nodes[number].capacities
        found = [size for at, size in known if at <= time_ns] or [size for _, size in known[:1]]
        return found[-1] if found else None


class _Replay:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.by_id: dict[str, int] = {}
        self.tables: dict[int, _Table] = {}
        self.events: list[tuple[int, int, int, int, int]] = []  # key, time, order, node, access
        self.since: dict[int, int] = {}  # key: time of its last event
        self.members: dict[int, set[int]] = {}

    # Nodes and entries --------------------------------------------------------------------------

    def table(self, pid: int) -> _Table:
        found = self.tables.get(pid)
        if found is None:
            found = self.tables[pid] = _Table({}, [pid])
        return found

    def node(self, kind: ObjectKind, object_id: str | None = None, fd: int = -1) -> int:
        self.nodes.append(Node(kind, object_id, first_fd=fd))
        if object_id is not None:
            self.by_id.setdefault(object_id, len(self.nodes) - 1)
        return len(self.nodes) - 1

    def made(self, kind: ObjectKind, pid: int, tid: int, time_ns: int, fd: int, object_id: str | None = None) -> int:
        number = self.node(kind, object_id, fd)
        node = self.nodes[number]
        node.creator_pid, node.creator_tid, node.created_ns = pid, tid, time_ns
        return number

    def put(self, pid: int, fd: int, entry: _Entry, time_ns: int) -> None:
        table = self.table(pid)
        table.entries[fd] = entry
        self._say(table, fd, time_ns, entry.node, _ACCESS.index(entry.access))

    def remove(self, pid: int, fd: int, time_ns: int) -> None:
        table = self.table(pid)
        if table.entries.pop(fd, None) is not None:
            self._say(table, fd, time_ns, _ABSENT, 0)
        else:
            for sharer in table.pids:
                self.since[sharer << 32 | fd] = time_ns

    def _say(self, table: _Table, fd: int, time_ns: int, node: int, access: int) -> None:
        for pid in table.pids:
            key = pid << 32 | fd
            # Never before what was said last: a later word on the same descriptor is the later event.
            at = max(time_ns, self.since.get(key, _LONG_AGO))
            self.since[key] = at
            self.events.append((key, at, len(self.events), node, access))

    def known(self, pid: int, fd: int) -> _Entry:
        """The descriptor's entry; one whose object has no name yet where nothing was recorded."""
        entry = self.table(pid).entries.get(fd)
        if entry is None:
            entry = _Entry(self.node(ObjectKind.OTHER, fd=fd), "", False)
            self.put(pid, fd, entry, self.since.get(pid << 32 | fd, _LONG_AGO))
        return entry

    def unshare(self, pid: int) -> None:
        table = self.table(pid)
        if len(table.pids) > 1:
            table.pids.remove(pid)
            self.tables[pid] = _Table(dict(table.entries), [pid])

    # What happens -------------------------------------------------------------------------------

    def sighting(self, time_ns: int, pid: int, fd: int, object_id: str, access: str, capacity: int | None) -> None:
        entry = self.table(pid).entries.get(fd)
        mode = access if access in _ACCESS else ""
        if entry is None:
            # Nothing contradicts that it was this ever since it was closed, or since the beginning.
            number = self.by_id.get(object_id)
            number = self.node(_kind_of(object_id), object_id, fd) if number is None else number
            self.put(pid, fd, _Entry(number, mode, False), self.since.get(pid << 32 | fd, _LONG_AGO))
        else:
            number = self._named(entry.node, object_id)
            if number != entry.node or (mode and mode != entry.access):
                same = number == entry.node
                self.put(pid, fd, _Entry(number, mode or entry.access, entry.cloexec and same), time_ns)
        if capacity:
            self.nodes[number].capacities.append((time_ns, capacity))

    def _named(self, number: int, object_id: str) -> int:
        node = self.nodes[number]
        if node.object_id is None:
            node.object_id = object_id
            if node.kind is ObjectKind.OTHER:
                node.kind = _kind_of(object_id)
            self.by_id.setdefault(object_id, number)
            return number
        kind = object_id.partition(":")[0]
        if node.object_id == object_id or (kind in ("eventfd", "epoll") and node.object_id.startswith(kind)):
            return number  # an eventfd is called after the descriptor through which it was seen
        other = self.by_id.get(object_id)
        return self.node(_kind_of(object_id), object_id) if other is None else other

    def clone(self, time_ns: int, pid: int, tid: int, child: int, flags: int, thread: bool) -> None:
        self.members.setdefault(pid, {pid}).add(tid)
        if thread:
            self.members[pid].add(child)
            return
        self.gone(child, time_ns)
        self.members[child] = {child}
        table = self.table(pid)
        if flags & CLONE_FILES:
            table.pids.append(child)
            self.tables[child] = table
            copied = table.entries
        else:
            copied = dict(table.entries)
            self.tables[child] = _Table(copied, [child])
        only = _Table({}, [child])
        for fd, entry in copied.items():
            self._say(only, fd, time_ns, entry.node, _ACCESS.index(entry.access))

    def exec(self, time_ns: int, pid: int) -> None:
        self.unshare(pid)
        self.members[pid] = {pid}
        for fd, entry in list(self.table(pid).entries.items()):
            if entry.cloexec:
                self.remove(pid, fd, time_ns)

    def exit(self, time_ns: int, pid: int, tid: int) -> None:
        members = self.members.setdefault(pid, {pid})
        members.discard(tid)
        if not members:
            self.gone(pid, time_ns)

    def gone(self, pid: int, time_ns: int) -> None:
        table = self.tables.pop(pid, None)
        if table is None:
            return
        table.pids.remove(pid)
        only = _Table({}, [pid])
        for fd in table.entries:
            self._say(only, fd, time_ns, _ABSENT, 0)

    # Calls --------------------------------------------------------------------------------------

    def call(self, name: str, time_ns: int, pid: int, tid: int, ret: int, args: tuple[int, ...], head: int) -> None:
        if name == "close":
            self.remove(pid, args[0] & 0xFFFFFFFF, time_ns)
        elif ret < 0:
            return
        elif name in _PAIRS:
            self._pair(name, time_ns, pid, tid, args, head)
        elif name in _MAKERS:
            kind, place = _MAKERS[name]
            cloexec = name in _ALWAYS_CLOEXEC or (place is not None and bool(args[place] & O_CLOEXEC))
            object_id = f"pidfd:{args[0]}" if name == "pidfd_open" else None
            node = self.made(kind, pid, tid, time_ns, ret, object_id)
            self.put(pid, ret, _Entry(node, "" if kind is ObjectKind.FILE else "rw", cloexec), time_ns)
        elif name in ("dup", "dup2", "dup3"):
            if ret != args[0] & 0xFFFFFFFF:
                self._copy(pid, args[0] & 0xFFFFFFFF, ret, name == "dup3" and bool(args[2] & O_CLOEXEC), time_ns)
        elif name == "fcntl":
            self._fcntl(time_ns, pid, ret, args)
        elif name == "close_range":
            self._close_range(time_ns, pid, args)

    def _pair(self, name: str, time_ns: int, pid: int, tid: int, args: tuple[int, ...], head: int) -> None:
        first, second = head & 0xFFFFFFFF, head >> 32
        place = _PAIRS[name]
        cloexec = place is not None and bool(args[place] & O_CLOEXEC)
        if name == "socketpair":
            one = self.made(ObjectKind.SOCKET, pid, tid, time_ns, first)
            two = self.made(ObjectKind.SOCKET, pid, tid, time_ns, second)
            self.nodes[one].peer, self.nodes[two].peer = two, one
            self.put(pid, first, _Entry(one, "rw", cloexec), time_ns)
            self.put(pid, second, _Entry(two, "rw", cloexec), time_ns)
        else:
            node = self.made(ObjectKind.PIPE, pid, tid, time_ns, first)
            self.nodes[node].capacities.append((time_ns, PIPE_BYTES))
            self.put(pid, first, _Entry(node, "r", cloexec), time_ns)
            self.put(pid, second, _Entry(node, "w", cloexec), time_ns)

    def _copy(self, pid: int, source: int, target: int, cloexec: bool, time_ns: int) -> None:
        entry = self.known(pid, source)
        self.put(pid, target, _Entry(entry.node, entry.access, cloexec), time_ns)

    def _fcntl(self, time_ns: int, pid: int, ret: int, args: tuple[int, ...]) -> None:
        fd, command = args[0] & 0xFFFFFFFF, args[1]
        if command in (F_DUPFD, F_DUPFD_CLOEXEC):
            self._copy(pid, fd, ret, command == F_DUPFD_CLOEXEC, time_ns)
        elif command == F_SETFD:
            self.known(pid, fd).cloexec = bool(args[2] & 1)
        elif command == F_SETPIPE_SZ:
            self.nodes[self.known(pid, fd).node].capacities.append((time_ns, ret))

    def _close_range(self, time_ns: int, pid: int, args: tuple[int, ...]) -> None:
        first, last, flags = args[0] & 0xFFFFFFFF, args[1] & 0xFFFFFFFF, args[2]
        if flags & CLOSE_RANGE_UNSHARE:
            self.unshare(pid)
        for fd, entry in list(self.table(pid).entries.items()):
            if first <= fd <= last:
                if flags & CLOSE_RANGE_CLOEXEC:
                    entry.cloexec = True
                else:
                    self.remove(pid, fd, time_ns)


def _kind_of(object_id: str) -> ObjectKind:
    prefix = object_id.partition(":")[0]
    try:
        return ObjectKind(prefix)
    except ValueError:
        return ObjectKind.OTHER


_Row = tuple[Any, ...]


def replay(
    calls: CallArray,
    meta: Mapping[str, str],
    lifecycle: Iterable[_Row],
    sightings: Iterable[_Row],
    passed: Iterable[_Row] = (),
) -> Descriptors:
    """Return the history of every descriptor.

    Args:
        calls: All calls, in the order of entry.
        meta: The recording's facts.
        lifecycle: Rows of the recording's table of that name.
        sightings: Likewise.
        passed: Rows of `details`; those of `passed_fds` are descriptors that came through a socket.
    """
    state = _Replay()
    for _, _, _, apply, arguments in sorted(_happenings(calls, meta, lifecycle, sightings, passed), key=_when):
        getattr(state, apply)(*arguments)
    return _finished(state)


def _when(happening: tuple[int, int, int, str, tuple[Any, ...]]) -> tuple[int, int, int]:
    return happening[:3]


def _happenings(
    calls: CallArray,
    meta: Mapping[str, str],
    lifecycle: Iterable[_Row],
    sightings: Iterable[_Row],
    passed: Iterable[_Row],
) -> list[tuple[int, int, int, str, tuple[Any, ...]]]:
    # (time, rank at the same time, order, method, arguments)
    found: list[tuple[int, int, int, str, tuple[Any, ...]]] = []
    architecture = architecture_of(meta)
    returned = _replayed_calls(calls, architecture)
    rows = by_number(architecture)
    for record in returned.tolist():
        start, spent, tid, pid, number, flags, ret, *args, head = record
        name = rows[number].name
        if name != "close" and flags & CallFlag.UNFINISHED:
            continue
        if name in _PAIRS and not flags & CallFlag.HAS_HEAD:
            continue
        closes = name == "close"
        time = start if closes else start + spent
        # The recorder looks at a descriptor when a call on it begins: before a close takes effect.
        found.append((time, 6 if closes else 1, len(found), "call", (name, time, pid, tid, ret, tuple(args), head)))
    for time, pid, tid, event, value, detail in lifecycle:
        if event == "clone" and value is not None:
            facts = mapping_of(detail)
            made = _as_int(facts.get("flags"))
            thread = bool(facts.get("thread", made & CLONE_THREAD))
            found.append((time, 2, len(found), "clone", (time, pid, tid, value, made, thread)))
        elif event == "exec":
            found.append((time, 3, len(found), "exec", (time, pid)))
        elif event == "exit":
            found.append((time, 5, len(found), "exit", (time, pid, tid)))
    for time, pid, fd, _, object_id, access, capacity in sightings:
        if fd >= 0 and pid >= 0:
            found.append((time, 4, len(found), "sighting", (time, pid, fd, object_id, access or "", capacity)))
    found += _passed(calls, passed, len(found))
    return found


def _as_int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _replayed_calls(calls: CallArray, architecture: Architecture) -> CallArray:
    fcntl = chosen(calls, architecture, ["fcntl"])
    wanted = chosen(calls, architecture, _REPLAYED)
    commands = calls["a1"][fcntl]
    wanted[np.flatnonzero(fcntl)] = np.isin(commands, (F_DUPFD, F_SETFD, F_DUPFD_CLOEXEC, F_SETPIPE_SZ))
    return calls[wanted]


def _passed(calls: CallArray, details: Iterable[_Row], order: int) -> list[tuple[int, int, int, str, tuple[Any, ...]]]:
    # A descriptor that came by recvmsg is new, whatever its number was before.
    found: list[tuple[int, int, int, str, tuple[Any, ...]]] = []
    for tid, start, what, value in details:
        if what != "passed_fds":
            continue
        first = int(np.searchsorted(calls["start_ns"], start))
        for call in calls[first : first + 64]:
            if int(call["start_ns"]) == start and int(call["tid"]) == tid:
                time, pid = start + int(call["dur_ns"]), int(call["pid"])
                found += [(time, 1, order, "remove", (pid, fd, time)) for fd in numbers_of(value) if fd >= 0]
                break
    return found


def _finished(state: _Replay) -> Descriptors:
    objects: list[str] = []
    nodes: list[Node] = []
    number_of_id: dict[str, int] = {}
    number_of_node = np.full(len(state.nodes) + 1, -1, dtype=np.int64)  # the last one: closed
    for place, node in enumerate(state.nodes):
        object_id = node.object_id or _unnamed(node, place)
        number = number_of_id.setdefault(object_id, len(objects))
        number_of_node[place] = number
        if number == len(objects):
            objects.append(object_id)
            nodes.append(node)
        else:
            _merge(nodes[number], node)
    peers = np.full(len(objects), -1, dtype=np.int64)
    for place, node in enumerate(state.nodes):
        if node.peer is not None:
            peers[number_of_node[place]] = number_of_node[node.peer]
    for node in nodes:
        node.capacities.sort()
    return _indexed(objects, nodes, peers, state.events, number_of_node)


def _unnamed(node: Node, place: int) -> str:
    if node.creator_pid is None:
        return f"{node.kind}:?{place}"
    return f"{node.kind}:{node.creator_pid}:{node.first_fd}:{node.created_ns}"


def _merge(known: Node, other: Node) -> None:
    if known.creator_pid is None:
        known.creator_pid, known.creator_tid = other.creator_pid, other.creator_tid
        known.created_ns, known.peer = other.created_ns, other.peer
    known.capacities += other.capacities


def _indexed(
    objects: list[str],
    nodes: list[Node],
    peers: IntArray,
    events: Sequence[tuple[int, int, int, int, int]],
    number_of_node: IntArray,
) -> Descriptors:
    table = np.array(events, dtype=np.int64).reshape(-1, 5)
    table = table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))]
    keys, first = np.unique(table[:, 0], return_index=True)
    return Descriptors(
        objects,
        nodes,
        peers,
        keys,
        np.append(first, len(table)).astype(np.int64),
        table[:, 1].copy(),
        number_of_node[table[:, 3]],
        table[:, 4].copy(),
    )


def calls_with_descriptor(architecture: Architecture) -> list[str]:
    """Return the names of the calls whose first argument is the descriptor they work on."""
    rows = by_number(architecture).values()
    return [row.name for row in rows if row.args[:1] == ("fd",) and Trait.TREE not in row.traits]
