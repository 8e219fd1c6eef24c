"""What is told of millions of merged calls is what the calls one by one tell."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from qtrace.decode import condensed
from qtrace.decode.decoded import Decoded, decode
from qtrace.decode.history import history_from
from qtrace.model.records import CALL_STRUCT, CallFlag
from qtrace.model.snapshot import History, Use
from qtrace.tracefile import writer
from qtrace.tracefile.reader import TraceReader
from tests.tracefile.recordings import event, packed, write_recording

FUTEX_WAIT, FUTEX_WAKE = 0x80, 0x81
END = 4_000_000_000


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BLOCK_CALLS", 50)
    monkeypatch.setattr(condensed, "FROM_CALLS", 10)


class _Program:
    """A parent and a child with two pipes that they write messages to and read them from."""

    bodies: tuple[int, ...] = (0, 5, 5, 5, 400, 20_000)

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.calls = [
            packed(10, 5, 100, "pipe2", (0, 0), 0, head=struct.pack("<ii", 3, 4)),
            packed(20, 5, 100, "pipe2", (0, 0), 0, head=struct.pack("<ii", 5, 6)),
        ]
        self.now = 1_000
        self.inside: dict[int, list[int]] = {4: [], 6: []}
        self.users = {4: (100, 200), 6: (100, 200)}
        self.rows = {
            "processes": [
                (100, 0, 1, "app.py", "[]", "/usr/bin/python3", 0, 0, None, None, None),
                (200, 0, 100, "child 1 of app.py", "[]", "/usr/bin/python3", 0, 100, None, None, None),
            ],
            "sightings": [
                (30, 100, fd, f"pipe:[{fd // 5 + 7}]", f"pipe:[{fd // 5 + 7}]", "rw"[fd % 2 == 0], 65_536)
                for fd in (3, 4, 5, 6)
            ],
            "lifecycle": [event(100, 100, 100, "clone", 200, flags=17, thread=False, call="fork")],
        }

    def call(self, tid: int, name: str, args: tuple[int, ...], ret: int, head: bytes = b"", flags: int = 0) -> None:
        spent = self.random.randrange(100, 2_000)
        self.calls.append(packed(self.now, spent, tid, name, args, ret, pid=tid, head=head or None, flags=flags))
        self.now += spent + self.random.randrange(1, 500)

    def write(self) -> None:
        fd, body = self.random.choice((4, 6)), self.random.choice(self.bodies)
        tid = self.random.choice(self.users[fd])
        sizes = [body + 4] if body <= 16_384 else [4, body]
        for number, size in enumerate(sizes):
            head = struct.pack("!i", body) if number == 0 else b"\x80\5"
            self.call(tid, "write", (fd, 0, size), size, head)
        self.inside[fd].append(body)

    def read(self) -> None:
        fd = self.random.choice([fd for fd in (4, 6) if self.inside[fd]] or [0])
        if not fd:
            return
        body = self.inside[fd].pop(0)
        tid = self.random.choice(self.users[fd])
        self.call(tid, "read", (fd - 1, 0, 4), 4, struct.pack("!i", body))
        if body:
            self.call(tid, "read", (fd - 1, 0, body), body, b"\x80\5")

    def lock(self) -> None:
        tid, word = self.random.choice((100, 200)), self.random.choice((0x1000, 0x2000))
        operation = self.random.choice((FUTEX_WAIT, FUTEX_WAKE))
        ret = self.random.choice((0, -11, -110)) if operation == FUTEX_WAIT else self.random.choice((0, 1))
        self.call(tid, "futex", (word, operation, 1), ret)

    def go_on(self, steps: int) -> None:
        """Do something, so many times."""
        for _ in range(steps):
            self.random.choice((self.write, self.read, self.read, self.lock))()

    def drain(self) -> None:
        """Read what is in the pipes."""
        while self.inside[4] or self.inside[6]:
            self.read()

    def new_pipe(self) -> None:
        """Give the second pipe's numbers to another one, which the child does not have."""
        for fd in (5, 6):
            self.call(100, "close", (fd,), 0)
            self.call(200, "close", (fd,), 0)
        self.call(100, "pipe2", (0, 0), 0, struct.pack("<ii", 5, 6))
        for fd, access in ((5, "r"), (6, "w")):
            self.rows["sightings"].append((self.now, 100, fd, "pipe:[99]", "pipe:[99]", access, 65_536))
        self.users[6] = (100,)

    def store(self, path: Path) -> TraceReader:
        """Write it all, in the order of the calls' ends."""
        return TraceReader(write_recording(path, self.calls, self.rows, end_ns=END))


def _facts(decoded: Decoded) -> History:
    history = history_from(decoded, {})
    used = {
        key: Use(bool(use.reads), bool(use.writes), 0, 0, use.last_ns) for key, use in history.uses.items()
    }  # how often is not told of merged calls
    return replace(history, uses=used)


def _merged(reader: TraceReader) -> Decoded:
    calls = condensed.condensed_calls(reader, END)
    assert calls is not None
    return decode(reader, calls)


@pytest.mark.parametrize("seed", range(20))
def test_the_history_of_merged_calls_is_that_of_all(seed: int, tmp_path: Path) -> None:
    """Two pipes and two locks, of which the second pipe becomes another; at the end a message is cut off."""
    program = _Program(seed)
    program.go_on(600)
    program.drain()
    if seed % 2:
        program.new_pipe()
    program.go_on(600)
    program.drain()
    program.call(200, "write", (4, 0, 4), 4, struct.pack("!i", 70_000))
    program.call(200, "write", (4, 0, 70_000), 0, b"\x80\5", int(CallFlag.UNFINISHED | CallFlag.KILLED))
    program.call(100, "read", (3, 0, 4), 4, struct.pack("!i", 70_000))
    reader = program.store(tmp_path / "a.qtrace")
    merged, whole = _merged(reader), decode(reader)
    assert len(merged.calls) < len(whole.calls) * 2 / 3
    assert condensed.tells_the_end(merged)
    assert _facts(merged) == _facts(whole)
    assert _facts(whole).framing["pipe:[7]"].message_bytes == 70_004


