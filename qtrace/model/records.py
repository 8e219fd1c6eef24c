"""The layout of a recorded call: one fixed-size record from entry to exit.

The same fields are packed by the ptrace loop (`CALL_STRUCT`), built in bulk by the perf engine
and read by NumPy (``numpy.dtype(CALL_FIELDS)``); they have no padding.
"""

from __future__ import annotations

import struct
from enum import IntFlag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CALL_FIELDS: list[tuple[str, str]] = [
    ("start_ns", "<i8"),  # CLOCK_MONOTONIC at entry (at attach, if AT_ATTACH)
    ("dur_ns", "<i8"),  # exit minus entry; up to the end of the recording if UNFINISHED
    ("tid", "<i4"),
    ("pid", "<i4"),  # thread group
    ("nr", "<i2"),  # number in the recording's architecture (see syscalls.py)
    ("flags", "<u2"),  # CallFlag
    ("ret", "<i8"),  # raw: negative errno on failure; 0 if UNFINISHED
    ("a0", "<u8"),
    ("a1", "<u8"),
    ("a2", "<u8"),
    ("a3", "<u8"),
    ("a4", "<u8"),
    ("a5", "<u8"),
    ("head", "<u8"),  # 8 bytes of memory whose meaning depends on the call: see CallFlag.HAS_HEAD
]
CALL_STRUCT = struct.Struct("<qqiihHq7Q")
"""Packs the fields of `CALL_FIELDS` in that order."""

CALL_BYTES = CALL_STRUCT.size

ENTER_BYTES = 96
"""A record of sys_enter in a ring of perf: header, tid, time, and 64 bytes of tracepoint."""
EXIT_BYTES = 56
"""Likewise of sys_exit."""
UNPAIRED = "the other half of the call was lost, or never seen"
"""Why an entry or exit in a ring has become no call: a reason of the table `losses`."""


def as_bytes(records: Any) -> Any:
    """Return an array of records as one of mere bytes: NumPy picks and places these ten times as fast as fields."""
    return records.view(f"V{records.dtype.itemsize}")


class CallFlag(IntFlag):
    """What is special about a record."""

    UNFINISHED = 1
    """The call had not returned when the recording, or the thread, ended."""
    HAS_HEAD = 2
    """`head` holds memory, little-endian, as it lay there: the first 8 bytes (or fewer, zero padded)
    of what was read or written on a pipe or socket; the two descriptors of pipe, pipe2 and
    socketpair; the status word of wait4; the pollfd (after the call) of a poll on one descriptor;
    seconds.nanoseconds as total nanoseconds of nanosleep and clock_nanosleep; the timeout in
    nanoseconds of futex waits that have one."""
    RESTARTED = 4
    """Interrupted and continued by the kernel (`restart_syscall` or the same call again): one wait."""
    AT_ATTACH = 8
    """Was in progress when the tracer attached: the start is the attach, not the entry."""
    HAS_DETAIL = 16
    """The `details` table has more: poll sets, socket addresses, passed descriptors, paths."""
    FROM_PERF = 32
    """Came from the perf ring buffer, not from a stop."""
    KILLED = 64
    """The thread died inside the call (with UNFINISHED)."""
    COMPAT = 128
    """Made by a 32-bit program; number and arguments are those of the 64-bit call that does the same
    (see qtrace.model.i386), addresses and what lies there are its own."""


LIFECYCLE_EVENTS: tuple[str, ...] = (
    "clone",  # tid made value (new tid); detail {"flags": int, "thread": bool, "call": "fork"|...}
    "exec",  # pid became another program; detail {"argv": [...], "exe": str, "old_tid": int}
    "exit",  # a thread ended; value: raw wait status
    "signal",  # a signal was delivered; value: its number; detail: siginfo {"code", "pid", "uid", ...}
    "stop",  # group stop; value: the signal
    "cont",  # continued
    "attach",
    "detach",
    "end-begins",  # qtrace, its user or --timeout began to end the program; detail {"why": str}
)
