"""Calls by name and time by thread: what `strace -c` gives, but wall time, and unfinished calls count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qtrace.model.records import CallFlag
from qtrace.model.syscalls import NEVER_RETURN, Architecture, by_number

if TYPE_CHECKING:
    from qtrace.analyse.trace import Trace

_HIGHEST_ERRNO = 4095
_RUNNING = "running"


def calls_by_name(trace: Trace) -> pd.DataFrame:
    """Return a row for each name of a call, the one that took most time first.

    Columns: name, calls, errors (that returned an errno), unfinished (had not returned at the end of the
    recording or of their thread; those that never return by their nature are not counted), ns (wall time
    inside; up to that end for unfinished ones), mean_ns.
    """
    calls = trace.calls
    unfinished = (calls["flags"] & int(CallFlag.UNFINISHED)) != 0
    failed = ~unfinished & (calls["ret"] < 0) & (calls["ret"] >= -_HIGHEST_ERRNO)
    numbers, place = np.unique(calls["nr"], return_inverse=True)
    names = by_number(_machine_of(trace))
    left_open = unfinished & ~np.isin(calls["nr"], [nr for nr, row in names.items() if row.name in NEVER_RETURN])

    def counted(which: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.bincount(place[which], minlength=len(numbers))

    # bincount sums in floats, which are exact up to 104 days.
    spent = np.bincount(place, weights=calls["dur_ns"], minlength=len(numbers)).astype(np.int64)
    total = counted(np.ones(len(calls), dtype=bool))
    frame = pd.DataFrame(
        {
            "name": [names[nr].name if nr in names else f"syscall_{nr}" for nr in numbers.tolist()],
            "calls": total,
            "errors": counted(failed),
            "unfinished": counted(left_open),
            "ns": spent,
            "mean_ns": spent // np.maximum(total, 1),
        }
    )
    return frame.sort_values(["ns", "name"], ascending=[False, True], ignore_index=True)


def _machine_of(trace: Trace) -> Architecture:
    try:
        return Architecture(trace.meta.get("architecture", Architecture.X86_64))
    except ValueError:
        return Architecture.X86_64


def spent_by_thread(trace: Trace) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """Return for each thread its name, the length of its life, and where that went, the most first.

    Threads stand in the order of their beginning; what was no wait is ``running``.
    """
    names = thread_names(trace)
    found: dict[int, list[tuple[str, int]]] = {tid: [] for tid in names}
    spent = trace.time_by_thread
    for tid, kind, ns in zip(spent["tid"].tolist(), spent["kind"].tolist(), spent["ns"].tolist(), strict=True):
        if ns:
            found.setdefault(tid, []).append((kind if isinstance(kind, str) else _RUNNING, ns))
    return [
        (names.get(tid, f"tid {tid}"), sum(ns for _, ns in parts), sorted(parts, key=lambda part: -part[1]))
        for tid, parts in found.items()
    ]


def thread_names(trace: Trace) -> dict[int, str]:
    """Return what to call each thread: ``app.py``, ``app.py: QueueFeederThread``; in the order of beginning."""
    processes = dict(zip(trace.processes["pid"].tolist(), trace.processes["name"].tolist(), strict=True))
    threads = trace.threads.sort_values("start_ns", kind="stable")
    found = {}
    columns = (threads[name].tolist() for name in ("tid", "pid", "name"))
    for tid, pid, name in zip(*columns, strict=True):
        process = processes.get(pid)
        process = process if isinstance(process, str) else f"pid {pid}"
        own = name if isinstance(name, str) else f"tid {tid}"
        found[tid] = process if tid == pid else f"{process}: {own}"
    return found
