"""Each known cause by name, on scenes built by hand: the cause, the form of the chain, the evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from qtrace.analyse.explain import explain_snapshot
from qtrace.model.around import heads_around
from qtrace.model.ids import Fd, ObjectId, Tgid, Tid
from qtrace.model.kinds import STUCK as STUCK_KINDS
from qtrace.model.kinds import Certainty, ObjectKind, PatternId, VerdictKind, WaitKind
from qtrace.model.snapshot import Death, Framing, History, Holder, WaitObject, Want
from qtrace.model.verdict import Verdict
from tests.analyse.scenes import (
    SceneBuilder,
    bootstrap,
    feeding,
    frame,
    get_from_queue,
    join_before_get,
    join_process,
    join_thread,
    take_lock,
    wait_for_read_lock,
    wants_child,
    wants_futex,
    wants_read,
    wants_shared,
    wants_write,
)

Scene = Callable[[], SceneBuilder]


def pair(child: str = "P", **facts: object) -> SceneBuilder:
    """Return a parent 100 and a child 200 without threads."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name=child, **facts)
    return scene


def joins_child(scene: SceneBuilder, pid: int = 200) -> None:
    scene.thread(100, 100, "wait4", wants_child(pid), stack=join_process())


def killed(pid: int, name: str, signal: int | None = 9, code: int | None = None) -> History:
    return History(deaths=(Death(Tid(pid), Tgid(pid), name, 1_000, code, signal),))


def torn_by_frames() -> SceneBuilder:
    scene = pair("Process-1", state="Z", exit_code=0)
    queue = scene.pipe(7, readers=(100,), writers=(100,))
    stack = get_from_queue(size="1000000", remaining="934468")
    stack[1] = frame("multiprocessing/connection.py:430 Connection._recv_bytes", size="1000000")
    scene.thread(100, 100, "read", wants_read(queue, 934_468), stack=stack)
    return scene


def torn_by_recording() -> SceneBuilder:
    scene = pair("Process-1", state="X", exit_code=0)
    scene.process(300, 100, name="other")
    queue = scene.pipe(7, readers=(100, 300), writers=(100, 300))
    scene.thread(100, 100, "read", wants_read(queue, 4096), stack=get_from_queue())
    scene.thread(300, 300, "futex", wants_shared(scene.semaphore(1, (100, 300))), stack=wait_for_read_lock())
    framing = Framing(queue, 65_596, 61_500, 61_500, Tgid(200), Tid(201))
    scene.history = History(framing={queue: framing}, deaths=killed(200, "Process-1", None, 0).deaths)
    return scene


def killed_in_get() -> SceneBuilder:
    scene = pair("B")
    joins_child(scene)
    word = scene.semaphore(1, (100, 200))
    scene.thread(200, 200, "futex", wants_shared(word), stack=wait_for_read_lock())
    scene.history = killed(300, "A")
    return scene


def lock_circle() -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.thread(100, 100, "futex", wants_futex(100, 0x1), stack=join_thread("0x1"))
    first = [*take_lock("b", "with a", line=5), *bootstrap("0x1")]
    second = [*take_lock("a", "with b", line=9), *bootstrap("0x2")]
    scene.thread(101, 100, "futex", wants_futex(100, 0x2), name="T1", stack=first)
    scene.thread(102, 100, "futex", wants_futex(100, 0x3), name="T2", stack=second)
    return scene


def file_lock_circle() -> SceneBuilder:
    scene = pair("P1")
    scene.process(300, 100, name="P2")
    joins_child(scene)
    for pid, number, owner in ((200, 2, 300), (300, 1, 200)):
        lock = ObjectId(f"lock:8:{number}")
        holders = (Holder(Tgid(200), Fd(3)), Holder(Tgid(300), Fd(3)))
        scene.objects[lock] = WaitObject(
            lock, ObjectKind.FILE_LOCK, f"/tmp/{number}.lock", owner_pid=Tgid(owner), holders=holders
        )
        scene.thread(pid, pid, "flock", Want(WaitKind.FILE_LOCK, lock, Fd(3)), stack=take_lock("f"))
    return scene


