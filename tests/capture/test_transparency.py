"""A program under the tracer prints, and ends, as it does without one, and leaves nobody behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.capture.behaviours import (
    every_behaviour,
    first_recording,
    needs_compiler,
    program,
    recorded,
    recorded_repeatedly,
    run,
)
from tests.support.engines import command

RACY = (
    "tree:clone-parent", "tree:double-fork", "execs:exec-by-thread", "execs:exec-by-thread-with-others",
    "execs:exec-with-threads", "tree:exit-group-by-thread", "execs:killed-in-exec", "signals:killed-while-stopped",
    "tree:main-thread-ends-first", "signals:sigtstp", "signals:stop-and-continue", "signals:stop-from-outside",
    "signals:threads-stop", "tree:vfork-exec", "signals:sleep-across-a-stop", "signals:signal-storm",
    "corners:vfork-exec-in-threads", "corners:exec-beside-futexes", "corners:exec-beside-ending-threads",
    "corners:pid-used-again", "corners:new-pid-namespace", "corners:parent-death-signal", "corners:stops-at-once",
)  # fmt: skip
"""Behaviours whose order of events is decided by timing: each is run in a loop."""
LOOP = 20

pytestmark = needs_compiler


@pytest.mark.parametrize(("family", "name"), every_behaviour())
def test_a_behaviour_is_the_same_under_record(family: str, name: str) -> None:
    """Output, exit status or signal, and the number of processes left are those of a bare run."""
    seen, _ = first_recording(family, name)
    bare = run([str(program(family)), name])
    if name in UNDER_A_FILTER:
        assert seen.output == UNDER_A_FILTER[name] != bare.output
    else:
        assert seen == bare


@pytest.mark.parametrize("racy", RACY)
def test_a_racy_behaviour_is_the_same_each_time(racy: str, tmp_path: Path) -> None:
    """Where timing decides the order of events, twenty recordings in a row change nothing."""
    family, _, name = racy.partition(":")
    argv = [str(program(family)), name]
    assert recorded_repeatedly(argv, LOOP, tmp_path) == [run(argv)] * LOOP


UNFILTERED = (
    "tree:fork", "tree:vfork-exec", "tree:thousand-threads", "tree:children-at-once", "tree:clone3",
    "tree:clone-parent", "tree:clone-files", "tree:clone-vm", "tree:clone-untraced", "tree:posix-spawn",
    "tree:double-fork", "tree:exit-group-by-thread", "tree:main-thread-ends-first", "signals:handler",
    "signals:sigqueue", "signals:dies-of-segv", "signals:fault-handled-once", "signals:read-eintr",
    "signals:read-restarted", "signals:nanosleep-eintr", "signals:own-sigtrap", "signals:breakpoint",
    "signals:stop-and-continue", "signals:sigtstp", "signals:sleep-across-a-stop", "signals:threads-stop",
    "signals:signal-storm", "execs:exec", "execs:exec-fails", "execs:exec-by-thread-with-others", "execs:exec-script",
    "execs:pipeline", "calls:full-pipe", "calls:scm-rights", "calls:own-filter", "calls:filter-traps",
    "calls:filter-kills", "calls:unknown-call", "corners:strict-filter", "corners:supervised", "corners:filtered-call",
    "corners:group-signals", "corners:waits-across-stops", "corners:pid-used-again", "corners:odd-names",
    "corners:profiled", "corners:exec-beside-ending-threads",
)  # fmt: skip
UNDER_A_FILTER = {"strict-filter": "child exited 3\n"}
"""What must differ under the tracer's filter: the kernel allows no strict mode beside a filter (seccomp(2), EINVAL)."""


@pytest.mark.parametrize("behaviour", UNFILTERED)
def test_a_behaviour_is_the_same_without_the_filter(behaviour: str, tmp_path: Path) -> None:
    """With --no-seccomp every call stops; the program does not notice that either."""
    family, _, name = behaviour.partition(":")
    argv = [str(program(family)), name]
    assert recorded(argv, tmp_path / "unfiltered.qtrace", "--no-seccomp") == run(argv)


@pytest.mark.parametrize("engine", ["ptrace", "perf"])
def test_the_environment_is_the_users(engine: str, tmp_path: Path) -> None:
    """What the tracer sets for itself does not reach the program."""
    bare = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    words = command(engine, "record", "-q", "-o", str(tmp_path / "run.qtrace"), "--", "env", "-0")
    traced = subprocess.run(words, env=bare, capture_output=True, text=True, check=True).stdout
    seen = dict(line.split("=", 1) for line in traced.split("\0") if line)
    assert {name: value for name, value in seen.items() if name not in ("QTRACE_ENGINE", "_", "OLDPWD")} == {
        name: value for name, value in bare.items() if name not in ("QTRACE_ENGINE", "_", "OLDPWD")
    }


def test_numpy_starts_no_threads_in_the_tracer() -> None:
    """They would take CPU time from the program."""
    code = (
        "import os; from qtrace.model.blas import keep_to_one_thread; keep_to_one_thread(); import numpy; "
        "print(len(os.listdir('/proc/self/task')))"
    )
    bare = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    assert subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True).stdout == "1\n"
