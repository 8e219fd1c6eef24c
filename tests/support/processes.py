"""Start, watch and end programs under test: by pid, and only those that the test started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.engines import DEFAULT, command


def stat_fields(pid: int) -> list[str] | None:
    """Return /proc/PID/stat from the state on (field 3), or None if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def tree(pid: int) -> list[int]:
    """Return pid and its living descendants, parents first."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        fields = stat_fields(int(entry)) if entry.isdigit() else None
        if fields is not None:
            parents[int(entry)] = int(fields[1])
    found = [pid]
    for known in found:
        found.extend(child for child, parent in parents.items() if parent == known and child not in found)
    return found


def end_tree(pid: int) -> None:
    """Kill pid and its descendants, the youngest first."""
    for member in reversed(tree(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def in_session(sid: int) -> list[int]:
    """Return the living processes of a session, zombies left out."""
    members = []
    for entry in os.listdir("/proc"):
        fields = stat_fields(int(entry)) if entry.isdigit() else None
        if fields is not None and int(fields[3]) == sid and fields[0] not in "ZX":
            members.append(int(entry))
    return members


def wait_until(condition: object, timeout_s: float = 20.0, what: str = "the condition") -> None:
    """Wait until a callable gives a true value.

    Raises:
        AssertionError: It did not within the time.
    """
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true within {timeout_s} s"
        time.sleep(0.02)


@contextlib.contextmanager
def running(argv: Sequence[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a session of its own, and end the session's processes afterwards."""
    settings: dict[str, object] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "text": True,
        "start_new_session": True,
    }
    process = subprocess.Popen(list(argv), **(settings | options))  # type: ignore[call-overload]
    try:
        yield process
    finally:
        end_tree(process.pid)
        process.wait()
        # A pool makes a new worker for one that was killed, until its own end: look until nobody is left.
        while members := in_session(process.pid):
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            time.sleep(0.01)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@dataclass(frozen=True)
class Outcome:
    """What a finished command said and how it ended."""

    status: int
    stdout: str
    stderr: str
    leftovers: tuple[int, ...]
    """Living processes of its session after it ended; the helper has ended them."""


def qtrace(
    *arguments: str, cwd: Path | None = None, timeout_s: float = 60.0, engine: str = DEFAULT, **options: object
) -> Outcome:
    """Run the qtrace command to its end, by an engine where it records.

    Raises:
        subprocess.TimeoutExpired: It did not end in time; its tree has been killed.
    """
    pipes: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": cwd}
    with running(command(engine, *arguments), **(pipes | options)) as process:
        stdout, stderr = process.communicate(timeout=timeout_s)
        leftovers = tuple(in_session(process.pid))
    return Outcome(process.returncode, stdout, stderr, leftovers)
