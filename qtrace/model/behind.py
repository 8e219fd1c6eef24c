"""What lies behind the pointers among a call's arguments: where, and how long.

Layouts of linux/futex.h, poll.h and bits/types of 64-bit glibc. Apart from `qtrace.model.wants`, since a recorder needs
this early, and that module's vocabulary takes 15 ms to load.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

TIMESPEC = struct.Struct("<qq")
POLLFD = struct.Struct("<iHH")
WAITV = struct.Struct("<QQII")
MOST_WATCHED = 4096
"""A poll set is read up to this many descriptors."""
TIMESPEC_ARGUMENT = {
    "futex": 3,
    "futex_wait": 4,
    "nanosleep": 0,
    "clock_nanosleep": 2,
    "rt_sigtimedwait": 2,
    "epoll_pwait2": 3,
    "semtimedop": 3,
}
"""Calls with a timeout behind a pointer: which argument it is."""


def needed_memory(name: str, args: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges (address, bytes) that `wants_of` will ask for, so that they can be kept."""
    if name in ("poll", "ppoll", "restart_syscall"):
        if 0 < args[1] <= MOST_WATCHED:
            yield args[0], args[1] * POLLFD.size
        if name == "ppoll":
            yield args[2], TIMESPEC.size
    elif name in ("select", "pselect6"):
        size = (min(args[0] & 0xFFFFFFFF, MOST_WATCHED) + 63) // 64 * 8
        yield from ((address, size) for address in args[1:4] if address and size)
        yield args[4], TIMESPEC.size
    elif name == "futex_waitv":
        yield args[0], min(args[1], 128) * WAITV.size
        yield args[3], TIMESPEC.size
    else:
        place = TIMESPEC_ARGUMENT.get(name)
        if place is not None:
            yield args[place], TIMESPEC.size
