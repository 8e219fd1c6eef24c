"""The first look of `explain PID`, taken before the command line is parsed.

Of the time that a short look takes, half goes into loading Typer, pydantic and the analysis. All of
that fits between the two looks, if the first one comes first. Only the plainest command lines are
foreseen here; any other is looked at when it has been parsed, and gives the same answer.
"""

from __future__ import annotations

import os

from qtrace import pipeline
from qtrace.errors import QtraceError

_FORESEEN = {"--json", "--python", "--no-python"}
_begun: dict[tuple[int, str, bool], pipeline.LiveLook] = {}


def begin(words: list[str]) -> None:
    """Begin to look at the process that ``explain [--json] [--no-python] PID`` names; else do nothing."""
    pids = [word for word in words if word.isdigit()]
    if len(pids) != 1 or any(word not in _FORESEEN for word in words if word not in pids) or os.path.exists(pids[0]):
        return
    key = (int(pids[0]), "up", "--no-python" not in words)
    try:
        _begun[key] = pipeline.LiveLook(key[0], scope=key[1], python=key[2])
    except QtraceError:
        return  # said by the verb itself, which meets it again


def take(pid: int, scope: str, python: bool) -> pipeline.LiveLook | None:
    """Return the look that has been begun with these arguments, once; None if there is none."""
    return _begun.pop((pid, scope, python), None)
