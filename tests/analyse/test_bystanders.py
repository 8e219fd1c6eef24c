"""Threads that live and can help nobody, and loops that only ask again: by the text of their code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qtrace.analyse.explain import explain_snapshot
from qtrace.model.ids import Fd, ObjectId, Tid
from qtrace.model.kinds import Certainty, VerdictKind, WaitKind
from qtrace.model.loops import ending_calls, loop_calls
from qtrace.model.snapshot import Frame, Want
from qtrace.model.verdict import Verdict
from tests.analyse.scenes import (
    SceneBuilder,
    bootstrap,
    frame,
    get_from_queue,
    join_before_get,
    join_process,
    take_lock,
    wants_child,
    wants_futex,
    wants_read,
    wants_shared,
)

CLOCK = Want(WaitKind.SLEEP, ObjectId("clock"))


def lines(text: str) -> list[str]:
    return text.strip("\n").splitlines()


def in_loop(source: str, *calls: str, around: tuple[str, ...] = ("while True",)) -> Frame:
    return replace(frame("/home/u/app.py:13 watch", source, *around), calls=calls)


def with_heartbeat(*calls: str, stack: list[Frame] | None = None) -> Verdict:
    scene = join_before_get()
    frames = [in_loop("time.sleep(1)", *calls), *bootstrap("0xbeef")]
    scene.thread(102, 100, "clock_nanosleep", CLOCK, name="beat", stack=stack or frames, timeout_ns=9, moved=True)
    return explain_snapshot(scene.snapshot())


def test_what_a_loop_calls() -> None:
    """The innermost loop around the line, its condition included, and the functions of the file that it calls."""
    text = lines("""
def tick(self):
    if self.broken:
        raise OSError
    self.beat()

def watch(stop):
    setup()
    while not stop.wait(1):
        print(f"{len(jobs)}")  # close() is for later
        self.tick()
    teardown()
""")
    assert loop_calls(text, 9) == ("len", "print", "raise", "self.beat", "self.tick", "stop.wait")
    assert loop_calls(text, 7) == ()
    assert loop_calls(text, 11) == ()
    assert loop_calls(["while True: time.sleep(0.5)"], 1) == ("time.sleep",)
    assert loop_calls(["while n < 3:", "    n += 1", "    with lock:", "        q.get(timeout=1)"], 4) == (
        "+=",
        "q.get",
        "with",
    )


def test_a_heartbeat_does_not_make_a_hang_alive() -> None:
    """The circle of the article stays one beside a thread that only sleeps and prints; the assumption names it."""
    verdict = with_heartbeat("time.sleep", "print", "time.strftime")
    assert (verdict.kind, verdict.certainty) == (VerdictKind.DEADLOCK, Certainty.LIKELY)
    assert any(live.tid == 102 for live in verdict.live)


@pytest.mark.parametrize("call", ["self.check", "q.get", "os.kill", "with", "conn.recv", "p.terminate", "lock.release"])
def test_whoever_calls_more_may_help(call: str) -> None:
    """One call that is not known to be harmless makes it one that may."""
    assert with_heartbeat("time.sleep", call).kind is VerdictKind.TIMED


def test_without_text_everybody_may_help() -> None:
    """A loop that could not be read, and frames of another file below it, tell nothing."""
    assert with_heartbeat().kind is VerdictKind.TIMED
    below = frame("/home/u/other.py:3 pause", "time.sleep(1)")
    stack = [below, in_loop("pause()", "time.sleep"), *bootstrap("0xbeef")]
    assert with_heartbeat(stack=stack).kind is VerdictKind.TIMED


def test_a_main_thread_that_is_parked_is_no_hang() -> None:
    """Event().wait() while other threads do the work, whatever that is."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    parked = [
        frame("threading.py:320 Condition.wait", self="<Condition at 0x9>"),
        frame("threading.py:629 Event.wait", self="<Event at 0x8>"),
        frame("/home/u/app.py:9 <module>", "threading.Event().wait()"),
    ]
    scene.thread(100, 100, "futex", wants_futex(100), stack=parked)
    beat = [in_loop("time.sleep(1)", "time.sleep", "print"), *bootstrap("0xbeef")]
    scene.thread(101, 100, "clock_nanosleep", CLOCK, stack=beat, timeout_ns=9, moved=True)
    assert explain_snapshot(scene.snapshot()).kind is VerdictKind.TIMED


