"""A recording as pandas tables, each made when it is first looked at.

The columns of each table, with dtype, unit and meaning, are those of `qtrace.model.columns`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qtrace.model.kinds import Role, WaitKind

if TYPE_CHECKING:
    import pandas as pd

    from qtrace.model.snapshot import Frame
    from qtrace.model.verdict import Verdict

Ints = np.ndarray[Any, np.dtype[np.int64]]
Row = tuple[Any, ...]


class StackPart(Protocol):
    """A Python stack of the recording."""

    @property
    def stack_id(self) -> int:
        """Its number in the recording."""

    @property
    def tid(self) -> int:
        """The thread."""

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Innermost first."""


class WaitsPart(Protocol):
    """Blocked intervals: arrays of one length."""

    @property
    def call(self) -> Ints:
        """Place of the call."""

    @property
    def kind(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        """Place in `WaitKind`."""

    @property
    def woken_by(self) -> Ints:
        """tid of who ended it; -1: nobody known."""

    @property
    def woken_ns(self) -> Ints:
        """When that thread did; -1."""

    @property
    def floor_ns(self) -> int:
        """Shorter intervals are not told from the cost of tracing."""


class MessagesPart(Protocol):
    """Messages: arrays of one length, -1 where a value is missing."""

    @property
    def stream(self) -> Ints:
        """Number of the object that it was read from."""

    @property
    def seq(self) -> Ints:
        """Number on that object."""

    @property
    def size(self) -> Ints:
        """Body in bytes."""

    @property
    def sender(self) -> Ints:
        """tid."""

    @property
    def receiver(self) -> Ints:
        """tid."""

    @property
    def write_start_ns(self) -> Ints:
        """Entry of the first write."""

    @property
    def write_end_ns(self) -> Ints:
        """Exit of the last."""

    @property
    def read_start_ns(self) -> Ints:
        """Entry of the first read."""

    @property
    def read_end_ns(self) -> Ints:
        """Exit of the last."""

    @property
    def complete(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which were read to the end."""


class FillPart(Protocol):
    """Levels of pipes: arrays of one length."""

    @property
    def stream(self) -> Ints:
        """Number of the pipe."""

    @property
    def time_ns(self) -> Ints:
        """From when on."""

    @property
    def bytes(self) -> Ints:
        """The level."""

    @property
    def capacity(self) -> Ints:
        """In bytes; -1: unknown."""


class TraceParts(Protocol):
    """What `Trace` is made from; `qtrace.decode.parts.Parts` is one."""

    meta: dict[str, str]
    start_ns: int
    end_ns: int
    losses: list[Row]
    damage: str
    wait_kinds: list[str]

    @property
    def calls(self) -> np.ndarray[Any, np.dtype[np.void]]:
        """Every call in the order of entry."""

    @property
    def call_object(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """For each call the number of its object; -1: none."""

    @property
    def call_names(self) -> tuple[list[str], Ints]:
        """Names of calls, and the place in them by number."""

    @property
    def object_ids(self) -> list[str]:
        """Object ids by number."""

    @property
    def object_rows(self) -> Sequence[tuple[str, str, str, int | None, int | None, int | None]]:
        """Id, kind, label, capacity, creator and time, by number."""

    def is_used(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which objects a call was on."""

    @property
    def processes(self) -> Sequence[Row]:
        """Rows of the recording's table, complete."""

    @property
    def lifecycle(self) -> Sequence[Row]:
        """Likewise."""

    @property
    def threads(self) -> Sequence[Row]:
        """Likewise."""

    @property
    def stacks(self) -> Mapping[tuple[int, int], StackPart]:
        """Stacks by thread and entry of the call."""

    @property
    def waits(self) -> WaitsPart:
        """Blocked intervals."""

    @property
    def messages(self) -> MessagesPart:
        """Messages through Connections."""

    @property
    def fill(self) -> FillPart:
        """Levels of pipes."""


class Trace:
    """A recording as pandas tables.

    Attributes:
        name: The recording's name, without folder and suffix.
        meta: Facts about the recording: see `qtrace.tracefile.schema`.
        start_ns: Begin of the recording, CLOCK_MONOTONIC.
        end_ns: End of it.
        damage: What could not be read of the file; empty if it is whole.
    """

    def __init__(self, parts: TraceParts, name: str = "", judge: Callable[[], Verdict] | None = None) -> None:
        """Wrap a decoded recording.

        Args:
            parts: The recording, decoded.
            name: What to call it.
            judge: Computes the verdict on its end.
        """
        self._parts = parts
        self._judge = judge
        self.name = name
        self.meta = dict(parts.meta)
        self.start_ns = parts.start_ns
        self.end_ns = parts.end_ns
        self.damage = parts.damage

    @classmethod
    def from_parts(cls, parts: TraceParts, name: str = "", judge: Callable[[], Verdict] | None = None) -> Trace:
        """Return the trace of a decoded recording."""
        return cls(parts, name, judge)

    @cached_property
    def verdict(self) -> Verdict | None:
        """The verdict on the recording's end; None if there is nobody to judge."""
        return self._judge() if self._judge is not None else None

    @property
    def calls(self) -> np.ndarray[Any, np.dtype[np.void]]:
        """Every call as a record of `qtrace.model.records.CALL_FIELDS`, in the order of entry."""
        return self._parts.calls

    @property
    def lifecycle(self) -> Sequence[Row]:
        """Signals, stops, births and ends in the order of time: rows of the recording's table of that name."""
        return self._parts.lifecycle

    @property
    def floor_ns(self) -> int:
        """Calls shorter than this are not called waits: tracing itself takes so long."""
        return self._parts.waits.floor_ns

    @cached_property
    def processes(self) -> pd.DataFrame:
        """A process image's life a row."""
        from qtrace.analyse.lives import processes_table

        return processes_table(self._parts)

    @cached_property
    def threads(self) -> pd.DataFrame:
        """A thread a row."""
        from qtrace.analyse.lives import threads_table

        return threads_table(self._parts)

    @cached_property
    def _feeders(self) -> frozenset[int]:
        rows = self.threads
        return frozenset(rows["tid"][rows["role"] == str(Role.FEEDER)].tolist())

    @cached_property
    def syscalls(self) -> pd.DataFrame:
        """A call a row, in the order of entry."""
        from qtrace.analyse.syscalls import syscalls_table

        return syscalls_table(self._parts)

    @cached_property
    def waits(self) -> pd.DataFrame:
        """A blocked interval a row, in the order of begin."""
        from qtrace.analyse.waits import waits_table

        return waits_table(self._parts, self.wait_kind_codes)

    @cached_property
    def wait_kind_codes(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        """Kinds of the waits as places in `qtrace.model.kinds.WaitKind`, told apart by Python stacks."""
        from qtrace.analyse.waits import told_apart

        return told_apart(self._parts, self._feeders)

    @cached_property
    def wakes(self) -> pd.DataFrame:
        """An ended wait with a known waker a row, in the order of time."""
        from qtrace.analyse.wakes import wakes_table

        return wakes_table(self._parts, self.wait_kind_codes)

    @cached_property
    def objects(self) -> pd.DataFrame:
        """A pipe, socket, semaphore, lock, child ... a row."""
        from qtrace.analyse.objects import objects_table

        return objects_table(self._parts, self._feeders)

    @cached_property
    def messages(self) -> pd.DataFrame:
        """A message through a Connection, Pipe or Queue a row."""
        from qtrace.analyse.messages import messages_table

        return messages_table(self._parts)

    @cached_property
    def fill(self) -> pd.DataFrame:
        """A change of a pipe's level a row."""
        from qtrace.analyse.fill import fill_table

        return fill_table(self._parts)

    @cached_property
    def losses(self) -> pd.DataFrame:
        """What is missing: start_ns, end_ns, events, place, reason."""
        import pandas as pd

        columns = ["start_ns", "end_ns", "events", "place", "reason"]
        return pd.DataFrame(self._parts.losses, columns=columns)

    @cached_property
    def stacks(self) -> Mapping[int, tuple[Frame, ...]]:
        """Python stacks, innermost frame first, by stack_id."""
        return {stack.stack_id: stack.frames for stack in self._parts.stacks.values()}

    @cached_property
    def critical(self) -> pd.DataFrame:
        """The critical path: start_ns, end_ns, tid, kind (NA where it ran), object_id."""
        from qtrace.analyse.critical import critical_path

        return critical_path(self)

    @cached_property
    def time_by_thread(self) -> pd.DataFrame:
        """Where each thread's time went: tid, pid, kind (NA: running), ns, share of its life."""
        from qtrace.analyse.slow import time_by_thread

        return time_by_thread(self)

    @cached_property
    def bottleneck(self) -> str:
        """What most of the time was lost to, in a sentence; empty where nothing stands out."""
        from qtrace.analyse.slow import bottleneck

        return bottleneck(self)

    @cached_property
    def queues(self) -> pd.DataFrame:
        """What went through each pipe or queue, summed up: see `qtrace.analyse.queues`."""
        from qtrace.analyse.queues import queues_table

        return queues_table(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: how much was recorded, and the verdict."""
        verdict = self.verdict
        seconds = (self.end_ns - self.start_ns) / 1e9
        counts = (
            f"{len(self.calls):,} calls, {self.processes['pid'].nunique():,} processes, {len(self.threads):,} threads"
        )
        tables = "processes, threads, syscalls, waits, wakes, objects, messages, fill"
        shown = verdict._repr_html_() if verdict is not None else ""
        head = f"<p><b>{escape(self.name)}</b>: {counts}, {len(self.waits):,} waits in {seconds:,.3f} s</p>"
        return f"{head}{shown}<p>Tables: <code>{tables}</code></p>"


KIND_CODES: Mapping[str, int] = {str(kind): place for place, kind in enumerate(WaitKind)}
"""Kind of wait to its place in `WaitKind`."""
