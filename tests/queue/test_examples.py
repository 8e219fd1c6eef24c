"""The article's programs on our queue do what their headers say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.queue.support import blocked_in
from tests.support.processes import running, stat_fields, tree, wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
READ, WRITE, POLL, FUTEX, WAIT4 = 0, 1, 7, 202, 61


def run(name: str, *arguments: str) -> str:
    """Return what an example prints; it must come to its end."""
    done = subprocess.run([sys.executable, EXAMPLES / name, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Program:
    """A process by its pid, as `blocked_in` wants it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid


@pytest.mark.parametrize(("arguments", "feeder"), [((), WRITE), (("robust",), POLL)])
def test_join_before_get_hangs_on_our_queue_too(arguments: tuple[str, ...], feeder: int) -> None:
    """main in wait4, the child's main in a futex, its feeder in write (robust: in poll)."""
    with running([sys.executable, str(EXAMPLES / "own_queue_join_before_get.py"), *arguments]) as process:
        wait_until(lambda: len(tree(process.pid)) == 2, what="the child")
        child = tree(process.pid)[1]
        wait_until(lambda: blocked_in(Program(child), feeder), what="the feeder's wait")
        wait_until(lambda: blocked_in(Program(child), FUTEX), what="the join of the feeder")
        wait_until(lambda: blocked_in(Program(process.pid), WAIT4), what="the join of the child")
        assert process.poll() is None


def test_join_before_get_finishes_with_a_message_that_fits() -> None:
    """65,000 bytes fit into the pipe."""
    assert run("own_queue_join_before_get.py", "65000") == "65000\n"


def test_a_torn_message_hangs_the_default_queue() -> None:
    """main waits in read for bytes that nobody will send."""
    with running([sys.executable, str(EXAMPLES / "own_queue_cancel_join_thread.py")]) as process:
        wait_until(lambda: len(tree(process.pid)) == 2, what="the child")
        wait_until(lambda: len(tree(process.pid)) == 1, what="the child's end")
        wait_until(lambda: blocked_in(Program(process.pid), READ), what="the read")
        assert stat_fields(process.pid) is not None
        assert process.poll() is None


def test_a_torn_message_is_an_error_on_the_robust_queue() -> None:
    """And the next message arrives."""
    lines = run("own_queue_cancel_join_thread.py", "robust").splitlines()
    assert lines[0] == "after join, queue size 1"
    assert lines[1].startswith("TruncatedMessage: message cut short: process ")
    assert lines[2:] == ["then the next one", "exit"]