def relock() -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    stack = [*take_lock("lock"), frame("/home/u/app.py:9 <module>", "inner()", "with lock")]
    scene.thread(100, 100, "futex", wants_futex(100), stack=stack)
    return scene


def relock_by_acquire() -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    stack = [frame("/home/u/app.py:5 <module>", "lock.acquire()")]
    scene.thread(100, 100, "futex", wants_futex(100), stack=stack)
    return scene


def file_locked_twice() -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    lock = ObjectId("lock:8:1")
    holders = (Holder(Tgid(100), Fd(3)), Holder(Tgid(100), Fd(4)))
    scene.objects[lock] = WaitObject(lock, ObjectKind.FILE_LOCK, "/tmp/l", owner_pid=Tgid(100), holders=holders)
    scene.thread(100, 100, "flock", Want(WaitKind.FILE_LOCK, lock, Fd(4)), stack=take_lock("f"))
    return scene


def locks_taken_by_acquire() -> SceneBuilder:
    scene = pair("Process-1")
    words = [scene.semaphore(number, (100, 200)) for number in (1, 2)]
    for pid, wanted, held in ((100, 1, 0), (200, 0, 1)):
        source = f"lock_{wanted}.acquire()"
        stack = [frame(f"/home/u/app.py:{pid} work", source, f"lock_{held}.acquire()")]
        scene.thread(pid, pid, "futex", wants_shared(words[wanted]), stack=stack)
    return scene


def holder_gone_without_a_trace() -> SceneBuilder:
    # The joiner shares the lock's memory, and has nothing to do with it.
    scene = pair("Process-2")
    joins_child(scene)
    scene.thread(200, 200, "futex", wants_shared(scene.semaphore(1, (100, 200))), stack=take_lock("lock"))
    return scene


def handler() -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    stack = [
        frame("threading.py:271 Condition.__enter__", self="<Condition at 0x9>"),
        frame("queue.py:133 Queue.put", self="<Queue at 0x7>"),
        frame("/home/u/app.py:4 on_alarm", "q.put(1)", number="14", frame="<frame at 0x77>"),
        frame("queue.py:171 Queue.get", self="<Queue at 0x7>"),
        frame("/home/u/app.py:8 <module>", "q.get()"),
    ]
    scene.thread(100, 100, "futex", wants_futex(100), stack=stack)
    return scene


def forked_with_lock() -> SceneBuilder:
    scene = pair("Process-1")
    joins_child(scene)
    scene.thread(200, 200, "futex", wants_futex(200), stack=take_lock("lock"))
    scene.history = History(fork_threads={Tgid(200): (Tid(100), Tid(101))})
    return scene


def pool(idle: bool = True) -> SceneBuilder:
    scene = pair("ForkPoolWorker-3")
    tasks = scene.pipe(7, readers=(100, 200), writers=(100,))
    results = scene.pipe(8, readers=(100,), writers=(100, 200))
    waiting = [
        frame("threading.py:320 Condition.wait", self="<Condition at 0x9>"),
        frame("threading.py:629 Event.wait", self="<Event at 0x8>"),
        frame("multiprocessing/pool.py:768 ApplyResult.wait"),
        frame("multiprocessing/pool.py:771 ApplyResult.get"),
        frame("multiprocessing/pool.py:367 Pool.map"),
        frame("/home/u/app.py:9 <module>", "pool.map(task, range(4))"),
    ]
    scene.thread(100, 100, "futex", wants_futex(100), stack=waiting)
    workers = [frame("multiprocessing/pool.py:516 Pool._handle_workers"), *bootstrap("0x1")]
    scene.thread(101, 100, "poll", Want(WaitKind.SLEEP, ObjectId("clock")), stack=workers, timeout_ns=10**8, moved=True)
    sending = [frame("multiprocessing/pool.py:531 Pool._handle_tasks"), *bootstrap("0x2")]
    scene.thread(102, 100, "futex", wants_futex(100, 0x2), stack=sending)
    receiving = [
        frame("multiprocessing/connection.py:398 Connection._recv"),
        frame("multiprocessing/connection.py:250 _ConnectionBase.recv"),
        frame("multiprocessing/pool.py:579 Pool._handle_results"),
        *bootstrap("0x3"),
    ]
    scene.thread(103, 100, "read", wants_read(results), stack=receiving)
    loop = [frame("multiprocessing/pool.py:114 worker"), frame("multiprocessing/process.py:314 BaseProcess._bootstrap")]
    if idle:
        stack = [*get_from_queue()[:3], frame("multiprocessing/queues.py:365 SimpleQueue.get"), *loop]
        scene.thread(200, 200, "read", wants_read(tasks), stack=stack)
    else:
        stack = [frame("/home/u/app.py:3 task", "time.sleep(30)"), *loop]
        scene.thread(200, 200, "clock_nanosleep", Want(WaitKind.SLEEP, ObjectId("clock")), stack=stack, timeout_ns=9)
    return scene


