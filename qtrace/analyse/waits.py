"""The table `waits`, with the kinds of lock waits told apart by Python stacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qtrace.analyse.frames import category, named, present, table
from qtrace.analyse.futexes import futex_kind
from qtrace.analyse.scene import scene_of
from qtrace.model.ids import ObjectId, Tgid, Tid
from qtrace.model.kinds import WaitKind
from qtrace.model.records import CallFlag
from qtrace.model.snapshot import Frame, Process, Snapshot, Thread, Want

if TYPE_CHECKING:
    from qtrace.analyse.trace import TraceParts

_LOCK = list(WaitKind).index(WaitKind.LOCK)
_CONDITION = list(WaitKind).index(WaitKind.CONDITION)


def waits_table(parts: TraceParts, kinds: np.ndarray[Any, np.dtype[np.int8]]) -> pd.DataFrame:
    """Return a row for each blocked interval, in the order of begin.

    Args:
        parts: The recording, decoded.
        kinds: The waits' kinds.
    """
    waits, calls = parts.waits, parts.calls
    at = waits.call
    start = calls["start_ns"][at]
    unfinished = (calls["flags"][at] & int(CallFlag.UNFINISHED)) != 0
    names, places = parts.call_names
    stack = _stack_ids(parts)
    return table(
        "waits",
        {
            "wait_id": np.arange(len(at)),
            "tid": calls["tid"][at].astype(np.int64),
            "pid": calls["pid"][at].astype(np.int64),
            "start_ns": start,
            "end_ns": start + calls["dur_ns"][at],
            "kind": category(kinds, parts.wait_kinds),
            "object_id": named(parts.call_object[at], parts.object_ids),
            "name": category(places[calls["nr"][at].astype(np.uint16)], names),
            "woken_by": present(waits.woken_by, waits.woken_by >= 0),
            "stack_id": present(stack, stack >= 0),
            "unfinished": unfinished,
        },
    )


def rows_with_stack(parts: TraceParts) -> Mapping[tuple[int, int], int]:
    """Return the row of the wait that each stack was taken in, by thread and entry."""
    waits, calls = parts.waits, parts.calls
    if not parts.stacks:
        return {}
    starts = np.unique(np.array([start for _, start in parts.stacks], dtype=np.int64))
    rows = np.flatnonzero(np.isin(calls["start_ns"][waits.call], starts))
    at = waits.call[rows]
    keys = zip(calls["tid"][at].tolist(), calls["start_ns"][at].tolist(), strict=True)
    return {key: row for key, row in zip(keys, rows.tolist(), strict=True) if key in parts.stacks}


def _stack_ids(parts: TraceParts) -> np.ndarray[Any, np.dtype[np.int64]]:
    found = np.full(len(parts.waits.call), -1, dtype=np.int64)
    for key, row in rows_with_stack(parts).items():
        found[row] = parts.stacks[key].stack_id
    return found


def told_apart(parts: TraceParts, feeders: frozenset[int] = frozenset()) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Return the kinds of all waits, those on futexes as their Python stacks tell.

    The kernel knows an address. Which library function waits there, on which object, is in the
    frames, where a stack was taken. What a word in shared memory is, it stays: there the answer
    holds for all waits on it; an address of one process is soon another lock. A queue's feeder
    takes no lock of its process but the one under its condition: there it waits to be given an item.

    Args:
        parts: The recording, decoded.
        feeders: Feeder threads of queues.
    """
    kinds = parts.waits.kind.copy()
    _feeders_idle(parts, kinds, feeders)
    processes = {row[0]: row for row in parts.processes}
    shared: dict[int, int] = {}
    for key, row in rows_with_stack(parts).items():
        stack = parts.stacks[key]
        if kinds[row] not in (_LOCK, _CONDITION) or not stack.frames:
            continue
        call = parts.waits.call[row]
        number = int(parts.call_object[call])
        pid = int(parts.calls["pid"][call])
        name = parts.object_ids[number] if number >= 0 else f"futex:{pid}:?"
        kind = _kind_by_stack(processes.get(pid), pid, key[0], stack.frames, name)
        kinds[row] = list(WaitKind).index(kind)
        if name.startswith("shared:"):
            shared[number] = int(kinds[row])
    numbers = parts.call_object[parts.waits.call]
    for number, kind_code in shared.items():
        kinds[(numbers == number) & (kinds == _LOCK)] = kind_code
    return kinds


def _feeders_idle(parts: TraceParts, kinds: np.ndarray[Any, np.dtype[np.int8]], feeders: frozenset[int]) -> None:
    rows = np.flatnonzero(kinds == _LOCK)
    rows = rows[np.isin(parts.calls["tid"][parts.waits.call[rows]], list(feeders))]
    private = np.array([name.startswith("futex:") for name in [*parts.object_ids, "futex:"]], dtype=bool)
    kinds[rows[private[parts.call_object[parts.waits.call[rows]]]]] = _CONDITION


def _kind_by_stack(
    process: tuple[Any, ...] | None, pid: int, tid: int, frames: tuple[Frame, ...], name: str
) -> WaitKind:
    want = Want(WaitKind.LOCK, ObjectId(name))
    thread = Thread(Tid(tid), Tgid(pid), "", "S", None, (want,), stack=frames)
    owner = Process(Tgid(pid), Tgid(0), process[3] if process is not None else "", python=True)
    scene = scene_of(Snapshot(0, Tgid(pid), {owner.pid: owner}, {thread.tid: thread}, {}))
    return futex_kind(scene, scene.actors[thread.tid], want)
