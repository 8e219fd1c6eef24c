"""A shell's job control on a real terminal: Ctrl-Z, fg, bg, Ctrl-C and Ctrl-\\ do what they do without a tracer."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import in_session, stat_fields, wait_until

EDITOR = Path(__file__).resolve().parent / "programs" / "editor.py"
CONTROL_C, CONTROL_D, CONTROL_Z, CONTROL_BACKSLASH = "\x03", "\x04", "\x1a", "\x1c"
LONGEST_SECONDS = 30

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


class Terminal:
    """An interactive bash on a terminal of its own: what is typed, and what comes back."""

    def __init__(self, fd: int, session: int) -> None:
        self._fd = fd
        self._session = session
        self._text = ""

    def type(self, text: str) -> None:
        """Type something, once nobody runs: whoever is on the terminal waits for it."""
        wait_until(lambda: not any(_runs(pid) for pid in in_session(self._session)), LONGEST_SECONDS, "quiet")
        os.write(self._fd, text.encode())

    def expect(self, words: str) -> None:
        """Read until the words have come; what stood before them is done with."""
        end = time.monotonic() + LONGEST_SECONDS
        while words not in self._text:
            ready, _, _ = select.select([self._fd], [], [], max(0, end - time.monotonic()))
            assert ready, f"{words!r} did not come, but {self._text!r}"
            self._text += os.read(self._fd, 4096).decode(errors="replace")
        self._text = self._text.partition(words)[2]


def _runs(pid: int) -> bool:
    fields = stat_fields(pid)
    return fields is not None and fields[0] == "R"


@contextmanager
def shell() -> Iterator[Terminal]:
    """Start the shell; end it with all that it has started."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], os.environ | {"PS1": "prompt> "})
    try:
        terminal = Terminal(fd, pid)
        terminal.expect("prompt> ")
        yield terminal
    finally:
        for member in in_session(pid):
            os.kill(member, signal.SIGKILL)
        os.close(fd)
        os.waitpid(pid, 0)


Step = tuple[str, str]
"""What is typed (nothing: it comes by itself), and what has to be seen."""
START: list[Step] = [("", "ready"), ("one\n", "got one")]
END: list[Step] = [("last\n", "got last"), (CONTROL_D, "done"), ("echo status $?\n", "status 7")]
STOP: list[Step] = [(CONTROL_Z, "Stopped"), ("jobs\n", "Stopped"), ("fg\n", "editor.py")]
TIDY_STOP: list[Step] = [(CONTROL_Z, "leaving"), ("", "Stopped"), ("fg\n", "back")]
SHELLS_STOP: list[Step] = [(CONTROL_Z, "leaving"), ("jobs\n", "Stopped"), ("fg\n", "back")]
READS_IN_BACKGROUND: list[Step] = [(CONTROL_Z, "Stopped"), ("bg\n", "&"), ("jobs\n", "Stopped"), ("fg\n", "editor.py")]
SCENES: dict[str, tuple[str, list[Step]]] = {
    "stopped twice": ("", [*START, *STOP, *STOP, *END]),
    "tidies up before it stops": ("handles", [*START, *TIDY_STOP, *TIDY_STOP, *END]),
    "does not stop at Ctrl-Z": ("ignores", [*START, (CONTROL_Z, "^Z"), *END]),
    "reads in the background": ("", [*START, *READS_IN_BACKGROUND, *END]),
    "inside a shell script": ("inside", [*START, *SHELLS_STOP, *END]),
    "interrupted": ("", [*START, (CONTROL_C, "KeyboardInterrupt"), ("echo status $?\n", "status 130")]),
    "interrupted after a stop": ("", [*START, *STOP, (CONTROL_C, "KeyboardInterrupt"), ("echo $?\n", "130")]),
    "asked to quit": ("", [*START, (CONTROL_BACKSLASH, "asked"), (CONTROL_BACKSLASH, "asked"), *END]),
    "quits": ("quits", [*START, (CONTROL_BACKSLASH, "Quit"), ("echo status $?\n", "status 131")]),
    "killed while stopped": ("", [*START, (CONTROL_Z, "Stopped"), ("kill -9 %1; fg\n", "illed"), ("echo x$?\n", "x")]),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("recorded", [False, True], ids=["bare", "recorded"])
def test_a_job_is_controlled_as_without_a_tracer(scene: str, recorded: bool, tmp_path: Path) -> None:
    """The same keys bring about the same words; the shell sees each stop and each end."""
    mode, steps = SCENES[scene]
    words = ["sh", "-c", f'"{sys.executable}" {EDITOR} handles; exit 7'] if mode == "inside" else []
    words = words or [sys.executable, str(EDITOR), *([mode] if mode else [])]
    if recorded:
        words = [sys.executable, "-m", "qtrace", "record", "-q", "-o", str(tmp_path / "run.qtrace"), "--", *words]
    _play(words, steps)


def _play(words: Sequence[str], steps: Sequence[Step]) -> None:
    with shell() as terminal:
        terminal.type(" ".join(f"'{word}'" for word in words) + "\n")
        for typed, seen in steps:
            if typed:
                terminal.type(typed)
            terminal.expect(seen)
