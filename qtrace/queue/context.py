"""Contexts whose queues are ours, and `install()`, which puts ours in the standard one's place."""

from __future__ import annotations

import multiprocessing
from multiprocessing import context, queues
from typing import Any

from .queues import JoinableQueue, Queue, SimpleQueue

__all__ = ["get_context", "install", "installed", "uninstall"]


class _QueueFactories:
    # Mixed into a start method's context: everything but the queues stays standard.
    def Queue(self, maxsize: int = 0, *, robust: bool = False, pipe_bytes: int | None = None) -> Queue:
        """Return a queue of this context."""
        return Queue(maxsize, ctx=self, robust=robust, pipe_bytes=pipe_bytes)

    def JoinableQueue(self, maxsize: int = 0, *, robust: bool = False, pipe_bytes: int | None = None) -> JoinableQueue:
        """Return a joinable queue of this context."""
        return JoinableQueue(maxsize, ctx=self, robust=robust, pipe_bytes=pipe_bytes)

    def SimpleQueue(self, *, robust: bool = False, pipe_bytes: int | None = None) -> SimpleQueue:
        """Return a simple queue of this context."""
        return SimpleQueue(ctx=self, robust=robust, pipe_bytes=pipe_bytes)

    def get_context(self, method: str | None = None) -> Any:
        """Return this context, or ours for another start method."""
        return self if method is None else get_context(method)


class ForkContext(_QueueFactories, context.ForkContext):  # type: ignore[misc]
    """The fork context with our queues."""


class SpawnContext(_QueueFactories, context.SpawnContext):  # type: ignore[misc]
    """The spawn context with our queues."""


class ForkServerContext(_QueueFactories, context.ForkServerContext):  # type: ignore[misc]
    """The forkserver context with our queues."""


_CONTEXTS: dict[str, Any] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}


def get_context(method: str | None = None) -> Any:
    """Return a multiprocessing context for `method` (default: the program's) whose queues are ours.

    Raises:
        ValueError: no such start method.
    """
    if method is None:
        method = multiprocessing.get_start_method()
    try:
        ours = _CONTEXTS[method]
    except KeyError:
        raise ValueError(f"cannot find context for {method!r}") from None
    ours._check_available()
    return ours


_STANDARD = {name: getattr(queues, name) for name in ("Queue", "JoinableQueue", "SimpleQueue")}
_OURS = {"Queue": Queue, "JoinableQueue": JoinableQueue, "SimpleQueue": SimpleQueue}


def install() -> None:
    """Let every context's `Queue()`, `JoinableQueue()` and `SimpleQueue()` make ours from now on.

    Pools and executors made afterwards use them too. Classes that somebody has imported
    from `multiprocessing.queues` before stay standard. Children of spawn and forkserver
    receive our queues, and make their own standard ones unless they install too (a main
    module that installs on import does so in them as well).
    """
    for name, ours in _OURS.items():
        setattr(queues, name, ours)


def uninstall() -> None:
    """Undo `install()`. Queues that exist keep working."""
    for name, standard in _STANDARD.items():
        setattr(queues, name, standard)


def installed() -> bool:
    """Return whether `multiprocessing.Queue()` makes ours."""
    return queues.Queue is _OURS["Queue"]
