"""Which of those who could end a wait have the other half of it in their code: a get() for a put().

Under fork everybody holds both ends of every queue, and of a queue between threads nothing but the code
tells who fills and who empties it. What a thread's own functions have still to call puts those who could
in order. It decides nothing about what is stuck: only whom to name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qtrace.analyse.activity import Doing
from qtrace.analyse.bystanders import GIVING, TAKING, Able
from qtrace.analyse.edges import IDLE, POSSIBLE, Edge
from qtrace.analyse.scene import Actor, Scene

_PUTS = (Doing.MPQ_PUT, Doing.QUEUE_PUT, Doing.SIMPLEQ_PUT, Doing.MPQ_FEED, Doing.CONNECTION_SEND)
_GETS = (Doing.MPQ_GET, Doing.QUEUE_GET, Doing.SIMPLEQ_GET, Doing.CONNECTION_RECV)


def _other_half(actor: Actor) -> Callable[[Actor], Able] | None:
    # The question to ask of those who could end a put(), a get() or a wait for an event; None for others.
    if actor.does(*_PUTS) is not None:
        return lambda other: other.will_call(TAKING)
    if actor.does(*_GETS) is not None:
        return lambda other: other.will_call(GIVING)
    return None if _methods(actor) is None else lambda other: able_to_speak(other, actor)


def able_to_speak(other: Actor, actor: Actor) -> Able:
    """Return whether a thread has still to end a wait for a barrier, an event or a condition, by its text."""
    methods = _methods(actor)
    if methods is None:
        return Able.PERHAPS
    # Who waits at the barrier already has come to it.
    return Able.NO if other.does(Doing.BARRIER) and actor.does(Doing.BARRIER) else other.will_call(methods)


def _methods(actor: Actor) -> frozenset[str] | None:
    return next((methods for doings, methods in _SPEAKERS if actor.does(*doings) is not None), None)


_SPEAKERS = (
    # A barrier and an event wait on a condition of their own: they come first.
    ((Doing.BARRIER,), frozenset({".wait"})),
    ((Doing.EVENT, Doing.MP_EVENT), frozenset({".set"})),
    ((Doing.CONDITION, Doing.MP_CONDITION), frozenset({".notify", ".notify_all"})),
)


def counterparts_first(scene: Scene, actor: Actor, edges: Sequence[Edge]) -> tuple[Edge, ...]:
    """Make those dearer whose code shows no other half of a put() or a get(), where that of others does."""
    half = _other_half(actor)
    if half is None:
        return tuple(edges)
    able = [half(scene.actors[edge.tid]) if edge.tid is not None else Able.PERHAPS for edge in edges]
    if Able.YES not in able:
        return tuple(edges)
    found = [replace(edge, cost=edge.cost + _DEARER[one]) for edge, one in zip(edges, able, strict=True)]
    return tuple(sorted(found, key=lambda edge: edge.cost))


_DEARER = {Able.YES: 0, Able.PERHAPS: POSSIBLE, Able.NO: IDLE}
