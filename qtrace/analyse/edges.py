"""Who could end a wait, as edges of the graph, and how natural each is as the next link of a chain.

The need of a wait says who *can* wake it and decides what is stuck; the edges say whom to name.
Under fork everybody holds everything, so evidence on who was given an end to use, who waits for a
lock himself, and who is a mere helper puts them in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from qtrace.analyse.activity import Doing, address_of, library_path, type_of
from qtrace.analyse.bystanders import TAKING, Able, words_of
from qtrace.analyse.futexes import FUTEX_KINDS, queue_lock_of
from qtrace.analyse.held import LockTexts
from qtrace.analyse.reduction import Need
from qtrace.analyse.scene import Actor, Scene
from qtrace.model.ids import Tgid, Tid
from qtrace.model.kinds import Certainty, Role, WaitKind
from qtrace.model.snapshot import Frame, Want

EXACT, NATURAL, POSSIBLE, REMOTE, IDLE = 1, 2, 4, 8, 30
"""How natural a provider is as the next link of a chain: the sum along a chain is kept small."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A thread, or a process that has ended, that could make an event happen."""

    pid: Tgid
    tid: Tid | None
    certainty: Certainty
    why: str
    cost: int = POSSIBLE


@dataclass(frozen=True, slots=True)
class Sharers:
    """Who might end a wait on a shared word."""

    ranked: tuple[tuple[int, Actor], ...]
    need: Need


