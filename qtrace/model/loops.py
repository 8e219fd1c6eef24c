"""What a loop of a Python program calls: by its text, without parsing.

A thread that goes round ``while True: time.sleep(1); print("alive")`` can do nothing for anybody, and
one in ``while p.is_alive(): p.join(0.3)`` waits as if it had no timeout. As in `around`, reading the
lines is enough and works for every version of the language; where the text is misread, it is by names
too many, and then the loop counts as one that may do anything.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from qtrace.model.around import indent_of

_CALL = re.compile(r"([A-Za-z_][\w.]*)\s*\(")
_HANDED_ON = re.compile(r"[A-Za-z_][\w.]*\.(?:get|get_nowait|recv|recv_bytes|put|send|send_bytes)\b(?!\s*\()")
_STATEMENT = re.compile(r"(?:async\s+)?(with|del|return|break|raise|import|from|exec|global|nonlocal)\b")
_ANYWHERE = re.compile(r"\b(yield|await|lambda)\b")
_COUNTS = re.compile(r"[^=!<>]([+\-*/|]=)|\bnext\s*\(")
_KEYWORDS = frozenset(keyword.kwlist)
_OF_A_FUNCTION = frozenset({"return"})
"""Words that lead out of a function and not out of the loop that calls it."""
_MOST_NAMES = 60


def loop_calls(lines: Sequence[str], line: int) -> tuple[str, ...]:
    """Return what the innermost ``while`` loop around a line calls, sorted; empty where there is none.

    Functions of the same file that it calls count with what they call. Statements that matter to
    others stand among the names as words: ``with``, ``del``, ``break``, ``return``, ``raise``,
    ``yield``, ``await``, and ``+=`` for anything that is counted. ``with open(...)`` is a call only.

    Args:
        lines: The file's lines.
        line: The line's number, from 1.
    """
    head = _head_of_loop(lines, line)
    return () if head is None else tuple(sorted(_reached(lines, _block(lines, head)))[:_MOST_NAMES])


def ending_calls(lines: Sequence[str], line: int) -> tuple[str, ...]:
    """Return what ends processes among the calls that a function has still to make, sorted.

    That is what stands below the line in its function, in the loop around it, and in functions of the
    same file that are called there: ``os._exit``, ``process.terminate``.

    Args:
        lines: The file's lines.
        line: The line's number, from 1.
    """
    if not 1 <= line <= len(lines):
        return ()
    head = _head_of_loop(lines, line)
    ahead = _rest_of_function(lines, line) + ([] if head is None else _block(lines, head))
    return tuple(sorted(name for name in _reached(lines, ahead) if name.rpartition(".")[2] in _ENDING))


def calls_ahead(lines: Sequence[str], line: int) -> tuple[str, ...]:
    """Return what a function has still to call, sorted, at most 60 names.

    That is what stands below the line in its function, and in the loops around it; for functions of the
    same file stands what they call. Of the line itself only what it calls directly: an outer frame is
    inside of that. A method that is handed on (``iter(q.get, None)``) counts as called, and ``EOFError``
    stands for a handler of it.

    Args:
        lines: The file's lines.
        line: The line's number, from 1.
    """
    if not 1 <= line <= len(lines):
        return ()
    head = _head_of_loop(lines, line, _LOOPS, outermost=True)
    block = _rest_of_function(lines, line)[1:] + ([] if head is None else _block(lines, head))
    names = _reached(lines, block) | _words([lines[line - 1]])
    if any(_HANDLES_END.match(text) for text in block):
        names.add("EOFError")
    names = {name for name in names if not _definitions(lines, name.rpartition(".")[2])}
    return tuple(sorted(names)[:_MOST_NAMES])


def calls_behind(lines: Sequence[str], line: int) -> tuple[str, ...]:
    """Return what stands above a line in its function, or module: the names that are called there, sorted.

    Args:
        lines: The file's lines.
        line: The line's number, from 1.
    """
    if not 1 <= line <= len(lines):
        return ()
    start, floor = _start_of_function(lines, line)
    return tuple(sorted(_words(_outer_lines(lines[start : line - 1], floor)))[:_MOST_NAMES])


_HANDLES_END = re.compile(r"\s*except\b.*\bEOFError\b")


def made_as(lines: Sequence[str], line: int) -> tuple[str, ...]:
    """Return the classes of the locks that a line takes, by where the file makes something of their name.

    ``("Semaphore",)`` for ``self.free.acquire()`` where the file has ``self.free = Semaphore(0)``.

    Args:
        lines: The file's lines.
        line: The line's number, from 1.
    """
    taken = _TAKEN.findall(lines[line - 1]) if 1 <= line <= len(lines) else []
    found: set[str] = set()
    for name in taken:
        made = re.compile(rf"\b{re.escape(name)}\b[^=(]*=[^=].*\b\w*(?:Lock|Condition|Semaphore)\(")
        for text in lines:
            if name in text and made.search(text):
                found.update(_LOCK_CLASS.findall(text))
    return tuple(sorted(found))


_TAKEN = re.compile(r"(\w+)\.acquire\(")
_LOCK_CLASS = re.compile(r"\b(\w*(?:Lock|Condition|Semaphore))\(")
_LOOPS = ("while ", "for ", "async for ")

_ENDING = frozenset(
    {"kill", "killpg", "terminate", "send_signal", "pidfd_send_signal", "raise_signal", "_exit", "abort"}
)


def _reached(lines: Sequence[str], block: Sequence[str]) -> set[str]:
    """The words of a block, and of the functions of the file that it calls."""
    found = _words(block)
    todo = list(found)
    seen: set[str] = set()
    while todo and len(found) <= _MOST_NAMES:
        name = todo.pop().rpartition(".")[2]
        if name in seen:
            continue
        seen.add(name)
        for start in _definitions(lines, name):
            inner = _words(_block(lines, start)[1:]) - _OF_A_FUNCTION
            todo += inner - found
            found |= inner
    return found


def _rest_of_function(lines: Sequence[str], line: int) -> list[str]:
    """The lines from one on to the end of its function, or of the module, without nested definitions."""
    return _outer_lines(lines[line - 1 :], _start_of_function(lines, line)[1])


def _start_of_function(lines: Sequence[str], line: int) -> tuple[int, int]:
    """The place of the first line below a function's ``def``, or of the module, and its indentation."""
    limit = indent_of(lines[line - 1])
    floor = limit
    for place in range(line - 2, -1, -1):
        text = lines[place].strip()
        if not text or indent_of(lines[place]) >= limit:
            continue
        limit = indent_of(lines[place])
        if text.startswith(("def ", "class ", "async def ")):
            return place + 1, floor
        floor = limit
    return 0, floor


