"""A recording as `strace -f -ttt -T` would have printed it."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TextIO

import numpy as np

from qtrace.export.call_words import CallRow, machine_of, name_of, words_of
from qtrace.export.tables import CHUNK_ROWS, Tables
from qtrace.model.calltext import clone_flags, signal_name
from qtrace.model.records import CallFlag

_NS = 1_000_000_000
_UNFINISHED, _KILLED = int(CallFlag.UNFINISHED), int(CallFlag.KILLED)
_ENDING = frozenset({"exit", "exit_group"})
_RESTARTS = (-516, -514, -513, -512)
_CODES = {
    0: "SI_USER",
    -1: "SI_QUEUE",
    -2: "SI_TIMER",
    -3: "SI_MESGQ",
    -4: "SI_ASYNCIO",
    -6: "SI_TKILL",
    0x80: "SI_KERNEL",
}
"""si_code values that any signal can have (asm-generic/siginfo.h)."""
_CLONE = re.compile(r"clone\(([^,)]*), ([^,)]*)")
_CLONE3 = re.compile(r"clone3\(0x[0-9a-f]+")
_HAVE_SENDER = frozenset({"SI_USER", "SI_QUEUE", "SI_TKILL"})


def write_strace(trace: Tables, out: TextIO) -> None:
    """Write the calls, the signals and the ends of processes in the order of time, each line with its thread's id.

    Calls between whose entry and exit another thread has a line are printed in two, as strace does.
    Times are of the wall clock where the recording knows it.
    """
    _Printer(trace, out).run()


class _Printer:
    def __init__(self, trace: Tables, out: TextIO) -> None:
        self.trace = trace
        self.out = out
        self.machine = machine_of(trace.meta)
        wall = trace.meta.get("start_wall_ns", "")
        self.shift = int(wall) - trace.start_ns if wall.isdigit() else 0
        self.open: tuple[int, CallRow] | None = None
        """The call whose line is not ended yet: nothing has come in between."""
        self.begun: dict[int, CallRow] = {}
        self.flags = {
            (row[2], row[4]): json.loads(row[5] or "{}").get("flags") for row in trace.lifecycle if row[3] == "clone"
        }
        """What each thread was made with, by its maker's id and its own: clone3 has them in memory."""

    def run(self) -> None:
        calls = self.trace.calls
        count = len(calls)
        ends = calls["start_ns"] + calls["dur_ns"]
        returned = (calls["flags"] & _UNFINISHED) == 0
        times = np.concatenate([calls["start_ns"], ends[returned]])
        places = np.concatenate([np.arange(count), -1 - np.flatnonzero(returned)])
        # At the same time: first what ends (a place below zero), then what begins.
        order = np.lexsort((places >= 0, times))
        events = deque(
            sorted([*self._signals(), *self._deaths()], key=lambda event: event[:2])
        )  # a signal, then its death
        for time, place in self._in_order(times, places, order):
            while events and events[0][0] < time:
                self._event(*events.popleft())
            row = calls[place if place >= 0 else -1 - place].item()
            if place >= 0:
                self._entry(row)
            else:
                self._exit(time, row)
        for event in events:
            self._event(*event)
        self._break_off()

    @staticmethod
    def _in_order(
        times: np.ndarray[tuple[int], np.dtype[np.int64]],
        places: np.ndarray[tuple[int], np.dtype[np.int64]],
        order: np.ndarray[tuple[int], np.dtype[np.int64]],
    ) -> Iterator[tuple[int, int]]:
        for first in range(0, len(order), CHUNK_ROWS):
            some = order[first : first + CHUNK_ROWS]
            yield from zip(times[some].tolist(), places[some].tolist(), strict=True)

    def _signals(self) -> Iterator[tuple[int, int, str]]:
        for time, _, tid, event, value, detail in self.trace.lifecycle:
            if event == "signal":
                yield time, tid, f"--- {_siginfo(value, json.loads(detail or '{}'))} ---"
            elif event == "stop" and value is not None:
                yield time, tid, f"--- stopped by {signal_name(value)} ---"

    def _deaths(self) -> Iterator[tuple[int, int, str]]:
        processes, threads = self.trace.processes, self.trace.threads
        said: dict[int, str] = {}
        lives = (processes[name].tolist() for name in ("pid", "exit_code", "exit_signal"))
        for pid, code, number in zip(*lives, strict=True):
            if isinstance(number, int):
                said[pid] = f"+++ killed by {signal_name(number)} +++"
            elif isinstance(code, int):
                said[pid] = f"+++ exited with {code} +++"
        for tid, pid, end in zip(*(threads[name].tolist() for name in ("tid", "pid", "end_ns")), strict=True):
            if isinstance(end, int) and pid in said:
                yield end, tid, said[pid]

    def _prefix(self, tid: int, time_ns: int) -> str:
        at = time_ns + self.shift
        return f"{tid:<5} {at // _NS}.{at % _NS // 1000:06} "

    def _entry(self, row: CallRow) -> None:
        self._break_off()
        self.open = row[2], row
        self.begun[row[2]] = row

    def _exit(self, time: int, row: CallRow) -> None:
        tid = row[2]
        self.begun.pop(tid, None)
        text, result = self._parts(row)
        took = f" <{row[1] // _NS}.{row[1] % _NS // 1000:06}>"
        if self.open is not None and self.open[0] == tid:
            self.open = None
            self.out.write(f"{self._prefix(tid, row[0])}{text} = {result}{took}\n")
            return
        self._break_off()
        name = name_of(row[4], self.machine)
        rest = text[len(self._entry_text(row)) :]
        self.out.write(f"{self._prefix(tid, time)}<... {name} resumed>{rest} = {result}{took}\n")

    def _parts(self, row: CallRow) -> tuple[str, str]:
        text, _, result = self._words(row).rpartition(" = ")
        if row[6] in _RESTARTS:
            result += " (To be restarted)"
        return text, result

    def _words(self, row: CallRow) -> str:
        text = words_of(row, self.machine)
        if text.startswith("clone("):
            return _CLONE.sub(r"clone(child_stack=\2, flags=\1", text, count=1)
        flags = self.flags.get((row[2], row[6])) if text.startswith("clone3(") else None
        return text if flags is None else _CLONE3.sub(f"clone3({{flags={clone_flags(flags)}}}", text, count=1)

    def _entry_text(self, row: CallRow) -> str:
        whole, _ = self._parts(row)
        begun = self._words((*row[:5], row[5] | _UNFINISHED, *row[6:]))
        # What the kernel fills in is known at the exit only: the entry stops before it.
        return begun if whole.startswith(begun) else whole[: whole.find("(") + 1]

    def _break_off(self) -> None:
        """End the line of a call that has not returned before somebody else has a line."""
        if self.open is None:
            return
        tid, row = self.open
        self.open = None
        name = name_of(row[4], self.machine)
        if name in _ENDING:
            self.out.write(f"{self._prefix(tid, row[0])}{name}({row[7] & 0xFFFFFFFF}) = ?\n")
        else:
            text = self._words(row) if row[5] & _UNFINISHED else self._entry_text(row)
            self.out.write(f"{self._prefix(tid, row[0])}{text} <unfinished ...>\n")

    def _event(self, time: int, tid: int, text: str) -> None:
        self._break_off()
        row = self.begun.get(tid)
        if text.startswith("+++") and self.begun.pop(tid, None) is not None and row is not None and row[5] & _KILLED:
            name = name_of(row[4], self.machine)
            self.out.write(f"{self._prefix(tid, time)}<... {name} resumed> <unfinished ...>) = ?\n")
        self.out.write(f"{self._prefix(tid, time)}{text}\n")


def _siginfo(number: int, facts: Mapping[str, object]) -> str:
    """As strace prints it, as far as it is kept: who sent it."""
    name = signal_name(number)
    code = facts.get("code")
    code_name = facts.get("sender") or (_CODES.get(code) if isinstance(code, int) else None)
    if code_name is None:
        return name
    info = f"si_signo={name}, si_code={code_name}"
    if code_name in _HAVE_SENDER:
        info += f", si_pid={facts.get('pid', 0)}, si_uid={facts.get('uid', 0)}"
    return f"{name} {{{info}}}"
