"""The text of a wait's call, as strace prints it."""

from __future__ import annotations

import pandas as pd

from qtrace.model.calltext import call_text
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture
from qtrace.render.page.arrays import ints, words
from qtrace.render.page.calls import ARGUMENTS, call_name, calls_at
from qtrace.render.report_input import CallArray


class CallTexts:
    """Finds and words the call behind each wait."""

    def __init__(self, calls: CallArray, architecture: Architecture, waits: pd.DataFrame) -> None:
        """Look up the calls of all `waits` at once."""
        self._calls = calls
        self._architecture = architecture
        self._names = words(waits["name"])
        self._rows = calls_at(calls, ints(waits["tid"]), ints(waits["start_ns"])).tolist()

    def texts(self) -> list[str]:
        """Return a text for each wait; ``name(...)`` where the call itself was not kept."""
        return [self._text(row, name) for row, name in zip(self._rows, self._names, strict=True)]

    def _text(self, row: int, name: str) -> str:
        found = call_name(int(self._calls[row]["nr"]), self._architecture) if row >= 0 else ""
        # The kernel goes on with an interrupted call under another name.
        if row < 0 or (found != name and found != "restart_syscall"):
            return f"{name}(...)"
        call = self._calls[row]
        args = tuple(int(call[argument]) for argument in ARGUMENTS)
        if call["flags"] & CallFlag.UNFINISHED:
            return unfinished(call_text(found, args))
        return call_text(found, args, ret=int(call["ret"]))


def unfinished(text: str) -> str:
    """Return the text of a call that broke off, marked as strace marks it."""
    return f"{text} <unfinished ...>"
