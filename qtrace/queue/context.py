"""Contexts whose queues are ours, and `install()`, which puts ours in the standard one's place."""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing import context, queues, reduction
from types import ModuleType
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


_OURS = {"Queue": Queue, "JoinableQueue": JoinableQueue, "SimpleQueue": SimpleQueue}
_MODULE = queues.__name__


class _StandardIn(ModuleType):
    # Stands in the place of multiprocessing.queues. Its classes are not replaced in the module
    # itself, because they name each other through it: a subclass of the standard queue (as
    # concurrent.futures has one) would start our feeder with its own arguments.
    def __init__(self) -> None:
        super().__init__(_MODULE, queues.__doc__)
        for name in ("__spec__", "__loader__", "__file__", "__package__"):
            setattr(self, name, getattr(queues, name))
        for name, ours in _OURS.items():
            setattr(self, name, ours)

    def __getattr__(self, name: str) -> Any:
        return getattr(queues, name)


_substitute = _StandardIn()


def _standard_queue(name: str) -> Any:
    kind = getattr(queues, name)
    return kind.__new__(kind)


def _reduce_standard(queue: Any) -> tuple[Any, ...]:
    # By their own name, pickle would find our classes.
    return _standard_queue, (type(queue).__name__,), queue.__getstate__()


def install() -> None:
    """Let every context's `Queue()`, `JoinableQueue()` and `SimpleQueue()` make ours from now on.

    Pools and executors made afterwards use them too. Classes that somebody has imported
    from `multiprocessing.queues` before, and queues made before, stay standard and keep
    working. Children of spawn and forkserver receive our queues, and make standard ones
    themselves unless they install too (a main module that installs on import does so in
    them as well).
    """
    _put_in_place(_substitute)
    for name in _OURS:
        reduction.ForkingPickler.register(getattr(queues, name), _reduce_standard)


def uninstall() -> None:
    """Undo `install()`. Queues that exist keep working."""
    _put_in_place(queues)
    for name in _OURS:
        reduction.ForkingPickler._extra_reducers.pop(getattr(queues, name), None)  # type: ignore[attr-defined]


def _put_in_place(module: ModuleType) -> None:
    sys.modules[_MODULE] = module
    multiprocessing.queues = module


def installed() -> bool:
    """Return whether `multiprocessing.Queue()` makes ours."""
    return sys.modules[_MODULE] is _substitute
