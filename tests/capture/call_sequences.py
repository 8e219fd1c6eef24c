"""What each thread of a run called, in order: from strace's log and from a recording, comparable.

Thread ids differ from run to run, so a thread is called by its line of descent: ``0`` is the first
thread of the program, ``0.2`` the third one that it made. Results that are ids of such threads are
told by these names.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qtrace.model.records import CallFlag
from qtrace.model.syscalls import TABLE, Architecture, Trait, by_name, by_number
from qtrace.tracefile.reader import TraceReader

_MAKES = frozenset({"fork", "vfork", "clone", "clone3"})
_TELLS_PID = _MAKES | {"wait4"}
UNKNOWN = "?"
"""The result of a call that never returned."""
RESTART = "ERESTART"
"""The result of a call that a signal handler has interrupted before it did anything."""

RECORDED = tuple(row.name for row in TABLE if row.recorded and row.x86_64 is not None)
"""The calls that are recorded in any case (openat is only with O_EXCL)."""


_OF_32_BITS = {
    "waitpid": "wait4", "_newselect": "select", "fcntl64": "fcntl", "send": "sendto", "recv": "recvfrom",
    "sigsuspend": "rt_sigsuspend", "futex_time64": "futex", "clock_nanosleep_time64": "clock_nanosleep",
    "ppoll_time64": "ppoll", "pselect6_time64": "pselect6", "rt_sigtimedwait_time64": "rt_sigtimedwait",
}  # fmt: skip
"""What strace calls a call of a 32-bit program, and the 64-bit call that does the same."""


@dataclass(frozen=True)
class Made:
    """A call: its name, its first argument where that says something, and what it returned."""

    name: str
    first: int | None
    """The descriptor that it is on; of wait4, -1 where any child will do."""
    result: str


@dataclass
class _Raw:
    tid: int
    name: str
    first: int | None
    result: str
    began: int
    """Where in the log, or when."""


Sequences = dict[str, list[Made]]


def _first(name: str, number: int) -> int | None:
    if name == "wait4":
        return -1 if number == -1 else None
    args = by_name()[name].args
    return number if args and args[0] == "fd" else None


# --- strace's log --------------------------------------------------------------------------------

_LINE = re.compile(r"(\d+) +(.*)")
_BEGIN = re.compile(r"(\w+)\((.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)", re.DOTALL)
_RESULT = re.compile(r".*\) += (\?|0x[0-9a-f]+|-?\d+)(?: (E\w+))?")
_SUPERSEDED = re.compile(r"\+\+\+ superseded by execve in pid (\d+)")


def run_strace(argv: Sequence[str], log: Path, calls: Sequence[str] = RECORDED) -> Sequences:
    """Run a program under strace, and return what each of its threads called.

    Raises:
        subprocess.TimeoutExpired: It did not end within a minute.
    """
    wanted = ",".join(f"?{name}" for name in (*calls, *_OF_32_BITS, "socketcall"))
    command = ["strace", "-f", "-q", "-o", str(log), "-e", f"trace={wanted}", "-s", "0", "--", *argv]
    nothing = subprocess.DEVNULL
    subprocess.run(command, stdin=nothing, stdout=nothing, stderr=nothing, timeout=60, start_new_session=True)
    return by_descent(_raw_of_log(log.read_text(errors="replace")))


def _raw_of_log(text: str) -> list[_Raw]:
    open_calls: dict[int, _Raw] = {}
    ended: list[_Raw] = []
    for place, line in enumerate(text.splitlines()):
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        tid, rest = int(found[1]), found[2]
        superseded = _SUPERSEDED.match(rest)
        resumed = _RESUMED.match(rest)
        if superseded is not None:
            # The exec of a thread that is not the leader goes on under the leader's id, whose own
            # call never returns.
            old = int(superseded[1])
            if tid in open_calls:
                ended.append(open_calls.pop(tid))
            if old in open_calls:
                open_calls[tid] = open_calls.pop(old)
                open_calls[tid].tid = tid
        elif resumed is not None:
            call = open_calls.pop(tid, None)
            if call is not None:
                call.result = _result(resumed[2])
                ended.append(call)
        elif not rest.startswith(("---", "+++")):
            begun = _BEGIN.match(rest)
            name = _OF_32_BITS.get(begun[1], begun[1]) if begun is not None else ""
            if begun is None or name not in RECORDED:
                # It prints calls that it does not know whatever it was asked for, and "???" for one
                # whose thread died before it could look.
                continue
            call = _Raw(tid, name, _first_number(name, begun[2]), UNKNOWN, place)
            if "<unfinished ...>" in rest:
                open_calls[tid] = call
            else:
                call.result = _result(rest)
                ended.append(call)
    ended += open_calls.values()
    return _continued(sorted(ended, key=lambda call: call.began))


def _result(text: str) -> str:
    found = _RESULT.fullmatch(text) or _RESULT.match(text)
    if found is None:
        return UNKNOWN
    if found[2] is not None:
        return RESTART if found[2].startswith("ERESTART") else found[2]
    return str(int(found[1], 0)) if found[1] != "?" else UNKNOWN


def _first_number(name: str, arguments: str) -> int | None:
    found = re.match(r"-?\d+", arguments)
    return _first(name, int(found[0])) if found is not None else None


def _continued(calls: list[_Raw]) -> list[_Raw]:
    """Make one call of an interrupted one and its continuation, as the recording does."""
    kept: list[_Raw] = []
    interrupted: dict[int, _Raw] = {}
    for call in calls:
        before = interrupted.pop(call.tid, None)
        if before is not None and call.name in ("restart_syscall", before.name) and call.first in (before.first, None):
            before.result = call.result
            call = before
        else:
            kept.append(call)
        if call.result == RESTART:
            interrupted[call.tid] = call
    for call in interrupted.values():
        call.result = UNKNOWN  # the signal that interrupted it ended the thread: it never returned
    return kept


# --- a recording ---------------------------------------------------------------------------------


def of_recording(path: Path) -> Sequences:
    """Return what each thread of a recording called."""
    import errno

    names = by_number(Architecture.X86_64)
    calls = []
    with TraceReader(path) as reader:
        for call in reader.calls():
            row = names[int(call["nr"])]
            if Trait.EXTRA in row.traits:
                continue
            ret = int(call["ret"])
            if int(call["flags"]) & CallFlag.UNFINISHED:
                result = UNKNOWN
            elif -4095 <= ret <= -512:
                result = RESTART
            else:
                result = errno.errorcode[-ret] if -512 < ret < 0 else str(ret)
            low = int(call["a0"]) & 0xFFFFFFFF
            first = _first(row.name, low if low < 1 << 31 else low - (1 << 32))
            calls.append(_Raw(int(call["tid"]), row.name, first, result, int(call["start_ns"])))
    return by_descent(calls)


# --- names for threads ---------------------------------------------------------------------------


def by_descent(calls: list[_Raw]) -> Sequences:
    """Return the calls by thread, threads and results told by their line of descent."""
    if not calls:
        return {}
    descent = {calls[0].tid: "0"}
    made: dict[str, int] = defaultdict(int)
    for call in calls:
        # In the order of entry: a thread makes its children after it has been made itself.
        if call.name in _MAKES and call.result.isdigit() and call.result != "0" and call.tid in descent:
            parent = descent[call.tid]
            descent[int(call.result)] = f"{parent}.{made[parent]}"
            made[parent] += 1
    found: Sequences = defaultdict(list)
    for call in calls:
        result = call.result
        thread = descent.get(call.tid, f"stranger {call.tid}")
        if call.name in _TELLS_PID and result.isdigit():
            result = descent.get(int(result), result)
        if call.first == -1 and result in descent.values():
            # Which child ended first is decided by timing; that each is reaped once is not.
            found[f"{thread} reaped"].append(Made(call.name, -1, result))
            result = "a child"
        found[thread].append(Made(call.name, call.first, result))
    for thread in [thread for thread in found if thread.endswith(" reaped")]:
        found[thread].sort(key=lambda call: call.result)
    return dict(found)


def without(sequences: Sequences, names: frozenset[str]) -> Sequences:
    """Return the sequences without some calls."""
    return {thread: [call for call in calls if call.name not in names] for thread, calls in sequences.items()}


def differences(expected: Mapping[str, list[Made]], actual: Mapping[str, list[Made]]) -> list[str]:
    """Return, in words, where two runs part: for each thread the first call that differs."""
    found = []
    for thread in sorted(expected.keys() ^ actual.keys()):
        calls = expected.get(thread) or actual.get(thread) or []
        # One that is ended from outside may or may not have come to its first call, which never returns.
        if any(call.result != UNKNOWN for call in calls):
            found.append(f"thread {thread} is in one only: {calls[:3]}")
    for thread in sorted(expected.keys() & actual.keys()):
        one, other = expected[thread], actual[thread]
        if one == other:
            continue
        at = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        found.append(f"thread {thread}, call {at}: strace {one[at : at + 3]}, recording {other[at : at + 3]}")
    return found
