"""Tables of programs that were really recorded: no byte and no message is lost or invented."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pandas as pd
import pytest

from qtrace.analyse.trace import Trace
from qtrace.pipeline import load

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = 20_000

QUEUE = f"""
    import multiprocessing

    def item(number):
        return b"x" * (number % 50 + (40_000 if number % 1000 == 999 else 0))

    def produce(queue):
        for number in range({MESSAGES}):
            queue.put(item(number))

    if __name__ == "__main__":
        queue = multiprocessing.Queue()
        process = multiprocessing.Process(target=produce, args=(queue,))
        process.start()
        for number in range({MESSAGES}):
            assert queue.get() == item(number)
        process.join()
"""

RARELY = """
    import multiprocessing
    import time

    def produce(queue):
        for number in range(10):
            queue.put(number)
            time.sleep(0.02)

    if __name__ == "__main__":
        queue = multiprocessing.Queue()
        process = multiprocessing.Process(target=produce, args=(queue,))
        process.start()
        for number in range(10):
            assert queue.get() == number
        process.join()
"""

LEFT_OVER = """
    import multiprocessing

    def produce(connection):
        for number in range(100):
            connection.send_bytes(b"y" * number)

    if __name__ == "__main__":
        reader, writer = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=produce, args=(writer,))
        process.start()
        process.join()
        for number in range(60):
            assert len(reader.recv_bytes()) == number
"""

DUPLEX = """
    import multiprocessing

    def echo(connection):
        for _ in range(50):
            connection.send(connection.recv())

    if __name__ == "__main__":
        here, there = multiprocessing.Pipe()
        process = multiprocessing.Process(target=echo, args=(there,))
        process.start()
        for number in range(50):
            here.send([number] * 3)
            assert here.recv() == [number] * 3
        process.join()
"""


def _recorded(folder: Path, program: str) -> Trace:
    script = folder / "program.py"
    script.write_text(textwrap.dedent(program))
    output = folder / "program.qtrace"
    command = [sys.executable, "-m", "qtrace", "record", "-q", "-o", str(output), str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    if done.returncode == 2 and "permi" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return load(output)


def _assert_bytes_are_conserved(trace: Trace) -> None:
    calls = trace.syscalls
    moved = calls[(calls["ret"] > 0).fillna(False) & calls["object_id"].str.startswith("pipe:").fillna(False)]
    by_pipe = moved.groupby(["object_id", "name"], observed=True)["ret"].sum().unstack(fill_value=0)
    last = trace.fill.groupby("object_id")["bytes"].last()
    checked = 0
    for pipe, level in last.items():
        row = by_pipe.loc[pipe]
        assert int(row.get("write", 0)) == int(row.get("read", 0)) + int(level), pipe
        checked += int(row.get("write", 0)) > 0
    assert checked


@pytest.fixture(scope="module")
def queue_trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """20,000 messages through a Queue."""
    return _recorded(tmp_path_factory.mktemp("queue"), QUEUE)


def test_bytes_written_are_bytes_read_and_what_is_left(queue_trace: Trace) -> None:
    """For every pipe of the program."""
    _assert_bytes_are_conserved(queue_trace)
    assert queue_trace.damage == ""


def test_messages_sent_are_messages_received(queue_trace: Trace) -> None:
    """All of them, each with its size, its sender and its receiver."""
    (queue,) = queue_trace.queues.itertuples()
    assert (queue.messages, queue.received, queue.in_transit) == (MESSAGES, MESSAGES, 0)
    messages = queue_trace.messages
    expected = [
        len(ForkingPickler.dumps(b"x" * (number % 50 + (40_000 if number % 1000 == 999 else 0))))
        for number in range(MESSAGES)
    ]
    assert messages["size"].tolist() == expected
    assert messages["complete"].all()
    threads = queue_trace.threads.set_index("tid")
    (sender,), (receiver,) = set(messages["sender_tid"]), set(messages["receiver_tid"])
    assert threads.loc[sender, "role"] == "feeder"
    assert threads.loc[receiver, "role"] == "main"
    assert (messages["read_end_ns"] > messages["write_start_ns"]).all()


def test_a_queue_is_called_so_and_its_idle_feeder_is_not_held_up(tmp_path: Path) -> None:
    """The pipe that a feeder writes to is a queue's; what a feeder waits for inside of its process is an item."""
    trace = _recorded(tmp_path, RARELY)
    objects = trace.objects.set_index("object_id")
    (pipe,) = set(trace.messages["object_id"])
    assert objects.loc[pipe, "label"] == "queue pipe"
    (feeder,) = set(trace.messages["sender_tid"])
    waits = trace.waits
    private = waits["object_id"].str.startswith("futex:").fillna(False).astype(bool)
    mine = waits[(waits["tid"] == feeder) & private]
    assert set(mine["kind"]) <= {"condition", "gil"}
    idle = mine[mine["kind"] == "condition"]
    assert int((idle["end_ns"] - idle["start_ns"]).sum()) > 100_000_000  # of the ten pauses, half


