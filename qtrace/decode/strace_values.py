"""The words of a logged call, back to the numbers that the kernel was given.

strace prints names for constants, memory instead of addresses, and with -y what a descriptor is
behind its number. Where memory is shown the address itself is not in the log: `SHOWN` stands for it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from functools import cache

from qtrace.model.calltext import constants

SHOWN = 0x1000
"""The address of memory that the log shows: any but NULL, and no page that a program can map by chance."""

_INTEGER = re.compile(r"-?(?:0x[0-9a-f]+|\d+)")
_OPENING, _CLOSING = "([{", ")]}"
_ESCAPES = {"n": 10, "t": 9, "r": 13, "v": 11, "f": 12, "a": 7, "b": 8, "e": 27}
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|([0-7]{1,3})|(.))", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_FIELD = re.compile(r"([a-z_0-9]+)=")
_NAMED_FD = re.compile(r"(?<![\w:>.])(\d+)<")
_SECONDS = re.compile(r"tv_sec=(-?\d+), tv_(nsec|usec)=(\d+)")

_MORE: Mapping[str, int] = {
    "NULL": 0, "AT_FDCWD": -100, "TIMER_ABSTIME": 1, "FD_CLOEXEC": 1, "FUTEX_BITSET_MATCH_ANY": 0xFFFFFFFF,
    "EFD_CLOEXEC": 0o2000000, "EFD_NONBLOCK": 0o4000, "EFD_SEMAPHORE": 1, "EPOLL_CLOEXEC": 0o2000000,
    "EPOLLIN": 1, "EPOLLPRI": 2, "EPOLLOUT": 4, "EPOLLERR": 8, "EPOLLHUP": 16, "EPOLLRDHUP": 0x2000,
    "EPOLLONESHOT": 1 << 30, "EPOLLET": 1 << 31, "EPOLLEXCLUSIVE": 1 << 28,
    "SOCK_CLOEXEC": 0o2000000, "SOCK_NONBLOCK": 0o4000, "IPPROTO_IP": 0, "IPPROTO_TCP": 6, "IPPROTO_UDP": 17,
    "PROT_NONE": 0, "PROT_READ": 1, "PROT_WRITE": 2, "PROT_EXEC": 4, "MAP_SHARED": 1, "MAP_PRIVATE": 2,
    "MAP_FIXED": 0x10, "MAP_ANONYMOUS": 0x20, "MAP_STACK": 0x20000, "MAP_NORESERVE": 0x4000,
    "MAP_DENYWRITE": 0x800, "MAP_POPULATE": 0x8000, "CLOSE_RANGE_UNSHARE": 2, "CLOSE_RANGE_CLOEXEC": 4,
    "O_LARGEFILE": 0, "O_SYNC": 0o4010000, "O_PATH": 0o10000000,
}  # fmt: skip
"""Constants of linux/*.h and bits/*.h that logs have and qtrace's own call texts have not."""


@cache
def _constants() -> dict[str, int]:
    families = {name: int(value) for name, value in vars(socket).items()
                if name.startswith(("AF_", "SOCK_", "MSG_", "SHUT_")) and isinstance(value, int)}  # fmt: skip
    return families | constants() | dict(_MORE)


def split_arguments(text: str) -> list[str]:
    """Return the arguments of a call: split at commas outside of strings, brackets and descriptors' names."""
    found: list[str] = []
    depth, start, place, size = 0, 0, 0, len(text)
    while place < size:
        letter = text[place]
        if letter == '"':
            place = _after_string(text, place)
            continue
        if letter == "/" and text.startswith("/*", place):
            end = text.find("*/", place)
            place = size if end < 0 else end + 2
            continue
        if letter == "<" and place and (text[place - 1].isalnum() or text[place - 1] == "D"):
            place = _after_name(text, place)
            continue
        if letter in _OPENING:
            depth += 1
        elif letter in _CLOSING:
            depth -= 1
        elif letter == "," and depth == 0:
            found.append(text[start:place].strip())
            start = place + 1
        place += 1
    last = text[start:].strip()
    return [*found, last] if last or found else []


def _after_string(text: str, place: int) -> int:
    place += 1
    while place < len(text) and text[place] != '"':
        place += 2 if text[place] == "\\" else 1
    return place + 1


def _after_name(text: str, place: int) -> int:
    # ``</dev/pts/1<char 136:1>>``, ``<TCP:[1.2.3.4:5->6.7.8.9:10]>``, ``<UNIX-STREAM:[7->8, "/a"]>``
    depth = 0
    while place < len(text):
        letter = text[place]
        if letter == '"':
            place = _after_string(text, place)
            continue
        if letter == "<":
            depth += 1
        elif letter == ">" and text[place - 1] != "-":
            depth -= 1
            if depth == 0:
                return place + 1
        place += 1
    return place


