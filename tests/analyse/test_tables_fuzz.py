"""Damaged or hostile recordings give tables and verdicts of what is left, or a RecordingError; nothing else."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qtrace.decode.moment import snapshot_at
from qtrace.errors import RecordingError
from qtrace.model.columns import TABLES
from qtrace.pipeline import load
from qtrace.tracefile.reader import TraceReader
from qtrace.tracefile.schema import TABLES as STORED
from tests.tracefile.recordings import event, packed, write_recording

CASES = int(os.environ.get("QTRACE_FUZZ", "100")) // 4
NAMES = [
    "read", "write", "close", "dup2", "fcntl", "pipe2", "socketpair", "futex", "wait4", "poll", "clone", "execve",
    "exit", "nanosleep", "close_range", "epoll_ctl", "epoll_wait", "waitid", "recvmsg", "flock", "select",
    "futex_waitv", "eventfd2", "accept4",
]  # fmt: skip
SMALL = st.integers(0, 8)
ANY = st.one_of(SMALL, st.integers(0, (1 << 64) - 1), st.sampled_from([0x80, 0x189, 1 << 31, (1 << 32) - 1]))


@st.composite
def _calls(draw: st.DrawFn) -> bytes:
    return packed(
        draw(st.integers(0, 1_000)) * 1_000,
        draw(st.integers(0, 500)) * 1_000,
        draw(st.integers(98, 104)),
        draw(st.sampled_from(NAMES)),
        [draw(ANY) for _ in range(6)],
        draw(st.one_of(SMALL, st.integers(-200, 70_000), st.integers(-(1 << 63), (1 << 63) - 1))),
        pid=draw(st.integers(100, 102)),
        head=draw(st.one_of(st.none(), st.binary(min_size=8, max_size=8), st.just(b"\0\0\0\4aaaa"))),
        flags=draw(st.sampled_from([0, 0, 0, 1, 4, 8, 16, 65])),
    )


_TIMES = st.integers(0, 1_500_000)
_JSON = st.sampled_from(
    ["{}", "", "[]", "[[1]]", '{"flags": "x"}', '{"thread": true}', '{"flags": 17}', "[[3,1],[4,4]]", "{"]
)
_IDS = st.integers(98, 104)
_OBJECTS = st.sampled_from(
    ["pipe:[1]", "pipe:[2]", "socket:[3]", "file:1:2", "futex:100:0x1", "shared:0:1:0x0", "", "?"]
)
_ROWS = {
    "processes": st.tuples(
        _IDS, SMALL, st.one_of(st.none(), _IDS), st.one_of(st.none(), st.text(max_size=5)), _JSON,
        st.one_of(st.none(), st.text(max_size=5)), SMALL, _TIMES, st.one_of(st.none(), _TIMES),
        st.one_of(st.none(), SMALL), st.one_of(st.none(), SMALL),
    ),
    "threads": st.tuples(
        _IDS, _IDS, st.one_of(st.none(), st.text(max_size=5)), st.one_of(st.none(), _IDS), st.none(), _TIMES,
        st.one_of(st.none(), _TIMES),
    ),
    "sightings": st.tuples(
        _TIMES, _IDS, st.integers(-1, 8), st.text(max_size=4), _OBJECTS, st.sampled_from(["r", "w", "rw", "x", None]),
        st.sampled_from([None, 0, 1, 4096, 65_536]),
    ),
    "words": st.tuples(_TIMES, _IDS, SMALL, _OBJECTS, st.sampled_from([None, "/usr/bin/python3", "[heap]"])),
    "lifecycle": st.builds(
        lambda time, pid, tid, name, value, detail: (*event(time, pid, tid, name)[:4], value, detail),
        _TIMES, _IDS, _IDS, st.sampled_from(["clone", "exec", "exit", "signal", "stop", "cont", "attach", "?"]),
        st.one_of(st.none(), _IDS, st.integers(-1, 70_000)), _JSON,
    ),
    "details": st.tuples(_IDS, _TIMES, st.sampled_from(["pollfds", "passed_fds", "path"]), _JSON),
    "stacks": st.tuples(
        st.integers(0, 99), _IDS, _IDS, _TIMES, _TIMES, st.just("hang"), st.text(max_size=4),
        st.sampled_from(["[]", "{", '[{"file": "a", "line": 1, "function": "f"}]', "[1]", '[{"file": 1}]']),
    ),
    "snapshots": st.tuples(_TIMES, st.just("hang"), st.sampled_from(["{}", "{", "[]", '{"objects": {"pipe:[1]": 3}}'])),
}  # fmt: skip

fuzzed = settings(
    max_examples=max(CASES, 1),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def _use(path: Path) -> None:
    try:
        trace = load(path)
        for name in TABLES:
            assert list(getattr(trace, name).columns) == [column.name for column in TABLES[name]]
        assert len(trace.critical) >= 0
        assert isinstance(trace.bottleneck, str)
        assert len(trace.queues) <= len(trace.objects)
        with TraceReader(path) as reader:
            middle = (reader.start_ns + reader.end_ns) // 2
            assert snapshot_at(reader).source in ("recording", "live")
            assert snapshot_at(reader, middle).time_ns <= max(reader.end_ns, middle)
    except RecordingError as error:
        assert error.message  # noqa: PT017 - a refusal is as good an answer as tables


@fuzzed
@given(calls=st.lists(_calls(), max_size=40), rows=st.fixed_dictionaries({}, optional={
    name: st.lists(row, max_size=8) for name, row in _ROWS.items()
}))  # fmt: skip
def test_fuzz_anything_that_fits_the_schema(tmp_path: Path, calls: list[bytes], rows: dict[str, list[tuple]]) -> None:
    """Calls and rows that contradict each other in every way give tables all the same."""
    unique = {**rows, "stacks": list({row[0]: row for row in rows.get("stacks", [])}.values())}
    waiting = [call for call in calls if call[26] & 1 and not call[26] & 64]
    ended = [call for call in calls if call not in waiting]
    _use(write_recording(tmp_path / "a.qtrace", ended, unique, pending=waiting, end_ns=2_000_000))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small recording with something in most tables."""
    calls = [packed(1_000 * at, 900, 100, "write", (4, 0, 12), 12, head=b"\0\0\0\x08aaaa") for at in range(3_000)]
    rows = {
        "processes": [(100, 0, 1, "a.py", '["python"]', "/bin/python", 0, 0, None, None, None)],
        "threads": [(100, 100, "MainThread", None, 0, 0, None)],
        "sightings": [(at, 100, at % 9, f"pipe:[{at % 4}]", f"pipe:[{at % 4}]", "w", 65_536) for at in range(200)],
        "lifecycle": [event(at, 100, 100, "signal", 10) for at in range(200)],
    }
    path = tmp_path_factory.mktemp("fuzz") / "whole.qtrace"
    return write_recording(path, calls, rows, pending=[packed(1, 0, 100, "read")], blocks=3).read_bytes()


@fuzzed
@given(
    cut=st.floats(0.05, 1),
    damages=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=16)), max_size=6),
)
def test_fuzz_damaged_files(tmp_path: Path, whole: bytes, cut: float, damages: list[tuple[float, bytes]]) -> None:
    """A file cut short or written over gives what is left."""
    content = bytearray(whole[: int(len(whole) * cut)])
    for place, some in damages:
        at = int(place * len(content))
        content[at : at + len(some)] = some
    path = tmp_path / "a.qtrace"
    path.write_bytes(content)
    _use(path)


@fuzzed
@given(
    table=st.sampled_from([table.name for table in STORED]),
    column=st.integers(0, 12),
    value=st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1), st.text(max_size=4), st.binary(max_size=4)),
)
def test_fuzz_nonsense_in_any_column(tmp_path: Path, whole: bytes, table: str, column: int, value: object) -> None:
    """A sound database with nonsense in one column."""
    path = tmp_path / "a.qtrace"
    path.write_bytes(whole)
    database = sqlite3.connect(path)
    names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    try:
        database.execute(f"UPDATE {table} SET {names[column % len(names)]} = ?", (value,))
        database.commit()
    except sqlite3.IntegrityError:
        database.rollback()
    database.close()
    _use(path)