def full_executor() -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    result = [
        frame("threading.py:327 Condition.wait", self="<Condition at 0x9>"),
        frame("concurrent/futures/_base.py:451 Future.result"),
        frame("/home/u/app.py:4 outer", "return ex.submit(inner).result()"),
    ]
    scene.thread(100, 100, "futex", wants_futex(100, 0x1), stack=result)
    loop = [
        frame("concurrent/futures/thread.py:58 _WorkItem.run"),
        frame("concurrent/futures/thread.py:83 _worker"),
        *bootstrap("0x1"),
    ]
    for tid in (101, 102):
        scene.thread(tid, 100, "futex", wants_futex(100, tid), name=f"ex_{tid}", stack=[*result, *loop])
    return scene


def loop_blocked() -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    stack = [
        frame("threading.py:327 Condition.wait", self="<Condition at 0x9>"),
        frame("concurrent/futures/_base.py:451 Future.result"),
        frame("/home/u/app.py:4 main", "fut.result()"),
        frame("asyncio/events.py:80 Handle._run"),
        frame("asyncio/base_events.py:1922 BaseEventLoop._run_once"),
        frame("/home/u/app.py:9 <module>", "asyncio.run(main())"),
    ]
    scene.thread(100, 100, "futex", wants_futex(100), stack=stack)
    return scene


def output_pipe(fd: int = 1) -> SceneBuilder:
    scene = pair("python -c", argv=("python", "-c", "print"))
    output = scene.pipe(7, readers=(100,), writers=(200,), bytes=65_536)
    stack = [
        frame("subprocess.py:2011 Popen._try_wait"),
        frame("subprocess.py:1264 Popen.wait"),
        frame("/home/u/app.py:5 <module>", "p.wait()"),
    ]
    scene.thread(100, 100, "wait4", wants_child(200), stack=stack)
    scene.thread(200, 200, "write", Want(WaitKind.PIPE_FULL, output, Fd(fd), "w", 200_000))
    return scene


def exit_with_items() -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    queue = scene.pipe(7, readers=(100,), writers=(100,), bytes=61_500)
    stack = [
        *join_thread("0xabc")[:2],
        frame("multiprocessing/queues.py:199 Queue._finalize_join"),
        frame("multiprocessing/util.py:224 Finalize.__call__"),
        frame("multiprocessing/util.py:360 _exit_function"),
    ]
    scene.thread(100, 100, "futex", wants_futex(100), stack=stack)
    scene.thread(101, 100, "write", wants_write(queue), name="QueueFeederThread", stack=feeding())
    return scene


def both_send() -> SceneBuilder:
    scene = pair("Process-1")
    there = scene.pipe(7, readers=(200,), writers=(100,), bytes=65_536)
    back = scene.pipe(8, readers=(100,), writers=(200,), bytes=65_536)
    stack = [
        frame("multiprocessing/connection.py:384 Connection._send"),
        frame("multiprocessing/connection.py:206 _ConnectionBase.send"),
        frame("/home/u/app.py:5 work", "c.send(big)"),
    ]
    scene.thread(100, 100, "write", wants_write(there), stack=stack)
    scene.thread(200, 200, "write", wants_write(back), stack=stack)
    return scene


