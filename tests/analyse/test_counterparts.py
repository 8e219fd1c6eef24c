"""Whom a chain goes on to, where everybody could: by what their code has still to call, and which locks it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qtrace.analyse.bystanders import TAKING, Able, able_by_text, still_to_call
from qtrace.analyse.explain import explain_snapshot
from qtrace.model.around import heads_around
from qtrace.model.ids import Fd, ObjectId, Tgid
from qtrace.model.kinds import ObjectKind, VerdictKind, WaitKind
from qtrace.model.loops import calls_ahead, calls_behind
from qtrace.model.snapshot import Frame, Holder, WaitObject, Want
from qtrace.model.verdict import Verdict
from tests.analyse.scenes import (
    SceneBuilder,
    bootstrap,
    frame,
    get_from_queue,
    join_process,
    join_thread,
    wants_child,
    wants_futex,
    wants_read,
    wants_shared,
)

APP = "/home/u/app.py"


def own(line: int, function: str, source: str, *ahead: str, around: tuple[str, ...] = ()) -> Frame:
    """Return a frame of the program that has still to call some things."""
    return replace(frame(f"{APP}:{line} {function}", source, *around), ahead=ahead)


def putting(line: int, function: str, *ahead: str) -> list[Frame]:
    """Return the stack of a thread that waits for room in a `queue.Queue`."""
    return [
        frame("threading.py:320 Condition.wait", self="<Condition at 0x7>"),
        frame("queue.py:140 Queue.put", self="<Queue at 0x8>"),
        own(line, function, "q.put(item)", *ahead),
    ]


def stages(main_ahead: tuple[str, ...] = (), second_ahead: tuple[str, ...] = ("forward.get",)) -> SceneBuilder:
    """Return a main thread that joins the first of two threads, both of which put into a full queue."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    join = join_thread("0x1")
    join[-1] = replace(join[-1], ahead=main_ahead)
    scene.thread(100, 100, "futex", wants_futex(100, 0x1), stack=join)
    scene.thread(
        101, 100, "futex", wants_futex(100, 0x2), name="T1", stack=[*putting(5, "a", "back.get"), *bootstrap("0x1")]
    )
    scene.thread(
        102, 100, "futex", wants_futex(100, 0x3), name="T2", stack=[*putting(9, "b", *second_ahead), *bootstrap("0x2")]
    )
    return scene


def test_a_circle_of_two_stages_does_not_lead_over_the_one_that_joins() -> None:
    """Each of them takes from the other's queue, by its code; the main thread never takes."""
    verdict = explain_snapshot(stages().snapshot())
    assert [wait.tid for wait in verdict.chain] == [100, 101, 102]
    assert verdict.cycle
    assert verdict.back_to == 1
    assert verdict.pattern == "both-ends-full"


def test_a_queue_whose_consumer_is_gone_is_not_for_the_joiner_to_drain() -> None:
    """Nobody's code takes any more: the consumer has ended, and the main thread only joins."""
    verdict = explain_snapshot(stages(second_ahead=("print",)).snapshot())
    assert verdict.pattern == "bounded-queue-no-consumer"


def test_one_who_joins_and_would_take_afterwards_joins_too_early() -> None:
    """The main thread's next line takes from the queue."""
    verdict = explain_snapshot(stages(main_ahead=("q.get",), second_ahead=("print",)).snapshot())
    assert verdict.pattern == "join-before-drain"


@pytest.mark.parametrize(
    ("ahead", "able"),
    [
        (("q.get",), Able.YES),
        (("os.environ.get", "print"), Able.NO),
        (("p.join", "q.put", "log.info"), Able.NO),
        (("collect",), Able.PERHAPS),
    ],
)
def test_what_code_will_take(ahead: tuple[str, ...], able: Able) -> None:
    """A call that nobody knows may do anything; of what is known only a get or a read takes."""
    assert able_by_text(frozenset(ahead) - {"os.environ.get"}, TAKING) is able
    assert still_to_call((own(3, "work", "x()", *ahead),)) == frozenset(ahead) - {"os.environ.get"}


