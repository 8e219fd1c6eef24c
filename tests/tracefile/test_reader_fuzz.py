"""Whatever happens to a file, reading it ends, in rows or in a RecordingError, and never in anything else."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qtrace.errors import RecordingError
from qtrace.tracefile.reader import TraceReader
from qtrace.tracefile.schema import TABLES
from tests.tracefile.recordings import event, packed, write_recording

CASES = int(os.environ.get("QTRACE_FUZZ", "100"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recording with something in every table and several levels of pages."""
    random = np.random.default_rng(7)
    calls = [
        packed(10 * at, 5, 100 + at % 3, "read", (3, 4096, 4), 4, pid=100, head=random.bytes(8)) for at in range(9_000)
    ]
    rows = {
        "processes": [(100, 0, 1, "a.py", '["python", "a.py"]', "/bin/python", 0, 0, 90_000, 0, None)],
        "threads": [(tid, 100, "MainThread", None, 0, 0, 90_000) for tid in range(100, 103)],
        "sightings": [(at, 100, 3, "pipe:[7]", "pipe:[7]", "r", 65536) for at in range(400)],
        "words": [(at, 100, 4096 + at, "shared:0:9:0x0", "/dev/shm/sem.x") for at in range(300)],
        "lifecycle": [event(at, 100, 100, "signal", 10, code=-6) for at in range(400)],
        "details": [(100, at, "pollfds", "[[3, 1, 1]]") for at in range(300)],
        "stacks": [(1, 100, 100, 5, 5, "hang", "MainThread", "[]")],
        "snapshots": [(90_000, "end", "{}")],
        "losses": [(1, 2, 3, "cpu 0", "full")],
    }
    path = tmp_path_factory.mktemp("fuzz") / "whole.qtrace"
    write_recording(path, calls, rows, pending=[packed(80_000, 0, 102, "futex")], blocks=6, end_ns=90_000)
    return path.read_bytes()


def _read_all(path: Path) -> None:
    # Small as the file is, nothing in it may turn into more than it can hold.
    with TraceReader(path) as reader:
        calls = reader.calls()
        assert len(calls) <= 9_001
        assert np.all(np.diff(calls["start_ns"]) >= 0)
        assert not len(calls) or int(calls["start_ns"].min()) >= 0
        for table in TABLES:
            assert len(reader.rows(table.name)) <= 2_000
        assert reader.start_ns <= max(reader.end_ns, reader.start_ns)
        if len(calls) < 9_001:
            assert reader.damage


def _check(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    listed = sorted(os.listdir(path.parent))
    try:
        _read_all(path)
    except RecordingError as error:
        assert error.message  # noqa: PT017 - a refusal is as good an answer as rows
    assert path.read_bytes() == content
    assert sorted(os.listdir(path.parent)) == listed


fuzzed = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@fuzzed
@given(cut=st.floats(0, 1))
def test_fuzz_truncated_anywhere(tmp_path: Path, whole: bytes, cut: float) -> None:
    """A file that ends early is read up to its end, or refused."""
    _check(tmp_path / "a.qtrace", whole[: int(len(whole) * cut)])


@fuzzed
@given(
    damages=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=64)), min_size=1, max_size=12
    )
)
def test_fuzz_bytes_overwritten(tmp_path: Path, whole: bytes, damages: list[tuple[float, bytes]]) -> None:
    """Bytes changed anywhere, pages and header included, never stop the reader."""
    content = bytearray(whole)
    for place, some in damages:
        at = int(place * len(content))
        content[at : at + len(some)] = some
    _check(tmp_path / "a.qtrace", bytes(content))


@fuzzed
@example(offset=19, value=2)
@given(offset=st.integers(16, 111), value=st.integers(0, 255))
def test_fuzz_header(tmp_path: Path, whole: bytes, offset: int, value: int) -> None:
    """Every byte of the header matters to SQLite; none makes it write or wait."""
    content = bytearray(whole)
    content[offset] = value
    _check(tmp_path / "a.qtrace", bytes(content))


@fuzzed
@example(pages=[(15, 69)])
@given(pages=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 200)), min_size=1, max_size=8))
def test_fuzz_pages_swapped_and_repeated(tmp_path: Path, whole: bytes, pages: list[tuple[int, int]]) -> None:
    """Pages in the wrong place make circles in SQLite's trees; reading ends all the same."""
    size = 4096
    content = bytearray(whole)
    count = len(content) // size
    for target, source in pages:
        to, of = target % count * size, source % count * size
        if to:
            content[to : to + size] = content[of : of + size]
    _check(tmp_path / "a.qtrace", bytes(content))


_VALUES = st.one_of(
    st.none(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False), st.text(max_size=8), st.binary()
)


@fuzzed
@given(table=st.sampled_from([table.name for table in TABLES]), value=_VALUES, column=st.integers(0, 20))
def test_fuzz_values_of_any_type(tmp_path: Path, whole: bytes, table: str, value: object, column: int) -> None:
    """A sound database with nonsense in its columns is read without it."""
    path = tmp_path / "a.qtrace"
    path.write_bytes(whole)
    database = sqlite3.connect(path)
    names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    change = _ignoring(sqlite3.IntegrityError, database.execute)
    change(f"UPDATE {table} SET {names[column % len(names)]} = ?", (value,))
    database.commit()
    database.close()
    _check(path, path.read_bytes())


def _ignoring(error: type[Exception], call: Callable[..., object]) -> Callable[..., object]:
    def attempt(*args: object) -> object:
        try:
            return call(*args)
        except error:
            return None

    return attempt


def test_fuzz_a_page_of_calls_in_progress_emptied(tmp_path: Path, whole: bytes) -> None:
    """A sound, empty page in the place of another is no silent loss: the number of calls in progress is known."""
    path = tmp_path / "a.qtrace"
    path.write_bytes(whole)
    database = sqlite3.connect(path)
    (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'pending'").fetchone()
    database.close()
    empty = b"\x0d\0\0\0\0\x10\0\0".ljust(4096, b"\0")
    _check(path, whole[: (page - 1) * 4096] + empty + whole[page * 4096 :])
    with TraceReader(path) as reader:
        assert len(reader.calls()) == 9_000
        assert "calls in progress" in reader.damage
