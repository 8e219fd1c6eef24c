"""Names for the processes of a recording, the same that a live look gives.

A program is called by its script, module or command; a process that multiprocessing made from it by
its place: "child 2 of app.py". The names that multiprocessing gives ("Process-2") lie in Python
objects that cannot be read from outside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from qtrace.decode.family import Family
from qtrace.decode.json_text import list_of

Row = tuple[Any, ...]

_SPECIAL = {
    "multiprocessing.resource_tracker": "resource tracker",
    "multiprocessing.semaphore_tracker": "semaphore tracker",
    "multiprocessing.forkserver": "fork server",
}


@dataclass(frozen=True, slots=True)
class _Image:
    pid: int
    ppid: int
    name: str
    argv: tuple[str, ...]
    is_copy: bool
    """It runs its parent's program: by fork, without exec."""

    @property
    def special(self) -> str:
        """What it is called as one of multiprocessing's own helpers; empty if it is none."""
        module = next((word.split()[1] for word in self.argv if word.startswith("from multiprocessing.")), "")
        return "" if self.is_copy else _SPECIAL.get(module, "")

    @property
    def is_spawned(self) -> bool:
        """Whether multiprocessing started it as a program of its own."""
        return "multiprocessing.spawn" in " ".join(self.argv)


def named(rows: Iterable[Row], family: Family) -> list[Row]:
    """Return rows of `processes`, in the order of time, with a name for people in each."""
    latest: dict[int, _Image] = {}
    names: dict[int, str] = {}
    children: dict[int, int] = {}
    found = []
    for row in rows:
        pid, image, ppid, name, argv, *_ = row
        birth = family.births.get(pid)
        is_copy = not image and birth is not None and birth.copied_memory
        known = _Image(pid, ppid or 0, name or f"pid {pid}", tuple(str(word) for word in list_of(argv)), is_copy)
        earlier = latest.get(pid)
        if image and earlier is not None and earlier.is_copy and known.is_spawned:
            # Under spawn a fork comes before the exec: one child, not two.
            latest[pid] = known
            names.setdefault(pid, known.name)
            found.append((*row[:3], names[pid], *row[4:]))
            continue
        latest[pid] = known
        if image:
            children.pop(pid, None)  # those of the program that it was before, as a shell that execs
        if known.special:
            names[pid] = known.special
        elif known.is_copy or known.is_spawned:
            above = _program_above(known, latest)
            children[above.pid] = children.get(above.pid, 0) + 1
            names[pid] = f"child {children[above.pid]} of {above.name}"
        else:
            names[pid] = known.name
        found.append((*row[:3], names[pid], *row[4:]))
    return found


def _program_above(image: _Image, latest: dict[int, _Image]) -> _Image:
    # Over the fork server, and over other children, to the program that they are copies of.
    seen = {image.pid}
    while True:
        parent = latest.get(image.ppid)
        if parent is None or parent.pid in seen:
            return image
        image = parent
        seen.add(image.pid)
        if not (image.is_copy or image.is_spawned or image.special):
            return image
