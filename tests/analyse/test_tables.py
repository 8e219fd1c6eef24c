"""The pandas tables of a recording: what they hold, and that they are what they are declared to be."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from qtrace.analyse.slow import bottleneck
from qtrace.analyse.trace import Trace
from qtrace.model.columns import TABLES
from qtrace.model.kinds import ObjectKind, Role, WaitKind
from qtrace.model.records import CallFlag
from qtrace.pipeline import load
from tests.tracefile.recordings import event, packed, write_recording

MS = 1_000_000
PIPE = "pipe:[7]"
WORD = "shared:0:9:0x0"
PYTHON = "/usr/bin/python3.11"
WAIT, WAKE = 0x189, 0x81
UNFINISHED = int(CallFlag.UNFINISHED)


def _frames(*rows: tuple[str, int, str]) -> str:
    return json.dumps([{"file": file, "line": line, "function": function} for file, line, function in rows])


def _calls() -> list[bytes]:
    """A producer (200, with a feeder 201) and a consumer (100) that is slower."""
    messages = [packed(1 * MS, MS, 100, "pipe2", (0, 0o2000000), 0, head=struct.pack("<ii", 3, 4))]
    for at in range(10):
        begin = (50 + 80 * at) * MS
        # The feeder writes 70,000 bytes; the consumer takes them after 60 ms of work.
        messages += [
            packed(begin, MS, 201, "write", (4, 0, 4), 4, pid=200, head=struct.pack("!i", 70_000)),
            packed(begin + 2 * MS, 62 * MS, 201, "write", (4, 0, 70_000), 70_000, pid=200, head=b"\x80\5\x95"),
            packed(begin + 60 * MS, MS, 100, "read", (3, 0, 4), 4, head=struct.pack("!i", 70_000)),
            packed(begin + 62 * MS, 3 * MS, 100, "read", (3, 0, 70_000), 65_000, head=b"\x80\5\x95"),
            packed(begin + 66 * MS, MS, 100, "read", (3, 0, 5_000), 5_000, head=b"\0"),
        ]
    return [
        *messages,
        packed(900 * MS, 10 * MS, 200, "futex", (0x5000, WAIT, 0), 0),
        packed(905 * MS, MS, 201, "futex", (0x5000, WAKE, 1), 1, pid=200),
        packed(912 * MS, 8 * MS, 100, "futex", (0x6000, 0x80, 0), -11),
        packed(930 * MS, 20 * MS, 100, "wait4", (200, 0, 0, 0), 200, head=b"\0"),
        packed(960 * MS, 20 * MS, 100, "read", (9, 0, 1), -9),
    ]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A queue whose consumer is slower than its producer."""
    rows = {
        "processes": [
            (100, 0, 1, "app.py", '["python", "app.py"]', PYTHON, 0, 0, None, None, None),
            (200, 0, 100, "app.py", '["python", "app.py"]', PYTHON, 0, 10 * MS, None, None, None),
        ],
        "threads": [
            (100, 100, None, None, 0, 0, None),
            (200, 200, None, 100, 0, 10 * MS, None),
            (201, 200, None, 200, 0, 15 * MS, 940 * MS),
        ],
        "sightings": [(2 * MS, 100, fd, PIPE, PIPE, "rw"[fd - 3], 65_536) for fd in (3, 4)],
        "words": [(5 * MS, 100, 0x6000, "futex:100:0x6000", PYTHON)],
        "lifecycle": [
            event(10 * MS, 100, 100, "clone", 200, flags=17, thread=False, call="fork"),
            event(15 * MS, 200, 200, "clone", 201, thread=True),
            event(940 * MS, 200, 201, "exit", 0),
            event(945 * MS, 200, 200, "exit", 3 << 8),
        ],
        "stacks": [
            (4, 200, 201, 110 * MS, 52 * MS, "long-wait", "QueueFeederThread", _frames(
                ("/usr/lib/python3.11/multiprocessing/connection.py", 384, "Connection._send"),
                ("/usr/lib/python3.11/multiprocessing/queues.py", 250, "Queue._feed"))),
            (5, 200, 200, 905 * MS, 900 * MS, "long-wait", "MainThread", _frames(
                ("/usr/lib/python3.11/threading.py", 1139, "Thread._wait_for_tstate_lock"),
                ("/usr/lib/python3.11/threading.py", 1119, "Thread.join"))),
        ],
        "losses": [(1, 2, 3, "cpu 0", "full")],
    }  # fmt: skip
    pending = [packed(985 * MS, 0, 100, "poll", (0x100, 1, 5), head=struct.pack("<ihh", 3, 1, 0))]
    path = tmp_path_factory.mktemp("tables") / "slow.qtrace"
    return load(write_recording(path, _calls(), rows, pending=pending, end_ns=1_000 * MS, root_pid=100))


