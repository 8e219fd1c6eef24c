"""Ends that come at a bad moment: close, collection, exit and fork while others are in the middle of something."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

from qtrace.queue import Empty, JoinableQueue, Queue, TruncatedMessage, get_context
from qtrace.queue import robust as robust_module
from qtrace.queue.feeder import Pickling
from qtrace.queue.wire import body_of
from tests.queue.support import (
    LARGE_BYTES,
    METHODS,
    blocked_in,
    end,
    get_some,
    kill,
    put_all,
    started,
    wait_level,
)
from tests.support.processes import wait_until

READ, POLL = 0, 7  # numbers of x86_64
WAIT_S = 60
MODES = pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])


def put_and_close(queue: Any, items: list[object]) -> None:
    """Put items, close at once, and wait for the feeder."""
    put_all(queue, items)
    end(queue)


@MODES
def test_close_while_the_feeder_writes_cuts_nothing(robust: bool) -> None:
    """What was put before close() arrives whole, and join_thread() waits for it."""
    queue = Queue(robust=robust)
    with started(get_some, queue, 3, answers := Queue()):
        put_all(queue, [bytes(LARGE_BYTES), "small", bytes(LARGE_BYTES)])
        end(queue)
        assert [len(answers.get(timeout=WAIT_S)) for _ in range(3)] == [LARGE_BYTES, 5, LARGE_BYTES]
    with pytest.raises(ValueError, match="is closed"):
        queue.put(1)
    end(answers)


@MODES
@pytest.mark.parametrize("method", METHODS)
def test_close_in_a_child_ends_nothing_for_the_others(method: str, robust: bool) -> None:
    """The parent reads while one child after the other puts, closes and exits."""
    context = get_context(method)
    queue = context.Queue(4, robust=robust)
    sent = [[number, bytes(LARGE_BYTES), "last"] for number in range(2)]
    for items in sent:
        with started(put_and_close, queue, items, method=method) as child:
            assert [queue.get(timeout=WAIT_S) for _ in items] == items
            child.join(WAIT_S)
            assert child.exitcode == 0
    queue.put("own")
    assert queue.get(timeout=WAIT_S) == "own"
    end(queue)


@MODES
def test_a_get_goes_on_waiting_when_another_process_closes(robust: bool) -> None:
    """And gets what a third one puts later."""
    queue, answers = Queue(robust=robust), Queue()
    with started(get_some, queue, 2, answers) as reader:
        wait_until(lambda: blocked_in(reader, POLL if robust else READ), what="the wait in get")
        with started(put_and_close, queue, ["first"]) as writer:
            writer.join(WAIT_S)
        assert answers.get(timeout=WAIT_S) == "first"
        with started(put_and_close, queue, ["second"]) as writer:
            writer.join(WAIT_S)
        assert answers.get(timeout=WAIT_S) == "second"
    end(answers)


@MODES
def test_a_queue_collected_with_items_pending_sends_them(robust: bool) -> None:
    """Its feeder lives until the deque is empty, though nobody has the queue here any more."""
    queue, answers = Queue(robust=robust), Queue()
    items = [bytes(LARGE_BYTES), "second", bytes(LARGE_BYTES)]
    with started(wait_and_get, queue, len(items), go := get_context("fork").Event(), answers):
        put_all(queue, items)
        wait_level(queue, 60_000)
        del queue
        gc.collect()
        go.set()
        assert [answers.get(timeout=WAIT_S) for _ in items] == items
    end(answers)


def wait_and_get(queue: Any, count: int, go: Any, answers: Any) -> None:
    """Get items when told to, and send them on."""
    go.wait()
    get_some(queue, count, answers)


@MODES
def test_a_queue_in_a_queue_is_refused_as_by_the_standard_one(robust: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """The error hook says why, the slot comes back, and the queue goes on."""
    queue = Queue(1, robust=robust)
    queue.put([Queue(robust=robust)])
    queue.put("next", timeout=WAIT_S)
    assert queue.get(timeout=WAIT_S) == "next"
    end(queue)
    assert "Queue objects should only be shared between processes through inheritance" in capfd.readouterr().err


EXIT = """
import sys
from qtrace.queue import JoinableQueue, Queue, SimpleQueue
robust = sys.argv[1] == "robust"
for kind in (Queue, JoinableQueue, SimpleQueue):
    queue = kind(robust=robust)
    for number in range(20):
        queue.put(number)
