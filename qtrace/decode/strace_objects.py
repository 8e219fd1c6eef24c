"""What descriptors and futex words were, as far as a strace log shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qtrace.decode.strace_lines import LoggedCall
from qtrace.decode.strace_values import c_string, descriptors_in, name_of, number, split_arguments

CLONE_VM, CLONE_FILES, CLONE_THREAD = 0x100, 0x400, 0x10000
_MAP_SHARED, _MAP_FIXED, _MAP_ANONYMOUS = 1, 0x10, 0x20
_FUTEX_PRIVATE = 128
_MOST_FD, _MOST_ADDRESS = (1 << 31) - 1, 1 << 47
_READS = frozenset({"read", "readv"})
_WRITES = frozenset({"write", "writev"})
_NEW_FD = frozenset({"open", "openat", "socket", "accept", "accept4", "dup", "dup2", "dup3", "eventfd", "eventfd2",
                     "epoll_create", "epoll_create1", "pidfd_open", "pidfd_getfd", "fcntl", "timerfd_create",
                     "signalfd4", "memfd_create"})  # fmt: skip
_ANON = {"eventpoll": "epoll", "eventfd": "eventfd", "timerfd": "clock", "signalfd": "signal"}
_INODES = re.compile(r"(?:UNIX|TCP|UDP|TCPv6|UDPv6|NETLINK)[\w-]*:\[(\d+)(?:->(\d+))?[,\]]")

RowSink = Callable[[str, Sequence[object]], None]


@dataclass(frozen=True, slots=True)
class _Mapping:
    start: int
    end: int
    path: str
    shared: bool
    offset: int
    identity: str


@dataclass(slots=True)
class _Known:
    """One process's descriptors and mappings."""

    fds: dict[int, str] = field(default_factory=dict)
    """Object id by descriptor."""
    paths: dict[int, str] = field(default_factory=dict)
    """What it was opened as: for logs without -y."""
    maps: list[_Mapping] = field(default_factory=list)
    """The latest last."""
    words: set[int] = field(default_factory=set)
    family: int = 0
    """The process whose program it has a copy of: where shared words are guessed by address."""


