"""The table `fill`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from qtrace.analyse.frames import named, present, table

if TYPE_CHECKING:
    from qtrace.analyse.trace import TraceParts


def fill_table(parts: TraceParts) -> pd.DataFrame:
    """Return a row for each change of a pipe's level, by pipe and in the order of time."""
    found = parts.fill
    return table(
        "fill",
        {
            "object_id": named(found.stream, parts.object_ids),
            "time_ns": found.time_ns,
            "bytes": found.bytes,
            "capacity": present(found.capacity, found.capacity >= 0),
        },
    )
