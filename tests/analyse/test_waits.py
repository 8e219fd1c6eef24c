"""Each kind of wait: who can end it, when it is a hang, and when it is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qtrace.analyse.explain import explain_snapshot, graph_of
from qtrace.model.ids import Fd, ObjectId, Tgid, Tid
from qtrace.model.kinds import Certainty, ObjectKind, Role, VerdictKind, WaitKind
from qtrace.model.snapshot import History, Holder, LastTaker, Snapshot, WaitObject, Want
from qtrace.model.verdict import Verdict
from tests.analyse.scenes import (
    SceneBuilder,
    bootstrap,
    frame,
    get_from_queue,
    join_before_get,
    join_process,
    join_thread,
    wait_for_read_lock,
    wants_child,
    wants_futex,
    wants_read,
    wants_shared,
    wants_write,
)

HANGS = {VerdictKind.DEADLOCK, VerdictKind.ORPHANED, VerdictKind.LIVELOCK}
CLOCK = Want(WaitKind.SLEEP, ObjectId("clock"))


def one(pid: int = 100) -> SceneBuilder:
    scene = SceneBuilder()
    scene.process(pid, name="app.py")
    return scene


def two() -> SceneBuilder:
    scene = one()
    scene.process(200, 100, name="Process-1")
    return scene


def explained(scene: SceneBuilder) -> Verdict:
    return explain_snapshot(scene.snapshot())


def kinds(verdict: Verdict) -> list[WaitKind]:
    return [wait.kind for wait in verdict.chain]


def providers(scene: SceneBuilder, tid: int) -> set[int | None]:
    _, graph = graph_of(scene.snapshot())
    return {edge.tid for edge in graph.providers(Tid(tid))}


def socket_pair(scene: SceneBuilder, first: int, second: int, **facts: object) -> tuple[ObjectId, ObjectId]:
    ends = ObjectId("socket:[1]"), ObjectId("socket:[2]")
    for own, other, pid in ((ends[0], ends[1], first), (ends[1], ends[0], second)):
        scene.objects[own] = WaitObject(
            own, ObjectKind.SOCKET, "unix socket", 0, 200_000, peer=other, holders=(Holder(Tgid(pid), Fd(3)),)
        )
    scene.objects[ends[0]] = replace(scene.objects[ends[0]], **facts)  # type: ignore[arg-type]
    return ends


# --- pipes ---------------------------------------------------------------------------------------


def test_a_pipe_that_nobody_else_can_write_to_is_orphaned() -> None:
    """The reader itself holds the only write end: no end of file, and no data."""
    scene = one()
    scene.thread(100, 100, "read", wants_read(scene.pipe(7, (100,), (100,))))
    verdict = explained(scene)
    assert (verdict.kind, verdict.certainty) == (VerdictKind.ORPHANED, Certainty.PROVEN)


@pytest.mark.parametrize(
    ("bytes", "readers", "writers", "want"),
    [(5, (100,), (100,), wants_read), (0, (100,), (), wants_read), (0, (100,), (100,), wants_write)],
    ids=["data", "end of file", "room"],
)
def test_a_pipe_that_is_ready_wakes_its_waiter(
    bytes: int, readers: tuple[int, ...], writers: tuple[int, ...], want: object
) -> None:
    """Data, an end of file or room are there: the call is about to return."""
    scene = one()
    pipe = scene.pipe(7, readers, writers, bytes)
    scene.thread(100, 100, "read", (wants_write if want is wants_write else wants_read)(pipe))
    assert explained(scene).kind is VerdictKind.RUNNING


def test_an_end_in_the_hand_of_somebody_outside_is_no_hang() -> None:
    """A process outside of the tree may write at any time."""
    scene = one()
    scene.process(900, 1, name="stranger", in_tree=False)
    scene.thread(100, 100, "read", wants_read(scene.pipe(7, (100,), (900,))))
    verdict = explained(scene)
    assert verdict.kind is VerdictKind.EXTERNAL
    assert "stranger" in verdict.headline


def test_an_end_in_the_hand_of_one_that_cannot_be_seen_is_unknown() -> None:
    """A blind spot counts as alive, and is named."""
    scene = two()
    scene.processes[Tgid(200)] = replace(scene.processes[Tgid(200)], unseen="it belongs to user 0")
    scene.thread(100, 100, "read", wants_read(scene.pipe(7, (100,), (200,))))
    verdict = explained(scene)
    assert (verdict.kind, verdict.certainty) == (VerdictKind.EXTERNAL, Certainty.UNKNOWN)
    assert verdict.unseen == ((Tgid(200), "it belongs to user 0"),)


def test_whoever_reads_a_pipe_does_not_write_to_it() -> None:
    """Two readers of one queue are no providers of one another."""
    scene = two()
    queue = scene.pipe(7, (100, 200), (100, 200))
    scene.thread(100, 100, "read", wants_read(queue), stack=get_from_queue())
    scene.thread(200, 200, "futex", wants_shared(scene.semaphore(1, (100, 200))), stack=wait_for_read_lock())
    verdict = explained(scene)
    assert verdict.kind in HANGS
    assert 200 not in {tid for tid in providers(scene, 100) if tid == 100}


# --- sockets, eventfds, connections -----------------------------------------------------------------


@pytest.mark.parametrize("kind", [WaitKind.SOCKET_EMPTY, WaitKind.SOCKET_FULL])
def test_both_ends_of_a_socket_that_wait_are_a_deadlock(kind: WaitKind) -> None:
    """Each is the only provider of the other."""
    scene = two()
    here, there = socket_pair(scene, 100, 200)
    scene.thread(100, 100, "recvfrom", Want(kind, here, Fd(3)))
    scene.thread(200, 200, "recvfrom", Want(kind, there, Fd(3)))
    verdict = explained(scene)
    assert (verdict.kind, verdict.certainty) == (VerdictKind.DEADLOCK, Certainty.PROVEN)
    assert kinds(verdict) == [kind, kind]


@pytest.mark.parametrize("facts", [{"remote": True}, {"peer": None}, {"listening": True}, {"bytes": 4}], ids=str)
def test_a_socket_to_the_outside_is_no_hang(facts: dict[str, object]) -> None:
    """The network, an unknown peer, a listener, and bytes that have arrived."""
    scene = two()
    here, _ = socket_pair(scene, 100, 200, **facts)
    scene.thread(100, 100, "recvfrom", Want(WaitKind.SOCKET_EMPTY, here, Fd(3)))
    scene.thread(200, 200, "wait4", wants_child(100))
    assert explained(scene).kind not in HANGS


@pytest.mark.parametrize(
    ("call", "want", "verdict"),
    [
        ("accept4", Want(WaitKind.ACCEPT, ObjectId("socket:[9]"), Fd(3)), VerdictKind.EXTERNAL),
        ("connect", Want(WaitKind.CONNECT, ObjectId("socket:[9]"), Fd(3)), VerdictKind.EXTERNAL),
        ("read", Want(WaitKind.EXTERNAL, ObjectId("tty:/dev/pts/1"), Fd(0)), VerdictKind.EXTERNAL),
        ("pause", Want(WaitKind.SIGNAL, ObjectId("signal:100")), VerdictKind.EXTERNAL),
        ("clock_nanosleep", CLOCK, VerdictKind.TIMED),
        ("poll", Want(WaitKind.TIMEOUT, ObjectId("clock")), VerdictKind.TIMED),
        ("io_uring_enter", None, VerdictKind.EXTERNAL),
        (None, None, VerdictKind.RUNNING),
    ],
)
def test_what_comes_by_itself_is_no_hang(call: str | None, want: Want | None, verdict: VerdictKind) -> None:
    """The clock, the outside, a call that is not known, and a thread on the CPU."""
    scene = one()
    scene.thread(100, 100, call, *([want] if want else []))
    assert explained(scene).kind is verdict


def test_a_connect_waits_for_the_one_who_listens() -> None:
    """A queue of connections that is full: the listener's process has to accept."""
    scene = two()
    socket, listener = ObjectId("socket:[1]"), ObjectId("socket:[2]")
    scene.objects[socket] = WaitObject(socket, ObjectKind.SOCKET, "unix socket", peer=listener)
    scene.objects[listener] = WaitObject(listener, ObjectKind.SOCKET, listening=True, holders=(Holder(Tgid(200)),))
    scene.thread(100, 100, "connect", Want(WaitKind.CONNECT, socket, Fd(3)))
    scene.thread(200, 200, "read", wants_read(scene.pipe(7, (200,), (100,))))
    assert kinds(explained(scene)) == [WaitKind.CONNECT, WaitKind.PIPE_EMPTY]