class ObjectsSeen:
    """Tells what descriptors and words were, in the order in which the log shows it."""

    def __init__(self, sink: RowSink) -> None:
        self._sink = sink
        self._known: dict[int, _Known] = {}
        self._fifos: set[str] = set()
        self._same: dict[str, str] = {}
        """Names of a file that has several, to its first: glibc makes a semaphore's file under a name of
        its own and links it to the one that others open."""

    def _of(self, pid: int) -> _Known:
        known = self._known.get(pid)
        if known is None:
            known = self._known[pid] = _Known(family=pid)
        return known

    # Processes ----------------------------------------------------------------------------------

    def made(self, parent: int, child: int, flags: int) -> None:
        """A process was made."""
        above = self._of(parent)
        if flags & CLONE_THREAD:
            return
        files = above if flags & CLONE_FILES else None
        self._known[child] = _Known(
            above.fds if files else dict(above.fds),
            above.paths if files else dict(above.paths),
            list(above.maps),
            set(above.words),
            above.family,
        )

    def execed(self, pid: int) -> None:
        """A process became another program: its mappings are gone, its descriptors may be."""
        old = self._of(pid)
        self._known[pid] = _Known(paths=dict(old.paths), family=pid)

    # Calls --------------------------------------------------------------------------------------

    def entered(self, pid: int, call: LoggedCall) -> None:
        """A call began: what its arguments say, and which word a futex is."""
        text = call.entry_arguments or call.arguments
        if "<" in text and call.name not in ("pipe2", "pipe", "socketpair"):
            self._sight_all(pid, call, text, call.start_ns)
        if call.name in ("futex", "futex_wait", "futex_wake"):
            self._futex(pid, call, text)
        elif call.name == "close":
            fd = number(text)
            known = self._of(pid)
            known.fds.pop(fd or 0, None)
            known.paths.pop(fd or 0, None)

    def returned(self, pid: int, call: LoggedCall) -> None:
        """A call ended."""
        end = call.end_ns if call.end_ns is not None else call.start_ns
        value = number(call.result or "")
        if value is None or value < 0:
            return
        if call.name in ("pipe2", "pipe", "socketpair", "recvmsg"):
            self._sight_all(pid, call, call.arguments, end)
        elif call.name == "mmap":
            self._mapped(pid, call, value)
        elif call.name in ("link", "linkat", "rename", "renameat", "renameat2"):
            names = [
                c_string(word).decode("utf-8", "replace") for word in split_arguments(call.arguments) if '"' in word
            ]
            if len(names) == 2:
                self._same[names[1]] = self._same.get(names[0], names[0])
        elif call.name in ("mknod", "mknodat") and "S_IFIFO" in call.arguments:
            self._fifos.add(c_string(call.arguments).decode("utf-8", "replace"))
        elif call.name in _NEW_FD and not (call.name == "fcntl" and "F_DUPFD" not in call.arguments):
            self._new(pid, call, value, end)

    def _new(self, pid: int, call: LoggedCall, fd: int, end: int) -> None:
        known = self._of(pid)
        known.fds.pop(fd, None)
        known.paths.pop(fd, None)
        name = name_of(f"{fd}{call.words}")
        access = ""
        if call.name in ("open", "openat"):
            path = c_string(call.arguments).decode("utf-8", "replace")
            known.paths[fd] = name.partition("<")[0] or path
            name = name or path
            access = _access_of(call)
        elif call.name in ("dup", "dup2", "dup3", "fcntl"):
            source = number(split_arguments(call.arguments)[0]) or 0
            if source in known.paths:
                known.paths[fd] = known.paths[source]
        if name:
            self._sight(pid, fd, name, end, access)

    # Descriptors --------------------------------------------------------------------------------

    def _sight_all(self, pid: int, call: LoggedCall, text: str, time_ns: int) -> None:
        found = descriptors_in(text)
        for place, (fd, name) in enumerate(found):
            access = ""
            if name.startswith("pipe:["):
                if call.name in ("pipe", "pipe2"):
                    access = "rw"[place]
                else:
                    access = "r" if call.name in _READS else "w" if call.name in _WRITES else ""
            self._sight(pid, fd, name, time_ns, access)

    def _sight(self, pid: int, fd: int, name: str, time_ns: int, access: str) -> None:
        if fd > _MOST_FD:
            return
        object_id = self._object_id(pid, fd, name)
        known = self._of(pid)
        if known.fds.get(fd) == object_id:
            return
        known.fds[fd] = object_id
        link = name.partition("<")[0]
        self._sink("sightings", (time_ns, pid, fd, link, object_id, access, None))

    def _object_id(self, pid: int, fd: int, name: str) -> str:
        if name.startswith(("pipe:[", "socket:[")):
            return name
        inodes = _INODES.match(name)
        if inodes is not None:
            return f"socket:[{inodes[1]}]"
        if name.startswith(("TCP", "UDP", "UNIX", "NETLINK")):
            return f"socket:[{name}]"
        kind = name.removeprefix("anon_inode:").strip("[]").partition(":")[0]
        if kind in _ANON:
            return f"{_ANON[kind]}:{pid}:{fd}"
        if name.startswith("pid:"):
            return f"pidfd:{name[4:]}"
        path, _, special = name.partition("<")
        if special.startswith("char") or path.startswith(("/dev/pts/", "/dev/tty", "/dev/null")):
            terminal = path.startswith(("/dev/pts/", "/dev/tty", "/dev/console"))
            return f"{'tty' if terminal else 'char'}:{path}"
        if path in self._fifos:
            return f"fifo:{path}"
        return f"file:{path}" if path.startswith(("/", ".")) or "/" in path else f"other:{pid}:{fd}"

    # Memory -------------------------------------------------------------------------------------

    def _mapped(self, pid: int, call: LoggedCall, start: int) -> None:
        words = split_arguments(call.arguments)
        if len(words) < 6:
            return
        size, flags, offset = number(words[1]) or 0, number(words[3]) or 0, number(words[5]) or 0
        known = self._of(pid)
        fd = number(words[4])
        path = "" if flags & _MAP_ANONYMOUS else name_of(words[4]).partition("<")[0] or known.paths.get(fd or 0, "")
        shared = bool(flags & _MAP_SHARED) and not flags & 2
        if flags & _MAP_ANONYMOUS and not shared and flags & _MAP_FIXED:
            # The zeroed data of a library lies right behind its mapped data.
            path = next((one.path for one in reversed(known.maps) if one.end == start), "")
        path = path.removesuffix(" (deleted)")
        identity = self._same.get(path, path) or f"anon.{pid}.{start:x}"
        known.maps.append(_Mapping(start, start + size, path, shared, offset, identity))

    def _futex(self, pid: int, call: LoggedCall, text: str) -> None:
        words = split_arguments(text)
        address = number(words[0]) if words else None
        known = self._of(pid)
        place = {"futex_wait": 3, "futex_wake": 2}.get(call.name, 1)
        if address is None or address in known.words or not 0 <= address < _MOST_ADDRESS or place >= len(words):
            return
        known.words.add(address)
        flags = number(words[place]) or 0
        private = bool(flags & _FUTEX_PRIVATE)
        mapping = next((one for one in reversed(known.maps) if one.start <= address < one.end), None)
        if mapping is not None and mapping.shared and not private:
            offset = address - mapping.start + mapping.offset
            object_id, path = f"shared:{mapping.identity}:{offset:#x}", mapping.path
            self._shared(call.start_ns, mapping.identity, offset, object_id, path)
            return
        if mapping is None and not private and not known.maps:
            # The log has no mappings (strace -e): a word that is used across processes lies at the
            # same address in all copies of the program that made it.
            object_id, path = f"shared:copy.of.{known.family}:{address:#x}", ""
        else:
            object_id, path = f"futex:{pid}:{address:#x}", mapping.path if mapping is not None else ""
        self._sink("words", (call.start_ns, pid, address, object_id, path or "anon"))

    def _shared(self, time_ns: int, identity: str, offset: int, object_id: str, path: str) -> None:
        # Whoever has it mapped could wake a waiter, though it never made a call on it.
        for pid, known in self._known.items():
            for one in known.maps:
                address = one.start + offset - one.offset
                if one.identity == identity and one.shared and one.start <= address < min(one.end, _MOST_ADDRESS):
                    known.words.add(address)
                    self._sink("words", (time_ns, pid, address, object_id, path or "anon"))


def _access_of(call: LoggedCall) -> str:
    words = split_arguments(call.arguments)
    place = 1 if call.name == "open" else 2
    flags = number(words[place]) if place < len(words) else None
    return "" if flags is None else ("r", "w", "rw", "")[flags & 3]
