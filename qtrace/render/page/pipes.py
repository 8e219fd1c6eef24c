"""Pipes and queues: the level over time, and what their messages and waits add up to."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from qtrace.model.kinds import WaitKind
from qtrace.render.page.arrays import IntArray, ints

FILL_POINTS = 6_000
"""Corners of a level's curve at most: two a pixel column of a wide screen, and some to zoom into."""
ALL_POINTS = 60_000
"""Corners of all curves together, where there are many pipes."""
FEWEST_POINTS = 200
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, eq=False)
class FillCurve:
    """A pipe's level: from each time on until the next."""

    object_id: str
    time_ns: IntArray
    bytes: IntArray
    capacity: IntArray
    thinned_from: int
    """How many corners there were before thinning."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A duration's distribution, in nanoseconds."""

    p50_ns: int
    p95_ns: int
    p99_ns: int
    max_ns: int


@dataclass(frozen=True, eq=False)
class PipeMetrics:
    """What went through one pipe or socket."""

    object_id: str
    messages: int
    complete: int
    body_bytes: int
    rate_per_s: float
    """Complete messages over the time from the first write to the last read."""
    bytes_per_s: float
    max_depth: int
    """Messages begun by the sender and not yet read whole, at most."""
    send: Spread | None
    """Entry of the first write to exit of the last."""
    transit: Spread | None
    """Exit of the last write to exit of the last read; 0 where the reader finished first."""
    receive: Spread | None
    """Entry of the first read to exit of the last: the reader's wait for the message included."""
    waits_for_room_ns: int
    waits_for_data_ns: int
    for_room_share: float
    """Part of the recording that a sender waited for room."""
    for_data_share: float
    senders: tuple[int, ...] = ()
    """Thread ids, those who sent most first."""
    receivers: tuple[int, ...] = ()
    depth_time_ns: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    depth: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def fill_curves(fill: pd.DataFrame, points: int = FILL_POINTS) -> list[FillCurve]:
    """Return a curve for each pipe that ever held something, thinned without losing a peak."""
    curves = []
    points = _points_each(fill["object_id"].nunique(), points)
    for object_id, rows in fill.groupby("object_id", sort=False, observed=True):
        time = ints(rows["time_ns"])
        level = ints(rows["bytes"])
        if not len(level) or not level.any():
            continue
        keep = thin(time, level, points)
        curves.append(FillCurve(str(object_id), time[keep], level[keep], ints(rows["capacity"])[keep], len(time)))
    return curves


