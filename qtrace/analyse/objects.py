"""The table `objects`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qtrace.analyse.frames import category, from_rows
from qtrace.model.kinds import ObjectKind

if TYPE_CHECKING:
    from qtrace.analyse.trace import TraceParts


def objects_table(parts: TraceParts, feeders: frozenset[int] = frozenset()) -> pd.DataFrame:
    """Return a row for each object that a call was on.

    Args:
        parts: The recording, decoded.
        feeders: Feeder threads of queues: the pipe that one of them writes to is a queue's.
    """
    rows = parts.object_rows
    used = np.flatnonzero(parts.is_used()).tolist()
    fed = np.isin(parts.messages.sender, list(feeders))
    queues = set(np.unique(parts.messages.stream[fed]).tolist())
    named = [(*row[:2], "queue pipe", *row[3:]) if number in queues else row for number, row in enumerate(rows)]
    found = from_rows("objects", [named[number] for number in used])
    kinds = [str(kind) for kind in ObjectKind]
    places = np.array([kinds.index(rows[number][1]) for number in used], dtype=np.int64)
    return found.assign(kind=category(places, kinds))
