"""What the threads of a tree wait on, with everyone who holds it, from /proc.

One index of all descriptors of all processes that may be read serves all questions. Whoever changes
a descriptor has run since, and shows as moved: a slightly old index cannot make a false hang.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from qtrace.capture import grab, procfs
from qtrace.capture.identity import TERMINAL_MASTERS, identify_link
from qtrace.capture.memory import MemoryReader
from qtrace.model.ids import Fd, ObjectId, Tgid, Tid
from qtrace.model.kinds import ObjectKind
from qtrace.model.snapshot import Holder, WaitObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtrace.capture import peers

_INDEXED = ("pipe:[", "socket:[", "/", "anon_inode:[eventfd]")
_CONTENDED = 2
"""The word of a pthread mutex that somebody waits for (glibc, lowlevellock.h)."""


@dataclass(slots=True)
class Descriptors:
    """Every descriptor of every process that may be read."""

    by_process: dict[int, dict[int, str]] = field(default_factory=dict)
    by_link: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    """Processes whose descriptors may not be read."""


def index_descriptors(pids: Iterable[int]) -> Descriptors:
    """Return the descriptors of these processes."""
    found = Descriptors()
    for pid in pids:
        try:
            links = procfs.descriptors(pid)
        except PermissionError:
            found.refused.append(pid)
            continue
        found.by_process[pid] = links
        for fd, link in links.items():
            if link.startswith(_INDEXED):
                found.by_link.setdefault(link, []).append((pid, fd))
    return found


@dataclass(slots=True)
class ObjectFinder:
    """Answers what a descriptor or a futex word is, and describes it with all its holders."""

    descriptors: Descriptors
    tree: Collection[int]
    maps: Mapping[int, procfs.Maps]
    """Of every process that may be read."""
    unseen: Collection[int] = ()
    """Processes of the tree whose descriptors are not known: they may hold anything."""
    found: dict[ObjectId, WaitObject] = field(default_factory=dict)
    _known: dict[tuple[int, int], tuple[ObjectId, ObjectKind]] = field(default_factory=dict)
    _only_as_peer: set[ObjectId] = field(default_factory=set)
    """Sockets described only as the other end of one that somebody waits on."""
    _unix: peers.UnixPeers | None = None
    _listening: set[ObjectId] = field(default_factory=set)
    """Sockets that somebody is connected to and that has not been accepted."""
    _internet: Mapping[tuple[tuple[str, int], tuple[str, int]], int] | None = None

    # --- what a descriptor is --------------------------------------------------------------------

    def identify(self, pid: int, fd: int) -> tuple[ObjectId, ObjectKind] | None:
        """Return a descriptor's object and kind, or None if it is not known."""
        key = (pid, fd)
        if key not in self._known:
            link = self.descriptors.by_process.get(pid, {}).get(fd)
            if link is None:
                return None
            self._known[key] = identify_link(pid, fd, link)
        return self._known[key]

    def watched(self, pid: int, fd: int) -> list[tuple[Fd, int]]:
        """Return the descriptors and events that an epoll instance watches."""
        found = []
        for line in procfs.fdinfo(pid, fd):
            if line.startswith("tfd:"):
                fields = line.split()
                found.append((Fd(int(fields[1])), int(fields[3], 16)))
        return found

    # --- futex words -----------------------------------------------------------------------------

    def mapping_of(self, pid: int, address: int) -> procfs.Mapping | None:
        """Return the mapping that an address lies in."""
        maps = self.maps.get(pid)
        return maps.at(address) if maps is not None else None

    def word(self, pid: int, address: int, private: bool) -> ObjectId:
        """Return which object a futex word is, and describe it."""
        mapping = self.mapping_of(pid, address)
        if mapping is not None and mapping.shared and not private:
            offset = address - mapping.start + mapping.offset
            object_id = ObjectId(f"shared:{mapping.device}:{mapping.inode}:{offset:#x}")
        else:
            object_id = ObjectId(f"futex:{pid}:{address:#x}")
        if object_id not in self.found:
            self.found[object_id] = self._describe_word(object_id, pid, address, mapping)
        return object_id

    def _describe_word(self, object_id: ObjectId, pid: int, address: int, mapping: procfs.Mapping | None) -> WaitObject:
        raw = MemoryReader()(pid, address, 12)
        value, second, third = struct.unpack("<3I", raw) if len(raw) == 12 else (None, None, None)
        shared = object_id.startswith("shared:")
        holders = self._sharers(mapping) if shared and mapping is not None else (Holder(Tgid(pid)),)
        owner = Tid(third) if value == _CONTENDED and third and self._is_thread(third, holders) else None
        path = (mapping.path or self._zeroed_data_of(pid, mapping)) if mapping is not None else ""
        semaphore = shared and owner is None and "/sem." in path
        return WaitObject(
            object_id,
            ObjectKind.SEMAPHORE if semaphore else ObjectKind.FUTEX,
            "semaphore" if semaphore else "lock",
            value=value,
            waiters=second if semaphore else None,
            owner_tid=owner,
            mapping=path or "anon",
            holders=holders,
        )

    def _zeroed_data_of(self, pid: int, mapping: procfs.Mapping) -> str:
        # The .bss of a binary or library: anonymous memory right behind its mapped data. The
        # interpreter's lock lies there up to CPython 3.8.
        before = self.maps[pid].ending_at(mapping.start)
        return before.path if before is not None and before.path.startswith("/") else ""

    @staticmethod
    def _is_thread(tid: int, holders: Iterable[Holder]) -> bool:
        return any(os.path.exists(f"/proc/{holder.pid}/task/{tid}") for holder in holders)

    def _sharers(self, mapping: procfs.Mapping) -> tuple[Holder, ...]:
        pids = [pid for pid, maps in self.maps.items() if maps.shares(mapping.device, mapping.inode)]
        pids += [pid for pid in self.unseen if pid not in pids]
        return tuple(Holder(Tgid(pid)) for pid in pids)

    # --- file locks ------------------------------------------------------------------------------

    def file_lock(self, pid: int, fd: int) -> ObjectId:
        """Return the lock that a process waits for on a file, with its holder by /proc/locks."""
        blocking = {}
        for number, waiting, owner, key in procfs.locks():
            if not waiting:
                blocking[number] = (owner, key)
            elif owner == pid and number in blocking:
                return self._describe_lock(pid, fd, *blocking[number])
        link = self.descriptors.by_process.get(pid, {}).get(fd, "")
        return self._describe_lock(pid, fd, -1, link)

    def _describe_lock(self, pid: int, fd: int, owner: int, key: str) -> ObjectId:
        object_id = ObjectId(f"lock:{key}")
        path = self.descriptors.by_process.get(pid, {}).get(fd, "")
        copies = self.descriptors.by_link.get(path, ())
        # A flock belongs to the open file, which fork and dup share: fdinfo shows it on every copy.
        locked = [copy for copy in copies if procfs.fdinfo_field(procfs.fdinfo(*copy), "lock") is not None]
        holders = tuple(Holder(Tgid(other), Fd(number)) for other, number in locked or copies)
        self.found[object_id] = WaitObject(
            object_id,
            ObjectKind.FILE_LOCK,
            f"lock on {path}",
            owner_pid=Tgid(owner) if owner > 0 else None,
            holders=holders,
            path=path,
        )
        return object_id

    # --- descriptions ----------------------------------------------------------------------------

    def describe(self, object_id: ObjectId, pid: int, fd: int | None) -> None:
        """Describe an object that somebody waits on, with level, capacity and holders."""
        if (object_id in self.found and object_id not in self._only_as_peer) or fd is None:
            return
        self._only_as_peer.discard(object_id)
        identity = self.identify(pid, fd)
        if identity is None or identity[0] != object_id:
            return
        kind = identity[1]
        link = self.descriptors.by_process[pid][fd]
        if kind in (ObjectKind.PIPE, ObjectKind.FIFO):
            self._describe_pipe(object_id, kind, pid, fd, link)
        elif kind is ObjectKind.SOCKET:
            self._describe_socket(object_id, pid, fd)
        elif kind is ObjectKind.EVENTFD:
            self._describe_eventfd(object_id, pid, fd, link)
        elif kind is ObjectKind.TTY:
            self._describe_terminal(object_id, link)
        else:
            label = link if link.startswith("/") else link.removeprefix("anon_inode:").strip("[]")
            self.found[object_id] = WaitObject(object_id, kind, label, path=link)

    def _holders(self, link: str) -> tuple[Holder, ...]:
        known = tuple(
            Holder(Tgid(pid), Fd(fd), procfs.access(pid, fd)) for pid, fd in self.descriptors.by_link.get(link, ())
        )
        return known + tuple(Holder(Tgid(pid)) for pid in self.unseen)

    def _describe_pipe(self, object_id: ObjectId, kind: ObjectKind, pid: int, fd: int, link: str) -> None:
        level, capacity = grab.pipe_level(pid, fd)
        label = "pipe" if kind is ObjectKind.PIPE else f"fifo {link}"
        holders = self._holders(link)
        self.found[object_id] = WaitObject(
            object_id, kind, label, level, capacity, holders=holders, path=link if kind is ObjectKind.FIFO else ""
        )

    def _describe_terminal(self, object_id: ObjectId, link: str) -> None:
        # The two sides of a pseudo terminal are each other's peers, like the ends of a socket pair.
        number = str(object_id).removeprefix("ptmx:").rpartition("/")[2]
        slave, master = ObjectId(f"tty:/dev/pts/{number}"), ObjectId(f"ptmx:{number}")
        label = f"terminal {str(slave).removeprefix('tty:') if link in TERMINAL_MASTERS else link}"
        masters = [
            Holder(Tgid(pid), Fd(fd), "rw")
            for name in TERMINAL_MASTERS
            for pid, fd in self.descriptors.by_link.get(name, ())
            if (identity := self.identify(pid, fd)) is not None and identity[0] == master
        ]
        slaves = self._holders(f"/dev/pts/{number}")
        pseudo = object_id in (slave, master)
        holders = {slave: slaves, master: tuple(masters)}
        peer = {slave: master, master: slave}.get(object_id)
        self.found[object_id] = WaitObject(
            object_id,
            ObjectKind.TTY,
            label,
            peer=peer,
            holders=holders[object_id] if pseudo else self._holders(link),
            path=link,
        )
        if peer is not None and peer not in self.found:
            self.found[peer] = WaitObject(peer, ObjectKind.TTY, label, holders=holders[peer])
            self._only_as_peer.add(peer)

    def _describe_eventfd(self, object_id: ObjectId, pid: int, fd: int, link: str) -> None:
        holders = []
        counter = None
        for other, number in self.descriptors.by_link.get(link, ()):
            identity = self.identify(other, number)
            if identity is not None and identity[0] == object_id:
                holders.append(Holder(Tgid(other), Fd(number)))
        text = procfs.fdinfo_field(procfs.fdinfo(pid, fd), "eventfd-count")
        if text is not None:
            counter = int(text, 16)
        # Without the kernel's id (before 5.2) whoever has any eventfd may have this one.
        if object_id.startswith(f"eventfd:{pid}:"):
            holders = [Holder(Tgid(p), Fd(n)) for p, n in self.descriptors.by_link.get(link, ())]
        holders += [Holder(Tgid(p)) for p in self.unseen]
        self.found[object_id] = WaitObject(object_id, ObjectKind.EVENTFD, "eventfd", counter, holders=tuple(holders))

    def _describe_socket(self, object_id: ObjectId, pid: int, fd: int) -> None:
        state = grab.socket_state(pid, fd)
        link = str(object_id)
        if state is None:
            self.found[object_id] = WaitObject(
                object_id, ObjectKind.SOCKET, "socket", remote=True, holders=self._holders(link)
            )
            return
        import socket  # loaded by now, to ask

        internet = state.family in (socket.AF_INET, socket.AF_INET6)
        peer = self._internet_peer(state) if internet else self._unix_peer(link)
        label = _socket_label(state)
        self.found[object_id] = WaitObject(
            object_id,
            ObjectKind.SOCKET,
            label,
            state.queued_bytes,
            state.send_buffer,
            peer,
            remote=internet and peer is None and not state.listening,
            listening=state.listening,
            holders=self._holders(link),
        )
        if peer is not None and peer not in self.found:
            listening = peer in self._listening
            holders = self._holders(str(peer))
            self.found[peer] = WaitObject(peer, ObjectKind.SOCKET, label, listening=listening, holders=holders)
            self._only_as_peer.add(peer)

    def connecting(self, object_id: ObjectId, address: bytes) -> None:
        """Say to which listening Unix socket a socket is being connected."""
        from qtrace.capture import peers

        known = self.found.get(object_id)
        inode = peers.unix_listener(address) if known is not None and known.peer is None else None
        if known is None or inode is None:
            return
        peer = ObjectId(f"socket:[{inode}]")
        self.found[object_id] = replace(known, peer=peer)
        if peer not in self.found:
            holders = self._holders(str(peer))
            self.found[peer] = WaitObject(
                peer, ObjectKind.SOCKET, "listening unix socket", listening=True, holders=holders
            )
            self._only_as_peer.add(peer)

    def _unix_peer(self, link: str) -> ObjectId | None:
        from qtrace.capture import peers

        if self._unix is None:
            self._unix = peers.unix_peers()
        own = int(link[len("socket:[") : -1])
        inode = self._unix.peers.get(own)
        return ObjectId(f"socket:[{inode}]") if inode else self._accepts(self._unix.listeners.get(own))

    def _accepts(self, inode: int | None) -> ObjectId | None:
        if not inode:
            return None
        found = ObjectId(f"socket:[{inode}]")
        self._listening.add(found)
        return found

    def _internet_peer(self, state: grab.SocketState) -> ObjectId | None:
        from qtrace.capture import peers

        if state.local is None or state.remote is None:
            return None
        if self._internet is None:
            self._internet = peers.internet_sockets()
        local = (peers.plain_host(state.local[0]), state.local[1])
        remote = (peers.plain_host(state.remote[0]), state.remote[1])
        inode = self._internet.get((remote, local))
        return ObjectId(f"socket:[{inode}]") if inode else self._accepts(self._listener(remote))

    def _listener(self, address: tuple[str, int]) -> int | None:
        # Connected and not yet accepted: the one who could accept it holds the listening socket.
        assert self._internet is not None
        everywhere = (("0.0.0.0", 0), ("::", 0))
        for (host, port), other in self._internet:
            if port == address[1] and other in everywhere and host in (address[0], "0.0.0.0", "::"):
                return self._internet[(host, port), other] or None
        return None


def _socket_label(state: grab.SocketState) -> str:
    import socket

    if state.family == socket.AF_UNIX:
        return "listening unix socket" if state.listening else "unix socket"
    if state.family not in (socket.AF_INET, socket.AF_INET6):
        return "socket"
    place = state.local if state.listening else state.remote
    where = f" {place[0]}:{place[1]}" if place is not None else ""
    return f"{'listening ' if state.listening else ''}TCP socket{where}"


def holders_of(objects: Mapping[ObjectId, WaitObject]) -> set[int]:
    """Return every process that holds one of the objects."""
    return {int(holder.pid) for target in objects.values() for holder in target.holders}
