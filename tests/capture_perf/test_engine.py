"""The perf engine on real programs: nothing is lost, and what it says is what the ptrace engine says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qtrace as qtrace_api
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture, Trait, by_name, by_number, number_of
from qtrace.tracefile.reader import TraceReader
from tests.capture.behaviours import every_behaviour, first_recording, needs_compiler, program
from tests.capture.call_sequences import differences, of_recording, without
from tests.capture.test_fidelity import CUT_SHORT, DECIDED_BY_TIMING, TIMED, _up_to_the_cut
from tests.capture_perf.support import recorded_by
from tests.support.engines import command, needs_perf, prefix
from tests.support.processes import in_session, qtrace, running, wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MESSAGES = 20_000
NAMES = by_number(Architecture.X86_64)

pytestmark = needs_perf

QUEUE = f"""
from multiprocessing import Process, Queue

def produce(queue):
    for number in range({MESSAGES}):
        queue.put(b"x" * (number % 977))

if __name__ == "__main__":
    queue = Queue()
    child = Process(target=produce, args=(queue,))
    child.start()
    for number in range({MESSAGES} - 3):
        assert len(queue.get()) == number % 977
    child.join()
"""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 20,000 messages through one queue, of which three are never taken."""
    folder = tmp_path_factory.mktemp("busy")
    (folder / "many.py").write_text(QUEUE)
    outcome = recorded_by("perf", [sys.executable, str(folder / "many.py")], folder / "many.qtrace")
    assert outcome.status == 0, outcome.stderr
    return folder / "many.qtrace"


def test_a_busy_queue_is_recorded_without_loss(busy: Path) -> None:
    """Each message's write and two reads came through the rings, and nothing is missing."""
    with TraceReader(busy) as reader:
        calls = reader.calls()
        assert reader.meta["engine"] == "perf"
        assert list(reader.rows("losses")) == []
    hot = (calls["flags"] & int(CallFlag.FROM_PERF)) != 0
    assert int((hot & (calls["nr"] == number_of("write", Architecture.X86_64))).sum()) >= MESSAGES
    assert int((hot & (calls["nr"] == number_of("read", Architecture.X86_64))).sum()) >= 2 * (MESSAGES - 3)
    names = {NAMES[int(number)].name for number in np.unique(calls["nr"][~hot])}
    assert {"exit_group", "pipe2", "close", "execve"} <= names
    assert not [name for name in names if Trait.HOT in by_name()[name].traits], "a frequent call stopped"


def test_bytes_written_are_bytes_read_and_what_is_left(busy: Path) -> None:
    """For every pipe of the queue: written = read + level at the end; messages likewise."""
    trace = qtrace_api.load(busy)
    calls = trace.syscalls
    on_pipes = calls[calls["ret"].notna() & calls["object_id"].fillna("").str.startswith("pipe:")]
    written = on_pipes[on_pipes["name"] == "write"].groupby("object_id")["ret"].sum()
    read = on_pipes[on_pipes["name"] == "read"].groupby("object_id")["ret"].sum()
    assert written.max() > MESSAGES * 400
    for object_id, total in written.items():
        levels = trace.fill.loc[trace.fill["object_id"] == object_id, "bytes"]
        assert int(total) == int(read[object_id]) + (int(levels.iloc[-1]) if len(levels) else 0), object_id
    messages = trace.messages[trace.messages["object_id"] == written.idxmax()]
    assert len(messages) == MESSAGES
    assert int(messages["complete"].sum()) == MESSAGES - 3


def test_calls_of_a_thread_neither_overlap_nor_come_twice(busy: Path) -> None:
    """Of each thread every call begins after the one before has ended, stopped or not."""
    with TraceReader(busy) as reader:
        calls = reader.calls()
    for tid in np.unique(calls["tid"]).tolist():
        mine = calls[calls["tid"] == tid]
        assert np.all(mine["start_ns"][1:] >= (mine["start_ns"] + mine["dur_ns"])[:-1]), tid


NEVER_TWICE_THE_SAME = frozenset({"profiled", "pid-used-again"})
"""How often a profiler's signal comes, and how many processes there are until an id comes again, differs from
run to run."""


def _own_names_only(name: str) -> frozenset[str]:
    return DECIDED_BY_TIMING | TIMED.get(name, frozenset())


_COMPARED = [pair for pair in every_behaviour() if pair[1] not in NEVER_TWICE_THE_SAME]
_WITHOUT_BPF = 5
"""Each so-manieth behaviour is recorded with perf's own rings as well."""