@pytest.mark.parametrize("name", TABLES)
def test_columns_and_dtypes_are_the_declared_ones(trace: Trace, name: str) -> None:
    """Names, order and dtypes, missing values as NA."""
    frame = getattr(trace, name)
    assert list(frame.columns) == [column.name for column in TABLES[name]]
    for column in TABLES[name]:
        found = str(frame[column.name].dtype)
        assert found == column.dtype, column
    assert len(frame)


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_recording_has_empty_tables_of_the_same_shape(tmp_path: Path, name: str) -> None:
    """Nothing recorded is no special case."""
    frame = getattr(load(write_recording(tmp_path / "a.qtrace", end_ns=5)), name)
    assert list(frame.columns) == [column.name for column in TABLES[name]]
    assert [str(frame[column.name].dtype) for column in TABLES[name]] == [column.dtype for column in TABLES[name]]
    assert frame.empty


def test_processes_and_threads_with_ends_and_roles(trace: Trace) -> None:
    """Ends come from the exits, names from place and stacks, the feeder's role from its frames."""
    child = trace.processes.set_index("pid").loc[200]
    assert (child["name"], child["ppid"], child["exit_code"], child["end_ns"]) == (
        "child 1 of app.py", 100, 3, 945 * MS,
    )  # fmt: skip
    assert child["argv"] == ["python", "app.py"]
    assert pd.isna(child["exit_signal"])
    assert pd.isna(trace.processes.set_index("pid").loc[100]["end_ns"])
    threads = trace.threads.set_index("tid")
    assert threads["role"].to_dict() == {100: Role.MAIN, 200: Role.MAIN, 201: Role.FEEDER}
    assert threads.loc[201, "name"] == "QueueFeederThread"
    assert threads["creator_tid"].fillna(0).to_dict() == {100: 0, 200: 100, 201: 200}


def test_syscalls_with_arguments_results_and_errors(trace: Trace) -> None:
    """Failed calls have an errno and no result, unfinished ones neither."""
    calls = trace.syscalls
    assert calls["start_ns"].is_monotonic_increasing
    write = calls[(calls["name"] == "write") & (calls["ret"] == 70_000)].iloc[0]
    assert write["args"] == (4, 0, 70_000, 0, 0, 0)
    assert write["object_id"] == PIPE
    failed = calls[calls["errno"].notna()]
    assert list(zip(failed["name"], failed["errno"], strict=True)) == [("futex", "EAGAIN"), ("read", "EBADF")]
    assert failed["ret"].isna().all()
    last = calls.iloc[-1]
    assert (last["name"], last["unfinished"], last["object_id"]) == ("poll", True, PIPE)
    assert pd.isna(last["dur_ns"])
    assert pd.isna(last["ret"])
    assert calls[calls["name"] == "futex"]["args"].tolist()[0][0] == 0x5000
    assert pd.concat([calls, calls])["args"].iloc[-1] == calls["args"].iloc[-1]


def test_waits_have_kind_object_and_waker(trace: Trace) -> None:
    """A wait is what took longer than tracing, or what the kernel says slept; EAGAIN did not."""
    waits = trace.waits
    counts = waits["kind"].value_counts()
    assert {kind: count for kind, count in counts.items() if count} == {
        "pipe-full": 10,  # not the headers: there was room, however long the call took
        "pipe-empty": 10,  # not what had been written before
        "thread-join": 1,
        "child-exit": 1,
        "poll": 1,
    }
    full = waits[(waits["kind"] == "pipe-full") & (waits["end_ns"] - waits["start_ns"] > 10 * MS)]
    assert len(full) == 10
    assert set(full["woken_by"]) == {100}
    assert full["stack_id"].iloc[0] == 4
    assert full["stack_id"].iloc[1:].isna().all()
    join = waits[waits["kind"] == "thread-join"].iloc[0]
    assert (join["tid"], join["woken_by"], join["stack_id"]) == (200, 201, 5)
    child = waits[waits["kind"] == "child-exit"].iloc[0]
    assert (child["woken_by"], child["object_id"]) == (200, "child:200")
    last = waits.iloc[-1]
    assert (last["kind"], last["unfinished"], last["end_ns"]) == ("poll", True, 1_000 * MS)
    assert pd.isna(last["woken_by"])


