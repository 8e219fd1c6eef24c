"""Who gets a lane in the timeline, in which order, under which name."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qtrace.model.kinds import Role
from qtrace.render.page.arrays import MISSING, ints, words

FOLD_FROM = 4
"""So many idle workers that look the same become one lane that can be opened."""
IDLE_SHARE = 0.98
"""A worker is idle if it spent at least this part of its life in one kind of wait."""
BRIEF_SHARE = 1 / 250
"""A thread that lived for less of the picture than this is a dot in it: a few pixels."""
BRIEF = -2
"""Stands for a kind of wait where a thread's life was too short to be seen."""

_CHILD = re.compile(r"\bchild \d+ of ")
"""How a recording names the processes that multiprocessing makes: by their place."""


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process, all of its images taken together."""

    pid: int
    ppid: int
    name: str
    argv: str
    start_ns: int
    end_ns: int
    """`MISSING` while it lives."""
    ending: str
    """How it ended, in words; empty while it lives."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A thread's line in the timeline."""

    tid: int
    pid: int
    process: int
    """Place in the list of processes."""
    name: str
    role: str
    start_ns: int
    end_ns: int
    """`MISSING` while it lives."""
    fold: int = MISSING
    """Number of the group of like idle workers; `MISSING` outside of one."""


def _ending(exit_code: int, exit_signal: int) -> str:
    if exit_signal != MISSING:
        known = {number.value: number.name for number in signal.Signals}
        return f"killed by {known.get(exit_signal, f'signal {exit_signal}')}"
    return f"exit {exit_code}" if exit_code != MISSING else ""


def process_rows(processes: pd.DataFrame) -> list[ProcessRow]:
    """Return the processes with each child under its parent, siblings in the order of spawning."""
    if processes.empty:
        return []
    latest = processes.sort_values(["pid", "image"])
    first = latest.groupby("pid", sort=False).first()
    last = latest.groupby("pid", sort=False).tail(1).set_index("pid")
    rows: dict[int, ProcessRow] = {}
    columns = zip(
        last.index.tolist(),
        ints(last["ppid"]),
        words(last["name"]),
        last["argv"].tolist(),
        first.loc[last.index, "start_ns"].tolist(),
        ints(last["end_ns"]),
        ints(last["exit_code"]),
        ints(last["exit_signal"]),
        strict=True,
    )
    for pid, ppid, name, argv, start_ns, end_ns, code, killer in columns:
        command = " ".join(str(word) for word in argv) if isinstance(argv, (list, tuple, np.ndarray)) else ""
        rows[pid] = ProcessRow(
            pid, int(ppid), name or f"pid {pid}", command, int(start_ns), int(end_ns), _ending(int(code), int(killer))
        )
    return _parents_first(rows)


def _parents_first(rows: dict[int, ProcessRow]) -> list[ProcessRow]:
    children: dict[int, list[ProcessRow]] = {}
    for row in sorted(rows.values(), key=lambda row: (row.start_ns, row.pid)):
        parent = row.ppid if row.ppid in rows and row.ppid != row.pid else 0
        children.setdefault(parent, []).append(row)
    ordered: list[ProcessRow] = []
    pending = list(reversed(children.get(0, [])))
    while pending:
        row = pending.pop()
        ordered.append(row)
        pending.extend(reversed(children.pop(row.pid, [])))
    # A pid that was used again can make parents go round in a ring: nobody is left out for that.
    seen = {row.pid for row in ordered}
    return ordered + [row for row in rows.values() if row.pid not in seen]


def lanes_of(threads: pd.DataFrame, rows: list[ProcessRow]) -> list[Lane]:
    """Return a lane for each thread: processes in the order of `rows`, the main thread first."""
    place = {row.pid: number for number, row in enumerate(rows)}
    columns: Any = zip(
        ints(threads["tid"]),
        ints(threads["pid"]),
        words(threads["name"]),
        words(threads["role"]),
        ints(threads["start_ns"]),
        ints(threads["end_ns"]),
        strict=True,
    )
    lanes = [
        Lane(int(tid), int(pid), place.get(int(pid), MISSING), name or f"thread {tid}", role, int(start), int(end))
        for tid, pid, name, role, start, end in columns
    ]
    return sorted(lanes, key=lambda lane: (lane.process, lane.tid != lane.pid, lane.start_ns, lane.tid))


def _stem(name: str) -> str:
    return _CHILD.sub("child of ", name).rstrip("0123456789").rstrip("-_ ")


def idle_groups(
    lanes: list[Lane], processes: list[ProcessRow], mostly: list[tuple[int, float]], keep: frozenset[int]
) -> list[int]:
    """Return for each lane the number of its group of like idle workers, or `MISSING`.

    Args:
        lanes: In the order of drawing.
        processes: Those that the lanes name.
        mostly: For each lane the kind it waited in most, and the part of its life that this took; `BRIEF`
            and 1 for one whose life is too short to be seen.
        keep: Thread ids that are never folded: those of the verdict.
    """
    candidates: dict[tuple[str, str, str, int], list[int]] = {}
    for number, (lane, (kind, share)) in enumerate(zip(lanes, mostly, strict=True)):
        if lane.tid in keep or share < IDLE_SHARE or (lane.role == Role.MAIN and lane.process == 0):
            continue
        family = _stem(processes[lane.process].name) if lane.process != MISSING else ""
        candidates.setdefault((family, _stem(lane.name), lane.role, kind), []).append(number)
    groups = [MISSING] * len(lanes)
    for group, members in enumerate(found for found in candidates.values() if len(found) >= FOLD_FROM):
        for number in members:
            groups[number] = group
    return groups
