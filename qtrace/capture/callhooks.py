"""What has to be read from a tracee while it is stopped at a call: once, at the right stop, cheaply.

Most calls need nothing. A read on a pipe is worth eight bytes (the message's length) when it
returns, a write on one when it begins, for it may never return. What a descriptor is, is looked up
when it is first used and forgotten when it is closed or replaced; the same for futex words.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from qtrace.capture import grab, procfs, ptrace_calls
from qtrace.capture.hot_stops import MOST_CALLS, HotStops, How, Known
from qtrace.capture.identity import identify_link
from qtrace.capture.memory import MemoryReader, OpenMemory
from qtrace.model.futex import FUTEX_COMMAND, FUTEX_PRIVATE, FUTEX_WAITS
from qtrace.model.kinds import ObjectKind
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtrace.capture.placement import Placement
    from qtrace.capture.tracees import RowSink

HAS_HEAD = int(CallFlag.HAS_HEAD)
PRIVATE_WORDS = 64
"""So many private futex words of a process are looked up: enough for the interpreter's own, which
are used first, and a bound for programs that make locks by the thousand."""
_HEADED = frozenset({ObjectKind.PIPE, ObjectKind.FIFO, ObjectKind.SOCKET})
_TIMESPEC = struct.Struct("<qq")
_NS = 1_000_000_000

_read_memory = MemoryReader()  # for the loop's thread alone

EntryHook = Callable[[int, int, list[int], int], int | None]
"""(tid, pid, [nr, a0...a5], now_ns) to the head, or None."""
ExitHook = Callable[[int, int, list[int], int, int], int | None]
"""(tid, pid, [nr, a0...a5], ret, now_ns) to the head, or None."""


class _Known:
    """What is known of one process's address space and descriptor table."""

    __slots__ = ("fds", "maps", "private_words", "shared", "words")

    fds: dict[int, bool]
    """Descriptor to whether the first bytes of its messages are wanted."""
    words: set[int]
    private_words: int
    maps: procfs.Maps
    shared: Known | None
    """The same, as far as the library of hot stops has to have it."""

    def __init__(self) -> None:
        self.fds = {}
        self.words = set()
        self.private_words = 0
        self.maps = procfs.NO_MAPS
        self.shared = None

    def copied(self) -> _Known:
        """Return what a new process knows that begins with a copy of all this."""
        copy = _Known()
        copy.fds, copy.words = self.fds.copy(), self.words.copy()
        copy.private_words, copy.maps = self.private_words, self.maps
        copy.shared = Known.from_buffer_copy(self.shared) if self.shared is not None else None
        return copy

    def put_fd(self, fd: int, headed: bool) -> None:
        """A descriptor has been looked up."""
        self.fds[fd] = headed
        if self.shared is not None:
            self.shared.put_fd(fd, headed)

    def drop_fd(self, fd: int) -> None:
        """A descriptor has been closed, or is another one now."""
        self.fds.pop(fd, None)
        if self.shared is not None:
            self.shared.drop_fd(fd)


