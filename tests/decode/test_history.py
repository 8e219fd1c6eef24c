"""What a recording knows beyond its last moment."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

from qtrace.decode.history import exit_of, history_of
from qtrace.model.records import CallFlag
from qtrace.tracefile.reader import TraceReader
from tests.tracefile.recordings import event, packed, write_recording

PIPE = "pipe:[7]"
SEMAPHORE = "shared:0:9:0x0"
FUTEX_WAIT, FUTEX_WAKE = 0x189, 1
KILLED = int(CallFlag.UNFINISHED | CallFlag.KILLED)


def _torn(path: Path, *, waits: bool = True, snapshot: bool = False) -> Path:
    """The article's second program: the writer died in the middle of its message."""
    calls = [
        packed(10, 5, 100, "pipe2", (0, 0), 0, head=struct.pack("<ii", 3, 4)),
        packed(1_000, 10, 201, "write", (4, 0, 4), 4, pid=200, head=struct.pack("!i", 65_592)),
        packed(2_000, 10, 100, "read", (3, 0, 4), 4, head=struct.pack("!i", 65_592)),
        packed(1_020, 3_000, 201, "write", (4, 0, 65_592), 0, pid=200, head=b"\x80\5", flags=KILLED),
    ]
    if waits:
        calls.append(packed(5_000, 10, 100, "read", (3, 0, 65_592), 61_496, head=b"\x80\5"))
    rows = {
        "processes": [
            (100, 0, 1, "app.py", "[]", "/usr/bin/python3", 0, 0, None, None, None),
            (200, 0, 100, "child 1 of app.py", "[]", "/usr/bin/python3", 0, 100, 4_020, 0, None),
        ],
        "threads": [(201, 200, "QueueFeeder", 200, 0, 500, 4_020)],
        "sightings": [(15, 100, fd, PIPE, PIPE, access, 65_536) for fd, access in ((3, "r"), (4, "w"))],
        "lifecycle": [
            event(100, 100, 100, "clone", 200, flags=17, thread=False, call="fork"),
            event(500, 200, 200, "clone", 201, thread=True),
            event(4_020, 200, 201, "exit", 0),
            event(4_030, 200, 200, "exit", 0),
        ],
    }
    if snapshot:
        rows["snapshots"] = [(3_000, "timeout", json.dumps({"objects": {PIPE: {"bytes": 61_496}}}))]
    pending = [packed(6_000, 0, 100, "read", (3, 0, 4_096))] if waits else []
    return write_recording(path, calls, rows, pending=pending, end_ns=9_000)


def test_a_torn_message_and_its_writers_death(tmp_path: Path) -> None:
    """Who wrote it, how much of it, how much was received, and what the writer died in."""
    history = history_of(TraceReader(_torn(tmp_path / "a.qtrace")))
    framing = history.framing[PIPE]
    assert (framing.message_bytes, framing.received_bytes, framing.written_bytes) == (65_596, 61_500, 61_500)
    assert (framing.writer_pid, framing.writer_tid) == (200, 201)
    feeder, main = history.deaths
    assert (feeder.tid, feeder.pid, feeder.name, feeder.exit_code, feeder.exit_signal) == (
        201, 200, "QueueFeeder", 0, None,
    )  # fmt: skip
    assert feeder.call is not None
    assert (feeder.call.name, feeder.call.entered_ns, feeder.object_id) == ("write", 1_020, PIPE)
    assert (main.tid, main.name, main.call) == (200, "child 1 of app.py", None)


def test_what_a_blocked_write_put_in_follows_from_the_pages_of_a_pipe(tmp_path: Path) -> None:
    """Without a look at the pipe: 4 bytes of header, and 61,496 of the body, as the kernel fits them in."""
    history = history_of(TraceReader(_torn(tmp_path / "a.qtrace", waits=False)), until_ns=1_500)
    assert (history.framing[PIPE].received_bytes, history.framing[PIPE].written_bytes) == (0, 61_500)
    assert history.deaths == ()


def test_a_look_at_the_pipe_goes_before_the_rule(tmp_path: Path) -> None:
    """At 3,000 the kernel said 61,496, after the header had been taken out."""
    history = history_of(TraceReader(_torn(tmp_path / "a.qtrace", waits=False, snapshot=True)))
    assert (history.framing[PIPE].received_bytes, history.framing[PIPE].written_bytes) == (4, 61_500)


