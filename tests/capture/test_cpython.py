"""CPython's own tests of processes, signals and threads end under `record` as they do without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import in_session, running
from tests.support.pythons import found_pythons

RESULTS = Path(__file__).resolve().parent / "programs" / "cpython_results.py"
SLOW = bool(os.environ.get("QTRACE_SLOW"))
MODULES = ("test.test_subprocess", "test.test_signal", "test.test_threading")
_POSIX = "test.test_subprocess.POSIXProcessTestCase."
_PROCESS = "test.test_subprocess.ProcessTestCase."
SELECTED = {
    "test.test_subprocess": (
        *(_POSIX + name for name in (
            "test_send_signal", "test_kill", "test_terminate", "test_send_signal_dead", "test_preexec",
            "test_preexec_exception", "test_restore_signals", "test_start_new_session", "test_run_abort",
            "test_close_fds", "test_pass_fds", "test_remapping_std_fds", "test_zombie_fast_process_del",
            "test_stopped", "test_communicate_BrokenPipeError_stdin_close", "test_CalledProcessError_str_signal",
            "test_exception_bad_executable", "test_shell_sequence", "test_vfork_used_when_expected",
        )),
        *(_PROCESS + name for name in (
            "test_communicate", "test_communicate_timeout", "test_communicate_epipe", "test_wait_timeout",
            "test_communicate_pipe_buf", "test_double_close_on_error", "test_failed_child_execute_fd_leak",
        )),
    ),
    "test.test_signal": (
        "test.test_signal.PosixTests", "test.test_signal.WakeupSignalTests", "test.test_signal.WakeupSocketSignalTests",
        "test.test_signal.SiginterruptTest.test_without_siginterrupt", "test.test_signal.PendingSignalsTests",
        "test.test_signal.StressTest.test_stress_modifying_handlers", "test.test_signal.RaiseSignalTest",
        "test.test_signal.PidfdSignalTest",
    ),
    "test.test_threading": (
        "test.test_threading.ThreadJoinOnShutdown", "test.test_threading.InterruptMainTests",
        "test.test_threading.ThreadTests.test_main_thread_after_fork", "test.test_threading.AtexitTests",
        "test.test_threading.ThreadTests.test_is_alive_after_fork", "test.test_threading.MiscTestCase",
        "test.test_threading.ThreadTests.test_limbo_cleanup", "test.test_threading.ThreadingExceptionTests",
    ),
}  # fmt: skip
"""What a run without QTRACE_SLOW takes: about ten seconds' worth, of every kind."""
MOST_SECONDS = 900 if SLOW else 120


@cache
def _interpreter() -> Path | None:
    # The tests' own interpreter first, as CPython installed it: an environment's path confuses some tests.
    for python in (Path(os.path.realpath(sys.executable)), *found_pythons().values()):
        has_tests = "import test.test_subprocess, test.test_signal, test.test_threading"
        if subprocess.run([str(python), "-c", has_tests], capture_output=True, cwd="/").returncode == 0:
            return python
    return None


def _known(python: Path, names: tuple[str, ...]) -> list[str]:
    """Return the names that this version of CPython has."""
    script = (
        "import sys, unittest\n"
        "for name in sys.argv[1:]:\n"
        "    found = list(unittest.defaultTestLoader.loadTestsFromName(name))\n"
        "    if not any('_FailedTest' in type(test).__name__ for test in found): print(name)"
    )
    answer = subprocess.run([str(python), "-c", script, *names], capture_output=True, text=True, cwd="/")
    return answer.stdout.split()


def _outcomes(before: list[str], python: Path, folder: Path, names: list[str]) -> dict[str, str]:
    target = folder / "outcomes.json"
    target.unlink(missing_ok=True)
    with running([*before, str(python), str(RESULTS), str(target), *names], cwd=folder) as process:
        process.wait(MOST_SECONDS)
        # Some of these tests leave a sleeping process; a tracer waits for its end.
        assert not before or in_session(process.pid) == []
    outcomes: dict[str, str] = json.loads(target.read_text())
    return outcomes


@pytest.mark.parametrize("module", MODULES)
def test_cpythons_own_tests_end_as_without_a_tracer(module: str, tmp_path: Path) -> None:
    """The same tests pass, fail and are skipped; one that differs gets a second chance, in both ways."""
    python = _interpreter()
    if python is None:
        pytest.skip("no CPython here has its own tests (the package `test`)")
    names = [module] if SLOW else _known(python, SELECTED[module])
    record = [sys.executable, "-m", "qtrace", "record", "-q", "-f", "-o", str(tmp_path / "run.qtrace")]
    record += ["--on-hang", "wait", "--"]
    bare = _outcomes([], python, tmp_path, names)
    traced = _outcomes(record, python, tmp_path, names)
    assert bare.keys() == traced.keys()
    assert sum(word == "ok" for word in bare.values()) > 5
    different = [name for name in bare if bare[name] != traced[name]]
    if different:
        # Some of these tests measure time, and fail now and then on a machine with other work.
        bare = _outcomes([], python, tmp_path, different)
        traced = _outcomes(record, python, tmp_path, different)
    assert {name: traced[name] for name in different} == {name: bare[name] for name in different}
