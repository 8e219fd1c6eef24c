"""Which calls waited, and how short a wait this recording can tell from the cost of tracing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qtrace.decode.arrays import BoolArray, CallArray, IntArray, architecture_of, blocking, chosen, kept
from qtrace.model.records import CallFlag

LEAST_FLOOR_NS, MOST_FLOOR_NS = 20_000, 300_000
USUAL_FLOOR_NS = 100_000
"""Where a recording has too few calls that cannot wait: several times what a stop at entry and exit
costs under the ptrace engine (20 to 40 us)."""
_ENOUGH_SAMPLES = 100
_FLOOR_QUANTILE = 0.95
"""The longest of them are those at which the tracer looked something up, once for each object."""

_EAGAIN, _ETIMEDOUT = -11, -110
_FUTEX_COMMAND = 0x7F
_FUTEX_WAITS = (0, 6, 9, 11, 13)
_FUTEX_WAKES = (1, 3, 4, 5, 7, 10, 12)
_OTHER_WAITS, _OTHER_WAKES = ("futex_wait", "futex_waitv"), ("futex_wake",)
_WAITING_FCNTLS = (7, 38)
"""F_SETLKW and F_OFD_SETLKW: the only commands of fcntl that can wait."""
_WNOHANG = 1
_RESTARTS = (-4, -512, -513, -514, -516)
"""EINTR, and the kernel's own ERESTART codes, which a tracer sees."""


_ERRORS_AFTER_WAITING = (*_RESTARTS, _ETIMEDOUT, -32, -104, -111)
"""Besides those: EPIPE, ECONNRESET, ECONNREFUSED. Other errors are answered at once."""


def futex_waits(calls: CallArray, meta: Mapping[str, str]) -> BoolArray:
    """Return which calls are waits on a futex."""
    found: BoolArray = kept(calls, "futex waits", lambda: _futexes(calls, meta, _FUTEX_WAITS, _OTHER_WAITS))
    return found


def futex_wakes(calls: CallArray, meta: Mapping[str, str]) -> BoolArray:
    """Return which calls wake, or hand over, waiters of a futex."""
    found: BoolArray = kept(calls, "futex wakes", lambda: _futexes(calls, meta, _FUTEX_WAKES, _OTHER_WAKES))
    return found


def _futexes(
    calls: CallArray, meta: Mapping[str, str], commands: tuple[int, ...], others: tuple[str, ...]
) -> BoolArray:
    wanted = np.zeros(128, dtype=bool)
    wanted[list(commands)] = True
    at = np.flatnonzero(chosen(calls, architecture_of(meta), ["futex"]))
    found = chosen(calls, architecture_of(meta), others)
    found[at] = wanted[(calls["a1"][at] & np.uint64(_FUTEX_COMMAND)).astype(np.int64)]
    return found


def floor_of(calls: CallArray, meta: Mapping[str, str]) -> int:
    """Return the shortest interval, in nanoseconds, that is called a wait.

    It is measured on the recording itself: futex calls that cannot wait (wakes, and waits that found
    the word changed) take as long as entry, exit and the tracer's two stops do. 95 % of them are
    shorter than the floor.
    """
    quick: BoolArray = futex_wakes(calls, meta) | (futex_waits(calls, meta) & (calls["ret"] == _EAGAIN))
    quick &= ~unfinished_of(calls)
    spent = calls["dur_ns"][quick]
    if len(spent) < _ENOUGH_SAMPLES:
        return USUAL_FLOOR_NS
    return int(np.clip(np.quantile(spent, _FLOOR_QUANTILE), LEAST_FLOOR_NS, MOST_FLOOR_NS))


def blocked(calls: CallArray, meta: Mapping[str, str], floor_ns: int) -> BoolArray:
    """Return which calls waited.

    A call that has not returned waits, if it can. A futex wait that was woken, timed out or was
    interrupted waited, however short; one that found the word changed (EAGAIN) did not. Of others
    only the time tells: they waited if they took the floor or longer, and did not fail at once.
    """
    architecture = architecture_of(meta)
    futexes = futex_waits(calls, meta)
    every_futex = chosen(calls, architecture, ["futex", "futex_wait", "futex_waitv"])
    unfinished = unfinished_of(calls)
    can = blocking(calls, architecture) & ~every_futex
    found: BoolArray = can & (kept(calls, "dur", lambda: calls["dur_ns"].copy()) >= floor_ns)
    at = np.flatnonzero(found)
    ret = calls["ret"][at]
    found[at] = (ret >= 0) | np.isin(ret, _ERRORS_AFTER_WAITING)
    at = np.flatnonzero(chosen(calls, architecture, ["wait4"]))
    found[at] &= (calls["a2"][at] & np.uint64(_WNOHANG)) == 0
    at = np.flatnonzero(chosen(calls, architecture, ["fcntl"]))
    found[at] &= np.isin(calls["a1"][at], _WAITING_FCNTLS)
    at = np.flatnonzero(futexes)
    found[at] = np.isin(calls["ret"][at], (0, _ETIMEDOUT, *_RESTARTS))
    found |= unfinished & (can | futexes)
    return found


def unfinished_of(calls: CallArray) -> BoolArray:
    """Return which calls had not returned."""
    found: BoolArray = kept(calls, "unfinished", lambda: (calls["flags"] & int(CallFlag.UNFINISHED)) != 0)
    return found


def last_of(keys: IntArray, count: int) -> IntArray:
    """Return the last place of each key, from 0 to `count` - 1; -1 where there is none."""
    found = np.full(count, -1, dtype=np.int64)
    found[keys] = np.arange(len(keys))
    return found