def test_wakes_are_the_other_side_of_waits(trace: Trace) -> None:
    """Each ended wait with a known waker, at the moment the waker did it."""
    wakes = trace.wakes
    assert wakes["time_ns"].is_monotonic_increasing
    merged = wakes.merge(trace.waits, on="wait_id")
    assert (merged["wakee_tid"] == merged["tid"]).all()
    assert (merged["waker_tid"] == merged["woken_by"]).all()
    assert (merged["time_ns"] <= merged["end_ns"]).all()
    assert (merged["waker_tid"] != merged["wakee_tid"]).all()
    join = merged[merged["kind_x"] == "thread-join"].iloc[0]
    assert (join["time_ns"], join["waker_tid"]) == (905 * MS, 201)
    assert merged[merged["kind_x"] == "child-exit"].iloc[0]["time_ns"] == 945 * MS


def test_objects_are_those_that_were_used(trace: Trace) -> None:
    """The pipe with capacity and maker, the words, the child."""
    objects = trace.objects.set_index("object_id")
    pipe = objects.loc[PIPE]
    assert (pipe["kind"], pipe["capacity"], pipe["creator_pid"], pipe["created_ns"]) == (
        ObjectKind.PIPE, 65_536, 100, 2 * MS,
    )  # fmt: skip
    assert objects.loc["child:200", "label"] == "child 1 of app.py"
    assert objects.loc["futex:200:0x5000", "kind"] == ObjectKind.FUTEX
    assert objects.index.is_unique


def test_messages_and_levels_add_up(trace: Trace) -> None:
    """Ten messages of 70,000 bytes, all received; the pipe is empty at the end."""
    messages = trace.messages
    assert messages["size"].tolist() == [70_000] * 10
    assert messages["complete"].all()
    assert set(messages["sender_tid"]) == {201}
    assert set(messages["receiver_tid"]) == {100}
    assert (messages["read_end_ns"] >= messages["write_end_ns"]).all()
    fill = trace.fill
    assert fill["bytes"].iloc[-1] == 0
    assert fill["bytes"].max() <= 65_536
    assert fill["time_ns"].is_monotonic_increasing
    (queue,) = trace.queues.itertuples()
    assert (queue.object_id, queue.messages, queue.received, queue.in_transit) == (PIPE, 10, 10, 0)
    assert queue.body_bytes == 700_000
    assert queue.most_waiting == 1


def test_time_by_thread_is_each_threads_life(trace: Trace) -> None:
    """Running and waiting add up to the whole."""
    spent = trace.time_by_thread
    assert spent.groupby("tid")["ns"].sum().to_dict() == {100: 1_000 * MS, 200: 935 * MS, 201: 925 * MS}
    assert spent.groupby("tid")["share"].sum().round(6).eq(1).all()


def test_the_bottleneck_is_said_in_a_sentence(trace: Trace) -> None:
    """The feeder's time went into waiting for room."""
    assert trace.bottleneck == (
        "the feeder of child 1 of app.py waited 67 % of the time for room in the pipe: "
        "the consumer is slower than the producer"
    )


def test_the_critical_path_covers_the_recording_without_a_gap(trace: Trace) -> None:
    """Each stretch begins where the one before ended, from the first moment to the last."""
    path = trace.critical
    assert path["start_ns"].iloc[0] == 0
    assert path["end_ns"].iloc[-1] == 1_000 * MS
    assert (path["start_ns"].iloc[1:].to_numpy() == path["end_ns"].iloc[:-1].to_numpy()).all()
    assert (path["end_ns"] > path["start_ns"]).all()
    assert {100, 200, 201} >= set(path["tid"])
    last = path.iloc[-1]
    assert (last["tid"], last["kind"]) == (100, WaitKind.POLL)
    # The wait for the child leads to the child, and its join to the feeder.
    at_join = path[(path["start_ns"] < 904 * MS) & (path["end_ns"] > 903 * MS)].iloc[0]
    assert at_join["tid"] == 201


