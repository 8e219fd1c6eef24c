"""What was taken from the ring buffers and waits for calls to be made of it. No NumPy: it may not be there yet."""

from __future__ import annotations

from collections import deque

_IN_MEMORY_BYTES = 32 << 20
"""So much of what is stored already is kept for making calls of it; the rest is read again."""


class Part:
    """What one ring gave at one moment."""

    __slots__ = ("kind", "number", "raw")

    number: int
    kind: str
    """``enter`` or ``exit``."""
    raw: bytes | None
    """None: to be read from the recording, where it has been stored."""

    def __init__(self, number: int, kind: str, raw: bytes) -> None:
        self.number = number
        self.kind = kind
        self.raw = raw


class Take:
    """What all rings gave at one moment."""

    __slots__ = ("horizon_ns", "parts", "size")

    horizon_ns: int
    """Every ring was read after this."""
    parts: list[Part]
    size: int

    def __init__(self, horizon_ns: int, parts: list[Part], size: int) -> None:
        self.horizon_ns = horizon_ns
        self.parts = parts
        self.size = size

    def contents(self) -> list[tuple[str, bytes]]:
        """Return kinds and bytes."""
        return [(part.kind, part.raw or b"") for part in self.parts]

    def is_in_memory(self) -> bool:
        """Return whether nothing has to be read again first."""
        return all(part.raw is not None for part in self.parts)


class Backlog:
    """Takes, the oldest first. Whoever calls holds the lock that its user has for it."""

    def __init__(self) -> None:
        """Begin with none."""
        self.takes: deque[Take] = deque()
        self.size = 0
        self.done = 0
        """Number of the last part of which calls have been made."""
        self._last = 0
        self._fresh: list[tuple[Part, int]] = []
        self._stored: deque[Part] = deque()
        self._stored_bytes = 0

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
