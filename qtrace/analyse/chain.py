"""The chain: from the thread that the user sees hanging, link by link, to the root of the trouble.

Among what is stuck, a wait that nobody can end is a root (orphaned), and so is a circle (deadlock).
Several often can be reached from one thread; the chain goes to the one that costs least, where an
exact edge is cheap, and an edge to somebody who merely shares the memory is dear. Each link's next
is among its providers.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass

from qtrace.analyse.edges import IDLE, Edge
from qtrace.analyse.graph import Node, Standing, WaitGraph
from qtrace.model.ids import Tgid, Tid
from qtrace.model.kinds import VerdictKind, WaitKind

_ORPHAN_COST = 3
"""A root that nobody can end has to be about as near as a circle of exact links."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The links in order, and whether the last one waits for one of them."""

    nodes: tuple[Node, ...]
    cycle: bool
    back_to: int | None = None
    """Index of the link that the last one waits for."""

    @property
    def kind(self) -> VerdictKind:
        """What a chain of this form is called."""
        return VerdictKind.DEADLOCK if self.cycle else VerdictKind.ORPHANED


def part_of(graph: WaitGraph, members: Collection[Tid]) -> list[frozenset[Tid]]:
    """Return the independent parts of what is stuck: sets without an edge between them."""
    neighbours: dict[Tid, set[Tid]] = {tid: set() for tid in members}
    for tid in members:
        for edge in graph.nodes[tid].edges:
            if edge.tid is not None and edge.tid in neighbours:
                neighbours[tid].add(edge.tid)
                neighbours[edge.tid].add(tid)
    parts: list[frozenset[Tid]] = []
    left = set(members)
    while left:
        todo = [left.pop()]
        part = set(todo)
        while todo:
            fresh = neighbours[todo.pop()] & left
            left -= fresh
            part |= fresh
            todo += fresh
        parts.append(frozenset(part))
    return parts


def depth_of(graph: WaitGraph, pid: Tgid) -> int:
    """Return how far a process is from the root: 0 for the root, more for its descendants."""
    if pid == graph.scene.snapshot.root_pid:
        return 0
    for depth, ancestor in enumerate(graph.scene.ancestors(pid), 1):
        if ancestor == graph.scene.snapshot.root_pid:
            return depth
    return 1_000


def start_of(graph: WaitGraph, part: Collection[Tid]) -> Tid:
    """Return the thread of a part that the user sees hanging: the topmost, main threads first."""

    def rank(tid: Tid) -> tuple[bool, int, bool, int, Tid]:
        actor = graph.nodes[tid].actor
        helper = actor.helper is not None and not actor.is_program
        return helper, depth_of(graph, actor.pid), not actor.thread.is_main, -_joins(graph, tid), tid

    return min(part, key=rank)


def _joins(graph: WaitGraph, tid: Tid) -> int:
    return int(graph.nodes[tid].kind in (WaitKind.THREAD_JOIN, WaitKind.CHILD_EXIT))


def follow(graph: WaitGraph, start: Tid, members: Collection[Tid]) -> Chain:
    """Return the cheapest way from a stuck thread to a root, or round a circle."""
    ways = _ways(graph, start, members)
    best: tuple[int, int, Chain] | None = None
    for tid, (cost, path) in ways.items():
        if best is not None and cost >= best[0]:
            break  # in the order of cost: what comes now is dearer still
        nodes = tuple(graph.nodes[t] for t in path)
        if not _within(graph.nodes[tid], members):
            best = _cheaper(best, (cost + _ORPHAN_COST, len(path), Chain(nodes, cycle=False)))
            continue
        most = None if best is None else best[0] - cost
        circle = _ways(graph, tid, members, home=True, most=most).get(tid)
        if circle is not None:
            more = tuple(graph.nodes[t] for t in circle[1][1:])
            chain = Chain(nodes + more, True, len(path) - 1)
            best = _cheaper(best, (cost + circle[0], len(path) + len(more), chain))
    assert best is not None, "every walk over a finite graph ends or comes back"
    return best[2]


def _ways(
    graph: WaitGraph, start: Tid, members: Collection[Tid], *, home: bool = False, most: int | None = None
) -> dict[Tid, tuple[int, tuple[Tid, ...]]]:
    """Return the cheapest way to each thread that can be reached, in the order of cost (Dijkstra).

    Args:
        graph: The graph.
        start: Where the ways begin.
        members: The threads they may go over.
        home: Whether to look for the way back to the start instead of staying there for nothing;
            the search ends with it.
        most: Ways that cost this or more are of no use.
    """
    settled: dict[Tid, tuple[int, tuple[Tid, ...]]] = {}
    queue: list[tuple[int, int, Tid, tuple[Tid, ...]]] = [(0, 0, start, (start,))]
    first = True
    while queue:
        cost, _, tid, path = heapq.heappop(queue)
        if tid in settled or (most is not None and cost >= most):
            continue
        if home and first:
            first = False
        else:
            settled[tid] = (cost, path)
            if home and tid == start:
                break
        for edge in _within(graph.nodes[tid], members):
            assert edge.tid is not None
            if edge.tid not in settled:
                onward = path if home and edge.tid == start else (*path, edge.tid)
                heapq.heappush(queue, (cost + edge.cost, len(onward), edge.tid, onward))
    return settled


def _cheaper(best: tuple[int, int, Chain] | None, other: tuple[int, int, Chain]) -> tuple[int, int, Chain]:
    if best is None or other[:2] < best[:2]:
        return other
    return best


def _within(node: Node, members: Collection[Tid]) -> list[Edge]:
    return [edge for edge in node.edges if edge.tid is not None and edge.tid in members]


def follow_live(graph: WaitGraph, start: Tid) -> tuple[Node, ...]:
    """Return the way from a thread that is not stuck to what keeps it alive.

    The nearest by the naturalness of the edges; the program's own threads before helpers.
    """
    settled: set[Tid] = set()
    queue: list[tuple[int, int, Tid, tuple[Tid, ...]]] = [(0, 0, start, (start,))]
    best: tuple[int, tuple[Tid, ...]] | None = None
    while queue:
        cost, _, tid, path = heapq.heappop(queue)
        if tid in settled:
            continue
        settled.add(tid)
        node = graph.nodes[tid]
        if not node.blocked:
            total = cost + _LIVE_COST[node.standing]
            if best is None or total < best[0]:
                best = (total, path)
            continue
        onward = [(edge.cost, edge.tid) for edge in node.edges if edge.tid is not None]
        onward += [(IDLE, tid) for tid in graph.scene.may_be_ended_by(node.actor.pid) if tid not in graph.stuck]
        for dear, following in onward:
            if following in graph.nodes and following not in settled:
                heapq.heappush(queue, (cost + dear, len(path) + 1, following, (*path, following)))
    if best is None:
        return (graph.nodes[start],)
    return tuple(graph.nodes[tid] for tid in best[1])


_LIVE_COST = {
    Standing.RUNNING: 0,
    Standing.TIMED: 0,
    Standing.EXTERNAL: 1,
    Standing.UNSEEN: 1,
    Standing.BLOCKED: 0,
}
