"""Two recordings of one program: the first wait that differs, and where the time went instead.

Pids, addresses and inodes differ from run to run, so threads are matched by their place in the tree:
the second child of the first child, its third thread. Waits of a thread are matched in their order, by
kind, call and what they are on in words. Waits that are short beside the whole differ by chance from
run to run; they are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from qtrace.analyse.summary import thread_names

if TYPE_CHECKING:
    import pandas as pd

    from qtrace.analyse.trace import Trace

LEAST_NS = 10_000_000
SHARE = 0.02
"""Waits below this share of the longer recording are left out, for they differ by chance."""
FACTOR = 2.0
"""A wait that matches differs if it is so many times as long, and longer by what counts as a wait here."""

Key = tuple[int, ...]
"""A thread's place: which child of which child, and last which thread of its process."""


@dataclass(frozen=True, slots=True)
class WaitSeen:
    """One wait of one recording."""

    kind: str
    call: str
    target: str
    """What it is on, in words; empty if nothing."""
    since_ns: int
    """Since the recording's start."""
    dur_ns: int
    unfinished: bool

    @property
    def token(self) -> tuple[str, str, str]:
        """What makes it the same wait in another recording."""
        return self.kind, self.call, self.target


@dataclass(frozen=True, slots=True)
class WaitDifference:
    """A wait that is in one recording only, is another one, or took another time."""

    thread: str
    first: WaitSeen | None
    second: WaitSeen | None

    @property
    def when_ns(self) -> int:
        """When it shows, since the start."""
        return min(one.since_ns for one in (self.first, self.second) if one is not None)


@dataclass(frozen=True, slots=True)
class Shift:
    """Time of a thread that went elsewhere."""

    thread: str
    kind: str
    """Kind of wait, or ``running``."""
    first_ns: int
    second_ns: int

    @property
    def change_ns(self) -> int:
        """How much more the second recording has."""
        return self.second_ns - self.first_ns


@dataclass(frozen=True, slots=True)
class Differences:
    """What differs between two recordings."""

    least_ns: int
    """Waits below are left out."""
    waits: tuple[WaitDifference, ...]
    """The earliest first."""
    shifts: tuple[Shift, ...]
    """The largest first; threads that only one recording has are among them."""


def differences(first: Trace, second: Trace, least_ns: int | None = None) -> Differences:
    """Return what differs between two recordings of a program.

    Args:
        first: One recording.
        second: The other.
        least_ns: Leave out what is shorter; a small share of the longer recording if None.
    """
    longer = max(first.end_ns - first.start_ns, second.end_ns - second.start_ns)
    least = max(LEAST_NS, int(longer * SHARE)) if least_ns is None else least_ns
    keys, others = _places(first), _places(second)
    waits, waits2 = _waits(first, keys, least), _waits(second, others, least)
    names = {keys[tid]: name for tid, name in thread_names(first).items() if tid in keys}
    names = {others[tid]: name for tid, name in thread_names(second).items() if tid in others} | names
    found = [
        difference
        for key in sorted({*waits, *waits2})
        for difference in _aligned(names.get(key, "?"), waits.get(key, []), waits2.get(key, []), least)
    ]
    found.sort(key=lambda one: one.when_ns)
    shifts = _shifts(_spent(first, keys), _spent(second, others), names, least)
    return Differences(least, tuple(found), tuple(shifts))


def _places(trace: Trace) -> dict[int, Key]:
    """Return each thread's place by tid."""
    begun = trace.processes.sort_values("start_ns", kind="stable").drop_duplicates("pid")
    of_process: dict[int, Key] = {}
    counts: dict[Key, int] = {}
    for pid, ppid in zip(begun["pid"].tolist(), begun["ppid"].tolist(), strict=True):
        above = of_process.get(ppid, ())
        counts[above] = counts.get(above, 0) + 1
        of_process[pid] = (*above, counts[above])
    threads = trace.threads.sort_values("start_ns", kind="stable")
    found: dict[int, Key] = {}
    number: dict[int, int] = {}
    for tid, pid in zip(threads["tid"].tolist(), threads["pid"].tolist(), strict=True):
        if pid in of_process:
            # Threads are numbered from 0, children from 1: a thread's place is no process's.
            found[tid] = (*of_process[pid], -number.get(pid, 0))
            number[pid] = number.get(pid, 0) + 1
    return found


def _waits(trace: Trace, keys: dict[int, Key], least_ns: int) -> dict[Key, list[WaitSeen]]:
    waits = trace.waits
    long = waits[((waits["end_ns"] - waits["start_ns"]) >= least_ns) | waits["unfinished"]]
    words = _words(trace.objects)
    found: dict[Key, list[WaitSeen]] = {}
    columns = (long[name].tolist() for name in ("tid", "kind", "name", "object_id", "start_ns", "end_ns", "unfinished"))
    for tid, kind, call, object_id, start, end, unfinished in zip(*columns, strict=True):
        if tid in keys:
            target = words.get(object_id, "") if isinstance(object_id, str) else ""
            seen = WaitSeen(str(kind), str(call), target, start - trace.start_ns, end - start, bool(unfinished))
            found.setdefault(keys[tid], []).append(seen)
    return found


def _words(objects: pd.DataFrame) -> dict[str, str]:
    columns = (objects[name].tolist() for name in ("object_id", "label", "kind"))
    return {object_id: label if isinstance(label, str) and label else str(kind)
            for object_id, label, kind in zip(*columns, strict=True)}  # fmt: skip


def _aligned(thread: str, first: list[WaitSeen], second: list[WaitSeen], least_ns: int) -> list[WaitDifference]:
    found = []
    matcher = SequenceMatcher(None, [one.token for one in first], [one.token for one in second], autojunk=False)
    for operation, begin, end, begin2, end2 in matcher.get_opcodes():
        some, others = first[begin:end], second[begin2:end2]
        for place in range(max(len(some), len(others))):
            one = some[place] if place < len(some) else None
            other = others[place] if place < len(others) else None
            if operation != "equal" or (one is not None and other is not None and _unlike(one, other, least_ns)):
                found.append(WaitDifference(thread, one, other))
    return found


def _unlike(one: WaitSeen, other: WaitSeen, least_ns: int) -> bool:
    if one.unfinished != other.unfinished:
        return True
    shorter, longer = sorted((one.dur_ns, other.dur_ns))
    return longer - shorter >= least_ns and longer >= FACTOR * shorter


def _spent(trace: Trace, keys: dict[int, Key]) -> dict[tuple[Key, str], int]:
    spent = trace.time_by_thread
    found: dict[tuple[Key, str], int] = {}
    for tid, kind, ns in zip(spent["tid"].tolist(), spent["kind"].tolist(), spent["ns"].tolist(), strict=True):
        if tid in keys:
            place = keys[tid], kind if isinstance(kind, str) else "running"
            found[place] = found.get(place, 0) + ns
    return found


def _shifts(
    first: dict[tuple[Key, str], int], second: dict[tuple[Key, str], int], names: dict[Key, str], least_ns: int
) -> list[Shift]:
    found = [
        Shift(names.get(key, "?"), kind, first.get((key, kind), 0), second.get((key, kind), 0))
        for key, kind in sorted({*first, *second})
    ]
    return sorted((one for one in found if abs(one.change_ns) >= least_ns), key=lambda one: -abs(one.change_ns))
