"""Ctrl-C, signals to qtrace and --timeout: the program is ended, and what held at that moment is kept."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from qtrace import pipeline
from qtrace.capture.watch import _GRACE_NS
from qtrace.errors import UsageError
from qtrace.tracefile.reader import TraceReader
from tests.support.processes import in_session, running, wait_until

PROGRAMS = Path(__file__).resolve().parent / "programs"
PYTHON = os.path.realpath(sys.executable)
ENDED_BY_QTRACE = 124


def words(recording: Path, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """Return the command line that records one of the programs beside this file."""
    script, *rest = arguments
    command = [sys.executable, "-m", "qtrace", "record", "-o", str(recording), "--python", PYTHON, *options]
    return [*command, str(PROGRAMS / script), *rest]


def end_of(recording: Path) -> tuple[str, dict[str, object]]:
    """Return why a recording ended, and the verdict of `qtrace explain --json` on it."""
    with TraceReader(recording) as reader:
        reason = reader.meta["end_reason"]
        assert reader.meta["complete"] == "1"
        assert [row for row in reader.rows("snapshots") if row[1] == reason], "the moment has not been kept"
    command = [sys.executable, "-m", "qtrace", "explain", "--json", str(recording)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return reason, json.loads(answer.stdout)


def _ready(folder: Path) -> bool:
    return (folder / "ready").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_qtrace_ends_the_program_and_keeps_the_moment(number: signal.Signals, tmp_path: Path) -> None:
    """A plain kill of qtrace alone: the program gets the same signal, and dies of it."""
    recording = tmp_path / "run.qtrace"
    with running(words(recording, "waits_for_ever.py", str(tmp_path)), stderr=subprocess.PIPE) as process:
        wait_until(lambda: _ready(tmp_path), what="the program's start")
        process.send_signal(number)
        process.communicate(timeout=30)
        assert process.returncode == -number
        assert in_session(process.pid) == []
    reason, verdict = end_of(recording)
    assert reason == "interrupt"
    assert verdict["verdict"] == "external"
    assert verdict["chain"], "the wait of that moment is in the verdict"


def test_a_program_that_ignores_the_signal_is_killed_after_a_while(tmp_path: Path) -> None:
    """SIGTERM to qtrace, a program that ignores it: SIGKILL follows, and nobody is left."""
    recording = tmp_path / "run.qtrace"
    with running(words(recording, "waits_for_ever.py", str(tmp_path), "stubborn")) as process:
        wait_until(lambda: _ready(tmp_path), what="the program's start")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL
        assert in_session(process.pid) == []
    assert end_of(recording)[0] == "interrupt"


def _is_being_ended(recording: Path) -> bool:
    with TraceReader(recording) as reader:
        return reader.meta.get("end_reason") == "interrupt"


def test_a_second_interrupt_kills_at_once(tmp_path: Path) -> None:
    """Who asks twice means it: the stubborn program does not get its time."""
    recording = tmp_path / "run.qtrace"
    with running(words(recording, "waits_for_ever.py", str(tmp_path), "stubborn")) as process:
        wait_until(lambda: _ready(tmp_path), what="the program's start")
        process.send_signal(signal.SIGINT)
        wait_until(lambda: _is_being_ended(recording), what="the first one's answer")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL
    assert end_of(recording)[0] == "interrupt"
    with TraceReader(recording) as reader:
        times = {row[3]: row[0] for row in reader.rows("lifecycle") if row[3] in ("end-begins", "exit")}
    assert times["exit"] - times["end-begins"] < _GRACE_NS, "it was killed when its time was over"


def test_timeout_ends_the_program_with_status_124(tmp_path: Path) -> None:
    """--timeout: the verdict of that moment, exit status 124, and a word about it."""
    recording = tmp_path / "run.qtrace"
    argv = words(recording, "waits_for_ever.py", str(tmp_path), options=("--timeout", "0.7"))
    with running(argv, stderr=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=30)
        assert process.returncode == ENDED_BY_QTRACE
        assert in_session(process.pid) == []
    assert "time limit" in said
    reason, verdict = end_of(recording)
    assert (reason, verdict["verdict"]) == ("timeout", "external")


def test_a_program_that_ends_in_time_is_not_touched(tmp_path: Path) -> None:
    """A limit that is not reached changes nothing."""
    recording = tmp_path / "run.qtrace"
    with running(words(recording, "queue_of_two.py", options=("--timeout", "60")), stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=60)
    assert (output, process.returncode) == ("34900 0\n", 0)
    with TraceReader(recording) as reader:
        assert reader.meta["end_reason"] == "exit"


@contextmanager
def on_a_terminal(argv: list[str]) -> Iterator[tuple[int, int]]:
    """Run a command as the foreground job of a terminal of its own; give the process and the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(argv[0], argv)
    try:
        yield pid, terminal
    finally:
        for member in in_session(pid):
            os.kill(member, signal.SIGKILL)
        os.close(terminal)