def test_without_the_text_of_a_frame_nothing_is_known() -> None:
    """A file that could not be read says nothing."""
    assert still_to_call((own(3, "work", ""),)) is None
    assert still_to_call(()) is None


def test_what_a_function_has_still_to_call() -> None:
    """What is below in the function and in the loops around it; what has been passed does not count."""
    text = [
        "def collect(q):",
        "    return list(iter(q.get, None))",
        "def main():",
        "    first.put(1)",
        "    for p in workers:",
        "        p.start()",
        "        p.join()",
        "    collect(results)",
        "main()",
        "done()",
    ]
    assert calls_ahead(text, 7) == ("iter", "list", "p.join", "p.start", "q.get")
    assert calls_ahead(text, 9) == ("done",)
    assert calls_ahead(text, 99) == ()
    assert calls_behind(text, 7) == ("first.put", "p.start")
    assert calls_behind(text, 10) == ("main",)
    assert calls_behind(text, 99) == ()


def test_locks_around_a_line() -> None:
    """What a finished block gave back is not held; what failed between acquire and release may be."""
    finished = ["lock.acquire()", "try:", "    work()", "finally:", "    lock.release()", "p.join()"]
    assert heads_around(finished, 6) == ()
    assert heads_around(finished, 3) == ("try", "lock.acquire()")
    failed = ["try:", "    lock.acquire()", "    work()", "    lock.release()", "except ValueError:", "    p.join()"]
    assert heads_around(failed, 6) == ("except ValueError", "lock.acquire()?")
    mended = [*failed[:5], "    lock.release()", "    p.join()"]
    assert heads_around(mended, 7) == ("except ValueError",)


def explained_lock(holder: Frame, wanted: Frame) -> Verdict:
    """Return the verdict on a parent that joins a child, which wants a shared lock that the parent may hold."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name="P1")
    word = scene.semaphore(1, (100, 200))
    scene.thread(100, 100, "wait4", wants_child(200), stack=[*join_process()[:-1], holder])
    enter = frame("multiprocessing/synchronize.py:95 SemLock.__enter__", self="<Lock at 0x61>")
    scene.thread(200, 200, "futex", wants_shared(word), stack=[enter, wanted])
    return explain_snapshot(scene.snapshot())


@pytest.mark.parametrize("around", ["with lock", "lock.acquire()?"])
def test_a_lock_that_a_living_process_may_hold_has_no_dead_holder(around: str) -> None:
    """The parent's is a global, the child's an argument of the same name: nobody has died."""
    holder = frame(f"{APP}:20 <module>", "p.join()", around)
    verdict = explained_lock(holder, frame(f"{APP}:9 work", "with lock:", lock="<Lock at 0x61>"))
    assert verdict.pattern is None
    assert [wait.pid for wait in verdict.chain] == [100, 200]
    assert verdict.chain[1].providers[0].why == "may hold it, by its code"


def test_a_lock_of_another_name_is_not_the_one_that_is_wanted() -> None:
    """Nobody who lives stands where it is held."""
    holder = frame(f"{APP}:20 <module>", "p.join()", "with other")
    verdict = explained_lock(holder, frame(f"{APP}:9 work", "with lock:", lock="<Lock at 0x61>"))
    assert all(provider.why != "may hold it, by its code" for provider in verdict.chain[1].providers)


def test_who_waits_for_an_event_keeps_the_locks_around_it() -> None:
    """Only a condition gives back, while it waits, the lock that its caller took."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    for place, (waiting, known) in enumerate({"Event": True, "Condition": False}.items()):
        inner = [frame("threading.py:320 Condition.wait", self="<Condition at 0x7>")]
        if waiting == "Event":
            inner.append(frame("threading.py:600 Event.wait", self="<Event at 0x8>"))
        stack = [*inner, frame(f"{APP}:{place} main", "thing.wait()", "with lock")]
        scene.thread(100, 100, "futex", wants_futex(100, 0x1), stack=stack)
        taking = [frame(f"{APP}:9 work", "with lock:"), *bootstrap("0x2")]
        scene.thread(101, 100, "futex", wants_futex(100, 0x2), name="T1", stack=taking)
        verdict = explain_snapshot(scene.snapshot())
        providers = next(wait for wait in verdict.waits if wait.tid == 101).providers
        assert any("is inside `with lock`" in provider.why for provider in providers) is known


