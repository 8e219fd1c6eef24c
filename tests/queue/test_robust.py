"""What robust=True adds: a process that dies in the middle of put or get stops nobody else."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import qtrace.queue
from qtrace.queue import (
    Empty,
    Full,
    JoinableQueue,
    PipeSizeError,
    Queue,
    QueueStats,
    SimpleQueue,
    TruncatedMessage,
)
from qtrace.queue.mutex import FUTEX_TID_MASK, Holder
from qtrace.queue.robust import RobustPipe
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
from tests.support.processes import stat_fields, wait_until

READ, POLL, FUTEX = 0, 7, 202  # numbers of x86_64
FUTEX_WAITERS = 0x80000000  # linux/futex.h
KINDS = [Queue, JoinableQueue, SimpleQueue]


@pytest.fixture
def queue() -> Iterator[Queue]:
    """A robust queue, closed afterwards."""
    made = Queue(robust=True)
    yield made
    made.cancel_join_thread()
    made.close()


def lost(queue: Any) -> int:
    """Return what the queue says is lost."""
    count = queue.stats().lost
    assert isinstance(count, int)
    return count


# ---- torn messages


def test_a_message_cut_short_by_an_exit_raises_and_the_next_one_is_whole(queue: Queue) -> None:
    """The wish of the article: its second program gets an error that says what happened, and goes on."""
    with started(put_and_leave, queue, LARGE_BYTES, 0) as process:
        process.join()
    present_bytes = queue.stats().bytes_in_pipe
    queue.put("next")
    with pytest.raises(TruncatedMessage) as caught:
        queue.get()
    assert caught.value.pid == process.pid
    assert caught.value.expected_bytes == len(pickle.dumps(bytes(LARGE_BYTES)))
    assert caught.value.received_bytes == present_bytes - 4
    assert queue.get() == "next"
    assert queue.stats().torn == 1
    assert lost(queue) == 1


@pytest.mark.parametrize(
    ("make", "arguments"),
    [(SimpleQueue, ()), (JoinableQueue, ()), (Queue, ()), (Queue, (True, 20)), (Queue, (False,))],
)
def test_a_message_cut_short_by_a_kill_raises(make: Any, arguments: tuple[Any, ...]) -> None:
    """Of each kind of queue, and in each way to get."""
    made = make(robust=True)
    with started(put_all, made, [bytes(LARGE_BYTES)]) as process:
        wait_level(made, 60_000)
        kill(process)
    with pytest.raises(TruncatedMessage, match=f"process {process.pid} ended after"):
        made.get(*arguments)
    assert made.empty()
    threading.Thread(target=made.put, args=("next",)).start()
    assert made.get() == "next"


def test_a_reader_that_waits_for_the_rest_is_told(queue: Queue) -> None:
    """The writer dies while the reader is in the middle of its message."""
    caught: list[TruncatedMessage] = []

    def read() -> None:
        try:
            queue.get()
        except TruncatedMessage as error:
            caught.append(error)

    with started(put_and_stop, queue) as process:
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        wait_until(lambda: stopped(process), what="the writer's stop")
        wait_until(lambda: queue.stats().bytes_in_pipe == 0, what="an empty pipe")
        assert reader.is_alive()
        kill(process)
    reader.join(20)
    assert [error.pid for error in caught] == [process.pid]


def put_and_stop(queue: Any) -> None:
    """Put an item that fills the pipe many times, and stop in the middle of it, as by SIGSTOP."""
    pipe: Any = RobustPipe
    wait_for_room = pipe._await_room
    calls = iter(range(1, 1_000_000))

    def stop_once(self: RobustPipe) -> None:
        if next(calls) == 5:
            # To this thread: the process as a whole might go on until another one has been scheduled.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        wait_for_room(self)

    pipe._await_room = stop_once
    queue.put(bytes(20 * LARGE_BYTES))


def stopped(process: BaseProcess) -> bool:
    """Return whether the process is stopped (state T)."""
    assert process.pid is not None
    return (stat_fields(process.pid) or "?")[0] == "T"


def test_a_truncated_message_is_an_os_error_that_can_be_pickled() -> None:
    """As what a standard Connection raises at end of file in a message; pools send it home."""
    error = TruncatedMessage(7, 100, 60)
    again: TruncatedMessage = pickle.loads(pickle.dumps(error))
    assert issubclass(TruncatedMessage, OSError)
    assert (again.pid, again.expected_bytes, again.received_bytes) == (7, 100, 60)
    assert str(again) == "message cut short: process 7 ended after 60 of 100 bytes"


# ---- locks


def hold(lock: Any, answers: Any) -> None:
    """Take a lock and keep it."""
    lock.acquire()
    answers.put("held")
    sleep_for_ever()


@pytest.mark.parametrize("name", ["_rlock", "_wlock"])
@pytest.mark.parametrize("method", METHODS)
def test_a_lock_whose_holder_was_killed_comes_free(name: str, method: str) -> None:
    """The same kill makes a standard queue's lock stay taken for ever."""
    context = qtrace.queue.get_context(method)
    made, answers = context.Queue(robust=True), context.SimpleQueue()
    with started(
        hold, getattr(made, name) if method == "fork" else HeldBy(made, name), answers, method=method
    ) as holder:
        assert answers.get() == "held"
        assert not getattr(made, name).acquire(timeout=0.05)
        kill(holder)
    made.put("after")
    assert made.get(timeout=20) == "after"
    end(made)


