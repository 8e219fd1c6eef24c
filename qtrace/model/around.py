"""Which statements stand around a line of Python: found by indentation, without parsing.

A thread that stands inside ``with lock:`` holds the lock, and one inside ``while True:`` goes
round. A parser would need the whole file to be valid for the parser's own version of Python, and
10 to 60 ms for a large one; reading upwards from one line needs microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEAD = re.compile(r"(async\s+)?(with|while|for|try|if|elif|else|except|finally|def|class|match|case)\b")
_TAKEN = re.compile(r"(?:\w+\s*=\s*)?([A-Za-z_][\w.]*)\.(acquire|release)\(")
TAKEN = ".acquire()"
"""What an entry ends with that is no head but a lock taken before the line in the same blocks."""
PERHAPS_TAKEN = ".acquire()?"
"""The same of a lock that a ``try`` block takes, for a line in its ``except``: where it failed is not known."""
_ENDS_FUNCTION = ("def ", "class ", "async def ")
_TAB = 8


def indent_of(line: str) -> int:
    """Return how far a line is indented, with tabs at every eighth column."""
    expanded = line.expandtabs(_TAB)
    return len(expanded) - len(expanded.lstrip())


def heads_around(lines: Sequence[str], line: int) -> tuple[str, ...]:
    """Return the heads of the statements around a line, innermost first, up to its function.

    A head is the statement's first line without the colon and what follows it: ``with lock``.
    Where the line itself is a one-line ``with lock: work()``, its own head comes first, marked
    by a colon at the end (``with lock:``): whether the lock is held there depends on the frame.
    Between the heads stand the locks that earlier lines of the same blocks have taken and not given
    back, as ``lock.acquire()``; what is given back in a block that is over (``finally``) counts as given
    back. In an ``except`` the locks that its ``try`` has taken follow as ``lock.acquire()?``.

    Args:
        lines: The file's lines.
        line: The line's number, from 1.
    """
    if not 1 <= line <= len(lines):
        return ()
    heads: list[str] = []
    own = lines[line - 1].strip()
    if own.startswith(("with ", "async with ")) and not own.endswith(":") and ":" in own:
        heads.append(_head(own) + ":")
    limit = indent_of(lines[line - 1])
    given_back: set[str] = set()
    failed = False
    for text in reversed(lines[: line - 1]):
        stripped = text.strip()
        if not stripped or stripped.startswith("#"):
            continue
        indent = indent_of(text)
        taken = _TAKEN.match(stripped) if indent >= limit else None
        if taken and taken[2] == "release" and not failed:
            given_back.add(taken[1])
        elif taken and taken[2] == "acquire" and taken[1] not in given_back and (indent == limit or failed):
            heads.append(taken[1] + (PERHAPS_TAKEN if failed and indent > limit else TAKEN))
        failed = failed and not (indent == limit and stripped.startswith("try"))
        if indent >= limit or not _HEAD.match(stripped):
            continue
        limit = indent
        failed = stripped.startswith("except")
        if stripped.startswith(_ENDS_FUNCTION):
            break
        heads.append(_head(stripped))
    return tuple(heads)


def _head(stripped: str) -> str:
    # The colon that ends the head is the last one outside of brackets and strings; a slice or a
    # lambda in the head's expression has its colon inside brackets, nearly always.
    depth = 0
    quote = ""
    for position, letter in enumerate(stripped):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif (letter == ":" and depth == 0) or letter == "#":
            return stripped[:position].rstrip()
    return stripped
