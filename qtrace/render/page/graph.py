"""The verdict's wait-for graph as nodes and arrows: thread, what it waits on, who could end that."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from qtrace.model.kinds import STUCK
from qtrace.model.verdict import Provider, Verdict, Wait
from qtrace.render.wording import object_sentence

PROVIDERS_SHOWN = 6
"""Arrows out of one object at most, those into the stuck part first: a pool's pipe has dozens."""


@dataclass(frozen=True, slots=True)
class Node:
    """A thread, an object, or a process of which no thread is known."""

    key: str
    shape: str
    """``thread``, ``object`` or ``process``."""
    title: str
    subtitle: str
    stuck: bool
    live: str = ""
    """Why it can go on; empty if it cannot, or that is not known."""
    tid: int | None = None
    kind: str = ""
    """Of a thread: what it waits for."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """``waits``: thread to object; ``provider``: object to who could end the wait."""

    source: str
    target: str
    role: str
    label: str
    certainty: str
    in_chain: bool


@dataclass(frozen=True, slots=True)
class WaitGraph:
    """What the figure shows for the moment of the verdict."""

    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]
    hidden_providers: int
    """Arrows left out, because an object had more than `PROVIDERS_SHOWN`."""


def thread_key(tid: int) -> str:
    """Return the key of a thread's node."""
    return f"t{tid}"


def _object_key(wait: Wait) -> str:
    # A lock, pipe or child is one node for everyone who waits on it.
    return f"o{wait.target.object_id}" if wait.target else f"o-of-{wait.tid}"


def _provider_key(provider: Provider) -> str:
    return thread_key(provider.tid) if provider.tid is not None else f"p{provider.pid}"


class _Builder:
    def __init__(self, verdict: Verdict, process_names: Mapping[int, str]) -> None:
        self.verdict = verdict
        self.names = process_names
        self.nodes: dict[str, Node] = {}
        self.arrows: dict[tuple[str, str], Arrow] = {}
        self.hidden = 0
        hung = verdict.chain if verdict.kind in STUCK else ()
        self.stuck = set(verdict.stuck_tids) | {wait.tid for wait in hung}
        self.why_live = {thread.tid: thread for thread in verdict.live}
        self.next_links = self._links()

    def _links(self) -> set[tuple[int, int]]:
        chain = self.verdict.chain
        links = {(int(a.tid), int(b.tid)) for a, b in itertools.pairwise(chain)}
        if self.verdict.back_to is not None:
            links.add((int(chain[-1].tid), int(chain[self.verdict.back_to].tid)))
        return links

    def add_wait(self, wait: Wait) -> None:
        """Add the thread, its object, and the arrows to those who could end the wait."""
        source, target = thread_key(wait.tid), _object_key(wait)
        self.nodes[source] = Node(
            source, "thread", wait.thread, wait.process, wait.tid in self.stuck, "", int(wait.tid), str(wait.kind)
        )
        title = wait.target.label if wait.target else str(wait.kind)
        self.nodes.setdefault(target, Node(target, "object", title, object_sentence(wait.target), False))
        on_chain = any(link[0] == wait.tid for link in self.next_links)
        self._arrow(Arrow(source, target, "waits", str(wait.kind), "proven", on_chain))
        ranked = sorted(wait.providers, key=lambda provider: self._rank(wait, provider))
        self.hidden += max(len(ranked) - PROVIDERS_SHOWN, 0)
        for provider in ranked[:PROVIDERS_SHOWN]:
            self._add_provider(wait, target, provider)

    def _rank(self, wait: Wait, provider: Provider) -> tuple[bool, bool]:
        tid = int(provider.tid) if provider.tid is not None else -1
        return (int(wait.tid), tid) not in self.next_links, tid not in self.stuck

    def _add_provider(self, wait: Wait, target: str, provider: Provider) -> None:
        key = _provider_key(provider)
        if key not in self.nodes:
            self.nodes[key] = self._provider_node(key, provider)
        tid = int(provider.tid) if provider.tid is not None else -1
        in_chain = (int(wait.tid), tid) in self.next_links
        self._arrow(Arrow(target, key, "provider", provider.why, str(provider.certainty), in_chain))

    def _provider_node(self, key: str, provider: Provider) -> Node:
        process = self.names.get(int(provider.pid), f"pid {provider.pid}")
        if provider.tid is None:
            return Node(key, "process", process, "the process as a whole", False)
        live = self.why_live.get(provider.tid)
        name = live.thread if live else f"thread {provider.tid}"
        stuck = provider.tid in self.stuck
        return Node(key, "thread", name, process, stuck, live.why if live else "", int(provider.tid))

    def _arrow(self, arrow: Arrow) -> None:
        known = self.arrows.get((arrow.source, arrow.target))
        if known is None or arrow.in_chain:
            self.arrows[arrow.source, arrow.target] = arrow


def wait_graph(verdict: Verdict, process_names: Mapping[int, str]) -> WaitGraph:
    """Return the graph of the verdict: the chain first, then the other stuck threads, then the rest."""
    builder = _Builder(verdict, process_names)
    seen = {wait.tid for wait in verdict.chain}
    others = sorted((wait for wait in verdict.waits if wait.tid not in seen), key=lambda w: w.tid not in builder.stuck)
    for wait in (*verdict.chain, *others):
        builder.add_wait(wait)
    for live in verdict.live:
        key = thread_key(live.tid)
        builder.nodes.setdefault(key, Node(key, "thread", live.thread, live.process, False, live.why, int(live.tid)))
    return WaitGraph(tuple(builder.nodes.values()), tuple(builder.arrows.values()), builder.hidden)
