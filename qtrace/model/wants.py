"""What a thread wants that is inside a system call: from number and arguments to awaited events.

The same rule serves a live look and a recording: whoever knows the process answers the questions
of `CallContext`, and memory that the call points to is asked for by address. Sources: section 2 of
the manual; struct layouts of linux/futex.h, poll.h and bits/types of 64-bit glibc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qtrace.model.behind import MOST_WATCHED, POLLFD, TIMESPEC, WAITV
from qtrace.model.futex import (
    FUTEX_CLOCK_REALTIME,
    FUTEX_COMMAND,
    FUTEX_LOCK_PI,
    FUTEX_PRIVATE,
    FUTEX_WAIT,
    FUTEX_WAITS,
)
from qtrace.model.ids import Fd, ObjectId, Tgid
from qtrace.model.kinds import ObjectKind, WaitKind
from qtrace.model.snapshot import Want

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

NS = 1_000_000_000

POLLIN, POLLPRI, POLLOUT = 1, 2, 4
CLOCK_REALTIME, CLOCK_MONOTONIC = 0, 1
P_PID, P_PIDFD = 1, 3
F_SETLKW, F_OFD_SETLKW = 7, 38
WNOHANG = 1


class CallContext(Protocol):
    """What must be known about the process to say what a call waits for."""

    @property
    def pid(self) -> Tgid:
        """The process that made the call."""

    def object_of(self, fd: Fd) -> tuple[ObjectId, ObjectKind] | None:
        """What a descriptor is, or None if that is unknown."""

    def word(self, address: int, private: bool) -> ObjectId:
        """Which object a futex word is."""

    def file_lock(self, fd: Fd) -> ObjectId:
        """Which file lock object the file of a descriptor has."""

    def memory(self, address: int, size: int) -> bytes:
        """The process's memory; empty where it is unknown."""

    def watched(self, fd: Fd) -> Sequence[tuple[Fd, int]]:
        """Descriptors and events that an epoll instance watches."""

    def now_ns(self, clock: int) -> int:
        """The time of a clock at this moment."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What would end a call."""

    wants: tuple[Want, ...] = ()
    timeout_ns: int | None = None
    """How long it waits at most from now (or from its entry, for relative timeouts)."""


_READS = frozenset({"read", "readv", "pread64", "recvfrom", "recvmsg", "splice", "sendfile", "mq_timedreceive"})
_WRITES = frozenset({"write", "writev", "pwrite64", "sendto", "sendmsg"})
_CLOCK = ObjectId("clock")