def _ended(pid: int, terminal: int) -> tuple[int, str]:
    """Return the exit status of a terminal's job, and what it printed."""
    text = b""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            text += os.read(terminal, 4096)
        except OSError:  # EIO: the last process has closed the terminal
            break
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), text.decode()


def test_control_c_on_a_terminal_reaches_the_program_as_always(tmp_path: Path) -> None:
    """The whole foreground group gets SIGINT; the program handles it in its own way, once."""
    recording = tmp_path / "run.qtrace"
    with on_a_terminal(words(recording, "waits_for_ever.py", str(tmp_path), "polite")) as (pid, terminal):
        wait_until(lambda: _ready(tmp_path), what="the program's start")
        os.write(terminal, b"\x03")
        status, text = _ended(pid, terminal)
        assert in_session(pid) == []
    assert text.count("interrupted in order") == 1
    assert status == 5
    reason, verdict = end_of(recording)
    assert reason == "interrupt"
    assert verdict["verdict"] == "external"


def test_control_c_ends_a_program_as_a_shell_would_see_it(tmp_path: Path) -> None:
    """A program that does not handle SIGINT dies of it, and so does qtrace."""
    recording = tmp_path / "run.qtrace"
    with on_a_terminal(words(recording, "waits_for_ever.py", str(tmp_path))) as (pid, terminal):
        wait_until(lambda: _ready(tmp_path), what="the program's start")
        os.write(terminal, b"\x03")
        status, text = _ended(pid, terminal)
    assert status == -signal.SIGINT
    assert "KeyboardInterrupt" in text
    assert end_of(recording)[0] == "interrupt"


def test_control_c_on_a_terminal_of_the_programs_own_is_its_affair(tmp_path: Path) -> None:
    """A program that runs another on a terminal of its own, and types Ctrl-C there: qtrace is not asked."""
    recording = tmp_path / "run.qtrace"
    with running(words(recording, "own_terminal.py"), stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == (f"ended by {signal.SIGINT.value}\n", 0)
    with TraceReader(recording) as reader:
        assert reader.meta["end_reason"] == "exit"


def test_a_caller_with_children_of_its_own_gets_its_answer(tmp_path: Path) -> None:
    """record() of the Python API ends with the program while another child of the caller lives."""
    with running(["sleep", "60"]) as other:
        pipeline.record(["true"], tmp_path / "a.qtrace")
        attached = pipeline.record(other.pid, tmp_path / "b.qtrace", duration_s=0.3)
        assert attached.ended_because == "detach"
        assert other.poll() is None
    for name in "ab":
        with TraceReader(tmp_path / f"{name}.qtrace") as reader:
            assert reader.meta["complete"] == "1"


def test_another_thread_is_told_that_it_cannot_record(tmp_path: Path) -> None:
    """Signals reach the main thread alone: a clear refusal, and nothing begun."""
    with ThreadPoolExecutor(1) as elsewhere, pytest.raises(UsageError, match="main thread"):
        elsewhere.submit(pipeline.record, ["true"], tmp_path / "a.qtrace").result()
    assert not any(tmp_path.iterdir())
