"""Rings of threads that an attach found late."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qtrace.capture.perf_last_seen import LAYOUTS
from qtrace.tracefile.rings import records_of

if TYPE_CHECKING:
    from qtrace.capture.perf_events import Rings


class LateRings:
    """Rings of threads that were found late, and that may have inherited the events of the others, too."""

    def __init__(self, rings: Rings, tids: Iterable[int]) -> None:
        self._rings = rings
        self._tids = np.array(sorted(tids), np.int32)
        self._inherited = np.zeros(len(self._tids), bool)

    def take(self) -> list[tuple[str, bytes]]:
        """Return what they give: to be asked before the others, which then have no less of the same threads."""
        kinds = (("enter", self._rings.enters), ("exit", self._rings.exits))
        return [(kind, raw) for kind, rings in kinds for ring in rings if (raw := ring.take())]

    def without_twins(
        self, late: Sequence[tuple[str, bytes]], others: Sequence[tuple[str, bytes]]
    ) -> list[tuple[str, bytes]]:
        """Return what these have given, but for the threads that are found in what the others have given."""
        for kind, raw in others:
            for records in records_of(raw, LAYOUTS[kind])[0]:
                self._inherited |= np.isin(self._tids, records["tid"])
        twins = self._tids[self._inherited]
        kept = []
        for kind, raw in late:
            for records in records_of(raw, LAYOUTS[kind])[0]:
                kept.append((kind, records[~np.isin(records["tid"], twins)].tobytes()))
        return kept
