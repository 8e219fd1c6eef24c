"""What the kernel tells through perf of threads, processes, exec and signals: records of several kinds, in order."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_COMM, _EXIT, _FORK, _SAMPLE = 3, 4, 7, 9  # PERF_RECORD_*, linux/perf_event.h
_COMM_EXEC: Final = 1 << 13  # PERF_RECORD_MISC_COMM_EXEC
_HEADER = struct.Struct("<IHH")
_TASK = struct.Struct("<IIIIQ")  # pid, ppid, tid, ptid, time
_RAW = struct.Struct("<iiqIH")  # pid, tid, time, size of the rest, number of the tracepoint
_RAW_BEGIN: Final = 28
"""Where a tracepoint's own bytes begin in a record: header, pid, tid, time, size."""


@dataclass(frozen=True, slots=True)
class Made:
    """A thread has made another."""

    time_ns: int
    tid: int
    pid: int
    maker_tid: int
    maker_pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A thread has ended."""

    time_ns: int
    tid: int
    pid: int


@dataclass(frozen=True, slots=True)
class Execed:
    """A process has become another program."""

    time_ns: int
    tid: int
    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A thread of the tree has sent a signal."""

    time_ns: int
    tid: int
    pid: int
    number: int
    target: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """A signal has reached a thread."""

    time_ns: int
    tid: int
    pid: int
    number: int
    code: int
    by_default: bool
    """Whether it has no handler and is not ignored: its default action is done."""


Told = Made | Ended | Execed | Sent | Delivered


def parsed(raw: bytes, generate: int, deliver: int) -> Sequence[Told]:
    """Return what a ring's bytes tell, in the order in which they lie there.

    Args:
        raw: Whole records.
        generate: Number of the tracepoint signal_generate.
        deliver: Number of signal_deliver.
    """
    found: list[Told] = []
    place = 0
    while place + _HEADER.size <= len(raw):
        kind, misc, size = _HEADER.unpack_from(raw, place)
        if kind in (_FORK, _EXIT):
            pid, ppid, tid, ptid, time_ns = _TASK.unpack_from(raw, place + 8)
            found.append(Made(time_ns, tid, pid, ptid, ppid) if kind == _FORK else Ended(time_ns, tid, pid))
        elif kind == _COMM and misc & _COMM_EXEC:
            pid, tid = struct.unpack_from("<II", raw, place + 8)
            (time_ns,) = struct.unpack_from("<Q", raw, place + size - 8)  # the last of sample_id
            name = raw[place + 16 : place + size].split(b"\0", 1)[0].decode(errors="replace")
            found.append(Execed(time_ns, tid, pid, name))
        elif kind == _SAMPLE:
            pid, tid, time_ns, _, number = _RAW.unpack_from(raw, place + 8)
            at = place + _RAW_BEGIN
            (signal_number,) = struct.unpack_from("<i", raw, at + 8)
            if number == generate:
                (target,) = struct.unpack_from("<i", raw, at + 36)
                found.append(Sent(time_ns, tid, pid, signal_number, target))
            elif number == deliver:
                code, handler = struct.unpack_from("<i4xQ", raw, at + 16)
                found.append(Delivered(time_ns, tid, pid, signal_number, code, handler == 0))
        place += max(size, _HEADER.size)
    return found