class HeldBy:
    """A queue's lock that travels with the queue."""

    def __init__(self, queue: Any, name: str) -> None:
        self.queue, self.name = queue, name

    def acquire(self) -> bool:
        """Take the lock."""
        return bool(getattr(self.queue, self.name).acquire())


def test_a_reader_killed_while_it_waits_leaves_the_lock_to_the_next(queue: Queue) -> None:
    """get() without an item holds the read lock all the time."""
    answers = SimpleQueue()
    with started(get_some, queue, 1, answers) as one, started(get_some, queue, 1, answers) as other:
        wait_until(lambda: blocked_in(one, POLL, FUTEX) and blocked_in(other, POLL, FUTEX), what="two readers")
        holder = queue.stats().read_lock_holder
        assert holder is not None
        kill(one if holder.pid == one.pid else other)
        queue.put("item")
        assert answers.get() == "item"
    assert lost(queue) == 0


def test_a_reader_killed_in_the_middle_of_a_message_loses_that_one(queue: Queue) -> None:
    """The next reader steps over the rest of it, and the loss is counted."""
    with started(get_some, queue, 1, SimpleQueue()) as reader:
        wait_until(lambda: blocked_in(reader, POLL), what="the reader's wait")
        # The writer stops in the middle, so the reader is there, too.
        with started(put_and_stop, queue) as writer:
            wait_until(lambda: stopped(writer), what="the writer's stop")
            wait_until(lambda: queue.stats().bytes_in_pipe == 0, what="an empty pipe")
            kill(reader)
            os.kill(writer.pid or 0, signal.SIGCONT)
            answers: list[object] = []
            getter = threading.Thread(target=lambda: answers.append(queue.get()), daemon=True)
            getter.start()
            writer.join(60)
            assert writer.exitcode == 0
        queue.put("next")
        getter.join(60)
    assert answers == ["next"]
    assert lost(queue) == 1


def test_a_reader_and_then_the_writer_killed_in_the_middle_of_a_message_stop_nobody(queue: Queue) -> None:
    """The next reader finds nothing of the rest in the pipe: it must not wait for it inside a read."""
    answers = SimpleQueue()
    with started(put_and_stop, queue) as writer:
        with started(get_some, queue, 1, answers) as reader:
            wait_until(lambda: stopped(writer), what="the writer's stop")
            wait_until(lambda: queue.stats().bytes_in_pipe == 0, what="an empty pipe")
            wait_until(lambda: blocked_in(reader, POLL), what="the reader's wait for the rest")
            kill(reader)
        with started(get_some, queue, 1, answers) as reader:
            wait_until(lambda: blocked_in(reader, READ, POLL), what="the next reader's wait")
            kill(writer)
            queue.put("next")
            reader.join(20)
            assert reader.exitcode == 0
    assert answers.get() == "next"
    assert lost(queue) == 1


def test_a_wake_up_that_a_killed_waiter_took_along_is_not_missed(queue: Queue) -> None:
    """Neither in the main thread nor in a feeder.

    Woken, and killed before it ran, while another thread took the lock without a system call:
    then the lock does not say that somebody waits, and its release wakes nobody.
    """
    lock = queue._wlock
    waiter = threading.Thread(target=lambda: (lock.acquire(), lock.release()), daemon=True)
    lock.acquire()
    waiter.start()
    wait_until(lambda: in_call(waiter, FUTEX) and lock._owner[0] & FUTEX_WAITERS, what="the waiter's wait")
    lock._owner[0] &= FUTEX_TID_MASK
    lock.release()
    # Much longer than it takes, and shorter than a wait that is only a safety net.
    waiter.join(3)
    assert not waiter.is_alive()