def name_of(word: str) -> str:
    """Return what -y says that a descriptor is: ``pipe:[7]``; empty if it does not."""
    start = word.find("<")
    if start < 1 or not (word[start - 1].isdigit() or word.startswith("AT_FDCWD")):
        return ""
    return word[start + 1 : _after_name(word, start) - 1]


def number(word: str) -> int | None:
    """Return the number that a word stands for; None if it is not known."""
    if word.startswith("^"):
        word = word[2:]  # the terminal's echo of Ctrl-C
    if not word:
        return None
    if word[0] in '"[{~':
        return SHOWN
    found = _INTEGER.match(word)
    if found is not None:
        return _integer(found[0])
    total, known = 0, _constants()
    for part in word.split("<")[0].split(" /*")[0].split("|"):
        value = known.get(part)
        if value is None:
            if _INTEGER.fullmatch(part) is None:
                return total or None
            value = _integer(part)
        total |= value
    return total


def _integer(text: str) -> int:
    digits = text.lstrip("-")
    base = (
        16
        if digits.startswith("0x")
        else 8
        if digits.startswith("0") and digits.isdigit() and max(digits) < "8"
        else 10
    )
    return int(text, base)


def named_fields(text: str) -> dict[str, str]:
    """Return ``name=value`` pairs of a struct or of an argument list."""
    pairs = (split for part in split_arguments(text) if len(split := part.partition("=")) == 3 and split[1])
    return {name.strip(): value for name, _, value in pairs if _FIELD.fullmatch(name.strip() + "=")}


def inside(word: str) -> str:
    """Return what stands between the outer brackets of a word."""
    return word[1 : word.rfind(_CLOSING[_OPENING.index(word[0])])] if word[:1] and word[0] in _OPENING else ""


def c_string(word: str) -> bytes:
    """Return the bytes of the first string in a word, as far as the log has them."""
    found = _STRING.search(word)
    if found is None:
        return b""
    return _ESCAPE.sub(_unescaped, found[1].encode("utf-8", "surrogateescape"))


def _unescaped(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return bytes.fromhex(found[1].decode())
    if found[2] is not None:
        return bytes([int(found[2], 8) & 0xFF])
    letter = found[3].decode("latin-1")
    return bytes([_ESCAPES[letter]]) if letter in _ESCAPES else found[3]


def string_list(word: str) -> list[tuple[str, bool]]:
    """Return the strings of a list, and whether each is whole."""
    return [
        (c_string(found[0]).decode("utf-8", "replace"), found[2] is None) for found in _STRING.finditer(inside(word))
    ]


def duration_ns(word: str) -> int | None:
    """Return the nanoseconds of a timespec or timeval."""
    found = _SECONDS.search(word)
    if found is None:
        return None
    return int(found[1]) * 1_000_000_000 + int(found[3]) * (1 if found[2] == "nsec" else 1000)


def wait_status(word: str) -> int | None:
    """Return the raw wait status that wait4 was given: ``[{WIFEXITED(s) && WEXITSTATUS(s) == 0}]``."""
    code = re.search(r"WEXITSTATUS\(s\) == (\d+)", word)
    if code is not None:
        return int(code[1]) << 8
    for test, shift in (("WTERMSIG", 0), ("WSTOPSIG", 8)):
        found = re.search(test + r"\(s\) == (SIG\w+|\d+)", word)
        if found is not None:
            value = (number(found[1]) or 0) << shift
            return value | (0x7F if shift else 0) | (0x80 if "WCOREDUMP" in word else 0)
    return None


def poll_set(word: str) -> list[tuple[int, int]]:
    """Return descriptors and events of a poll set."""
    found = []
    for part in split_arguments(inside(word)):
        fields = named_fields(inside(part))
        fd, events = number(fields.get("fd", "")), number(fields.get("events", "0"))
        if fd is not None:
            found.append((fd, events or 0))
    return found


def descriptors_in(word: str) -> list[tuple[int, str]]:
    """Return every descriptor with what -y says that it is, wherever it stands in a word."""
    found = []
    match = _NAMED_FD.search(word)
    while match is not None:
        end = _after_name(word, match.end() - 1)
        found.append((int(match[1]), word[match.end() : end - 1]))
        match = _NAMED_FD.search(word, end)
    return found
