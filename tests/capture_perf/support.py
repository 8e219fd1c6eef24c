"""Record by the perf engine, or by the other one to compare."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.engines import command
from tests.support.processes import Outcome, running


def recorded_by(engine: str, argv: Sequence[str], recording: Path, *options: str) -> Outcome:
    """Record a program with an engine, to its end."""
    words = ["record", "-q", "-f", "-o", str(recording), *options, "--", *argv]
    pipes: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running(command(engine, *words), **pipes) as process:
        stdout, stderr = process.communicate(timeout=240)
    return Outcome(process.returncode, stdout, stderr, ())
