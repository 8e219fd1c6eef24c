"""The one table of system calls: number by architecture, arguments, and what kind of call it is.

Sources: Linux 6.1's asm/unistd_64.h and asm-generic/unistd.h for the numbers, section 2 of the
manual for the arguments. python-ptrace's own table ends at kernel 5.8, so it is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Flag, StrEnum, auto
from functools import cache


class Architecture(StrEnum):
    """Machines that qtrace can trace; values as `platform.machine` gives them."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"


AUDIT_ARCH: Mapping[Architecture, int] = {
    Architecture.X86_64: 0xC000003E,
    Architecture.AARCH64: 0xC00000B7,
}
"""AUDIT_ARCH_* of linux/audit.h, as seccomp and PTRACE_GET_SYSCALL_INFO report it."""


class Trait(Flag):
    """What a call means for a tracer."""

    HOT = auto()
    """Frequent and about waiting: read, write and kin, futex, wait, poll."""
    TREE = auto()
    """Changes the tree of processes and threads."""
    FD = auto()
    """Makes, copies, names or closes descriptors."""
    BLOCKS = auto()
    """Can wait."""
    SIGNALS = auto()
    """Sends signals."""
    EXTRA = auto()
    """Not recorded by default; known for naming a live call."""


class Syscall:
    """One row of the table."""

    __slots__ = ("aarch64", "args", "name", "traits", "x86_64")

    name: str
    x86_64: int | None
    aarch64: int | None
    args: tuple[str, ...]
    """Kind of each argument: fd, int, uint, ptr, size, pid, signal, flags, futex_op, clock, str,
    pollfds, timespec, and so on; the renderer of call texts knows them."""
    traits: Trait

    def __init__(
        self, name: str, x86_64: int | None, aarch64: int | None, args: tuple[str, ...], traits: Trait
    ) -> None:
        self.name = name
        self.x86_64 = x86_64
        self.aarch64 = aarch64
        self.args = args
        self.traits = traits

    @property
    def blocks(self) -> bool:
        """Whether a thread can wait inside of it."""
        return Trait.BLOCKS in self.traits

    @property
    def recorded(self) -> bool:
        """Whether `record` records it by default."""
        return Trait.EXTRA not in self.traits


_H, _T, _F, _B, _S, _E = Trait.HOT, Trait.TREE, Trait.FD, Trait.BLOCKS, Trait.SIGNALS, Trait.EXTRA


def _row(name: str, x86_64: int | None, aarch64: int | None, args: str, traits: Trait) -> Syscall:
    return Syscall(name, x86_64, aarch64, tuple(args.split()), traits)


