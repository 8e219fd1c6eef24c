"""What the writer stored comes back; what is damaged is said and never taken for whole."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from qtrace.errors import RecordingError
from qtrace.model.records import CALL_FIELDS, CALL_STRUCT, CallFlag
from qtrace.tracefile.reader import TraceReader
from qtrace.tracefile.writer import TraceWriter
from tests.tracefile.recordings import event, packed, write_recording

ROOT = Path(__file__).resolve().parents[2]


def _many(count: int, first_ns: int = 1_000) -> list[bytes]:
    return [packed(first_ns + 10 * at, 5, 100 + at % 3, "read", (3, 4096, 4), 4, pid=100) for at in range(count)]


def test_calls_come_back_in_the_order_of_entry(tmp_path: Path) -> None:
    """Calls are stored as they end and read as they began."""
    calls = [packed(50, 10, 2, "read"), packed(10, 100, 1, "write", (4, 5, 6), -32, head=b"\0\0\0\7")]
    reader = TraceReader(write_recording(tmp_path / "a.qtrace", calls, end_ns=500))
    rows = reader.calls()
    assert rows["start_ns"].tolist() == [10, 50]
    assert tuple(rows[0]) == CALL_STRUCT.unpack(calls[1])
    assert reader.damage == ""
    assert reader.meta["architecture"] == "x86_64"


@pytest.mark.parametrize("count", [1, 1_999, 2_000, 45_000])
def test_both_codecs_keep_every_bit(tmp_path: Path, count: int) -> None:
    """Blocks by rows and by columns give back what was packed."""
    random = np.random.default_rng(count)
    records = np.zeros(count, dtype=np.dtype(CALL_FIELDS))
    for name, kind in CALL_FIELDS:
        records[name] = random.integers(0, np.iinfo(kind).max // 4, count)
    records["start_ns"] = np.sort(random.integers(0, 1 << 50, count))
    records["ret"] -= 1 << 40
    reader = TraceReader(write_recording(tmp_path / "a.qtrace", [records.tobytes()]))
    assert np.array_equal(reader.calls(), records)


def test_calls_in_progress_are_unfinished_and_last_until_the_end(tmp_path: Path) -> None:
    """A call that has not returned is a row like any other."""
    path = write_recording(
        tmp_path / "a.qtrace", [packed(10, 5, 1, "read")], pending=[packed(20, 0, 2, "futex")], end_ns=1_000
    )
    rows = TraceReader(path).calls()
    assert [(int(r["tid"]), int(r["dur_ns"]), int(r["flags"])) for r in rows] == [
        (1, 5, 0),
        (2, 980, CallFlag.UNFINISHED),
    ]


def test_without_a_stated_end_the_latest_time_is_the_end(tmp_path: Path) -> None:
    """A killed recorder writes no end."""
    rows = {"lifecycle": [event(700, 1, 1, "signal", 15)]}
    path = write_recording(
        tmp_path / "a.qtrace", [packed(10, 500, 1, "read")], rows, pending=[packed(20, 0, 2, "poll")]
    )
    reader = TraceReader(path)
    assert reader.end_ns == 700
    assert reader.calls()["dur_ns"].tolist() == [500, 680]


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    """Ordinary tables are lists of tuples."""
    lifecycle = [event(1, 100, 100, "clone", 101, thread=True), event(2, 100, 101, "exit", 0)]
    reader = TraceReader(write_recording(tmp_path / "a.qtrace", rows={"lifecycle": lifecycle}))
    assert reader.rows("lifecycle") == lifecycle
    assert reader.rows("stacks") == []
    with pytest.raises(KeyError):
        reader.rows("no_such_table")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "not a qtrace recording"), (b"x" * 5_000, "not a qtrace recording"), (None, "cannot read")],
)
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, content: bytes | None, words: str) -> None:
    """Not a recording, or not there: said, with what to do."""
    path = tmp_path / "a.qtrace"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError, match=words) as caught:
        TraceReader(path)
    assert caught.value.help_text
    assert caught.value.exit_code == 2


def test_a_folder_and_another_database_are_refused(tmp_path: Path) -> None:
    """SQLite alone does not make a recording."""
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE meta (key, value)")
    for path in (tmp_path, other):
        with pytest.raises(RecordingError):
            TraceReader(path)


def test_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    """A newer file could mean anything."""
    path = write_recording(tmp_path / "a.qtrace")
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(RecordingError, match=r"newer qtrace.*99"):
        TraceReader(path)


def test_reading_needs_no_write_access_and_leaves_nothing(tmp_path: Path) -> None:
    """A recording may lie where one may only read."""
    path = write_recording(tmp_path / "a.qtrace", _many(100))
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    before = path.stat()
    reader = TraceReader(path)
    assert len(reader.calls()) == 100
    reader.close()
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (before.st_mtime_ns, before.st_size)
    assert os.listdir(tmp_path) == ["a.qtrace"]
    tmp_path.chmod(0o700)


def test_a_view_in_the_place_of_a_table_is_not_run(tmp_path: Path) -> None:
    """A file from elsewhere cannot make the reader work for ever."""
    path = write_recording(tmp_path / "a.qtrace")
    database = sqlite3.connect(path)
    database.execute("DROP TABLE lifecycle")
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x, x, x, x, x, x FROM n"
    database.execute(f"CREATE VIEW lifecycle AS {endless}")
    database.commit()
    database.close()
    reader = TraceReader(path)
    assert reader.rows("lifecycle") == []
    assert "lifecycle" in reader.damage


@pytest.mark.parametrize("share", [0.95, 0.7, 0.4])
def test_a_truncated_file_is_read_up_to_the_cut(tmp_path: Path, share: float) -> None:
    """What lies before the cut comes back right, and the rest is said to be missing."""
    random = np.random.default_rng(1)
    heads = [random.bytes(8) for _ in range(60_000)]
    calls = [packed(10 * at, 5, 100, "read", (3, 4096, 4), 4, head=head) for at, head in enumerate(heads)]
    path = write_recording(tmp_path / "a.qtrace", calls, blocks=30)
    whole = TraceReader(path).calls()
    os.truncate(path, int(path.stat().st_size * share))
    reader = TraceReader(path)
    rows = reader.calls()
    assert "damaged" in reader.damage
    assert 0 < len(rows) < 60_000
    assert np.array_equal(rows, whole[np.isin(whole["start_ns"], rows["start_ns"])])


def test_a_damaged_block_is_left_out_and_counted(tmp_path: Path) -> None:
    """One bad block costs that block."""
    path = write_recording(tmp_path / "a.qtrace", _many(30_000), blocks=10)
    database = sqlite3.connect(path)
    blob = bytearray(database.execute("SELECT records FROM blocks WHERE block = 4").fetchone()[0])
    blob[len(blob) // 2] ^= 0xFF
    database.execute("UPDATE blocks SET records = ? WHERE block = 4", (bytes(blob),))
    database.execute("UPDATE blocks SET calls = ? WHERE block = 5", (1 << 40,))
    database.commit()
    database.close()
    reader = TraceReader(path)
    assert len(reader.calls()) == 24_000
    assert "blocks of calls (2)" in reader.damage


def test_a_blob_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path) -> None:
    """Stored bytes cannot make the reader take more memory than the row's count allows."""
    import zlib

    path = write_recording(tmp_path / "a.qtrace", _many(10))
    database = sqlite3.connect(path)
    database.execute("UPDATE blocks SET records = ?", (zlib.compress(b"\0" * (1 << 26)),))
    database.commit()
    database.close()
    reader = TraceReader(path)
    assert len(reader.calls()) == 0
    assert reader.damage


