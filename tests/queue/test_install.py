"""Our queues in the place of the standard ones, and on interpreters without anything else."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import qtrace.queue
from tests.queue.support import METHODS
from tests.support.processes import running
from tests.support.pythons import found_pythons

ROOT = Path(__file__).resolve().parents[2]
PYTHONS: dict[str, Path] = {
    version: python for version, python in found_pythons().items() if int(version.partition(".")[2]) >= 8
}
VERSIONS: list[str] = sorted(PYTHONS, key=lambda version: int(version.partition(".")[2]))


@pytest.fixture
def installed() -> Iterator[None]:
    """Ours in place, and the standard ones afterwards."""
    qtrace.queue.install()
    yield
    qtrace.queue.uninstall()


def run_script(python: Path | str, text: str, folder: Path, *options: str) -> str:
    """Run a program to its end and return what it prints; `options` come before the script's name."""
    script = folder / "program.py"
    script.write_text(textwrap.dedent(text))
    command = [str(python), *options, str(script), str(ROOT)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT}
    with running(command, **pipes) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert errors == ""
    return str(output)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("method", [None, *METHODS])
def test_install_puts_ours_into_every_context(method: str | None) -> None:
    """Also into multiprocessing's own functions."""
    assert qtrace.queue.installed()
    context: Any = multiprocessing.get_context(method)
    assert type(context.Queue(3)) is qtrace.queue.Queue
    assert type(context.JoinableQueue()) is qtrace.queue.JoinableQueue
    assert type(context.SimpleQueue()) is qtrace.queue.SimpleQueue
    assert type(vars(multiprocessing)["Queue"](3)) is qtrace.queue.Queue


def test_uninstall_brings_the_standard_ones_back() -> None:
    """And queues that exist keep working."""
    standard = type(multiprocessing.Queue())
    assert standard.__module__ == "multiprocessing.queues"
    qtrace.queue.install()
    qtrace.queue.install()
    made: Any = multiprocessing.Queue()
    assert type(made) is qtrace.queue.Queue
    qtrace.queue.uninstall()
    assert not qtrace.queue.installed()
    assert type(multiprocessing.Queue()) is standard
    made.put(1)
    assert made.get() == 1
    made.close()
    made.join_thread()


def send_back(tasks: Any, results: Any) -> None:
    """Double what comes, until None does."""
    for number in iter(tasks.get, None):
        results.put(double(number))


@pytest.mark.parametrize("method", METHODS)
def test_standard_queues_made_before_install_stay_what_they_are(method: str) -> None:
    """Their feeder, and how they travel to a child, are the standard ones."""
    context = multiprocessing.get_context(method)
    tasks: Any = context.JoinableQueue()
    results: Any = context.SimpleQueue()
    qtrace.queue.install()
    try:
        process = context.Process(target=send_back, args=(tasks, results))
        process.start()
        tasks.put(21)
        tasks.put(None)
        assert results.get() == 42
        process.join()
    finally:
        qtrace.queue.uninstall()
    assert type(tasks._thread).__name__ == "Thread"
    tasks.close()
    tasks.join_thread()


def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("method", METHODS)
def test_pools_and_executors_work_on_ours(method: str) -> None:
    """Pool talks through two SimpleQueues, the executor through a Queue and a SimpleQueue."""
    context: Any = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert type(pool._inqueue) is qtrace.queue.SimpleQueue
        assert pool.map(double, range(50)) == list(range(0, 100, 2))
        pool.close()
        pool.join()
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        assert type(executor._result_queue) is qtrace.queue.SimpleQueue
        assert list(executor.map(double, range(50))) == list(range(0, 100, 2))


@pytest.mark.parametrize("method", METHODS)
def test_a_context_of_ours_is_a_standard_one_but_for_its_queues(method: str) -> None:
    """qtrace.queue.get_context(method) needs no install()."""
    context: Any = qtrace.queue.get_context(method)
    assert isinstance(context, type(multiprocessing.get_context(method)))
    assert context.get_start_method() == method
    assert context.get_context("fork") is qtrace.queue.get_context("fork")
    assert type(context.Queue(robust=True, pipe_bytes=8192)) is qtrace.queue.Queue
    assert not qtrace.queue.installed()


def test_an_unknown_start_method_is_an_error() -> None:
    """As with multiprocessing.get_context."""
    with pytest.raises(ValueError, match="cannot find context for 'thread'"):
        qtrace.queue.get_context("thread")


def test_a_program_that_is_not_ours_runs_on_our_queues(tmp_path: Path) -> None:
    """python -m qtrace.queue SCRIPT: the script sees its own arguments, and our queues."""
    program = """
        import multiprocessing, sys
        if __name__ == "__main__":
            queue = multiprocessing.Queue()
            queue.put("item")
            print(type(queue).__module__, queue.get(), len(sys.argv))
    """
    assert run_script(sys.executable, program, tmp_path, "-m", "qtrace.queue") == "qtrace.queue.queues item 2\n"


def test_the_module_says_how_to_use_it() -> None:
    """Without a script."""
    run = subprocess.run([sys.executable, "-m", "qtrace.queue"], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 1
    assert "usage: python -m qtrace.queue SCRIPT" in run.stderr


ROUND_TRIP = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import qtrace.queue

    def child(tasks, results):
        for item in iter(tasks.get, None):
            results.put(item * 2)

    if __name__ == "__main__":
        for method in ("fork", "spawn", "forkserver"):
            for robust in (False, True):
                context = qtrace.queue.get_context(method)
                tasks, results = context.Queue(robust=robust), context.SimpleQueue(robust=robust)
                process = context.Process(target=child, args=(tasks, results))
                process.start()
                tasks.put("a" * 100000)
                tasks.put(21)
                tasks.put(None)
                print(method, robust, len(results.get()), results.get())
                process.join()
                tasks.stats()
                tasks.close()
                tasks.join_thread()
        files = {name: str(getattr(module, "__file__", "")) for name, module in sys.modules.items()}
        foreign = [name for name, file in files.items() if "site-packages" in file]
        mine = sorted({name.split(".")[1] for name in sys.modules if name.startswith("qtrace.")})
        print(foreign, mine)
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_it_works_on_every_python_with_the_standard_library_alone(version: str, tmp_path: Path) -> None:
    """From 3.8 on; nothing of qtrace but its queue is imported."""
    lines = run_script(PYTHONS[version], ROUND_TRIP, tmp_path, "-W", "ignore", "-E", "-s", "-S").splitlines()
    expected = [f"{method} {robust} 200000 42" for method in METHODS for robust in (False, True)]
    assert lines == [*expected, "[] ['queue']"]


def test_it_does_not_import_what_the_default_queue_does_not_need() -> None:
    """ctypes comes with the first robust queue."""
    check = "import sys, qtrace.queue; qtrace.queue.Queue(); print('ctypes' in sys.modules)"
    run = subprocess.run([sys.executable, "-S", "-c", check], capture_output=True, text=True, cwd=os.fspath(ROOT))
    assert run.stdout == "False\n"