@pytest.mark.parametrize(("counter", "hangs"), [(0, True), (3, False)])
def test_an_eventfd_waits_for_its_holders(counter: int, hangs: bool) -> None:
    """A counter of zero needs a write; any other is ready."""
    scene = two()
    event = ObjectId("eventfd:[5]")
    holders = (Holder(Tgid(100), Fd(3)), Holder(Tgid(200), Fd(3)))
    scene.objects[event] = WaitObject(event, ObjectKind.EVENTFD, "eventfd", counter, holders=holders)
    scene.thread(100, 100, "read", Want(WaitKind.EVENTFD, event, Fd(3), "r"))
    scene.thread(200, 200, "read", wants_read(scene.pipe(7, (200,), (100,))))
    assert (explained(scene).kind in HANGS) is hangs


# --- locks ---------------------------------------------------------------------------------------


def mutex(scene: SceneBuilder, address: int, owner: int) -> None:
    object_id = ObjectId(f"futex:100:{address:#x}")
    scene.objects[object_id] = WaitObject(object_id, ObjectKind.FUTEX, "lock", value=2, owner_tid=Tid(owner))


def test_the_owner_of_a_mutex_is_its_only_provider() -> None:
    """By the C library's own record: a running third thread changes nothing, and it is proven."""
    scene = one()
    mutex(scene, 0x1, 101)
    mutex(scene, 0x2, 100)
    scene.thread(100, 100, "futex", wants_futex(100, 0x1))
    scene.thread(101, 100, "futex", wants_futex(100, 0x2))
    scene.thread(102, 100, None, state="R", moved=True)
    verdict = explained(scene)
    assert (verdict.kind, verdict.certainty) == (VerdictKind.DEADLOCK, Certainty.PROVEN)
    assert providers(scene, 100) == {101}


