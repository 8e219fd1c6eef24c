"""Columns of calls, and the few tools that work on millions of them at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from qtrace.model.syscalls import TABLE, Architecture, by_number, number_of

CallArray: TypeAlias = np.ndarray[Any, np.dtype[np.void]]
"""A structured array of `qtrace.model.records.CALL_FIELDS`, in the order of entry."""
IntArray: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
BoolArray: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

_NUMBERS = 1 << 16
_PART = 1 << 16
_LEAST_HASH_BITS, _MOST_HASH_BITS = 14, 22
_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Fibonacci hashing: the golden ratio in 64 bits."""


def architecture_of(meta: Mapping[str, str]) -> Architecture:
    """Return the recording's architecture; x86_64 where it does not say."""
    try:
        return Architecture(meta.get("architecture", Architecture.X86_64))
    except ValueError:
        return Architecture.X86_64


_kept: dict[int, tuple[weakref.ref[CallArray], dict[str, Any]]] = {}


def kept(calls: CallArray, name: str, make: Callable[[], Any]) -> Any:
    """Return what was made of these very calls under this name before, or make it now.

    Columns lie 92 bytes apart in the records: to gather one of ten million takes a tenth of a second,
    and some are asked for dozens of times. They are kept for as long as the array lives, which must
    not be changed after it has been asked.
    """
    known = _kept.get(id(calls))
    if known is None or known[0]() is not calls:
        place = id(calls)
        known = _kept[place] = (weakref.ref(calls, lambda _: _kept.pop(place, None)), {})
    if name not in known[1]:
        known[1][name] = make()
    return known[1][name]


def chosen(calls: CallArray, architecture: Architecture, names: Iterable[str]) -> BoolArray:
    """Return which calls have one of the names."""
    wanted = {number for name in names if (number := number_of(name, architecture)) is not None}
    nr = kept(calls, "nr", lambda: calls["nr"].astype(np.uint16))
    found = np.zeros(len(nr), dtype=bool)
    for number in wanted.intersection(kept(calls, "numbers", lambda: _present(nr))):
        found |= nr == number
    return found


def _present(nr: np.ndarray[Any, np.dtype[np.uint16]]) -> frozenset[int]:
    # Of the hundreds of calls that there are a program makes a dozen: a comparison with each costs less than a table.
    return frozenset(np.flatnonzero(np.bincount(nr, minlength=1)).tolist())


def parts_of(count: int) -> Iterator[slice]:
    """Cut so many rows into parts whose columns stay in the processor's cache while they are worked on."""
    return (slice(begin, begin + _PART) for begin in range(0, count, _PART))


def blocking(calls: CallArray, architecture: Architecture) -> BoolArray:
    """Return which calls can wait."""
    return chosen(calls, architecture, [row.name for row in TABLE if row.blocks])


def names_of(architecture: Architecture) -> tuple[list[str], IntArray]:
    """Return call names, and the place in them by number (as unsigned 16 bits; -1: unknown)."""
    rows = by_number(architecture)
    places = np.full(_NUMBERS, -1, dtype=np.int64)
    names: list[str] = []
    for number, row in rows.items():
        places[number] = len(names)
        names.append(row.name)
    return names, places


def numbered(keys: np.ndarray[Any, np.dtype[np.uint64]]) -> tuple[np.ndarray[Any, np.dtype[np.uint64]], IntArray]:
    """Return the distinct keys, and for each key its place among them.

    What `numpy.unique` with the inverse gives (in no particular order), but without sorting: a few
    thousand distinct keys among ten million are found through a table, in a tenth of the time.
    """
    if not len(keys):
        return keys, np.zeros(0, dtype=np.int64)
    bits = min(max(len(keys).bit_length() + 2, _LEAST_HASH_BITS), _MOST_HASH_BITS)
    slot = ((keys * _HASH_FACTOR) >> np.uint64(64 - bits)).astype(np.int64)
    table = np.zeros(1 << bits, dtype=np.uint64)
    table[slot] = keys
    if not np.array_equal(table[slot], keys):  # two keys in one slot
        distinct, inverse = np.unique(keys, return_inverse=True)
        return distinct, inverse
    used = np.zeros(1 << bits, dtype=bool)
    used[slot] = True
    slots = np.flatnonzero(used)
    place = np.empty(1 << bits, dtype=np.int64)
    place[slots] = np.arange(len(slots))
    return table[slots], place[slot]


def distinct(values: IntArray) -> list[int]:
    """Return the distinct values in order: quick where most follow an equal one, as in columns sorted by them."""
    changes = values[1:] != values[:-1]
    return np.unique(np.concatenate([values[:1], values[1:][changes]])).tolist()  # type: ignore[no-any-return]


def ends_of(calls: CallArray) -> IntArray:
    """Return when each call returned, or the recording's end for one that did not."""
    ends: IntArray = kept(calls, "ends", lambda: calls["start_ns"] + calls["dur_ns"])
    return ends
