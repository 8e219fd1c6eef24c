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
from qtrace.render.page.arrays import Floats, IntArray, codes, ints

KINDS: list[str] = [str(kind) for kind in WaitKind]
"""Place in this list is the kind's number in the page."""
EXACT_MARKS = 20_000
"""So many waits at most are drawn one by one: the browser draws them in 10 ms."""
BINS = 1 << 16
"""Bins over the recording at the finest level: forty screens wide, and what a uint16 can number."""
DENSITY_MARKS = 1_500_000
"""So many filled bins at most: some 4 MB of the page. More halve the number of bins."""
MOST_CELLS = 48_000_000
"""Series times bins at most: two arrays of so many floats are 770 MB."""
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

    Args:
        rows: As `with_lanes` gives them.
        start_ns: Begin of the picture.
        end_ns: End of it.
        bins: A power of two; fewer are used where there would be too many marks.
    """
    number, series = _series(rows)
    while len(series) * bins > MOST_CELLS and bins > FEWEST_BINS:
        bins //= 2
    share, count = _spread_over_bins(rows, number, len(series), bins, (end_ns - start_ns) / bins, start_ns)
    # A bin that holds one wait or two shows nothing that a coarser one would not.
    most = min(DENSITY_MARKS, len(rows) // WAITS_A_MARK)
    while np.count_nonzero(share) > most and bins > FEWEST_BINS:
        bins //= 2
        share = share.reshape(-1, 2).mean(axis=1)
        count = count.reshape(-1, 2).sum(axis=1)
    cell = np.flatnonzero(share)
    return Density(
        bins=bins,
        lane=series[cell // bins] // len(KINDS),
        kind=series[cell // bins] % len(KINDS),
        bin=cell % bins,
        share=np.clip(np.ceil(share[cell] * FULL), 1, FULL).astype(np.int64),
        count=count[cell].astype(np.int64),
    )


def _series(rows: pd.DataFrame) -> tuple[IntArray, IntArray]:
    # Each wait's series and which those are: the pairs of lane and kind that occur, in order.
    key = rows["lane"].to_numpy() * len(KINDS) + rows["kind_number"].to_numpy()
    present = np.flatnonzero(np.bincount(key))
    place = np.zeros(present[-1] + 1 if len(present) else 1, dtype=np.int64)
    place[present] = np.arange(len(present))
    return place[key], present.astype(np.int64)


def _spread_over_bins(
    rows: pd.DataFrame, number: IntArray, series: int, bins: int, width_ns: float, start_ns: int
) -> tuple[Floats, Floats]:
    # A cell for each series and bin: counting into cells needs no sorting, which for ten million
    # waits would take longer than all the rest of the page.
    width = max(width_ns, 1e-9)
    begin = np.clip((rows["start_ns"].to_numpy() - start_ns) / width, 0, bins)
    end = np.clip((rows["end_ns"].to_numpy() - start_ns) / width, 0, bins)
    first = np.minimum(begin.astype(np.int64), bins - 1)
    last = np.clip(np.ceil(end).astype(np.int64) - 1, first, bins - 1)
    cells = series * bins
    count = np.bincount(number * bins + first, minlength=cells).astype(np.float64)
    within = first == last
    # A wait of no length still shows.
    part = np.maximum(end - begin, 1 / FULL / 2)
    share = np.bincount((number * bins + first)[within], weights=part[within], minlength=cells).astype(np.float64)
    over = np.flatnonzero(~within)
    spans = last[over] - first[over] + 1
    row = np.repeat(over, spans)
    place = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(spans) - spans, spans)
    piece = np.minimum(end[row], place + 1) - np.maximum(begin[row], place)
    share += np.bincount(number[row] * bins + place, weights=np.maximum(piece, 0), minlength=cells)
    return share, count


def time_by_kind(rows: pd.DataFrame, lanes: int) -> Floats:
    """Return nanoseconds waited, a row a lane and a column a kind."""
    duration = (rows["end_ns"].to_numpy() - rows["start_ns"].to_numpy()).astype(np.float64)
    key = rows["lane"].to_numpy() * len(KINDS) + rows["kind_number"].to_numpy()
    sums = np.bincount(key, weights=duration, minlength=lanes * len(KINDS)).astype(np.float64)
    return sums.reshape(lanes, len(KINDS))


def ids_of_verdict(rows: pd.DataFrame, tids: set[int]) -> frozenset[int]:
    """Return the wait_ids of the last wait of each of the threads."""
    last = rows[rows["tid"].isin(tids)].sort_values("start_ns").groupby("tid").tail(1)
    return frozenset(ints(last["wait_id"]).tolist())
