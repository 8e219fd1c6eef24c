"""Standard streams are the program's own: closed, full or broken, they are what they are without a tracer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qtrace.tracefile.reader import TraceReader
from tests.support.processes import Outcome, qtrace

SHELL = ["sh", "-c"]
OPEN_STREAMS = 'for n in 0 1 2; do test -e /proc/$$/fd/$n && printf "$n " >> "$0"; done; exit 3'


def _record(output: Path, redirection: str, *program: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """Record a program with its streams redirected by a shell, or run it bare if there is no recording."""
    words = [sys.executable, "-m", "qtrace", "record", *(["-q"] if quiet else []), "-f", "-o", str(output), "--"]
    return _redirected(redirection, *words, *program)


def _redirected(redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *words], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_closed_for_the_program(redirection: str, tmp_path: Path) -> None:
    """No file of the tracer, nor of a library of its own, stands in its place."""
    bare, traced = tmp_path / "bare", tmp_path / "traced"
    assert _redirected(redirection, *SHELL, OPEN_STREAMS, str(bare)).returncode == 3
    assert _record(tmp_path / "run.qtrace", redirection, *SHELL, OPEN_STREAMS, str(traced)).returncode == 3
    seen = [path.read_text() if path.exists() else "" for path in (bare, traced)]
    assert seen[0] == seen[1]
    with TraceReader(tmp_path / "run.qtrace") as reader:
        assert reader.gaps() == []


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&1 >/dev/null 2>/dev/full"])
def test_words_that_cannot_be_said_change_nothing(redirection: str, tmp_path: Path) -> None:
    """The exit status is the program's; standard output stays the program's alone."""
    done = _record(tmp_path / "run.qtrace", redirection, *SHELL, "echo out; exit 5")
    assert done.returncode == 5
    assert done.stdout in ("out\n", "")
    assert done.stderr == ""


def test_a_full_device_is_the_programs_affair(tmp_path: Path) -> None:
    """The program sees ENOSPC, and qtrace ends as it does."""
    program = ["sh", "-c", "echo out; exit $((40 + $?))"]
    bare = _redirected(">/dev/full", *program)
    done = _record(tmp_path / "run.qtrace", ">/dev/full", *program, quiet=True)
    assert (done.returncode, done.stderr) == (bare.returncode, bare.stderr)


def test_a_broken_pipe_is_the_programs_affair(tmp_path: Path) -> None:
    """In a pipeline whose reader leaves: SIGPIPE ends the writer, and qtrace by the same signal."""
    words = [sys.executable, "-m", "qtrace", "record", "-q", "-o", str(tmp_path / "run.qtrace"), "--", "seq", "1000000"]
    line = f"set -o pipefail; {' '.join(words)} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n141\n"


LIMITS: list[tuple[list[str], list[str]]] = [
    (["--max-events", "50", "--last", "60", "--max-size", "10M", "--duration", "60"], ["--max-events of 50"]),
    (["--max-size", "1K", "--max-events", "100000"], ["--max-size of 1,024"]),
    (["--last", "0.1"], ["(--last)"]),
    (["--last", "0.1", "--max-events", "60"], ["--max-events of 60", "(--last)"]),
    (["--duration", "0.2", "--last", "0.1"], ["--duration of 0.2 s", "(--last)"]),
    (["--no-follow", "--max-events", "50"], ["--max-events of 50"]),
    (["--redact", "--no-seccomp", "--max-events", "50", "--last", "60"], ["--max-events of 50"]),
]
TALKS = (
    "import os, sys, time; a, b = os.pipe()\n"
    "for turn in range(4):\n"
    "    for n in range(100): os.write(b, b'x' * 8); os.read(a, 8)\n"
    "    time.sleep(0.4)\n"
    "sys.exit(9)"
)


@pytest.mark.parametrize(("options", "reasons"), LIMITS)
def test_limits_go_together(options: list[str], reasons: list[str], tmp_path: Path) -> None:
    """What was left out is counted and said, by record, in the file and by explain; the program runs to its end."""
    path = tmp_path / "run.qtrace"
    recorded: Outcome = qtrace("record", "-o", str(path), *options, "-c", TALKS)
    assert recorded.status == 9, recorded.stderr
    with TraceReader(path) as reader:
        gaps = reader.gaps()
        kept = len(reader.calls())
        left_out = sum(row[2] for row in reader.rows("losses"))
    assert len(gaps) == len(reasons)
    assert kept + left_out >= 800
    said = qtrace("explain", str(path)).stderr
    for reason in reasons:
        assert any(reason in gap for gap in gaps)
        assert reason in recorded.stderr
        assert reason in said


def test_io_uring_is_said_not_to_be_seen(tmp_path: Path) -> None:
    """The calls that make and enter a ring are recorded; what goes through it is not, and that is said."""
    path = tmp_path / "run.qtrace"
    ring = (
        "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True)\n"
        "fd = libc.syscall(425, 8, ctypes.create_string_buffer(120))\n"
        "print(fd if fd < 0 else libc.syscall(426, fd, 0, 0, 0, None, 0))"
    )
    recorded = qtrace("record", "-o", str(path), "-c", ring)
    if recorded.stdout == "-1\n":
        pytest.skip("no io_uring here")
    assert recorded.stdout == "0\n"
    said = "what is read and written through io_uring is not seen"
    assert said in recorded.stderr
    with TraceReader(path) as reader:
        assert reader.gaps() == [said]
        assert {425, 426} <= set(reader.calls()["nr"].tolist())