def test_a_lock_of_which_nothing_is_known_is_anybodys() -> None:
    """One sharer that runs might hold it: no hang."""
    scene = two()
    word = scene.semaphore(1, (100, 200))
    scene.thread(100, 100, "futex", wants_shared(word))
    scene.thread(200, 200, None, state="R", moved=True)
    assert explained(scene).kind is VerdictKind.RUNNING


def test_a_free_semaphore_wakes_its_waiter() -> None:
    """Its value is not zero: the waiter is on its way."""
    scene = one()
    scene.thread(100, 100, "futex", wants_shared(scene.semaphore(1, (100,), value=1)))
    assert explained(scene).kind is VerdictKind.RUNNING


def test_a_shared_word_is_an_object_and_not_an_address() -> None:
    """Two processes wait for one semaphore, whose only other sharer is gone."""
    scene = two()
    word = scene.semaphore(1, (100, 200))
    scene.thread(100, 100, "futex", wants_shared(word))
    scene.thread(200, 200, "futex", wants_shared(word))
    assert explained(scene).kind is VerdictKind.ORPHANED


def test_a_private_word_is_not_the_same_in_a_forked_child() -> None:
    """The parent's thread at the same address cannot wake the child's."""
    scene = two()
    scene.thread(100, 100, "wait4", wants_child(200), stack=join_process())
    scene.thread(101, 100, None, state="R", moved=True)
    scene.thread(200, 200, "futex", wants_futex(200))
    verdict = explained(scene)
    assert verdict.kind is VerdictKind.ORPHANED
    assert kinds(verdict) == [WaitKind.CHILD_EXIT, WaitKind.LOCK]