def both_receive() -> SceneBuilder:
    scene = pair("Process-1")
    there = scene.pipe(7, readers=(200,), writers=(100,))
    back = scene.pipe(8, readers=(100,), writers=(200,))
    stack = [
        frame("multiprocessing/connection.py:398 Connection._recv", size="4", remaining="4"),
        frame("multiprocessing/connection.py:250 _ConnectionBase.recv"),
        frame("/home/u/app.py:5 work", "c.recv()"),
    ]
    scene.thread(100, 100, "read", wants_read(back), stack=stack)
    scene.thread(200, 200, "read", wants_read(there), stack=stack)
    return scene


def put_without_reader() -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    queue = scene.pipe(7, readers=(100,), writers=(100,), bytes=61_500)
    stack = [
        frame("multiprocessing/connection.py:384 Connection._send"),
        frame("multiprocessing/queues.py:378 SimpleQueue.put"),
        frame("/home/u/app.py:5 <module>", "q.put(big)"),
    ]
    scene.thread(100, 100, "write", wants_write(queue), stack=stack)
    return scene


def no_consumer() -> SceneBuilder:
    scene = pair("Process-1", state="Z", exit_code=1)
    word = scene.semaphore(1, (100,))
    stack = [
        frame("multiprocessing/queues.py:89 Queue.put", self="<Queue at 0x51>"),
        frame("/home/u/app.py:5 <module>", "q.put(i)"),
    ]
    scene.thread(100, 100, "futex", wants_shared(word), stack=stack)
    return scene


def two_stages_without_consumer() -> SceneBuilder:
    scene = pair("Process-1")
    for pid, word in ((100, scene.semaphore(1, (100, 200))), (200, scene.semaphore(2, (100, 200)))):
        stack = [
            frame("multiprocessing/queues.py:89 Queue.put", self=f"<Queue at {word}>"),
            frame(f"/home/u/app.py:{pid} stage", "q.put(i)"),
        ]
        scene.thread(pid, pid, "futex", wants_shared(word), stack=stack)
    return scene


def not_marked_done() -> SceneBuilder:
    scene = pair("Process-1")
    tasks = scene.pipe(7, readers=(100, 200), writers=(100, 200))
    word = scene.semaphore(1, (100, 200))
    stack = [
        frame("multiprocessing/synchronize.py:261 Condition.wait", self="<Condition at 0x9>"),
        frame("multiprocessing/queues.py:330 JoinableQueue.join"),
        frame("/home/u/app.py:9 <module>", "q.join()"),
    ]
    scene.thread(100, 100, "futex", wants_shared(word), stack=stack)
    scene.thread(200, 200, "read", wants_read(tasks), stack=get_from_queue())
    return scene


def no_sentinel() -> SceneBuilder:
    scene = pair("Process-1")
    tasks = scene.pipe(7, readers=(100, 200), writers=(100, 200))
    joins_child(scene)
    scene.thread(200, 200, "read", wants_read(tasks), stack=get_from_queue())
    return scene


def brother_keeps_it_open() -> SceneBuilder:
    scene = pair("W1")
    scene.process(300, 100, name="W2")
    first = scene.pipe(7, readers=(200,), writers=(300,))
    second = scene.pipe(8, readers=(300,), writers=(100,))
    joins_child(scene)
    stack = [
        frame("multiprocessing/connection.py:398 Connection._recv", size="4", remaining="4"),
        frame("multiprocessing/connection.py:250 _ConnectionBase.recv"),
        frame("/home/u/app.py:5 worker", "while True: r.recv()"),
    ]
    scene.thread(200, 200, "read", wants_read(first), stack=stack)
    scene.thread(300, 300, "read", wants_read(second), stack=stack)
    return scene


def keeps_its_own_open() -> SceneBuilder:
    scene = pair("Process-1")
    pipe = scene.pipe(7, readers=(200,), writers=(200,))
    joins_child(scene)
    scene.thread(200, 200, "read", wants_read(pipe), stack=[frame("/home/u/app.py:5 worker", "os.read(r, 100)")])
    return scene


