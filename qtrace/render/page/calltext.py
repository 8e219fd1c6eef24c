"""A recorded call in strace's words, from its number, raw arguments and result."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping

from qtrace.model.syscalls import by_name

_FUTEX_OPS: Mapping[int, str] = {
    0: "FUTEX_WAIT",
    1: "FUTEX_WAKE",
    2: "FUTEX_FD",
    3: "FUTEX_REQUEUE",
    4: "FUTEX_CMP_REQUEUE",
    5: "FUTEX_WAKE_OP",
    6: "FUTEX_LOCK_PI",
    7: "FUTEX_UNLOCK_PI",
    8: "FUTEX_TRYLOCK_PI",
    9: "FUTEX_WAIT_BITSET",
    10: "FUTEX_WAKE_BITSET",
    11: "FUTEX_WAIT_REQUEUE_PI",
    12: "FUTEX_CMP_REQUEUE_PI",
    13: "FUTEX_LOCK_PI2",
}
_FUTEX_ARGUMENTS = 6
_FUTEX_PRIVATE, _FUTEX_REALTIME = 128, 256
_CLOCKS: Mapping[int, str] = {0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 7: "CLOCK_BOOTTIME"}
_WAIT_OPTIONS: Mapping[int, str] = {1: "WNOHANG", 2: "WUNTRACED", 4: "WEXITED", 8: "WCONTINUED", 0x1000000: "WNOWAIT"}
_FLOCK_OPS: Mapping[int, str] = {1: "LOCK_SH", 2: "LOCK_EX", 4: "LOCK_NB", 8: "LOCK_UN"}
_ID_TYPES: Mapping[int, str] = {0: "P_ALL", 1: "P_PID", 2: "P_PGID", 3: "P_PIDFD"}
_KERNEL_RESTARTS: Mapping[int, str] = {
    512: "ERESTARTSYS",
    513: "ERESTARTNOINTR",
    514: "ERESTARTNOHAND",
    516: "ERESTART_RESTARTBLOCK",
}
"""Results that only a tracer sees: the call goes on after the signal's handler."""
_LARGEST_ERRNO = 4095
_POINTER_RESULTS = {"mmap"}


def _signed(value: int) -> int:
    # An int argument fills the lower half of its register only; the upper half is undefined.
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >= 1 << 31 else low


def _flags(names: Mapping[int, str]) -> Callable[[int], str]:
    def text(value: int) -> str:
        value &= 0xFFFFFFFF
        found = [name for bit, name in names.items() if value & bit]
        rest = value & ~sum(names)
        return "|".join([*found, *([f"{rest:#x}"] if rest else [])]) or "0"

    return text


def _futex_op(value: int) -> str:
    value &= 0xFFFFFFFF
    name = _FUTEX_OPS.get(value & 127)
    if name is None:
        return f"{value:#x}"
    private = "_PRIVATE" if value & _FUTEX_PRIVATE else ""
    return name + private + ("|FUTEX_CLOCK_REALTIME" if value & _FUTEX_REALTIME else "")


def _signal_name(value: int) -> str:
    try:
        return signal.Signals(_signed(value)).name
    except ValueError:
        return str(_signed(value))


def _pointer(value: int) -> str:
    return f"{value:#x}" if value else "NULL"


def _named(names: Mapping[int, str]) -> Callable[[int], str]:
    return lambda value: names.get(_signed(value), str(_signed(value)))


def _dirfd(value: int) -> str:
    return "AT_FDCWD" if _signed(value) == -100 else str(_signed(value))


_ARGUMENT: Mapping[str, Callable[[int], str]] = {
    **dict.fromkeys(("fd", "int", "pid", "msec"), lambda value: str(_signed(value))),
    **dict.fromkeys(("flags", "hex", "open_flags", "clone_flags"), lambda value: f"{value:#x}" if value else "0"),
    "uint": lambda value: str(value & 0xFFFFFFFF),
    "size": str,
    "mode": lambda value: f"{value & 0o7777:#o}",
    "dirfd": _dirfd,
    "futex_op": _futex_op,
    "signal": _signal_name,
    "clock": _named(_CLOCKS),
    "id_type": _named(_ID_TYPES),
    "wait_options": _flags(_WAIT_OPTIONS),
    "flock_op": _flags(_FLOCK_OPS),
}
"""Kinds of argument that are not pointers; what a pointer points to is not in a recording."""


def _arguments(name: str, args: tuple[int, ...]) -> tuple[str, ...]:
    row = by_name().get(name)
    kinds: tuple[str, ...] = row.args if row else ("hex",) * len(args)
    if name == "futex" and len(args) > 1 and args[1] & 127 in (1, 10):
        kinds = kinds[:3]  # a wake has neither timeout nor second word
    if name == "futex" and len(args) > 1 and args[1] & 127 == 0:
        kinds = kinds[:4]
    shown = [_ARGUMENT.get(kind, _pointer)(value) for kind, value in zip(kinds, args, strict=False)]
    if name == "futex" and len(shown) == _FUTEX_ARGUMENTS and args[-1] & 0xFFFFFFFF == 0xFFFFFFFF:
        shown[-1] = "FUTEX_BITSET_MATCH_ANY"
    return tuple(shown)


def call_text(name: str, args: tuple[int, ...], result: int | None) -> str:
    """Return a call as strace prints it.

    Args:
        name: The call's name; one that the table lacks gets its arguments in hexadecimal.
        args: Raw argument registers.
        result: The raw result, negative errno on failure; None if the call never returned.
    """
    row = by_name().get(name)
    shown = _arguments(name, args)
    if result is None:
        # strace, too, cannot print what the kernel would fill in at the exit.
        known = next((at for at, kind in enumerate(row.args) if kind in ("out", "status")), len(shown)) if row else 0
        text = ", ".join(shown[:known]) + (", " if 0 < known < len(shown) else "")
        return f"{name}({text} <unfinished ...>"
    return f"{name}({', '.join(shown)}) = {result_text(name, result)}"


def result_text(name: str, result: int) -> str:
    """Return a result as strace prints it: ``4``, ``-1 EAGAIN (Resource temporarily unavailable)``."""
    if not -_LARGEST_ERRNO <= result < 0:
        return f"{result:#x}" if name in _POINTER_RESULTS else str(result)
    if -result in _KERNEL_RESTARTS:
        return f"? {_KERNEL_RESTARTS[-result]} (interrupted, to be restarted)"
    return f"-1 {errno.errorcode.get(-result, str(-result))} ({os.strerror(-result)})"
