"""Numbers and objects in words, the same in every part of the page."""

from __future__ import annotations

from qtrace.model.kinds import WaitKind
from qtrace.model.phrases import waits_for
from qtrace.model.verdict import NamedObject, Wait

_STEPS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"))


def duration(nanoseconds: float) -> str:
    """Return a duration with three digits and a fitting unit: ``1.25 s``, ``310 µs``."""
    for step, unit in _STEPS:
        if abs(nanoseconds) >= step:
            return f"{digits(nanoseconds / step)} {unit}"
    return f"{nanoseconds:.0f} ns"


def digits(number: float) -> str:
    """Return a number with three significant digits and thousands separated."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: ``1 thread``, ``12 threads``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def short_count(number: float) -> str:
    """Return a large number as a person says it: ``9.8 M``, ``310,000``, ``42``."""
    if number >= 1e9:
        return f"{number / 1e9:.1f} G"
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number:,.0f}"


def object_sentence(target: NamedObject | None) -> str:
    """Return how full an object is, in words; empty where that is unknown or means nothing."""
    if target is None or target.bytes is None:
        return ""
    if target.capacity:
        return f"{target.bytes:,} of {target.capacity:,} bytes"
    return count(target.bytes, "byte")


def wait_sentence(wait: Wait) -> str:
    """Return what a wait is about: "waits for room in the queue pipe (61,500 of 65,536 bytes, ...)"."""
    target = wait.target
    sentence = waits_for(wait.kind, target.label if target is not None else None)
    level = object_sentence(target)
    if level and wait.kind is WaitKind.PIPE_FULL:
        level += ", full for this message"
    return f"{sentence} ({level})" if level else sentence
