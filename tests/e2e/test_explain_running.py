"""`explain PID`: it changes nothing, it is quick, and a moving program is never called stuck."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qtrace import pipeline
from qtrace.capture import procfs
from qtrace.model.kinds import STUCK
from tests.support.processes import qtrace, running, tree, wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LOOKS = 1_000 if os.environ.get("QTRACE_SLOW") else 150
WITH_PYTHON_EVERY = 10

BUSY = """
import multiprocessing as mp, queue, random, threading, time

def work(numbers, sums, lock):
    while True:
        number = numbers.get()
        with lock:
            total = sum(range(number))
        sums.put(total)

if __name__ == "__main__":
    numbers, sums, lock = mp.Queue(8), mp.Queue(8), mp.Lock()
    for _ in range(3):
        mp.Process(target=work, args=(numbers, sums, lock), daemon=True).start()
    local = queue.Queue(2)
    def pump():
        while True:
            local.put(sums.get())
    threading.Thread(target=pump, daemon=True).start()
    pool = mp.Pool(2)
    print("ready", flush=True)
    while True:
        for _ in range(4):
            numbers.put(random.randrange(3000))
        for _ in range(4):
            local.get()
        pool.apply(abs, (-1,))
"""


def facts(pid: int) -> dict[int, tuple[str, str | None, tuple[int, int] | None]]:
    """Return state, call, CPU time and switches of every thread of a tree."""
    found = {}
    for member in tree(pid):
        for tid in procfs.thread_ids(member):
            stat = procfs.stat(member, tid)
            assert stat is not None
            found[tid] = stat.state, procfs.syscall_line(member, tid), procfs.cpu_and_switches(member, tid)
    return found


@pytest.fixture
def hung() -> object:
    """The first example, bare, where it stands."""
    with running([sys.executable, str(EXAMPLES / "join_before_get.py")]) as process:
        wait_until(lambda: len(tree(process.pid)) == 2 and len(facts(process.pid)) == 3, what="the three threads")
        wait_until(lambda: all(call != "running" for _, call, _ in facts(process.pid).values()), what="the hang")
        time.sleep(0.5)
        yield process


def test_explaining_leaves_no_trace(hung: subprocess.Popen[str]) -> None:
    """Calls, states, CPU time and switches of every thread are the same afterwards; so are descriptors."""
    before = facts(hung.pid), [procfs.descriptors(pid) for pid in tree(hung.pid)]
    for _ in range(3):
        assert qtrace("explain", str(hung.pid)).status == 1
    assert (facts(hung.pid), [procfs.descriptors(pid) for pid in tree(hung.pid)]) == before


def test_any_process_of_the_tree_will_do(hung: subprocess.Popen[str]) -> None:
    """From the child the same program is found; with --tree down only what is below."""
    child = tree(hung.pid)[1]
    for pid in (hung.pid, child):
        verdict = json.loads(qtrace("explain", "--json", str(pid)).stdout)
        assert (verdict["pattern"], len(verdict["chain"])) == ("join-before-drain", 3)
    below = json.loads(qtrace("explain", "--json", "--tree", "down", str(child)).stdout)
    assert {wait["pid"] for wait in below["waits"]} == {child}


def test_without_python_lines_the_circle_is_still_proven(hung: subprocess.Popen[str]) -> None:
    """The kernel's state is enough for the verdict; names and causes need frames."""
    verdict = json.loads(qtrace("explain", "--json", "--no-python", str(hung.pid)).stdout)
    assert (verdict["verdict"], verdict["certainty"]) == ("deadlock", "proven")
    assert [link["kind"] for link in verdict["chain"]][0::2] == ["child-exit", "pipe-full"]
    assert not any(link["python"] for link in verdict["chain"])


def test_waiting_for_a_hang_returns_when_it_is_there() -> None:
    """--wait comes back with the hang, or with the end, whichever is first."""
    with running([sys.executable, str(EXAMPLES / "join_before_get.py")]) as process:
        assert qtrace("explain", "--wait", str(process.pid)).status == 1
    with running([sys.executable, "-c", "import time; time.sleep(2)"]) as process:
        outcome = qtrace("explain", "--wait", str(process.pid))
        assert (outcome.status, outcome.stdout.partition(":")[0]) == (0, "finished")


def test_a_busy_tree_is_never_called_stuck(tmp_path: Path) -> None:
    """Many looks at queues, a pool, locks and threads in motion: no crash, and never a hang."""
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    with running([sys.executable, str(script)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in range(LOOKS):
            verdict = pipeline.explain_pid(process.pid, scope="down", python=number % WITH_PYTHON_EVERY == 0)
            assert verdict.kind not in STUCK, verdict.headline
        assert process.poll() is None
