"""The library of hot stops records what the loop in Python does, for the same programs, and is fair to them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from qtrace.capture import hot_stops
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture, number_of
from qtrace.tracefile.reader import TraceReader
from tests.capture.behaviours import names, needs_compiler, program, record_words, recorded, run
from tests.support.processes import in_session, running

PROGRAMS = Path(__file__).resolve().parent / "programs"
COMPARED = ("read", "write", "futex", "sendto", "recvfrom", "pipe2", "dup2", "close", "close_range")
MESSAGES = 3_000
WORDS = 512
BUSY = 6
MOST_LATE_SECONDS = 0.5

built = pytest.mark.skipif(hot_stops.library() is None, reason="there was no C compiler when qtrace was installed")


def _converse(path: Path) -> Path:
    words = [sys.executable, "-B", "-I", str(PROGRAMS / "conversation.py"), str(MESSAGES)]
    with running(record_words(path, words, "--engine", "ptrace")) as process:
        assert process.wait(120) == 0
        assert in_session(process.pid) == []
    return path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The conversation, recorded with the library and without."""
    folder = tmp_path_factory.mktemp("both")
    with_library = _converse(folder / "library.qtrace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(hot_stops.PURE_PYTHON, "1")
        return with_library, _converse(folder / "python.qtrace")


def _meta(path: Path, key: str) -> int | None:
    with sqlite3.connect(path) as database:
        row = database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row is not None else None


def _calls(path: Path) -> list[list[tuple[int, ...]]]:
    """Return what parent and child called, from the first pipe on: all that does not differ from run to run."""
    machine = Architecture(os.uname().machine)
    numbers = {number_of(name, machine): name for name in COMPARED}
    with TraceReader(path) as reader:
        calls = reader.calls()
    calls.sort(order="start_ns")
    made = calls[calls["nr"] == number_of("pipe2", machine)][0]
    found = []
    for tid in sorted(set(calls["tid"].tolist()), key=lambda tid: tid != made["tid"]):
        own = calls[(calls["tid"] == tid) & (calls["start_ns"] >= made["start_ns"])]
        found.append([
            (row["nr"], 0 if numbers[row["nr"]] in ("futex", "pipe2") else row["a0"], row["ret"], row["flags"],
             row["head"])
            for row in own
            if row["nr"] in numbers
        ])  # fmt: skip
    return found


@built
def test_calls_results_and_heads_are_those_of_the_loop_in_python(both: tuple[Path, Path]) -> None:
    """Messages of every length, on pipes and sockets, on descriptors that change; waits and their limits."""
    one, other = map(_calls, both)
    assert [len(calls) for calls in one] == [len(calls) for calls in other]
    for mine, theirs in zip(one, other, strict=True):
        assert mine == theirs
    headed = [call for calls in one for call in calls if call[3] & CallFlag.HAS_HEAD]
    assert len(headed) > 4 * MESSAGES


@built
def test_descriptors_and_words_are_looked_up_as_often(both: tuple[Path, Path]) -> None:
    """Each once while it stays what it is: more shared words than the library has room for, and few private ones."""
    found = []
    for path in both:
        with sqlite3.connect(path) as database:
            sightings = database.execute("SELECT fd, count(*) FROM sightings GROUP BY fd ORDER BY fd").fetchall()
            words = database.execute(
                "SELECT object_id LIKE 'shared:%', count(*), count(DISTINCT addr) FROM words GROUP BY 1 ORDER BY 1"
            ).fetchall()
        found.append((sightings, words))
    assert found[0] == found[1]
    assert (1, WORDS, WORDS) in found[0][1]


@built
def test_the_library_handles_nearly_all_stops(both: tuple[Path, Path]) -> None:
    """Where it is not in use the recording does not say that it was."""
    with_library, without = both
    stops, in_c = _meta(with_library, "stops"), _meta(with_library, "stops_in_c")
    assert stops is not None
    assert in_c is not None
    assert 0.8 * stops < in_c < stops
    assert _meta(without, "stops_in_c") is None


@pytest.mark.parametrize("pure", [pytest.param(False, marks=built), True], ids=["library", "python"])
def test_all_get_on_while_they_share_a_cpu_with_the_tracer(
    pure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is kept waiting for those that call all the time: neither one of them, nor one that sleeps."""
    if pure:
        monkeypatch.setenv(hot_stops.PURE_PYTHON, "1")
    words = [sys.executable, str(PROGRAMS / "crowd.py"), str(BUSY)]
    options = ("--engine", "ptrace", "--placement", "together")
    with running(record_words(tmp_path / "run.qtrace", words, *options), stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=60)
    late, *turns = output.split()
    assert len(turns) == BUSY
    assert min(map(int, turns)) > max(map(int, turns)) / 3
    assert float(late) < MOST_LATE_SECONDS


@needs_compiler
@pytest.mark.parametrize("name", [*names("signals")[:12], *names("execs")[:12]])
def test_without_the_library_a_program_behaves_as_it_does_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other tests of behaviours use it, where it was built."""
    family = "signals" if name in names("signals") else "execs"
    monkeypatch.setenv(hot_stops.PURE_PYTHON, "1")
    argv = [str(program(family)), name]
    bare, traced = run(argv), recorded(argv, tmp_path / "run.qtrace", "--engine", "ptrace")
    assert (traced.output, traced.status, traced.leftovers) == (bare.output, bare.status, bare.leftovers)


# --- the memory that is shared ---------------------------------------------------------------------


@pytest.fixture
def hot() -> hot_stops.HotStops:
    """A library that knows nobody."""
    loaded = hot_stops.library()
    assert loaded is not None
    return hot_stops.HotStops(loaded, lambda records: None)


@built
def test_a_call_stays_where_its_thread_goes(hot: hot_stops.HotStops) -> None:
    """A thread becomes known, or is not known any more, inside of a call."""
    known, call = hot_stops.Known(), (5, [1, 2, 3, 4, 5, 6, 2**64 - 1], CallFlag.HAS_HEAD, 2**64 - 2)
    hot.open_calls[7] = call
    assert hot.open_calls.copy() == {7: call}
    hot.adopt(7, 7, known)
    assert 7 in hot.open_calls
    assert hot.open_calls.get(7) == call
    assert hot.open_calls.copy() == {7: call}
    hot.drop_process(7)
    assert hot.places == {}
    assert hot.open_calls.pop(7) == call
    assert hot.open_calls.copy() == {}


@built
def test_threads_for_which_there_is_no_room_are_left_to_the_loop(hot: hot_stops.HotStops) -> None:
    """More threads than places, and ids that fall on the same place; who ends makes room."""
    known = hot_stops.Known()
    for tid in range(1, 6_000):
        hot.adopt(tid, 1, known)
    assert len(hot.places) == len(set(hot.places.values())) == 4095
    hot.drop_thread(1)
    hot.adopt(65_536 + 2, 2, known)
    assert 65_536 + 2 not in hot.places
    hot.adopt(65_536 + 1, 2, known)
    assert 65_536 + 1 in hot.places
    assert 1 not in hot.open_calls
    hot.drop_process(1)
    assert list(hot.places) == [65_536 + 1]


@built
def test_memory_that_is_closed_is_not_read_any_more(hot: hot_stops.HotStops) -> None:
    """The number may be another file's by then. The call that the thread is in stays."""
    call = (5, [1, 2, 3, 4, 5, 6, 7], 0, 9)
    hot.adopt(7, 7, hot_stops.Known(), 100)
    hot.open_calls[7] = call
    fields = hot_stops._THREAD.unpack_from(hot._threads, hot.places[7] * hot_stops._THREAD.size)
    assert fields[-1] == 100
    hot.close_memory(7)
    fields = hot_stops._THREAD.unpack_from(hot._threads, hot.places[7] * hot_stops._THREAD.size)
    assert fields[-1] == -1
    assert hot.open_calls.get(7) == call


@built
def test_a_call_is_read_whole_or_not_at_all(hot: hot_stops.HotStops) -> None:
    """A place that is being written, or that belongs to another thread since, is in no call."""
    hot.adopt(7, 7, hot_stops.Known())
    place = hot.places[7]
    hot.open_calls[7] = (1, [0] * 7, 0, 0)
    assert hot.call_at(place, 8) is None
    start = place * hot_stops._THREAD.size
    fields = list(hot_stops._THREAD.unpack_from(hot._threads, start))
    fields[2] |= 1
    hot_stops._THREAD.pack_into(hot._threads, start, *fields)
    assert hot.call_at(place, 7) is None
