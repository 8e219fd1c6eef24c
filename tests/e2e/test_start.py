"""What starting loads: a program that is over in a moment, and a look at one that hangs, wait for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.engines import needs_perf, prefix

HEAVY = {"typer", "rich", "pandas", "plotly", "pyarrow", "ptrace", "logging", "subprocess", "socket"}
"""Not needed at all."""
SLOW = {"dataclasses", "inspect", "ast", "typing", "pathlib", "urllib.parse", "shutil", "zipfile", "numpy"}
"""Of the standard library what takes 2 to 10 ms, and NumPy."""
OTHERS = {"qtrace.capture.snapshot", "qtrace.capture.attach", "qtrace.capture.doctor", "qtrace.analyse.explain"}
"""Ours that are for other purposes."""


def _loaded(*words: str, before: tuple[str, ...] = ()) -> set[str]:
    """Run an interpreter and return what it imports after its own start."""
    command = [*before, sys.executable, "-X", "importtime", *words]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.rpartition("|")[2].strip() for line in found.stderr.splitlines() if line.startswith("import time:")]
    return set(lines[lines.index("site") + 1 :])


def _recorded(engine: str, folder: Path) -> set[str]:
    words = ["record", "-q", "--engine", engine, "-o", str(folder / "a.qtrace"), "--", shutil.which("true") or ""]
    return _loaded("-m", "qtrace", *words, before=(prefix() or ()) if engine == "perf" else ())


def test_a_recording_loads_little(tmp_path: Path) -> None:
    """From the command line to the end of a short program."""
    loaded = _recorded("ptrace", tmp_path)
    assert "qtrace.capture.loop" in loaded
    assert loaded & (HEAVY | SLOW | OTHERS | {"qtrace.capture.perf_events"}) == set()


@needs_perf
def test_a_recording_by_perf_loads_little(tmp_path: Path) -> None:
    """NumPy decodes what comes out of the rings; but not of a program that is over in a moment."""
    loaded = _recorded("perf", tmp_path)
    assert "qtrace.capture.perf_collector" in loaded
    assert loaded & (HEAVY | SLOW | OTHERS) == set()


def test_what_is_to_be_done_at_the_end_is_done(tmp_path: Path) -> None:
    """The interpreter is not taken apart, but exit handlers run, what was printed is written, and the status tells."""
    words = ["record", "-f", "--engine", "ptrace", "-o", str(tmp_path / "a.qtrace"), "--", "sh", "-c", "exit 3"]
    code = "import atexit, sys\nfrom qtrace.cli.app import main\natexit.register(print, 'the end')\nprint('first')\n"
    code += f"sys.argv = ['qtrace', *{words!r}]\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("first\nthe end\n", 3)
    assert done.stderr.startswith("qtrace: recorded ")
    profiled = [sys.executable, "-m", "cProfile", "-m", "qtrace", *words]
    assert "function calls" in subprocess.run(profiled, capture_output=True, text=True).stdout


def test_the_first_look_at_a_program_waits_for_little() -> None:
    """What comes after it is loaded while the second one is waited for."""
    loaded = _loaded("-c", "import qtrace.cli.app, qtrace.cli.early, qtrace.capture.snapshot")
    assert "qtrace.capture.objects" in loaded
    assert loaded & (HEAVY | {"typing", "numpy", "shutil", "json", "sqlite3", "qtrace.analyse.explain"}) == set()
