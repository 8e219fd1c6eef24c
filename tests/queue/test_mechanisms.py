"""The mechanisms of the standard queue, each by itself: what ours shares with it."""

from __future__ import annotations

import gc
import inspect
import multiprocessing
import os
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from multiprocessing import connection, queues, util
from typing import Any

import pytest

import qtrace.queue
from qtrace.queue import Empty, Full, JoinableQueue, Queue, SimpleQueue
from qtrace.queue.feeder import is_quick
from tests.queue.support import (
    LARGE_BYTES,
    METHODS,
    blocked_in,
    end,
    get_some,
    kill,
    put_all,
    put_and_leave,
    sleep_for_ever,
    started,
    wait_level,
)
from tests.support.processes import wait_until


@pytest.fixture(params=[False, True], ids=["default", "robust"])
def queue(request: pytest.FixtureRequest) -> Iterator[Queue]:
    """A queue that is closed afterwards; each fact holds in both modes."""
    made = Queue(robust=request.param)
    yield made
    made.cancel_join_thread()
    made.close()


def feeder_of(queue: Any) -> threading.Thread:
    """Return the running feeder thread."""
    thread = queue._thread
    assert isinstance(thread, threading.Thread)
    return thread


# ---- slots


@pytest.mark.parametrize("robust", [False, True])
def test_slots_bound_what_is_put_and_not_yet_got(robust: bool) -> None:
    """A slot is taken by put and comes back by get, wherever the item is in between."""
    bounded = Queue(2, robust=robust)
    bounded.put("a")
    bounded.put("b")
    assert bounded.full()
    assert bounded.qsize() == 2
    with pytest.raises(Full):
        bounded.put_nowait("c")
    with pytest.raises(Full):
        bounded.put("c", timeout=0.02)
    assert bounded.get() == "a"
    assert not bounded.full()
    bounded.put("c", timeout=0)
    assert [bounded.get(), bounded.get()] == ["b", "c"]
    assert bounded.qsize() == 0
    end(bounded)


def test_the_semaphore_is_bounded() -> None:
    """A slot that was never taken cannot be given back."""
    bounded = Queue(2)
    with pytest.raises(ValueError, match="released too many times"):
        bounded._sem.release()


@pytest.mark.parametrize("maxsize", [0, -1])
def test_no_size_means_the_largest_semaphore(maxsize: int) -> None:
    """As the standard queue: unlimited is SEM_VALUE_MAX."""
    standard: Any = multiprocessing.Queue(maxsize)
    assert Queue(maxsize)._maxsize == standard._maxsize


# ---- deque, condition, feeder


def test_the_first_put_starts_the_feeder(queue: Queue) -> None:
    """One daemon thread named QueueFeederThread for each queue and process that puts."""
    before = set(threading.enumerate())
    assert queue._thread is None
    queue.put(1)
    feeder = feeder_of(queue)
    assert feeder.name == "QueueFeederThread"
    assert feeder.daemon
    queue.put(2)
    assert queue._thread is feeder
    assert set(threading.enumerate()) - before == {feeder}


def test_put_only_appends_to_the_deque(queue: Queue) -> None:
    """put returns though the pipe is full; the item waits in the deque, not yet pickled."""
    queue.put(bytes(LARGE_BYTES))
    wait_level(queue, 60_000)
    later = [1]
    queue.put(later)
    assert list(queue._buffer) == [later]
    later.append(2)
    assert len(queue.get()) == LARGE_BYTES
    assert queue.get() == [1, 2]


def test_an_idle_feeder_waits_on_the_condition(queue: Queue) -> None:
    """An empty deque makes it wait, and the next put wakes it."""
    queue.put(1)
    assert queue.get() == 1
    wait_until(lambda: len(queue._notempty._waiters) == 1, what="the feeder's wait")  # type: ignore[attr-defined]
    assert queue.stats().feeder is not None
    assert queue.stats().feeder.state == "waiting for items"  # type: ignore[union-attr]
    queue.put(2)
    assert queue.get() == 2


def test_a_feeder_keeps_nothing_of_what_it_sent(queue: Queue) -> None:
    """While it waits for the next item it refers to none of the last ones."""
    sent = Payload()
    gone = weakref.ref(sent)
    queue.put(sent)
    del sent
    queue.get()
    wait_until(lambda: len(queue._notempty._waiters) == 1, what="the feeder's wait")  # type: ignore[attr-defined]
    gc.collect()
    assert gone() is None


class Payload:
    """An instance that can be pickled and referred to weakly."""


