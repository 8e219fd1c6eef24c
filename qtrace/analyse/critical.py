"""The critical path: the chain of work and waiting that the end of the program came from.

Backwards from the end of the program's first process, or, where others went on for long after it,
from the last moment of the thread that ended last: while a thread ran, the time is its
own; where it had waited and somebody ended the wait, the path goes on with that thread, at the
moment at which it did so; where nobody did (the clock, the outside, or still waiting), the wait
itself is on the path. A thread's first moment leads to the thread that made it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from qtrace.analyse.trace import Trace


_AFTERMATH = 0.1
"""Part of the recording that others may go on for after the program's first process, without being its end."""


@dataclass(frozen=True, slots=True)
class _Wait:
    start_ns: int
    end_ns: int
    row: int
    waker: int
    woken_ns: int


@dataclass(frozen=True, slots=True)
class _Step:
    start_ns: int
    end_ns: int
    tid: int
    wait: int  # row of waits; -1: it ran


def critical_path(trace: Trace) -> pd.DataFrame:
    """Return the path, the earliest stretch first.

    Columns: start_ns, end_ns, tid, kind of wait (NA where the thread ran) and object_id.
    """
    steps = _steps(trace)
    steps.reverse()
    waits = trace.waits
    kinds, objects = waits["kind"].astype("string").to_numpy(object), waits["object_id"].to_numpy(object)
    frame = pd.DataFrame(
        {
            "start_ns": [step.start_ns for step in steps],
            "end_ns": [step.end_ns for step in steps],
            "tid": [step.tid for step in steps],
            "kind": pd.array([kinds[step.wait] if step.wait >= 0 else pd.NA for step in steps], dtype="string"),
            "object_id": pd.array([objects[step.wait] if step.wait >= 0 else pd.NA for step in steps], dtype="string"),
        }
    )
    return frame.astype({"start_ns": "int64", "end_ns": "int64", "tid": "int64"})


def _steps(trace: Trace) -> list[_Step]:
    waits = _waits_by_thread(trace)
    births = {
        int(tid): (int(start), None if pd.isna(creator) else int(creator))
        for tid, start, creator in trace.threads[["tid", "start_ns", "creator_tid"]].itertuples(index=False)
    }
    steps: list[_Step] = []
    tid, now = _last_thread(trace)
    # Time never goes forward, and each round goes back or to another thread at the same moment;
    # a bound all the same: wakers that wake each other at one instant would go round for ever.
    budget = 4 * (sum(len(some) for some in waits.values()) + len(births) + 1)
    while now > trace.start_ns and budget:
        budget -= 1
        start, creator = births.get(tid, (trace.start_ns, None))
        wait = _last_wait(waits.get(tid, []), now)
        if wait is None or wait.end_ns < start:
            if start < now:
                steps.append(_Step(start, now, tid, -1))
            if creator is None or creator == tid:
                break
            tid, now = creator, min(start, now)
            continue
        end = min(wait.end_ns, now)
        if end < now:
            steps.append(_Step(end, now, tid, -1))
        if wait.waker >= 0 and wait.waker in births and wait.woken_ns < end:
            steps.append(_Step(wait.woken_ns, end, tid, wait.row))
            tid, now = wait.waker, wait.woken_ns
        else:
            steps.append(_Step(wait.start_ns, end, tid, wait.row))
            now = wait.start_ns
    return steps


def _last_thread(trace: Trace) -> tuple[int, int]:
    threads = trace.threads
    if threads.empty:
        return 0, trace.start_ns
    ends = threads["end_ns"].fillna(trace.end_ns).astype("int64")
    root = trace.meta.get("root_pid", "")
    mine = ends[threads["tid"] == int(root)] if root.isdigit() else ends[:0]
    # Helpers, as multiprocessing's resource tracker, end when the program has: it did not wait for them.
    if len(mine) and int(ends.max()) - int(mine.max()) <= _AFTERMATH * (int(ends.max()) - trace.start_ns):
        return int(root), int(mine.max())
    place = int(ends.to_numpy().argmax())
    return int(threads["tid"].iloc[place]), int(ends.iloc[place])


def _last_wait(waits: list[_Wait], now: int) -> _Wait | None:
    # The last that began before now: it may reach over it, when this thread is where the path came
    # to in the middle of a call (a write that blocks again after it woke its reader).
    place = bisect_right(waits, now - 1, key=lambda wait: wait.start_ns) - 1
    return waits[place] if place >= 0 else None


def _waits_by_thread(trace: Trace) -> dict[int, list[_Wait]]:
    frame = trace.waits
    woken: dict[int, int] = dict(zip(trace.wakes["wait_id"].tolist(), trace.wakes["time_ns"].tolist(), strict=True))
    found: dict[int, list[_Wait]] = {}
    wakers = frame["woken_by"].fillna(-1).astype("int64").tolist()
    columns = (frame[name].tolist() for name in ("tid", "start_ns", "end_ns", "wait_id"))
    for tid, start, end, row, waker in zip(*columns, wakers, strict=True):
        found.setdefault(tid, []).append(_Wait(start, end, row, waker, woken.get(row, -1)))
    return found
