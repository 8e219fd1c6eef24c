"""A recording decoded once, for all that is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qtrace.decode.arrays import CallArray, architecture_of
from qtrace.decode.descriptors import Descriptors, replay
from qtrace.decode.family import family_of
from qtrace.decode.names import named
from qtrace.decode.operands import Operands, Words, operands
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture
from qtrace.tracefile.reader import TraceReader

Row = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Decoded:
    """Calls with what they were on, and the recording's tables that go with them."""

    meta: dict[str, str]
    start_ns: int
    end_ns: int
    calls: CallArray
    on: Operands
    descriptors: Descriptors
    words: Words
    lifecycle: list[Row]
    details: list[Row]
    processes: list[Row]
    """With names for people."""
    threads: list[Row]
    stacks: list[Row]
    files: dict[str, str]
    """Names of files by object id, where they are known."""

    @property
    def architecture(self) -> Architecture:
        """The recording's architecture."""
        return architecture_of(self.meta)

    def until(self, time_ns: int) -> Decoded:
        """Return what was known at a time: calls that had begun, those that lasted on as unfinished.

        What descriptors were is not cut: which pipe a descriptor was may have been learned later.
        """
        if time_ns >= self.end_ns:
            return self
        count = int(np.searchsorted(self.calls["start_ns"], time_ns, side="right"))
        calls = self.calls[:count].copy()
        ends = calls["start_ns"] + calls["dur_ns"]
        later = (ends > time_ns) & (calls["dur_ns"] > 0)
        calls["flags"][later] = (calls["flags"][later] | int(CallFlag.UNFINISHED)) & ~np.uint16(CallFlag.KILLED)
        calls["dur_ns"][later] = time_ns - calls["start_ns"][later]
        calls["ret"][later] = 0
        return Decoded(
            self.meta,
            self.start_ns,
            time_ns,
            calls,
            Operands(self.on.number[:count], self.on.objects, self.on.mapping),
            self.descriptors,
            self.words,
            [row for row in self.lifecycle if row[0] <= time_ns],
            self.details,
            self.processes,
            self.threads,
            self.stacks,
            self.files,
        )


def decode(reader: TraceReader, calls: CallArray | None = None) -> Decoded:
    """Return a recording decoded.

    Args:
        reader: The recording.
        calls: Its calls, where they are not to be read whole.
    """
    if calls is None:
        calls = reader.calls()
    lifecycle = sorted(reader.rows("lifecycle"), key=lambda row: int(row[0]))
    details = reader.rows("details")
    sightings = reader.rows("sightings")
    descriptors = replay(calls, reader.meta, lifecycle, sightings, details)
    words = Words(reader.rows("words"), lifecycle)
    on = operands(calls, reader.meta, descriptors, words, details)
    return Decoded(
        reader.meta,
        reader.start_ns,
        reader.end_ns,
        calls,
        on,
        descriptors,
        words,
        lifecycle,
        details,
        named(sorted(reader.rows("processes"), key=lambda row: int(row[7])), family_of(lifecycle)),
        sorted(reader.rows("threads"), key=lambda row: int(row[5])),
        reader.rows("stacks"),
        {row[4]: row[3] for row in sightings if row[3] and str(row[4]).startswith("file:")},
    )