def test_levels_stay_within_the_pipe(queue_trace: Trace) -> None:
    """Never below nothing, never above the capacity, empty at the end."""
    fill = queue_trace.fill
    assert fill["bytes"].between(0, 65_536).all()
    assert (fill["capacity"] == 65_536).all()
    assert fill.groupby("object_id")["bytes"].last().eq(0).all()


def test_waits_lie_within_their_threads_and_do_not_overlap(queue_trace: Trace) -> None:
    """A thread waits for one thing at a time, and only while it lives."""
    waits = queue_trace.waits.sort_values(["tid", "start_ns"])
    for _, mine in waits.groupby("tid"):
        assert (mine["start_ns"].iloc[1:].to_numpy() >= mine["end_ns"].iloc[:-1].to_numpy()).all()
    lives = queue_trace.threads.set_index("tid")
    ends = lives["end_ns"].fillna(queue_trace.end_ns)
    assert (waits["start_ns"].to_numpy() >= lives["start_ns"].loc[waits["tid"]].to_numpy()).all()
    assert (waits["end_ns"].to_numpy() <= ends.loc[waits["tid"]].to_numpy(dtype="int64")).all()
    child_exit = waits[waits["kind"] == "child-exit"]
    assert child_exit["woken_by"].notna().all()
    for_data = waits[waits["kind"] == "pipe-empty"]
    assert for_data["woken_by"].notna().all()


def test_the_critical_path_of_a_real_program_has_no_gap(queue_trace: Trace) -> None:
    """From the program's first moment to its last."""
    path = queue_trace.critical
    assert (path["start_ns"].iloc[1:].to_numpy() == path["end_ns"].iloc[:-1].to_numpy()).all()
    assert path["tid"].nunique() >= 2
    root = queue_trace.threads["start_ns"].min()
    assert path["start_ns"].iloc[0] == root


def test_what_nobody_received_is_still_in_the_pipe(tmp_path: Path) -> None:
    """100 sent, 60 received: 40 in the pipe, byte for byte."""
    trace = _recorded(tmp_path, LEFT_OVER)
    _assert_bytes_are_conserved(trace)
    messages = trace.messages[trace.messages["size"] < 100]
    (queue,) = trace.queues.itertuples()
    assert (queue.messages, queue.received, queue.in_transit) == (100, 60, 40)
    assert messages["size"].tolist() == list(range(100))
    assert messages["complete"].tolist() == [True] * 60 + [False] * 40
    assert messages["receiver_tid"].isna().tolist() == [False] * 60 + [True] * 40
    level = trace.fill[trace.fill["object_id"] == queue.object_id]["bytes"].iloc[-1]
    assert level == sum(4 + number for number in range(60, 100))


def test_both_directions_of_a_duplex_pipe(tmp_path: Path) -> None:
    """Fifty there and fifty back, over a pair of sockets."""
    trace = _recorded(tmp_path, DUPLEX)
    queues = trace.queues
    assert sorted(queues["messages"]) == [50, 50]
    assert queues["received"].tolist() == [50, 50]
    sizes = [len(ForkingPickler.dumps([number] * 3)) for number in range(50)]
    for _, messages in trace.messages.groupby("object_id"):
        assert messages["size"].tolist() == sizes
    senders = {frozenset(messages["sender_tid"]) for _, messages in trace.messages.groupby("object_id")}
    assert len(senders) == 2
    assert pd.Series(trace.messages["complete"]).all()
