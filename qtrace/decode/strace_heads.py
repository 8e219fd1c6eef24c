"""What a call's record has beside its times: raw arguments, the eight bytes of its head, details."""

from __future__ import annotations

import re

from qtrace.decode.strace_lines import LoggedCall
from qtrace.decode.strace_tree import CLONES
from qtrace.decode.strace_values import (
    SHOWN,
    c_string,
    duration_ns,
    inside,
    named_fields,
    number,
    poll_set,
    split_arguments,
    wait_status,
)
from qtrace.model.syscalls import Syscall

_MASK = (1 << 64) - 1
_DATA = frozenset({"read", "write", "sendto", "recvfrom", "pread64", "pwrite64", "readv", "writev"})
_READS = frozenset({"read", "recvfrom", "pread64", "readv"})
_TIMED = {"nanosleep": 0, "clock_nanosleep": 2, "futex": 3}
_REVENTS = re.compile(r"fd=(\d+)(?:<[^>]*>)?, revents=([A-Z|]+)")


def arguments_of(call: LoggedCall, row: Syscall) -> tuple[int, ...]:
    """Return the six raw arguments; 0 for those that the log does not have."""
    if call.name in CLONES:
        return _clone_arguments(call)
    words = split_arguments(call.arguments)
    if call.name == "futex":
        words = _futex_in_place(words)
    found = []
    for place in range(6):
        word = words[place] if place < len(words) else ""
        kind = row.args[place] if place < len(row.args) else ""
        value = number(word)
        if kind in ("out", "in", "str") and value == SHOWN:
            value = 0  # the address is not in the log, and nobody asks for it
        found.append((value or 0) & _MASK)
    return tuple(found)


def _futex_in_place(words: list[str]) -> list[str]:
    # strace leaves out the arguments that an operation does not have.
    command = (number(words[1]) or 0) & 0x7F if len(words) > 1 else -1
    places = _FUTEX_PLACES.get(command, ())
    if len(words) > len(places):
        return words
    found = [""] * 6
    for place, word in zip(places, words, strict=False):
        found[place] = word
    return found


_FUTEX_PLACES = {6: (0, 1, 3), 9: (0, 1, 2, 3, 5), 10: (0, 1, 2, 5), 13: (0, 1, 3)}
"""LOCK_PI, WAIT_BITSET, WAKE_BITSET, LOCK_PI2: where their arguments, as printed, lie in the call (futex(2))."""


def _clone_arguments(call: LoggedCall) -> tuple[int, ...]:
    text = call.arguments
    if call.name == "clone3":
        return SHOWN, 88, 0, 0, 0, 0
    fields = named_fields(text)
    stack = number(fields.get("child_stack", "")) or 0
    flags = number(fields.get("flags", "")) or 0
    return (flags, stack, 0, 0, 0, 0) if call.name == "clone" else (0,) * 6


def head_of(call: LoggedCall, args: tuple[int, ...], ret: int) -> int | None:
    """Return the head of a call's record (`CallFlag.HAS_HEAD`); None if it has none."""
    words = split_arguments(call.arguments)
    name = call.name
    if name in _DATA:
        if len(words) < 2 or (name in _READS and (ret <= 0 or call.result is None)):
            return None
        data = c_string(words[1])[: min(8, ret) if name in _READS else 8]
        return int.from_bytes(data, "little") if data and '"' in words[1] else None
    if name in ("pipe", "pipe2", "socketpair") and ret == 0 and call.result is not None:
        pair = next((word for word in words if word.startswith("[")), "")
        ends = [number(word) for word in split_arguments(inside(pair))]
        return (ends[0] or 0) | (ends[1] or 0) << 32 if len(ends) == 2 else None
    if name == "wait4" and ret > 0 and len(words) > 1:
        return wait_status(words[1])
    if name in _TIMED and len(words) > _TIMED[name]:
        return duration_ns(words[_TIMED[name]])
    if name in ("poll", "ppoll") and words:
        return _polled(call, words)
    if name == "epoll_ctl" and len(words) > 3:
        return number(named_fields(inside(words[3])).get("events", ""))
    return None


def _polled(call: LoggedCall, words: list[str]) -> int | None:
    watched = poll_set(words[0])
    if len(watched) != 1:
        return None
    fd, events = watched[0]
    came = _REVENTS.search(call.words)
    returned = number(came[2]) if came is not None else 0
    return (fd & 0xFFFFFFFF) | (events & 0xFFFF) << 32 | ((returned or 0) & 0xFFFF) << 48


def details_of(call: LoggedCall) -> tuple[str, list[list[int]]] | None:
    """Return what does not fit the record: the kind and the value of a row of `details`."""
    if call.name in ("poll", "ppoll"):
        words = split_arguments(call.arguments)
        watched = poll_set(words[0]) if words else []
        if len(watched) > 1:
            return "pollfds", [[fd, events] for fd, events in watched]
    return None
