"""Who is a thread of which process, and who made whom, as far as a strace log tells."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qtrace.decode.strace_lines import Log, LoggedCall, made_by
from qtrace.decode.strace_values import c_string, named_fields, number, split_arguments, string_list

CLONES = frozenset({"clone", "clone3", "fork", "vfork"})
CLONE_VM, CLONE_VFORK, CLONE_THREAD = 0x100, 0x4000, 0x10000
_WORD = (1 << 63) - 1
_SENDER = re.compile(r"si_code=(\w+)(?:, si_pid=(\d+))?")


@dataclass(frozen=True, slots=True)
class Birth:
    """A thread that was made by a logged call."""

    tid: int
    maker: int
    flags: int
    time_ns: int
    call: LoggedCall
    tls: int | None

    @property
    def is_thread(self) -> bool:
        """Whether it is one more thread of its maker's process."""
        return bool(self.flags & CLONE_THREAD)


@dataclass(slots=True)
class Tree:
    """Threads, processes and parents."""

    root: int
    births: dict[int, Birth] = field(default_factory=dict)
    pid_of: dict[int, int] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    first_ns: dict[int, int] = field(default_factory=dict)
    """When each thread is in the log for the first time."""

    def pid(self, tid: int) -> int:
        """Return a thread's process."""
        return self.pid_of.get(tid, tid)


def tree_of(log: Log) -> Tree:
    """Return the tree of a log.

    Where the call that made a thread is not in the log (strace was attached, or the log is an
    excerpt), tgkill tells a thread's process, and waits and SIGCHLD tell a process's parent.
    """
    tree = Tree(log.calls[0].tid if log.calls else 1)
    for call in log.calls:
        tree.first_ns.setdefault(call.tid, call.start_ns)
    for event in log.events:
        tree.first_ns[event.tid] = min(event.time_ns, tree.first_ns.get(event.tid, event.time_ns))
    for call in log.calls:
        child = made_by(call)
        if child:
            _born(tree, call, child)
    for tid in tree.first_ns:
        tree.pid_of[tid] = _process_of(tree, tid)
    _guess(tree, log)
    roots = [tid for tid in tree.first_ns if tree.pid(tid) == tid and tid not in tree.parents]
    if roots:
        tree.root = min(roots, key=lambda tid: tree.first_ns[tid])
    return tree


def _born(tree: Tree, call: LoggedCall, child: int) -> None:
    # The child may be in the log before its maker's call has returned.
    end = call.end_ns if call.end_ns is not None else call.start_ns
    seen = tree.first_ns.get(child)
    time = end if seen is None or seen > end else max(seen - 1, call.start_ns)
    flags, tls = _clone_facts(call)
    tree.births[child] = Birth(child, call.tid, flags, time, call, tls)
    tree.first_ns[child] = min(time, tree.first_ns.get(child, time))


def _clone_facts(call: LoggedCall) -> tuple[int, int | None]:
    text = call.arguments
    if call.name == "clone3":
        text = text[text.find("{") + 1 : text.find("}")]
    fields = named_fields(text)
    tls = fields.get("tls", "")
    flags = number(fields.get("flags", "")) or 0
    if call.name == "vfork":
        flags |= CLONE_VM | CLONE_VFORK
    pointer = number(tls)
    return flags & _WORD, pointer if pointer is not None and 0 <= pointer < 1 << 63 else None


def _process_of(tree: Tree, tid: int) -> int:
    seen = {tid}
    while (birth := tree.births.get(tid)) is not None and birth.is_thread and birth.maker not in seen:
        tid = birth.maker
        seen.add(tid)
    return tid


def _guess(tree: Tree, log: Log) -> None:
    for child, birth in tree.births.items():
        if not birth.is_thread:
            tree.parents[child] = tree.pid(birth.maker)
    for call in log.calls:
        if call.name == "tgkill":
            numbers = [number(word) for word in split_arguments(call.arguments)[:2]]
            pid, tid = ([*numbers, None, None])[:2]
            if pid in tree.first_ns and tid in tree.first_ns and tid is not None and tid not in tree.births:
                tree.pid_of[tid] = pid if pid is not None else tid
        elif call.name == "wait4":
            words = split_arguments(call.arguments)
            _is_child(tree, number(words[0]) if words else None, call.tid)
    for event in log.events:
        if event.what == "signal" and event.value == "SIGCHLD":
            sender = _SENDER.search(event.facts)
            _is_child(tree, int(sender[2]) if sender is not None and sender[2] else None, event.tid)


def _is_child(tree: Tree, child: int | None, tid: int) -> None:
    if child is not None and child in tree.first_ns and child not in tree.births and child != tree.pid(tid):
        tree.parents.setdefault(child, tree.pid(tid))


@dataclass(frozen=True, slots=True)
class Image:
    """A program that a process ran, from a fork or exec on."""

    pid: int
    start_ns: int
    argv: tuple[str, ...] = ()
    exe: str = ""


NameOf = Callable[[tuple[str, ...]], str]
"""Gives a command line's name for people."""


def images_of(log: Log, tree: Tree) -> dict[int, list[Image]]:
    """Return the programs of each process in the order of time; the first as its parent had it."""
    found = {pid: [Image(pid, first)] for pid, first in tree.first_ns.items() if tree.pid(pid) == pid}
    opened = _opened_paths(log)
    begun = [(call.end_ns or call.start_ns, call, None) for call in log.calls if _is_exec(call)]
    born = [(birth.time_ns, None, birth) for birth in tree.births.values() if not birth.is_thread]
    for time, call, birth in sorted([*begun, *born], key=lambda entry: entry[0]):
        if birth is not None:
            above = found.get(tree.pid(birth.maker), [])
            if above and birth.tid in found:
                last = above[-1]
                found[birth.tid] = [Image(birth.tid, birth.time_ns, last.argv, last.exe)]
        elif call is not None:
            pid = tree.pid(call.tid)
            argv, exe = _command(call, opened.get(pid, ()))
            images = found.setdefault(pid, [])
            first = not images[-1].argv if images else True
            if first and pid not in tree.births and len(images) < 2:
                # The exec that strace itself does to start the program: its image is the first one.
                images[:] = [Image(pid, images[0].start_ns if images else time, argv, exe)]
            else:
                images.append(Image(pid, time, argv, exe))
    return found


def _is_exec(call: LoggedCall) -> bool:
    return call.name in ("execve", "execveat") and call.result == "0"


def _command(call: LoggedCall, opened: Sequence[str]) -> tuple[tuple[str, ...], str]:
    words = split_arguments(call.arguments)
    path = next((word for word in words if word.startswith('"')), "")
    listed = next((word for word in words if word.startswith("[")), "")
    argv = tuple(_whole(word, is_whole, opened) for word, is_whole in string_list(listed))
    return argv, c_string(path).decode("utf-8", "replace")


def _whole(word: str, is_whole: bool, opened: Sequence[str]) -> str:
    # strace cuts strings at 32 characters, but never paths: a script is opened by its whole name.
    if is_whole:
        return word
    return next((path for path in opened if path.startswith(word)), word + "...")


def _opened_paths(log: Log) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for call in log.calls:
        if call.name in ("openat", "open", "newfstatat", "stat", "execve", "readlink") and '"' in call.arguments:
            path = c_string(call.arguments).decode("utf-8", "replace")
            found.setdefault(call.tid, []).append(path)
    return found
