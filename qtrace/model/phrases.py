"""What a thread waits for, as the predicate of a sentence: the same words in headlines and on the page."""

from __future__ import annotations

from qtrace.model.kinds import WaitKind

_BARE = ("a ", "an ", "any ", "something", "others", "another ", "task_done", "notify", "the ")
"""Labels that begin so need no article."""
_LOCKS = (WaitKind.LOCK, WaitKind.CONDITION, WaitKind.SEMAPHORE)
_FULL = (WaitKind.PIPE_FULL, WaitKind.SOCKET_FULL)
_EMPTY = (WaitKind.PIPE_EMPTY, WaitKind.SOCKET_EMPTY)


def waits_for(kind: WaitKind, label: str | None) -> str:
    """Return the predicate of a wait: "waits for room in the queue pipe".

    Args:
        kind: Of the wait.
        label: Its object in words; None where that is not known.
    """
    if kind in _FULL:
        return f"waits for room in {_with_article(label)}"
    if kind in _EMPTY:
        return f"waits for data from {_with_article(label)}"
    if kind in _LOCKS:
        return f"waits for {_with_article(label)}"
    if kind is WaitKind.CHILD_EXIT:
        return f"waits for {'a child' if label in (None, 'any child') else label} to end"
    if kind is WaitKind.THREAD_JOIN:
        return f"waits for {label or 'a thread'} to end"
    if kind is WaitKind.FILE_LOCK:
        on = (label or "a file").removeprefix("lock on ")
        return f"waits for the lock on {on}"
    return _other(kind, label)


def _other(kind: WaitKind, label: str | None) -> str:
    plain = {
        WaitKind.GIL: "waits for the interpreter lock",
        WaitKind.SLEEP: "sleeps",
        WaitKind.TIMEOUT: "waits for a timeout",
        WaitKind.SIGNAL: "waits for a signal",
        WaitKind.STOPPED: "is stopped by a signal",
    }
    if kind in plain:
        return plain[kind]
    if kind is WaitKind.ACCEPT:
        return f"waits for a connection on {_with_article(label)}"
    if kind is WaitKind.CONNECT:
        return f"waits to be connected to {_with_article(label)}"
    if label is None:
        return "waits for the outside" if kind is WaitKind.EXTERNAL else "waits for something"
    return f"waits on {label}"


def _with_article(label: str | None) -> str:
    if label is None:
        return "something"
    if label.startswith(_BARE):
        return label
    if label.startswith(("event", "item")):
        return f"an {label}"
    return f"a {label}" if label.startswith("free place") else f"the {label}"
