"""What was taken from the ring buffers and waits for calls to be made of it; and who is in a call meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qtrace.model.records import CallFlag
from qtrace.tracefile.rings import ENTER, EXIT, Array, records_of
from qtrace.tracefile.threads import RESTARTS, OpenCall

_IN_MEMORY_BYTES = 32 << 20
"""So much of what is stored already is kept for making calls of it; the rest is read again."""
_FROM_PERF = int(CallFlag.FROM_PERF)
_WIDEST = 1 << 20


@dataclass(slots=True)
class Part:
    """What one ring gave at one moment."""

    number: int
    kind: str
    """``enter`` or ``exit``."""
    raw: bytes | None
    """None: to be read from the recording, where it has been stored."""


@dataclass(frozen=True, slots=True)
class Take:
    """What all rings gave at one moment."""

    horizon_ns: int
    """Every ring was read after this."""
    parts: list[Part]
    size: int

    def contents(self) -> list[tuple[str, bytes]]:
        """Return kinds and bytes."""
        return [(part.kind, part.raw or b"") for part in self.parts]

    def is_in_memory(self) -> bool:
        """Return whether nothing has to be read again first."""
        return all(part.raw is not None for part in self.parts)


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
class Backlog:
    """Takes, the oldest first. Whoever calls holds the lock that its user has for it."""

    takes: deque[Take] = field(default_factory=deque)
    size: int = 0
    done: int = 0
    """Number of the last part of which calls have been made."""
    _last: int = 0
    _fresh: list[tuple[Part, int]] = field(default_factory=list)
    _stored: deque[Part] = field(default_factory=deque)
    _stored_bytes: int = 0

    def add(self, horizon_ns: int, contents: list[tuple[str, bytes]]) -> Take:
        """Add what the rings gave: kinds and bytes."""
        parts = []
        for kind, raw in contents:
            self._last += 1
            part = Part(self._last, kind, raw)
            parts.append(part)
            self._fresh.append((part, horizon_ns))
        take = Take(horizon_ns, parts, sum(len(raw) for _, raw in contents))
        self.takes.append(take)
        self.size += take.size
        return take

    def oldest_is_done(self) -> None:
        """Calls have been made of the oldest."""
        take = self.takes.popleft()
        self.size -= take.size
        if take.parts:
            self.done = take.parts[-1].number

    def to_store(self, are_stored: bool) -> list[tuple[int, int, str, bytes]]:
        """Return rows of the table `rings` for the parts that came since the last time.

        Args:
            are_stored: Whether those of the last time have been committed, and can be read again.
        """
        while self._stored and (self._stored[0].number <= self.done or not are_stored):
            self._stored_bytes -= len(self._stored.popleft().raw or b"")
        while self._stored_bytes > _IN_MEMORY_BYTES:
            part = self._stored.pop()  # the newest: its turn comes last
            self._stored_bytes -= len(part.raw or b"")
            part.raw = None
        rows = []
        for part, time_ns in self._fresh:
            if part.number > self.done and part.raw is not None:
                rows.append((part.number, time_ns, part.kind, part.raw))
                self._stored.append(part)
                self._stored_bytes += len(part.raw)
        self._fresh.clear()
        return rows


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