large = Queue(robust=robust)
large.put(bytes(1_000_000))
large.cancel_join_thread()
print("end", flush=True)
"""


@pytest.mark.parametrize("mode", ["default", "robust"])
def test_an_interpreter_exits_with_unread_items(mode: str) -> None:
    """Small ones are in the pipes; the large one's rest is given up; nothing is said on stderr."""
    done = subprocess.run([sys.executable, "-c", EXIT, mode], capture_output=True, text=True, timeout=WAIT_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_join_ends_though_a_worker_was_killed_in_the_middle_of_its_task() -> None:
    """A task that it had begun to read is lost, not unfinished; those after it are for the others."""
    tasks = JoinableQueue(robust=True)
    with started(put_half, tasks, signal.SIGSTOP) as writer, started(get_some, tasks, 1, tasks) as worker:
        wait_until(lambda: blocked_in(worker, POLL), what="the worker's wait for the rest")
        wait_until(lambda: stopped_sending(tasks), what="half a task read")
        kill(worker)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGCONT)
        tasks.put("next")
        found = [tasks.get(timeout=WAIT_S)]
        while found[-1] != "next":
            found.append(tasks.get(timeout=WAIT_S))
        for _ in found:
            tasks.task_done()
        joiner = threading.Thread(target=tasks.join, daemon=True)
        joiner.start()
        joiner.join(WAIT_S)
        assert not joiner.is_alive()
        assert tasks.stats().lost == 1
    end(tasks)


def put_half(queue: Any, signal_number: int) -> None:
    """Put a large item, and send this process a signal at the end of the first write."""
    write = os.write

    def write_a_little(handle: int, piece: bytes) -> int:
        written = write(handle, memoryview(piece)[:30_000])
        robust_module.os.write = write  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal_number)
        return written

    robust_module.os.write = write_a_little  # type: ignore[attr-defined]
    queue.put(bytes(LARGE_BYTES))
    end(queue)


def stopped_sending(queue: Any) -> bool:
    """Return whether a message is begun, and nothing of it left in the pipe."""
    stats = queue.stats()
    return bool(stats.messages_in_pipe == 1 and stats.bytes_in_pipe == 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_feeder_repairs_what_a_dead_writer_left_though_its_process_reads_no_more(method: str) -> None:
    """Up to Python 3.8 close() closes the read end at once, while the feeder still sends."""
    context = get_context(method)
    queue, answers, go = context.Queue(robust=True), context.Queue(), context.Event()
    with started(put_half, queue, signal.SIGKILL, method=method) as writer:
        writer.join(WAIT_S)
    with started(get_past_torn, queue, go, answers, method=method) as reader:
        queue._reader.close()
        queue.put("of the living")
        end(queue)
        go.set()
        assert answers.get(timeout=WAIT_S) == ["torn", "of the living"]
        reader.join(WAIT_S)
    end(answers)


def get_past_torn(queue: Any, go: Any, answers: Any) -> None:
    """Send on what came, up to the first whole item, when told to."""
    go.wait()
    found: list[object] = []
    while not found or found[-1] == "torn":
        try:
            found.append(queue.get(timeout=WAIT_S))
        except TruncatedMessage:
            found.append("torn")
    answers.put(found)


@MODES
def test_many_forks_in_the_middle_of_everything(robust: bool) -> None:
    """Children are forked while threads put and get: each of them can put, and nothing is lost or comes twice."""
    queue = Queue(robust=robust)
    own = [("own", number, bytes(20_000 * (number % 3))) for number in range(60)]
    found: list[Any] = []
    children = 12

    def take() -> None:
        while len(found) < len(own) + children:
            try:
                found.append(queue.get(timeout=WAIT_S))
            except Empty:
                return

    taker, putter = threading.Thread(target=take), threading.Thread(target=put_all, args=(queue, own))
    taker.start()
    putter.start()
    for number in range(children):
        with started(put_and_close, queue, [("child", number, b"")]) as child:
            child.join(WAIT_S)
            assert child.exitcode == 0
    putter.join(WAIT_S)
    taker.join(WAIT_S)
    assert [item for item in found if item[0] == "own"] == own
    assert sorted(item[1] for item in found if item[0] == "child") == list(range(children))
    end(queue)


def test_memory_of_large_items_is_used_again_only_when_nobody_has_it() -> None:
    """A payload that an error hook keeps stays as it was; otherwise one piece of memory does for all."""
    pickling = Pickling()
    bodies = [digit * 20_000 for digit in (b"1", b"2", b"3")]
    kept = []
    for body in bodies[:2]:
        kept.append(pickling.dumps(body))
        pickling.forget()
    kept.append(pickling.dumps(bodies[2]))
    assert [ForkingPickler.loads(body_of(payload)) for payload in kept] == bodies
    assert all(
        bytes(body_of(payload)) == bytes(ForkingPickler.dumps(body)) for payload, body in zip(kept, bodies, strict=True)
    )
    kept.clear()
    for body in bodies:
        pickling.reuse()
        assert ForkingPickler.loads(body_of(pickling.dumps(body))) == body
    pickling.reuse()
    assert len(pickling._spare) == 1
    assert pickling.dumps("small") == ForkingPickler.dumps("small")


def test_a_pipe_that_is_given_up_is_emptied_by_whoever_has_an_end_of_it() -> None:
    """A process that closed its read end can still do so."""
    for closed in (False, True):
        queue = Queue(robust=True)
        queue.put("somewhere in the stream")
        wait_level(queue, 1)
        assert queue._robust is not None
        if closed:
            queue._reader.close()
        queue._robust._empty_pipe()
        assert queue._robust._level_bytes() == 0
        end(queue)