def _outer_lines(lines: Sequence[str], floor: int) -> list[str]:
    """The lines up to the first that is indented less than a number, without nested definitions."""
    found: list[str] = []
    inner: int | None = None
    for text in lines:
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        indent = indent_of(text)
        if indent < floor:
            break
        if inner is not None and indent > inner:
            continue
        inner = indent if text.lstrip().startswith(("def ", "class ", "async def ", "@")) else None
        if inner is None:
            found.append(text)
    return found


def _head_of_loop(
    lines: Sequence[str], line: int, heads: tuple[str, ...] = ("while ",), *, outermost: bool = False
) -> int | None:
    if not 1 <= line <= len(lines):
        return None
    found = line - 1 if lines[line - 1].lstrip().startswith(heads) else None
    limit = indent_of(lines[line - 1])
    for place in range(line - 2, -1, -1):
        if limit == 0 or (found is not None and not outermost):
            break
        text = lines[place].strip()
        if not text or text.startswith("#") or indent_of(lines[place]) >= limit:
            continue
        if text.startswith(("def ", "class ", "async def ")):
            break
        if text.startswith(heads):
            found = place
        limit = indent_of(lines[place])
    return found


def _block(lines: Sequence[str], head: int) -> list[str]:
    """The head's line and all that is indented below it."""
    limit = indent_of(lines[head])
    found = [lines[head]]
    for text in lines[head + 1 :]:
        if text.strip() and not text.lstrip().startswith("#") and indent_of(text) <= limit:
            break
        found.append(text)
    return found


def _definitions(lines: Sequence[str], name: str) -> Sequence[int]:
    return _index(tuple(lines)).get(name, ())


@lru_cache(maxsize=64)
def _index(lines: tuple[str, ...]) -> Mapping[str, Sequence[int]]:
    """The places of the functions and classes of a file, by name."""
    found: dict[str, list[int]] = {}
    for place, text in enumerate(lines):
        defined = _DEFINED.match(text)
        if defined:
            found.setdefault(defined[1], []).append(place)
    return found


_DEFINED = re.compile(r"\s*(?:async\s+)?(?:def|class)\s+(\w+)")


def _words(block: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for text in block:
        code = text.split(" #")[0].strip()
        if not code or code.startswith("#"):
            continue
        found.update(name for name in _CALL.findall(code) if name not in _KEYWORDS)
        found.update(_HANDED_ON.findall(code))
        for part in re.split(r"[;:]\s*", code):
            statement = _STATEMENT.match(part)
            if statement and not part.startswith("with open("):
                found.add(statement[1])
        found.update(_ANYWHERE.findall(code))
        if _COUNTS.search(code):
            found.add("+=")
    return found
