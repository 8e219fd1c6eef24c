"""Which locks a thread holds, as far as the text of the program around its frames shows.

A lock that was free when it was taken left no trace in the kernel. But a thread that stands inside
``with lock:``, or after ``lock.acquire()`` without a release, holds it. Two expressions mean the
same lock if they are the same global of one file, an attribute of the same object (py-spy gives
addresses), or a local with the same address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qtrace.analyse.activity import Doing, address_of, base_name, library_path, type_of
from qtrace.analyse.scene import Actor, Scene
from qtrace.model.around import TAKEN
from qtrace.model.ids import Tgid
from qtrace.model.snapshot import Frame

_NAME = re.compile(r"^([A-Za-z_]\w*)((?:\.[A-Za-z_]\w*)*)$")
_TAKE = re.compile(r"([A-Za-z_][\w.]*)\.acquire\(")
_WITH = re.compile(r"^(?:async\s+)?with\s+(.+)$")
_LOCKS = frozenset({"lock", "Lock", "RLock", "_RLock", "Condition", "Semaphore", "BoundedSemaphore"})


@dataclass(frozen=True, slots=True)
class LockName:
    """A lock by identity, as the text and the addresses of a frame give it."""

    scope: str
    """The address of the object it is an attribute of, or of the lock; the file of a global."""
    path: str
    """Attributes below the scope, or the global's name."""
    text: str
    """The expression as the program writes it."""

    def same(self, other: LockName) -> bool:
        """Whether both mean one lock."""
        return (self.scope, self.path) == (other.scope, other.path)


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that a thread stands inside of."""

    name: LockName
    frame: Frame


def lock_name(expression: str, frame: Frame) -> LockName | None:
    """Return which lock an expression of a frame means, or None where that cannot be told."""
    found = _NAME.match(expression.strip())
    if not found:
        return None
    root, attributes = found.groups()
    text = frame.variables.get(root)
    if text is None:
        # Neither a local nor an argument: a global, unless it is a variable of an outer function.
        return LockName(frame.file, root + attributes, expression.strip())
    address = address_of(text)
    if not address:
        return None
    return LockName(address, attributes, expression.strip())


def locks_held(actor: Actor) -> tuple[Held, ...]:
    """Return the locks that the thread holds by the statements around its frames."""
    return tuple(_held(actor))


def _held(actor: Actor) -> Iterator[Held]:
    waits_on_condition = actor.does(Doing.CONDITION, Doing.MP_CONDITION, Doing.EVENT, Doing.BARRIER, Doing.MP_EVENT)
    innermost_own = True
    for place, frame in enumerate(actor.stack):
        if library_path(frame.file) is not None:
            continue
        if innermost_own and waits_on_condition:
            # Condition.wait gives the lock back that its caller took.
            innermost_own = False
            continue
        innermost_own = False
        for head in frame.around:
            if head.endswith(":") and not _is_past_entry(actor, place):
                continue
            for expression in expressions_of(head.rstrip(":")):
                name = lock_name(expression, frame)
                if name is not None and _may_be_lock(expression, frame):
                    yield Held(name, frame)


def _is_past_entry(actor: Actor, place: int) -> bool:
    # A one-line `with lock: work()` shows the same line while it takes the lock and while it works.
    if place == 0:
        return not (actor.thread.call is not None and "futex" in actor.thread.call.name)
    inner = actor.stack[place - 1]
    return base_name(inner.function) not in ("__enter__", "acquire", "_acquire_restore")


def _may_be_lock(expression: str, frame: Frame) -> bool:
    text = frame.variables.get(expression)
    return text is None or type_of(text) in _LOCKS


def expressions_of(head: str) -> list[str]:
    """Return what a `with` statement enters: ``["a", "b"]`` of ``with a as x, b``; ``["a"]`` of ``a.acquire()``."""
    if head.endswith(TAKEN):
        return [head.removesuffix(TAKEN)]
    found = _WITH.match(head)
    if not found:
        return []
    parts: list[str] = []
    depth = 0
    current = ""
    for letter in found.group(1).strip().removeprefix("(").removesuffix(")") + ",":
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        if letter == "," and depth == 0:
            parts.append(current.split(" as ")[0].strip())
            current = ""
        else:
            current += letter
    return [part for part in parts if part]


def lock_wanted(actor: Actor) -> tuple[LockName, ...]:
    """Return the locks that the line may be taking on which a thread waits for one.

    More than one where the line enters several; none where the text does not tell.
    """
    for frame in actor.stack:
        if library_path(frame.file) is not None:
            continue
        taken = _TAKE.findall(frame.source)
        head = frame.source.split("#")[0].rstrip()
        if head.startswith(("with ", "async with ")):
            taken += expressions_of(_without_body(head))
        names = (lock_name(expression, frame) for expression in taken)
        return tuple(name for name in names if name is not None)
    return ()


def _without_body(line: str) -> str:
    depth = 0
    for position, letter in enumerate(line):
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == ":" and depth == 0:
            return line[:position]
    return line


def holders_by_text(
    scene: Scene, waiter: Actor, pids: tuple[Tgid, ...]
) -> tuple[list[tuple[Actor, Held]], Held | None]:
    """Return who holds the lock that a thread wants, by the text, and whether it does so itself.

    Args:
        scene: The moment.
        waiter: A thread that waits for a lock.
        pids: The processes that could hold it: one address space, or all that map the word.
    """
    wanted = lock_wanted(waiter)
    if not wanted:
        return [], None
    own = next((held for held in locks_held(waiter) for name in wanted if held.name.same(name)), None)
    others = []
    for pid in pids:
        for actor in scene.actors_of(pid):
            if actor.tid == waiter.tid:
                continue
            for held in locks_held(actor):
                if any(held.name.same(name) for name in wanted):
                    others.append((actor, held))
                    break
    return others, own
