"""Processes killed at random moments: the robust queue goes on, the standard one does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.queue.kill_rounds import STALLED
from tests.support.processes import running

ROOT = Path(__file__).resolve().parents[2]
KILLS = 200


def run_kills(kind: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Return the exit status and the books of a run on one kind of queue."""
    command = [sys.executable, "-m", "tests.queue.kill_rounds", kind, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT}
    with running(command, **pipes) as process:
        output, errors = process.communicate(timeout=240)
    assert output, errors
    return process.returncode, json.loads(output)


@pytest.mark.timeout(300)
def test_a_robust_queue_survives_200_kills(capsys: pytest.CaptureFixture[str]) -> None:
    """No hang, nothing twice, nothing out of order, no item of a living producer lost.

    But for the one item that a killed consumer had in its hands: it was got, by a process
    that told nobody. Both figures of loss are printed.
    """
    status, books = run_kills("robust", "--kills", str(KILLS))
    with capsys.disabled():
        print(
            f"\n{books['kills']} kills ({books['killed_producers']} producers, {books['killed_consumers']} consumers): "
            f"{books['got']} items got, {books['lost_said']} lost by the queue's own count "
            f"({books['torn']} torn), {books['missing_of_living']} in the hands of killed consumers "
            f"(seed {books['seed']})"
        )
    assert status == 0, books
    assert books["kills"] == KILLS
    assert books["killed_producers"] > 0
    assert books["killed_consumers"] > 0
    assert books["put_by_living"] > 0
    assert books["twice"] == 0, books
    assert books["out_of_order"] == 0, books
    assert books["missing_unexplained"] == 0, books


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["standard", "default"])
def test_the_standard_queue_hangs_under_the_same_kills(kind: str) -> None:
    """So the test above can fail; and the default mode has the standard one's behaviour."""
    status, books = run_kills(kind, "--kills", str(KILLS), "--stall", "5")
    assert books["stalled"], books
    assert status == STALLED
