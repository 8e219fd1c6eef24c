"""Patterns without Python lines, as in a log of strace: named by the kernel's facts alone, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qtrace.analyse.explain import explain_snapshot
from qtrace.model.ids import ObjectId, Tgid, Tid
from qtrace.model.kinds import ObjectKind, PatternId, VerdictKind, WaitKind
from qtrace.model.snapshot import WaitObject, Want
from qtrace.model.verdict import Verdict
from tests.analyse.scenes import (
    SceneBuilder,
    join_before_get,
    wants_child,
    wants_futex,
    wants_read,
    wants_shared,
    wants_write,
)
from tests.analyse.test_patterns import STUCK, Scene


def bare(built: SceneBuilder) -> Verdict:
    """Return the verdict on a scene of which no Python line is known."""
    built.threads = {tid: replace(thread, stack=()) for tid, thread in built.threads.items()}
    return explain_snapshot(built.snapshot())


def two(child_kind: str = "child") -> SceneBuilder:
    """Return app.py (100) and its child (200)."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name=child_kind)
    return scene


_ALSO = {
    # What the frames would tell apart and the kernel does not: a queue of the program's own is a pipe, too.
    PatternId.EXIT_BEFORE_DRAIN: (PatternId.SELF_PIPE_FULL, PatternId.JOIN_BEFORE_DRAIN),
    PatternId.PRODUCER_GONE: (PatternId.OWN_WRITE_END,),
}


@pytest.mark.parametrize(("pattern", "kind", "scene"), STUCK, ids=[scene.__name__ for _, _, scene in STUCK])
def test_a_cause_keeps_its_name_or_has_none(pattern: PatternId, kind: VerdictKind, scene: Scene) -> None:
    """No futex is called a lock that might be a condition, and no message that is awaited the end of a stream."""
    del kind
    verdict = bare(scene())
    assert verdict.pattern in (None, pattern, *_ALSO.get(pattern, ()))


def test_the_first_program_of_the_article_has_its_name() -> None:
    """Child's exit, a word of the child's own memory, a full pipe that only the parent could read."""
    verdict = bare(join_before_get())
    assert (verdict.kind, verdict.pattern) == (VerdictKind.DEADLOCK, PatternId.JOIN_BEFORE_DRAIN)
    assert "the main thread of Process-1 waits for the thread that writes to end" in verdict.assumptions
    assert verdict.headline.startswith("app.py waits for Process-1 to end, ")
    assert verdict.evidence == {"pipe_bytes": 61_500, "pipe_capacity": 65_536}
    assert verdict.advice


def test_a_pipe_that_the_waiting_parent_cannot_read_is_no_undrained_queue() -> None:
    """The same chain, but the parent has no read end: a thread of the child has."""
    scene = join_before_get()
    scene.objects.clear()
    pipe = scene.pipe(7, readers=(200,), writers=(100, 200), bytes=61_500)
    scene.threads[Tid(201)] = replace(scene.threads[Tid(201)], wants=(wants_write(pipe),))
    assert bare(scene).pattern is not PatternId.JOIN_BEFORE_DRAIN


def test_stages_that_all_write_are_not_an_undrained_queue() -> None:
    """A parent waits for the first of three that fill one another's pipes."""
    scene = two()
    scene.process(300, 100, name="other")
    everyone = (100, 200, 300)
    there, back = (scene.pipe(n, readers=everyone, writers=everyone, bytes=65_536) for n in (7, 8))
    scene.thread(100, 100, "wait4", wants_child(200))
    scene.thread(200, 200, "write", wants_write(there))
    scene.thread(300, 300, "write", wants_write(back))
    assert bare(scene).pattern in (None, PatternId.BOTH_ENDS_FULL)


def test_two_futexes_in_a_circle_are_no_lock_order_unless_the_owner_is_known() -> None:
    """Threads that join each other stand as two that want each other's lock: only an owner's id tells."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    for tid, address in ((100, 0x10), (101, 0x20)):
        scene.thread(tid, 100, "futex", wants_futex(100, address))
    assert bare(scene).pattern is None
    for address, owner in ((0x10, 101), (0x20, 100)):
        name = ObjectId(f"futex:100:{address:#x}")
        scene.objects[name] = WaitObject(
            name, ObjectKind.FUTEX, "lock", owner_pid=Tgid(100), owner_tid=Tid(owner), value=2
        )
    assert bare(scene).pattern is PatternId.LOCK_ORDER


def test_a_lock_of_a_process_that_crashed_needs_more_than_the_crash() -> None:
    """A child died, and two wait on a shared word: that is no proof that it held it."""
    scene = two()
    word = scene.semaphore(1, (100, 200))
    for tid in (100, 200):
        scene.thread(tid, tid, "futex", wants_shared(word))
    assert bare(scene).pattern is None


@pytest.mark.parametrize(("asked", "pattern"), [(4, None), (4_096, PatternId.OWN_WRITE_END)])
def test_who_asks_for_a_length_does_not_wait_for_the_end_of_a_stream(asked: int, pattern: PatternId | None) -> None:
    """The last writer is the reader itself; four bytes are the head of a message."""
    scene = two()
    pipe = scene.pipe(7, readers=(100,), writers=(100,))
    scene.thread(100, 100, "read", wants_read(pipe, asked))
    scene.processes.pop(Tgid(200))
    assert bare(scene).pattern is pattern


def test_an_event_loop_that_nobody_wakes_keeps_no_end_open() -> None:
    """It polls the socket by which its own threads wake it."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.objects[ObjectId("socket:[1]")] = WaitObject(
        ObjectId("socket:[1]"), ObjectKind.SOCKET, "unix socket", peer=ObjectId("socket:[2]")
    )
    scene.objects[ObjectId("socket:[2]")] = WaitObject(
        ObjectId("socket:[2]"), ObjectKind.SOCKET, "unix socket", peer=ObjectId("socket:[1]")
    )
    scene.thread(100, 100, "epoll_wait", Want(WaitKind.SOCKET_EMPTY, ObjectId("socket:[1]")))
    assert bare(scene).pattern is None


@pytest.mark.parametrize(("moved", "kind"), [(True, VerdictKind.RUNNING), (False, VerdictKind.EXTERNAL)])
def test_a_call_that_nothing_is_known_of_is_a_wait_only_where_it_lasts(moved: bool, kind: VerdictKind) -> None:
    """Who has made others in between goes on."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.thread(100, 100, "io_uring_enter", moved=moved)
    assert explain_snapshot(scene.snapshot()).kind is kind
