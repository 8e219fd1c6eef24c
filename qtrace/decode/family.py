"""Who was born of whom and when, by the recording's lifecycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qtrace.decode.json_text import mapping_of

CLONE_VM, CLONE_THREAD = 0x100, 0x10000
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Birth:
    """A process that was made."""

    pid: int
    parent: int
    time_ns: int
    copied_memory: bool
    """By fork; False for vfork and its kin, which borrow their parent's address space."""
    parents_threads: tuple[int, ...]
    """The threads that the parent had."""


@dataclass(slots=True)
class Family:
    """Births and living threads, up to the last row that was taken in."""

    births: dict[int, Birth] = field(default_factory=dict)
    """By the child's pid; the latest where a number was given anew."""
    made: dict[int, int] = field(default_factory=dict)
    """How many processes each process made."""
    threads: dict[int, set[int]] = field(default_factory=dict)
    """Living threads by process."""
    images: dict[int, int] = field(default_factory=dict)
    """When each process became another program, last."""

    def forked(self) -> Iterator[Birth]:
        """Yield the processes that still run as their parent's copy."""
        for birth in self.births.values():
            if birth.copied_memory and self.images.get(birth.pid, -1) < birth.time_ns:
                yield birth


def family_of(lifecycle: Iterable[Row]) -> Family:
    """Return the family at the end of these rows, which stand in the order of time."""
    family = Family()
    for time, pid, tid, event, value, detail in lifecycle:
        members = family.threads.setdefault(pid, {pid})
        if event == "clone" and value is not None:
            _cloned(family, members, time, pid, tid, value, mapping_of(detail))
        elif event == "exec":
            family.images[pid] = time
            family.threads[pid] = {pid}
        elif event == "exit":
            members.discard(tid)
        elif event == "attach":
            members.add(tid)
    return family


def _cloned(
    family: Family, members: set[int], time: int, pid: int, tid: int, child: int, facts: Mapping[str, Any]
) -> None:
    flags = facts.get("flags")
    flags = flags if isinstance(flags, int) else 0
    members.add(tid)
    if facts.get("thread", flags & CLONE_THREAD):
        members.add(child)
        return
    copied = not flags & CLONE_VM and facts.get("call") != "vfork"
    family.births[child] = Birth(child, pid, time, copied, tuple(sorted(members)))
    family.made[pid] = family.made.get(pid, 0) + 1
    family.threads[child] = {child}