@pytest.mark.parametrize("way", ["kill", "leave"])
@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_a_writers_end_tears_no_small_message(way: str, robust: bool) -> None:
    """The pipe is full of them, and the feeder in the middle of a batch: what arrives is whole, then nothing comes."""
    made = Queue(robust=robust)
    with started(put_many_and_leave, made, way) as process:
        if way == "kill":
            wait_until(lambda: blocked_in(process, 1, 7), what="the feeder's wait for room")
            kill(process)
        process.join()
    level_bytes = made.stats().bytes_in_pipe
    found, found_bytes = [], 0
    while found_bytes < level_bytes:
        item = made.get(timeout=20)
        found.append(item)
        found_bytes += 4 + len(pickle.dumps(item))
    assert found == list(range(len(found)))
    assert len(found) > 1000
    assert found_bytes == level_bytes
    with pytest.raises(Empty):
        made.get(timeout=0.05)


def put_many_and_leave(queue: Any, way: str) -> None:
    """Put more small items than the pipe holds; stay, or leave without waiting for the feeder."""
    queue.cancel_join_thread()
    for number in range(50_000):
        queue.put(number)
    if way == "kill":
        sleep_for_ever()
    wait_until(lambda: blocked_in(multiprocessing.current_process(), 1, 7), what="the feeder's wait for room")


class Waits:
    """Its pickling waits until it may go on."""

    gate = threading.Event()

    def __reduce__(self) -> Any:
        assert self.gate.wait(20)
        return str, ("waited",)


@pytest.mark.parametrize("last", [Waits(), [1, (2, {3: Waits()})]], ids=["itself", "inside"])
def test_no_item_waits_for_the_pickling_of_a_later_one(queue: Queue, last: object) -> None:
    """It may be slow, wait for what comes before it to be got, or end the process."""
    Waits.gate.clear()
    # Holds the feeder back until all are in the deque.
    with queue._wlock:
        for item in ("first", "a", "b", last, "c"):
            queue.put(item)
        wait_until(lambda: queue.stats().feeder.state == "sending", what="the feeder")  # type: ignore[union-attr]
    assert [queue.get(timeout=20) for _ in range(3)] == ["first", "a", "b"]
    Waits.gate.set()
    assert "waited" in str(queue.get(timeout=20))
    assert queue.get(timeout=20) == "c"


def test_what_is_quick_to_pickle_runs_no_code_of_the_program() -> None:
    """Plain values and small containers of them; nothing that a program can have changed, nor a large one."""

    class Text(str):
        """A string with a class of its own."""

    cycle: list[object] = []
    cycle.append(cycle)
    for quick in (1, -1.5, None, True, "x", b"x", (1, "a", b"c"), [1, [2, 3]], {"a": (1, 2)}, {1}, frozenset({1})):
        assert is_quick(quick)
    for slow in (
        Text("x"),
        Payload(),
        [Payload()],
        {"a": [Text()]},
        1j,
        bytearray(1),
        bytes(20_000),
        [0] * 1000,
        cycle,
    ):
        assert not is_quick(slow)