def test_the_recording_says_who_took_a_lock_last() -> None:
    """It leads the chain, but does not rule the others out: uncontended locks make no call."""
    scene = two()
    scene.process(300, 100, name="Process-2")
    word = scene.semaphore(1, (100, 200, 300))
    for pid, other in ((200, 7), (300, 8)):
        scene.thread(pid, pid, "read", wants_read(scene.pipe(other, (pid,), (100,))))
    scene.thread(100, 100, "futex", wants_shared(word))
    scene.history = History(takers={word: LastTaker(word, Tid(300), Tgid(300), 1, "took it last")})
    verdict = explained(scene)
    assert [wait.pid for wait in verdict.chain] == [100, 300]
    scene.threads[Tid(200)] = replace(scene.threads[Tid(200)], call=None, wants=(), state="R")
    assert explained(scene).kind is VerdictKind.RUNNING


@pytest.mark.parametrize("by_word", [False, True])
def test_the_joined_thread_is_known_by_its_object_or_by_the_word(by_word: bool) -> None:
    """The same address in the frames of both, or the thread's id in the word of pthread_join."""
    scene = one()
    word = ObjectId("futex:100:0x1")
    value = 101 if by_word else 0
    scene.objects[word] = WaitObject(word, ObjectKind.FUTEX, "lock", value=value)
    stack = [] if by_word else join_thread("0xa")
    scene.thread(100, 100, "futex", wants_futex(100, 0x1), stack=stack)
    pipe = scene.pipe(7, (100,), (100,))
    scene.thread(101, 100, "read", wants_read(pipe), stack=[frame("/home/u/app.py:3 work"), *bootstrap("0xa")])
    scene.thread(102, 100, None, state="R", stack=bootstrap("0xb"), moved=True)
    assert providers(scene, 100) == {101}
    _, graph = graph_of(scene.snapshot())
    assert graph.nodes[Tid(100)].kind is WaitKind.THREAD_JOIN


def gil_scene(spent_ns: int) -> SceneBuilder:
    scene = one()
    word = ObjectId("futex:100:0x1")
    scene.objects[word] = WaitObject(word, ObjectKind.FUTEX, "lock", value=0, mapping="/usr/lib/libpython3.11.so.1.0")
    mutex(scene, 0x2, 101)
    scene.thread(100, 100, "futex", wants_futex(100, 0x2), owns_gil=True, stack=[frame("/home/u/app.py:3 f")])
    scene.thread(101, 100, "futex", wants_futex(100, 0x1), timeout_ns=5_000_000, moved=True)
    scene.threads[Tid(101)] = replace(scene.threads[Tid(101)], spent_ns=spent_ns)
    return scene


def test_the_interpreter_lock_against_a_mutex_is_a_deadlock_although_one_side_ticks() -> None:
    """The thread wakes every 5 ms to ask for the interpreter lock again, and never gets it."""
    verdict = explained(gil_scene(spent_ns=300_000))
    assert verdict.kind is VerdictKind.DEADLOCK
    assert set(kinds(verdict)) == {WaitKind.LOCK, WaitKind.GIL}


def test_threads_that_take_turns_with_the_interpreter_lock_run() -> None:
    """One that has used the CPU between the looks has had the lock."""
    assert explained(gil_scene(spent_ns=30_000_000)).kind is VerdictKind.RUNNING


# --- children ------------------------------------------------------------------------------------


def test_a_child_that_has_ended_wakes_its_parent() -> None:
    """A zombie is there to be collected."""
    scene = two()
    scene.processes[Tgid(200)] = replace(scene.processes[Tgid(200)], state="Z")
    scene.thread(100, 100, "wait4", wants_child(200))
    assert explained(scene).kind is VerdictKind.RUNNING


@pytest.mark.parametrize("busy", [False, True])
def test_any_child_is_enough_for_a_wait_for_any(busy: bool) -> None:
    """One of two children that works keeps the wait alive."""
    scene = two()
    scene.process(300, 100, name="Process-2")
    scene.thread(100, 100, "wait4", Want(WaitKind.CHILD_EXIT, ObjectId("children:100")))
    scene.thread(200, 200, "read", wants_read(scene.pipe(7, (200,), (100,))))
    if busy:
        scene.thread(300, 300, "clock_nanosleep", CLOCK)
    else:
        scene.thread(300, 300, "read", wants_read(scene.pipe(8, (300,), (100,))))
    assert explained(scene).kind is (VerdictKind.TIMED if busy else VerdictKind.DEADLOCK)