def test_a_merged_message_that_nobody_read_is_noticed(tmp_path: Path) -> None:
    """Then the calls have to be read whole: it is the message that matters."""
    program = _Program(1)
    program.go_on(300)
    program.drain()
    for _ in range(200):
        program.call(200, "write", (4, 0, 9), 9, struct.pack("!i", 5))
    for _ in range(300):
        program.lock()
    reader = program.store(tmp_path / "a.qtrace")
    assert not condensed.tells_the_end(_merged(reader))


def test_a_damaged_block_is_not_passed_over(tmp_path: Path) -> None:
    """What cannot be read is left to the reader of all calls, who counts and says it."""
    program = _Program(2)
    program.go_on(600)
    reader = program.store(tmp_path / "a.qtrace")
    reader._packed = lambda block: b"damage" if block == 3 else TraceReader._packed(reader, block)  # type: ignore[method-assign]
    assert condensed.condensed_calls(reader, END) is None


class _PerfProgram(_Program):
    """The same as the perf engine records it: no heads, and the frequent calls stand behind later rare ones."""

    bodies = (5, 5, 5, 400, 20_000)
    behind = 120

    def call(self, tid: int, name: str, args: tuple[int, ...], ret: int, head: bytes = b"", flags: int = 0) -> None:
        if name in ("read", "write", "futex"):
            head, flags = b"", flags | int(CallFlag.FROM_PERF)
        super().call(tid, name, args, ret, head, flags)

    def store(self, path: Path) -> TraceReader:
        rare = [place for place, call in enumerate(self.calls) if not CALL_STRUCT.unpack(call)[5] & CallFlag.FROM_PERF]
        at = {place: place - (self.behind if place in rare else 0) for place in range(len(self.calls))}
        calls = [self.calls[place] for place in sorted(at, key=lambda place: at[place])]
        return TraceReader(write_recording(path, calls, self.rows, end_ns=END, engine="perf"))


@pytest.mark.parametrize("seed", range(20))
def test_so_it_is_where_only_sizes_tell_the_messages(seed: int, tmp_path: Path) -> None:
    """As above, with the perf engine: descriptors change hands in calls blocks before those of their time."""
    program = _PerfProgram(seed)
    program.go_on(1_000)
    program.drain()
    if seed % 2:
        program.new_pipe()
    program.go_on(1_000)
    program.drain()
    program.go_on(200)
    program.drain()
    program.call(200, "write", (4, 0, 4), 4)
    program.call(200, "write", (4, 0, 70_000), 0, b"", int(CallFlag.UNFINISHED | CallFlag.KILLED))
    program.call(100, "read", (3, 0, 4), 4)
    program.call(100, "read", (3, 0, 70_000), 0, b"", int(CallFlag.UNFINISHED))
    reader = program.store(tmp_path / "a.qtrace")
    merged, whole = _merged(reader), decode(reader)
    assert len(merged.calls) < len(whole.calls) * 2 / 3
    assert condensed.tells_the_end(merged)
    assert _facts(merged) == _facts(whole)
    assert _facts(whole).framing["pipe:[7]"].message_bytes == 70_004


@pytest.mark.parametrize("asked", [4_096, 9])
def test_a_reader_that_is_no_connection_makes_no_messages(asked: int, tmp_path: Path) -> None:
    """It reads what is there, or whole messages at once: then no size tells a message, merged or not."""
    program = _PerfProgram(4)
    program.go_on(300)
    program.drain()
    for _ in range(300):
        program.call(200, "write", (4, 0, 9), 9)
        program.call(100, "read", (3, 0, asked), 9)
    program.call(200, "write", (4, 0, 4), 4)
    program.call(200, "write", (4, 0, 70_000), 0, b"", int(CallFlag.UNFINISHED))
    program.call(100, "read", (3, 0, 4), 4)
    reader = program.store(tmp_path / "a.qtrace")
    merged, whole = _merged(reader), decode(reader)
    assert len(merged.calls) < len(whole.calls) * 2 / 3
    assert condensed.tells_the_end(merged)
    assert _facts(merged) == _facts(whole)
    assert "pipe:[7]" not in _facts(whole).framing


def test_merged_messages_of_perf_that_nobody_read_are_noticed(tmp_path: Path) -> None:
    """Then the calls have to be read whole."""
    program = _PerfProgram(1)
    program.go_on(300)
    program.drain()
    for _ in range(200):
        program.call(200, "write", (4, 0, 9), 9)
    for _ in range(300):
        program.lock()
    reader = program.store(tmp_path / "a.qtrace")
    assert not condensed.tells_the_end(_merged(reader))


def test_damage_is_not_passed_over_with_perf_either(tmp_path: Path) -> None:
    """Neither where the rare calls are looked up, nor where the others are merged."""
    program = _PerfProgram(2)
    program.go_on(600)
    reader = program.store(tmp_path / "a.qtrace")
    reader._packed = lambda block: b"damage" if block == 3 else TraceReader._packed(reader, block)  # type: ignore[method-assign]
    assert condensed.condensed_calls(reader, END) is None
    reader.numbered = lambda numbers: reader.calls()[:0]  # type: ignore[method-assign]
    assert condensed.condensed_calls(reader, END) is None
