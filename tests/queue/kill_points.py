"""Kill a process at its n-th bytecode instruction in a robust queue, for every n, and check what becomes of the rest.

    python -m tests.queue.kill_points [--stride 1] [--first 1] [--scenarios put,feed,get,simple-put,simple-get,task]

A child does one scenario's work from its fork on, which makes it a member of the queue. One of its
threads counts the instructions that it runs in qtrace.queue, and kills the process at the n-th.
Then this process, which lives and puts and gets as well, must be able to go on; everything it put
must arrive once; what the dead one had put has arrived or is said to be lost; all slots are there.

n grows until no child is killed any more. Prints one JSON object a scenario and exits with 1 if
anything was not as it should be. Needs nothing but a Python that the queue works on. What happens
inside a call that is one instruction (between a system call's return and the store of its result)
cannot be met so.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from queue import Empty, Full
from types import CodeType, FrameType
from typing import Any

from qtrace.queue import JoinableQueue, Queue, SimpleQueue, TruncatedMessage

# One write, more than a pipe holds, one write.
ITEMS = ["first", bytes(150_000), "third"]
MAXSIZE = 4
WAIT_S = 30
FOLDER = "/qtrace/queue/"
FEEDER = "QueueFeederThread"
context = multiprocessing.get_context("fork")
# How many instructions a run takes depends a little on who was faster: so many in a row must be beyond its end.
RUNS_BEYOND = 10


@dataclass
class Aim:
    """Which instruction of which thread is the last one; what was counted is in `count`."""

    thread: str
    instruction: int
    count: int = 0

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        """Count the instructions of one thread in the queue's own code: a trace function."""
        if FOLDER not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self.step()
        return self.trace

    def monitor(self, code: CodeType, offset: int) -> object:
        """Do the same for sys.monitoring, which is complete where tracing is not (from 3.12 on)."""
        if FOLDER not in code.co_filename:
            return sys.monitoring.DISABLE  # type: ignore[attr-defined]
        return self.step()

    def step(self) -> None:
        """Count one instruction, if it is of that thread."""
        if threading.current_thread().name == self.thread:
            self.count += 1
            if self.count == self.instruction:
                os.kill(os.getpid(), signal.SIGKILL)


aim: Aim | None = None


def begin_counting() -> None:
    """In a forked child: count from here on, becoming a member of the queue included."""
    if aim is None:
        return
    if sys.version_info < (3, 12):
        threading.settrace(aim.trace)
        sys.settrace(aim.trace)
    else:
        monitoring = sys.monitoring
        monitoring.use_tool_id(monitoring.DEBUGGER_ID, "kill_points")
        monitoring.register_callback(monitoring.DEBUGGER_ID, monitoring.events.INSTRUCTION, aim.monitor)
        monitoring.set_events(monitoring.DEBUGGER_ID, monitoring.events.INSTRUCTION)


os.register_at_fork(after_in_child=begin_counting)


def tell(report: int, word: str) -> None:
    os.write(report, f"{word} ".encode())


def tell_count(report: int) -> None:
    sys.settrace(None)
    assert aim is not None
    tell(report, f"count={aim.count}")


def put_each(queue: Any, items: list[Any]) -> None:
    for item in items:
        queue.put(item)


def put_all(queue: Any, report: int) -> None:
    for item in ITEMS:
        queue.put(item)
        tell(report, "put")
    if not isinstance(queue, SimpleQueue):
        queue.close()
        queue.join_thread()
    tell_count(report)


def get_all(queue: Any, report: int) -> None:
    for item in ITEMS:
        assert queue.get() == item
        tell(report, "got")
        if isinstance(queue, JoinableQueue):
            queue.task_done()
            tell(report, "done")
    tell_count(report)


@dataclass(frozen=True)
class Scenario:
    """What the child does, on what queue, and which of its threads is killed."""

    work: Callable[[Any, int], None]
    thread: str
    make: Callable[[], Any]


def bounded() -> Queue:
    return Queue(MAXSIZE, robust=True)


SCENARIOS = {
    "put": Scenario(put_all, "MainThread", bounded),
    "feed": Scenario(put_all, FEEDER, bounded),
    "get": Scenario(get_all, "MainThread", bounded),
    "simple-put": Scenario(put_all, "MainThread", lambda: SimpleQueue(robust=True)),
    "simple-get": Scenario(get_all, "MainThread", lambda: SimpleQueue(robust=True)),
    "task": Scenario(get_all, "MainThread", lambda: JoinableQueue(MAXSIZE, robust=True)),
}


@dataclass
class Outcome:
    """What became of one child and of the items."""

    killed: bool
    told: list[str]
    got: list[object]
    lost: int
    torn: int

    @property
    def instructions(self) -> int:
        """How many the child's thread ran, if it was not killed."""
        return int(self.told[-1].rpartition("=")[2])


def get_next(queue: Any) -> Any:
    """Return the next item within the time, whatever class the queue has."""
    return queue.get() if isinstance(queue, SimpleQueue) else queue.get(timeout=WAIT_S)


def get_until(queue: Any, last: str, got: list[object]) -> int:
    """Add what comes before `last` to `got`; return how many torn messages were between."""
    torn = 0
    while True:
        try:
            item = get_next(queue)
        except TruncatedMessage:
            torn += 1
            continue
        if item == last:
            return torn
        got.append(item)