@pytest.mark.parametrize("busy", [False, True])
def test_a_process_whose_main_thread_has_ended_needs_all_the_others_to_end(busy: bool) -> None:
    """All-of: one of its threads that never ends holds the process."""
    scene = two()
    scene.thread(100, 100, "wait4", wants_child(200))
    scene.thread(201, 200, "read", wants_read(scene.pipe(7, (200,), (100,))))
    scene.thread(202, 200, "clock_nanosleep", CLOCK)
    if busy:
        scene.thread(201, 200, "clock_nanosleep", CLOCK)
    assert (explained(scene).kind in HANGS) is not busy


def test_a_child_ends_with_its_main_thread_is_an_assumption() -> None:
    """A daemon thread that runs could call exit: the verdict stands, as likely, and says so."""
    scene = join_before_get()
    scene.thread(205, 200, "clock_nanosleep", CLOCK, name="daemon")
    verdict = explained(scene)
    assert verdict.kind is VerdictKind.DEADLOCK
    assert verdict.certainty is Certainty.LIKELY
    assert verdict.assumptions


def test_the_fork_server_stands_between_a_join_and_the_worker() -> None:
    """It holds the sentinel, and waits for the worker's end."""
    scene = one()
    scene.process(300, 100, name="fork server", argv=("python", "-c", "from multiprocessing.forkserver import main"))
    scene.process(200, 300, name="worker", argv=("python", "-c", "from multiprocessing.forkserver import main"))
    sentinel = scene.pipe(7, (100,), (300,))
    stack = [
        frame("selectors.py:415 _PollLikeSelector.select"),
        frame("multiprocessing/connection.py:947 wait", obj="7"),
        frame("multiprocessing/popen_forkserver.py:65 Popen.poll"),
        *join_process()[1:],
    ]
    scene.thread(100, 100, "poll", Want(WaitKind.POLL, sentinel, Fd(7), "r"), stack=stack)
    server = [frame("selectors.py:468 EpollSelector.select"), frame("multiprocessing/forkserver.py:218 main")]
    listener = ObjectId("socket:[4]")
    scene.objects[listener] = WaitObject(listener, ObjectKind.SOCKET, listening=True)
    scene.thread(300, 300, "epoll_wait", Want(WaitKind.POLL, listener, Fd(5), "r"), stack=server)
    tasks = scene.pipe(8, (200,), (100,))
    scene.thread(200, 200, "read", wants_read(tasks), stack=[frame("/home/u/app.py:3 work")])
    verdict = explained(scene)
    assert verdict.kind is VerdictKind.DEADLOCK
    assert [(wait.pid, wait.role) for wait in verdict.chain] == [
        (100, Role.MAIN),
        (300, Role.FORK_SERVER),
        (200, Role.MAIN),
    ]


# --- poll, file locks, stops ---------------------------------------------------------------------


@pytest.mark.parametrize(("needs_all", "hangs"), [(False, False), (True, True)])
def test_a_poll_needs_any_and_an_all_of_wait_needs_all(needs_all: bool, hangs: bool) -> None:
    """One watched pipe has a live writer, the other has none."""
    scene = two()
    alive, dead = scene.pipe(7, (100,), (200,)), scene.pipe(8, (100,), (100,))
    wants = [Want(WaitKind.POLL, pipe, Fd(3), "r") for pipe in (alive, dead)]
    scene.thread(100, 100, "poll", *wants, needs_all=needs_all)
    scene.thread(200, 200, "clock_nanosleep", CLOCK)
    assert (explained(scene).kind in HANGS) is hangs


@pytest.mark.parametrize("caught", [0, 1 << 14])
def test_a_selector_under_a_handler_for_sigterm_waits_for_the_outside(caught: int) -> None:
    """A signal that the program catches may wake it: no hang; without one, nobody can."""
    scene = one()
    scene.processes[Tgid(100)] = replace(scene.processes[Tgid(100)], caught_signals=caught)
    pipe = scene.pipe(7, (100,), (100,))
    scene.thread(100, 100, "epoll_wait", Want(WaitKind.POLL, pipe, Fd(3), "r"))
    assert explained(scene).kind is (VerdictKind.EXTERNAL if caught else VerdictKind.ORPHANED)