def in_call(thread: threading.Thread, number: int) -> bool:
    """Return whether a thread of this process is blocked in a system call."""
    call = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()
    return call[0] == str(number)


def test_a_lock_is_its_threads_own(queue: Queue) -> None:
    """To take it twice would wait for ever: an error says so. So does a release without it."""
    with queue._rlock, pytest.raises(RuntimeError, match="already holds"):
        queue._rlock.acquire()
    with pytest.raises(RuntimeError, match="does not hold"):
        queue._rlock.release()


# ---- slots


def fill_and_wait(queue: Any, count: int) -> None:
    """Take `count` slots with items that the feeder cannot send, and stay."""
    for _ in range(count):
        queue.put(bytes(LARGE_BYTES))
    sleep_for_ever()


@pytest.mark.parametrize("method", METHODS)
def test_slots_of_a_dead_process_come_back(method: str) -> None:
    """What it had not sent is lost and said; the torn one's slot comes back when it is met."""
    bounded = qtrace.queue.get_context(method).Queue(3, robust=True)
    with started(fill_and_wait, bounded, 3, method=method) as process:
        wait_until(lambda: bounded.qsize() == 3, what="three items")
        wait_level(bounded, 60_000)
        with pytest.raises(Full):
            bounded.put("no room", timeout=0.05)
        kill(process)
    bounded.put("one", timeout=20)
    bounded.put("two", timeout=20)
    # Only the torn message is left of the three.
    assert bounded.qsize() == 3
    assert lost(bounded) == 3
    with pytest.raises(TruncatedMessage):
        bounded.get()
    assert [bounded.get(), bounded.get()] == ["one", "two"]
    assert bounded.qsize() == 0
    for number in range(3):
        bounded.put_nowait(number)
    assert bounded.full()
    bounded.cancel_join_thread()
    bounded.close()


def test_put_nowait_finds_slots_that_came_back() -> None:
    """Without waiting for anybody to notice the death."""
    bounded = Queue(2, robust=True)
    with started(fill_and_wait, bounded, 2) as process:
        wait_level(bounded, 60_000)
        wait_until(lambda: bounded.qsize() == 2, what="two items")
        kill(process)
    bounded.put_nowait("at once")
    with pytest.raises(TruncatedMessage):
        bounded.get()
    assert bounded.get() == "at once"
    end(bounded)


def test_a_put_that_waits_gets_the_slot_of_a_get() -> None:
    """The ordinary case: room is made by a reader, and the writer waits no longer than that."""
    bounded = Queue(1, robust=True)
    with started(put_all, bounded, list(range(50))) as process:
        assert [bounded.get() for _ in range(50)] == list(range(50))
        process.join()
    assert bounded.qsize() == 0


def test_join_of_a_joinable_queue_does_not_wait_for_the_dead() -> None:
    """Tasks that nobody will ever get are not unfinished."""
    tasks = JoinableQueue(robust=True)
    with started(fill_and_wait, tasks, 2) as process:
        wait_level(tasks, 60_000)
        wait_until(lambda: tasks.qsize() == 2, what="two tasks")
        kill(process)
    joiner = threading.Thread(target=tasks.join, daemon=True)
    joiner.start()
    with pytest.raises(TruncatedMessage):
        tasks.get()
    joiner.join(20)
    assert not joiner.is_alive()


def test_a_row_is_used_again_after_its_process_is_gone(queue: Queue) -> None:
    """More processes than rows may have had the queue."""
    for _ in range(20):
        with started(put_all, queue, ["x"]) as process:
            assert queue.get() == "x"
            process.join()
        queue._robust.slots.reap()  # type: ignore[union-attr]
    assert len(queue._robust._control.rows()) == 1  # type: ignore[union-attr]
    assert queue._robust._words[43] <= 3  # type: ignore[union-attr]
    assert lost(queue) == 0


# ---- drain and join_processes


@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_drain_yields_everything_until_all_writers_are_done(robust: bool) -> None:
    """What is in the pipe, in deques, and not yet put; then it ends by itself."""
    made = Queue(robust=robust)
    made.put("own")
    with started(put_all, made, [1, bytes(LARGE_BYTES), 2]), started(put_all, made, [3]):
        found = list(made.drain())
    assert sorted(item for item in found if isinstance(item, int)) == [1, 2, 3]
    assert len(found) == 5
    assert found.count("own") == 1
    end(made)


@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_drain_may_be_told_who_writes(robust: bool) -> None:
    """Other children then may live on."""
    made = Queue(robust=robust)
    with started(sleep_for_ever), started(put_all, made, [1, 2]) as writer:
        assert list(made.drain([writer])) == [1, 2]