def keeps_its_own_socket_open() -> SceneBuilder:
    scene = pair("Process-1")
    joins_child(scene)
    ends = [ObjectId(f"socket:[{number}]") for number in (7, 8)]
    for end, peer in (ends, ends[::-1]):
        holders = (Holder(Tgid(200), Fd(3)),)
        scene.objects[end] = WaitObject(end, ObjectKind.SOCKET, "unix socket", 0, 4096, peer=peer, holders=holders)
    want = Want(WaitKind.SOCKET_EMPTY, ends[0], Fd(3), "r", 4)
    stack = [
        frame("multiprocessing/connection.py:398 Connection._recv", size="4", remaining="4"),
        frame("multiprocessing/connection.py:250 _ConnectionBase.recv"),
        frame("/home/u/app.py:5 worker", "conn.recv()"),
    ]
    scene.thread(200, 200, "read", want, stack=stack)
    return scene


def starter_closed_one_above_did_not() -> SceneBuilder:
    scene = pair("Process-1")
    scene.process(300, 200, name="wc", argv=("wc", "-c"), python=False)
    joins_child(scene)
    pipe = scene.pipe(7, readers=(300,), writers=(100,))
    scene.thread(200, 200, "wait4", wants_child(300), stack=[frame("/home/u/app.py:5 count", "p.wait()")])
    scene.thread(300, 300, "read", wants_read(pipe, 4096))
    return scene


def selects_pipe_of_dead_child() -> SceneBuilder:
    scene = pair("Process-1", state="Z", exit_code=1)
    pipe = scene.pipe(7, readers=(100,), writers=(100,))
    stack = [frame("/home/u/app.py:5 <module>", "if select.select([r], [], [], 0.2)[0]:", "while not got")]
    want = Want(WaitKind.PIPE_EMPTY, pipe, Fd(3), "r")
    scene.thread(100, 100, "pselect6", want, stack=stack, timeout_ns=200_000_000, moved=True)
    return scene


def producer_dead() -> SceneBuilder:
    scene = pair("Process-1", state="Z", exit_signal=11)
    queue = scene.pipe(7, readers=(100,), writers=(100,))
    scene.thread(100, 100, "read", wants_read(queue), stack=get_from_queue())
    return scene


def polls_dead_producer() -> SceneBuilder:
    scene = pair("Process-1", state="Z", exit_code=1)
    queue = scene.pipe(7, readers=(100,), writers=(100,))
    stack = [
        frame("selectors.py:415 _PollLikeSelector.select"),
        frame("multiprocessing/connection.py:930 wait"),
        frame("multiprocessing/connection.py:257 _ConnectionBase.poll"),
        frame("multiprocessing/queues.py:113 Queue.get", self="<Queue at 0x51>"),
        frame("/home/u/app.py:5 <module>", "q.get(timeout=0.3)", "while got < 2"),
    ]
    scene.thread(
        100, 100, "poll", Want(WaitKind.PIPE_EMPTY, queue, Fd(3), "r"), stack=stack, timeout_ns=300_000_000, moved=True
    )
    return scene


def lost_wakeup() -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.thread(100, 100, "futex", wants_futex(100, 0x1), stack=join_thread("0x1"))
    stack = [
        frame("threading.py:320 Condition.wait", self="<Condition at 0x9>"),
        frame("/home/u/app.py:5 consumer", "cond.wait()", "with cond"),
        *bootstrap("0x1"),
    ]
    scene.thread(101, 100, "futex", wants_futex(100, 0x2), stack=stack)
    return scene


def missing_at_barrier() -> SceneBuilder:
    scene = pair("W0")
    joins_child(scene)
    scene.process(300, 100, name="W2", state="Z", exit_code=1)
    word = scene.semaphore(1, (100, 200))
    stack = [
        frame("multiprocessing/synchronize.py:261 Condition.wait", self="<Condition at 0x9>"),
        frame("multiprocessing/synchronize.py:313 Condition.wait_for", self="<Condition at 0x9>"),
        frame("threading.py:721 Barrier._wait", self="<Barrier at 0x8>"),
        frame("threading.py:684 Barrier.wait", self="<Barrier at 0x8>"),
        frame("/home/u/app.py:5 worker", "b.wait()"),
    ]
    scene.thread(200, 200, "futex", wants_shared(word), stack=stack)
    return scene


