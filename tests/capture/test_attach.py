"""Taking a running tree and letting it go: the program's result is right, and nobody is left stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture, number_of
from qtrace.tracefile.reader import TraceReader
from tests.capture.behaviours import needs_compiler
from tests.capture.loaded import LoadedQtrace
from tests.support.processes import qtrace, running, stat_fields, tree, wait_until

BUSY = """
import multiprocessing as mp, sys, time

def produce(queue, stop):
    sent = 0
    while not stop.is_set():
        for _ in range(50):
            queue.put(sent)
            sent += 1
    queue.put(("sum", sent * (sent - 1) // 2))

if __name__ == "__main__":
    queue, stop = mp.Queue(100), mp.Event()
    children = [mp.Process(target=produce, args=(queue, stop)) for _ in range(2)]
    for child in children:
        child.start()
    print("ready", flush=True)
    got, told, ended = 0, 0, 0
    import threading
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    while ended < 2:
        item = queue.get()
        if isinstance(item, tuple):
            told, ended = told + item[1], ended + 1
        else:
            got += item
    for child in children:
        child.join()
    print("right" if got == told else f"wrong: {got} {told}", flush=True)
"""
PROGRAMS = Path(__file__).resolve().parent / "programs"
ROUNDS = 100 if os.environ.get("QTRACE_SLOW") else 30


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program of three processes that passes numbers on until its input ends."""
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    with running([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def states(pid: int) -> list[str]:
    """Return the state of every thread of a tree."""
    found = []
    for member in tree(pid):
        for tid in os.listdir(f"/proc/{member}/task"):
            fields = stat_fields(int(tid))
            if fields is not None:
                found.append(fields[0])
    return found


def assert_untraced(pid: int) -> None:
    """No thread is stopped, and nobody traces it."""
    assert not set("Tt") & set(states(pid))
    for member in tree(pid):
        status = Path(f"/proc/{member}/status").read_text()
        assert "TracerPid:\t0\n" in status


def test_attached_and_let_go_many_times(busy: subprocess.Popen[str], tmp_path: Path) -> None:
    """At random moments, for random times: every number arrives, and every thread runs on."""
    chance = random.Random(7)
    calls = 0
    with LoadedQtrace() as qtrace_loaded:
        for number in range(ROUNDS):
            recording, said = tmp_path / f"{number}.qtrace", tmp_path / "said"
            duration = f"{chance.uniform(0.02, 0.2):.3f}"
            words = ["record", "-q", "-o", str(recording), "-p", str(busy.pid), "--duration", duration]
            qtrace_loaded.start(words, said)
            assert qtrace_loaded.wait() == 0, said.read_text()
            assert_untraced(busy.pid)
            with TraceReader(recording) as reader:
                calls += len(reader.calls())
                assert not reader.damage
    assert calls > 100 * ROUNDS
    out, _ = busy.communicate(input="", timeout=60)
    assert out == "right\n"


def test_a_call_in_progress_at_the_attach_is_recorded_as_such(tmp_path: Path) -> None:
    """A wait that had begun before is there, marked, and goes on afterwards."""
    with running([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        wait_until(lambda: (stat_fields(process.pid) or "R")[0] == "S", what="the sleep")
        time.sleep(0.2)
        recording = tmp_path / "a.qtrace"
        assert qtrace("record", "-q", "-o", str(recording), "-p", str(process.pid), "--duration", "0.5").status == 0
        assert_untraced(process.pid)
    with TraceReader(recording) as reader:
        sleeps = [call for call in reader.calls() if call["flags"] & CallFlag.AT_ATTACH]
    assert [int(call["nr"]) for call in sleeps] == [number_of("clock_nanosleep", Architecture.X86_64)]
    assert sleeps[0]["flags"] & CallFlag.UNFINISHED


def test_a_stopped_program_stays_stopped(tmp_path: Path) -> None:
    """Attach and let go leave a program in the state that it was in."""
    with running([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: (stat_fields(process.pid) or "R")[0] == "T", what="the stop")
        recording = tmp_path / "a.qtrace"
        words = ("record", "-q", "-o", str(recording), "-p", str(process.pid), "--duration", "0.3")
        assert qtrace(*words).status == 0
        assert states(process.pid) == ["T"]
        os.kill(process.pid, signal.SIGCONT)
        wait_until(lambda: states(process.pid) == ["S"], what="going on")


def test_an_interrupt_lets_go(tmp_path: Path) -> None:
    """Ctrl-C ends the recording, not the program."""
    recording = tmp_path / "a.qtrace"
    with running([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        command = [sys.executable, "-m", "qtrace", "record", "-q", "-o", str(recording), "-p", str(process.pid)]
        with running(command) as recorder:
            wait_until(lambda: "TracerPid:\t0\n" not in Path(f"/proc/{process.pid}/status").read_text(), what="attach")
            time.sleep(0.3)
            recorder.send_signal(signal.SIGINT)
            assert recorder.wait(30) == 0
        assert_untraced(process.pid)
        assert process.poll() is None


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled program of endless waits."""
    target = tmp_path_factory.mktemp("endless") / "endless"
    subprocess.run(["gcc", "-O1", "-o", target, PROGRAMS / "endless_waits.c"], check=True)
    return str(target)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "signalled", "said", "calls"),
    [
        ("epoll", False, "1 in order\n", 1),
        ("sigwaitinfo", True, "1 in order\n", 1),
        ("semop-and-handler", True, "-1 Interrupted system call\n", 0),
    ],
)
def test_a_wait_that_a_stop_would_end_goes_on(
    endless: str, name: str, signalled: bool, said: str, calls: int, tmp_path: Path
) -> None:
    """The kernel ends these with EINTR after any stop; where they have no limit they are made again, each time.

    A signal with a handler ends them as always. The recording has them as one call that has not returned.
    """
    with running([endless, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for number in range(5):
            wait_until(lambda: (stat_fields(process.pid) or "R")[0] == "S", what="the wait")
            recording = tmp_path / f"{number}.qtrace"
            words = ("record", "-q", "-o", str(recording), "-p", str(process.pid), "--duration", "0.05")
            assert qtrace(*words).status == 0
            assert_untraced(process.pid)
            with TraceReader(recording) as reader:
                flags = [int(call["flags"]) for call in reader.calls()]
            assert len(flags) == calls  # semop is not recorded
            assert all(flag & CallFlag.UNFINISHED and flag & CallFlag.AT_ATTACH for flag in flags)
        wait_until(lambda: (stat_fields(process.pid) or "R")[0] == "S", what="the wait")
        if signalled:
            process.send_signal(signal.SIGUSR1)
        out, _ = process.communicate(input="x", timeout=30)
    assert out == said


@needs_compiler
def test_a_wait_with_a_limit_ends_early_as_after_any_stop(endless: str, tmp_path: Path) -> None:
    """Made again it would last too long; so it returns EINTR, as signal(7) says of SIGSTOP and SIGCONT."""
    with running([endless, "epoll-with-limit"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        wait_until(lambda: (stat_fields(process.pid) or "R")[0] == "S", what="the wait")
        recording = tmp_path / "run.qtrace"
        words = ("record", "-q", "-o", str(recording), "-p", str(process.pid), "--duration", "0.05")
        assert qtrace(*words).status == 0
        out, _ = process.communicate(timeout=30)
    assert out == "-1 Interrupted system call\n"
