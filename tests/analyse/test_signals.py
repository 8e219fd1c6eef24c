"""Signals that may end a wait: an alarm, a descriptor that handlers write to; and handlers that hang themselves."""

from __future__ import annotations

import pytest

from qtrace.analyse.explain import explain_snapshot
from qtrace.capture.privacy import for_storing
from qtrace.model.ids import Tid
from qtrace.model.kinds import STUCK, ObjectKind, VerdictKind, WaitKind
from qtrace.model.snapshot import WaitObject
from tests.analyse.scenes import SceneBuilder, bootstrap, frame, get_from_queue, wants_futex, wants_read

APP = "/home/u/app.py"
SIGALRM, SIGTERM, SIGCHLD = 14, 15, 17


def caught(*signals: int) -> int:
    """Return signals as SigCgt of /proc/PID/status has them."""
    return sum(1 << (signal - 1) for signal in signals)


def reads_its_own_pipe(*signals: int) -> SceneBuilder:
    """Return a process that reads from a pipe of which it holds both ends itself."""
    scene = SceneBuilder()
    scene.process(100, name="app.py", caught_signals=caught(*signals))
    pipe = scene.pipe(7, readers=(100,), writers=(100,))
    stack = [frame(f"{APP}:9 child_output", "while chunk := os.read(r, 4096):", "while chunk := os.read(r, 4096)")]
    scene.thread(100, 100, "read", wants_read(pipe, 4096), stack=stack)
    return scene


def test_an_alarm_may_interrupt_a_wait() -> None:
    """Its handler may raise an exception, and the timer shows nowhere: without one it is stuck."""
    assert explain_snapshot(reads_its_own_pipe().snapshot()).kind in STUCK
    assert explain_snapshot(reads_its_own_pipe(SIGALRM).snapshot()).kind is VerdictKind.TIMED


def test_a_child_that_ends_writes_to_the_wakeup_descriptor() -> None:
    """signal.set_wakeup_fd: while a child lives, SIGCHLD may come; when all have ended, it does not."""
    for state, kind in (("S", VerdictKind.RUNNING), ("Z", None)):
        scene = reads_its_own_pipe(SIGCHLD)
        scene.process(200, 100, name="sleep", python=False, state=state)
        if state == "S":
            scene.thread(200, 200, None, state="R")
        verdict = explain_snapshot(scene.snapshot())
        assert verdict.kind is kind if kind is not None else verdict.kind in STUCK


def test_who_waits_for_a_queue_waits_for_no_signal() -> None:
    """Every process that knows a queue holds both its ends: a handler of SIGTERM does not put into it."""
    scene = SceneBuilder()
    scene.process(100, name="app.py", caught_signals=caught(SIGTERM))
    queue = scene.pipe(7, readers=(100,), writers=(100,))
    scene.thread(100, 100, "read", wants_read(queue), stack=get_from_queue())
    assert explain_snapshot(scene.snapshot()).kind in STUCK
    results = [*get_from_queue()[:3], frame("multiprocessing/pool.py:579 Pool._handle_results"), *bootstrap("0x3")]
    scene.thread(101, 100, "read", wants_read(queue), name="T1", stack=results)
    assert explain_snapshot(scene.snapshot()).kind in STUCK


def test_a_wait_for_the_interpreter_lock_is_no_wait_with_a_limit() -> None:
    """CPython asks again every 5 ms: whoever has the lock and never lets go of it is proven to."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    mutex = wants_futex(100, 0x5)
    scene.objects[mutex.object_id] = WaitObject(mutex.object_id, ObjectKind.FUTEX, "lock", owner_tid=Tid(101))
    scene.thread(100, 100, "futex", mutex, stack=[frame(f"{APP}:3 <module>", "native()")], owns_gil=True)
    gil = wants_futex(100, 0x6)
    binary = "/usr/bin/python3"
    scene.objects[gil.object_id] = WaitObject(gil.object_id, ObjectKind.FUTEX, "lock", mapping=binary)
    stack = [frame(f"{APP}:9 work", "time.sleep(1)"), *bootstrap("0x1")]
    scene.thread(101, 100, "futex", gil, name="T1", stack=stack, timeout_ns=5_000_000)
    verdict = explain_snapshot(scene.snapshot())
    assert (verdict.kind, verdict.assumptions) == (VerdictKind.DEADLOCK, ())


@pytest.mark.parametrize("arguments", ["<frame at 0x7f01>", "(14, <frame object at 0x7f01>)"])
def test_no_alarm_interrupts_a_handler_that_waits_for_its_own_lock(arguments: str) -> None:
    """The interrupted code holds it. A recording keeps that a frame is among a handler's arguments, and no data."""
    scene = SceneBuilder()
    scene.process(100, name="app.py", caught_signals=caught(SIGALRM))
    stack = [
        frame("threading.py:304 Condition.__enter__", self="<Condition at 0x7>"),
        frame("queue.py:140 Queue.put", self="<Queue at 0x8>"),
        frame(f"{APP}:3 on_alarm", "q.put(1)", _=arguments, secret="'word'"),
        frame("queue.py:180 Queue.get", self="<Queue at 0x8>"),
        frame(f"{APP}:9 <module>", "q.get()"),
    ]
    scene.thread(100, 100, "futex", wants_futex(100), stack=stack)
    stored = for_storing(scene.snapshot())
    assert "word" not in str(stored)
    for snapshot in (scene.snapshot(), stored):
        verdict = explain_snapshot(snapshot)
        assert (verdict.kind, verdict.pattern) == (VerdictKind.ORPHANED, "signal-handler-reentry")
        assert verdict.chain[0].kind is WaitKind.LOCK