STUCK: list[tuple[PatternId, VerdictKind, Scene]] = [
    (PatternId.JOIN_BEFORE_DRAIN, VerdictKind.DEADLOCK, join_before_get),
    (PatternId.EXIT_BEFORE_DRAIN, VerdictKind.DEADLOCK, exit_with_items),
    (PatternId.TORN_MESSAGE, VerdictKind.ORPHANED, torn_by_frames),
    (PatternId.TORN_MESSAGE, VerdictKind.ORPHANED, torn_by_recording),
    (PatternId.DEAD_LOCK_HOLDER, VerdictKind.ORPHANED, killed_in_get),
    (PatternId.LOCK_ORDER, VerdictKind.DEADLOCK, lock_circle),
    (PatternId.LOCK_ORDER, VerdictKind.DEADLOCK, file_lock_circle),
    (PatternId.SELF_RELOCK, VerdictKind.ORPHANED, relock),
    (PatternId.SELF_RELOCK, VerdictKind.ORPHANED, relock_by_acquire),
    (PatternId.SELF_RELOCK, VerdictKind.ORPHANED, file_locked_twice),
    (PatternId.LOCK_ORDER, VerdictKind.DEADLOCK, locks_taken_by_acquire),
    (PatternId.DEAD_LOCK_HOLDER, VerdictKind.DEADLOCK, holder_gone_without_a_trace),
    (PatternId.BOUNDED_QUEUE_NO_CONSUMER, VerdictKind.DEADLOCK, two_stages_without_consumer),
    (PatternId.OWN_WRITE_END, VerdictKind.ORPHANED, keeps_its_own_socket_open),
    (PatternId.OWN_WRITE_END, VerdictKind.LIVELOCK, selects_pipe_of_dead_child),
    (PatternId.INHERITED_WRITE_END, VerdictKind.DEADLOCK, starter_closed_one_above_did_not),
    (PatternId.SIGNAL_HANDLER_REENTRY, VerdictKind.ORPHANED, handler),
    (PatternId.FORK_HELD_LOCK, VerdictKind.ORPHANED, forked_with_lock),
    (PatternId.POOL_WORKER_LOST, VerdictKind.DEADLOCK, pool),
    (PatternId.POOL_EXHAUSTED, VerdictKind.DEADLOCK, full_executor),
    (PatternId.EVENT_LOOP_BLOCKED, VerdictKind.ORPHANED, loop_blocked),
    (PatternId.POPEN_PIPE_FULL, VerdictKind.DEADLOCK, output_pipe),
    (PatternId.BOTH_ENDS_FULL, VerdictKind.DEADLOCK, both_send),
    (PatternId.BOTH_ENDS_EMPTY, VerdictKind.DEADLOCK, both_receive),
    (PatternId.SELF_PIPE_FULL, VerdictKind.ORPHANED, put_without_reader),
    (PatternId.BOUNDED_QUEUE_NO_CONSUMER, VerdictKind.ORPHANED, no_consumer),
    (PatternId.TASK_DONE_MISSING, VerdictKind.DEADLOCK, not_marked_done),
    (PatternId.MISSING_SENTINEL, VerdictKind.DEADLOCK, no_sentinel),
    (PatternId.INHERITED_WRITE_END, VerdictKind.DEADLOCK, brother_keeps_it_open),
    (PatternId.OWN_WRITE_END, VerdictKind.ORPHANED, keeps_its_own_open),
    (PatternId.PRODUCER_GONE, VerdictKind.ORPHANED, producer_dead),
    (PatternId.PRODUCER_GONE, VerdictKind.LIVELOCK, polls_dead_producer),
    (PatternId.MISSING_PARTICIPANT, VerdictKind.DEADLOCK, lost_wakeup),
    (PatternId.MISSING_PARTICIPANT, VerdictKind.DEADLOCK, missing_at_barrier),
]


def explained(scene: Scene) -> Verdict:
    return explain_snapshot(scene().snapshot())