@needs_compiler
@pytest.mark.parametrize(
    ("family", "name", "bpf"),
    [
        *(pytest.param(*pair, True, id="-".join(pair)) for pair in _COMPARED),
        *(pytest.param(*pair, False, id=f"{'-'.join(pair)}-without-bpf") for pair in _COMPARED[::_WITHOUT_BPF]),
    ],
)
def test_the_calls_of_a_behaviour_are_those_of_the_ptrace_engine(
    family: str, name: str, bpf: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Per thread the same calls with the same results in the same order; same output and same end."""
    if not bpf:
        monkeypatch.setenv("QTRACE_NO_BPF", "1")
    seen, expected_at = first_recording(family, name)
    outcome = recorded_by("perf", [str(program(family)), name], tmp_path / "perf.qtrace")
    assert (outcome.stdout, outcome.status) == (seen.output, seen.status)
    expected = without(of_recording(expected_at), _own_names_only(name))
    actual = without(of_recording(tmp_path / "perf.qtrace"), _own_names_only(name))
    if name in CUT_SHORT:
        expected, actual = _up_to_the_cut(expected, actual)
    assert expected["0"]
    assert differences(expected, actual) == []


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_has_the_same_verdict_as_with_the_ptrace_engine(script: Path, tmp_path: Path) -> None:
    """Verdict, certainty, pattern, and the kinds of wait along the chain."""
    found = []
    for engine in ("ptrace", "perf"):
        recording = tmp_path / f"{engine}.qtrace"
        status = recorded_by(engine, [str(script)], recording, "--hang-after", "1", "--timeout", "40").status
        answer: Mapping[str, Any] = json.loads(qtrace("explain", "--json", str(recording)).stdout)
        chain = [(link["kind"], link["role"], link["syscall"]["name"]) for link in answer["chain"]]
        found.append((status, answer["verdict"], answer["certainty"], answer["pattern"], answer["cycle"], chain))
    assert found[0] == found[1]


FULL = """
import os, sys
first, second = os.pipe()
print("ready", flush=True)
sys.stdin.readline()
for number in range(60_000):
    os.write(second, b"x")
    os.read(first, 1)
print("done", flush=True)
sys.stdin.readline()
"""


def test_what_did_not_fit_into_the_rings_is_counted_and_said(tmp_path: Path) -> None:
    """While the tracer does not come to read its small rings: losses are in the file and on stderr."""
    recording = tmp_path / "small.qtrace"
    words = ["record", "-f", "-o", str(recording), "--perf-buffer", "12K", "-c", FULL]
    pipes: dict[str, object] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with running(command("perf", *words), **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGSTOP)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        os.kill(process.pid, signal.SIGCONT)
        _, said = process.communicate("end\n", timeout=60)
    assert process.returncode == 0, said
    with TraceReader(recording) as reader:
        losses = [row for row in reader.rows("losses") if row[4] == "the ring buffer was full"]
        calls = reader.calls()
    missing = sum(row[2] for row in losses)
    assert missing > 200_000
    assert f"{missing:,} entries and exits of calls were lost" in said
    names = Counter(NAMES[int(number)].name for number in calls["nr"])
    assert names["write"] + names["read"] + missing // 2 >= 120_000


WAITS = """
import os, select, sys, threading, time
first, second = os.pipe()
watch = select.poll()
watch.register(first, select.POLLIN)
threading.Thread(target=time.sleep, args=(12.5,), daemon=True).start()
threading.Thread(target=watch.poll, args=(30_000,), daemon=True).start()
print("ready", flush=True)
os.read(first, 1)
"""


def test_calls_in_progress_are_in_the_file_with_what_they_point_to(tmp_path: Path) -> None:
    """While the program waits: the poll's descriptor, the length of the sleep, and the read, all unfinished."""
    recording = tmp_path / "waits.qtrace"
    words = ["record", "-q", "-o", str(recording), "--hang-after", "60", "-c", WAITS]
    with running(command("perf", *words), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: {"read", "poll", "clock_nanosleep"} <= _pending(recording).keys(), what="three calls")
        wait_until(
            lambda: all(_pending(recording)[name][1] is not None for name in ("poll", "clock_nanosleep")), what="heads"
        )
        found = _pending(recording)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not in_session(process.pid), what="the end of the program")
    assert found["clock_nanosleep"][1] > 12_500_000_000, "time.sleep asks for a moment of the clock"
    assert found["poll"][1] & 0xFFFFFFFF == found["read"][0], "the poll watches the pipe that is read"


def _pending(recording: Path) -> dict[str, tuple[int, Any]]:
    """Calls in progress of a recording that is being written: first argument and head, by name."""
    with TraceReader(recording) as reader:
        calls = reader.calls()
    waiting = calls[(calls["flags"] & int(CallFlag.UNFINISHED)) != 0]
    return {
        NAMES[int(call["nr"])].name: (
            int(call["a0"]),
            int(call["head"]) if int(call["flags"]) & int(CallFlag.HAS_HEAD) else None,
        )
        for call in waiting
    }


def test_the_engine_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    """Without the filter every call would stop: said in one sentence, and nothing is left behind."""
    outcome = recorded_by("perf", ["true"], tmp_path / "a.qtrace", "--no-seccomp")
    assert outcome.status == 2
    assert "perf engine cannot be used" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_auto_is_perf_where_it_is_permitted_and_says_so(tmp_path: Path) -> None:
    """One line tells which engine it is; without the filter it is the other one, with the reason."""
    for number, (options, engine, said) in enumerate([
        ([], "perf", "qtrace: engine perf"),
        (["--no-seccomp"], "ptrace", "qtrace: engine ptrace (not perf: every call has to stop)"),
    ]):  # fmt: skip
        recording = tmp_path / f"{number}.qtrace"
        words = ["record", "-o", str(recording), "--engine", "auto", *options, "true"]
        with running(command("perf", *words), stderr=subprocess.PIPE) as process:
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert errors.splitlines()[0] == said
        with TraceReader(recording) as reader:
            assert reader.meta["engine"] == engine


_ASIDE = """
import os
from qtrace.capture.machine import architecture
from qtrace.capture.perf_engine import open_rings

rings = open_rings(os.getpid(), architecture(), None)
rings.close_aside()
entries = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
links = [os.readlink(entry) for entry in entries if os.path.lexists(entry)]
print([link for link in links if "perf_event" in link])
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("no child")
"""


def test_rings_are_closed_aside_and_nothing_is_left(tmp_path: Path) -> None:
    """No descriptor here, no child, and nobody who keeps the streams of this process open."""
    words = [sys.executable, "-c", _ASIDE]
    with running([*(prefix() or ()), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        # Ends when nobody has the streams any more: also not who closes the rings.
        out, complaint = process.communicate(timeout=30)
        assert (out.splitlines(), complaint) == (["[]", "no child"], "")
        assert in_session(process.pid) == []
