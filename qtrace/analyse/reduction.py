"""Which threads can ever run again: the reduction of a wait-for graph of any-of and all-of waits.

What it guarantees: a thread that is left over can not be woken by any order of events among the
threads of the graph. The least fixed point is taken, so threads that could only wake one another
stay stuck, and a thread's own name among its providers changes nothing. Everything that is not
understood has to be entered as `ALWAYS` by the caller: a blind spot then never makes a false hang.

Counting the open needs of each wait, as in Holt's general resource graphs, would be faster on
paper; threads of one process share one `Need` object, so evaluating each object once a round is
linear in what there is, and simpler.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from qtrace.model.ids import Tid


@dataclass(frozen=True, slots=True, eq=False)
class Need:
    """What has to happen for a thread to go on: any one of the parts, or all of them.

    A part is a thread that has to be able to run, or a need of its own. Any of nothing never
    comes true; all of nothing always does.
    """

    parts: tuple[Need | Tid, ...]
    all_of: bool = False


ALWAYS = Need((), all_of=True)
"""Comes true by itself: the clock, the outside, a thread that runs."""
NEVER = Need(())
"""Nobody can make it come true."""


def any_of(parts: Iterable[Need | Tid]) -> Need:
    """Return the need for one of the parts; simpler where there is only one."""
    return _of(tuple(parts), all_of=False)


def all_of(parts: Iterable[Need | Tid]) -> Need:
    """Return the need for all of the parts; simpler where there is only one."""
    return _of(tuple(parts), all_of=True)


def _of(parts: tuple[Need | Tid, ...], all_of: bool) -> Need:
    if len(parts) == 1 and isinstance(parts[0], Need):
        return parts[0]
    return Need(parts, all_of)


def live_threads(needs: Mapping[Tid, Need]) -> frozenset[Tid]:
    """Return the threads that run or can be woken; all others can never run again.

    A thread that a need names and that is no key of `needs` is dead: it wakes nobody.
    """
    live: set[Tid] = set()
    blocked = dict(needs)
    came_true: set[int] = set()
    while True:
        seen: dict[int, bool] = {}
        woken = [tid for tid, need in blocked.items() if _holds(need, live, came_true, seen)]
        if not woken:
            return frozenset(live)
        for tid in woken:
            del blocked[tid]
        live.update(woken)


def _holds(need: Need, live: Collection[Tid], came_true: set[int], seen: dict[int, bool]) -> bool:
    # Needs are shared between threads: each is looked at once a round, and never again once true.
    # Within a round the set of live threads does not change, so a "no" can be kept for the round.
    key = id(need)
    if key in came_true:
        return True
    if key in seen:
        return seen[key]
    found = (_holds(part, live, came_true, seen) if isinstance(part, Need) else part in live for part in need.parts)
    true = all(found) if need.all_of else any(found)
    seen[key] = true
    if true:
        came_true.add(key)
    return true


def components(edges: Mapping[Tid, Collection[Tid]]) -> list[tuple[Tid, ...]]:
    """Return the strongly connected components of a graph, those without a way out first.

    Tarjan's algorithm without recursion; every node that is a key of `edges` is in exactly one.
    Nodes that are named and are no keys are left out.
    """
    index: dict[Tid, int] = {}
    low: dict[Tid, int] = {}
    on_stack: set[Tid] = set()
    stack: list[Tid] = []
    found: list[tuple[Tid, ...]] = []
    for start in edges:
        if start in index:
            continue
        work = [(start, iter(edges[start]))]
        index[start] = low[start] = len(index)
        stack.append(start)
        on_stack.add(start)
        while work:
            node, rest = work[-1]
            for following in rest:
                if following not in edges:
                    continue
                if following not in index:
                    index[following] = low[following] = len(index)
                    stack.append(following)
                    on_stack.add(following)
                    work.append((following, iter(edges[following])))
                    break
                if following in on_stack:
                    low[node] = min(low[node], index[following])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    cut = stack.index(node)
                    members = tuple(stack[cut:])
                    del stack[cut:]
                    on_stack.difference_update(members)
                    found.append(members)
    return found