@pytest.mark.parametrize(("pattern", "kind", "scene"), STUCK, ids=[scene.__name__ for _, _, scene in STUCK])
def test_the_cause_has_its_name(pattern: PatternId, kind: VerdictKind, scene: Scene) -> None:
    """The verdict, the pattern, an advice, and a line of the program to change."""
    verdict = explained(scene)
    assert (verdict.kind, verdict.pattern) == (kind, pattern)
    assert verdict.advice
    assert verdict.lines
    assert verdict.cycle == (kind is VerdictKind.DEADLOCK)


@pytest.mark.parametrize("scene", [scene for _, _, scene in STUCK], ids=lambda scene: scene.__name__)
def test_each_link_waits_for_the_next(scene: Scene) -> None:
    """Each link's next is among its providers, and in a circle the last one's is a link before it."""
    verdict = explained(scene)
    for link, following in zip(verdict.chain, verdict.chain[1:], strict=False):
        assert following.tid in {provider.tid for provider in link.providers}
    back = {provider.tid for provider in verdict.chain[-1].providers}
    assert verdict.cycle == bool(back & {link.tid for link in verdict.chain})


@pytest.mark.parametrize(
    "scene", [scene for _, _, scene in STUCK if scene is not torn_by_recording], ids=lambda scene: scene.__name__
)
def test_nothing_is_proven_while_one_who_could_help_runs(scene: Scene) -> None:
    """With a running thread in every process, and a stranger in hand of everything, at most likely."""
    built = scene()
    built.process(900, 1, name="stranger", in_tree=False)
    for object_id, target in list(built.objects.items()):
        built.objects[object_id] = replace(target, owner_pid=None, holders=(*target.holders, Holder(Tgid(900))))
    for pid in {thread.pid for thread in built.threads.values()}:
        built.thread(9000 + int(pid), int(pid), None, state="R", name="busy", moved=True)
    verdict = explain_snapshot(built.snapshot())
    assert verdict.kind not in STUCK_KINDS or verdict.certainty is Certainty.LIKELY


def test_a_torn_message_says_how_much_came() -> None:
    """From the library's own locals: the body's size, what is missing, and who died."""
    assert explained(torn_by_frames).evidence == {
        "message_bytes": 1_000_000,
        "received_bytes": 65_532,
        "missing_bytes": 934_468,
        "writer_pid": 200,
        "writer_process": "Process-1",
        "writer_exit": 0,
    }


def test_bytes_that_look_like_a_length_are_no_torn_message() -> None:
    """A reader that asks for a whole buffer does not read a Connection's message."""
    scene = torn_by_recording()
    thread = scene.threads[Tid(100)]
    asks = replace(thread, wants=(replace(thread.wants[0], requested_bytes=8192),), stack=())
    scene.threads[Tid(100)] = asks
    assert explained(lambda: scene).pattern is not PatternId.TORN_MESSAGE


def test_a_lock_that_was_given_back_is_not_held() -> None:
    """acquire() counts until the line that gives the lock back, in the blocks around a line."""
    lines = ["first.acquire()", "first.release()", "def work():", "    second.acquire()", "    try:", "        wait()"]
    assert heads_around(lines, 6) == ("try", "second.acquire()")
    assert heads_around([*lines, "wait()"], 7) == ()
    assert heads_around(["ok = first.acquire(timeout=3)", "wait()"], 2) == ("first.acquire()",)


def test_a_torn_message_is_proven_where_the_writer_is_known_to_be_dead() -> None:
    """The recording knows who began the message: that others hold the write end changes nothing."""
    verdict = explained(torn_by_recording)
    assert verdict.certainty is Certainty.PROVEN
    assert verdict.evidence["message_bytes"] == 65_592
    assert verdict.evidence["received_bytes"] == 61_496
    assert verdict.evidence["missing_bytes"] == 4_096
    assert (verdict.evidence["writer_pid"], verdict.evidence["writer_exit"]) == (200, 0)


def test_a_pool_with_a_slow_worker_is_not_one_with_a_lost_task() -> None:
    """The same scene, but the worker sleeps in its task: nothing is stuck."""
    verdict = explain_snapshot(pool(idle=False).snapshot())
    assert (verdict.kind, verdict.pattern) == (VerdictKind.TIMED, None)