def test_an_earlier_moment_knows_nothing_of_what_came_later(tmp_path: Path) -> None:
    """Until before the write: no framing, no deaths, but the fork."""
    history = history_of(TraceReader(_torn(tmp_path / "a.qtrace")), until_ns=600)
    assert history.framing == {}
    assert history.deaths == ()
    assert history.children_made == {100: 1}
    assert history.fork_threads == {200: (100,)}
    assert history.creators == {PIPE: 100}


def test_uses_are_counted_by_process_and_object(tmp_path: Path) -> None:
    """Reads and writes that moved bytes, waits, and when the last was."""
    history = history_of(TraceReader(_torn(tmp_path / "a.qtrace")))
    reader, writer = history.uses[100, PIPE], history.uses[200, PIPE]
    assert (reader.reads, reader.writes, reader.waits, reader.last_ns) == (2, 0, 1, 9_000)
    assert (writer.reads, writer.writes, writer.waits, writer.last_ns) == (0, 1, 1, 4_020)


def test_the_last_taker_of_a_lock_is_who_waited_and_woke_nobody(tmp_path: Path) -> None:
    """200 came back and woke 300; 300 came back and is still inside."""
    word = 0x7000
    calls = [
        packed(100, 400, 200, "futex", (word, FUTEX_WAIT, 0), 0),
        packed(600, 5, 200, "futex", (word, FUTEX_WAKE, 1), 1),
        packed(110, 500, 300, "futex", (word, FUTEX_WAIT, 0), 0),
        packed(120, 700, 400, "futex", (word, FUTEX_WAIT, 0), -110),
    ]
    words = [(100, 100, word, SEMAPHORE, "/dev/shm/sem.a")]
    lifecycle = [event(50, 100, 100, "clone", pid, flags=17, thread=False) for pid in (200, 300, 400)]
    rows = {"words": [(40, *words[0][1:])], "lifecycle": lifecycle}
    path = write_recording(tmp_path / "a.qtrace", calls, rows, end_ns=9_000)
    takers = history_of(TraceReader(path)).takers
    assert [(name, taker.tid, taker.time_ns) for name, taker in takers.items()] == [(SEMAPHORE, 300, 610)]
    assert history_of(TraceReader(path)).uses[200, SEMAPHORE].wakes == 1


def test_the_same_private_address_is_another_lock_after_a_fork(tmp_path: Path) -> None:
    """A private word belongs to its address space; a fork copies the value, not the lock."""
    calls = [
        packed(100, 50, 100, "futex", (0x5000, FUTEX_WAIT, 0), 0),
        packed(300, 50, 200, "futex", (0x5000, FUTEX_WAIT, 0), 0),
    ]
    rows = {
        "words": [(100, 100, 0x5000, "futex:100:0x5000", "[heap]")],
        "lifecycle": [event(200, 100, 100, "clone", 200, flags=17, thread=False)],
    }
    takers = history_of(TraceReader(write_recording(tmp_path / "a.qtrace", calls, rows, end_ns=900))).takers
    assert {name: taker.tid for name, taker in takers.items()} == {"futex:100:0x5000": 100, "futex:200:0x5000": 200}


def test_an_exec_ends_what_fork_copied(tmp_path: Path) -> None:
    """After exec nothing of the parent's locks is left."""
    lifecycle = [
        event(10, 100, 100, "clone", 200, flags=17, thread=False),
        event(20, 100, 100, "clone", 300, flags=17, thread=False),
        event(30, 100, 100, "clone", 400, flags=0x4100 | 17, thread=False),
        event(40, 200, 200, "exec", argv=["x"]),
    ]
    history = history_of(TraceReader(write_recording(tmp_path / "a.qtrace", rows={"lifecycle": lifecycle})))
    assert history.fork_threads == {300: (100,)}
    assert history.children_made == {100: 3}


def test_wait_statuses() -> None:
    """wait(2): the low seven bits are the signal, the next byte the code."""
    assert [exit_of(status) for status in (0, 3 << 8, 9, 139, None)] == [
        (0, None), (3, None), (None, 9), (None, 11), (None, None),
    ]  # fmt: skip


def test_history_needs_no_pandas(tmp_path: Path) -> None:
    """A verdict must start at once."""
    path = _torn(tmp_path / "a.qtrace")
    code = (
        "import sys; from qtrace.decode.history import history_of; from qtrace.tracefile.reader import TraceReader;"
        f"history_of(TraceReader({str(path)!r})); print('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
