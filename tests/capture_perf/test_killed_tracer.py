"""The tracer dies while the program makes calls as fast as it can: at most the last second is missing."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from pathlib import Path

import numpy as np

from qtrace.model.syscalls import Architecture, number_of
from qtrace.tracefile.reader import TraceReader
from tests.support.engines import command, needs_perf
from tests.support.processes import in_session, running, wait_until

PROGRAM = Path(__file__).resolve().parent / "programs" / "numbered_calls.py"
EACH = 1_000
PROMISED_NS = 1_000_000_000
ROUNDS = 3

pytestmark = needs_perf


def moments(folder: Path, writer: int) -> np.ndarray:
    """Return when a writer was about to make its calls 0, 1,000, 2,000 ..."""
    try:
        raw = (folder / str(writer)).read_bytes()
    except FileNotFoundError:
        return np.zeros(0, np.int64)
    found = np.frombuffer(raw, "<i8")
    return found[found > 0]


def numbers(reader: TraceReader) -> list[np.ndarray]:
    """Return, for each process, the numbers of its calls as the recording has them, in order."""
    calls = reader.calls()
    wrote = calls[calls["nr"] == number_of("pwrite64", Architecture.X86_64)]
    return [wrote["a3"][wrote["pid"] == pid].astype(np.int64) for pid in np.unique(wrote["pid"])]


def killed_after(folder: Path, seconds: float) -> int:
    """Record, kill the tracer so long after the first calls, and return when that was."""
    words = ["record", "-q", "-o", str(folder / "run.qtrace"), str(PROGRAM), str(folder)]
    with running(command("perf", *words)) as process:
        wait_until(lambda: len(moments(folder, 0)) and len(moments(folder, 1)), what="the first calls")
        time.sleep(seconds)
        killed_ns = time.monotonic_ns()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not in_session(process.pid), what="the end of the program")
    return killed_ns


def test_at_full_speed_a_killed_tracer_lacks_at_most_the_last_second(tmp_path: Path) -> None:
    """Every call from the first to one of the last second is there, but for those that are said to be lost."""
    moment = random.Random(7)
    waiting = 0
    for number in range(ROUNDS):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        killed_ns = killed_after(folder, moment.uniform(1.3, 2.5))
        with TraceReader(folder / "run.qtrace") as reader:
            found = numbers(reader)
            lost = sum(row[2] for row in reader.rows("losses"))
            waiting += len(reader.rows("rings"))
            assert reader.damage == ""
            assert "complete" not in reader.meta
            assert killed_ns - PROMISED_NS < reader.end_ns <= killed_ns
        due = sorted(int((moments(folder, writer) < killed_ns - PROMISED_NS).sum() - 1) * EACH for writer in (0, 1))
        assert min(due) > 0, "no round is long enough to prove anything"
        assert len(found) == 2
        for some, must in zip(sorted(found, key=len), due, strict=True):
            assert len(np.unique(some)) == len(some), "a call is there twice"
            assert some[-1] >= must
            assert int(some[-1]) + 1 - len(some) <= lost, "a call is missing in between, and nobody says so"
    assert waiting, "calls had been made of all at once: nothing of what this is about was tried"


def test_what_a_program_did_at_first_is_stored_before_anything_can_be_made_of_it(tmp_path: Path) -> None:
    """The tracer dies before it has loaded what makes calls of records: the reader makes them."""
    killed_ns = killed_after(tmp_path, 0.75)
    with TraceReader(tmp_path / "run.qtrace") as reader:
        found = numbers(reader)
        assert reader.damage == ""
        assert "complete" not in reader.meta
        assert reader.end_ns <= killed_ns
    assert len(found) == 2
    assert all(some[0] == 0 for some in found), "the first call is missing"


def test_what_was_taken_and_not_yet_made_calls_of_is_so_at_the_end(tmp_path: Path) -> None:
    """The same program, ended in order: no part of the rings is left, and the file has no room for any."""
    recording = tmp_path / "run.qtrace"
    words = ["record", "-q", "-o", str(recording), "--timeout", "2", str(PROGRAM), str(tmp_path)]
    with running(command("perf", *words)) as process:
        assert process.wait(60) == 124
    with TraceReader(recording) as reader:
        found = numbers(reader)
        lost = sum(row[2] for row in reader.rows("losses"))
        assert reader.rows("rings") == []
        assert reader.meta["complete"] == "1"
        count = reader.call_count
    for some in found:
        assert int(some[-1]) + 1 - len(some) <= lost
    assert struct.unpack(">I", recording.read_bytes()[36:40])[0] == 0, "pages of the file that nothing is in"
    assert recording.stat().st_size < 40 * count
