"""Calls of 32-bit programs on an x86_64 kernel, told as the 64-bit calls that do the same.

So nothing behind the tracer has to know of a second table: a recorded `waitpid`, or a `recv` through
`socketcall`, is a `wait4` and a `recvfrom`, with the flag `CallFlag.COMPAT`. Source of the numbers:
Linux 6.1's asm/unistd_32.h; of the argument orders: arch/x86/entry/syscalls/syscall_32.tbl.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping, Sequence

from qtrace.model.syscalls import Architecture, by_name, number_of

AUDIT_ARCH_I386 = 0x40000003

NAMES: Mapping[int, str] = {
    0: "restart_syscall", 1: "exit", 2: "fork", 3: "read", 4: "write", 6: "close", 7: "wait4", 11: "execve",
    29: "pause", 37: "kill", 41: "dup", 42: "pipe", 55: "fcntl", 63: "dup2", 72: "rt_sigsuspend", 82: "select",
    114: "wait4", 120: "clone", 142: "select", 143: "flock", 145: "readv", 146: "writev", 162: "nanosleep",
    168: "poll", 177: "rt_sigtimedwait", 179: "rt_sigsuspend", 180: "pread64", 181: "pwrite64", 190: "vfork",
    221: "fcntl", 238: "tkill", 240: "futex", 241: "sched_setaffinity", 242: "sched_getaffinity",
    252: "exit_group", 254: "epoll_create", 255: "epoll_ctl", 256: "epoll_wait", 267: "clock_nanosleep",
    270: "tgkill", 284: "waitid", 295: "openat", 308: "pselect6", 309: "ppoll", 319: "epoll_pwait",
    323: "eventfd", 328: "eventfd2", 329: "epoll_create1", 330: "dup3", 331: "pipe2", 358: "execveat",
    359: "socket", 360: "socketpair", 361: "bind", 362: "connect", 363: "listen", 364: "accept4", 369: "sendto",
    370: "sendmsg", 371: "recvfrom", 372: "recvmsg", 373: "shutdown", 407: "clock_nanosleep", 413: "pselect6",
    414: "ppoll", 421: "rt_sigtimedwait", 422: "futex", 424: "pidfd_send_signal", 425: "io_uring_setup",
    426: "io_uring_enter", 434: "pidfd_open", 435: "clone3", 436: "close_range", 438: "pidfd_getfd",
    441: "epoll_pwait2", 449: "futex_waitv", 454: "futex_wake", 455: "futex_wait",
}  # fmt: skip
"""Number of a 32-bit program's call to the name of the 64-bit call that does the same."""
SOCKETCALL = 102
"""Every call on sockets in one, as glibc makes them; which one is the first argument (linux/net.h)."""
_ON_SOCKETS: Mapping[int, tuple[str, int]] = {
    1: ("socket", 3), 2: ("bind", 3), 3: ("connect", 3), 4: ("listen", 2), 5: ("accept", 3), 8: ("socketpair", 4),
    9: ("sendto", 4), 10: ("recvfrom", 4), 11: ("sendto", 6), 12: ("recvfrom", 6), 13: ("shutdown", 2),
    16: ("sendmsg", 3), 17: ("recvmsg", 3), 18: ("accept4", 4),
}  # fmt: skip
"""Which call, and how many arguments it has: send and recv are sendto and recvfrom without an address."""
_WAITPID, _OLD_SUSPEND, _OLD_SELECT, _CLONE = 7, 72, 82, 120
SHORT_TIMES = frozenset({162, 240, 267})
"""nanosleep, futex and clock_nanosleep with a struct timespec of two 32-bit words."""

Memory = Callable[[int, int], bytes]
"""(address, size) to the program's memory, empty where it cannot be read."""


def numbers_of(names: Collection[str]) -> list[int]:
    """Return the numbers under which a 32-bit program makes calls that have these 64-bit names."""
    found = [number for number, name in NAMES.items() if name in names]
    on_sockets = any(name in names for name, _ in _ON_SOCKETS.values())
    return sorted([*found, SOCKETCALL] if on_sockets else found)


def recorded_numbers() -> list[int]:
    """Return the numbers of recorded calls."""
    return numbers_of({name for name in NAMES.values() if by_name()[name].recorded})


def native_call(number: int, args: Sequence[int], memory: Memory) -> list[int] | None:
    """Return the x86_64 number and six arguments of a 32-bit program's call; None if it is not in the table.

    Args:
        number: The 32-bit program's number.
        args: Its six arguments.
        memory: Reads the program's memory: some calls keep their arguments there.
    """
    if number == SOCKETCALL:
        name, count = _ON_SOCKETS.get(args[0] & 0xFFFFFFFF, ("", 0))
        args = _words(memory(args[1], 4 * count)) if name else ()
    else:
        name = NAMES.get(number, "")
    if not name:
        return None
    if number == _WAITPID:
        args = (*args[:3], 0, 0, 0)
    elif number == _OLD_SUSPEND:
        args = ()
    elif number == _OLD_SELECT:
        args = _words(memory(args[0], 20))
    elif number == _CLONE:  # clone(flags, stack, ptid, tls, ctid); its tls is no address
        args = (*args[:3], args[4], 0, 0)
    native = number_of(name, Architecture.X86_64)
    assert native is not None
    return [native, *args[:6], *[0] * (6 - len(args))]


def _words(raw: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