class CallHooks:
    """Hooks by call number, and what they remember."""

    def __init__(self, sink: RowSink, machine: Architecture, placement: Placement) -> None:
        self._sink = sink
        self._known: dict[int, _Known] = {}
        self._memory = OpenMemory()
        self._rings_seen = False
        self._hot: HotStops | None = None

        def numbered(table: dict[str, Callable[..., int | None]]) -> dict[int, Callable[..., int | None]]:
            pairs = ((number_of(name, machine), hook) for name, hook in table.items())
            return {number: hook for number, hook in pairs if number is not None}

        self._futex_number = number_of("futex", machine)
        places = {"futex": 4, "nanosleep": 1, "clock_nanosleep": 3}
        self._time_places = {number_of(name, machine): place for name, place in places.items()}
        reads = dict.fromkeys(("read", "readv", "pread64", "recvfrom", "recvmsg"), self._descriptor)
        traced = {"clone": _traced_after_all} if machine is Architecture.X86_64 else {}
        self.entry: dict[int, EntryHook] = numbered(
            traced
            | reads
            | dict.fromkeys(("accept", "accept4", "connect", "flock", "fcntl", "dup", "dup2", "dup3"), self._descriptor)
            | dict.fromkeys(("epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl"), self._descriptor)
            | dict.fromkeys(("write", "sendto", "pwrite64"), self._write)
            | dict.fromkeys(("writev", "sendmsg", "close"), self._descriptor)
            | {
                "sched_setaffinity": lambda tid, pid, call, now: placement.before_affinity_call(tid, call[1], True),
                "sched_getaffinity": lambda tid, pid, call, now: placement.before_affinity_call(tid, call[1], False),
                "futex": self._futex,
                "nanosleep": lambda tid, pid, call, now: self._duration(tid, call[1]),
                "clock_nanosleep": lambda tid, pid, call, now: self._duration(tid, call[3]),
                "poll": self._poll_entry,
                "ppoll": self._poll_entry,
            }
        )
        untraced = {"clone": _untraced_again} if machine is Architecture.X86_64 else {}
        self.exit: dict[int, ExitHook] = numbered(
            untraced
            | dict.fromkeys(("read", "recvfrom", "pread64"), self._read)
            | dict.fromkeys(("pipe", "pipe2"), lambda tid, pid, call, ret, now: self._made(tid, pid, call[1], ret, now))
            | {
                "socketpair": lambda tid, pid, call, ret, now: self._made(tid, pid, call[4], ret, now),
                "wait4": self._waited,
                "io_uring_setup": self._ring_made,
                "poll": self._polled,
                "ppoll": self._polled,
                "epoll_ctl": lambda tid, pid, call, ret, now: (
                    self._memory.number(tid, pid, call[4], 8) if call[4] else None
                ),
                "close": self._closed,
                "close_range": self._closed_many,
                "dup2": self._replaced,
                "dup3": self._replaced,
            }
        )

    # --- processes -------------------------------------------------------------------------------

    def forked(self, parent: int, child: int) -> None:
        """A new process begins with what its parent knew."""
        known = self._known.get(parent)
        if known is not None:
            self._known[child] = known.copied()

    def shares(self, parent: int, child: int) -> None:
        """A new process uses its parent's descriptor table (CLONE_FILES)."""
        self._known[child] = self._of(parent)

    def forget(self, pid: int) -> None:
        """A process has ended, or became another program."""
        self._known.pop(pid, None)
        self._memory.forget(pid)

    def prepare(self, hot: HotStops, architecture: int) -> None:
        """Tell the library of hot stops which calls it can handle: those that have no hook, or one that it has too.

        Args:
            hot: The library.
            architecture: AUDIT_ARCH of the calls.
        """
        at_entry: dict[EntryHook, How] = {
            self._descriptor: How.USES_FD,
            self._write: How.WRITES,
            self._futex: How.USES_WORD,
            _traced_after_all: How.CLONES,
        }
        at_exit: dict[ExitHook, How] = {
            self._read: How.READS,
            self._waited: How.WAITS_FOR,
            _untraced_again: How.CLONES,
        }
        numbers = range(MOST_CALLS)
        hot.prepare(
            architecture,
            {nr: at_entry.get(self.entry[nr], How.BY_PYTHON) if nr in self.entry else How.PLAIN for nr in numbers},
            {nr: at_exit.get(self.exit[nr], How.BY_PYTHON) if nr in self.exit else How.PLAIN for nr in numbers},
            FUTEX_WAITS,
            (FUTEX_COMMAND, FUTEX_PRIVATE),
        )
        self._hot = hot
        self._memory.before_close = hot.close_memory

    def hand_over(self, hot: HotStops, tid: int, pid: int) -> None:
        """Have the library handle the hot stops of a thread, with what is known of its process now and later."""
        hot.adopt(tid, pid, self._shared_with(hot, pid), self._memory.file(tid, pid))

    def _shared_with(self, hot: HotStops, pid: int) -> Known:
        known = self._of(pid)
        if known.shared is None:
            known.shared = Known()
            for fd, headed in known.fds.items():
                known.shared.put_fd(fd, headed)
            for address in known.words:
                hot.add_word(known.shared, address)
            known.shared.enough_private = known.private_words > PRIVATE_WORDS
        return known.shared

    def _of(self, pid: int) -> _Known:
        known = self._known.get(pid)
        if known is None:
            known = self._known[pid] = _Known()
        return known

    # --- descriptors -----------------------------------------------------------------------------

    def _descriptor(self, tid: int, pid: int, call: list[int], now: int) -> int | None:
        fd = call[1]
        known = self._known.get(pid)
        if known is None or fd not in known.fds:
            self._sight(pid, fd, now)
        return None

    def _sight(self, pid: int, fd: int, now: int) -> bool:
        if fd > 0x7FFFFFFF:
            return False
        link = procfs.link(f"/proc/{pid}/fd/{fd}")
        if not link:
            return False
        object_id, kind = identify_link(pid, fd, link)
        access = procfs.access(pid, fd)
        capacity = grab.pipe_level(pid, fd)[1] if kind in (ObjectKind.PIPE, ObjectKind.FIFO) else None
        self._sink("sightings", (now, pid, fd, link, object_id, access, capacity))
        self._of(pid).put_fd(fd, kind in _HEADED)
        return kind in _HEADED

    def _made(self, tid: int, pid: int, address: int, ret: int, now: int) -> int | None:
        head = self._memory.number(tid, pid, address, 8) if ret == 0 else None
        if head is not None:
            for fd in (head & 0xFFFFFFFF, head >> 32):
                self._sight(pid, fd, now)
        return head

    def _closed(self, tid: int, pid: int, call: list[int], ret: int, now: int) -> int | None:
        known = self._known.get(pid)
        if known is not None:
            known.drop_fd(call[1])
        return None

    def _closed_many(self, tid: int, pid: int, call: list[int], ret: int, now: int) -> int | None:
        known = self._known.get(pid)
        if known is not None:
            for fd in [fd for fd in known.fds if call[1] <= fd <= call[2]]:
                known.drop_fd(fd)
        return None

    def _replaced(self, tid: int, pid: int, call: list[int], ret: int, now: int) -> int | None:
        if ret >= 0:
            self._of(pid).drop_fd(ret)
        return None

    def _ring_made(self, tid: int, pid: int, call: list[int], ret: int, now: int) -> int | None:
        if ret >= 0 and not self._rings_seen:
            self._rings_seen = True
            self._sink("losses", (now, None, None, "io_uring", "what is read and written through io_uring is not seen"))
        return None

    # --- data ------------------------------------------------------------------------------------

    def _write(self, tid: int, pid: int, call: list[int], now: int) -> int | None:
        known = self._known.get(pid)
        wanted = known.fds.get(call[1]) if known is not None else None
        if wanted is None:
            wanted = self._sight(pid, call[1], now)
        return self._memory.number(tid, pid, call[2], min(call[3], 8)) if wanted and call[3] else None

    def _read(self, tid: int, pid: int, call: list[int], ret: int, now: int) -> int | None:
        if ret <= 0:
            return None
        known = self._known.get(pid)
        if known is None or not known.fds.get(call[1]):
            return None
        return self._memory.number(tid, pid, call[2], min(ret, 8))

    # --- waits -----------------------------------------------------------------------------------

    def _futex(self, tid: int, pid: int, call: list[int], now: int) -> int | None:
        address, operation = call[1], call[2]
        known = self._known.get(pid)
        if known is None:
            known = self._of(pid)
        if address not in known.words:
            self._word_seen(known, pid, address, bool(operation & FUTEX_PRIVATE), now)
        if call[4] and operation & FUTEX_COMMAND in FUTEX_WAITS:
            return self._duration(tid, call[4])
        return None

    def _word_seen(self, known: _Known, pid: int, address: int, private: bool, now: int) -> None:
        if private:
            known.private_words += 1
            if known.private_words > PRIVATE_WORDS:
                if known.shared is not None:
                    known.shared.enough_private = 1
                return
        known.words.add(address)
        if known.shared is not None and self._hot is not None:
            self._hot.add_word(known.shared, address)
        mapping = known.maps.at(address)
        if mapping is None:
            try:
                known.maps = procfs.maps_of(pid)
            except OSError:
                return
            mapping = known.maps.at(address)
        self._sink("words", (now, pid, address, *word_object(mapping, pid, address, private)))

    def _duration(self, tid: int, address: int) -> int | None:
        return duration_of(_read_memory(tid, address, 16)) if address else None

    def short_duration(self, tid: int, call: list[int]) -> int | None:
        """Return what `_duration` does, for a 32-bit call whose struct timespec has two 32-bit words."""
        if call[0] == self._futex_number and call[2] & FUTEX_COMMAND not in FUTEX_WAITS:
            return None
        address = call[self._time_places[call[0]]]
        raw = _read_memory(tid, address, 8) if address else b""
        if len(raw) < 8:
            return None
        return int.from_bytes(raw[:4], "little") * _NS + int.from_bytes(raw[4:], "little")

    def _waited(self, tid: int, pid: int, call: list[int], ret: int, now: int) -> int | None:
        return self._memory.number(tid, pid, call[2], 4) if ret > 0 and call[2] else None

    def _poll_entry(self, tid: int, pid: int, call: list[int], now: int) -> int | None:
        if call[2] != 1:
            return None
        head = self._memory.number(tid, pid, call[1], 8)
        if head is not None:
            known = self._known.get(pid)
            if known is None or head & 0xFFFFFFFF not in known.fds:
                self._sight(pid, head & 0xFFFFFFFF, now)
        return head

    def _polled(self, tid: int, pid: int, call: list[int], ret: int, now: int) -> int | None:
        return self._memory.number(tid, pid, call[1], 8) if call[2] == 1 else None


