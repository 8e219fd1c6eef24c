"""Sentences about chains: who waits for what, with names and not numbers."""

from __future__ import annotations

from collections.abc import Sequence

from qtrace.analyse.chain import Chain
from qtrace.analyse.graph import Node, Standing
from qtrace.analyse.naming import Names, object_of
from qtrace.model import phrases
from qtrace.model.ids import ObjectId
from qtrace.model.kinds import WaitKind

_ALIKE = (WaitKind.LOCK, WaitKind.SEMAPHORE, WaitKind.CONDITION, WaitKind.PIPE_FULL, WaitKind.PIPE_EMPTY)
_LONGEST = 4
"""A sentence with more links than this cannot be read; the chain below it has them all."""


def waits_for(names: Names, node: Node, following: Node | None = None) -> str:
    """Return the predicate of a link: "waits for room in the queue pipe"."""
    target = object_of(names, node, first=following.tid if following is not None else None)
    return phrases.waits_for(node.kind, target.label if target is not None else None)


def headline(names: Names, chain: Chain) -> str:
    """Return the hang in one sentence."""
    nodes = chain.nodes
    after = [*nodes[1:], None]
    shown = nodes if len(nodes) <= _LONGEST else nodes[: _LONGEST - 1]
    parts = []
    met: dict[str, ObjectId] = {}
    for place, node in enumerate(shown):
        parts.append(f"{_subject(names, nodes, place)} {_told_apart(names, node, after[place], met)}")
    if len(shown) < len(nodes):
        parts.append(f"and so on, over {_count(len(nodes) - len(shown))} more")
    text = "; ".join(parts)
    if chain.cycle and chain.back_to is not None:
        back = nodes[chain.back_to]
        who = names.actor(back.actor, within=nodes[-1].actor.pid)
        return f"{text}, which {who} would have to end: a circle."
    return f"{text}, and nobody is left who could end that."


def _told_apart(names: Names, node: Node, following: Node | None, met: dict[str, ObjectId]) -> str:
    # Two locks that are both called "right" where they are waited for are not one lock.
    target = object_of(names, node, first=following.tid if following is not None else None)
    if target is None or node.kind not in _ALIKE:
        return waits_for(names, node, following)
    same = met.setdefault(target.label, target.object_id) == target.object_id
    return phrases.waits_for(node.kind, target.label if same else f"another {target.label}")


def _count(number: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six")
    return words[number] if number < len(words) else "many"


def _subject(names: Names, nodes: Sequence[Node], place: int) -> str:
    node = nodes[place]
    within = nodes[place - 1].actor.pid if place else None
    return names.actor(node.actor, within=within)


def live_headline(names: Names, way: Sequence[Node]) -> str:
    """Return what a program that is not stuck is doing, in one sentence."""
    last = way[-1]
    doing = _live_doing(names, last)
    if len(way) == 1:
        return f"{names.actor(last.actor)} {doing}: nothing is stuck."
    first = f"{names.actor(way[0].actor)} {waits_for(names, way[0], way[1])}"
    who = names.actor(last.actor, within=way[0].actor.pid)
    return f"{first}; {who} {doing}: nothing is stuck."


def _live_doing(names: Names, node: Node) -> str:
    if node.standing is Standing.RUNNING:
        return "is running" if not node.in_call else node.why
    if node.standing is Standing.TIMED:
        if node.kind in (WaitKind.SLEEP, WaitKind.TIMEOUT):
            return "sleeps"
        return f"{waits_for(names, node)}, with a timeout"
    return node.why or waits_for(names, node)
