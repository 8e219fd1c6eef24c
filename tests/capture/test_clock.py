"""The wall clock is set while a program is recorded: times, limits and the end of a recording do not follow it."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qtrace.tracefile.reader import TraceReader
from tests.support.processes import qtrace, running, wait_until

DAY_SECONDS = 86_400
TALKS = """
import os, sys, time
source, target = os.pipe()
folder = sys.argv[1]
for turn in ("first", "second", "third"):
    for number in range(200):
        os.write(target, b"%8d" % number)
        os.read(source, 8)
    open(f"{folder}/{turn}", "w").close()
    while not os.path.exists(f"{folder}/after-{turn}"):
        time.sleep(0.01)
"""


def _library() -> str:
    """Return the library that fakes the wall clock of a program, by a file that can be rewritten while it runs."""
    return next(iter(glob.glob("/usr/lib/*/faketime/libfaketime*.so.1")), "")


pytestmark = pytest.mark.skipif(
    not _library() or shutil.which("faketime") is None, reason="no clock that can be set for a test (faketime)"
)


def _set(clock: Path, offset_seconds: int) -> None:
    fresh = clock.with_name("next")
    fresh.write_text(f"{offset_seconds:+d}\n")
    os.replace(fresh, clock)


def _seen(environment: dict[str, str]) -> tuple[float, float]:
    """Return the wall clock and the monotonic one as programs with this environment see them."""
    script = "import time; print(time.time(), time.monotonic())"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    wall, monotonic = done.stdout.split()
    return float(wall), float(monotonic)


@pytest.mark.parametrize("options", [(), ("--last", "60"), ("--duration", "60"), ("--no-seccomp",)])
def test_a_clock_step_changes_no_time_and_no_limit(options: tuple[str, ...], tmp_path: Path) -> None:
    """Ten days ahead at the start, a day back in the middle, a day forth at the end."""
    clock = tmp_path / "clock"
    _set(clock, 10 * DAY_SECONDS)
    environment = os.environ | {
        "LD_PRELOAD": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    recording = tmp_path / "run.qtrace"
    # The tracer's clock alone is set: the library breaks a program's own absolute sleeps.
    target = ["env", "-u", "LD_PRELOAD", sys.executable, "-c", TALKS, str(tmp_path)]
    command = [sys.executable, "-m", "qtrace", "record", "-q", "-o", str(recording), *options, "--", *target]
    began = time.monotonic()
    with running(command, env=environment, stderr=subprocess.PIPE) as process:
        for turn, days in (("first", 9), ("second", 11), ("third", 11)):
            wait_until((tmp_path / turn).exists, what=f"the {turn} turn")
            _set(clock, days * DAY_SECONDS)
            wall, monotonic = _seen(environment)
            assert abs(wall - time.time() - days * DAY_SECONDS) < DAY_SECONDS / 24, "the clock was not set"
            assert abs(monotonic - time.monotonic()) < DAY_SECONDS / 24, "the monotonic clock was set too"
            (tmp_path / f"after-{turn}").touch()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    most_ns = int((time.monotonic() - began) * 1e9)
    with TraceReader(recording) as reader:
        assert reader.gaps() == []
        start_wall = int(reader.meta["start_wall_ns"]) / 1e9
        assert abs(start_wall - time.time() - 10 * DAY_SECONDS) < DAY_SECONDS / 24, (
            "the tracer's clock was not this one"
        )
        calls = reader.calls()
        assert 0 < reader.end_ns - reader.start_ns <= most_ns
    assert int(calls["start_ns"].min()) >= reader.start_ns
    assert int((calls["start_ns"] + calls["dur_ns"]).max()) <= reader.end_ns
    assert int(calls["dur_ns"].min()) >= 0
    assert np.all(np.diff(calls["start_ns"]) >= 0)
    writes = calls[(calls["nr"] == 1) & (calls["ret"] == 8)]
    assert len(writes) == 600
    assert qtrace("explain", str(recording)).stdout.startswith("finished")