def test_who_is_inside_of_a_method_of_the_library_holds_its_objects_lock() -> None:
    """One thread logs inside of the handler that another one waits for; the main thread joins that other."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.thread(100, 100, "futex", wants_futex(100, 0x1), stack=join_thread("0x1"))
    handle = frame("logging/__init__.py:1026 Handler.handle", self="<Blocking at 0x5>")
    waits = [frame("logging/__init__.py:947 Handler.acquire", self="<Blocking at 0x5>"), handle, *bootstrap("0x1")]
    scene.thread(101, 100, "futex", wants_futex(100, 0x2), name="T1", stack=waits)
    inside = [*putting(7, "enqueue"), handle, *bootstrap("0x2")]
    scene.thread(102, 100, "futex", wants_futex(100, 0x3), name="T2", stack=inside)
    verdict = explain_snapshot(scene.snapshot())
    assert [wait.tid for wait in verdict.chain][:3] == [100, 101, 102]


def test_a_server_that_asks_itself_waits_for_nobody() -> None:
    """Connected and not accepted: the thread that accepts is the one that waits in a handler."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    listening = ObjectId("socket:[1]")
    asked = ObjectId("socket:[2]")
    holder = (Holder(Tgid(100), Fd(3), "rw"),)
    scene.objects[listening] = WaitObject(
        listening, ObjectKind.SOCKET, "listening TCP socket", listening=True, holders=holder
    )
    scene.objects[asked] = WaitObject(asked, ObjectKind.SOCKET, "TCP socket", 0, 1, holders=holder, peer=listening)
    scene.thread(100, 100, "futex", wants_futex(100, 0x1), stack=join_thread("0x1"))
    stack = [
        frame(f"{APP}:13 do_GET", "urlopen(url)"),
        frame("socketserver.py:348 BaseServer.process_request"),
        frame("socketserver.py:232 BaseServer.serve_forever"),
        *bootstrap("0x1"),
    ]
    want = Want(WaitKind.SOCKET_EMPTY, asked, Fd(5), "r", 1)
    scene.thread(101, 100, "recvfrom", want, name="server", stack=stack)
    verdict = explain_snapshot(scene.snapshot())
    assert [wait.tid for wait in verdict.chain] == [100, 101]
    assert not verdict.cycle
    assert verdict.pattern == "event-loop-blocked"


def test_a_reader_that_another_thread_should_answer_keeps_no_write_end_open() -> None:
    """Both ends are the process's own, and the thread that would write waits for something else."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    pipe = scene.pipe(7, readers=(100,), writers=(100,))
    scene.thread(100, 100, "read", wants_read(pipe), stack=[frame(f"{APP}:3 <module>", "os.read(r, 4)")])
    waits = [frame(f"{APP}:9 answer", "event.wait()"), *bootstrap("0x2")]
    waits[:0] = [frame("threading.py:320 Condition.wait"), frame("threading.py:600 Event.wait")]
    scene.thread(101, 100, "futex", wants_futex(100, 0x2), name="T1", stack=waits)
    assert explain_snapshot(scene.snapshot()).pattern != "own-write-end"


def pool_that_ends(task: list[Frame]) -> Verdict:
    """Return the verdict on a pool that is joined while its only worker is in a task."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name="W1")
    notes = scene.pipe(7, readers=(100,), writers=(100, 200))
    results = scene.pipe(8, readers=(100,), writers=(100, 200))
    event = scene.semaphore(1, (100, 200))
    scene.thread(100, 100, "futex", wants_futex(100, 0x1), stack=join_thread("0x1"))
    handler = [frame("selectors.py:415 _PollLikeSelector.select"), frame("multiprocessing/pool.py:502 Pool._wait")]
    handler += [frame("multiprocessing/pool.py:522 Pool._handle_workers"), *bootstrap("0x1")]
    scene.thread(101, 100, "poll", Want(WaitKind.POLL, notes, Fd(9), "r"), name="T1", stack=handler)
    taker = [*get_from_queue()[:3], frame("multiprocessing/pool.py:579 Pool._handle_results"), *bootstrap("0x3")]
    scene.thread(103, 100, "read", wants_read(results), name="T3", stack=taker)
    scene.thread(200, 200, "futex", wants_shared(event), stack=task)
    return explain_snapshot(scene.snapshot())


