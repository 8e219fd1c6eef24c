"""Python stacks out of a recording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from qtrace.decode.json_text import list_of
from qtrace.model.snapshot import Frame


@dataclass(frozen=True, slots=True)
class StackRow:
    """A stack that was taken while a thread was inside of a call."""

    stack_id: int
    tid: int
    time_ns: int
    thread_name: str
    frames: tuple[Frame, ...]


def stack_rows(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[int, int], StackRow]:
    """Return stacks by thread and the entry of the call they were taken in; the latest of each."""
    found: dict[tuple[int, int], StackRow] = {}
    for stack_id, _, tid, time, start, _, name, text in rows:
        known = found.get((tid, start))
        if known is None or known.time_ns <= time:
            found[tid, start] = StackRow(stack_id, tid, time, name or "", frames_of(text))
    return found


def frames_of(text: str | None) -> tuple[Frame, ...]:
    """Return the frames of a stack's JSON, innermost first; what is no frame is left out."""
    return tuple(frame for one in list_of(text) if isinstance(one, dict) and (frame := _frame(one)) is not None)


def _frame(plain: dict[str, Any]) -> Frame | None:
    file, line, function = plain.get("file"), plain.get("line"), plain.get("function")
    if not isinstance(file, str) or not isinstance(line, int) or not isinstance(function, str):
        return None
    variables = plain.get("variables")
    return Frame(
        file,
        line,
        function,
        str(plain.get("source") or ""),
        {str(name): str(value) for name, value in variables.items()} if isinstance(variables, dict) else {},
        _words(plain.get("around")),
        _words(plain.get("calls")),
        _words(plain.get("ends")),
        _words(plain.get("ahead")),
        _words(plain.get("behind")),
        _words(plain.get("made")),
    )


def _words(plain: object) -> tuple[str, ...]:
    return tuple(str(word) for word in plain) if isinstance(plain, list) else ()