def test_drain_ends_after_its_timeout(queue: Queue) -> None:
    """Whatever may still come."""
    with started(hold_open, queue) as writer:
        assert list(queue.drain([writer], timeout=0.2)) == []


def hold_open(queue: Any) -> None:
    """Have a queue and put nothing."""
    sleep_for_ever()


def test_drain_raises_for_a_torn_message_and_can_go_on(queue: Queue) -> None:
    """Its caller must know; calling it again yields the rest."""
    with started(put_and_leave, queue, LARGE_BYTES, 0) as writer:
        writer.join()
    queue.put("after")
    with pytest.raises(TruncatedMessage):
        list(queue.drain())
    assert list(queue.drain()) == ["after"]


def test_drain_waits_for_members_that_are_no_children(queue: Queue) -> None:
    """A robust queue knows every process that has it: here a grandchild whose parent is gone."""
    with started(leave_grandchild, queue) as parent:
        parent.join()
        assert list(queue.drain()) == ["late"]


def leave_grandchild(queue: Any) -> None:
    """Exit at once; a child of ours puts something later."""
    child = qtrace.queue.get_context("fork").Process(target=put_late, args=(queue, os.getpid()))
    child.start()
    slots = queue._robust.slots
    wait_until(lambda: child.pid in [member.pid for member in slots.members()], what="the child's row")
    os._exit(0)


def put_late(queue: Any, parent: int) -> None:
    """Put something when the parent is gone."""
    while os.getppid() == parent:
        time.sleep(0.01)
    time.sleep(0.2)
    queue.put("late")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
def test_join_processes_takes_while_it_waits(method: str, robust: bool) -> None:
    """The article's first program, which cannot hang like this."""
    made = qtrace.queue.get_context(method).Queue(robust=robust)
    with started(put_all, made, [bytes(LARGE_BYTES), "b"], method=method) as process:
        taken = made.join_processes([process])
        assert process.exitcode == 0
    assert [len(item) for item in taken] == [LARGE_BYTES, 1]


def test_join_processes_ends_after_its_timeout(queue: Queue) -> None:
    """The processes may still run then."""
    with started(hold_open, queue) as process:
        queue.put("here")
        wait_until(lambda: not queue.empty(), what="the item")
        assert queue.join_processes([process], timeout=0.2) == ["here"]
        assert process.is_alive()


def test_join_processes_steps_over_torn_messages(queue: Queue) -> None:
    """They are counted, not returned."""
    with started(put_and_leave, queue, LARGE_BYTES, 0) as process:
        process.join()
        assert queue.join_processes([process]) == []
    assert queue.stats().torn == 1


# ---- the pipe's size


@pytest.mark.parametrize(("asked", "made"), [(1, 4096), (4096, 4096), (5000, 8192), (65537, 131072)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_has_the_size_asked_for_rounded_as_the_kernel_does(kind: Any, asked: int, made: int) -> None:
    """To a power of two of pages."""
    assert kind(pipe_bytes=asked).stats().capacity_bytes == made


def test_a_pipe_has_the_kernels_size_if_nothing_is_asked() -> None:
    """64 KiB, if the user has not too many pipes."""
    reader, writer = os.pipe()
    assert Queue().stats().capacity_bytes == qtrace.queue.pipes.pipe_capacity_bytes(reader)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (0, "must be positive"),
        (-1, "must be positive"),
        (1 << 40, "the kernel takes at most"),
    ],
)
def test_an_impossible_size_is_an_error_that_says_why(asked: int, says: str) -> None:
    """A ValueError of our own."""
    with pytest.raises(PipeSizeError, match=says):
        Queue(pipe_bytes=asked)


@pytest.mark.parametrize("robust", [False, True])
def test_a_small_pipe_works(robust: bool) -> None:
    """One page, messages of many pages."""
    made = Queue(robust=robust, pipe_bytes=4096)
    with started(put_all, made, [bytes(LARGE_BYTES), 1, bytes(5000)]):
        assert [len(made.get()), made.get(), len(made.get())] == [LARGE_BYTES, 1, 5000]


def test_above_the_systems_limit_the_error_names_it() -> None:
    """For users without CAP_SYS_RESOURCE."""
    limit = int(Path("/proc/sys/fs/pipe-max-size").read_text())
    refused = unprivileged(4 * limit)
    assert str(limit) in refused
    assert "pipe-max-size" in refused


