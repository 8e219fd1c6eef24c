"""CPython's own tests of queues, with ours installed, on every interpreter of this machine.

The tests run in the interpreter they belong to, as subprocesses of this one.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import running
from tests.support.pythons import found_pythons

RUNNER = Path(__file__).with_name("run_cpython_tests.py")
METHODS = ("fork", "spawn", "forkserver")
# Generous: one run takes 10 to 30 s by itself, mostly asleep.
TIMEOUT_S = 400
AT_ONCE = 4
# Every CPython from 3.8 on has more; fewer means that the runner lost track of their names.
LEAST_TESTS = 40


def minor(version: str) -> int:
    """Return 11 for "3.11"."""
    return int(version.partition(".")[2])


PYTHONS: dict[str, Path] = {version: python for version, python in found_pythons().items() if minor(version) >= 8}
CHOICES: list[str] = sorted(PYTHONS, key=minor)


def lacking(python: Path) -> str | None:
    """Return why the interpreter cannot run its own tests, or None if it can."""
    probe = subprocess.run([str(python), "-c", "import test._test_multiprocessing"], capture_output=True, text=True)
    if not probe.returncode:
        return None
    return f"{python} has no test._test_multiprocessing ({probe.stderr.strip().splitlines()[-1]})"


def run_tests(python: Path, method: str, folder: Path) -> tuple[int, str]:
    """Return the exit status and the report of one interpreter's tests under one start method.

    Args:
        folder: Where they run: they make files of fixed names, which two runs at once must not share.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": folder}
    with running([str(python), str(RUNNER), f"--method={method}"], **pipes) as process:
        try:
            report, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as late:
            output = late.output or b""
            return -1, f"not done within {TIMEOUT_S} s\n{output.decode(errors='replace')}"
    return process.returncode, report


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Future[tuple[int, str]]]]:
    """The runs of all chosen interpreters, some at a time: they sleep more than they work."""
    mine = (item for item in request.session.items if isinstance(item, pytest.Function) and item.path == Path(__file__))
    chosen = {item.callspec.params["version"] for item in mine}
    able = [version for version in PYTHONS if version in chosen and lacking(PYTHONS[version]) is None]
    executor = ThreadPoolExecutor(AT_ONCE)
    yield {
        (version, method): executor.submit(run_tests, PYTHONS[version], method, tmp_path_factory.mktemp(method))
        for version in able
        for method in METHODS
    }
    executor.shutdown(wait=True, cancel_futures=True)


@pytest.mark.timeout(4 * TIMEOUT_S)
@pytest.mark.parametrize("version", CHOICES)
def test_cpython_queue_tests_pass_with_ours_installed(
    version: str, runs: dict[tuple[str, str], Future[tuple[int, str]]]
) -> None:
    """CPython's tests of Queue, JoinableQueue, SimpleQueue and of what uses them pass under every start method."""
    reason = lacking(PYTHONS[version])
    if reason is not None:
        pytest.skip(reason)
    for method in METHODS:
        status, report = runs[version, method].result()
        assert f"{method}, qtrace.queue" in report
        assert status == 0, report[-6000:]
        ran = re.search(r"^Ran (\d+) tests", report, re.MULTILINE)
        assert ran is not None
        assert int(ran.group(1)) >= LEAST_TESTS
