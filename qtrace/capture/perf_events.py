"""perf_event_open(2) on the raw_syscalls tracepoints, and the ring buffers it fills: no stop, no copy but ours.

One event for each CPU and tracepoint, opened on one process and inherited by all that come out of
it; each has a ring of its own. (Entry and exit could share one, but then records of two sizes would
lie mixed, and their borders could only be found one after the other: rings of one size are decoded
in bulk.) What does not fit is dropped by the kernel and counted: a slow reader never holds the
program up.

Sources: perf_event_open(2), linux/perf_event.h; `raw_syscalls` is one of the few tracepoints that may
be had without CAP_PERFMON for one's own processes, where kernel.perf_event_paranoid is below 2.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Collection, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Final

_libc = ctypes.CDLL(None, use_errno=True)
_TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}
_CLOEXEC: Final = 8

_TYPE_SOFTWARE, _TYPE_TRACEPOINT, _NO_TYPE = 1, 2, (1 << 32) - 1
_DUMMY: Final = 9
"""PERF_COUNT_SW_DUMMY: counts nothing, and carries what the kernel tells of tasks."""
_ATTR = struct.Struct("<IIQQQQQIIQQQQIiQIHHIIQQ")  # struct perf_event_attr, 136 bytes (PERF_ATTR_SIZE_VER8)
_SAMPLE_TID, _SAMPLE_TIME, _SAMPLE_RAW = 1 << 1, 1 << 2, 1 << 10
_DISABLED, _INHERIT, _ENABLE_ON_EXEC, _WATERMARK = 1 << 0, 1 << 1, 1 << 12, 1 << 14
_COMM, _TASK = 1 << 9, 1 << 13
_SAMPLE_ID_ALL, _COMM_EXEC, _USE_CLOCKID = 1 << 18, 1 << 24, 1 << 25
_CLOCK_MONOTONIC: Final = 1
_READ_LOST: Final = 1 << 4  # PERF_FORMAT_LOST, Linux 6.0

_ENABLE, _DISABLE, _SET_OUTPUT = 0x2400, 0x2401, 0x2405  # _IO('$', 0), _IO('$', 1), _IO('$', 5)
_SET_FILTER: Final = 0x40082406  # _IOW('$', 6, char *)
_HEAD_WORD, _TAIL_WORD = 1024 // 8, 1032 // 8  # data_head and data_tail of struct perf_event_mmap_page

ENTER_RING_BYTES: Final = 8 << 20
"""Room for 87,000 entries on each CPU: half a second of the busiest queue, by default."""
RINGS_MOST_BYTES: Final = 128 << 20
"""All rings together, by default: machines with many CPUs get smaller ones."""
_PAGE: Final = mmap.PAGESIZE
_NICE: Final = -15
_LEAST_BYTES: Final = 64 << 10
"""A ring smaller than this overflows before anybody can read it."""


def events_folder() -> str:
    """Return the folder of tracepoints; empty if tracefs is not mounted or not readable."""
    for root in _TRACEFS:
        if os.access(f"{root}/events/raw_syscalls/sys_enter/id", os.R_OK):
            return f"{root}/events"
    return ""


def tracepoint_id(name: str) -> int:
    """Return the number of a tracepoint, such as ``raw_syscalls/sys_enter``.

    Raises:
        OSError: tracefs is not mounted or not readable.
    """
    folder = events_folder()
    if not folder:
        raise FileNotFoundError(errno.ENOENT, "tracefs is not mounted, or not readable", _TRACEFS[0])
    with open(f"{folder}/{name}/id", encoding="ascii") as file:
        return int(file.read())


def why_not(opened: list[int] | None = None) -> str:
    """Return why the perf engine cannot be used here; empty if it can.

    It is tried: an event is opened on this very process, and closed again.

    Args:
        opened: Takes that event's descriptor instead, to be closed when others are open: the last to be closed
            is the one that takes long.
    """
    if os.uname().machine not in _PERF_EVENT_OPEN:
        return f"it does not know {os.uname().machine}"
    try:
        kind = tracepoint("raw_syscalls/sys_enter")
    except OSError:
        return "tracefs is not mounted, or not readable"
    try:
        fd = _open(_attributes(kind, 1, 0), os.getpid(), -1)
        if opened is None:
            os.close(fd)
        else:
            opened.append(fd)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return "it needs CAP_PERFMON, or kernel.perf_event_paranoid below 2"
        return f"perf_event_open: {error.strerror}"
    return ""


def is_there() -> bool:
    """Return whether perf_event_open works at all.

    It is asked for an event of a kind that there is none of: ENOENT comes after all that is asked of rights. The
    first event that is really opened takes 20 ms, in which the kernel changes its own code.
    """
    try:
        os.close(_open(_attributes(EventKind(_NO_TYPE, 0), 1, 0), os.getpid(), -1))
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


class EventKind:
    """What an event is about."""

    __slots__ = ("accepted", "config", "flags", "type")

    type: int
    config: int
    flags: int
    accepted: bytes
    """The filter of a tracepoint; empty for none."""

    def __init__(self, type: int, config: int, flags: int = 0, accepted: bytes = b"") -> None:
        self.type = type
        self.config = config
        self.flags = flags
        self.accepted = accepted


def tracepoint(name: str, accepted: bytes = b"") -> EventKind:
    """Return the event of a tracepoint, such as ``raw_syscalls/sys_enter``.

    Raises:
        OSError: tracefs is not mounted or not readable.
    """
    return EventKind(_TYPE_TRACEPOINT, tracepoint_id(name), 0, accepted)


def tasks() -> EventKind:
    """Return the event that tells of new threads and processes, of their ends, and of exec."""
    return EventKind(_TYPE_SOFTWARE, _DUMMY, _COMM | _TASK | _COMM_EXEC)


def _attributes(kind: EventKind, watermark: int, read_format: int, on_exec: bool = True) -> bytes:
    flags = _DISABLED | _INHERIT | _WATERMARK | _SAMPLE_ID_ALL | _USE_CLOCKID | (_ENABLE_ON_EXEC if on_exec else 0)
    sample = _SAMPLE_TID | _SAMPLE_TIME | _SAMPLE_RAW
    every_one = 1
    return _ATTR.pack(
        kind.type, _ATTR.size, kind.config, every_one, sample, read_format, flags | kind.flags, watermark,
        0, 0, 0, 0, 0, 0, _CLOCK_MONOTONIC, 0, 0, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip


def _open(attributes: bytes, pid: int, cpu: int) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    call, no_group = _PERF_EVENT_OPEN[os.uname().machine], -1
    words = (call, ctypes.addressof(buffer), pid, cpu, no_group, _CLOEXEC)
    fd = int(_libc.syscall(*map(ctypes.c_long, words)))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd


def online_cpus() -> list[int]:
    """Return the numbers of the CPUs that run."""
    found: list[int] = []
    with open("/sys/devices/system/cpu/online", encoding="ascii") as file:
        listed = file.read()
    for part in listed.strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def filter_text(numbers: Collection[int], first: Collection[int] = ()) -> bytes:
    """Return the tracepoint filter that lets these calls through.

    Args:
        numbers: The calls.
        first: Those of them that come most often: they are compared first.
    """
    ordered = [*first, *sorted(set(numbers) - set(first))]
    return " || ".join(f"id == {number}" for number in ordered).encode() + b"\0"


class Ring:
    """One event on one CPU, and its ring buffer."""

    def __init__(
        self, kind: EventKind, pid: int, cpu: int, ring_bytes: int, on_exec: bool, watermark: int | None = None
    ) -> None:
        """Open the event, disabled, and map its buffer.

        Args:
            kind: What it is about.
            pid: The process, or thread; what it makes later is included.
            cpu: The CPU.
            ring_bytes: Size of the buffer: a power of two, at least a page.
            on_exec: Begin when the process calls exec; else `enable` begins.
            watermark: How many bytes wake up whoever polls the buffer; a quarter of it by default.

        Raises:
            OSError: The kernel refused.
        """
        self.cpu = cpu
        self._bytes = ring_bytes
        self._tail = 0
        self._tells_lost = True
        self._others: list[int] = []
        self._watermark = watermark = watermark or ring_bytes // 4
        try:
            self.fd = _open(_attributes(kind, watermark, _READ_LOST, on_exec), pid, cpu)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.fd = _open(_attributes(kind, watermark, 0, on_exec), pid, cpu)
            self._tells_lost = False
        try:
            if kind.accepted:
                fcntl.ioctl(self.fd, _SET_FILTER, kind.accepted)
            self._map = mmap.mmap(self.fd, _PAGE + ring_bytes)
        except OSError:
            os.close(self.fd)
            raise
        self._words = memoryview(self._map)[:_PAGE].cast("Q")

    def add(self, kind: EventKind, tid: int) -> None:
        """Let another event, on any thread, fill this buffer too.

        Raises:
            OSError: The kernel refused, or the thread is gone.
        """
        fd = _open(_attributes(kind, self._watermark, _READ_LOST if self._tells_lost else 0, False), tid, self.cpu)
        self._others.append(fd)
        if kind.accepted:
            fcntl.ioctl(fd, _SET_FILTER, kind.accepted)
        fcntl.ioctl(fd, _SET_OUTPUT, self.fd)

    def enable(self) -> None:
        """Begin to record."""
        for fd in (self.fd, *self._others):
            fcntl.ioctl(fd, _ENABLE, 0)

    def disable(self) -> None:
        """Record no more; what is there can still be taken."""
        for fd in (self.fd, *self._others):
            fcntl.ioctl(fd, _DISABLE, 0)

    def take(self) -> bytes:
        """Return the records that have come since, and make room for new ones."""
        head = self._words[_HEAD_WORD]
        if head == self._tail:
            return b""
        begin, end = self._tail % self._bytes, head % self._bytes
        if begin < end:
            found = self._map[_PAGE + begin : _PAGE + end]
        else:
            found = self._map[_PAGE + begin : _PAGE + self._bytes] + self._map[_PAGE : _PAGE + end]
        self._words[_TAIL_WORD] = self._tail = head
        return found

    def waiting_bytes(self) -> int:
        """Return how much has come since the last time."""
        return self._words[_HEAD_WORD] - self._tail

    def lost(self) -> int | None:
        """Return how many records the kernel has dropped so far; None where it does not tell."""
        if not self._tells_lost:
            return None
        return sum(int(struct.unpack("<QQ", os.read(fd, 16))[1]) for fd in (self.fd, *self._others))

    def close(self) -> None:
        """Unmap and close."""
        for fd in self.unmapped():
            os.close(fd)

    def unmapped(self) -> list[int]:
        """Unmap, and return what is to be closed."""
        self._words.release()
        self._map.close()
        return [*self._others, self.fd]


class Rings:
    """The rings of one recording: for each CPU one of entries and one of exits."""

    __slots__ = ("enters", "exits")

    enters: tuple[Ring, ...]
    exits: tuple[Ring, ...]
    wait_ms: ClassVar[int] = 50
    """How old a record may get in a ring that does not fill up."""

    source: ClassVar[str] = "perf"
    """What fills them."""

    def __init__(self, enters: tuple[Ring, ...], exits: tuple[Ring, ...]) -> None:
        self.enters = enters
        self.exits = exits

    def follow(self, pid: int, runs: bool) -> None:
        """Nothing is to be done for a new process: it has inherited the events."""

    def have_room(self) -> bool:
        """Return whether all may be left alone for a while: never, one that is a quarter full wakes its reader."""
        return False

    def has_called(self, pid: int) -> tuple[bool, bool]:
        """Return whether a process may have made a call, and called futex: that is not known without its records."""
        return True, True

    def to_poll(self) -> tuple[int, ...]:
        """Return descriptors that are ready when a ring is a quarter full."""
        return tuple(ring.fd for ring in self)

    def __iter__(self) -> Iterator[Ring]:
        yield from self.enters
        yield from self.exits

    def close(self) -> None:
        """Close all."""
        for ring in self:
            ring.close()

    def close_aside(self) -> None:
        """Close all without waiting until the kernel has taken its tracepoints out of use: 30 ms for each of them.

        Who closes an event's last descriptor has to wait for that, so it is left to a process that has nothing
        else to do. It is nobody's child, in a session of its own, and has none of this one's other descriptors.
        """
        fds = [fd for ring in self for fd in ring.unmapped()]
        waits, go = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            pid = -1
        if pid == 0:
            try:
                os.setsid()
                if os.fork() == 0:
                    _close_all_but({*fds, waits})
                    os.read(waits, 1)  # until the descriptors here are the last
            finally:
                os._exit(0)
        for fd in (*fds, waits, go):
            os.close(fd)
        if pid > 0:
            os.waitpid(pid, 0)


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def ring_sizes(wanted_bytes: int | None, cpus: int) -> tuple[int, int]:
    """Return the sizes of a ring of entries and of one of exits, powers of two.

    Args:
        wanted_bytes: For the two of one CPU together; by default what the machine's CPUs allow.
        cpus: How many CPUs there are.
    """
    enter = ENTER_RING_BYTES if wanted_bytes is None else max(wanted_bytes * 2 // 3, _PAGE)
    if wanted_bytes is None:
        enter = max(min(enter, RINGS_MOST_BYTES // cpus * 2 // 3), 64 * _PAGE)
    enter = 1 << enter.bit_length() - 1
    return enter, max(enter // 2, _PAGE)


def open_rings(pid: int, accepted: bytes, ring_bytes: int | None = None, *, on_exec: bool = True) -> Rings:
    """Open the rings of a process, or thread, and of all that it will make.

    Args:
        pid: The process.
        accepted: The filter.
        ring_bytes: Memory for each CPU; None for what fits the machine.
        on_exec: Begin when the process calls exec.

    Raises:
        OSError: The kernel refused, also where it has not so much memory to lock.
    """
    cpus = online_cpus()
    sizes = ring_sizes(ring_bytes, len(cpus))
    while True:
        try:
            return _open_all(pid, cpus, accepted, sizes, on_exec)
        except OSError as error:
            # Without CAP_IPC_LOCK only so much may be locked: kernel.perf_event_mlock_kb.
            if ring_bytes is not None or error.errno not in (errno.EPERM, errno.ENOMEM) or sizes[1] <= _LEAST_BYTES:
                raise
            sizes = sizes[0] // 2, sizes[1] // 2


def _open_all(pid: int, cpus: list[int], accepted: bytes, sizes: tuple[int, int], on_exec: bool) -> Rings:
    enter_bytes, exit_bytes = sizes
    enter, leave = (tracepoint(f"raw_syscalls/{name}", accepted) for name in ("sys_enter", "sys_exit"))
    with contextlib.ExitStack() as stack:
        enters: list[Ring] = []
        exits: list[Ring] = []
        for cpu in cpus:
            for kind, size, group in ((enter, enter_bytes, enters), (leave, exit_bytes, exits)):
                ring = Ring(kind, pid, cpu, size, on_exec)
                stack.callback(ring.close)
                group.append(ring)
        stack.pop_all()
    return Rings(tuple(enters), tuple(exits))


def hurry(tid: int = 0) -> None:
    """Let a thread of this process (0: the calling one) run soon, where that is permitted, and those that it starts.

    A program that has more threads ready than there are CPUs would keep the readers of its rings, and
    the committing thread, waiting until the rings are full. They need little, but soon, and so do all
    others of this process: they share the interpreter's lock, and one that waits for a CPU while it
    has the lock keeps all waiting (commits took half a second then).
    """
    _set_nice(_NICE, tid)


@contextlib.contextmanager
def at_ease() -> Iterator[None]:
    """Let the calling thread, and programs that it starts meanwhile, wait for their turn like any other."""
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    if own != _NICE:
        yield
        return
    _set_nice(0)
    try:
        yield
    finally:
        _set_nice(_NICE)


def _set_nice(number: int, tid: int = 0) -> None:
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, tid or threading.get_native_id(), number)
