"""Random programs on a queue: every item arrives once, in its producer's order."""

from __future__ import annotations

import collections
import multiprocessing
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qtrace.queue import Empty, Full, JoinableQueue, Queue, get_context

Step = tuple[str, Any]

# Bodies in one write, in two, in a buffer of their own, and longer than a pipe.
sizes = st.sampled_from([0, 1, 100, 5000, 16_384, 17_000, 40_000, 150_000])
maxsizes = st.sampled_from([0, 1, 2, 5, 30])
waits = st.sampled_from([0, 0.001, 0.01])

steps = st.one_of(
    st.tuples(st.just("put"), sizes),
    st.tuples(st.just("put"), sizes),
    st.tuples(st.just("put_nowait"), sizes),
    st.tuples(st.just("put_timeout"), st.tuples(sizes, waits)),
    st.tuples(st.just("get_nowait"), st.none()),
    st.tuples(st.just("get_timeout"), waits),
    st.tuples(st.just("sleep"), waits),
    st.tuples(st.just("close"), st.none()),
)
programs = st.lists(st.lists(steps, max_size=25), min_size=1, max_size=4)
many = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


class Actor:
    """Runs one process's steps and remembers what it put and got."""

    def __init__(self, queue: Any, name: int) -> None:
        self.queue, self.name = queue, name
        self.puts = 0
        self.got: list[tuple[int, int]] = []
        self.closed = False

    def run(self, program: list[Step]) -> None:
        """Do all steps; a closed queue must refuse."""
        for step, argument in program:
            try:
                getattr(self, step)(argument)
            except ValueError:
                assert self.closed
            except (Empty, Full):
                assert step != "put"
            else:
                assert not self.closed or step in ("sleep", "close")

    def _item(self, size: int) -> tuple[int, int, bytes]:
        return self.name, self.puts, bytes(size)

    def put(self, size: int) -> None:
        self.queue.put(self._item(size))
        self.puts += 1

    def put_nowait(self, size: int) -> None:
        self.queue.put_nowait(self._item(size))
        self.puts += 1

    def put_timeout(self, argument: tuple[int, float]) -> None:
        self.queue.put(self._item(argument[0]), timeout=argument[1])
        self.puts += 1

    def get_nowait(self, _: None) -> None:
        self.got.append(self.queue.get_nowait()[:2])

    def get_timeout(self, timeout: float) -> None:
        self.got.append(self.queue.get(timeout=timeout)[:2])

    def sleep(self, timeout: float) -> None:
        time.sleep(timeout)

    def close(self, _: None) -> None:
        self.queue.close()
        self.closed = True


def act(queue: Any, name: int, program: list[Step], answers: Any) -> None:
    """Run a program and tell what happened: an actor's process."""
    actor = Actor(queue, name)
    actor.run(program)
    answers.put((name, actor.puts, actor.got))


def in_order(got: list[tuple[int, int]]) -> bool:
    """Return whether one consumer got each producer's items in the order of their numbers."""
    last: dict[int, int] = {}
    for producer, number in got:
        if number <= last.get(producer, -1):
            return False
        last[producer] = number
    return True


@pytest.mark.timeout(200)
@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
@many
@given(programs=programs, maxsize=maxsizes)
def test_every_item_arrives_once_and_in_order(robust: bool, programs: list[list[Step]], maxsize: int) -> None:
    """Whatever several processes put, get, miss and close, while this one takes what is left."""
    context = get_context("fork")
    queue = context.Queue(maxsize, robust=robust)
    # Answers are short: they fit into a pipe, and no process waits with one.
    answers = multiprocessing.get_context("fork").SimpleQueue()
    processes = [
        context.Process(target=act, args=(queue, name, program, answers)) for name, program in enumerate(programs)
    ]
    for process in processes:
        process.start()
    rest = [item[:2] for item in queue.join_processes(processes, timeout=60)]
    assert [process.exitcode for process in processes] == [0] * len(processes)
    told = [answers.get() for _ in processes]
    answers.close()
    expected = collections.Counter((name, number) for name, puts, _ in told for number in range(puts))
    consumers = [*(got for _, _, got in told), rest]
    assert collections.Counter(item for got in consumers for item in got) == expected
    assert all(in_order(got) for got in consumers)
    assert queue.qsize() == 0
    assert queue.empty()
    if robust:
        assert queue.stats().lost == 0
    queue.close()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", [Queue, JoinableQueue])
@pytest.mark.parametrize("robust", [False, True], ids=["default", "robust"])
@many
@given(program=st.lists(steps, max_size=60), maxsize=maxsizes)
def test_one_process_sees_a_plain_fifo(kind: Any, robust: bool, program: list[Step], maxsize: int) -> None:
    """Against a deque: the same items, Full when it is full, ValueError when it is closed."""
    queue = kind(maxsize, robust=robust)
    model: collections.deque[int] = collections.deque()
    closed = False
    for number, (step, argument) in enumerate(program):
        if step == "close":
            queue.close()
            closed = True
        elif closed:
            with pytest.raises(ValueError, match="is closed"):
                queue.put(number)
        elif step.startswith("put"):
            size = argument[0] if step == "put_timeout" else argument
            if maxsize and len(model) >= maxsize:
                assert queue.full()
                with pytest.raises(Full):
                    queue.put_nowait(number)
            else:
                queue.put((number, bytes(size)), timeout=20)
                model.append(number)
        elif step.startswith("get"):
            if model:
                assert queue.get(timeout=20)[0] == model.popleft()
            else:
                with pytest.raises(Empty):
                    queue.get_nowait()
        assert queue.qsize() == len(model)
    queue.cancel_join_thread()
    queue.close()
