"""Run commands where the perf engine can be used: tracefs is mounted for them alone, if it is not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import Outcome, running

_PRIVATELY = ["unshare", "-m", "sh", "-c", 'mount -t tracefs nodev /sys/kernel/tracing && exec "$@"', "sh"]
"""A mount namespace of its own: nothing changes for anybody else."""
_ASK = "from qtrace.capture.perf_events import why_not; print(why_not())"


@cache
def prefix() -> tuple[str, ...] | None:
    """Return what to put before a command; None if the perf engine cannot be used on this machine."""
    for words in ([], _PRIVATELY):
        try:
            asked = subprocess.run([*words, sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=60)
        except OSError:
            continue
        if asked.returncode == 0 and not asked.stdout.strip():
            return tuple(words)
    return None


def recorded_by(engine: str, argv: Sequence[str], recording: Path, *options: str) -> Outcome:
    """Record a program with an engine, to its end."""
    before = prefix()
    if before is None:
        pytest.skip("perf is not permitted here: it needs root or CAP_PERFMON, and tracefs")
    words = ["record", "-q", "-f", "-o", str(recording), "--engine", engine, *options, "--", *argv]
    pipes: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running([*before, sys.executable, "-m", "qtrace", *words], **pipes) as process:
        stdout, stderr = process.communicate(timeout=240)
    return Outcome(process.returncode, stdout, stderr, ())