def test_a_flock_stays_with_whoever_inherited_the_open_file() -> None:
    """The one that took the lock has closed its copy; its child still has one."""
    scene = two()
    lock = ObjectId("lock:8:1")
    holders = (Holder(Tgid(200), Fd(3)),)
    scene.objects[lock] = WaitObject(lock, ObjectKind.FILE_LOCK, "lock on /a", owner_pid=Tgid(100), holders=holders)
    scene.thread(100, 100, "flock", Want(WaitKind.FILE_LOCK, lock, Fd(4)))
    scene.thread(200, 200, "read", wants_read(scene.pipe(7, (200,), (100,))))
    verdict = explained(scene)
    assert verdict.kind is VerdictKind.DEADLOCK
    assert kinds(verdict) == [WaitKind.FILE_LOCK, WaitKind.PIPE_EMPTY]


def test_a_stopped_process_waits_for_the_outside_and_the_signal_is_named() -> None:
    """State T: SIGCONT may come from anywhere."""
    scene = two()
    scene.processes[Tgid(200)] = replace(scene.processes[Tgid(200)], stop_signal=21)
    scene.thread(100, 100, "wait4", wants_child(200))
    scene.thread(200, 200, None, state="T")
    verdict = explained(scene)
    assert verdict.kind is VerdictKind.EXTERNAL
    assert "signal 21" in verdict.headline


# --- looks ---------------------------------------------------------------------------------------


def with_looks(snapshot: Snapshot, moved: bool | None, since_ns: int | None = None) -> Snapshot:
    threads = {tid: replace(thread, moved=moved, since_ns=since_ns) for tid, thread in snapshot.threads.items()}
    return replace(snapshot, threads=threads, looks_apart_ns=None if moved is None else 100_000_000)


def test_what_moves_is_not_stuck() -> None:
    """The same picture, but between two looks the threads were in other calls."""
    assert explain_snapshot(with_looks(join_before_get().snapshot(), True)).kind is VerdictKind.RUNNING


def test_one_look_alone_proves_nothing() -> None:
    """Unless a recording tells that the waits have lasted."""
    snapshot = join_before_get().snapshot()
    assert explain_snapshot(with_looks(snapshot, None)).kind is VerdictKind.RUNNING
    assert explain_snapshot(with_looks(snapshot, None, snapshot.time_ns - 1_000)).kind is VerdictKind.RUNNING
    long_ago = snapshot.time_ns - 1_000_000_000
    assert explain_snapshot(with_looks(snapshot, None, long_ago)).kind is VerdictKind.DEADLOCK


def test_a_program_that_has_ended_is_finished() -> None:
    """Nobody is left, nothing is stuck, and the chain is empty."""
    scene = one()
    scene.processes[Tgid(100)] = replace(scene.processes[Tgid(100)], state="X", exit_code=3)
    verdict = explained(scene)
    assert (verdict.kind, verdict.chain) == (VerdictKind.FINISHED, ())
    assert "exit status 3" in verdict.headline


# --- loops ---------------------------------------------------------------------------------------


def polling(source: str = "q.get(timeout=0.3)", around: str = "while True") -> SceneBuilder:
    """Return a process that gets from a queue with a timeout, of which nobody else holds an end."""
    scene = one()
    queue = scene.pipe(7, readers=(100,), writers=(100,))
    stack = [
        frame("selectors.py:415 _PollLikeSelector.select"),
        frame("multiprocessing/connection.py:930 wait"),
        frame("multiprocessing/connection.py:257 _ConnectionBase.poll"),
        frame("multiprocessing/queues.py:113 Queue.get", self="<Queue at 0x51>"),
        frame("/home/u/app.py:5 <module>", source, around),
    ]
    want = Want(WaitKind.POLL, queue, Fd(3), "r")
    scene.thread(100, 100, "poll", want, stack=stack, timeout_ns=300_000_000, moved=True)
    return scene


