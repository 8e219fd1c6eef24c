"""The ptrace loop beside the ring buffers: only calls that shape the tree and descriptors stop."""

from __future__ import annotations

from qtrace.capture.hot_stops import OpenCall
from qtrace.capture.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qtrace.capture.perf_collector import Collector


class PerfLoop(Loop):
    """A loop that knows of the calls in the rings too, wherever it is asked for calls."""

    def __init__(self, *arguments: Any, collector: Collector, **options: Any) -> None:
        """See `Loop`; the collector reads the rings."""
        super().__init__(*arguments, **options)
        self.collector = collector

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

    def _end_open(self, tid: int, pid: int, now: int, killed: bool = True) -> None:
        super()._end_open(tid, pid, now, killed)
        self.collector.ended(now, tid, killed)
