"""Which locks a thread holds, as far as the text of the program around its frames shows.

A lock that was free when it was taken left no trace in the kernel. But a thread that stands inside
``with lock:``, or after ``lock.acquire()`` without a release, holds it. Two expressions mean the
same lock if they are the same global of one file, an attribute of the same object (py-spy gives
addresses), or a local with the same address.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from qtrace.analyse.activity import Doing, address_of, base_name, doing_of, library_path, type_of
from qtrace.analyse.scene import Actor, Scene
from qtrace.model.around import PERHAPS_TAKEN, TAKEN
from qtrace.model.ids import ObjectId, Tgid
from qtrace.model.snapshot import Frame

_NAME = re.compile(r"^([A-Za-z_]\w*)((?:\.[A-Za-z_]\w*)*)$")
_TAKE = re.compile(r"([A-Za-z_][\w.]*)\.acquire\(")
_WAIT = re.compile(r"([A-Za-z_][\w.]*)\.wait(?:_for)?\(")
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

    owner: str = ""
    """Class of the object that it is an attribute of, if any."""

    def same(self, other: LockName) -> bool:
        """Whether both mean one lock."""
        return (self.scope, self.path) == (other.scope, other.path)

    def alike(self, other: LockName) -> bool:
        """Whether both may mean one lock: of one name, as a global and as an argument, or of two classes."""
        if self.text.rpartition(".")[2] != other.text.rpartition(".")[2]:
            return False
        if not (self.scope.startswith("0x") and other.scope.startswith("0x")):
            return True
        return bool(self.owner and other.owner) and self.owner != other.owner


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that a thread stands inside of."""

    name: LockName
    frame: Frame
    sure: bool = True
    """Whether the text leaves no doubt."""


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
    return LockName(address, attributes, expression.strip(), type_of(text) if attributes else "")


def locks_held(actor: Actor) -> tuple[Held, ...]:
    """Return the locks that the thread holds by the statements around its frames."""
    return tuple(_held(actor))


def _held(actor: Actor) -> Iterator[Held]:
    for place, frame in enumerate(actor.stack):
        if library_path(frame.file) is not None:
            continue
        entered = [
            (expression, not head.endswith(PERHAPS_TAKEN))
            for head in frame.around
            if not head.endswith(":") or _is_past_entry(actor, place)
            for expression in expressions_of(head.rstrip(":"))
        ]
        given = _given_back(actor, place, frame, [expression for expression, _ in entered])
        for expression, sure in entered:
            name = lock_name(expression, frame)
            if name is not None and expression not in given and _may_be_lock(expression, frame):
                yield Held(name, frame, sure)


def _given_back(actor: Actor, place: int, frame: Frame, entered: list[str]) -> Collection[str]:
    # Condition.wait gives the lock back that its caller took: the condition's own, or one that the
    # condition was made with, of which the text does not tell the name.
    if place == 0 or doing_of(actor.stack[place - 1]) not in (Doing.CONDITION, Doing.MP_CONDITION):
        return ()
    waited = set(_WAIT.findall(frame.source))
    return waited if waited & set(entered) else entered


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
    for mark in (TAKEN, PERHAPS_TAKEN):
        if head.endswith(mark):
            return [head.removesuffix(mark)]
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


@dataclass(frozen=True, slots=True)
class Holders:
    """Who holds a lock, by the text."""

    sure: list[tuple[Actor, Held]]
    likely: list[tuple[Actor, Held]]
    """Those that may hold it: by name alone, or if an exception left it taken."""
    own: Held | None
    """Where the one that waits holds it itself."""


@dataclass(slots=True)
class LockTexts:
    """What the text tells of the locks of a scene, read once for each thread."""

    scene: Scene
    _holding: dict[Tgid, tuple[tuple[Actor, tuple[Held, ...]], ...]] = field(default_factory=dict)
    _names: dict[ObjectId, dict[LockName, None]] = field(default_factory=dict)

    def holding(self, pid: Tgid) -> tuple[tuple[Actor, tuple[Held, ...]], ...]:
        """Return the threads of a process that hold locks, with those."""
        found = self._holding.get(pid)
        if found is None:
            every = ((actor, locks_held(actor)) for actor in self.scene.actors_of(pid))
            found = self._holding[pid] = tuple((actor, held) for actor, held in every if held)
        return found

    def names_of(self, object_id: ObjectId) -> Collection[LockName]:
        """Return what those that wait on a word call the lock: all of these are its names."""
        if not self._names:
            for actor in self.scene.actors.values():
                for want in actor.thread.wants:
                    self._names.setdefault(want.object_id, {}).update(dict.fromkeys(lock_wanted(actor)))
        return self._names.get(object_id, ())

    def holders(self, waiter: Actor, pids: tuple[Tgid, ...], object_id: ObjectId) -> Holders:
        """Return who holds the lock that a thread wants.

        Args:
            waiter: A thread that waits for a lock.
            pids: The processes that could hold it: one address space, or all that map the word.
            object_id: The word.
        """
        found = Holders([], [], None)
        wanted = self.names_of(object_id)
        for actor, held in (entry for pid in pids for entry in self.holding(pid)):
            known = [one for one in held if any(one.name.same(name) for name in wanted)]
            same = next((one for one in known if one.sure), next(iter(known), None))
            alike = next((one for one in held if any(one.name.alike(name) for name in wanted)), None)
            if same is not None and same.sure:
                if actor.tid == waiter.tid:
                    found = replace(found, own=same)
                else:
                    found.sure.append((actor, same))
            elif actor.tid != waiter.tid and (one := same or alike) is not None:
                found.likely.append((actor, one))
        return found
