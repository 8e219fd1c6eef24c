"""Recordings that the tests of the exports share."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from qtrace import pipeline

PROGRAM = textwrap.dedent("""\
    import threading, time
    from multiprocessing import Process, Queue

    def child(queue):
        for number in range(3):
            queue.put(bytes(100_000))
            time.sleep(0.05)

    if __name__ == "__main__":
        queue = Queue()
        process = Process(target=child, args=(queue,))
        process.start()
        for number in range(3):
            queue.get()
        process.join()
        thread = threading.Thread(target=time.sleep, args=(0.05,))
        thread.start()
        thread.join()
    """)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of a program with a queue, two processes and some threads that ends."""
    folder = tmp_path_factory.mktemp("finished")
    script = folder / 'moves <b>&"things".py'
    script.write_text(PROGRAM)
    pipeline.record([str(script)], folder / "finished.qtrace", python=sys.executable)
    return folder / "finished.qtrace"


@pytest.fixture(scope="session")
def hung(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of a program that can never go on."""
    path = tmp_path_factory.mktemp("hung") / "hung.qtrace"
    script = Path(__file__).parents[2] / "examples" / "join_before_get.py"
    pipeline.record([str(script)], path, python=sys.executable, hang_after_s=1)
    return path
