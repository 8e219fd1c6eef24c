"""What a report is made from: plain tables and a verdict, whoever computed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from qtrace.model.snapshot import Frame
from qtrace.model.verdict import Verdict

CallArray = np.ndarray[Any, np.dtype[np.void]]
"""A structured array of `qtrace.model.records.CALL_FIELDS`."""


@dataclass(frozen=True, eq=False)
class ReportInput:
    """One recording, analysed. Tables have the columns of `qtrace.model.columns`."""

    name: str
    """The recording's name, without its folder and suffix."""
    verdict: Verdict
    processes: pd.DataFrame
    threads: pd.DataFrame
    waits: pd.DataFrame
    objects: pd.DataFrame
    messages: pd.DataFrame
    fill: pd.DataFrame
    calls: CallArray
    """In the order of entry; unfinished ones included."""
    stacks: Mapping[int, tuple[Frame, ...]] = field(default_factory=dict)
    """Python stacks by stack_id."""
    losses: pd.DataFrame | None = None
    """start_ns, end_ns, events, place, reason."""
    critical: pd.DataFrame | None = None
    """The critical path: start_ns, end_ns, tid, kind (NA where it ran), object_id."""
    meta: Mapping[str, str] = field(default_factory=dict)
    """Facts about the recording: see the `meta` table of `qtrace.tracefile.schema`."""
    bottleneck: str = ""
    """What most of the time was lost to, in a sentence; empty where nothing stands out."""
    floor_ns: int = 0
    """Calls shorter than this are not called waits, where only the time tells; 0 where that is not known."""
    damage: str = ""
    """What of the recording could not be read; empty if it is whole."""