def test_impossible_values_are_left_out(tmp_path: Path) -> None:
    """SQLite lets any value stand anywhere; readers may rely on types."""
    path = write_recording(tmp_path / "a.qtrace", rows={"lifecycle": [event(1, 100, 100, "exit")]})
    database = sqlite3.connect(path)
    database.execute("INSERT INTO lifecycle VALUES ('soon', 1, 1, 'exit', 0, '{}')")
    database.execute("INSERT INTO lifecycle VALUES (?, 1, 1, 'exit', 0, '{}')", (1 << 62,))
    database.execute("INSERT INTO lifecycle VALUES (1, NULL, 1, 'exit', 0, '{}')")
    database.execute("INSERT INTO lifecycle VALUES (1, 1, 1, x'ff', 0, '{}')")
    database.commit()
    database.close()
    reader = TraceReader(path)
    assert reader.rows("lifecycle") == [event(1, 100, 100, "exit")]
    assert "rows of lifecycle with impossible values (4)" in reader.damage


KILLED_WRITER = """
    import sys
    from pathlib import Path
    from qtrace.tracefile.writer import TraceWriter
    from tests.tracefile.recordings import packed

    writer = TraceWriter(Path(sys.argv[1]))
    writer.set_meta(architecture="x86_64")
    at = 0
    while True:
        writer.add_calls(b"".join(packed(10 * (at + n), 5, 1, "read") for n in range(3000)))
        at += 3000
        writer.flush()
        print(at, flush=True)
"""