def test_the_interpreter_lock_is_told_by_where_it_lies(tmp_path: Path) -> None:
    """A word in python's own data is the GIL; one in shared memory is a lock of several processes."""
    calls = [
        packed(10 * MS, MS, 101, "futex", (0x6000, WAIT, 0), 0, pid=100),
        packed(20 * MS, MS, 101, "futex", (0x7000, 0x80, 0), 0, pid=100),
        packed(30 * MS, MS, 101, "futex", (0x8000, 0x109, 102), 0, pid=100),
        packed(40 * MS, MS, 101, "futex", (0x9000, WAIT, 0), -110, pid=100),
        packed(50 * MS, MS, 101, "clock_nanosleep", (1, 0, 0, 0), 0, pid=100),
        packed(60 * MS, MS, 101, "poll", (0, 0, 5), 0, pid=100),
    ]
    rows = {
        "processes": [(100, 0, 1, "app.py", "[]", PYTHON, 0, 0, None, None, None)],
        "threads": [(tid, 100, None, None, 0, 0, None) for tid in (100, 101, 102)],
        "words": [
            (1, 100, 0x6000, "futex:100:0x6000", PYTHON),
            (1, 100, 0x7000, WORD, "/dev/shm/sem.a (deleted)"),
        ],
        "lifecycle": [event(31 * MS, 100, 102, "exit", 0)],
    }
    trace = load(write_recording(tmp_path / "a.qtrace", calls, rows, end_ns=100 * MS))
    assert trace.waits["kind"].tolist() == ["gil", "lock", "thread-join", "lock", "sleep", "sleep"]
    assert trace.waits["woken_by"].fillna(0).tolist() == [0, 0, 102, 0, 0, 0]
    assert trace.objects.set_index("object_id").loc[WORD, "kind"] == ObjectKind.SEMAPHORE


def test_the_floor_is_measured_on_calls_that_cannot_wait(tmp_path: Path) -> None:
    """On a machine where each stop costs 150 us, a read of 140 us has not waited."""
    calls = [packed(MS * at, 150_000, 100, "futex", (0x5000, WAKE, 1), 0) for at in range(200)]
    calls += [packed(300 * MS, 140_000, 100, "wait4", (5, 0, 0, 0), 5)]
    calls += [packed(301 * MS, 160_000, 100, "wait4", (6, 0, 0, 0), 6)]
    trace = load(write_recording(tmp_path / "a.qtrace", calls, end_ns=400 * MS))
    assert trace.floor_ns == 150_000
    assert trace.waits["object_id"].tolist() == ["child:6"]


def test_of_the_locks_the_one_that_took_most_is_named() -> None:
    """One thread that lost a third of its life to the interpreter is not what holds up ten that wait for a lock."""
    threads = [(tid, tid, "MainThread", "main", 0, 1_000) for tid in range(1, 12)]
    waits = [(tid, "lock", 0, 700, "shared:1") for tid in range(1, 11)] + [(11, "gil", 0, 350, "futex:11:0x1")]
    said = bottleneck(_traced(threads, waits))
    assert said.startswith("child 1 of a.py waited 70 % of the time for a lock or semaphore between processes: ")


def _traced(threads: list[tuple[object, ...]], waits: list[tuple[object, ...]]) -> Trace:
    pids = sorted({row[1] for row in threads})  # type: ignore[type-var]
    return SimpleNamespace(  # type: ignore[return-value]
        threads=pd.DataFrame(threads, columns=["tid", "pid", "name", "role", "start_ns", "end_ns"]),
        waits=pd.DataFrame(waits, columns=["tid", "kind", "start_ns", "end_ns", "object_id"]).assign(unfinished=False),
        processes=pd.DataFrame({"pid": pids, "name": [f"child {n} of a.py" for n in pids]}),
        messages=pd.DataFrame({"receiver_tid": []}),
        start_ns=0,
        end_ns=1_000,
    )


def test_a_lock_that_one_thread_alone_waits_on_holds_nobody_up() -> None:
    """It tells that thread something, as a queue of threads does; one that two wait for is kept too long."""
    threads = [(1, 1, "MainThread", "main", 0, 1_000), (2, 1, "Thread-1 (work)", "thread", 0, 1_000)]
    alone = [(2, "lock", 0, 900, "futex:1:0x1")]
    assert bottleneck(_traced(threads, alone)) == ""
    both = [*alone, (1, "lock", 0, 100, "futex:1:0x1")]
    expected = "thread Thread-1 (work) of child 1 of a.py waited 90 % of the time for a lock: "
    assert bottleneck(_traced(threads, both)).startswith(expected)


def test_a_thread_that_lived_for_a_moment_is_not_what_held_the_program_up() -> None:
    """All of its life in a wait is little of the program's."""
    threads = [(1, 1, "MainThread", "main", 0, 1_000), (2, 1, "thread 2", "thread", 0, 100)]
    assert bottleneck(_traced(threads, [(2, "pipe-full", 0, 100, "pipe:[1]")])) == ""
    long = [threads[0], (2, 1, "thread 2", "thread", 0, 900)]
    assert bottleneck(_traced(long, [(2, "pipe-full", 0, 900, "pipe:[1]")])).startswith("thread 2 of child 1 of a.py ")
