"""The lines of a strace log: which thread, when, which call from entry to exit, which event.

Forms that are read: with and without a pid (``[pid 7] ``, ``7 ``, the end of a file's name under
``-ff``), all kinds of time stamps (-t, -tt, -ttt, -r, none), durations (-T), calls in one line or
in two (unfinished and resumed), calls that the log breaks off in, and lines in which the program's
own output stands in between, as it does on a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

NS = 1_000_000_000
STEP_NS = 1_000
"""What one line takes in a log without times."""
_DAY_NS = 86_400 * NS
_MOST_PID = 1 << 22
_LATEST_SECONDS = 4_000_000_000
"""Later times, and longer durations, are no times: their nanoseconds would not fit a recording."""
_EPOCH_FROM = 100_000_000
"""Seconds from which on a number with a fraction is a time of day since 1970, not a difference."""

_PID = re.compile(r"\s*(?:\[pid\s+(\d+)(?:<[^>]*>)?\]\s*|(\d+)(?:<[^>]*>)?\s+(?=\S))")
_TIME = re.compile(r"\s*(?:(\d\d):(\d\d):(\d\d)(?:\.(\d+))?|(\d+)\.(\d{3,9}))\s+(?:\(\+\s*\d+\.\d+\)\s+)?")
_CALL = re.compile(r"([a-z_][a-z0-9_]*)\(")
_RESUMED = re.compile(r"<\.\.\. ([a-z_0-9]+) resumed>\s?")
_RESULT = re.compile(
    r"\)\s*= (\?|-?\d+|0x[0-9a-f]+)((?:<.*?>(?:\(deleted\))?(?=\s|$))?(?:\s+[^\"\s<][^\"]*?)?)(?:\s+<(\d+\.\d+)>)?\s*$"
)
_UNFINISHED = re.compile(r"\s*<(unfinished|detached) \.\.\.>(?:\)\s*= \?)?\s*$")
_ATTACHED = re.compile(r"(?:strace: |^)Process (\d+) (attached|detached).*$")
_SUFFIX = re.compile(r"\.(\d+)$")


@dataclass(slots=True)
class LoggedCall:
    """A call as the log has it."""

    tid: int
    name: str
    start_ns: int
    line: int
    arguments: str
    """What stands between the brackets; as far as it was printed."""
    entry_arguments: str = ""
    """What had been printed when the call began to wait; empty if it was printed at once."""
    end_ns: int | None = None
    """None: the log does not have its return."""
    result: str | None = None
    """``0``, ``-1``, ``0x7f..``, ``?``; None: the log does not have its return."""
    words: str = ""
    """What stands behind the result: ``EAGAIN (...)``, ``<pipe:[7]>``, ``(Timeout)``."""
    timed: bool = False
    """Whether the log says how long it took."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """A line that is no call."""

    tid: int
    time_ns: int
    what: str
    """``exited``, ``killed``, ``signal``, ``stopped``, ``superseded``, ``detached``."""
    value: str
    """The status, the signal's name or the pid."""
    facts: str = ""


@dataclass(slots=True)
class Log:
    """All of a log."""

    calls: list[LoggedCall] = field(default_factory=list)
    """In the order of their first lines."""
    events: list[LoggedEvent] = field(default_factory=list)
    stamps: str = ""
    """``clock`` (-t, -tt), ``epoch`` (-ttt), ``relative`` (-r), or empty."""
    fine: bool = False
    """Whether times have fractions of a second."""
    durations: bool = False
    """Whether any call has its duration (-T)."""
    several_files: bool = False
    last_ns: int = 0
    skipped: int = 0
    """Lines that are nothing that strace prints."""


def made_by(call: LoggedCall) -> int:
    """Return the thread that a call has made; 0 if it has made none."""
    if call.name not in ("clone", "clone3", "fork", "vfork") or not (call.result or "").isdigit():
        return 0
    child = int(call.result or 0)
    return child if child <= _MOST_PID else 0


def log_files(path: Path) -> list[Path]:
    """Return the files of a log: itself, or what ``strace -ff -o`` has made of its name."""
    if path.is_file():
        return [path]
    named = [one for one in path.parent.glob(f"{path.name}.*") if _SUFFIX.search(one.name)]
    return sorted(named, key=lambda one: int(one.name.rpartition(".")[2]))


def read_log(paths: Iterable[Path]) -> Log:
    """Return what the files say, the calls in the order of time."""
    log = Log()
    files = list(paths)
    log.several_files = len(files) > 1
    born: dict[int, int] = {}
    for path in files:
        suffix = _SUFFIX.search(path.name)
        with path.open(encoding="utf-8", errors="backslashreplace") as lines:
            _File(log, int(suffix[1]) if suffix else 0, born).read(lines)
    log.calls.sort(key=lambda call: (call.start_ns, call.line))
    log.events.sort(key=lambda event: event.time_ns)
    _clamp(log.calls)
    return log


