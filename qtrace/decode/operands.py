"""What each call was on: one object number a call, for all calls at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qtrace.decode.arrays import BoolArray, CallArray, IntArray, architecture_of, chosen, numbered, parts_of
from qtrace.decode.descriptors import Descriptors, calls_with_descriptor
from qtrace.decode.json_text import list_of, mapping_of
from qtrace.model.records import CallFlag

FUTEX_CALLS = ("futex", "futex_wake", "futex_wait")
_FCNTL_LOCKS = (5, 6, 7, 36, 37, 38)
"""F_GETLK, F_SETLK, F_SETLKW and their F_OFD kin."""
_SLEEPS = ("nanosleep", "clock_nanosleep")
_SIGNAL_WAITS = ("pause", "rt_sigsuspend", "rt_sigtimedwait")
_P_PID = 1
_ADDRESS = (1 << 48) - 1


@dataclass(frozen=True, eq=False)
class Operands:
    """Objects by number, and the number for each call."""

    number: np.ndarray[Any, np.dtype[np.int32]]
    """For each call: which object; -1: none, or several."""
    objects: list[str]
    """Object ids; the first are those of `Descriptors.objects`, with the same numbers."""
    mapping: Mapping[int, str]
    """What a futex word lies in, by object number, where the recorder looked."""


class Words:
    """Which object a futex word is, by process and address."""

    def __init__(self, words: Iterable[tuple[Any, ...]], lifecycle: Iterable[tuple[Any, ...]]) -> None:
        """Take rows of the recording's tables of these names.

        A forked process has its parent's words: shared ones are the same object, private ones lie at
        the same address in another address space. The recorder does not look at them again.
        """
        self._rows: dict[tuple[int, int], list[tuple[int, str, str]]] = {}
        for time, pid, address, object_id, mapping in words:
            self._rows.setdefault((pid, address & _ADDRESS), []).append((time, object_id, mapping or ""))
        for rows in self._rows.values():
            rows.sort()
        self._forked_from: dict[int, tuple[int, int]] = {}
        for time, pid, _, event, value, detail in lifecycle:
            if event == "clone" and value is not None and not mapping_of(detail).get("thread"):
                self._forked_from[value] = (pid, time)

    def history(self, pid: int, address: int) -> list[tuple[int, str, str]]:
        """Return (time, object id, mapping) in the order of time; never empty."""
        found = self._rows.get((pid, address))
        if found:
            return found
        private = f"futex:{pid}:{address:#x}"
        seen = {pid}
        above, before = self._forked_from.get(pid, (None, 0))
        while above is not None and above not in seen:
            seen.add(above)
            known = [row for row in self._rows.get((above, address), ()) if row[0] <= before]
            if known:
                _, object_id, mapping = known[-1]
                return [(0, object_id if object_id.startswith("shared:") else private, mapping)]
            above, before = self._forked_from.get(above, (None, 0))
        return [(0, private, "")]

    def object_at(self, pid: int, address: int, time_ns: int) -> str:
        """Return the object that a word is at a time."""
        history = self.history(pid, address & _ADDRESS)
        return next((row[1] for row in reversed(history) if row[0] <= time_ns), history[0][1])

    def sharers(self) -> dict[str, set[int]]:
        """Return the processes that were seen with each shared word."""
        found: dict[str, set[int]] = {}
        for (pid, _), rows in self._rows.items():
            for _, object_id, _ in rows:
                if object_id.startswith("shared:"):
                    found.setdefault(object_id, set()).add(pid)
        return found


class _Names:
    def __init__(self, objects: list[str]) -> None:
        self.objects = list(objects)
        self.places = {name: place for place, name in enumerate(objects)}

    def number(self, name: str) -> int:
        found = self.places.get(name)
        if found is None:
            found = self.places[name] = len(self.objects)
            self.objects.append(name)
        return found


def operands(
    calls: CallArray,
    meta: Mapping[str, str],
    descriptors: Descriptors,
    words: Words,
    details: Iterable[tuple[Any, ...]] = (),
) -> Operands:
    """Return what each call was on.

    Args:
        calls: All calls in the order of entry.
        meta: The recording's facts.
        descriptors: The replay of the same calls.
        words: Futex words that the recorder looked at.
        details: Rows of the recording's table; poll sets of one descriptor name what was polled.
    """
    architecture = architecture_of(meta)
    number = np.full(len(calls), -1, dtype=np.int32)
    names = _Names(descriptors.objects)
    by_descriptor = chosen(calls, architecture, calls_with_descriptor(architecture))
    for part in parts_of(len(calls)):
        at = np.flatnonzero(by_descriptor[part])
        number[part][at] = _look_up(calls[part], at, "a0", descriptors)
    _file_locks(calls, meta, number, names)
    _polls(calls, chosen(calls, architecture, ("poll", "ppoll")), number, descriptors, details)
    mapping = _futexes(calls, chosen(calls, architecture, FUTEX_CALLS), number, names, words)
    _children(calls, chosen(calls, architecture, ("wait4",)), number, names)
    _waitids(calls, chosen(calls, architecture, ("waitid",)), number, names, descriptors)
    number[chosen(calls, architecture, _SLEEPS)] = names.number("clock")
    _signals(calls, chosen(calls, architecture, _SIGNAL_WAITS), number, names)
    return Operands(number, names.objects, mapping)


def _look_up(calls: CallArray, at: IntArray, column: str, descriptors: Descriptors) -> IntArray:
    """Return the number of the object that the descriptor in a column was; -1: unknown or closed."""
    fd = (calls[column][at] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return descriptors.numbers_at(calls["pid"][at].astype(np.int64), fd, calls["start_ns"][at])


def _file_locks(calls: CallArray, meta: Mapping[str, str], number: np.ndarray[Any, Any], names: _Names) -> None:
    # The lock of a file is an object of its own: holding the file open is not holding its lock.
    architecture = architecture_of(meta)
    locks = chosen(calls, architecture, ["flock"])
    fcntl = np.flatnonzero(chosen(calls, architecture, ["fcntl"]))
    locks[fcntl] = np.isin(calls["a1"][fcntl], _FCNTL_LOCKS)
    for at in np.flatnonzero(locks & (number >= 0)).tolist():
        name = names.objects[number[at]]
        if name.startswith("file:"):
            number[at] = names.number("lock" + name[4:])


def _polls(
    calls: CallArray,
    which: BoolArray,
    number: np.ndarray[Any, Any],
    descriptors: Descriptors,
    details: Iterable[tuple[Any, ...]],
) -> None:
    at = np.flatnonzero(which)
    single = at[(calls["a1"][at] == 1) & ((calls["flags"][at] & int(CallFlag.HAS_HEAD)) != 0)]
    number[single] = _look_up(calls, single, "head", descriptors)
    for place, watched in poll_sets(calls, which & (number < 0), details).items():
        if len(watched) == 1:
            call = calls[place : place + 1]
            fd = np.array([watched[0][0]])
            number[place] = descriptors.numbers_at(call["pid"].astype(np.int64), fd, call["start_ns"])[0]


def poll_sets(
    calls: CallArray, which: BoolArray, details: Iterable[tuple[Any, ...]]
) -> dict[int, list[tuple[int, int]]]:
    """Return (descriptor, events) pairs by the place of the call, for those calls that have the detail."""
    wanted: dict[tuple[int, int], int] = {}
    sets = {(tid, start): value for tid, start, what, value in details if what == "pollfds"}
    if sets:
        for place in np.flatnonzero(which).tolist():
            wanted[int(calls["tid"][place]), int(calls["start_ns"][place])] = place
    return {wanted[key]: _pollfds(value) for key, value in sets.items() if key in wanted}


def _pollfds(text: str | None) -> list[tuple[int, int]]:
    # [[fd, events, ...], ...] or [{"fd": ..., "events": ...}, ...]
    found = []
    for one in list_of(text):
        pair = (one.get("fd"), one.get("events", 1)) if isinstance(one, dict) else one
        if isinstance(pair, list | tuple) and len(pair) > 1 and all(isinstance(part, int) for part in pair[:2]):
            found.append((pair[0], pair[1]))
    return found


def _futexes(
    calls: CallArray,
    which: BoolArray,
    number: np.ndarray[Any, Any],
    names: _Names,
    words: Words,
) -> Mapping[int, str]:
    at = np.flatnonzero(which)
    # User addresses have 47 bits, the highest pid 22: both fit where 17 bits are left for a pid's number.
    pids, pid_number = numbered(calls["pid"][at].astype(np.uint64))
    if len(pids) >= 1 << 16:
        raise OverflowError("more than 65,535 processes used futexes")
    keys, place = numbered(pid_number.astype(np.uint64) << np.uint64(48) | calls["a0"][at] & np.uint64(_ADDRESS))
    mappings: dict[int, str] = {}
    numbers = np.empty(len(keys), dtype=np.int64)
    changing: list[tuple[int, list[tuple[int, str, str]]]] = []
    for row, key in enumerate(keys.tolist()):
        pid, address = int(pids[key >> 48]), key & _ADDRESS
        history = words.history(pid, address)
        numbers[row] = names.number(history[0][1])
        mappings.update((names.number(object_id), mapping) for _, object_id, mapping in history if mapping)
        if len({object_id for _, object_id, _ in history}) > 1:
            changing.append((row, history))
    number[at] = numbers[place]
    for row, history in changing:
        mine = at[place == row]
        when = np.searchsorted([time for time, _, _ in history], calls["start_ns"][mine], side="right")
        ids = np.array([names.number(object_id) for _, object_id, _ in history])
        number[mine] = ids[np.maximum(when - 1, 0)]
    return mappings


def _children(calls: CallArray, which: BoolArray, number: np.ndarray[Any, Any], names: _Names) -> None:
    at = np.flatnonzero(which)
    wanted = calls["a0"][at].astype(np.uint32).view(np.int32)
    for place, child, pid in zip(at.tolist(), wanted.tolist(), calls["pid"][at].tolist(), strict=True):
        number[place] = names.number(f"child:{child}" if child > 0 else f"children:{pid}")


def _waitids(
    calls: CallArray, which: BoolArray, number: np.ndarray[Any, Any], names: _Names, descriptors: Descriptors
) -> None:
    at = np.flatnonzero(which)
    pidfds = _look_up(calls, at, "a1", descriptors)
    for place, pidfd in zip(at.tolist(), pidfds.tolist(), strict=True):
        kind, child, pid = int(calls["a0"][place]), int(calls["a1"][place]), int(calls["pid"][place])
        if kind == _P_PID:
            number[place] = names.number(f"child:{child}")
        elif kind == _P_PID + 2 and pidfd >= 0:
            number[place] = pidfd
        else:
            number[place] = names.number(f"children:{pid}")


def _signals(calls: CallArray, which: BoolArray, number: np.ndarray[Any, Any], names: _Names) -> None:
    for place in np.flatnonzero(which).tolist():
        number[place] = names.number(f"signal:{int(calls['pid'][place])}")
