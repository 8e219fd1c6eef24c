"""The table `messages`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qtrace.analyse.frames import named, present, table

if TYPE_CHECKING:
    from qtrace.analyse.trace import TraceParts


def messages_table(parts: TraceParts) -> pd.DataFrame:
    """Return a row for each message, by object and in the order of the bytes."""
    found = parts.messages
    maybe = ("write_end_ns", "read_start_ns", "read_end_ns")
    columns = {name: present(getattr(found, name), getattr(found, name) >= 0) for name in maybe}
    return table(
        "messages",
        {
            **columns,
            "object_id": named(found.stream, parts.object_ids),
            "seq": found.seq,
            "size": found.size,
            "sender_tid": present(found.sender, found.sender >= 0),
            "receiver_tid": present(found.receiver, found.receiver >= 0),
            "write_start_ns": present(found.write_start_ns, np.ones(len(found.seq), dtype=bool)),
            "complete": found.complete,
        },
    )
