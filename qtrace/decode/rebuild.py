"""A tree put together again from a recording: who lived, in which call, waiting for what.

What /proc would have shown is derived: a thread inside of a call that can wait, for longer than the
cost of tracing, sleeps; everything else ran. What a call pointed to in memory is known as far as it
was recorded (poll sets, timeouts). Values of semaphores are not.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qtrace.decode.arrays import chosen
from qtrace.decode.blocking import floor_of
from qtrace.decode.decoded import Decoded, Row
from qtrace.decode.descriptors import Held
from qtrace.decode.family import Family, family_of
from qtrace.decode.frames import StackRow, stack_rows
from qtrace.decode.history import Level, call_at, exit_of
from qtrace.decode.json_text import list_of
from qtrace.decode.operands import poll_sets
from qtrace.decode.streams import fill_of, streams_of
from qtrace.model.calltext import call_text
from qtrace.model.ids import Fd, ObjectId, Tgid, Tid
from qtrace.model.kinds import ObjectKind, WaitKind
from qtrace.model.records import CallFlag
from qtrace.model.snapshot import Call, Holder, Process, Snapshot, Thread, WaitObject
from qtrace.model.syscalls import by_name
from qtrace.model.wants import Wanted, wants_of

APART_NS = 120_000_000
"""A thread that has been in its call for so long counts as standing: as between two live looks."""
_EPOLL_DEL = 2
_TIMEOUT_ARGUMENT = {"futex": 3, "nanosleep": 0, "clock_nanosleep": 2}
_NS = 1_000_000_000


def process_of(row: Row) -> Process:
    """Return a row of `processes` as a process, alive."""
    pid, _, ppid, name, argv, exe, uid, start, _, _, _ = row
    words = tuple(str(word) for word in list_of(argv))
    base = (exe or "").rpartition("/")[2]
    return Process(
        Tgid(pid),
        Tgid(ppid or 0),
        name or f"pid {pid}",
        words,
        exe or "",
        python=base.startswith(("python", "pypy")),
        uid=uid or 0,
        start_ns=start,
    )


def rebuilt(view: Decoded, levels: Mapping[str, Level], seen: Mapping[ObjectId, WaitObject] | None = None) -> Snapshot:
    """Return the tree at the view's end; its history is left empty.

    Args:
        view: The recording up to the moment.
        levels: Levels of pipes that were seen up to then, by object id.
        seen: Objects as the recorder's last look had them. Who holds what was opened by calls that
            are not recorded (a fifo), and the other end of a socket, is known from there alone.
    """
    return _Rebuilding(view, levels, seen or {}).snapshot()


@dataclass(slots=True)
class _Rebuilding:
    view: Decoded
    levels: Mapping[str, Level]
    seen: Mapping[ObjectId, WaitObject]
    family: Family = field(init=False)
    held: dict[int, list[Held]] = field(init=False)
    by_fd: dict[tuple[int, int], Held] = field(init=False)
    stacks: dict[tuple[int, int], StackRow] = field(init=False)
    objects: dict[ObjectId, WaitObject] = field(default_factory=dict)
    _fill: dict[str, int] | None = None

    def __post_init__(self) -> None:
        self.family = family_of(self.view.lifecycle)
        every = self.view.descriptors.held_at(self.view.end_ns)
        self.by_fd = {(one.pid, one.fd): one for one in every}
        self.held = {}
        for one in every:
            self.held.setdefault(one.number, []).append(one)
        self.stacks = stack_rows(self.view.stacks)

    def snapshot(self) -> Snapshot:
        processes = self._processes()
        threads = self._threads(processes)
        root = self.view.meta.get("root_pid", "")
        first = next(iter(processes), Tgid(0))
        return Snapshot(
            self.view.end_ns,
            Tgid(int(root)) if root.isdigit() else first,
            processes,
            threads,
            self.objects,
            source="recording",
            looks_apart_ns=APART_NS,
        )

    # Lives --------------------------------------------------------------------------------------

    def _processes(self) -> dict[Tgid, Process]:
        now = self.view.end_ns
        ends = {pid: (time, status) for time, pid, tid, event, status, _ in self.view.lifecycle
                if event == "exit" and tid == pid}  # fmt: skip
        stops = self._stops()
        found: dict[Tgid, Process] = {}
        for row in self.view.processes:
            pid, start = row[0], row[7]
            if start > now:
                continue
            process = process_of(row)
            birth = self.family.births.get(pid)
            if birth is not None and not birth.copied_memory and self.family.images.get(pid, -1) < birth.time_ns:
                process = replace(process, address_space=Tgid(birth.parent))
            end, status = ends.get(pid, (None, None))
            if end is not None and end >= start and not self.family.threads.get(pid):
                code, signal = exit_of(status)
                process = replace(process, state="X", end_ns=end, exit_code=code, exit_signal=signal)
            elif pid in stops:
                process = replace(process, state="T", stop_signal=stops[pid])
            found[Tgid(pid)] = process
        return found

    def _stops(self) -> dict[int, int]:
        stopped: dict[int, int] = {}
        for _, pid, _, event, value, _ in self.view.lifecycle:
            if event == "stop" and value is not None:
                stopped[pid] = value
            elif event in ("cont", "exit"):
                stopped.pop(pid, None)
        return stopped

    def _threads(self, processes: Mapping[Tgid, Process]) -> dict[Tid, Thread]:
        waiting = self._waiting()
        floor = floor_of(self.view.calls, self.view.meta)
        names = {(row[0], row[1]): row for row in self.view.threads if row[5] <= self.view.end_ns}
        found = {}
        for pid, process in processes.items():
            if not process.alive:
                continue
            for tid in sorted(self.family.threads.get(int(pid), {int(pid)})):
                row = names.get((tid, int(pid)))
                found[Tid(tid)] = self._thread(tid, process, row, waiting.get(tid), floor)
        return found

    def _waiting(self) -> dict[int, int]:
        flags = self.view.calls["flags"] & int(CallFlag.UNFINISHED | CallFlag.KILLED)
        places = np.flatnonzero(flags == int(CallFlag.UNFINISHED)).tolist()
        return {int(self.view.calls["tid"][place]): place for place in places}

    def _thread(self, tid: int, process: Process, row: Row | None, place: int | None, floor: int) -> Thread:
        start = row[5] if row is not None else process.start_ns
        name = (row[2] if row is not None else "") or ("MainThread" if tid == int(process.pid) else f"tid {tid}")
        stopped = process.state == "T"
        if place is None:
            return Thread(Tid(tid), process.pid, name, "T" if stopped else "R", None, moved=not stopped, start_ns=start)
        call = call_at(self.view, place)
        entered = call.entered_ns or 0
        context = _Context(self, process.pid, place, call)
        wanted = wants_of(call.name, call.args, context) if self._can_wait(call) else Wanted()
        call = Call(call.name, call.args, call_text(call.name, call.args, context.memory), entered)
        inside = self.view.end_ns - entered
        for want in wanted.wants:
            self._describe(want.object_id, want.kind)
        stack = self.stacks.get((tid, entered))
        sleeps = bool(wanted.wants) and inside >= floor
        return Thread(
            Tid(tid),
            process.pid,
            stack.thread_name if stack is not None and stack.thread_name else name,
            "T" if stopped else "S" if sleeps else "R",
            call,
            wanted.wants,
            False,
            wanted.timeout_ns,
            since_ns=entered,
            moved=not stopped and (not sleeps or inside < APART_NS),
            stack=stack.frames if stack is not None else (),
            start_ns=start,
        )

    @staticmethod
    def _can_wait(call: Call) -> bool:
        row = by_name().get(call.name)
        return row is not None and row.blocks

    # Objects ------------------------------------------------------------------------------------

    def _describe(self, object_id: ObjectId, kind: WaitKind) -> None:
        if object_id in self.objects:
            return
        prefix = object_id.partition(":")[0]
        if prefix in ("futex", "shared"):
            self.objects[object_id] = self._word(object_id)
        elif object_id in self.view.on.objects[: len(self.view.descriptors.objects)]:
            self.objects[object_id] = self._descriptor(object_id)
        elif prefix == "lock":
            self.objects[object_id] = WaitObject(object_id, ObjectKind.FILE_LOCK, "file lock")

    def _word(self, object_id: ObjectId) -> WaitObject:
        number = self.view.on.objects.index(object_id) if object_id in self.view.on.objects else -1
        mapping = self.view.on.mapping.get(number, "")
        if object_id.startswith("futex:"):
            return WaitObject(object_id, ObjectKind.FUTEX, "futex word", mapping=mapping)
        semaphore = mapping.rpartition("/")[2].startswith("sem.")
        holders = tuple(Holder(Tgid(pid)) for pid in sorted(self._mappers(object_id)))
        kind = ObjectKind.SEMAPHORE if semaphore else ObjectKind.FUTEX
        label = "semaphore" if semaphore else "shared futex"
        return WaitObject(object_id, kind, label, mapping=mapping, holders=holders)

    def _mappers(self, object_id: str) -> set[int]:
        # Who was seen with the word, and every copy of them: fork copies shared mappings.
        found = set(self.view.words.sharers().get(object_id, ()))
        forks = sorted(self.family.forked(), key=lambda birth: birth.time_ns)
        for birth in forks:
            if birth.parent in found:
                found.add(birth.pid)
        return {pid for pid in found if self.family.threads.get(pid)}

    def _descriptor(self, object_id: ObjectId) -> WaitObject:
        number = self.view.on.objects.index(object_id)
        node = self.view.descriptors.nodes[number]
        holders = [Holder(Tgid(one.pid), Fd(one.fd), one.access or "rw") for one in self.held.get(number, ())]
        peer_number = int(self.view.descriptors.peers[number])
        peer = ObjectId(self.view.on.objects[peer_number]) if peer_number >= 0 else None
        made = WaitObject(
            object_id,
            node.kind,
            "unix socket" if peer is not None else str(node.kind),
            self._level(object_id) if node.kind is ObjectKind.PIPE else None,
            self.view.descriptors.capacity_at(number, self.view.end_ns),
            peer=peer,
        )
        seen = self.seen.get(object_id)
        if seen is not None and (node.creator_pid is None or (node.kind is ObjectKind.SOCKET and peer is None)):
            known = {(holder.pid, holder.fd) for holder in holders}
            holders += [one for one in seen.holders if (one.pid, one.fd) not in known and self._lives(int(one.pid))]
            peer = seen.peer
            made = replace(made, label=seen.label, peer=peer, remote=seen.remote, listening=seen.listening)
        made = replace(made, holders=tuple(holders))
        if peer is not None and peer not in self.objects:
            self.objects[object_id] = made
            if peer in self.view.on.objects:
                self.objects[peer] = self._descriptor(peer)
            elif peer in self.seen:
                self.objects[peer] = self.seen[peer]
        return made

    def _lives(self, pid: int) -> bool:
        # A process from outside of the tree lived, as far as is known, all along.
        return pid not in self.family.threads or bool(self.family.threads[pid])

    def _level(self, object_id: str) -> int | None:
        if self._fill is None:
            view = self.view
            streams = streams_of(view.calls, view.meta, view.descriptors, view.on)
            names = view.on.objects
            known = {names.index(name): level for name, level in self.levels.items() if name in names}
            fill = fill_of(streams, view.descriptors, view.on, known)
            ends = np.flatnonzero(np.diff(fill.stream, append=-1))
            self._fill = {names[int(fill.stream[at])]: int(fill.bytes[at]) for at in ends}
        return self._fill.get(object_id)


@dataclass(slots=True)
class _Context:
    """Answers questions about a recorded call: see `qtrace.model.wants.CallContext`."""

    tree: _Rebuilding
    pid: Tgid
    place: int
    call: Call

    def object_of(self, fd: Fd) -> tuple[ObjectId, ObjectKind] | None:
        held = self.tree.by_fd.get((int(self.pid), int(fd)))
        if held is None:
            return None
        return ObjectId(self.tree.view.on.objects[held.number]), self.tree.view.descriptors.nodes[held.number].kind

    def word(self, address: int, private: bool) -> ObjectId:
        if private:
            return ObjectId(f"futex:{self.pid}:{address:#x}")
        return ObjectId(self.tree.view.words.object_at(int(self.pid), address, self.tree.view.end_ns))

    def file_lock(self, fd: Fd) -> ObjectId:
        found = self.object_of(fd)
        known = found is not None and found[0].startswith("file:")
        return ObjectId("lock" + found[0][4:]) if found is not None and known else ObjectId("lock:?")

    def memory(self, address: int, size: int) -> bytes:
        """What the call pointed to, as far as it was recorded."""
        record = self.tree.view.calls[self.place]
        has_head = bool(int(record["flags"]) & int(CallFlag.HAS_HEAD))
        if self.call.name in ("poll", "ppoll") and address == self.call.args[0]:
            this = self.tree.view.calls[self.place : self.place + 1]
            watched = poll_sets(this, np.ones(1, dtype=bool), self.tree.view.details)
            if watched:
                return b"".join(struct.pack("<iHH", fd, events & 0xFFFF, 0) for fd, events in watched[0])[:size]
            return int(record["head"]).to_bytes(8, "little")[:size] if has_head and self.call.args[1] == 1 else b""
        place = _TIMEOUT_ARGUMENT.get(self.call.name)
        if place is not None and has_head and address == self.call.args[place]:
            return struct.pack("<qq", *divmod(int(record["head"]), _NS))[:size]
        return b""

    def watched(self, fd: Fd) -> Sequence[tuple[Fd, int]]:
        """What an epoll instance watches, by its history of epoll_ctl."""
        view = self.tree.view
        held = self.tree.by_fd.get((int(self.pid), int(fd)))
        if held is None:
            return ()
        which = chosen(view.calls, view.architecture, ["epoll_ctl"]) & (view.on.number == held.number)
        which &= view.calls["ret"] >= 0
        found: dict[int, int] = {}
        for record in view.calls[which].tolist():
            operation, target, events = record[8] & 0xFFFFFFFF, record[9] & 0xFFFFFFFF, record[13] & 0xFFFFFFFF
            if operation == _EPOLL_DEL:
                found.pop(target, None)
            else:
                found[target] = events
        return [(Fd(target), events) for target, events in found.items()]

    def now_ns(self, clock: int) -> int:
        """The time of a clock at the moment."""
        meta = self.tree.view.meta
        now = self.tree.view.end_ns
        wall, start = meta.get("start_wall_ns", ""), meta.get("start_ns", "")
        if clock == 0 and wall.isdigit() and start.isdigit():
            return now + int(wall) - int(start)
        return now
