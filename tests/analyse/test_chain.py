"""The chain on random graphs: every link waits for the next, and it ends where it must."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from qtrace.analyse.explain import explain_snapshot, graph_of
from qtrace.model.ids import ObjectId, Tgid, Tid
from qtrace.model.kinds import ObjectKind, VerdictKind, WaitKind
from qtrace.model.snapshot import WaitObject, Want
from tests.analyse.scenes import SceneBuilder, frame, wants_child, wants_futex, wants_read, wants_shared

FIRST = 100
RUNS, GONE = -1, -2


def mutexes(owners: list[int]) -> SceneBuilder:
    """Return a process whose thread number i waits for a mutex that thread owners[i] owns, or runs."""
    scene = SceneBuilder()
    scene.process(FIRST, name="app.py")
    for place, owner in enumerate(owners):
        if owner == RUNS:
            scene.thread(FIRST + place, FIRST, None, state="R", moved=True)
            continue
        want = wants_futex(FIRST, 0x1000 + 16 * place)
        owned_by = Tid(FIRST + (owner if owner != GONE else place))
        scene.objects[want.object_id] = WaitObject(
            want.object_id, ObjectKind.FUTEX, "lock", value=2, owner_tid=owned_by, holders=()
        )
        scene.thread(FIRST + place, FIRST, "futex", want)
    return scene


def ends_well(owners: list[int], place: int) -> bool:
    """Follow the owners until one runs; a circle or one that is gone never ends."""
    seen: set[int] = set()
    while place not in seen and place >= 0:
        seen.add(place)
        place = owners[place]
    return place == RUNS


@st.composite
def owner_lists(draw: st.DrawFn) -> list[int]:
    size = draw(st.integers(1, 9))
    return draw(st.lists(st.integers(-2, size - 1), min_size=size, max_size=size))


@given(owner_lists())
def test_who_is_stuck_is_who_never_reaches_a_running_thread(owners: list[int]) -> None:
    """Each mutex has one owner, so the truth is a walk; a mutex owned by its waiter is orphaned."""
    owners = [GONE if owner == place else owner for place, owner in enumerate(owners)]
    _, graph = graph_of(mutexes(owners).snapshot())
    expected = {FIRST + place for place, owner in enumerate(owners) if owner != RUNS and not ends_well(owners, place)}
    assert {int(tid) for tid in graph.stuck} == expected
    assert graph.proven == graph.stuck


@given(owner_lists())
def test_every_link_waits_for_the_next_and_the_last_for_nobody_or_for_a_link(owners: list[int]) -> None:
    """And the verdict is deadlock exactly if the chain closes."""
    owners = [GONE if owner == place else owner for place, owner in enumerate(owners)]
    verdict = explain_snapshot(mutexes(owners).snapshot())
    links = [int(wait.tid) - FIRST for wait in verdict.chain]
    assert len(set(links)) == len(links)
    for place, following in itertools.pairwise(links):
        assert owners[place] == following
    if verdict.kind in (VerdictKind.DEADLOCK, VerdictKind.ORPHANED):
        assert verdict.cycle == (verdict.kind is VerdictKind.DEADLOCK) == (owners[links[-1]] in links)
        assert verdict.cycle or owners[links[-1]] == GONE


def test_a_circle_beside_the_way_is_found_too() -> None:
    """Main waits for either of two that wait for one another: the circle is theirs, not main's."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name="A")
    scene.process(300, 100, name="B")
    scene.thread(100, 100, "wait4", wants_child(200))
    word = {200: scene.semaphore(1, (100, 200, 300)), 300: scene.semaphore(2, (100, 200, 300))}
    for pid in (200, 300):
        scene.thread(pid, pid, "futex", wants_shared(word[pid]))
    verdict = explain_snapshot(scene.snapshot())
    assert [wait.pid for wait in verdict.chain] == [100, 200, 300]
    assert verdict.cycle


def test_under_fork_the_next_of_a_ring_is_the_one_that_was_given_the_other_end() -> None:
    """Everybody inherits every end, and main joins: the ring of three senders is the circle."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    pids = (200, 300, 400)
    everybody = (100, *pids)
    scene.thread(100, 100, "wait4", wants_child(200), stack=[frame("multiprocessing/process.py:149 BaseProcess.join")])
    for number, pid in enumerate(pids):
        scene.process(pid, 100, name="ABC"[number])
        pipe = scene.pipe(number, everybody, everybody, 65_000)
        own, other = f"<Connection at 0x{number}a>", f"<Connection at 0x{number}b>"
        stack = [
            frame("multiprocessing/connection.py:384 Connection._send", self=own),
            frame("multiprocessing/connection.py:206 _ConnectionBase.send", self=own),
            frame("/home/u/app.py:5 stage", "w.send(big)", r=other, w=own),
        ]
        scene.thread(pid, pid, "write", Want(WaitKind.PIPE_FULL, pipe, None, "w", 1), stack=stack)
    verdict = explain_snapshot(scene.snapshot())
    assert verdict.cycle
    assert {wait.pid for wait in verdict.chain[1:]} <= set(pids)
    assert verdict.pattern == "both-ends-full"


def test_a_thousand_threads_that_share_one_process_are_explained() -> None:
    """All wait, nobody can tell for whom: a chain all the same, with a bounded list of providers."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    for number in range(1_000):
        scene.thread(100 + number, 100, "futex", wants_futex(100, 0x1000 + 16 * number))
    verdict = explain_snapshot(scene.snapshot())
    assert verdict.kind is VerdictKind.DEADLOCK
    assert len(verdict.stuck_tids) == 1_000
    assert all(len(wait.providers) <= 100 for wait in verdict.waits)


def test_independent_parts_are_told_apart_and_the_roots_comes_first() -> None:
    """Two children hang for reasons of their own, and main for the first of them."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.thread(100, 100, "wait4", wants_child(200))
    for pid in (200, 300):
        scene.process(pid, 100, name=f"P{pid}")
        scene.thread(pid, pid, "read", wants_read(scene.pipe(pid, (pid,), (pid,))))
    verdict = explain_snapshot(scene.snapshot())
    assert [wait.pid for wait in verdict.chain] == [100, 200]
    assert verdict.stuck_tids == {Tid(100), Tid(200), Tid(300)}
    assert ObjectId("pipe:[300]") in {wait.target.object_id for wait in verdict.waits if wait.target is not None}
    assert Tgid(300) in {wait.pid for wait in verdict.waits}
