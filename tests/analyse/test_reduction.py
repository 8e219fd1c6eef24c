"""The reduction against a brute force, and what the corner cases mean."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qtrace.analyse.reduction import ALWAYS, NEVER, Need, all_of, any_of, components, live_threads
from qtrace.model.ids import Tid

TIDS = [Tid(number) for number in range(1, 8)]

needs = st.recursive(
    st.sampled_from(TIDS),
    lambda parts: st.builds(Need, st.lists(parts, max_size=4).map(tuple), st.booleans()),
    max_leaves=6,
).map(lambda part: part if isinstance(part, Need) else Need((part,)))


def brute_force(graph: dict[Tid, Need]) -> set[Tid]:
    """Wake whoever can be woken, from scratch, until nothing changes."""

    def true(need: Need, live: set[Tid]) -> bool:
        results = [true(p, live) if isinstance(p, Need) else p in live for p in need.parts]
        return all(results) if need.all_of else any(results)

    live: set[Tid] = set()
    for _ in graph:
        live = {tid for tid in graph if true(graph[tid], live)}
    return live


@given(st.dictionaries(st.sampled_from(TIDS), needs))
def test_the_reduction_finds_what_a_brute_force_finds(graph: dict[Tid, Need]) -> None:
    """Any-of and all-of mixed and nested, with needs for threads that are dead."""
    assert set(live_threads(graph)) == brute_force(graph)


@given(st.dictionaries(st.sampled_from(TIDS), st.sets(st.sampled_from(TIDS))))
def test_components_are_the_classes_of_mutual_reach(graph: dict[Tid, set[Tid]]) -> None:
    """Two nodes share a component exactly if each reaches the other."""

    def reach(start: Tid) -> set[Tid]:
        seen: set[Tid] = {start}
        while True:
            more = {n for node in seen for n in graph.get(node, ()) if n in graph} | seen
            if more == seen:
                return seen
            seen = more

    found = components(graph)
    assert sorted(tid for members in found for tid in members) == sorted(graph)
    for members in found:
        for tid in members:
            assert set(members) == {other for other in reach(tid) if tid in reach(other)}
    places = {tid: place for place, members in enumerate(found) for tid in members}
    assert all(places[n] <= places[t] for t in graph for n in graph[t] if n in graph)


def test_a_thread_is_not_its_own_provider() -> None:
    """A wait that only the waiter itself could end never ends."""
    assert live_threads({Tid(1): any_of([Tid(1)])}) == frozenset()


def test_any_one_is_enough_and_all_means_all() -> None:
    """One live provider wakes an any-of wait, and does not wake an all-of wait."""
    one, two, three = TIDS[:3]
    graph = {one: ALWAYS, two: NEVER}
    assert three in live_threads({**graph, three: any_of([one, two])})
    assert three not in live_threads({**graph, three: all_of([one, two])})