@dataclass(slots=True)
class Groups:
    """What the waits of a scene have in common, found once: large processes stay cheap.

    The threads of each process are one shared need; the text around each thread is read once.
    """

    scene: Scene
    locks: LockTexts = field(init=False)
    _needs: dict[tuple[Tgid, ...], Need] = field(default_factory=dict)
    _able: dict[tuple[Tgid, ...], tuple[Need, tuple[str, ...]]] = field(default_factory=dict)
    _sharers: dict[tuple[tuple[Tgid, ...], bool, bool], Sharers] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with nothing read."""
        self.locks = LockTexts(self.scene)

    def any_thread(self, pids: tuple[Tgid, ...]) -> Need:
        """Return the need for any one living thread of these processes."""
        need = self._needs.get(pids)
        if need is None:
            if len(pids) == 1:
                need = Need(tuple(actor.tid for actor in self.scene.actors_of(pids[0])))
            else:
                need = Need(tuple(self.any_thread((pid,)) for pid in pids))
            self._needs[pids] = need
        return need

    def able(self, pids: tuple[Tgid, ...]) -> tuple[Need, tuple[str, ...]]:
        """Return the need for any one thread that is no bystander, and what that rests on."""
        found = self._able.get(pids)
        if found is None:
            actors = [actor for pid in pids for actor in self.scene.actors_of(pid)]
            looking_on = tuple(words_of(actor.thread) for actor in actors if actor.bystander)
            need = self.any_thread(pids)
            if looking_on:
                need = Need(tuple(actor.tid for actor in actors if not actor.bystander))
            found = self._able[pids] = need, looking_on
        return found

    def sharers(self, pids: tuple[Tgid, ...], lock: bool, active: bool) -> Sharers:
        """Return who might end a wait on a word that these processes share, the likeliest first.

        Args:
            pids: The processes.
            lock: Whether the word is a lock of the program's own, which library helpers never take.
            active: Whether it takes more than to be there: bystanders are left out.
        """
        found = self._sharers.get((pids, lock, active))
        if found is None:
            found = self._sharers[pids, lock, active] = self._ranked(pids, lock, active)
        return found

    def _ranked(self, pids: tuple[Tgid, ...], lock: bool, active: bool) -> Sharers:
        actors = [actor for pid in pids for actor in self.scene.actors_of(pid)]
        able = [
            actor for actor in actors if not (lock and _never_takes_locks(actor)) and not (active and actor.bystander)
        ]
        shown = [(_cost_of(actor), actor) for actor in able if not actor.transparent]
        shown.sort(key=lambda entry: (lock and not waits_for_lock(entry[1]), entry[0]))
        need = self.any_thread(pids) if len(able) == len(actors) else Need(tuple(actor.tid for actor in able))
        return Sharers(tuple(shown), need)


def _never_takes_locks(actor: Actor) -> bool:
    return actor.helper is not None and actor.helper.takes_no_locks_of_program and not actor.is_program


def edges_to(scene: Scene, actor: Actor, pids: Iterable[Tgid], why: str, want: Want) -> tuple[Edge, ...]:
    """Return the threads of these processes that could do it, the most natural first.

    Left out are the waiter itself, helpers that only pass on what another thread hands them (that
    thread is there itself), those that never write where something to read is waited for, and threads
    that are blocked on the very same thing: whoever waits to read a pipe does not write to it.
    """
    found = [
        edge_to(actor, other, why)
        for pid in pids
        for other in scene.actors_of(pid)
        if other.tid != actor.tid and not other.transparent and not same_wait(other, want)
        if want.access != "r" or not _only_receives(other)
    ]
    return tuple(sorted(found, key=lambda edge: edge.cost))


def _only_receives(other: Actor) -> bool:
    return other.helper is not None and other.helper.only_receives and other.idle


def same_wait(other: Actor, want: Want) -> bool:
    """Whether a thread is blocked on the same thing, and on that alone."""
    wants = other.thread.wants
    return (
        len(wants) == 1
        and wants[0].object_id == want.object_id
        and wants[0].access == want.access
        and other.thread.timeout_ns is None
        and other.thread.call is not None
    )


def edge_to(actor: Actor, other: Actor, why: str) -> Edge:
    """Return the edge from a waiter to one who might end its wait."""
    if _feeds(other, actor):
        return Edge(other.pid, other.tid, Certainty.LIKELY, why, EXACT)
    cost = _cost_of(other)
    if other.pid == actor.pid:
        cost += POSSIBLE
    if _wakes_only(actor, other):
        cost += 2 * POSSIBLE
    if other.helper is not None and other.helper.role is Role.FEEDER and actor.does(*QUEUE_READS) is None:
        cost += POSSIBLE  # a feeder writes to the pipe of its own queue
    if _fellow_reader(actor, other) or _fellow_writer(actor, other):
        cost += IDLE
    return Edge(other.pid, other.tid, Certainty.LIKELY, why, cost)


def _wakes_only(actor: Actor, other: Actor) -> bool:
    # An executor's manager thread is woken by its own process for new work; while it waits for results, those
    # come from the workers.
    helper = actor.helper
    if helper is None or helper.role is not Role.HANDLER or not actor.idle:
        return False
    return other.pid == actor.pid and other.helper is None


def _feeds(other: Actor, actor: Actor) -> bool:
    if actor.helper is None or other.helper is None or not actor.idle:
        return False
    return actor.helper.fed_by == other.helper.title


def _cost_of(other: Actor) -> int:
    helper = other.helper
    cost = NATURAL if other.thread.is_main or helper is not None else NATURAL + 1
    if helper is not None and (helper.loop_waits_for_program or helper.role in (Role.TRACKER, Role.FORK_SERVER)):
        cost += IDLE
    if other.does(Doing.SERVER_LOOP) is not None:
        cost += IDLE  # it accepts the next connection; those that are open have threads of their own
    return cost


QUEUE_READS = (Doing.MPQ_GET, Doing.SIMPLEQ_GET)
"""Reads of the pipe of a queue."""
_ENDS = (Doing.PROCESS_JOIN, Doing.POPEN_WAIT, Doing.PROCESS_EXIT)
_HANDLE_TYPES = frozenset({"Connection", "_ConnectionBase", "SimpleQueue", "Queue", "JoinableQueue"})


def _fellow_reader(actor: Actor, other: Actor) -> bool:
    # Whoever waits for the read lock of a queue waits for readers, and writes to none.
    return actor.does(*QUEUE_READS) is not None and queue_lock_of(other) == "read lock"


def _fellow_writer(actor: Actor, other: Actor) -> bool:
    # Nor does one that waits for the write lock of a queue read from it.
    if actor.does(Doing.SIMPLEQ_PUT, Doing.MPQ_FEED) is None or not waits_for_lock(other):
        return False
    return queue_lock_of(other) == "write lock"


def users_first(scene: Scene, actor: Actor, edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    """Make those that hold an end by chance dearer than those that were given it to use.

    Under fork everybody inherits everything; one who stands in a join of the waiter is the natural
    other side only if nobody else is: a process that exec made was handed what it holds, and one
    whose own variables show the very queue, or another connection, was given it as an argument.
    """
    family = set(scene.ancestors(actor.pid))
    given = {edge.tid for edge in edges if edge.tid is not None and _was_given(scene, actor, scene.actors[edge.tid])}
    if not given:
        return edges
    changed = [
        replace(edge, cost=edge.cost + 2 * POSSIBLE) if _by_chance(scene, actor, edge, family) else edge
        for edge in edges
    ]
    return tuple(sorted(changed, key=lambda edge: edge.cost))


def _by_chance(scene: Scene, actor: Actor, edge: Edge, family: set[Tgid]) -> bool:
    if edge.tid is None:
        return False
    other = scene.actors[edge.tid]
    if edge.pid in family and other.does(*_ENDS) is not None:
        return True
    # One whose variables show queues or connections, and not this one, has those to use. Addresses tell
    # that only between processes that fork copied from one another.
    if not scene.is_forked_copy(actor.pid) or not (edge.pid in family or scene.is_forked_copy(edge.pid)):
        return False
    used = _handle_in_use(actor)
    handles = {address for frame in other.stack for address in _handles_of(frame)}
    return used is not None and used[0] != "Connection" and bool(handles) and used[1] not in handles


def _was_given(scene: Scene, actor: Actor, other: Actor) -> bool:
    if other.pid == actor.pid or other.pid in set(scene.ancestors(actor.pid)) or not other.is_program:
        return False
    if not actor.does(*QUEUE_READS, Doing.SIMPLEQ_PUT, Doing.CONNECTION_SEND, Doing.CONNECTION_RECV):
        return False
    if _fellow_reader(actor, other) or _fellow_writer(actor, other):
        return False
    if not scene.is_forked_copy(other.pid):
        return True
    used = _handle_in_use(actor)
    others = {address for frame in other.stack for address in _handles_of(frame)}
    if used is None:
        return False
    if used[0] == "Connection":
        return bool(others - {(_handle_in_use(other) or ("", ""))[1]})
    return used[1] in others


def _handle_in_use(actor: Actor) -> tuple[str, str] | None:
    # The outermost of the library's frames at the call belongs to the object that the program used.
    found = None
    for frame in actor.stack:
        if library_path(frame.file) is None:
            break
        text = frame.variables.get("self", "")
        if type_of(text) in _HANDLE_TYPES:
            found = (type_of(text), address_of(text))
    return found


def _handles_of(frame: Frame) -> list[str]:
    if library_path(frame.file) is not None:
        return []
    return [address_of(text) for text in frame.variables.values() if type_of(text) in _HANDLE_TYPES]


def sharers(
    scene: Scene, groups: Groups, actor: Actor, want: Want, kind: WaitKind, pids: tuple[Tgid, ...]
) -> tuple[tuple[Edge, ...], Need]:
    """Return who might end a wait on a word of which nothing tells who holds it: all that share it.

    Left out are the library's helpers, which take no lock of the program's and only ever wake waits
    of their own kind. Of a thousand threads the likeliest are named; the need has all.
    """
    why = _SHARER_WORDS.get(kind, "shares the lock's memory; who holds it is not known")
    lock = kind in (WaitKind.LOCK, WaitKind.SEMAPHORE) and actor.is_program
    group = groups.sharers(pids, lock, not may_be_parked(actor, kind))
    shared = want.object_id.startswith("shared:")
    chosen: list[tuple[int, Actor]] = []
    for cost, other in group.ranked:
        if other.tid == actor.tid or (same_wait(other, want) and not _empties_it(actor, other)):
            continue
        # Of a private word nobody is further away than the others of the process.
        chosen.append((cost + (POSSIBLE if shared and other.pid == actor.pid else 0), other))
        if len(chosen) == _MOST_SHARERS:
            break
    if kind is WaitKind.LOCK and any(waits_for_lock(other) for _, other in chosen):
        # Between two that could hold a lock, one that itself waits for another lock is the
        # likelier: that is how locks come to be held for ever.
        chosen = [(cost + (-1 if waits_for_lock(other) else POSSIBLE), other) for cost, other in chosen]
    chosen.sort(key=lambda entry: entry[0])
    edges = tuple(Edge(other.pid, other.tid, Certainty.LIKELY, why, cost) for cost, other in chosen)
    return edges, group.need


_MOST_SHARERS = 100


def _empties_it(actor: Actor, other: Actor) -> bool:
    # The one that takes from a bounded queue may be held up by a put() into that very queue.
    return actor.does(Doing.MPQ_PUT, Doing.QUEUE_PUT) is not None and other.will_call(TAKING) is Able.YES


def may_be_parked(actor: Actor, kind: WaitKind) -> bool:
    """Whether a thread may wait for an event on purpose, for ever, while others do the work."""
    if kind is not WaitKind.CONDITION or actor.helper is not None:
        return False
    return actor.does(*_SPOKEN_FOR) is None


_SPOKEN_FOR = (
    Doing.QUEUE_GET,
    Doing.QUEUE_PUT,
    Doing.QUEUE_JOIN,
    Doing.FUTURE_RESULT,
    Doing.POOL_RESULT,
    Doing.BARRIER,
)
"""Operations that end by what another thread hands over, and in which nobody parks."""


def waits_for_lock(other: Actor) -> bool:
    """Whether a thread stands in a wait for a lock."""
    wants = other.thread.wants
    if not wants or wants[0].kind not in FUTEX_KINDS | {WaitKind.FILE_LOCK}:
        return False
    return other.does(Doing.THREAD_JOIN, Doing.SHUTDOWN_JOIN, Doing.CONDITION, Doing.EVENT) is None


_SHARER_WORDS = {
    WaitKind.CONDITION: "could notify it: shares its memory",
    WaitKind.SEMAPHORE: "could release it: shares its memory",
    WaitKind.GIL: "shares the interpreter",
    WaitKind.THREAD_JOIN: "could be the thread that is joined",
}
