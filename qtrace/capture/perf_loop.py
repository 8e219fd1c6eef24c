"""The ptrace loop beside the ring buffers: only calls that shape the tree and descriptors stop."""

from __future__ import annotations

from collections.abc import Collection

from qtrace.capture import procfs, ptrace_calls
from qtrace.capture.hot_stops import OpenCall
from qtrace.capture.loop import Loop
from qtrace.model.records import CALL_STRUCT, CallFlag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qtrace.capture.perf_collector import Collector


_COMPAT = int(CallFlag.COMPAT)


class PerfLoop(Loop):
    """A loop that knows of the calls in the rings too, wherever it is asked for calls."""

    def __init__(self, *arguments: Any, collector: Collector, in_rings: Collection[int] = (), **options: Any) -> None:
        """See `Loop`; the collector reads the rings, and in_rings are the numbers of the calls that come from there."""
        super().__init__(*arguments, **options)
        self.collector = collector
        self._in_rings = frozenset(in_rings)
        self._emit, self.emit = self.emit, self._emit_what_stops

    def _emit_what_stops(self, packed: bytes) -> None:
        """Leave out a call that had to stop and is in the rings, too; a 32-bit program's is not there."""
        _, _, _, _, number, flags, *_ = CALL_STRUCT.unpack(packed)
        if flags & _COMPAT or number not in self._in_rings:
            self._emit(packed)

    def calls_in_progress(self) -> dict[int, OpenCall]:
        """Return the call that each thread is in. For any thread."""
        return self.collector.open_calls() | super().calls_in_progress()

    def calls_lately(self) -> dict[int, OpenCall]:
        """Return the calls in progress when the rings were looked into last. For any thread."""
        return self.collector.lately() | super().calls_in_progress()

    def calls_interrupted(self) -> dict[int, OpenCall]:
        """Return calls that a signal or a stop has interrupted and that may go on. For any thread."""
        return self.collector.interrupted() | super().calls_interrupted()

    def calls_seen(self) -> int:
        """Return a number that grows with what the program does. For any thread."""
        return self.collector.entered + super().calls_seen()

    def _making(self, tid: int) -> tuple[list[int] | None, bool]:
        known = super()._making(tid)
        process = self.tracees.processes.get(self.tracees.pid_of.get(tid, 0))
        if known[0] is not None or process is None or process.kind is not procfs.ImageKind.NATIVE:
            return known
        return ptrace_calls.call_at_event(tid), False

    def _end_open(self, tid: int, pid: int, now: int, killed: bool = True) -> None:
        super()._end_open(tid, pid, now, killed)
        self.collector.ended(now, tid, killed)
