"""How long `qtrace explain PID` takes: on one hung pair, and on a tree of 100 processes and 1,000 threads."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RUNS = 5
PAIR = """
from multiprocessing import Process, Queue

def child(queue):
    queue.put(bytes(100_000))

if __name__ == "__main__":
    queue = Queue()
    process = Process(target=child, args=(queue,))
    process.start()
    process.join()
"""
TREE = """
import threading
from multiprocessing import Process, Queue

def child(queue):
    for _ in range(9):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    queue.get()

if __name__ == "__main__":
    queue = Queue()
    processes = [Process(target=child, args=(queue,)) for _ in range(99)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
"""


@contextmanager
def hung(program: str, settle_s: float) -> Iterator[int]:
    """Run a program that hangs, in a session of its own, and end the session afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "program.py"
        script.write_text(program)
        process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
        try:
            time.sleep(settle_s)
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def seconds(pid: int, *options: str) -> list[float]:
    """Return how long each of some runs took, from start to exit of the command."""
    found = []
    for _ in range(RUNS):
        begun = time.monotonic()
        answer = subprocess.run(
            [sys.executable, "-m", "qtrace", "explain", str(pid), *options], stdout=subprocess.DEVNULL, check=False
        )
        found.append(time.monotonic() - begun)
        assert answer.returncode == 1, "both programs hang"
    return found


def table() -> str:
    """Return the figures as Markdown."""
    lines = ["| program | Python lines | median | least | most |", "|---|---|---|---|---|"]
    for name, program, settle_s in (("one hung pair", PAIR, 2.0), ("100 processes, 1,000 threads", TREE, 8.0)):
        with hung(program, settle_s) as pid:
            for words, options in (("yes", ()), ("no", ("--no-python",))):
                found = seconds(pid, *options)
                lines.append(
                    f"| {name} | {words} | {statistics.median(found):.2f} s | {min(found):.2f} s | {max(found):.2f} s |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
