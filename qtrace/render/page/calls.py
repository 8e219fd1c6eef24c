"""Calls by thread, as ``strace -c`` counts them but in wall time, and the text of single calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qtrace.model.records import CallFlag
from qtrace.model.syscalls import NEVER_RETURN, Architecture, by_number
from qtrace.render.page.arrays import IntArray
from qtrace.render.report_input import CallArray

ARGUMENTS = ("a0", "a1", "a2", "a3", "a4", "a5")

Describe = Callable[[int], str]
"""Row of the call array to the call's text."""


@dataclass(frozen=True, slots=True)
class CallRow:
    """One thread's use of one system call."""

    tid: int
    name: str
    calls: int
    errors: int
    unfinished: int
    total_ns: int
    """Entry to exit, waiting included; unfinished ones up to the end of the recording."""
    longest_ns: int


def call_rows(calls: CallArray, architecture: Architecture) -> list[CallRow]:
    """Return a row for each thread and call, the longest total first."""
    if not len(calls):
        return []
    key = calls["tid"].astype(np.int64) * 65536 + calls["nr"].astype(np.int64)
    distinct, slot = np.unique(key, return_inverse=True)
    size = len(distinct)
    unfinished = (calls["flags"] & CallFlag.UNFINISHED) != 0
    failed = ~unfinished & (calls["ret"] < 0) & (calls["ret"] >= -4095)
    longest = np.zeros(size, dtype=np.int64)
    np.maximum.at(longest, slot, calls["dur_ns"])
    counts = np.bincount(slot, minlength=size)
    errors = np.bincount(slot, weights=failed, minlength=size)
    ending = [number for number, row in by_number(architecture).items() if row.name in NEVER_RETURN]
    open_calls = np.bincount(slot, weights=unfinished & ~np.isin(calls["nr"], ending), minlength=size)
    # Sums in float64 are exact to a nanosecond up to 2**53 ns, a hundred days of waiting.
    total = np.bincount(slot, weights=calls["dur_ns"].astype(np.float64), minlength=size)
    rows = [
        CallRow(
            tid=int(number) // 65536,
            name=call_name(int(number) % 65536, architecture),
            calls=int(counts[place]),
            errors=int(errors[place]),
            unfinished=int(open_calls[place]),
            total_ns=int(total[place]),
            longest_ns=int(longest[place]),
        )
        for place, number in enumerate(distinct)
    ]
    return sorted(rows, key=lambda row: -row.total_ns)


def call_name(number: int, architecture: Architecture) -> str:
    """Return a system call's name, or ``syscall_N`` for one that the table does not have."""
    row = by_number(architecture).get(number)
    return row.name if row else f"syscall_{number}"


def calls_at(calls: CallArray, tid: IntArray, start_ns: IntArray) -> IntArray:
    """Return for each (thread, time) the row of the thread's call in progress, -1 where there is none."""
    if not len(calls):
        return np.full(len(tid), -1, dtype=np.int64)
    relevant = np.flatnonzero(np.isin(calls["tid"], np.unique(tid)))
    order = relevant[np.lexsort((calls["start_ns"][relevant], calls["tid"][relevant]))]
    sorted_tid = calls["tid"][order].astype(np.int64)
    sorted_start = calls["start_ns"][order]
    found = np.full(len(tid), -1, dtype=np.int64)
    for thread in np.unique(tid):
        low, high = np.searchsorted(sorted_tid, [thread, thread + 1])
        mine = np.flatnonzero(tid == thread)
        place = np.searchsorted(sorted_start[low:high], start_ns[mine], side="right") - 1
        hit = place >= 0
        rows = order[low + place[hit]]
        inside = start_ns[mine[hit]] <= calls["start_ns"][rows] + calls["dur_ns"][rows]
        found[mine[hit]] = np.where(inside, rows, -1)
    return found