TABLE: tuple[Syscall, ...] = (
    _row("read", 0, 63, "fd out size", _H | _B),
    _row("write", 1, 64, "fd in size", _H | _B),
    _row("readv", 19, 65, "fd iov int", _H | _B),
    _row("writev", 20, 66, "fd iov int", _H | _B),
    _row("pread64", 17, 67, "fd out size int", _H | _B),
    _row("pwrite64", 18, 68, "fd in size int", _H | _B),
    _row("poll", 7, None, "pollfds uint msec", _H | _B),
    _row("ppoll", 271, 73, "pollfds uint timespec ptr size", _H | _B),
    _row("select", 23, None, "int fdset fdset fdset timeval", _H | _B),
    _row("pselect6", 270, 72, "int fdset fdset fdset timespec ptr", _H | _B),
    _row("epoll_create", 213, None, "int", _F),
    _row("epoll_create1", 291, 20, "flags", _F),
    _row("epoll_ctl", 233, 21, "fd epoll_op fd epoll_event", _F),
    _row("epoll_wait", 232, None, "fd ptr int msec", _H | _B),
    _row("epoll_pwait", 281, 22, "fd ptr int msec ptr size", _H | _B),
    _row("epoll_pwait2", 441, 441, "fd ptr int timespec ptr size", _H | _B),
    _row("wait4", 61, 260, "pid status wait_options ptr", _H | _B),
    _row("waitid", 247, 95, "id_type int ptr wait_options ptr", _H | _B),
    _row("pipe", 22, None, "fdpair", _F),
    _row("pipe2", 293, 59, "fdpair open_flags", _F),
    _row("socketpair", 53, 199, "int int int fdpair", _F),
    _row("socket", 41, 198, "int int int", _F),
    _row("bind", 49, 200, "fd sockaddr int", _F),
    _row("listen", 50, 201, "fd int", _F),
    _row("connect", 42, 203, "fd sockaddr int", _F | _B),
    _row("accept", 43, 202, "fd sockaddr ptr", _F | _B),
    _row("accept4", 288, 242, "fd sockaddr ptr flags", _F | _B),
    _row("sendto", 44, 206, "fd in size flags sockaddr int", _H | _B),
    _row("recvfrom", 45, 207, "fd out size flags sockaddr ptr", _H | _B),
    _row("sendmsg", 46, 211, "fd msghdr flags", _F | _B),
    _row("recvmsg", 47, 212, "fd msghdr flags", _F | _B),
    _row("shutdown", 48, 210, "fd int", _F),
    _row("eventfd", 284, None, "uint", _F),
    _row("eventfd2", 290, 19, "uint flags", _F),
    _row("dup", 32, 23, "fd", _F),
    _row("dup2", 33, None, "fd fd", _F),
    _row("dup3", 292, 24, "fd fd open_flags", _F),
    _row("fcntl", 72, 25, "fd fcntl_command long", _F | _B),
    _row("close", 3, 57, "fd", _F),
    _row("close_range", 436, 436, "fd fd flags", _F),
    _row("clone", 56, 220, "clone_flags ptr ptr ptr ptr", _T),
    _row("clone3", 435, 435, "clone_args size", _T),
    _row("fork", 57, None, "", _T),
    _row("vfork", 58, None, "", _T | _B),
    _row("execve", 59, 221, "str ptr ptr", _T),
    _row("execveat", 322, 281, "fd str ptr ptr flags", _T),
    _row("exit", 60, 93, "int", _T),
    _row("exit_group", 231, 94, "int", _T),
    _row("kill", 62, 129, "pid signal", _S),
    _row("tkill", 200, 130, "pid signal", _S),
    _row("tgkill", 234, 131, "pid pid signal", _S),
    _row("pidfd_open", 434, 434, "pid flags", _F),
    _row("pidfd_getfd", 438, 438, "fd fd flags", _F),
    _row("pidfd_send_signal", 424, 424, "fd signal ptr flags", _S),
    _row("nanosleep", 35, 101, "timespec ptr", _H | _B),
    _row("clock_nanosleep", 230, 115, "clock flags timespec ptr", _H | _B),
    _row("flock", 73, 32, "fd flock_op", _B),
    _row("futex", 202, 98, "ptr futex_op uint timespec ptr hex", _H | _B),
    _row("futex_waitv", 449, 449, "ptr uint flags timespec clock", _H | _B),
    _row("futex_wake", 454, 454, "ptr hex int flags", _H),
    _row("futex_wait", 455, 455, "ptr hex hex flags timespec clock", _H | _B),
    _row("io_uring_setup", 425, 425, "uint ptr", _F),
    _row("io_uring_enter", 426, 426, "fd uint uint flags ptr size", _B),
    _row("rt_sigtimedwait", 128, 137, "sigset ptr timespec size", _B),
    _row("rt_sigsuspend", 130, 133, "sigset size", _B),
    _row("pause", 34, None, "", _B),
    _row("restart_syscall", 219, 128, "", _B),
    _row("sched_setaffinity", 203, 122, "pid size ptr", Trait(0)),
    _row("sched_getaffinity", 204, 123, "pid size ptr", Trait(0)),
    _row("open", 2, None, "str open_flags mode", _E | _F),
    _row("openat", 257, 56, "dirfd str open_flags mode", _E | _F | _B),
    _row("mmap", 9, 222, "ptr size flags flags fd int", _E),
    _row("munmap", 11, 215, "ptr size", _E),
    _row("ioctl", 16, 29, "fd hex ptr", _E | _B),
    _row("splice", 275, 76, "fd ptr fd ptr size flags", _E | _B),
    _row("sendfile", 40, 71, "fd fd ptr size", _E | _B),
    _row("msgrcv", 70, 188, "int ptr size int flags", _E | _B),
    _row("semop", 65, 193, "int ptr size", _E | _B),
    _row("semtimedop", 220, 192, "int ptr size timespec", _E | _B),
    _row("mq_timedreceive", 243, 183, "fd out size ptr timespec", _E | _B),
)
"""Every call that qtrace knows."""

NEVER_RETURN = frozenset({"exit", "exit_group"})
"""Calls that are the end of their thread or process: unfinished by their nature."""


@cache
def by_number(architecture: Architecture) -> Mapping[int, Syscall]:
    """Return the table's rows by the architecture's numbers."""
    numbered = ((getattr(row, architecture.value), row) for row in TABLE)
    return {number: row for number, row in numbered if number is not None}


@cache
def by_name() -> Mapping[str, Syscall]:
    """Return the table's rows by name."""
    return {row.name: row for row in TABLE}


def number_of(name: str, architecture: Architecture) -> int | None:
    """Return a call's number, or None where the architecture does not have it.

    Raises:
        KeyError: qtrace's table has no such call.
    """
    number: int | None = getattr(by_name()[name], architecture.value)
    return number