def test_a_pool_that_is_joined_waits_for_the_task_of_its_worker() -> None:
    """Not for the main thread, which could only wake the pool's worker handler."""
    task = [
        frame("multiprocessing/synchronize.py:268 Condition.wait"),
        frame("multiprocessing/synchronize.py:356 Event.wait", self="<Event at 0x8>"),
        own(14, "tail", "stop.wait()"),
        frame("multiprocessing/pool.py:125 worker"),
    ]
    verdict = pool_that_ends(task)
    assert [wait.tid for wait in verdict.chain] == [100, 101, 200]
    assert verdict.pattern == "missing-participant"


def test_one_who_would_set_the_event_is_not_missing() -> None:
    """The main thread's next line sets what the worker waits for: it waits for the worker first."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    join = join_thread("0x1")
    join[-1] = replace(join[-1], ahead=("go.set",))
    scene.thread(100, 100, "futex", wants_futex(100, 0x1), stack=join)
    waits = [
        frame("threading.py:320 Condition.wait"),
        frame("threading.py:600 Event.wait", self="<Event at 0x8>"),
        own(9, "work", "go.wait()"),
        *bootstrap("0x1"),
    ]
    scene.thread(101, 100, "futex", wants_futex(100, 0x2), name="T1", stack=waits)
    verdict = explain_snapshot(scene.snapshot())
    assert ([wait.tid for wait in verdict.chain], verdict.pattern) == ([100, 101], None)


def test_a_terminal_that_the_program_itself_plays_is_like_a_pipe() -> None:
    """The child writes to a pseudo terminal that is full; its parent holds the other side, and waits for its end."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name="build", argv=("build",))
    slave, master = ObjectId("tty:/dev/pts/5"), ObjectId("ptmx:5")
    for one, other, pid, fd in ((slave, master, 200, 1), (master, slave, 100, 3)):
        holders = (Holder(Tgid(pid), Fd(fd), "rw"),)
        scene.objects[one] = WaitObject(one, ObjectKind.TTY, "terminal /dev/pts/5", peer=other, holders=holders)
    scene.thread(100, 100, "wait4", wants_child(200), stack=[frame(f"{APP}:3 <module>", "os.waitpid(pid, 0)")])
    scene.thread(200, 200, "write", Want(WaitKind.EXTERNAL, slave, Fd(1), "w", 1))
    verdict = explain_snapshot(scene.snapshot())
    assert [wait.kind for wait in verdict.chain] == [WaitKind.CHILD_EXIT, WaitKind.PIPE_FULL]
    assert verdict.pattern == "popen-pipe-full"
    scene.process(100, name="app.py", in_tree=False)  # somebody outside plays it: a terminal like any other
    assert explain_snapshot(scene.snapshot()).kind is VerdictKind.EXTERNAL


def test_a_process_that_had_threads_may_have_lost_its_lock_with_one() -> None:
    """Alone it can only have taken the lock itself; with the heap of another thread in its memory not."""
    for had, pattern in ((False, "self-relock"), (True, "dead-lock-holder")):
        scene = SceneBuilder()
        scene.process(100, name="app.py", had_threads=had)
        scene.thread(100, 100, "futex", wants_futex(100), stack=[frame(f"{APP}:5 <module>", "with lock:")])
        assert explain_snapshot(scene.snapshot()).pattern == pattern
