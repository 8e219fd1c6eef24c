"""A small kernel: processes with descriptor tables, whose every call is written down as a tracer would."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np

from qtrace.model.records import CALL_FIELDS
from tests.tracefile.recordings import event, packed

O_CLOEXEC = 0o2000000
CLONE_FILES = 0x400


@dataclass
class Descriptor:
    """An open descriptor."""

    object_id: str
    access: str
    cloexec: bool = False


@dataclass
class Kernel:
    """Runs calls, one after the other, and keeps what was true at each moment."""

    calls: list[bytes] = field(default_factory=list)
    lifecycle: list[tuple[object, ...]] = field(default_factory=list)
    sightings: list[tuple[object, ...]] = field(default_factory=list)
    truths: list[tuple[int, dict[int, dict[int, Descriptor]]]] = field(default_factory=list)
    tables: dict[int, dict[int, Descriptor]] = field(default_factory=lambda: {100: {}})
    seen: set[str] = field(default_factory=set)
    now: int = 1_000
    next_inode: int = 1
    next_pid: int = 101

    def free(self, pid: int, at_least: int = 0) -> int:
        """Return the lowest free descriptor."""
        return next(fd for fd in range(at_least, 10_000) if fd not in self.tables[pid])

    def inode(self, kind: str) -> str:
        """Return a new object's id."""
        self.next_inode += 1
        return f"{kind}:[{self.next_inode}]"

    def open(self, pid: int, object_id: str, access: str, cloexec: bool = False) -> int:
        """Put an object into a process's table."""
        fd = self.free(pid)
        self.tables[pid][fd] = Descriptor(object_id, access, cloexec)
        return fd

    def record(
        self, pid: int, name: str, args: tuple[int, ...] = (), ret: int = 0, head: bytes | None = None, spent: int = 5
    ) -> None:
        """Write a call down that took effect now; it began `spent` ago (a close begins now)."""
        start = self.now if name == "close" else self.now - spent
        self.calls.append(packed(start, spent, pid, name, args, ret, head=head))

    def tick(self) -> None:
        """Let time pass, and keep what is true until the next call."""
        self.now += 10
        copies = {id(table): {fd: Descriptor(d.object_id, d.access) for fd, d in table.items()} for table in
                  self.tables.values()}  # fmt: skip
        self.truths.append((self.now, {pid: copies[id(table)] for pid, table in self.tables.items()}))
        self.now += 10

    # Calls --------------------------------------------------------------------------------------

    def pipe(self, pid: int, cloexec: bool = True, spent: int = 5) -> tuple[int, int]:
        """pipe2."""
        name = self.inode("pipe")
        read, write = self.open(pid, name, "r", cloexec), self.open(pid, name, "w", cloexec)
        head = read.to_bytes(4, "little") + write.to_bytes(4, "little")
        self.record(pid, "pipe2", (0, O_CLOEXEC * cloexec), 0, head, spent)
        return read, write

    def socketpair(self, pid: int, spent: int = 5) -> tuple[int, int]:
        """socketpair with close-on-exec."""
        one, two = self.inode("socket"), self.inode("socket")
        first, second = self.open(pid, one, "rw", True), self.open(pid, two, "rw", True)
        head = first.to_bytes(4, "little") + second.to_bytes(4, "little")
        self.record(pid, "socketpair", (1, 1 | O_CLOEXEC, 0), 0, head, spent)
        return first, second

    def unrecorded_open(self, pid: int) -> None:
        """A call that is not traced; the tracer looks at the descriptor some time later."""
        fd = self.open(pid, self.inode("file"), "r")
        self.tick()
        self.sight(pid, fd)

    def sight(self, pid: int, fd: int) -> None:
        """The tracer looks at a descriptor."""
        found = self.tables[pid].get(fd)
        if found is not None:
            self.seen.add(found.object_id)
            self.sightings.append((self.now, pid, fd, found.object_id, found.object_id, found.access, None))

    def dup(self, pid: int, fd: int, target: int | None, cloexec: bool, spent: int = 5) -> None:
        """dup, dup3 or F_DUPFD_CLOEXEC."""
        source = self.tables[pid].get(fd)
        if source is None:
            self.record(pid, "dup", (fd,), -9, spent=spent)
            return
        if target is None and cloexec:
            new = self.free(pid, 3)
            self.record(pid, "fcntl", (fd, 1030, 3), new, spent=spent)
        elif target is None:
            new = self.free(pid)
            self.record(pid, "dup", (fd,), new, spent=spent)
        elif target == fd:
            return
        else:
            new = target
            self.record(pid, "dup3", (fd, new, O_CLOEXEC * cloexec), new, spent=spent)
        self.tables[pid][new] = Descriptor(source.object_id, source.access, cloexec)

    def close(self, pid: int, fd: int, spent: int = 5) -> None:
        """close: gone at once, and another thread may be given the number before it returns."""
        known = self.tables[pid].pop(fd, None)
        self.record(pid, "close", (fd,), 0 if known else -9, spent=spent)

    def close_range(self, pid: int, first: int, last: int) -> None:
        """close_range."""
        self.record(pid, "close_range", (first, last, 0))
        for fd in [fd for fd in self.tables[pid] if first <= fd <= last]:
            del self.tables[pid][fd]

    def fork(self, pid: int, share: bool) -> None:
        """fork, or clone with CLONE_FILES."""
        child = self.next_pid
        self.next_pid += 1
        table = self.tables[pid]
        copy = {fd: Descriptor(d.object_id, d.access, d.cloexec) for fd, d in table.items()}
        self.tables[child] = table if share else copy
        self.lifecycle.append(event(self.now, pid, pid, "clone", child, flags=CLONE_FILES * share, thread=False))

    def exec(self, pid: int) -> None:
        """execve: a table of its own, without the close-on-exec ones."""
        self.tables[pid] = {
            fd: Descriptor(d.object_id, d.access, d.cloexec) for fd, d in self.tables[pid].items() if not d.cloexec
        }
        self.lifecycle.append(event(self.now, pid, pid, "exec", argv=["x"]))

    def exit(self, pid: int) -> None:
        """The process ends."""
        if len(self.tables) > 1:
            del self.tables[pid]
            self.lifecycle.append(event(self.now, pid, pid, "exit"))

    def array(self) -> np.ndarray:
        """Return the calls as a reader gives them."""
        records = np.frombuffer(b"".join(self.calls), dtype=np.dtype(CALL_FIELDS))
        return records[np.argsort(records["start_ns"], kind="stable")]


def pollfds(*watched: tuple[int, int, int]) -> str:
    """Return the JSON of a poll set: (fd, events, revents)."""
    return json.dumps([list(row) for row in watched])