def unprivileged(size_bytes: int) -> str:
    """Return what a queue with that pipe says to a user without privileges."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            set_size = qtrace.queue.pipes.set_pipe_bytes
            pipe = os.pipe()
            try:
                set_size(pipe[1], size_bytes)
                os.write(writer, b"no error")
            except PipeSizeError as error:
                os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as answer:
        return answer.read().decode()


# ---- stats


def test_stats_of_an_unused_queue(queue: Queue) -> None:
    """Nothing anywhere."""
    stats = queue.stats()
    assert isinstance(stats, QueueStats)
    assert stats.robust
    assert (stats.items_in_deque, stats.messages_in_pipe, stats.bytes_in_pipe, stats.used_slots) == (0, 0, 0, 0)
    assert stats.feeder is not None
    assert stats.feeder.state == "not started"
    assert (stats.read_locked, stats.write_locked) == (False, False)
    assert (stats.read_lock_holder, stats.write_lock_holder) == (None, None)
    assert (stats.torn, stats.lost) == (0, 0)


def test_stats_tell_where_the_items_are(queue: Queue) -> None:
    """Small ones in the pipe; a large one half in it, in the feeder's hands, the rest in the deque."""
    for number in range(5):
        queue.put(number)
    wait_until(lambda: queue.stats().messages_in_pipe == 5, what="five messages")
    assert queue.stats().bytes_in_pipe == 5 * (4 + len(pickle.dumps(1)))
    before_ns = time.monotonic_ns()
    queue.put(bytes(LARGE_BYTES))
    wait_level(queue, 60_000)
    queue.put("waits")
    stats = queue.stats()
    assert stats.used_slots == 7
    assert stats.items_in_deque == 2
    assert stats.messages_in_pipe == 6
    assert stats.feeder is not None
    assert stats.feeder.state == "sending"
    assert before_ns <= stats.feeder.since_ns <= time.monotonic_ns()
    assert stats.write_locked
    assert stats.write_lock_holder == Holder(queue._thread.native_id or 0, os.getpid())  # type: ignore[union-attr]


def tell_stats(queue: Any, answers: Any) -> None:
    """Send a look at the queue from another process."""
    answers.put(queue.stats())


@pytest.mark.parametrize("method", METHODS)
def test_stats_can_be_read_from_any_process(method: str) -> None:
    """Also what the feeder of another process does, and since when."""
    context = qtrace.queue.get_context(method)
    made, answers = context.Queue(robust=True), context.SimpleQueue()
    made.cancel_join_thread()
    made.put(bytes(LARGE_BYTES))
    wait_level(made, 60_000)
    with started(tell_stats, made, answers, method=method):
        stats = answers.get()
    assert stats.items_in_deque == 1
    assert stats.feeders[os.getpid()] == made.stats().feeder
    assert stats.feeders[os.getpid()].state == "sending"
    assert stats.write_lock_holder == made.stats().write_lock_holder
    made.close()


def test_stats_wait_for_no_lock(queue: Queue) -> None:
    """Not even where somebody has died, and what is his would have to be written off."""
    pipe: Any = queue._robust
    answers = SimpleQueue()
    with started(sleep_for_ever) as member:
        wait_until(lambda: member.pid in queue.stats().feeders, what="the member's row")
        with started(hold, pipe.slots._mutex, answers):
            assert answers.get() == "held"
            kill(member)
            looks: list[QueueStats] = []
            looker = threading.Thread(target=lambda: looks.append(queue.stats()), daemon=True)
            looker.start()
            looker.join(20)
            assert looks
    assert member.pid not in looks[0].feeders


@pytest.mark.parametrize("kind", KINDS)
def test_stats_of_a_default_queue_say_what_it_knows(kind: Any) -> None:
    """None where only a robust queue keeps books."""
    made = kind()
    made.put("x")
    wait_level(made, 1)
    stats = made.stats()
    assert not stats.robust
    assert stats.bytes_in_pipe == 4 + len(pickle.dumps("x"))
    assert (stats.messages_in_pipe, stats.lost, stats.torn, stats.read_lock_holder) == (None, None, None, None)
    assert stats.used_slots == (None if kind is SimpleQueue else 1)
    assert made.get() == "x"


def test_a_default_queue_still_behaves_as_the_standard_one() -> None:
    """Robustness is on by argument: without it the rest of a torn message is waited for."""
    made = Queue()
    with started(put_and_leave, made, LARGE_BYTES, 0) as writer:
        writer.join()
    with started(get_some, made, 1, SimpleQueue()) as reader:
        wait_until(lambda: made.stats().bytes_in_pipe == 0, what="an empty pipe")
        wait_until(lambda: blocked_in(reader, 0), what="the reader inside read")
    with pytest.raises(Empty):
        made.get(timeout=0.05)