def run_child(scenario: Scenario, queue: Any, instruction: int, got: list[object]) -> tuple[bool, list[str], int]:
    """Run one child until its `instruction`-th one; return whether it was killed, what it told, torn messages."""
    global aim
    reader, writer = os.pipe()
    aim = Aim(scenario.thread, instruction)
    torn = 0
    child = context.Process(target=scenario.work, args=(queue, writer))
    child.start()
    try:
        aim = None
        os.close(writer)
        if scenario.work is put_all:
            # A reader that lives, while the child writes.
            waiting = threading.Thread(target=child.join)
            waiting.start()
            while waiting.is_alive():
                waiting.join(0.002)
                while not queue.empty():
                    try:
                        got.append(queue.get() if isinstance(queue, SimpleQueue) else queue.get(timeout=WAIT_S))
                    except TruncatedMessage:
                        torn += 1
        child.join(WAIT_S)
        assert child.exitcode in (0, -signal.SIGKILL), f"the child still runs, or failed: {child.exitcode}"
    finally:
        if child.is_alive():
            child.kill()
            child.join()
    with open(reader, "rb") as told:
        return child.exitcode != 0, told.read().decode().split(), torn


def run_once(scenario: Scenario, instruction: int) -> Outcome:
    """Run one child and then everything that must still work."""
    # Queues of earlier runs would be joined by the child as well, and counted.
    gc.collect()
    queue = scenario.make()
    got: list[object] = []
    feeder = None
    if scenario.work is get_all:
        if isinstance(queue, SimpleQueue):
            feeder = threading.Thread(target=put_each, args=(queue, [*ITEMS, "last"]))
            feeder.start()
        else:
            for item in ITEMS:
                queue.put(item)
    killed, told, torn = run_child(scenario, queue, instruction, got)
    if feeder is None:
        # A writer that lives goes on; what it puts is the end of everything.
        # In a thread: a simple queue's put waits for the reader to make room, which is us.
        feeder = threading.Thread(target=put_each, args=(queue, ["last"]))
        feeder.start()
    torn += get_until(queue, "last", got)
    if feeder is not None:
        feeder.join()
    lost = queue.stats().lost
    if not isinstance(queue, SimpleQueue):
        # All slots are there again.
        for number in range(MAXSIZE):
            queue.put(number, timeout=WAIT_S)
        numbers = [queue.get(timeout=WAIT_S) for _ in range(MAXSIZE)]
        assert numbers == list(range(MAXSIZE)), numbers
        assert queue.qsize() == 0, queue.qsize()
        lost = queue.stats().lost
        queue.close()
        queue.join_thread()
    else:
        queue.close()
    return Outcome(killed, told, got, lost, torn)


def check(scenario: Scenario, outcome: Outcome) -> None:
    """Raise AssertionError if an item is lost that should not be, comes twice or out of order, or has no account."""
    count = len(ITEMS)
    arrived = len(outcome.got)
    if scenario.work is put_all:
        assert outcome.got == ITEMS[:arrived], [len(str(item)) for item in outcome.got]
        done = outcome.told.count("put")
        # The item that it was putting may have been counted already, or not.
        assert done <= arrived + outcome.lost <= min(done + 1, count), (done, arrived, outcome.lost)
        assert outcome.torn <= outcome.lost
    else:
        assert outcome.got == ITEMS[count - arrived :]
        found = outcome.told.count("got") + arrived
        # The one item in its hands: got and not told of, or said to be lost.
        assert count - 1 <= found <= count, (found, arrived)
        assert outcome.lost <= count - found
    if not outcome.killed:
        assert outcome.lost == 0
        assert outcome.told.count("put") + outcome.told.count("got") == count


@dataclass
class Sweep:
    """Sums over all kill points of one scenario."""

    scenario: str
    stride: int
    points: int = 0
    kills: int = 0
    hangs: int = 0
    wrong: int = 0
    torn: int = 0
    lost_said: int = 0
    failures: list[str] = field(default_factory=list)


def sweep(name: str, stride: int = 1, first: int = 1) -> Sweep:
    """Kill at instructions `first`, `first + stride`, ... until children are not killed any more."""
    result = Sweep(name, stride)
    scenario = SCENARIOS[name]
    instruction = first
    beyond = 0
    while beyond < RUNS_BEYOND:
        result.points += 1
        try:
            outcome = run_once(scenario, instruction)
            check(scenario, outcome)
        except (Empty, Full) as error:
            result.hangs += 1
            result.failures.append(f"{instruction}: nothing for {WAIT_S} s ({error!r})")
        except AssertionError as error:
            result.wrong += 1
            result.failures.append(f"{instruction}: {error}")
        else:
            result.kills += outcome.killed
            result.torn += outcome.torn
            result.lost_said += outcome.lost
            beyond = 0 if outcome.killed else beyond + 1
        instruction += stride
    return result


def main() -> int:
    """Sweep, print, return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="the first instruction to be killed at")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    options = parser.parse_args()
    failed = False
    for name in options.scenarios.split(","):
        result = sweep(name, options.stride, options.first)
        failed |= bool(result.failures)
        print(json.dumps(asdict(result)), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
