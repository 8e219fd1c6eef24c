"""Which processes are one program: from any of them up to its top, and down to all descendants.

Upwards, a parent belongs to the program if it is in the same session and either in the same process
group (a shell gives each job a group of its own) or itself a Python. An ancestor of the process that
asks is never part of it: the shell, or the test, that waits for this very answer.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from qtrace.capture import procfs
from qtrace.capture.script import script_name
from qtrace.errors import TargetError


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the tree."""

    pid: int
    stat: procfs.Stat
    argv: tuple[str, ...]
    exe: str
    python: bool
    uid: int
    caught_signals: int
    tracer: int
    """Who traces it; 0 for nobody."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The processes of a program."""

    root: int
    members: Mapping[int, Member]


def tree_of(pid: int, scope: str = "up") -> Tree:
    """Return the program that a process belongs to.

    Args:
        pid: Any of its processes.
        scope: ``up``, ``down`` or ``only``.

    Raises:
        TargetError: There is no such process.
    """
    stats = {other: found for other in procfs.all_pids() if (found := procfs.stat(other)) is not None}
    if pid not in stats:
        raise TargetError(f"there is no process {pid}", "List the running ones with: ps -ef | grep python")
    own = set(_ancestors(os.getpid(), stats)) | {os.getpid()}
    root = _top(pid, stats, own) if scope == "up" else pid
    if scope == "only":
        return Tree(pid, {pid: _member(pid, stats[pid])})
    pids = _descendants(root, stats)
    if scope == "up":
        pids += _orphans(root, pids, stats, own)
    return Tree(root, {member: _member(member, stats[member]) for member in pids})


def reporters(root: int, members: Collection[int]) -> Tree:
    """Return a tree whose members are known; those that are gone are left out."""
    stats = {pid: found for pid in members if (found := procfs.stat(pid)) is not None}
    return Tree(root, {pid: _member(pid, found) for pid, found in sorted(stats.items())})


def _ancestors(pid: int, stats: Mapping[int, procfs.Stat]) -> Iterator[int]:
    found = stats.get(pid)
    while found is not None and found.ppid in stats:
        yield found.ppid
        found = stats.get(found.ppid)


def _top(pid: int, stats: Mapping[int, procfs.Stat], own: Collection[int]) -> int:
    top = pid
    for ancestor in _ancestors(pid, stats):
        above, below = stats[ancestor], stats[top]
        if ancestor in own or above.sid != below.sid:
            break
        if above.pgid != below.pgid and not _is_python(ancestor):
            break
        top = ancestor
    return top


def _descendants(root: int, stats: Mapping[int, procfs.Stat]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, found in stats.items():
        children.setdefault(found.ppid, []).append(pid)
    pids = [root]
    for pid in pids:
        # The one that asks, and the programs that it has started to ask with, are not part of it.
        pids += [child for child in sorted(children.get(pid, ())) if child != os.getpid()]
    return pids


def _orphans(root: int, known: list[int], stats: Mapping[int, procfs.Stat], own: Collection[int]) -> list[int]:
    # Processes of the same job whose parent has died now belong to init, or to a subreaper.
    top = stats[root]
    found = []
    for pid, other in stats.items():
        if pid in known or pid in own or (other.sid, other.pgid) != (top.sid, top.pgid):
            continue
        parent = stats.get(other.ppid)
        if other.ppid == 1 or (parent is not None and parent.sid != other.sid):
            found += [member for member in _descendants(pid, stats) if member not in known]
    return found if top.sid != stats[os.getpid()].sid or top.pgid != stats[os.getpid()].pgid else []


def _is_python(pid: int) -> bool:
    name = procfs.link(f"/proc/{pid}/exe").rpartition("/")[2]
    return name.startswith("python") or _maps_libpython(pid)


def _maps_libpython(pid: int) -> bool:
    try:
        return "/libpython3" in procfs.maps_of(pid).text
    except OSError:
        return False


def _member(pid: int, stat: procfs.Stat) -> Member:
    fields = procfs.status_fields(pid)
    uid = int(fields["Uid"].split()[0]) if "Uid" in fields else -1
    return Member(
        pid,
        stat,
        procfs.argv(pid),
        procfs.link(f"/proc/{pid}/exe"),
        stat.state not in ("Z", "X") and _is_python(pid),
        uid,
        int(fields.get("SigCgt", "0"), 16),
        int(fields.get("TracerPid", "0")),
    )


# --- names for people ----------------------------------------------------------------------------


def named(tree: Tree) -> dict[int, str]:
    """Return a name for each process.

    A program is called by its script, module or command; a process that multiprocessing made from
    it by its place: "child 2 of app.py". The names that multiprocessing gives ("Process-2") lie in
    Python objects that cannot be read from outside.
    """
    names: dict[int, str] = {}
    children: dict[int, int] = {}
    ordered = sorted(tree.members.values(), key=lambda member: (member.stat.start_ns, member.pid))
    for member in ordered:
        parent = tree.members.get(member.stat.ppid)
        own = script_name(member.argv) or member.stat.comm
        special = _SPECIAL.get(_special_text(member.argv))
        copied = parent is not None and parent.argv == member.argv and parent.exe == member.exe
        if special and not copied:
            names[member.pid] = special
        elif parent is None or not (copied or "multiprocessing.spawn" in " ".join(member.argv)):
            names[member.pid] = own
        else:
            above = _program_above(tree, parent)
            children[above.pid] = children.get(above.pid, 0) + 1
            base = script_name(above.argv) or above.stat.comm
            names[member.pid] = f"child {children[above.pid]} of {base}"
    return names


_SPECIAL = {
    "multiprocessing.resource_tracker": "resource tracker",
    "multiprocessing.semaphore_tracker": "semaphore tracker",
    "multiprocessing.forkserver": "fork server",
}


def _special_text(argv: tuple[str, ...]) -> str:
    for argument in argv:
        if argument.startswith("from multiprocessing."):
            return argument.split()[1]
    return ""


def _program_above(tree: Tree, member: Member) -> Member:
    """The program that a forked child is a copy of: over the fork server, and over other children."""
    seen = {member.pid}
    while True:
        parent = tree.members.get(member.stat.ppid)
        if parent is None or parent.pid in seen:
            return member
        helper = bool(_special_text(member.argv)) or "multiprocessing.spawn" in " ".join(member.argv)
        if not helper and (parent.argv != member.argv or parent.exe != member.exe):
            return member
        seen.add(parent.pid)
        member = parent
