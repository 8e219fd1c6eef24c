"""Waits at the resolution that a screen can show: long ones exact, short ones folded into density.

A timeline of ten million calls has some thousand pixels. What is kept exactly, whatever the size:
unfinished waits, those of the verdict, those with a Python stack, and the longest. The rest adds to
bins: for each lane, bin and kind, how much of the bin was spent waiting, and in how many waits. The
page makes the coarser zoom levels from the finest one by adding neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qtrace.model.kinds import WaitKind
from qtrace.render.page.arrays import IntArray, codes, ints

KINDS: list[str] = [str(kind) for kind in WaitKind]
"""Place in this list is the kind's number in the page."""
EXACT_MARKS = 20_000
"""So many waits at most are drawn one by one: the browser draws them in 10 ms."""
BINS = 1 << 14
"""Bins over the recording at the finest level: ten screens wide."""
DENSITY_MARKS = 600_000
"""So many filled bins at most: some 4 MB of the page. More halve the number of bins."""
FEWEST_BINS = 1 << 11
"""One screen wide."""
WAITS_A_MARK = 4
"""Folding fewer waits than this into a mark, on average, is not worth losing them."""
FULL = 255
"""Share of a bin that was waited through."""


@dataclass(frozen=True, eq=False)
class Density:
    """Folded waits, sorted by lane, kind and bin."""

    bins: int
    lane: IntArray
    kind: IntArray
    bin: IntArray
    share: IntArray
    """1 to `FULL`."""
    count: IntArray
    """How many waits began there."""


@dataclass(frozen=True, eq=False)
class Marks:
    """What the timeline draws."""

    exact: pd.DataFrame
    """Rows of `waits` with lane and kind_number, sorted by lane and start."""
    density: Density
    folded: int
    """How many waits are in the density."""


def with_lanes(waits: pd.DataFrame, lane_of_tid: dict[int, int]) -> pd.DataFrame:
    """Return the waits of known threads, with ``lane`` and ``kind_number`` beside their own columns."""
    kind, _ = codes(waits["kind"], KINDS)
    lane = waits["tid"].map(lane_of_tid)
    rows = waits.assign(lane=lane, kind_number=kind)
    rows = rows[rows["lane"].notna() & (rows["kind_number"] >= 0)]
    return rows.assign(lane=rows["lane"].astype("int64"))


def choose(rows: pd.DataFrame, keep: frozenset[int], start_ns: int, end_ns: int, limit: int = EXACT_MARKS) -> Marks:
    """Return which waits are drawn one by one, and the rest as density.

    Args:
        rows: As `with_lanes` gives them.
        keep: wait_ids that are always exact.
        start_ns: Begin of the picture.
        end_ns: End of it.
        limit: How many are drawn one by one at most, beside those that always are.
    """
    if len(rows) <= limit:
        exact = np.ones(len(rows), dtype=bool)
    else:
        exact = rows["unfinished"].to_numpy(dtype=bool) | rows["wait_id"].isin(keep).to_numpy()
        exact |= _longest(rows, limit)
    folded = rows[~exact]
    return Marks(
        rows[exact].sort_values(["lane", "start_ns"], kind="stable"),
        density_of(folded, start_ns, end_ns),
        len(folded),
    )


def _longest(rows: pd.DataFrame, limit: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    duration = rows["end_ns"].to_numpy() - rows["start_ns"].to_numpy()
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[np.argpartition(duration, len(rows) - limit)[len(rows) - limit :]] = True
    return chosen


def density_of(rows: pd.DataFrame, start_ns: int, end_ns: int, bins: int = BINS) -> Density:
    """Return how much of each bin was waited, by lane and kind.

    A wait that reaches over several bins counts in each for its part; no time is lost or doubled
    but for rounding to a `FULL`-th of a bin, upward, so that a wait never becomes invisible.
    """
    width = max((end_ns - start_ns) / bins, 1e-9)
    begin = np.clip((rows["start_ns"].to_numpy() - start_ns) / width, 0, bins)
    end = np.clip((rows["end_ns"].to_numpy() - start_ns) / width, 0, bins)
    first = np.minimum(begin.astype(np.int64), bins - 1)
    spans = np.maximum(np.ceil(end).astype(np.int64) - first, 1)
    row = np.repeat(np.arange(len(rows)), spans)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(spans) - spans, spans)
    place = first[row] + offset
    part = np.clip(np.minimum(end[row], place + 1) - np.maximum(begin[row], place), 0, 1)
    series = rows["lane"].to_numpy()[row] * len(KINDS) + rows["kind_number"].to_numpy()[row]
    key, slot = np.unique(series * bins + place, return_inverse=True)
    share = np.bincount(slot, weights=part, minlength=len(key))
    count = np.bincount(slot, weights=offset == 0, minlength=len(key)).astype(np.int64)
    # A bin that holds one wait or two shows nothing that a coarser one would not.
    if len(key) > min(DENSITY_MARKS, len(rows) // WAITS_A_MARK) and bins > FEWEST_BINS:
        return density_of(rows, start_ns, end_ns, bins // 2)
    return Density(
        bins=bins,
        lane=key // (bins * len(KINDS)),
        kind=key // bins % len(KINDS),
        bin=key % bins,
        share=np.clip(np.ceil(share * FULL), 1, FULL).astype(np.int64),
        count=count,
    )


def time_by_kind(rows: pd.DataFrame, lanes: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return nanoseconds waited, a row a lane and a column a kind."""
    duration = (rows["end_ns"].to_numpy() - rows["start_ns"].to_numpy()).astype(np.float64)
    key = rows["lane"].to_numpy() * len(KINDS) + rows["kind_number"].to_numpy()
    sums = np.bincount(key, weights=duration, minlength=lanes * len(KINDS)).astype(np.float64)
    return sums.reshape(lanes, len(KINDS))


def ids_of_verdict(rows: pd.DataFrame, tids: set[int]) -> frozenset[int]:
    """Return the wait_ids of the last wait of each of the threads."""
    last = rows[rows["tid"].isin(tids)].sort_values("start_ns").groupby("tid").tail(1)
    return frozenset(ints(last["wait_id"]).tolist())