def _points_each(curves: int, most: int = FILL_POINTS) -> int:
    return min(most, max(ALL_POINTS // max(curves, 1), FEWEST_POINTS))


def thin(time: IntArray, level: IntArray, points: int) -> IntArray:
    """Return the rows to keep: first, lowest, highest and last of each of `points` / 4 stretches of time."""
    if len(time) <= points:
        return np.arange(len(time))
    stretches = max(points // 4, 1)
    edges = np.linspace(time[0], time[-1] + 1, stretches + 1)
    bounds = np.unique(np.append(np.searchsorted(time, edges), len(time)))
    kept: list[int] = []
    for low, high in itertools.pairwise(bounds):
        part = level[low:high]
        kept += [int(low), int(low + part.argmin()), int(low + part.argmax()), int(high - 1)]
    return np.unique(np.asarray(kept, dtype=np.int64))


def _spread(durations: IntArray) -> Spread | None:
    if not len(durations):
        return None
    low, high, higher = np.quantile(durations, QUANTILES)
    return Spread(int(low), int(high), int(higher), int(durations.max()))


def _between(rows: pd.DataFrame, begin: str, end: str) -> IntArray:
    known = rows[rows[begin].notna() & rows[end].notna()]
    return (ints(known[end]) - ints(known[begin])).clip(min=0)


def _depth(rows: pd.DataFrame) -> tuple[IntArray, IntArray]:
    sent = ints(rows["write_start_ns"][rows["write_start_ns"].notna()])
    received = ints(rows["read_end_ns"][rows["read_end_ns"].notna() & rows["complete"].astype(bool)])
    time = np.concatenate((sent, received))
    step = np.concatenate((np.ones(len(sent), dtype=np.int64), -np.ones(len(received), dtype=np.int64)))
    # At the same instant the arrival counts first, or the depth would dip below zero.
    order = np.lexsort((-step, time))
    return time[order], np.cumsum(step[order])


def _waited(waits: pd.DataFrame, kinds: tuple[WaitKind, ...]) -> pd.DataFrame:
    return waits[waits["kind"].isin([str(kind) for kind in kinds])]


def _union_ns(waits: pd.DataFrame) -> int:
    # Two readers that wait at the same time are one stretch without data.
    if waits.empty:
        return 0
    ordered = waits.sort_values("start_ns")
    start, end = ints(ordered["start_ns"]), ints(ordered["end_ns"])
    reach = np.maximum.accumulate(end)
    before = np.concatenate((start[:1], reach[:-1]))
    return int(np.maximum(end - np.maximum(start, before), 0).sum())


def _union_by_object(waits: pd.DataFrame) -> dict[str, int]:
    groups = waits.groupby("object_id", sort=False, observed=True)
    return {str(object_id): _union_ns(rows) for object_id, rows in groups}


def pipe_metrics(messages: pd.DataFrame, waits: pd.DataFrame, span_ns: int) -> list[PipeMetrics]:
    """Return a row for each pipe or socket that carried messages, the busiest first."""
    full = _waited(waits, (WaitKind.PIPE_FULL, WaitKind.SOCKET_FULL))
    empty = _waited(waits, (WaitKind.PIPE_EMPTY, WaitKind.SOCKET_EMPTY))
    # Summed once for all: looking for each pipe's waits among millions would take a pass a pipe.
    room, hunger = _union_by_object(full), _union_by_object(empty)
    points = _points_each(messages["object_id"].nunique())
    found = [
        _metrics_of(
            str(object_id), rows, room.get(str(object_id), 0), hunger.get(str(object_id), 0), max(span_ns, 1), points
        )
        for object_id, rows in messages.groupby("object_id", sort=False, observed=True)
    ]
    return sorted(found, key=lambda row: -row.messages)


def _metrics_of(object_id: str, rows: pd.DataFrame, room: int, hunger: int, span_ns: int, points: int) -> PipeMetrics:
    done = rows[rows["complete"].astype(bool)]
    time, depth = _depth(rows)
    active_s = max(_active_ns(rows), 1) / 1e9
    body = int(ints(done["size"]).sum())
    keep = thin(time, depth, points) if len(time) else np.zeros(0, dtype=np.int64)
    return PipeMetrics(
        object_id=object_id,
        messages=len(rows),
        complete=len(done),
        body_bytes=body,
        rate_per_s=len(done) / active_s,
        bytes_per_s=body / active_s,
        max_depth=int(depth.max()) if len(depth) else 0,
        send=_spread(_between(rows, "write_start_ns", "write_end_ns")),
        transit=_spread(_between(done, "write_end_ns", "read_end_ns")),
        receive=_spread(_between(done, "read_start_ns", "read_end_ns")),
        waits_for_room_ns=room,
        waits_for_data_ns=hunger,
        for_room_share=room / span_ns,
        for_data_share=hunger / span_ns,
        senders=_by_count(rows["sender_tid"]),
        receivers=_by_count(rows["receiver_tid"]),
        depth_time_ns=time[keep],
        depth=depth[keep],
    )


def _by_count(tids: pd.Series[Any]) -> tuple[int, ...]:
    return tuple(int(tid) for tid in tids.value_counts().index)


def _active_ns(rows: pd.DataFrame) -> int:
    times: list[Any] = [rows[name].dropna() for name in ("write_start_ns", "read_end_ns", "write_end_ns")]
    known = [column for column in times if len(column)]
    return int(max(column.max() for column in known) - min(column.min() for column in known)) if known else 0
