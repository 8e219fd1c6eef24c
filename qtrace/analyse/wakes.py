"""The table `wakes`: who ended whose wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qtrace.analyse.frames import category, named, table

if TYPE_CHECKING:
    from qtrace.analyse.trace import TraceParts


def wakes_table(parts: TraceParts, kinds: np.ndarray[Any, np.dtype[np.int8]]) -> pd.DataFrame:
    """Return a row for each wait that a known thread ended, in the order of time.

    Args:
        parts: The recording, decoded.
        kinds: The waits' kinds.
    """
    waits = parts.waits
    rows = np.flatnonzero(waits.woken_by >= 0)
    rows = rows[np.argsort(waits.woken_ns[rows], kind="stable")]
    at = waits.call[rows]
    return table(
        "wakes",
        {
            "time_ns": waits.woken_ns[rows],
            "waker_tid": waits.woken_by[rows],
            "wakee_tid": parts.calls["tid"][at].astype(np.int64),
            "object_id": named(parts.call_object[at], parts.object_ids),
            "kind": category(kinds[rows], parts.wait_kinds),
            "wait_id": rows,
        },
    )
