"""One look for each kind of wait, the same in every figure: a hue, a hatch, and a word.

Hues are those of Okabe and Ito (2008), which people with any colour vision can tell apart; kinds
of one family share the hue and differ in the hatch, so no information rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qtrace.model.kinds import WaitKind


@dataclass(frozen=True, slots=True)
class Look:
    """How one kind of wait is drawn."""

    light: str
    """Fill on a light page, #rrggbb."""
    dark: str
    """Fill on a dark page."""
    hatch: str
    """``none``, ``rise``, ``fall``, ``dots`` or ``bars``."""
    meaning: str
    """For the legend, a few words."""


_VERMILLION = ("#d55e00", "#f0762b")
_SKY = ("#56b4e9", "#56b4e9")
_BLUE = ("#0072b2", "#2f8fd6")
_GREEN = ("#009e73", "#17a67e")
_PURPLE = ("#cc79a7", "#d488b2")
_WINE = ("#7b2a63", "#9c4f86")
_YELLOW = ("#e3c800", "#f0e442")
_ORANGE = ("#e69f00", "#e69f00")
_GREY = ("#9aa3ad", "#707b87")
_INK = ("#4a4f57", "#c9d0d8")

LOOKS: Mapping[WaitKind, Look] = {
    WaitKind.PIPE_FULL: Look(*_VERMILLION, "none", "writes to a pipe without room"),
    WaitKind.SOCKET_FULL: Look(*_VERMILLION, "rise", "writes to a socket without room"),
    WaitKind.PIPE_EMPTY: Look(*_SKY, "none", "reads from an empty pipe"),
    WaitKind.SOCKET_EMPTY: Look(*_SKY, "rise", "reads from a quiet socket"),
    WaitKind.ACCEPT: Look(*_SKY, "dots", "waits for a connection"),
    WaitKind.CONNECT: Look(*_SKY, "bars", "connects"),
    WaitKind.LOCK: Look(*_BLUE, "none", "waits for a lock"),
    WaitKind.SEMAPHORE: Look(*_BLUE, "rise", "waits for a semaphore"),
    WaitKind.CONDITION: Look(*_BLUE, "dots", "waits to be notified"),
    WaitKind.FILE_LOCK: Look(*_BLUE, "bars", "waits for a file lock"),
    WaitKind.THREAD_JOIN: Look(*_PURPLE, "none", "joins a thread"),
    WaitKind.CHILD_EXIT: Look(*_WINE, "none", "waits for a child to exit"),
    WaitKind.GIL: Look(*_YELLOW, "none", "waits for the interpreter lock"),
    WaitKind.POLL: Look(*_GREEN, "none", "polls descriptors"),
    WaitKind.EVENTFD: Look(*_GREEN, "rise", "waits on an eventfd"),
    WaitKind.SIGNAL: Look(*_GREEN, "dots", "waits for a signal"),
    WaitKind.EXTERNAL: Look(*_ORANGE, "none", "waits for the outside"),
    WaitKind.SLEEP: Look(*_GREY, "none", "sleeps"),
    WaitKind.TIMEOUT: Look(*_GREY, "rise", "waits for a timeout"),
    WaitKind.STOPPED: Look(*_INK, "bars", "stopped by a signal"),
}
"""Every kind has one."""