def _clamp(calls: list[LoggedCall]) -> None:
    # Durations are rounded: a call has ended before its thread's next one begins.
    following: dict[int, int] = {}
    for call in reversed(calls):
        limit = following.get(call.tid)
        if call.end_ns is not None and limit is not None:
            call.end_ns = max(min(call.end_ns, limit - 1), call.start_ns)
        following[call.tid] = call.start_ns


class _File:
    """Reads one file."""

    def __init__(self, log: Log, tid: int, born: dict[int, int]) -> None:
        self.log = log
        self.tid = tid
        self.born = born
        """When each thread's maker returned: where times are not absolute, its file begins there."""
        self.now = born.get(tid, 0)
        self.days = 0
        self.open: dict[int, LoggedCall] = {}
        self.broken: LoggedCall | None = None
        """A call whose line broke off; the next line may go on with it."""
        self.quick: dict[int, LoggedCall] = {}
        """Calls in one line without a duration, until the thread's next line."""
        self.alive: set[int] = set()
        self.made: set[int] = set()
        """Threads that a call in this file has made."""
        self.named: set[int] = set()
        """Threads that a line was marked with."""
        self.root = tid
        self.line = 0

    def read(self, lines: Iterable[str]) -> None:
        first_call, first_event = len(self.log.calls), len(self.log.events)
        for raw in lines:
            self.line += 1
            text = raw.rstrip("\n")
            if text.strip():
                self._line(text)
        self.log.last_ns = max(self.log.last_ns, self.now)
        self._resolve_root(first_call, first_event)

    def _resolve_root(self, first_call: int, first_event: int) -> None:
        # As long as there is one process only, strace prints no pid.
        if self.tid:
            return
        root = self.root or min(self.named - self.made, default=0)
        said = (call.result or "" for call in self.log.calls if call.name in ("getpid", "gettid") and not call.tid)
        root = root or next((int(word) for word in said if word.isdigit() and 0 < int(word) <= _MOST_PID), 1)
        for call in self.log.calls[first_call:]:
            call.tid = call.tid or root
        for place in range(first_event, len(self.log.events)):
            event = self.log.events[place]
            if not event.tid:
                self.log.events[place] = LoggedEvent(root, event.time_ns, event.what, event.value, event.facts)

    # Prefixes -----------------------------------------------------------------------------------

    def _line(self, text: str) -> None:
        tid, text = self._thread(text)
        text = self._stamp(text)
        if tid is None:
            tid = self._alone()
        self._body(tid, text)

    def _thread(self, text: str) -> tuple[int | None, str]:
        found = _PID.match(text)
        if found is None:
            return None, text
        number = int(found[1] or found[2])
        if number > _MOST_PID:
            whole = f"{number}.000 " if found[2] and number < _LATEST_SECONDS else ""  # -ttt in seconds
            return None, whole + text[found.end() :]
        if self.tid or (found[2] and not self._plausible(text[found.end() :])):
            return None, text
        self.alive.add(number)
        self.named.add(number)
        return number, text[found.end() :]

    @staticmethod
    def _plausible(rest: str) -> bool:
        return bool(_TIME.match(rest) or _CALL.match(rest) or rest.startswith(("<...", "+++", "---")))

    def _alone(self) -> int:
        others = self.alive - {self.root}
        if self.root and self.root not in self.alive and len(others) == 1:
            return next(iter(others))
        return self.tid or self.root

    def _stamp(self, text: str) -> str:
        found = _TIME.match(text)
        if found is None:
            self.now += STEP_NS if not self.log.stamps else 1
            return text.lstrip()
        hours, minutes, seconds, fraction, whole, part = found.groups()
        if whole is not None:
            value = min(int(whole), _LATEST_SECONDS) * NS + int(part.ljust(9, "0"))
            self.log.stamps = self.log.stamps or ("epoch" if int(whole) >= _EPOCH_FROM else "relative")
            self.log.fine = self.log.fine or bool(int(part))
            if self.log.stamps == "relative":
                value = min(self.now + value, _LATEST_SECONDS * NS)
        else:
            self.log.stamps = "clock"
            value = (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * NS + int((fraction or "0").ljust(9, "0"))
            self.log.fine = self.log.fine or fraction is not None
            value += self.days * _DAY_NS
            if value < self.now - _DAY_NS // 2:
                self.days += 1
                value += _DAY_NS
        # Lines stand in the order of what happened: one that has the time of the one before is later.
        self.now = max(value, self.now + 1)
        return text[found.end() :]

    # Bodies -------------------------------------------------------------------------------------

    def _body(self, tid: int, text: str) -> None:
        attached = _ATTACHED.search(text)
        if attached is not None:
            # On a terminal it stands behind the clone that it tells of, which goes on in the next line.
            self._attached(int(attached[1]), attached[2])
            text = text[: attached.start()]
            if not text.strip():
                return
        if text.startswith(("+++ ", "--- ")):
            self._event(tid, text)
            return
        resumed = _RESUMED.match(text)
        if resumed is not None:
            self._resume(tid, resumed[1], text[resumed.end() :])
            return
        named = _CALL.match(text)
        if named is not None:
            self._begin(tid, named[1], text[named.end() :])
        elif self.broken is not None:
            self._go_on(self.broken, text)
        else:
            self.log.skipped += 1

    def _attached(self, tid: int, what: str) -> None:
        (self.alive.add if what == "attached" else self.alive.discard)(tid)
        if what == "attached" and self.log.calls:
            self.made.add(tid)

    def _go_on(self, call: LoggedCall, text: str) -> None:
        # The program's own output, or strace's about a new process, had broken the line.
        waiting = _UNFINISHED.search(text)
        if waiting is not None:
            call.arguments += text[: waiting.start()]
            call.entry_arguments = call.arguments
            self.broken = None
        else:
            call.arguments += text
            self._try_end(call, call.arguments)

    def _begin(self, tid: int, name: str, rest: str) -> None:
        self._end_quick(tid)
        left = self.open.pop(tid, None)
        if left is not None and left is self.broken:
            self.broken = None
        call = LoggedCall(tid, name, self.now, self.line, rest)
        self.log.calls.append(call)
        waiting = _UNFINISHED.search(rest)
        if waiting is not None:
            call.arguments = call.entry_arguments = rest[: waiting.start()]
            self.open[tid] = call
            self.broken = None
        elif not self._try_end(call, rest):
            call.entry_arguments = rest
            self.open[tid] = self.broken = call

    def _resume(self, tid: int, name: str, rest: str) -> None:
        call = self.open.get(tid)
        unnamed = self.open.get(0)
        if call is None and not self.root and unnamed is not None and unnamed.name == name:
            # Now that there are two processes strace says which one it was.
            call, unnamed.tid, self.root = unnamed, tid, tid
            del self.open[0]
        if call is None or call.name != name:
            call = LoggedCall(tid, name, self.now, self.line, "")  # began before the log
            self.log.calls.append(call)
        waiting = _UNFINISHED.search(rest)
        if waiting is not None:
            self.open[tid] = call
            return
        if not self._try_end(call, call.arguments + rest):
            call.arguments += rest
            self.open[tid] = self.broken = call

    def _try_end(self, call: LoggedCall, text: str) -> bool:
        found = _last(_RESULT, text)
        if found is None:
            return False
        self.open.pop(call.tid, None)
        self.broken = None
        call.arguments = text[: found.start()]
        call.result, call.words = found[1], found[2].strip()
        if found[3] is not None:
            call.timed = self.log.durations = True
            call.end_ns = call.start_ns + round(min(float(found[3]), _LATEST_SECONDS // 10) * NS)
        elif call.entry_arguments:
            call.end_ns = self.now
        else:
            call.end_ns = call.start_ns
            self.quick[call.tid] = call
        child = made_by(call)
        if child:
            self.made.add(child)
            self.alive |= {child, call.tid}
            self.born.setdefault(child, call.end_ns)
        return True

    def _end_quick(self, tid: int) -> None:
        # Without a duration all that is known is that it had returned by the thread's next line.
        before = self.quick.pop(tid, None)
        if before is not None:
            before.end_ns = max(self.now - 1, before.start_ns)

    def _event(self, tid: int, text: str) -> None:
        self._end_quick(tid)
        inside = text.strip("+- ")
        words = [*inside.split(), *[""] * 6]
        if inside.startswith("exited with"):
            self._gone(tid, "exited", words[2])
        elif inside.startswith("killed by"):
            self._gone(tid, "killed", words[2], " ".join(words[3:]).strip())
        elif inside.startswith("superseded by execve in pid") and words[5].isdigit():
            self._add(tid, "superseded", words[5])
            left = self.open.pop(int(words[5]), None)
            if left is not None:
                left.tid = tid
                self.open[tid] = left
        elif inside.startswith("stopped by"):
            self._add(tid, "stopped", words[2])
        elif words[0].startswith("SIG"):
            self._add(tid, "signal", words[0], inside.partition(" ")[2])
        else:
            self.log.skipped += 1

    def _gone(self, tid: int, what: str, value: str, facts: str = "") -> None:
        self._add(tid, what, value, facts)
        self.alive.discard(tid or self.root)
        self.open.pop(tid, None)

    def _add(self, tid: int, what: str, value: str, facts: str = "") -> None:
        self.log.events.append(LoggedEvent(tid, self.now, what, value, facts))


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    # The last place where it fits: a string that was written may hold what looks like a result.
    place = text.rfind(")")
    while place >= 0:
        found = pattern.match(text, place)
        if found is not None:
            return found
        place = text.rfind(")", 0, place)
        if place < len(text) - 4096:
            return None
    return None