def test_a_background_process_that_keeps_the_output_open_is_named() -> None:
    """The child has ended; what it left behind sleeps, and holds the pipe: long, but not stuck."""
    scene = pair("sh", state="Z", exit_code=0)
    scene.process(300, 1, name="sleep")
    output = scene.pipe(7, readers=(100,), writers=(300,), writer_fd=1)
    stack = [
        frame("selectors.py:415 _PollLikeSelector.select"),
        frame("subprocess.py:2115 Popen._communicate"),
        frame("subprocess.py:1209 Popen.communicate"),
        frame("/home/u/app.py:3 <module>", "subprocess.run(...)"),
    ]
    scene.thread(100, 100, "poll", Want(WaitKind.PIPE_EMPTY, output, Fd(3), "r"), stack=stack)
    scene.thread(300, 300, "clock_nanosleep", Want(WaitKind.SLEEP, ObjectId("clock")), timeout_ns=30 * 10**9)
    verdict = explain_snapshot(scene.snapshot())
    assert (verdict.kind, verdict.pattern) == (VerdictKind.TIMED, PatternId.GRANDCHILD_HOLDS_PIPE)
    assert verdict.evidence["held_by"] == [300]


def test_a_prompt_behind_a_pipe_is_no_childs_output() -> None:
    """Whoever started the program holds the other end of its standard input: nobody was left behind."""
    scene = SceneBuilder()
    scene.process(100, 90, name="app.py", start_ns=2_000_000_000)
    scene.process(90, 1, name="starter", in_tree=False, start_ns=1_000_000_000)
    prompt = scene.pipe(7, readers=(100,), writers=(90,), writer_fd=1)
    for fd in (0, 3):
        scene.thread(100, 100, "read", Want(WaitKind.PIPE_EMPTY, prompt, Fd(fd), "r"))
        verdict = explain_snapshot(scene.snapshot())
        assert (verdict.kind, verdict.pattern) == (VerdictKind.EXTERNAL, None)


def storm(source: str = "initializer(*initargs)", switches: int = 2) -> SceneBuilder:
    """Return a pool whose only worker is younger than the first look."""
    scene = pool()
    worker = scene.processes[Tgid(200)]
    scene.processes[Tgid(200)] = replace(worker, start_ns=9_960_000_000)
    stack = (
        frame("/home/u/app.py:5 initialize", "raise RuntimeError"),
        frame("multiprocessing/pool.py:109 worker", source),
        frame("multiprocessing/process.py:314 BaseProcess._bootstrap"),
    )
    scene.thread(200, 200, None, state="R", moved=True, stack=stack)
    results = scene.threads[Tid(103)]
    scene.threads[Tid(103)] = replace(results, start_ns=1_000_000_000, switches=switches, cpu_ns=switches * 30_000)
    return scene


def test_workers_that_never_get_to_work_are_a_storm() -> None:
    """All workers are newer than the first look, and no result has ever come."""
    verdict = explain_snapshot(storm().snapshot())
    assert (verdict.kind, verdict.pattern) == (VerdictKind.LIVELOCK, PatternId.POOL_RESPAWN_STORM)
    assert verdict.certainty is Certainty.LIKELY


@pytest.mark.parametrize(
    ("source", "switches"),
    [("result = (True, func(*args, **kwds))", 2), ("initializer(*initargs)", 40)],
    ids=["a task is at work", "results have come"],
)
def test_a_pool_that_replaces_its_workers_is_no_storm(source: str, switches: int) -> None:
    """maxtasksperchild: workers are always young."""
    assert explain_snapshot(storm(source, switches).snapshot()).kind is VerdictKind.RUNNING


def test_a_pool_between_two_workers_is_no_hang() -> None:
    """The last worker has done its share and is gone, the next is about to be made."""
    scene = pool()
    del scene.threads[Tid(200)]
    scene.processes[Tgid(200)] = replace(scene.processes[Tgid(200)], state="Z", exit_code=0)
    assert explain_snapshot(scene.snapshot()).kind is VerdictKind.RUNNING