def wants_of(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    """Return what a call that has not returned waits for; nothing for a call that cannot wait."""
    if name in _READS or name in _WRITES:
        return Wanted((_transfer(name, args, context),))
    if name in ("accept", "accept4", "connect"):
        kind = WaitKind.CONNECT if name == "connect" else WaitKind.ACCEPT
        return Wanted((Want(kind, _object(args[0], context)[0], Fd(args[0])),))
    family = _FAMILIES.get(name)
    return family(name, args, context) if family is not None else Wanted()


def _object(fd: int, context: CallContext) -> tuple[ObjectId, ObjectKind]:
    return context.object_of(Fd(fd)) or (ObjectId(f"fd:{context.pid}:{fd}"), ObjectKind.OTHER)


def _transfer(name: str, args: Sequence[int], context: CallContext) -> Want:
    fd = args[0] & 0xFFFFFFFF
    object_id, kind = _object(fd, context)
    access = "w" if name in _WRITES else "r"
    requested = args[2] if name in ("read", "write", "pread64", "pwrite64", "sendto", "recvfrom") else None
    # Nobody waits for no bytes: strace prints only the descriptor of a read that has not returned.
    return Want(_transfer_kind(kind, access), object_id, Fd(fd), access, requested or None)


def _transfer_kind(kind: ObjectKind, access: str) -> WaitKind:
    if kind in (ObjectKind.PIPE, ObjectKind.FIFO):
        return WaitKind.PIPE_FULL if access == "w" else WaitKind.PIPE_EMPTY
    if kind is ObjectKind.SOCKET:
        return WaitKind.SOCKET_FULL if access == "w" else WaitKind.SOCKET_EMPTY
    found = {
        ObjectKind.EVENTFD: WaitKind.EVENTFD,
        ObjectKind.CLOCK: WaitKind.SLEEP,
        ObjectKind.SIGNAL: WaitKind.SIGNAL,
    }
    return found.get(kind, WaitKind.EXTERNAL)


def _timespec(address: int, context: CallContext) -> int | None:
    raw = context.memory(address, TIMESPEC.size) if address else b""
    if len(raw) < TIMESPEC.size:
        return None
    seconds, nanoseconds = TIMESPEC.unpack(raw)
    return int(seconds * NS + nanoseconds)


def _limit(address: int, context: CallContext) -> int | None:
    """A timeout by pointer: None if there is none; 0 if there is one that cannot be read."""
    if not address:
        return None
    found = _timespec(address, context)
    return 0 if found is None else found


def _milliseconds(value: int) -> int | None:
    signed = (value & 0xFFFFFFFF) - ((value & 0x80000000) << 1)
    return None if signed < 0 else signed * 1_000_000


# --- poll, select, epoll -------------------------------------------------------------------------


def pollfds_of(args: Sequence[int], context: CallContext) -> list[tuple[int, int]]:
    """Return descriptors and events of a poll set."""
    count = min(args[1], MOST_WATCHED)
    raw = context.memory(args[0], count * POLLFD.size) if count else b""
    whole = raw[: len(raw) - len(raw) % POLLFD.size]
    return [(fd, events) for fd, events, _ in POLLFD.iter_unpack(whole) if fd >= 0]


def _poll(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    limit = _milliseconds(args[2]) if name == "poll" else _limit(args[2], context)
    wants = _watches(pollfds_of(args, context), context)
    if not wants:
        return _sleep_or_unknown(limit, args[1] == 0)
    return Wanted(wants, limit)


def _sleep_or_unknown(limit: int | None, empty: bool) -> Wanted:
    if limit is not None:
        return Wanted((Want(WaitKind.SLEEP, _CLOCK),), limit)
    kind = WaitKind.SIGNAL if empty else WaitKind.EXTERNAL
    return Wanted((Want(kind, ObjectId("signal:self" if empty else "unknown")),))


def _watches(watched: Sequence[tuple[int, int]], context: CallContext) -> tuple[Want, ...]:
    wants = []
    for fd, events in watched:
        object_id, kind = _object(fd, context)
        if kind is ObjectKind.EPOLL:
            wants += list(_watches(context.watched(Fd(fd)), context))
            continue
        if kind is ObjectKind.CLOCK:
            wants.append(Want(WaitKind.SLEEP, object_id, Fd(fd), "r"))
            continue
        if kind is ObjectKind.SIGNAL:
            wants.append(Want(WaitKind.SIGNAL, object_id, Fd(fd), "r"))
            continue
        # A set without events still reports hang-up and errors: as a reader would see them.
        if events & (POLLIN | POLLPRI) or not events & POLLOUT:
            wants.append(Want(WaitKind.POLL, object_id, Fd(fd), "r"))
        if events & POLLOUT:
            wants.append(Want(WaitKind.POLL, object_id, Fd(fd), "w"))
    return tuple(wants)


def selected_of(args: Sequence[int], context: CallContext) -> list[tuple[int, int]]:
    """Return descriptors and events of a select's sets."""
    count = min(args[0] & 0xFFFFFFFF, MOST_WATCHED)
    found: dict[int, int] = {}
    for address, events in ((args[1], POLLIN), (args[2], POLLOUT), (args[3], POLLPRI)):
        bits = int.from_bytes(context.memory(address, (count + 63) // 64 * 8), "little") if address and count else 0
        for fd in range(count):
            if bits >> fd & 1:
                found[fd] = found.get(fd, 0) | events
    return list(found.items())


def _select(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    limit = _limit(args[4], context)
    if limit is not None and name == "select":
        limit = limit // NS * NS + limit % NS * 1000  # a timeval: microseconds
    wants = _watches(selected_of(args, context), context)
    return Wanted(wants, limit) if wants else _sleep_or_unknown(limit, args[0] == 0)


def _epoll(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    limit = _limit(args[3], context) if name == "epoll_pwait2" else _milliseconds(args[3])
    wants = _watches(context.watched(Fd(args[0])), context)
    return Wanted(wants, limit) if wants else _sleep_or_unknown(limit, True)


# --- futex ---------------------------------------------------------------------------------------


def _futex(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    command = args[1] & FUTEX_COMMAND & 0x7F
    if command not in FUTEX_WAITS:
        return Wanted()
    want = Want(WaitKind.LOCK, context.word(args[0], bool(args[1] & FUTEX_PRIVATE)))
    limit = _limit(args[3], context)
    if limit is not None and command != FUTEX_WAIT:
        real = args[1] & FUTEX_CLOCK_REALTIME or command == FUTEX_LOCK_PI
        limit = max(0, limit - context.now_ns(CLOCK_REALTIME if real else CLOCK_MONOTONIC))
    return Wanted((want,), limit)


def _futex_wait(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    want = Want(WaitKind.LOCK, context.word(args[0], bool(args[3] & FUTEX_PRIVATE)))
    return Wanted((want,), _until(args[4], args[5], context))


def _until(address: int, clock: int, context: CallContext) -> int | None:
    limit = _limit(address, context)
    return None if limit is None else max(0, limit - context.now_ns(clock))


def _futex_waitv(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    raw = context.memory(args[0], min(args[1], 128) * WAITV.size)
    whole = raw[: len(raw) - len(raw) % WAITV.size]
    wants = tuple(
        Want(WaitKind.LOCK, context.word(address, bool(flags & FUTEX_PRIVATE)))
        for _, address, flags, _ in WAITV.iter_unpack(whole)
    )
    return Wanted(wants, _until(args[3], args[4], context))


# --- children, clock, signals, file locks --------------------------------------------------------


def _child(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    any_child = ObjectId(f"children:{context.pid}")
    if name in ("vfork", "clone", "clone3"):
        return Wanted((Want(WaitKind.CHILD_EXIT, any_child),))
    if name == "wait4":
        number = (args[0] & 0xFFFFFFFF) - ((args[0] & 0x80000000) << 1)
        target = ObjectId(f"child:{number}") if number > 0 else any_child
        return Wanted((Want(WaitKind.CHILD_EXIT, target),))
    if args[0] == P_PID:
        target = ObjectId(f"child:{args[1]}")
    elif args[0] == P_PIDFD:
        target = _object(args[1], context)[0]
    else:
        target = any_child
    return Wanted((Want(WaitKind.CHILD_EXIT, target),))


def _sleep(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    address = args[0] if name == "nanosleep" else args[2]
    limit = _limit(address, context) or 0
    if name == "clock_nanosleep" and args[1] & 1:
        limit = max(0, limit - context.now_ns(args[0]))
    return Wanted((Want(WaitKind.SLEEP, _CLOCK),), limit)


def _signal(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    limit = _limit(args[2], context) if name == "rt_sigtimedwait" else None
    return Wanted((Want(WaitKind.SIGNAL, ObjectId(f"signal:{context.pid}")),), limit)


def _file_lock(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    if name == "fcntl" and args[1] not in (F_SETLKW, F_OFD_SETLKW):
        return Wanted()
    fd = Fd(args[0])
    return Wanted((Want(WaitKind.FILE_LOCK, context.file_lock(fd), fd),))


def _restart(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    """A call that the kernel goes on with after a signal or a stop; its registers are still there.

    Only calls with a timeout restart like this (linux/restart_block.h: futex, nanosleep, poll), so
    the clock ends it, whatever else it waits for.
    """
    pollfds = pollfds_of(args, context) if 0 < args[1] < MOST_WATCHED else []
    known = [fd for fd, _ in pollfds if context.object_of(Fd(fd)) is not None]
    if known and len(known) == len(pollfds):
        return Wanted(_watches(pollfds, context), _milliseconds(args[2]) or 0)
    if args[0] > MOST_WATCHED and args[1] & FUTEX_COMMAND in FUTEX_WAITS and args[3]:
        return Wanted((Want(WaitKind.LOCK, context.word(args[0], bool(args[1] & FUTEX_PRIVATE))),), 0)
    return Wanted((Want(WaitKind.SLEEP, _CLOCK),), 0)


def _semaphore(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    limit = _limit(args[3], context) if name == "semtimedop" else None
    return Wanted((Want(WaitKind.EXTERNAL, ObjectId(f"sysv:{args[0]}")),), limit)


def _outside(name: str, args: Sequence[int], context: CallContext) -> Wanted:
    return Wanted((Want(WaitKind.EXTERNAL, ObjectId("unknown")),))


_FAMILIES = {
    "poll": _poll,
    "ppoll": _poll,
    "select": _select,
    "pselect6": _select,
    "epoll_wait": _epoll,
    "epoll_pwait": _epoll,
    "epoll_pwait2": _epoll,
    "futex": _futex,
    "futex_wait": _futex_wait,
    "futex_waitv": _futex_waitv,
    "wait4": _child,
    "waitid": _child,
    "vfork": _child,
    "clone": _child,
    "clone3": _child,
    "nanosleep": _sleep,
    "clock_nanosleep": _sleep,
    "pause": _signal,
    "rt_sigsuspend": _signal,
    "rt_sigtimedwait": _signal,
    "flock": _file_lock,
    "fcntl": _file_lock,
    "restart_syscall": _restart,
    "semop": _semaphore,
    "semtimedop": _semaphore,
    "msgrcv": _outside,
    "openat": _outside,
    "open": _outside,
    "io_uring_enter": _outside,
    "ioctl": _outside,
}
