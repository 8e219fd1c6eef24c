"""Sentences about chains: who waits for what, with names and not numbers."""

from __future__ import annotations

from collections.abc import Sequence

from qtrace.analyse.chain import Chain
from qtrace.analyse.graph import Node, Standing
from qtrace.analyse.naming import Names, object_of
from qtrace.model.kinds import WaitKind

_LONGEST = 4
"""A sentence with more links than this cannot be read; the chain below it has them all."""


def waits_for(names: Names, node: Node, following: Node | None = None) -> str:
    """Return the predicate of a link: "waits for room in the queue pipe"."""
    target = object_of(names, node, first=following.tid if following is not None else None)
    label = target.label if target is not None else "something"
    kind = node.kind
    if kind is WaitKind.CHILD_EXIT:
        return "waits for a child to end" if label == "any child" else f"waits for {label} to end"
    if kind is WaitKind.THREAD_JOIN:
        return f"waits for {label} to end"
    if kind is WaitKind.PIPE_FULL:
        return f"waits for room in the {label}"
    if kind is WaitKind.PIPE_EMPTY:
        return f"waits for data from the {label}"
    if kind is WaitKind.SOCKET_FULL:
        return f"waits for room in the {label}"
    if kind is WaitKind.SOCKET_EMPTY:
        return f"waits for data from the {label}"
    if kind is WaitKind.GIL:
        return "waits for the interpreter lock"
    if kind in (WaitKind.LOCK, WaitKind.CONDITION, WaitKind.SEMAPHORE):
        return f"waits for {_article(label)}{label}"
    if kind is WaitKind.FILE_LOCK:
        return f"waits for the {label}" if label.startswith("lock on") else f"waits for the lock on {label}"
    return f"waits on {label}"


def _article(label: str) -> str:
    if label.startswith(("something", "others", "task_done", "notify")):
        return ""
    if label.startswith(("event", "item")):
        return "an "
    return "a " if label.startswith("free place") else "the "


def headline(names: Names, chain: Chain) -> str:
    """Return the hang in one sentence."""
    nodes = chain.nodes
    after = [*nodes[1:], None]
    parts = [f"{_subject(names, nodes, 0)} {waits_for(names, nodes[0], after[0])}"]
    shown = nodes[1:] if len(nodes) <= _LONGEST else nodes[1 : _LONGEST - 1]
    for place, node in enumerate(shown, 1):
        parts.append(f"{_subject(names, nodes, place)} {waits_for(names, node, after[place])}")
    if len(shown) < len(nodes) - 1:
        parts.append(f"and so on, over {_count(len(nodes) - 1 - len(shown))} more")
    text = "; ".join(parts)
    if chain.cycle and chain.back_to is not None:
        back = nodes[chain.back_to]
        who = names.actor(back.actor, within=nodes[-1].actor.pid)
        return f"{text}, which {who} would have to end: a circle."
    return f"{text}, and nobody is left who could end that."


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
