"""Records that wait for calls to be made of them, and who is in a call meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qtrace.model.records import CallFlag
from qtrace.tracefile.rings import ENTER, EXIT, Array, records_of
from qtrace.tracefile.threads import RESTARTS, OpenCall

_FROM_PERF = int(CallFlag.FROM_PERF)
_WIDEST = 1 << 20


def records_in(contents: Iterable[tuple[str, bytes]], wanted: str) -> tuple[list[Array], int]:
    """Return the records of a kind, in pieces, and how many the kernel had to drop."""
    found: list[Array] = []
    lost = 0
    for kind, raw in contents:
        if kind == wanted:
            pieces, gone = records_of(raw, LAYOUTS[kind])
            found += pieces
            lost += gone
    return found, lost


@dataclass(slots=True)
class LastSeen:
    """Which call each thread was in when the rings were looked into last: found without making all calls."""

    calls: dict[int, tuple[int, OpenCall | None]] = field(default_factory=dict)
    """By tid: when its last entry or exit was, and the call that it is in, if it is in one."""

    def see(self, enters: list[Array], exits: list[Array]) -> None:
        """Take note of records that are all later than those of before, but for the order within them."""
        for records in enters:
            for row in _last_of_each(records):
                self._newer(int(row["tid"]), int(row["time"]), _begun(row))
        for records in exits:
            for row in _last_of_each(records):
                if int(row["ret"]) in RESTARTS:
                    continue  # it may go on; whether it does, the next entry tells
                self._newer(int(row["tid"]), int(row["time"]), None)

    def _newer(self, tid: int, time_ns: int, call: OpenCall | None) -> None:
        known = self.calls.get(tid)
        if known is None or known[0] <= time_ns:
            self.calls[tid] = time_ns, call

    def over(self, calls: dict[int, OpenCall]) -> dict[int, OpenCall]:
        """Return calls in progress as they were some time ago, set right by what was seen since."""
        found = calls.copy()
        for tid, (_, call) in self.calls.copy().items():
            if call is None:
                found.pop(tid, None)
            else:
                found[tid] = call
        return found


LAYOUTS: dict[str, np.dtype[Any]] = {"enter": ENTER, "exit": EXIT}


def _begun(row: Any) -> OpenCall:
    return int(row["time"]), [int(row["nr"]), *row["args"].tolist()], _FROM_PERF, 0


def _last_of_each(records: Array) -> Array:
    """Return the last record of each thread, of records in the order of time."""
    if not len(records):
        return records
    tid = records["tid"]
    lowest = int(tid.min())
    width = int(tid.max()) - lowest + 1
    if width > _WIDEST:
        _, from_the_end = np.unique(tid[::-1], return_index=True)
        return records[len(records) - 1 - from_the_end]
    last = np.full(width, -1, np.int64)
    last[tid - lowest] = np.arange(len(records))
    return records[last[last >= 0]]
