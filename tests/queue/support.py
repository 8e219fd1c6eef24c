"""What the queue's tests share: start methods, and programs that run in other processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from qtrace.queue import get_context
from tests.support.processes import wait_until

METHODS = ("fork", "spawn", "forkserver")
LARGE_BYTES = 1_000_000  # far above what a pipe holds


@contextmanager
def started(target: Callable[..., None], *arguments: object, method: str = "fork") -> Iterator[BaseProcess]:
    """Run `target` in a process, and kill it if it still runs at the end."""
    process: BaseProcess = get_context(method).Process(target=target, args=arguments)
    process.start()
    try:
        yield process
    finally:
        if process.is_alive():
            process.kill()
        process.join()


def kill(process: BaseProcess) -> None:
    """End a process as the system's out-of-memory killer would."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def blocked_in(process: Any, *numbers: int) -> bool:
    """Return whether a thread of the process is blocked in one of the system calls."""
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        call = (thread / "syscall").read_text().split()
        if call[0] != "running" and int(call[0]) in numbers:
            return True
    return False


def end(queue: Any) -> None:
    """Close a queue and wait for its feeder."""
    queue.close()
    queue.join_thread()


def wait_level(queue: Any, level_bytes: int) -> None:
    """Wait until the queue's pipe holds at least `level_bytes`."""
    wait_until(lambda: queue.stats().bytes_in_pipe >= level_bytes, what=f"{level_bytes} bytes in the pipe")


def put_all(queue: Any, items: list[object]) -> None:
    """Put items: a producer's target."""
    for each in items:
        queue.put(each)


def get_some(queue: Any, count: int, answers: Any) -> None:
    """Get items and send them on: a consumer's target."""
    for _ in range(count):
        answers.put(queue.get())


def put_and_leave(queue: Any, size_bytes: int, left: int) -> None:
    """Exit while the feeder is in the middle of a message, with `left` more items in the deque."""
    queue.cancel_join_thread()
    queue.put(bytes(size_bytes))
    for number in range(left):
        queue.put(number)
    wait_level(queue, 60_000)


def sleep_for_ever() -> None:
    """Be there."""
    while True:
        time.sleep(60)