def test_a_loop_of_gets_that_nobody_can_answer_is_a_livelock() -> None:
    """It moves, and only the clock ever ends its wait: likely, and why is said."""
    verdict = explained(polling())
    assert (verdict.kind, verdict.certainty) == (VerdictKind.LIVELOCK, Certainty.LIKELY)
    assert verdict.assumptions


def test_a_loop_whose_provider_lives_is_none_even_if_that_one_waits() -> None:
    """A monitor that looks for commands is joined by the one who might send them: it may be at work."""
    scene = polling()
    scene.process(200, 100, name="Process-1")
    queue = ObjectId("pipe:[7]")
    scene.objects[queue] = replace(scene.objects[queue], holders=(Holder(Tgid(200), Fd(4), "w"),))
    scene.thread(200, 200, "read", wants_read(scene.pipe(8, (200,), (100,))))
    assert explained(scene).kind is VerdictKind.TIMED


@pytest.mark.parametrize("place", ["asyncio/base_events.py:1922 BaseEventLoop._run_once", "selectors.py:468 select"])
def test_an_event_loop_and_a_selector_with_a_timeout_sleep(place: str) -> None:
    """Their timeout is the next timer; that their own wake-up pipe is silent means nothing."""
    scene = polling()
    stack = (frame("selectors.py:468 EpollSelector.select"), frame(place), frame("/home/u/app.py:9 f", "run()"))
    scene.threads[Tid(100)] = replace(scene.threads[Tid(100)], stack=stack)
    assert explained(scene).kind is VerdictKind.TIMED


def test_a_poll_that_is_the_condition_of_a_loop_sleeps_between_rounds_of_work() -> None:
    """``while not stop.poll(1): work()``."""
    assert explained(polling("while not stop.poll(0.3):")).kind is VerdictKind.TIMED


def test_a_handler_for_sigterm_may_end_a_loop() -> None:
    """The handler sets what the loop looks at."""
    scene = polling()
    scene.processes[Tgid(100)] = replace(scene.processes[Tgid(100)], caught_signals=1 << 14)
    assert explained(scene).kind is VerdictKind.EXTERNAL


def test_one_made_after_the_first_look_may_hold_what_its_maker_holds() -> None:
    """Descriptors were read before it was made: its parent's ends are its own too."""
    scene = one()
    pipe = scene.pipe(7, (100,), (100,))
    scene.thread(100, 100, "read", wants_read(pipe))
    scene.process(200, 100, name="Process-1", start_ns=9_950_000_000)
    scene.thread(200, 200, None, state="R", moved=True)
    assert explained(scene).kind is VerdictKind.RUNNING
    scene.processes[Tgid(200)] = replace(scene.processes[Tgid(200)], start_ns=1_000_000_000)
    assert explained(scene).kind is VerdictKind.ORPHANED


@pytest.mark.parametrize(("started_by_the_program", "hangs"), [(False, False), (True, True)])
def test_a_manager_that_nobody_of_the_tree_started_serves_the_outside(
    started_by_the_program: bool, hangs: bool
) -> None:
    """A standing server waits for clients; one that the program started for itself only has its clients."""
    scene = one()
    pid = 100
    if started_by_the_program:
        pid = 200
        scene.process(200, 100, name="SyncManager-1")
        scene.thread(100, 100, "wait4", wants_child(200), stack=join_process())
    stack = [
        frame("threading.py:331 Condition.wait", self="<Condition at 0x9>"),
        frame("threading.py:629 Event.wait", self="<Event at 0x8>"),
        frame("multiprocessing/managers.py:176 Server.serve_forever"),
    ]
    scene.thread(pid, pid, "futex", wants_futex(pid), stack=stack, timeout_ns=10**9, moved=True)
    listener = ObjectId("socket:[4]")
    scene.objects[listener] = WaitObject(listener, ObjectKind.SOCKET, listening=True)
    accepting = [frame("multiprocessing/managers.py:189 Server.accepter"), *bootstrap("0x1")]
    scene.thread(pid + 1, pid, "accept4", Want(WaitKind.ACCEPT, listener, Fd(8)), stack=accepting)
    assert (explained(scene).kind in HANGS) is hangs
