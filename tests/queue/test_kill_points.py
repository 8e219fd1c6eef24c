"""A process killed at an instruction of its work with a robust queue: at each of many, one after the other.

Each scenario is a case of `kill_points`: a sample here, every instruction with QTRACE_KILL_STRIDE=1
(`make queue-kills`).
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.queue.kill_points import SCENARIOS, run_once, sweep
from tests.queue.test_install import PYTHONS, ROOT, VERSIONS

STRIDE = int(os.environ.get("QTRACE_KILL_STRIDE", "53"))
FAR = 10_000_000


@pytest.mark.timeout(240 if STRIDE > 10 else 3600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_whoever_is_killed_stops_nobody_and_takes_nothing_of_the_living(name: str) -> None:
    """No hang, nothing twice or out of order, all slots back, and what is lost is said."""
    whole = run_once(SCENARIOS[name], FAR)
    assert (whole.killed, whole.lost, whole.torn) == (False, 0, 0)
    result = sweep(name, STRIDE)
    assert result.failures == []
    # The sweep covered the whole of the work.
    assert result.kills >= 0.7 * whole.instructions / STRIDE


@pytest.mark.timeout(240)
@pytest.mark.parametrize("version", VERSIONS)
def test_so_it_is_on_every_python(version: str) -> None:
    """A few instructions on each: the books are the same, the interpreters' steps are not."""
    command = [PYTHONS[version], "-W", "ignore", "-m", "tests.queue.kill_points", "--stride", "307"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200)
    sweeps = [json.loads(line) for line in run.stdout.splitlines()]
    assert [each["scenario"] for each in sweeps] == list(SCENARIOS), run.stderr
    assert [each["failures"] for each in sweeps] == [[]] * len(SCENARIOS)
    assert sum(each["kills"] for each in sweeps) > len(SCENARIOS)
