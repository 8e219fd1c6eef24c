"""When somebody began to end the program: what stood just before that is the verdict's moment.

qtrace's own endings are stated in the recording. A signal from outside is found here: one that was
delivered to the first process from a sender outside of the tree, and that it did not outlive for
long, or a SIGKILL that nobody of the tree sent (no stop tells of it: only the exit status).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qtrace.decode.json_text import mapping_of
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import number_of

if TYPE_CHECKING:
    from qtrace.decode.decoded import Decoded
    from qtrace.tracefile.reader import TraceReader

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL})
_TOGETHER_NS = 5_000_000_000
"""Who ends a tree by hand ends its processes one after the other, within some seconds; and a program
that has not ended so long after a signal has not been ended by it."""

_RESTARTS = frozenset({-512, -513, -514, -516})
"""ERESTARTSYS and its kin: the kernel's word to itself, which a tracer sees and no program."""
_NOTICED_NS = 20_000_000
"""So late may a recorder on a busy machine notice that a process has ended."""


def stated_end(reader: TraceReader) -> int | None:
    """Return when qtrace, or its user by way of it, began to end the program."""
    begins = [int(row[0]) for row in reader.rows("lifecycle") if row[3] == "end-begins"]
    stated = reader.meta.get("end_begins_ns", "")
    if stated.isdigit():
        begins.append(int(stated))
    return min(begins, default=None)


def outside_end(decoded: Decoded) -> int | None:
    """Return the last moment before a signal from outside began to end the program; None if none did."""
    root = decoded.meta.get("root_pid", "")
    if not root.isdigit():
        return None
    end = next((row[0] for row in decoded.lifecycle if row[3] == "exit" and row[1] == row[2] == int(root)), None)
    if end is None:
        return None
    times = [time for time, _ in _blows(decoded, int(root), end)]
    if not times:
        return None
    # The tree's other processes may have been struck first.
    others = {row[1] for row in decoded.lifecycle} - {int(root)}
    for pid in others:
        died = next((row[0] for row in decoded.lifecycle if row[3] == "exit" and row[1] == row[2] == pid), None)
        if died is not None and abs(died - min(times)) < _TOGETHER_NS:
            times += [time for time, _ in _blows(decoded, pid, died)]
    return min(times) - 1


def _blows(decoded: Decoded, pid: int, died: int) -> Iterator[tuple[int, int]]:
    """Signals from outside that ended a process: time and number."""
    own = {row[1] for row in decoded.lifecycle}
    for time, owner, tid, event, value, detail in decoded.lifecycle:
        # Of a killed process the threads die one after the other, the first of them last.
        if owner != pid or time > died or died - time > _TOGETHER_NS or (event == "signal" and tid != pid):
            continue
        if event == "signal" and value in _ENDING:
            sender = mapping_of(detail).get("pid")
            if sender not in own:
                yield min(time, _struck(decoded, pid, died), _interrupted(decoded, tid, time)), int(value)
        elif event == "exit" and value is not None and value & 0x7F == signal.SIGKILL and not _sent(decoded, pid):
            yield min(time, _struck(decoded, pid, time)), int(signal.SIGKILL)


def _interrupted(decoded: Decoded, tid: int, time_ns: int) -> int:
    """Return when a signal took a thread out of its call, which a log tells before the signal; else its time."""
    calls = decoded.calls
    of_it = calls[calls["tid"] == tid]
    before = of_it[of_it["start_ns"] + of_it["dur_ns"] <= time_ns]
    if not len(before) or int(before["ret"][-1]) not in _RESTARTS:
        return time_ns
    return int(before["start_ns"][-1] + before["dur_ns"][-1])


def _struck(decoded: Decoded, pid: int, died: int) -> int:
    """Return when a killed process was torn out of its calls: others may have seen it before the recorder did.

    A write that was waiting for room returns what it has moved by then, and nobody gets to see it: so the
    last call of a thread that returned just before counts as well.
    """
    import numpy as np

    calls = decoded.calls
    of_it = calls[calls["pid"] == pid]
    ends = of_it["start_ns"] + of_it["dur_ns"]
    torn = (of_it["flags"] & int(CallFlag.KILLED) != 0) & (ends > died - _TOGETHER_NS)
    first = int(np.min(ends[torn], initial=died))
    order = np.lexsort((ends, of_it["tid"]))
    last = np.append(of_it["tid"][order][1:] != of_it["tid"][order][:-1], True)[: len(order)]
    last_ends = ends[order][last]
    return int(np.min(last_ends[last_ends > first - _NOTICED_NS], initial=first))


def _sent(decoded: Decoded, pid: int) -> bool:
    """Whether somebody of the tree sent a process a SIGKILL (or to its group, or to all)."""
    import numpy as np

    calls = decoded.calls
    for name, target, number in (("kill", "a0", "a1"), ("tgkill", "a0", "a2"), ("tkill", "a0", "a1")):
        known = number_of(name, decoded.architecture)
        if known is None:
            continue
        which = (calls["nr"] == known) & (calls[number] == int(signal.SIGKILL))
        aims = calls[target][which].astype(np.uint32).astype(np.int32)
        if np.any((aims == pid) | (aims <= 0)):
            return True
    through_pidfd = number_of("pidfd_send_signal", decoded.architecture)
    return bool(np.any((calls["nr"] == through_pidfd) & (calls["a1"] == int(signal.SIGKILL))))


def has_ended_by_itself(reader: TraceReader) -> bool:
    """Whether every process ended, and nobody from outside had a hand in it: nothing was ever stuck.

    Told by the small tables alone, so that a long recording of a program that finished is explained
    at once. False where that cannot be told so simply.
    """
    rows = reader.rows("processes")
    if stated_end(reader) is not None or reader.damage or not rows or reader.meta.get("complete") != "1":
        return False
    if any(row[8] is None for row in rows) or any(row[10] in _ENDING for row in rows):
        return False
    return not any(row[3] == "signal" and row[4] in _ENDING for row in reader.rows("lifecycle"))