def test_a_recorder_killed_at_any_moment_leaves_a_file_that_loads(tmp_path: Path) -> None:
    """SIGKILL in the middle of commits: every commit that had ended is there, in one file."""
    for attempt in range(8):
        path = tmp_path / f"{attempt}.qtrace"
        committed = 0
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED_WRITER), path], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert process.stdout is not None
        try:
            for _ in range(3 + attempt):
                committed = int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGKILL)
            committed = max([committed, *(int(line) for line in process.stdout if line.endswith("\n"))])
            process.stdout.close()
            process.wait()
        listed = set(os.listdir(tmp_path))
        reader = TraceReader(path)
        assert len(reader.calls()) >= committed
        assert np.array_equal(reader.calls()["start_ns"], np.arange(len(reader.calls())) * 10)
        assert reader.damage == ""
        reader.close()
        assert set(os.listdir(tmp_path)) == listed


def test_a_hot_journal_is_played_back_in_a_copy(tmp_path: Path) -> None:
    """A transaction that was never committed is not read, and the files stay as they were."""
    path = write_recording(tmp_path / "source.qtrace", _many(5_000), blocks=5)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous=OFF")
    database.execute("PRAGMA cache_size=1")  # spill pages into the file before the commit
    database.execute("BEGIN")
    database.execute("UPDATE blocks SET calls = 7, codec = 'none'")
    database.execute("DELETE FROM meta")
    copy = tmp_path / "copy.qtrace"
    shutil.copyfile(path, copy)
    shutil.copyfile(f"{path}-journal", f"{copy}-journal")
    database.execute("ROLLBACK")
    database.close()
    journal = Path(f"{copy}-journal")
    # A recorder that was killed has synced its journal's head; with synchronous=OFF it stands there at once.
    assert journal.stat().st_size > 512
    before = (copy.read_bytes(), journal.read_bytes())
    alone = tmp_path / "alone.qtrace"
    shutil.copyfile(copy, alone)
    assert len(TraceReader(alone).calls()) < 5_000  # so much of the transaction had been spilled
    reader = TraceReader(copy)
    assert len(reader.calls()) == 5_000
    assert reader.damage == ""
    reader.close()
    assert (copy.read_bytes(), journal.read_bytes()) == before


def test_a_recording_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    """A reader in the middle neither fails nor makes the recorder fail."""
    writer = TraceWriter(tmp_path / "a.qtrace")
    seen = []
    for round_number in range(20):
        writer.add_calls(b"".join(_many(2_500, 1 + round_number * 100_000)))
        writer.flush()
        with TraceReader(tmp_path / "a.qtrace") as reader:
            seen.append(len(reader.calls()))
            assert reader.damage == ""
    writer.close()
    assert writer.failure == ""
    assert seen == [2_500 * (round_number + 1) for round_number in range(20)]
