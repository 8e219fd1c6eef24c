"""What went through each pipe or queue, summed up in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qtrace.model.kinds import WaitKind

if TYPE_CHECKING:
    from qtrace.analyse.trace import Trace

COLUMNS = [
    "object_id", "messages", "received", "in_transit", "body_bytes", "senders", "receivers", "most_waiting",
    "for_room_ns", "for_data_ns", "median_transit_ns",
]  # fmt: skip


_FOR_ROOM = (WaitKind.PIPE_FULL, WaitKind.SOCKET_FULL)
_FOR_DATA = (WaitKind.PIPE_EMPTY, WaitKind.SOCKET_EMPTY)


def queues_table(trace: Trace) -> pd.DataFrame:
    """Return a row for each pipe or socket that carries messages.

    Columns: object_id; messages sent, received whole, and in transit at the end; bytes of their
    bodies; how many threads sent and received; most messages on their way at once; time that senders
    waited for room and receivers for data; median of the time from the end of the write to the end of
    the read (0 where the reader was done first).
    """
    messages = trace.messages
    waited = _waited(trace)
    rows = []
    for object_id, part in messages.groupby("object_id", sort=False):
        done = part[part["complete"]]
        transit = (done["read_end_ns"] - done["write_end_ns"].fillna(done["read_end_ns"])).clip(lower=0)
        rows.append(
            (
                object_id,
                len(part),
                len(done),
                len(part) - len(done),
                int(part["size"].sum()),
                part["sender_tid"].nunique(),
                part["receiver_tid"].nunique(),
                _most_waiting(part),
                sum(waited.get((str(object_id), str(kind)), 0) for kind in _FOR_ROOM),
                sum(waited.get((str(object_id), str(kind)), 0) for kind in _FOR_DATA),
                int(transit.median()) if len(done) else None,
            )
        )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    kinds = dict.fromkeys(COLUMNS[1:], "int64") | {"object_id": "string", "median_transit_ns": "Int64"}
    return frame.astype(kinds)


def _waited(trace: Trace) -> dict[tuple[str, str], int]:
    waits = trace.waits.assign(ns=trace.waits["end_ns"] - trace.waits["start_ns"])
    spent = waits.groupby(["object_id", "kind"], observed=True)["ns"].sum().reset_index()
    return {(str(name), str(kind)): int(ns) for name, kind, ns in spent.itertuples(index=False)}


def _most_waiting(messages: pd.DataFrame) -> int:
    begun = messages["write_start_ns"].dropna().to_numpy(np.int64)
    ended = messages["read_end_ns"].dropna().to_numpy(np.int64)
    times = np.concatenate([begun, ended])
    change = np.concatenate([np.ones(len(begun), dtype=np.int64), -np.ones(len(ended), dtype=np.int64)])
    order = np.lexsort((-change, times))
    return int(np.cumsum(change[order]).max()) if len(order) else 0
