"""A recorded call as strace prints it, with the memory that its record has."""

from __future__ import annotations

import struct
from functools import cache, lru_cache
from typing import Any

from qtrace.model.calltext import call_text, no_memory
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture, by_number

_NS = 1_000_000_000
_TIMESPEC_ARGUMENT = {"futex": 3, "nanosleep": 0, "clock_nanosleep": 2}
_PAIR_ARGUMENT = {"pipe": 0, "pipe2": 0, "socketpair": 3}
_HAS_HEAD, _UNFINISHED = int(CallFlag.HAS_HEAD), int(CallFlag.UNFINISHED)

CallRow = tuple[Any, ...]
"""A record of `qtrace.model.records.CALL_FIELDS` as a tuple."""


def machine_of(meta: dict[str, str]) -> Architecture:
    """Return the recording's architecture; x86_64 where it does not say."""
    try:
        return Architecture(meta.get("architecture", Architecture.X86_64))
    except ValueError:
        return Architecture.X86_64


@cache
def name_of(number: int, machine: Architecture) -> str:
    """Return a call's name by its number."""
    row = by_number(machine).get(number)
    return row.name if row is not None else f"syscall_{number}"


def words_of(row: CallRow, machine: Architecture) -> str:
    """Return a call's text: ``read(3, 0x7f.., 4) = 4``; an unfinished one breaks off."""
    _, _, _, _, number, flags, ret, *args, head = row
    return _words(name_of(number, machine), tuple(args), None if flags & _UNFINISHED else ret, flags & _HAS_HEAD, head)


@lru_cache(maxsize=1 << 16)
def _words(name: str, args: tuple[int, ...], ret: int | None, has_head: int, head: int) -> str:
    if not has_head:
        return call_text(name, args, ret=ret)
    pair = _PAIR_ARGUMENT.get(name)
    if pair is not None and ret == 0:
        text = call_text(name, args, ret=ret)
        return text.replace(f"{args[pair]:#x}" if args[pair] else "NULL", f"[{head & 0xFFFFFFFF}, {head >> 32}]", 1)
    if name == "wait4" and ret is not None and ret > 0 and args[1]:
        return call_text(name, args, ret=ret).replace(f"{args[1]:#x}", f"[{status_words(head & 0xFFFFFFFF)}]", 1)
    place = _TIMESPEC_ARGUMENT.get(name)
    shown = b""
    if place is not None:
        shown = struct.pack("<qq", *divmod(head, _NS)) if args[place] else b""
    elif name in ("poll", "ppoll") and args[1] == 1:
        place, shown = 0, head.to_bytes(8, "little")
    if not shown or place is None:
        return call_text(name, args, ret=ret)
    address = args[place]
    return call_text(
        name, args, lambda at, size: shown[:size] if at == address else no_memory(at, size), ret=ret
    )  # fmt: skip


def status_words(status: int) -> str:
    """Return a raw wait status as strace prints it."""
    from qtrace.model.calltext import signal_name

    if status & 0x7F == 0:
        return f"{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}"
    if status & 0xFF == 0x7F:
        return f"{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal_name(status >> 8 & 0xFF)}}}"
    core = " && WCOREDUMP(s)" if status & 0x80 else ""
    return f"{{WIFSIGNALED(s) && WTERMSIG(s) == {signal_name(status & 0x7F)}{core}}}"