def test_threads_that_put_at_once_lose_nothing(queue: Queue) -> None:
    """Each one's items arrive in its order, though put takes no lock, and the first ones race to start the feeder."""
    go = threading.Barrier(8)

    def put_numbers(name: int) -> None:
        go.wait()
        for number in range(300):
            queue.put((name, number))

    threads = [threading.Thread(target=put_numbers, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    found = [queue.get(timeout=20) for _ in range(8 * 300)]
    for thread in threads:
        thread.join()
    for name in range(8):
        assert [number for each, number in found if each == name] == list(range(300))
    assert queue.qsize() == 0


def test_a_put_never_leaves_the_feeder_asleep(queue: Queue) -> None:
    """Put and get in turn, so that each put meets a feeder about to fall asleep."""
    for number in range(3000):
        queue.put(number)
        assert queue.get(timeout=20) == number


# ---- close, sentinel, finalizers


def test_close_sends_what_was_put_and_ends_the_feeder(queue: Queue) -> None:
    """The sentinel stands in the deque behind everything put before it."""
    queue.put(bytes(LARGE_BYTES))
    queue.put("last")
    feeder = feeder_of(queue)
    # The feeder's last act is to close both ends of this process.
    reader = connection.Connection(os.dup(queue._reader.fileno()), writable=False)
    queue.close()
    with pytest.raises(ValueError, match="is closed"):
        queue.put("too late")
    with pytest.raises(ValueError, match="is closed"):
        queue.get()
    assert feeder.is_alive()
    assert len(reader.recv()) == LARGE_BYTES
    assert reader.recv() == "last"
    queue.join_thread()
    assert not feeder.is_alive()
    assert queue._reader.closed
    assert queue._writer.closed
    reader.close()


def test_close_without_a_put_needs_no_feeder(queue: Queue) -> None:
    """Nothing was started, nothing is to be joined."""
    queue.close()
    queue.join_thread()
    assert queue._thread is None


def test_join_thread_is_for_closed_queues(queue: Queue) -> None:
    """The feeder of an open queue does not end."""
    with pytest.raises(AssertionError, match="not closed"):
        queue.join_thread()


def finalizers_of(queue: Any) -> dict[int, str]:
    """Return exit priority -> callback of the queue's two finalizers."""
    found = {}
    for (priority, _), finalizer in list(util._finalizer_registry.items()):  # type: ignore[attr-defined]
        if finalizer in (queue._close, queue._jointhread):
            found[priority] = finalizer._callback.__name__
    return found


def test_exit_closes_before_it_joins(queue: Queue) -> None:
    """Priority 10 puts the sentinel, -5 joins: multiprocessing runs the higher one first."""
    assert finalizers_of(queue) == {}
    queue.put(1)
    assert finalizers_of(queue) == {10: "_finalize_close", -5: "_finalize_join"}


def test_cancel_join_thread_takes_the_join_away(queue: Queue) -> None:
    """Before or after the first put; closing at exit stays."""
    queue.put(1)
    queue.cancel_join_thread()
    assert finalizers_of(queue) == {10: "_finalize_close"}
    later = Queue()
    later.cancel_join_thread()
    later.put(1)
    assert finalizers_of(later) == {10: "_finalize_close"}
    later.get()
    later.close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_a_process_exits_after_its_feeder_has_sent_all(method: str, robust: bool) -> None:
    """What was put arrives, however large, though main ends at once."""
    made = qtrace.queue.get_context(method).Queue(robust=robust)
    with started(put_all, made, [bytes(LARGE_BYTES), "last"], method=method) as process:
        assert len(made.get()) == LARGE_BYTES
        assert made.get() == "last"
        process.join()
        assert process.exitcode == 0


def test_cancel_join_thread_lets_a_process_exit_with_unsent_items() -> None:
    """The default mode tears the message in the middle of which the process ends, as the standard queue does."""
    made = Queue()
    with started(put_and_leave, made, LARGE_BYTES, 3) as process:
        process.join(20)
        assert process.exitcode == 0
    assert 60_000 <= made.stats().bytes_in_pipe < LARGE_BYTES


def test_a_queue_that_is_collected_ends_its_feeder() -> None:
    """The feeder holds no reference to the queue; the finalizer at its collection puts the sentinel."""
    made = Queue()
    made.put(1)
    made.get()
    feeder = feeder_of(made)
    del made
    gc.collect()
    feeder.join(20)
    assert not feeder.is_alive()


# ---- fork


def say_what_was_inherited(queue: Any, answers: Any) -> None:
    """Tell the parent what the child's queue holds; the child's condition must be free."""
    with queue._notempty:
        answers.put((len(queue._buffer), queue._thread is None, queue._closed, queue._joincancelled))


@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_a_forked_child_starts_anew(robust: bool) -> None:
    """Its deque is empty, it has no feeder, and a lock that the parent held at the fork is another one."""
    made, answers = Queue(robust=robust), SimpleQueue()
    made.cancel_join_thread()
    made.put(bytes(LARGE_BYTES))
    wait_level(made, 60_000)
    made.put("in the parent's deque")
    with made._notempty, started(say_what_was_inherited, made, answers):
        assert answers.get() == (0, True, False, False)
    assert len(made.get()) == LARGE_BYTES
    assert made.get() == "in the parent's deque"


@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_a_child_forked_while_the_feeder_waits_for_room_can_put(robust: bool) -> None:
    """Nothing of what that thread of the parent was doing is left in the child."""
    made = Queue(robust=robust)
    made.put(bytes(LARGE_BYTES))
    wait_until(lambda: blocked_in(multiprocessing.current_process(), 1, 7), what="the feeder's wait for room")
    with started(put_all, made, [bytes(LARGE_BYTES), "last"]) as child:
        assert [len(made.get(timeout=20)) for _ in range(3)] == [LARGE_BYTES, LARGE_BYTES, 4]
        child.join()
        assert child.exitcode == 0
    end(made)


def get_and_tell(queue: Any, answers: Any) -> None:
    """Get one item and tell its length."""
    answers.put(len(queue.get()))


@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_a_child_forked_while_a_thread_waits_in_get_can_get(robust: bool) -> None:
    """Nor of what that one was doing."""
    made, answers = Queue(robust=robust), SimpleQueue()
    reader = threading.Thread(target=made.get, daemon=True)
    with started(put_and_wait, made, bytes(LARGE_BYTES)) as writer:
        wait_level(made, 60_000)
        os.kill(writer.pid or 0, signal.SIGSTOP)
        reader.start()
        wait_until(lambda: made.stats().bytes_in_pipe == 0, what="the reader in the middle of a message")
        wait_until(lambda: blocked_in(multiprocessing.current_process(), 0, 7), what="the reader's wait")
        with started(get_and_tell, made, answers) as child:
            os.kill(writer.pid or 0, signal.SIGCONT)
            reader.join(20)
            made.put(bytes(LARGE_BYTES))
            assert answers.get() == LARGE_BYTES
            child.join()
    end(made)


def put_and_wait(queue: Any, item: object) -> None:
    """Put an item and stay."""
    queue.put(item)
    sleep_for_ever()


# ---- errors of the feeder


class Watched(Queue):
    """Keeps what the error hook was told."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.told: list[tuple[Exception, object]] = []
        # The feeder gets the hook at its start.
        self._on_queue_feeder_error = lambda e, obj: self.told.append((e, obj))  # type: ignore[method-assign]


class Stubborn:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise ValueError("not this one")


class StubbornOnce:
    """Pickles through the pickler that is in use, then fails."""

    def __reduce__(self) -> Any:
        return list, ([Stubborn()],)


@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
@pytest.mark.parametrize("bad", [Stubborn(), StubbornOnce()], ids=["itself", "inside"])
def test_an_item_that_cannot_be_pickled_goes_to_the_hook_and_gives_its_slot_back(bad: object, robust: bool) -> None:
    """The others of its batch arrive in order."""
    watched = Watched(4, robust=robust)
    for item in ("a", bad, "b", [1, 2]):
        watched.put(item)
    assert [watched.get() for _ in range(3)] == ["a", "b", [1, 2]]
    (error, obj) = watched.told[0]
    assert len(watched.told) == 1
    assert str(error) == "not this one"
    assert obj is bad
    assert watched.qsize() == 0
    end(watched)


def test_the_default_hook_prints_the_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """As the standard queue's."""
    made = Queue()
    made.put(Stubborn())
    made.put("next")
    assert made.get() == "next"
    end(made)
    assert "ValueError: not this one" in capfd.readouterr().err


@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_a_broken_pipe_goes_to_the_hook(robust: bool) -> None:
    """Once the last reader is gone, each item that cannot be written is reported."""
    watched = Watched(robust=robust)
    watched._reader.close()
    watched.put("nobody reads this")
    wait_until(lambda: watched.told, what="the hook")
    assert isinstance(watched.told[0][0], BrokenPipeError)
    assert feeder_of(watched).is_alive()
    end(watched)


@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_ignore_epipe_ends_the_feeder_in_silence(robust: bool) -> None:
    """concurrent.futures sets it."""
    watched = Watched(robust=robust)
    watched._ignore_epipe = True
    watched._reader.close()
    watched.put("nobody reads this")
    feeder_of(watched).join(20)
    assert not feeder_of(watched).is_alive()
    assert watched.told == []


# ---- get


def test_get_waits_as_long_as_asked_on_the_monotonic_clock(queue: Queue) -> None:
    """Never less than the timeout; nothing, 0 and less than 0 look once."""
    started_s = time.monotonic()
    with pytest.raises(Empty):
        queue.get(timeout=0.05)
    assert time.monotonic() - started_s >= 0.05
    for arguments in ((False,), (True, 0), (True, -1), (False, 5)):
        with pytest.raises(Empty):
            queue.get(*arguments)
    with pytest.raises(Empty):
        queue.get_nowait()


def test_the_time_for_the_read_lock_counts(queue: Queue) -> None:
    """A reader that waits for a message holds the read lock; another one's timeout runs meanwhile."""
    with started(get_some, queue, 1, SimpleQueue()):
        wait_until(lambda: queue.stats().read_locked, what="the other reader")
        with pytest.raises(Empty):
            queue.get(timeout=0.05)
        with pytest.raises(Empty):
            queue.get(False)


def test_get_waits_for_an_item_to_come(queue: Queue) -> None:
    """With a timeout and without."""
    for timeout in (None, 20):
        later = threading.Timer(0.05, queue.put, ("here",))
        later.start()
        assert queue.get(timeout=timeout) == "here"
        later.join()


class Curious:
    """Looks at its queue's read lock when it is unpickled."""

    lock: Any = None

    def __setstate__(self, state: object) -> None:
        if not Curious.lock.acquire(False):
            raise AssertionError("the read lock is held")
        Curious.lock.release()

    def __getstate__(self) -> object:
        return 1


@pytest.mark.parametrize("arguments", [(), (True, 20)])
def test_items_are_unpickled_outside_the_read_lock(queue: Queue, arguments: tuple[Any, ...]) -> None:
    """A slow or failing __setstate__ stops nobody else."""
    Curious.lock = queue._rlock
    queue.put(Curious())
    assert isinstance(queue.get(*arguments), Curious)


# ---- the rest of the surface


def test_empty_speaks_of_the_pipe(queue: Queue) -> None:
    """empty() looks whether the pipe is readable."""
    assert queue.empty()
    queue.put(1)
    wait_until(lambda: not queue.empty(), what="the item in the pipe")
    queue.get()
    assert queue.empty()


@pytest.mark.parametrize("make", [Queue, JoinableQueue, SimpleQueue])
@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_queues_are_shared_by_inheritance_only(make: Any, robust: bool) -> None:
    """Pickling is for processes that are being spawned."""
    with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
        pickle.dumps(make(robust=robust))


@pytest.mark.parametrize("name", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_names_arguments_and_defaults_are_the_standard_ones(name: str) -> None:
    """What a program may call on a standard queue it may call on ours, in the same way."""
    standard, ours = getattr(queues, name), getattr(qtrace.queue, name)
    for method, function in inspect.getmembers(standard, inspect.isfunction):
        if method.startswith("_") and method != "__init__":
            continue
        expected = inspect.signature(function).parameters
        found = inspect.signature(getattr(ours, method)).parameters
        for parameter in expected.values():
            same = found[parameter.name]
            assert same.kind == parameter.kind
            # ctx is required there, because contexts fill it in.
            assert same.default == parameter.default or parameter.name == "ctx"
        extra = [found[key] for key in found if key not in expected]
        assert all(
            parameter.kind == parameter.KEYWORD_ONLY and parameter.default in (False, None) for parameter in extra
        )


def test_queues_can_be_subscripted() -> None:
    """Queue[int] in annotations."""
    subscripted: Any = Queue[int]  # type: ignore[misc]
    assert subscripted.__origin__ is Queue


@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_a_joinable_queue_counts_tasks(robust: bool) -> None:
    """join() waits until task_done() was called for each put; one call more is an error."""
    tasks = JoinableQueue(robust=robust)
    tasks.join()
    tasks.put(1)
    tasks.put(2)
    joiner = threading.Thread(target=tasks.join, daemon=True)
    joiner.start()
    tasks.get()
    tasks.task_done()
    tasks.get()
    assert joiner.is_alive()
    tasks.task_done()
    joiner.join(20)
    assert not joiner.is_alive()
    with pytest.raises(ValueError, match="called too many times"):
        tasks.task_done()
    end(tasks)


def work_off(tasks: Any, results: Any) -> None:
    """Square numbers until None comes."""
    for number in iter(tasks.get, None):
        results.put((os.getpid(), number * number))
        tasks.task_done()
    tasks.task_done()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_three_kinds_of_queue_under_every_start_method(method: str, robust: bool) -> None:
    """Items go to children and come back, and tasks are joined across processes."""
    context = qtrace.queue.get_context(method)
    tasks, results = context.JoinableQueue(8, robust=robust), context.SimpleQueue(robust=robust)
    with started(work_off, tasks, results, method=method) as process:
        for number in range(20):
            tasks.put(number)
        answers = [results.get() for _ in range(20)]
        tasks.put(None)
        tasks.join()
        process.join()
        assert process.exitcode == 0
    assert answers == [(process.pid, number * number) for number in range(20)]
    end(tasks)


def test_a_simple_queue_writes_in_the_caller() -> None:
    """No feeder: put waits while the pipe is full."""
    for robust in (False, True):
        simple = SimpleQueue(robust=robust)
        putter = threading.Thread(target=simple.put, args=(bytes(LARGE_BYTES),), daemon=True)
        putter.start()
        wait_until(lambda here=simple: here.stats().bytes_in_pipe > 60_000, what="the full pipe")
        assert putter.is_alive()
        assert len(simple.get()) == LARGE_BYTES
        putter.join(20)
        assert not putter.is_alive()
        assert simple.empty()
        simple.close()
        simple.close()
