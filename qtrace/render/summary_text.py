"""Summaries and differences of recordings for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from qtrace.render.wording import count, duration

MOST_SHIFTS = 8
MOST_WAITS = 5

CallsRow = tuple[str, int, int, int, int, int]
"""Name, calls, errors, unfinished, ns, mean_ns."""
ThreadRow = tuple[str, int, list[tuple[str, int]]]
"""Name, length of life, and where it went."""


def summary_text(headline: str, calls: Sequence[CallsRow], threads: Iterable[ThreadRow], width: int = 100) -> str:
    """Return calls by name as `strace -c` has them, and each thread's time, with no newline at the end.

    Args:
        headline: What stands above.
        calls: The table, in the order to print.
        threads: The threads, in the order to print.
        width: Columns; longer lines are cut.
    """
    total = sum(row[4] for row in calls) or 1
    lines = [headline, "", "% time     seconds  usecs/call     calls    errors unfinished call"]
    lines.append(f"{'-' * 6} {'-' * 11} {'-' * 11} {'-' * 9} {'-' * 9} {'-' * 10} {'-' * 16}")
    for name, number, errors, unfinished, spent, mean in calls:
        lines.append(
            f"{100 * spent / total:6.2f} {spent / 1e9:11.6f} {mean // 1000:11} {number:9} {errors or '':>9} "
            f"{unfinished or '':>10} {name}"
        )
    lines.append(f"{'-' * 6} {'-' * 11} {'-' * 11} {'-' * 9} {'-' * 9} {'-' * 10} {'-' * 16}")
    number, errors, unfinished = (sum(int(row[place]) for row in calls) for place in (1, 2, 3))
    spent = sum(row[4] for row in calls)
    lines.append(f"100.00 {spent / 1e9:11.6f} {'':11} {number:9} {errors or '':>9} {unfinished or '':>10} total")
    lines += ["", "time by thread"]
    for name, life, parts in threads:
        shares = ", ".join(
            f"{kind} {100 * spent / max(life, 1):.1f} %" for kind, spent in parts if spent * 1000 >= life
        )
        lines.append(f"{duration(life):>8}  {name}: {shares or 'nothing'}")
    return "\n".join(_cut(line, width) for line in lines)


class WaitWords(Protocol):
    """A wait of one recording: see `qtrace.analyse.differ.WaitSeen`."""

    @property
    def kind(self) -> str:
        """Kind of wait."""

    @property
    def call(self) -> str:
        """The call."""

    @property
    def target(self) -> str:
        """What it is on."""

    @property
    def since_ns(self) -> int:
        """Since the start."""

    @property
    def dur_ns(self) -> int:
        """How long."""

    @property
    def unfinished(self) -> bool:
        """Whether it had not ended."""


class DifferenceWords(Protocol):
    """See `qtrace.analyse.differ.WaitDifference`."""

    @property
    def thread(self) -> str:
        """Its name."""

    @property
    def first(self) -> WaitWords | None:
        """In the first recording."""

    @property
    def second(self) -> WaitWords | None:
        """In the second recording."""


class ShiftWords(Protocol):
    """See `qtrace.analyse.differ.Shift`."""

    @property
    def thread(self) -> str:
        """Its name."""

    @property
    def kind(self) -> str:
        """Kind of wait, or ``running``."""

    @property
    def first_ns(self) -> int:
        """In the first recording."""

    @property
    def second_ns(self) -> int:
        """In the second recording."""


def difference_text(
    lives: Sequence[str],
    least_ns: int,
    waits: Sequence[DifferenceWords],
    shifts: Sequence[ShiftWords],
    width: int = 100,
) -> str:
    """Return what differs between two recordings, with no newline at the end.

    Args:
        lives: A line on each recording.
        least_ns: Waits shorter than this were left out.
        waits: The waits that differ, the earliest first.
        shifts: Where the time went instead, the largest first.
        width: Columns; longer lines are cut.
    """
    lines = [f"{letter} {life}" for letter, life in zip("AB", lives, strict=True)]
    if not waits and not shifts:
        lines += ["", f"No wait of {duration(least_ns)} or longer differs, and no time went elsewhere."]
        return "\n".join(_cut(line, width) for line in lines)
    lines.append("")
    if waits:
        first, *others = waits
        lines += [f"the first wait that differs, in {first.thread}:"]
        lines += [f"  A {_wait_words(first.first)}", f"  B {_wait_words(first.second)}"]
        for one in others[: MOST_WAITS - 1]:
            lines.append(f"then {one.thread}:")
            lines += [f"  A {_wait_words(one.first)}", f"  B {_wait_words(one.second)}"]
        if len(waits) > MOST_WAITS:
            lines.append(f"and {count(len(waits) - MOST_WAITS, 'more wait', 'more waits')} that differ")
    else:
        lines.append(f"no wait of {duration(least_ns)} or longer differs")
    lines += ["", "where the time went instead:"]
    for shift in shifts[:MOST_SHIFTS]:
        change = shift.second_ns - shift.first_ns
        sign = "+" if change >= 0 else "-"
        lines.append(f"  {sign}{duration(abs(change)):>8}  {shift.kind} in {shift.thread} "
                     f"({duration(shift.first_ns)} -> {duration(shift.second_ns)})")  # fmt: skip
    if not shifts:
        lines.append(f"  nowhere by {duration(least_ns)} or more")
    return "\n".join(_cut(line, width) for line in lines)


def _wait_words(wait: WaitWords | None) -> str:
    if wait is None:
        return "no such wait"
    on = f" on {wait.target}" if wait.target else ""
    length = f"{duration(wait.dur_ns)}, not ended" if wait.unfinished else duration(wait.dur_ns)
    return f"at {duration(wait.since_ns)}: {wait.kind}{on} in {wait.call}, {length}"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