_CLONE_UNTRACED = 0x800000


def _traced_after_all(tid: int, pid: int, call: list[int], now: int) -> int | None:
    """A child made with CLONE_UNTRACED inherits the filter, and without a tracer its calls fail.

    So the flag is taken away for the length of the call (as strace does), on x86_64.
    """
    if call[1] & _CLONE_UNTRACED:
        ptrace_calls.set_first_argument(tid, call[1] & ~_CLONE_UNTRACED)
    return None


def _untraced_again(tid: int, pid: int, call: list[int], ret: int, now: int) -> int | None:
    if call[1] & _CLONE_UNTRACED:
        ptrace_calls.set_first_argument(tid, call[1])
    return None


def word_object(mapping: procfs.Mapping | None, pid: int, address: int, private: bool) -> tuple[str, str]:
    """Return the object id of a futex word, and what is mapped there."""
    path = mapping.path if mapping is not None else ""
    if mapping is None or private or not mapping.shared:
        return f"futex:{pid}:{address:#x}", path or "anon"
    offset = address - mapping.start + mapping.offset
    return f"shared:{mapping.device}:{mapping.inode}:{offset:#x}", path or "anon"


def duration_of(timespec: bytes) -> int | None:
    """Return the nanoseconds that a struct timespec holds, as a head holds them; None if it was not there."""
    if len(timespec) < _TIMESPEC.size:
        return None
    seconds, nanoseconds = _TIMESPEC.unpack(timespec)
    return int(seconds * _NS + nanoseconds) & 0xFFFFFFFFFFFFFFFF
