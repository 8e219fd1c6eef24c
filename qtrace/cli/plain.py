"""Plain command lines of `qtrace record`, understood without Typer.

Of what `qtrace record` takes before a program runs, loading Typer is a quarter, and a program that is over in a
moment has to wait for it. Only the options below are foreseen, spelled in full; any other line, and any that is
wrong, is Typer's, which gives the same to `recording.run`, or says what is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_FLAGS = {"-q": "quiet", "--quiet": "quiet", "-f": "force", "--force": "force"}
_ENGINES = ("auto", "perf", "ptrace")


def _engine(word: str) -> str:
    if word not in _ENGINES:
        raise ValueError(word)
    return word


_VALUES: dict[str, tuple[str, Callable[[str], object]]] = {
    "-o": ("output", str),
    "--output": ("output", str),
    "--engine": ("engine", _engine),
    "--hang-after": ("hang_after", float),
    "--timeout": ("timeout", float),
}


def understood(words: list[str]) -> dict[str, object] | None:
    """Return the arguments of `recording.run` that a command line gives, or None if it is not a plain one.

    Args:
        words: What stands behind the verb.
    """
    if "QTRACE_ENGINE" in os.environ:
        return None
    found: dict[str, object] = {}
    place = 0
    while place < len(words) and words[place].startswith("-") and words[place] not in ("--", "-m", "-c", "-"):
        word = words[place]
        if word in _FLAGS:
            found[_FLAGS[word]] = True
            place += 1
            continue
        if word not in _VALUES or place + 1 >= len(words):
            return None
        name, made = _VALUES[word]
        try:
            found[name] = made(words[place + 1])
        except ValueError:
            return None
        place += 2
    target = words[place + 1 :] if words[place : place + 1] == ["--"] else words[place:]
    return {**found, "target": target} if target else None