def test_what_a_bystander_prints_reaches_its_reader() -> None:
    """The parent reads the output of a child whose one thread prints now and then."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name="child.py")
    output = scene.pipe(7, readers=(100,), writers=(200,), writer_fd=1)
    scene.thread(100, 100, "read", wants_read(output), stack=[frame("/home/u/app.py:9 <module>", "p.stdout.read()")])
    scene.thread(200, 200, "read", wants_read(scene.pipe(8, readers=(200,), writers=(100,))))
    beat = [in_loop("time.sleep(1)", "time.sleep", "print"), *bootstrap("0xbeef")]
    scene.thread(201, 200, "clock_nanosleep", CLOCK, stack=beat, timeout_ns=9, moved=True)
    assert explain_snapshot(scene.snapshot()).kind is VerdictKind.TIMED


def asking(*calls: str, around: tuple[str, ...] = ("try", "while True")) -> Verdict:
    """A collector that asks a queue with a timeout, and a worker that waits for work from it."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name="Process-1")
    results = scene.pipe(7, readers=(100, 200), writers=(100, 200))
    work = scene.pipe(8, readers=(100, 200), writers=(100, 200))
    stack = [
        frame("selectors.py:415 _PollLikeSelector.select"),
        frame("multiprocessing/connection.py:930 wait"),
        frame("multiprocessing/connection.py:257 _ConnectionBase.poll"),
        frame("multiprocessing/queues.py:113 Queue.get", self="<Queue at 0x52>"),
        in_loop("item = results.get(timeout=0.3)", *calls, around=around),
    ]
    want = Want(WaitKind.PIPE_EMPTY, results, Fd(3), "r")
    scene.thread(100, 100, "poll", want, stack=stack, timeout_ns=300_000_000, moved=True)
    scene.thread(200, 200, "read", wants_read(work), stack=get_from_queue())
    assert Tid(100) in scene.threads
    return explain_snapshot(scene.snapshot())


def test_a_loop_that_only_asks_again_is_a_livelock() -> None:
    """The worker waits for work from a loop that never sends any."""
    assert asking("results.get", "len", "print", "break").kind is VerdictKind.LIVELOCK


@pytest.mark.parametrize("call", ["work.put", "time.monotonic", "+= break", "raise", "self.step"])
def test_a_loop_that_does_more_or_counts_may_end(call: str) -> None:
    """It may feed the worker, or give up by the clock or after so many rounds."""
    assert asking("results.get", *call.split()).kind is VerdictKind.TIMED


def test_a_count_that_ends_nothing_is_none() -> None:
    """It only says how often it has asked: the loop has no way out, and its condition looks at nothing else."""
    assert asking("results.get", "+=", "print").kind is VerdictKind.LIVELOCK
    counted = asking("results.get", "+=", around=("try", "while tries < 3"))
    assert counted.kind is VerdictKind.TIMED


def test_a_lock_that_is_asked_for_again_and_again_waits_in_vain() -> None:
    """acquire(timeout=...) is C code: only the line shows it. Its holder has ended."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name="Process-1")
    scene.thread(100, 100, "wait4", wants_child(200))
    source = "while not self.seats.acquire(timeout=0.2):"
    stack = [replace(frame("/home/u/app.py:13 Licence.__enter__", source), calls=("+=", "print", "self.seats.acquire"))]
    want = wants_shared(scene.semaphore(1, (100, 200)))
    scene.thread(200, 200, "futex", want, stack=stack, timeout_ns=200_000_000, moved=True)
    verdict = explain_snapshot(scene.snapshot())
    assert verdict.kind is VerdictKind.LIVELOCK


def test_a_timeout_that_is_not_caught_ends_the_loop() -> None:
    """queue.Empty leaves a loop without `try`."""
    assert asking("results.get", around=("while True",)).kind is VerdictKind.TIMED


def test_what_is_still_to_be_called_and_ends_processes() -> None:
    """Below the line in its function, in the loop around it, and in what is called there; not above, not elsewhere."""
    text = lines("""
def stop(p):
    p.terminate()

def watch(p):
    p.send_signal(10)
    time.sleep(30)
    stop(p)

def other():
    time.sleep(1)
    def never():
        os._exit(1)

while True:
    time.sleep(5)
    os.kill(pid, 9)
""")
    assert ending_calls(text, 6) == ("p.terminate",)
    assert ending_calls(text, 10) == ()
    assert ending_calls(text, 15) == ("os.kill",)
    assert ending_calls(text, 99) == ()


@pytest.mark.parametrize(("where", "ends"), [(100, ("p.terminate",)), (200, ("os._exit",))])
def test_a_watchdog_that_will_end_the_process_keeps_the_program_going(where: int, ends: tuple[str, ...]) -> None:
    """The child waits for itself, for ever; a thread of its parent, or of its own, sleeps and then ends it."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name="Process-1")
    scene.thread(100, 100, "wait4", wants_child(200), stack=join_process())
    stack = [*take_lock("lock"), frame("/home/u/app.py:9 work", "inner()", "with lock")]
    scene.thread(200, 200, "futex", wants_futex(200), stack=stack)
    assert explain_snapshot(scene.snapshot()).kind is VerdictKind.ORPHANED
    sleeps = replace(frame("/home/u/app.py:30 watch", "time.sleep(30)"), ends=ends)
    scene.thread(where + 1, where, "clock_nanosleep", CLOCK, stack=[sleeps, *bootstrap("0xbeef")], timeout_ns=9)
    assert explain_snapshot(scene.snapshot()).kind is VerdictKind.TIMED
    # What the parent's thread ends is a child: Popen.terminate of a thread of the child means another.
    scene.threads[Tid(where + 1)] = replace(
        scene.threads[Tid(where + 1)], stack=(replace(sleeps, ends=()), *bootstrap("0xbeef"))
    )
    assert explain_snapshot(scene.snapshot()).kind is VerdictKind.ORPHANED
