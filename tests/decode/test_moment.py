"""Any moment of a recording as the tree it was."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from qtrace.decode.moment import longest_wait, snapshot_at
from qtrace.model.ids import Fd, ObjectId, Tgid, Tid
from qtrace.model.kinds import ObjectKind, WaitKind
from qtrace.model.records import CallFlag
from qtrace.model.snapshot import Call, Holder, Process, Snapshot, Thread, WaitObject
from qtrace.model.snapshot_json import dump_snapshot
from qtrace.tracefile.reader import TraceReader
from tests.tracefile.recordings import event, packed, write_recording

MS = 1_000_000
PIPE = "pipe:[7]"
PYTHON = "/usr/bin/python3"


def _program(path: Path, snapshots: list[tuple[int, str, str]] | None = None) -> Path:
    """A parent that joins a child whose feeder thread fills a pipe; the child ends at 900 ms."""
    calls = [
        packed(1 * MS, MS, 100, "pipe2", (0, 0), 0, head=struct.pack("<ii", 3, 4)),
        packed(20 * MS, MS, 201, "write", (4, 0, 4), 4, pid=200, head=struct.pack("!i", 65_592)),
        packed(22 * MS, 800 * MS, 201, "write", (4, 0, 65_592), 65_592, pid=200, head=b"\x80\5"),
        packed(23 * MS, 810 * MS, 200, "futex", (0x5000, 0x189, 0), 0),
        packed(12 * MS, 888 * MS, 100, "wait4", (200, 0, 0, 0), 200, head=b"\0"),
    ]
    rows = {
        "processes": [
            (100, 0, 1, "app.py", '["python", "app.py"]', PYTHON, 0, 0, None, None, None),
            (200, 0, 100, "app.py", '["python", "app.py"]', PYTHON, 0, 10 * MS, 900 * MS, 3, None),
        ],
        "threads": [
            (100, 100, "MainThread", None, 0, 0, None),
            (200, 200, "MainThread", 100, 0, 10 * MS, 900 * MS),
            (201, 200, "QueueFeederThread", 200, 0, 15 * MS, 850 * MS),
        ],
        "sightings": [(2 * MS, 100, fd, PIPE, PIPE, "rw"[fd - 3], 65_536) for fd in (3, 4)],
        "lifecycle": [
            event(10 * MS, 100, 100, "clone", 200, flags=17, thread=False, call="fork"),
            event(15 * MS, 200, 200, "clone", 201, thread=True),
            event(850 * MS, 200, 201, "exit", 3 << 8),
            event(900 * MS, 200, 200, "exit", 3 << 8),
        ],
        "stacks": [(1, 200, 201, 80 * MS, 22 * MS, "long-wait", "Feeder", json.dumps([
            {"file": "/a/queues.py", "line": 7, "function": "_feed", "source": "send()", "variables": {"n": "1"}},
        ]))],
        "snapshots": snapshots or [],
    }  # fmt: skip
    pending = [packed(950 * MS, 0, 100, "read", (3, 0, 4))]
    return write_recording(path, calls, rows, pending=pending, end_ns=2_000 * MS, root_pid=100)


def test_a_moment_in_the_middle_is_rebuilt(tmp_path: Path) -> None:
    """Who lived, in which call, waiting for what, held by whom, how full."""
    snapshot = snapshot_at(TraceReader(_program(tmp_path / "a.qtrace")), 500 * MS)
    assert (snapshot.time_ns, snapshot.root_pid, snapshot.source) == (500 * MS, 100, "recording")
    assert {pid: process.name for pid, process in snapshot.processes.items()} == {
        100: "app.py",
        200: "child 1 of app.py",
    }
    assert all(process.alive and process.python for process in snapshot.processes.values())
    parent, child, feeder = (snapshot.threads[Tid(tid)] for tid in (100, 200, 201))
    assert [want.object_id for want in parent.wants] == ["child:200"]
    assert [(want.kind, want.object_id) for want in child.wants] == [(WaitKind.LOCK, "futex:200:0x5000")]
    (want,) = feeder.wants
    assert (want.kind, want.object_id, want.fd, want.access, want.requested_bytes) == (
        WaitKind.PIPE_FULL, PIPE, 4, "w", 65_592,
    )  # fmt: skip
    assert (feeder.name, feeder.state, feeder.moved, feeder.since_ns) == ("Feeder", "S", False, 22 * MS)
    assert [frame.function for frame in feeder.stack] == ["_feed"]
    pipe = snapshot.objects[PIPE]
    assert (pipe.kind, pipe.bytes, pipe.capacity) == (ObjectKind.PIPE, 61_500, 65_536)
    assert [(holder.pid, holder.fd, holder.access) for holder in pipe.holders] == [
        (100, 3, "r"), (100, 4, "w"), (200, 3, "r"), (200, 4, "w"),
    ]  # fmt: skip


def test_who_has_just_begun_to_wait_has_moved(tmp_path: Path) -> None:
    """120 ms in one call are a standing thread; less is one that moves."""
    reader = TraceReader(_program(tmp_path / "a.qtrace"))
    assert snapshot_at(reader, 100 * MS).threads[Tid(201)].moved is True
    assert snapshot_at(reader, 150 * MS).threads[Tid(201)].moved is False
    before = snapshot_at(reader, 19 * MS)
    assert (before.threads[Tid(201)].call, before.threads[Tid(201)].state) == (None, "R")


def test_the_end_of_a_recording_without_a_last_look(tmp_path: Path) -> None:
    """A recorder that was killed took none: the dead are dead, and the living wait."""
    snapshot = snapshot_at(TraceReader(_program(tmp_path / "a.qtrace")))
    child = snapshot.processes[Tgid(200)]
    assert (child.state, child.exit_code, child.exit_signal, child.end_ns) == ("X", 3, None, 900 * MS)
    assert list(snapshot.threads) == [100]
    assert [want.object_id for want in snapshot.threads[Tid(100)].wants] == [PIPE]
    assert [death.tid for death in snapshot.history.deaths] == [201, 200]


def test_the_last_look_gets_the_recordings_history(tmp_path: Path) -> None:
    """What the kernel said stays; since when, who died and what is torn is added."""
    call = Call("read", (3, 0, 4), "read(3, ")
    stored = Snapshot(
        1_900 * MS,
        Tgid(100),
        {Tgid(100): Process(Tgid(100), Tgid(1), "app.py")},
        {Tid(100): Thread(Tid(100), Tgid(100), "MainThread", "S", call)},
        {PIPE: WaitObject(PIPE, ObjectKind.PIPE, "pipe", 17, 65_536)},
    )
    snapshots = [(500 * MS, "hang", "{"), (1_900 * MS, "timeout", dump_snapshot(stored))]
    reader = TraceReader(_program(tmp_path / "a.qtrace", snapshots))
    snapshot = snapshot_at(reader)
    assert snapshot.objects == stored.objects
    main = snapshot.threads[Tid(100)]
    assert main.call is not None
    assert (main.since_ns, main.call.entered_ns) == (950 * MS, 950 * MS)
    assert snapshot.processes[Tgid(200)].exit_code == 3
    assert [death.pid for death in snapshot.history.deaths] == [200, 200]
    assert snapshot_at(reader, 5_000 * MS) == snapshot
    assert snapshot_at(reader, 500 * MS).time_ns == 500 * MS


def test_polls_sleeps_and_epoll_sets_are_known_as_far_as_recorded(tmp_path: Path) -> None:
    """Poll sets from details or the head, timeouts from the head, epoll from its history."""
    waiting = int(CallFlag.UNFINISHED)
    seven_seconds = (7_000 * MS).to_bytes(8, "little")
    calls = [
        packed(1 * MS, MS, 100, "pipe2", (0, 0), 0, head=struct.pack("<ii", 3, 4)),
        packed(3 * MS, MS, 100, "epoll_create1", (0,), 5),
        packed(5 * MS, MS, 100, "epoll_ctl", (5, 1, 3, 0x10), 0, head=struct.pack("<iI", 1, 3)),
        packed(10 * MS, MS, 101, "poll", (0x100, 1, 5_000), pid=100, head=struct.pack("<ihh", 3, 1, 0), flags=waiting),
        packed(11 * MS, MS, 102, "poll", (0x200, 2, (1 << 64) - 1), pid=100, flags=waiting),
        packed(12 * MS, MS, 103, "epoll_wait", (5, 0, 1, (1 << 64) - 1), pid=100, flags=waiting),
        packed(13 * MS, MS, 104, "nanosleep", (0x300,), pid=100, head=seven_seconds, flags=waiting),
    ]
    rows = {
        "processes": [(100, 0, 1, "app.py", "[]", PYTHON, 0, 0, None, None, None)],
        "lifecycle": [event(6 * MS, 100, 100, "clone", tid, thread=True) for tid in range(101, 105)],
        "details": [(102, 11 * MS, "pollfds", json.dumps([[3, 1], [4, 4]]))],
    }
    path = write_recording(tmp_path / "a.qtrace", calls[:3], rows, pending=calls[3:], end_ns=1_000 * MS)
    threads = snapshot_at(TraceReader(path)).threads
    pipe = threads[Tid(101)].wants[0].object_id
    assert pipe.startswith("pipe:")
    assert (threads[Tid(101)].wants[0].kind, threads[Tid(101)].timeout_ns) == (WaitKind.POLL, 5_000 * MS)
    assert [(want.fd, want.access) for want in threads[Tid(102)].wants] == [(3, "r"), (4, "w")]
    assert [(want.object_id, want.access) for want in threads[Tid(103)].wants] == [(pipe, "r")]
    assert (threads[Tid(104)].wants[0].kind, threads[Tid(104)].timeout_ns) == (WaitKind.SLEEP, 7_000 * MS)


def test_the_longest_wait_is_not_a_sleep(tmp_path: Path) -> None:
    """A sleeper waits for nobody."""
    calls = [
        packed(10 * MS, 900 * MS, 101, "nanosleep", (0,), 0),
        packed(20 * MS, 300 * MS, 100, "wait4", (200, 0, 0, 0), 200),
    ]
    path = write_recording(tmp_path / "a.qtrace", calls, end_ns=1_000 * MS)
    assert longest_wait(TraceReader(path)) == (20 * MS, 320 * MS)
    assert longest_wait(TraceReader(write_recording(tmp_path / "b.qtrace", calls[:1]))) == (10 * MS, 910 * MS)
    assert longest_wait(TraceReader(write_recording(tmp_path / "c.qtrace"))) is None


def test_who_holds_a_fifo_is_known_from_the_last_look(tmp_path: Path) -> None:
    """Opening a fifo is not recorded: an earlier moment takes the holders that lived from the last look."""
    fifo = ObjectId("fifo:1:2")
    holders = (Holder(Tgid(100), Fd(5), "r"), Holder(Tgid(200), Fd(6), "w"), Holder(Tgid(300), Fd(7), "w"))
    last = Snapshot(
        900 * MS, Tgid(100), {}, {}, {fifo: WaitObject(fifo, ObjectKind.FIFO, "fifo /tmp/a", holders=holders)}
    )
    rows = {
        "processes": [(pid, 0, 1, f"p{pid}", "[]", PYTHON, 0, 0, None, None, None) for pid in (100, 200, 300)],
        "sightings": [(10 * MS, 100, 5, "/tmp/a", fifo, "r", 65_536)],
        "lifecycle": [event(5 * MS, 1, 1, "clone", pid, thread=False) for pid in (100, 200, 300)]
        + [event(400 * MS, 300, 300, "exit", 0)],
        "snapshots": [(900 * MS, "hang", dump_snapshot(last))],
    }
    pending = [packed(10 * MS, 0, 100, "read", (5, 0, 1))]
    path = write_recording(tmp_path / "a.qtrace", [], rows, pending=pending, end_ns=950 * MS)
    found = snapshot_at(TraceReader(path), 500 * MS).objects[fifo]
    assert [(holder.pid, holder.access) for holder in found.holders] == [(100, "r"), (200, "w")]
    assert found.label == "fifo /tmp/a"
