"""The tracer dies at a random moment: its file loads, and nobody of the program survives."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture, number_of
from qtrace.tracefile.reader import TraceReader
from tests.capture.loaded import LoadedQtrace
from tests.support.processes import in_session, wait_until

PROGRAM = Path(__file__).resolve().parent / "programs" / "numbered_writes.py"
ROUNDS = 100
LONG_ROUNDS = 8
"""So many rounds last beyond the second that may be lacking."""
PROMISED_NS = 1_000_000_000
_SENT = 100_000


def sent(folder: Path, writer: int) -> Iterator[int]:
    """Yield when a writer sent each of its messages."""
    try:
        with (folder / str(writer)).open("rb") as file:
            raw = file.read(8 * _SENT)
    except FileNotFoundError:
        return
    for (at,) in struct.iter_unpack("<q", raw[: len(raw) // 8 * 8]):
        if not at:
            return
        yield at


def numbers_written(reader: TraceReader) -> list[np.ndarray]:
    """Return, for each process that wrote, the numbers of its messages as the recording has them."""
    calls = reader.calls()
    wrote = (calls["nr"] == number_of("write", Architecture.X86_64)) & (calls["a2"] == 8)
    wrote &= calls["flags"] & int(CallFlag.HAS_HEAD) != 0
    return [calls["head"][wrote & (calls["pid"] == pid)] for pid in np.unique(calls["pid"][wrote])]


@pytest.fixture
def loaded() -> Iterator[LoadedQtrace]:
    """A qtrace that need not be loaded for each round."""
    with LoadedQtrace() as qtrace:
        yield qtrace


def _killed_after(qtrace: LoadedQtrace, folder: Path, seconds: float) -> int:
    """Record, kill the tracer so long after the first message, and return when that was."""
    options = ["record", "-q", "-o", str(folder / "run.qtrace"), "--python", os.path.realpath(sys.executable)]
    pid = qtrace.start([*options, str(PROGRAM), str(folder)], folder / "out")
    try:
        wait_until(lambda: any(sent(folder, 0)) and any(sent(folder, 1)), what="the first messages")
        time.sleep(seconds)
    finally:
        killed_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        status = qtrace.wait()
    assert status == -signal.SIGKILL, (folder / "out").read_text()
    wait_until(lambda: not in_session(pid), what="the end of the program")
    return killed_ns


def test_a_killed_tracer_leaves_a_file_that_loads_and_no_process(loaded: LoadedQtrace, tmp_path: Path) -> None:
    """At 100 random moments: messages are there from the first on, up to a second before the kill."""
    moments = random.Random(4)
    proven = 0
    for number in range(ROUNDS):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        seconds = moments.uniform(1.1, 1.6) if number < LONG_ROUNDS else moments.uniform(0, 0.4)
        killed_ns = _killed_after(loaded, folder, seconds)
        with TraceReader(folder / "run.qtrace") as reader:
            assert reader.end_ns > killed_ns - PROMISED_NS
            assert "complete" not in reader.meta
            written = numbers_written(reader)
            assert reader.damage == ""
        for found in written:
            assert np.array_equal(np.sort(found), np.arange(len(found))), "a message is missing in between"
        due = sorted(sum(at < killed_ns - PROMISED_NS for at in sent(folder, writer)) for writer in (0, 1))
        lengths = sorted([0] * (2 - len(written)) + [len(found) for found in written])
        assert all(have >= must for have, must in zip(lengths, due, strict=True))
        proven += sum(due) > 0
    assert proven >= LONG_ROUNDS // 2, "no round was long enough to prove anything"


def test_the_file_of_a_killed_tracer_is_whole_for_sqlite_itself(loaded: LoadedQtrace, tmp_path: Path) -> None:
    """Anyone can open it: SQLite's own check finds nothing."""
    _killed_after(loaded, tmp_path, 0.6)
    database = sqlite3.connect(tmp_path / "run.qtrace")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
