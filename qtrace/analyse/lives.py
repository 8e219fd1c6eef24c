"""The tables `processes` and `threads`."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qtrace.analyse.frames import from_rows
from qtrace.analyse.roles import helper_of, role_of
from qtrace.model.ids import Tgid, Tid
from qtrace.model.kinds import Role
from qtrace.model.snapshot import Frame, Process, Thread

if TYPE_CHECKING:
    from qtrace.analyse.trace import TraceParts


def processes_table(parts: TraceParts) -> pd.DataFrame:
    """Return a row for each process image's life, in the order of begin."""
    redacted = parts.meta.get("redacted") not in (None, "", "0")
    return from_rows(
        "processes",
        [
            (pid, image or 0, ppid, name, None if redacted else _words(argv), start, end, code, signal)
            for pid, image, ppid, name, argv, _, _, start, end, code, signal in parts.processes
        ],
    )


def _words(argv: str | None) -> list[str] | None:
    try:
        found = json.loads(argv or "null")
    except ValueError:
        return None
    return [str(word) for word in found] if isinstance(found, list) else None


def threads_table(parts: TraceParts) -> pd.DataFrame:
    """Return a row for each thread, in the order of creation, with its role.

    The role comes from the thread's Python frames, where a stack was taken; from its name; or from
    its place: a thread that only ever wrote messages to one pipe is that queue's feeder.
    """
    frames = _latest_frames(parts)
    processes = {row[0]: row for row in parts.processes}
    feeders = _feeders(parts)
    rows = []
    for tid, pid, name, creator, _, start, end in parts.threads:
        role = _role(tid, pid, name, frames.get(tid, ()), processes.get(pid))
        if role is Role.THREAD and tid in feeders:
            role = Role.FEEDER
        shown = name or ("QueueFeederThread" if role is Role.FEEDER else f"thread {tid}")
        rows.append((tid, pid, shown, str(role), start, end, creator))
    return from_rows("threads", rows)


def _latest_frames(parts: TraceParts) -> dict[int, tuple[Frame, ...]]:
    found: dict[int, tuple[Frame, ...]] = {}
    for (tid, _), stack in sorted(parts.stacks.items(), key=lambda item: item[0][1]):
        if stack.frames:
            found[tid] = stack.frames
    return found


def _role(tid: int, pid: int, name: str, frames: tuple[Frame, ...], process: tuple[Any, ...] | None) -> Role:
    thread = Thread(Tid(tid), Tgid(pid), name, "S", None, stack=frames)
    owner = None
    if process is not None:
        owner = Process(Tgid(pid), Tgid(process[2] or 0), process[3], tuple(_words(process[4]) or ()), process[5] or "")
    if name.startswith("QueueFeederThread"):
        return Role.FEEDER
    return role_of(thread, helper_of(thread, owner))


def _feeders(parts: TraceParts) -> set[int]:
    # Who sends messages on one pipe, is no main thread, and reads from nothing that carries messages.
    messages = parts.messages
    pairs = [(key >> 32, key & 0xFFFFFFFF) for key in np.unique(messages.sender << 32 | messages.stream).tolist()]
    streams = Counter(tid for tid, _ in pairs)
    readers = set(np.unique(messages.receiver).tolist())
    pipes = {tid for tid, stream in pairs if parts.object_ids[stream].startswith("pipe:")}
    mains = {row[0] for row in parts.processes}
    return {tid for tid, count in streams.items() if count == 1 and tid in pipes and tid not in readers | mains}
