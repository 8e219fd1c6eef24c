"""A process killed at an instruction of put or get: at each of many, one after the other.

The child counts the bytecode instructions that it runs in qtrace.queue, in all its threads, and
kills itself at the n-th. So the places between two steps of the books are met on purpose,
not by luck.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest

from qtrace.queue import Queue, TruncatedMessage
from tests.queue.support import started

# One write, more than a pipe holds in two writes, one write.
ITEMS = ["first", bytes(150_000), "third"]
MAXSIZE = 4
# Of some 2,000 instructions.
WRITER_CASES, READER_CASES = 90, 300
LATE = 10_000_000
WAIT_S = 30


def die_at(instruction: int) -> list[int]:
    """Kill this process at its `instruction`-th one in qtrace.queue; return the growing count."""
    count = [0]

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if "/qtrace/queue/" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            count[0] += 1
            if count[0] == instruction:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    return count


def put_and_die(queue: Any, instruction: int, report: int) -> None:
    """Put all items and close; tell how many instructions it took."""
    count = die_at(instruction)
    for item in ITEMS:
        queue.put(item)
    queue.close()
    queue.join_thread()
    sys.settrace(None)
    os.write(report, b"%d\n" % count[0])


def get_and_die(queue: Any, instruction: int, report: int) -> None:
    """Get all items, telling of each; then how many instructions it took."""
    count = die_at(instruction)
    for item in ITEMS:
        assert queue.get() == item
        os.write(report, b".")
    sys.settrace(None)
    os.write(report, b"%d\n" % count[0])


def rest_of(queue: Any, last: object) -> list[object]:
    """Return what comes before `last`, torn messages left out."""
    found: list[object] = []
    while True:
        try:
            item = queue.get(timeout=WAIT_S)
        except TruncatedMessage:
            continue
        if item == last:
            return found
        found.append(item)


@dataclass(frozen=True)
class Outcome:
    """What became of one child and of the items."""

    killed: bool
    report: str
    got: list[object]
    lost: int


def run_once(target: Any, instruction: int) -> Outcome:
    """Run one child that puts or gets all items, until its `instruction`-th one."""
    queue = Queue(MAXSIZE, robust=True)
    reader, writer = os.pipe()
    if target is get_and_die:
        for item in ITEMS:
            queue.put(item)
    with started(target, queue, instruction, writer) as child:
        os.close(writer)
        got: list[object] = []
        if target is put_and_die:
            got = queue.join_processes([child], timeout=WAIT_S)
        else:
            child.join(WAIT_S)
        assert child.exitcode in (0, -signal.SIGKILL)
    # The other side goes on, and all slots are there again.
    queue.put("last", timeout=WAIT_S)
    got += rest_of(queue, "last")
    for number in range(MAXSIZE):
        queue.put(number, timeout=WAIT_S)
    assert [queue.get(timeout=WAIT_S) for _ in range(MAXSIZE)] == list(range(MAXSIZE))
    assert queue.qsize() == 0
    lost = queue.stats().lost
    assert lost is not None
    queue.close()
    queue.join_thread()
    with open(reader, "rb") as told:
        return Outcome(child.exitcode != 0, told.read().decode(), got, lost)


def run_cases(target: Any, instructions: int, cases: int) -> Iterator[Outcome]:
    """Kill children at `cases` places, evenly spread."""
    killed = 0
    for case in range(cases):
        outcome = run_once(target, 1 + case * instructions // cases)
        killed += outcome.killed
        yield outcome
    # A run takes a few instructions more or less than the one that was counted.
    assert killed > 0.8 * cases


@pytest.mark.timeout(240)
def test_a_writer_killed_at_any_instruction_loses_only_its_own_unsent_items() -> None:
    """What arrives is the beginning of what it put; what it had put and does not arrive is said to be lost."""
    whole = run_once(put_and_die, LATE)
    assert (whole.killed, whole.got, whole.lost) == (False, ITEMS, 0)
    for outcome in run_cases(put_and_die, int(whole.report), WRITER_CASES):
        assert outcome.got == ITEMS[: len(outcome.got)]
        assert outcome.lost <= len(ITEMS) - len(outcome.got)


@pytest.mark.timeout(240)
def test_a_reader_killed_at_any_instruction_loses_at_most_the_item_in_its_hands() -> None:
    """The others arrive in order, the next one first."""
    whole = run_once(get_and_die, LATE)
    assert (whole.killed, whole.got, whole.lost) == (False, [], 0)
    for outcome in run_cases(get_and_die, int(whole.report.lstrip(".")), READER_CASES):
        found = outcome.report.count(".") + len(outcome.got)
        assert outcome.got == ITEMS[len(ITEMS) - len(outcome.got) :]
        assert len(ITEMS) - 1 <= found <= len(ITEMS)
        assert outcome.lost <= len(ITEMS) - found
