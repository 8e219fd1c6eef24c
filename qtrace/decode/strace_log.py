"""Make an ordinary recording from a log that strace wrote.

A log has less than a recording: no Python stacks, no levels of pipes, what descriptors were only
with -y, mapped memory and the tree only where strace was told to log those calls. What this one
lacks is said in `meta` (``import_notes``), and so is what was taken for granted instead.

Times are the log's own, counted from one second on; what the log calls by the time of day begins
there as well. The end of a log that breaks off in calls without return is not known: they are taken
to have stood for `QUIET_NS` more, because that is what such a log is made for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qtrace.decode.strace_heads import arguments_of, details_of, head_of
from qtrace.decode.strace_lines import NS, Log, LoggedCall, LoggedEvent
from qtrace.decode.strace_objects import ObjectsSeen, RowSink
from qtrace.decode.strace_tree import Birth, Image, NameOf, Tree, images_of, tree_of
from qtrace.decode.strace_values import number
from qtrace.model.records import CALL_STRUCT, CallFlag
from qtrace.model.syscalls import Architecture, by_name, number_of

QUIET_NS = 10 * NS
BEGIN_NS = NS
LONG_NS = 10_000_000
"""Calls that `qtrace record` leaves out (opening, mapping) are kept if they waited so long."""
_TOGETHER_NS = NS
"""Processes that SIGKILL ends within this of each other were ended by one hand."""
_SENDING = frozenset({"kill", "tgkill", "pidfd_send_signal"})
_ENDING = frozenset({"SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP"})
_RESTARTS = {"ERESTARTSYS": -512, "ERESTARTNOINTR": -513, "ERESTARTNOHAND": -514, "ERESTART_RESTARTBLOCK": -516}
_SENDER = re.compile(r"si_code=(\w+)(?:, si_pid=(\d+))?(?:, si_uid=(\d+))?")
_O_EXCL = 0o200
_MASK = (1 << 64) - 1
_MACHINE = Architecture.X86_64


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a log."""

    calls: int
    processes: int
    notes: tuple[str, ...]
    """What the log lacks, and what was taken for granted, a sentence each."""


def import_log(
    log: Log,
    add_row: RowSink,
    add_calls: Callable[[bytes], None],
    set_meta: Callable[..., None],
    name_of: NameOf,
) -> Imported:
    """Write a log as a recording.

    Args:
        log: The log.
        add_row: Takes a row of a table of the recording.
        add_calls: Takes packed calls.
        set_meta: Takes facts.
        name_of: Gives a command line's name for people.
    """
    return _Import(log, add_row, add_calls, set_meta, name_of).run()


@dataclass(frozen=True, slots=True)
class _Happening:
    time_ns: int
    rank: int
    apply: Callable[..., None]
    arguments: tuple[Any, ...]


class _Import:
    def __init__(
        self,
        log: Log,
        add_row: RowSink,
        add_calls: Callable[[bytes], None],
        set_meta: Callable[..., None],
        name_of: NameOf,
    ) -> None:
        self.log = log
        self.add_calls = add_calls
        self.set_meta = set_meta
        self.name_of = name_of
        first = min([call.start_ns for call in log.calls[:1]] + [event.time_ns for event in log.events[:1]], default=0)
        self.shift = BEGIN_NS - first
        self.tree: Tree = tree_of(log)
        self.add_row = add_row
        self.objects = ObjectsSeen(self._shifted_row)
        self.ends: dict[int, tuple[int, int | None]] = {}
        """When each thread ended, and its raw wait status if it is known."""
        self.notes: list[str] = []
        self.kept = 0

    def _shifted_row(self, table: str, row: Any) -> None:
        self.add_row(table, (row[0] + self.shift, *row[1:]))

    def run(self) -> Imported:
        self._find_ends()
        latest = {call.tid: call for call in self.log.calls}
        stands = any(tid not in self.ends and _is_open(call) for tid, call in latest.items())
        last = max([self.log.last_ns, *(call.end_ns or 0 for call in self.log.calls)])
        self.end_ns = last + (QUIET_NS if stands else 0)
        images = images_of(self.log, self.tree)
        self._processes(images)
        self._threads()
        self._lifecycle(images)
        self._replay()
        self._calls()
        self._say(stands)
        self._facts(images)
        processes = len({self.tree.pid(tid) for tid in self.tree.first_ns})
        return Imported(self.kept, processes, tuple(self.notes))

    # Ends ---------------------------------------------------------------------------------------

    def _find_ends(self) -> None:
        for event in self.log.events:
            if event.what in ("exited", "killed"):
                self.ends[event.tid] = event.time_ns, _status(event)
        for call in self.log.calls:
            # strace -q leaves out the lines that tell of ends.
            if call.name in ("exit", "exit_group") and call.result in ("?", None):
                code = ((number(call.arguments) or 0) & 0xFF) << 8
                pid = self.tree.pid(call.tid)
                every = [tid for tid in self.tree.first_ns if self.tree.pid(tid) == pid]
                for tid in every if call.name == "exit_group" else [call.tid]:
                    self.ends.setdefault(tid, (call.end_ns or call.start_ns, code))

    # Rows ---------------------------------------------------------------------------------------

    def _processes(self, images: dict[int, list[Image]]) -> None:
        for pid, lives in images.items():
            end, status = self._end_of_process(pid)
            for place, image in enumerate(lives):
                following = lives[place + 1].start_ns if place + 1 < len(lives) else end
                code = signal = None
                if status is not None and place == len(lives) - 1:
                    signal = status & 0x7F or None
                    code = None if signal else status >> 8
                name = self.name_of(image.argv) or f"pid {pid}"
                self.add_row(
                    "processes",
                    (
                        pid, place, self.tree.parents.get(pid, 0), name, json.dumps(image.argv), image.exe, 0,
                        image.start_ns + self.shift, None if following is None else following + self.shift, code,
                        signal,
                    ),
                )  # fmt: skip

    def _end_of_process(self, pid: int) -> tuple[int | None, int | None]:
        threads = [tid for tid in self.tree.first_ns if self.tree.pid(tid) == pid]
        if any(tid not in self.ends for tid in threads):
            return None, None
        return max(self.ends[tid][0] for tid in threads), self.ends[pid][1] if pid in self.ends else None

    def _threads(self) -> None:
        for tid, first in self.tree.first_ns.items():
            birth = self.tree.births.get(tid)
            end = self.ends.get(tid, (None, None))[0]
            self.add_row(
                "threads",
                (
                    tid, self.tree.pid(tid), None, birth.maker if birth is not None else None,
                    birth.tls if birth is not None else None, first + self.shift,
                    None if end is None else end + self.shift,
                ),
            )  # fmt: skip

    def _lifecycle(self, images: dict[int, list[Image]]) -> None:
        for birth in self.tree.births.values():
            maker = self.tree.pid(birth.maker)
            facts = {"flags": birth.flags, "thread": birth.is_thread, "call": birth.call.name.removesuffix("3"),
                     "pid": self.tree.pid(birth.tid)}  # fmt: skip
            self._event(birth.time_ns, maker, birth.maker, "clone", birth.tid, facts)
        for pid, lives in images.items():
            for image in lives[1:]:
                facts = {"argv": list(image.argv), "exe": image.exe, "old_tid": pid}
                self._event(image.start_ns, pid, pid, "exec", None, facts)
        for tid, (time, status) in self.ends.items():
            self._event(time, self.tree.pid(tid), tid, "exit", status, None)
        for event in self.log.events:
            pid = self.tree.pid(event.tid)
            if event.what == "signal":
                sender = _SENDER.search(event.facts)
                known = (
                    {"sender": sender[1], "pid": int(sender[2] or 0), "uid": int(sender[3] or 0)} if sender else None
                )
                self._event(event.time_ns, pid, event.tid, "signal", _small(event.value), known)
            elif event.what == "stopped":
                self._event(event.time_ns, pid, event.tid, "stop", _small(event.value), None)
        ends = self._end_begins()
        if ends is not None:
            root = self.tree.root
            self._event(ends[0], root, root, "end-begins", None, {"why": ends[1]})
            self.set_meta(end_begins_ns=ends[0] + self.shift)

    def _event(
        self, time_ns: int, pid: int, tid: int, event: str, value: int | None, facts: dict[str, Any] | None
    ) -> None:
        text = json.dumps(facts) if facts is not None else None
        self._shifted_row("lifecycle", (time_ns, pid, tid, event, value, text))

    def _end_begins(self) -> tuple[int, str] | None:
        """When somebody outside began to end the program: its state is that of the moment before."""
        outside = [event for event in self.log.events if self._is_from_outside(event)]
        for event in outside:
            if self.tree.pid(event.tid) == self.tree.root:
                first = min(outside, key=lambda one: (one.time_ns < event.time_ns - _TOGETHER_NS, one.time_ns))
                return self._before(first), event.value
        killed = [event for event in self.log.events if event.what == "killed" and event.value == "SIGKILL"]
        sent = any(call.name in _SENDING and "SIGKILL" in call.arguments for call in self.log.calls)
        if killed and not sent and any(event.tid == self.tree.root for event in killed):
            from_ns = killed[-1].time_ns - _TOGETHER_NS
            return min(event.time_ns for event in killed if event.time_ns >= from_ns) - 1, "SIGKILL"
        return None

    def _is_from_outside(self, event: LoggedEvent) -> bool:
        if event.what != "signal" or event.value not in _ENDING:
            return False
        sender = _SENDER.search(event.facts)
        return sender is None or sender[1] == "SI_KERNEL" or int(sender[2] or 0) not in self.tree.first_ns

    def _before(self, event: LoggedEvent) -> int:
        # A call that the signal interrupts returns in a line before the one that tells of the signal.
        ended = [
            call.end_ns
            for call in self.log.calls
            if call.tid == event.tid
            and call.end_ns is not None
            and event.time_ns - _TOGETHER_NS < call.end_ns <= event.time_ns
            and (call.words.startswith(("ERESTART", "EINTR")))
        ]
        return min(event.time_ns, *ended[-1:]) - 1 if ended else event.time_ns - 1

    # Objects ------------------------------------------------------------------------------------

    def _replay(self) -> None:
        for happening in sorted(self._happenings(), key=lambda one: (one.time_ns, one.rank)):
            happening.apply(*happening.arguments)

    def _happenings(self) -> Iterator[_Happening]:
        for birth in self.tree.births.values():
            yield _Happening(birth.time_ns, 1, self._made, (birth,))
        for call in self.log.calls:
            pid = self.tree.pid(call.tid)
            yield _Happening(call.start_ns, 3, self.objects.entered, (pid, call))
            if call.end_ns is not None:
                yield _Happening(call.end_ns, 2, self.objects.returned, (pid, call))
                if call.name in ("execve", "execveat") and call.result == "0":
                    yield _Happening(call.end_ns, 2, self.objects.execed, (pid,))

    def _made(self, birth: Birth) -> None:
        self.objects.made(self.tree.pid(birth.maker), birth.tid, birth.flags)

    # Calls --------------------------------------------------------------------------------------

    def _calls(self) -> None:
        interrupted: dict[int, tuple[LoggedCall, tuple[int, ...]]] = {}
        packed: list[tuple[int, bytes]] = []
        for call in self.log.calls:
            row = by_name().get(call.name)
            if row is None or number_of(call.name, _MACHINE) is None:
                continue
            args = arguments_of(call, row)
            before = interrupted.pop(call.tid, None)
            flags = 0
            start = call.start_ns
            if before is not None:
                earlier, old = before
                if call.name == "restart_syscall" or (call.name == earlier.name and args == old):
                    args, start, flags = old, earlier.start_ns, int(CallFlag.RESTARTED)
                    call.name, call.start_ns = earlier.name, start
                else:
                    packed.append(self._packed(earlier, old, earlier.end_ns, -512, 0))
            ret = self._ret(call)
            if ret in _RESTARTS.values():
                interrupted[call.tid] = call, args
                continue
            if call.end_ns is None or call.result in (None, "?"):
                packed.append(self._unfinished(call, args, flags))
            elif row.recorded or self._is_kept(call, args):
                packed.append(self._packed(call, args, call.end_ns, ret or 0, flags))
        for call, args in interrupted.values():
            call.end_ns = None
            packed.append(self._unfinished(call, args, int(CallFlag.RESTARTED)))
        packed.sort(key=lambda one: one[0])
        self.add_calls(b"".join(record for _, record in packed))
        self.kept = len(packed)

    @staticmethod
    def _is_kept(call: LoggedCall, args: tuple[int, ...]) -> bool:
        # `qtrace record` keeps the openat that makes a semaphore (O_EXCL), and no mapping or opening else.
        makes = call.name == "openat" and bool(args[2] & _O_EXCL)
        return makes or (call.end_ns or 0) - call.start_ns >= LONG_NS

    @staticmethod
    def _ret(call: LoggedCall) -> int | None:
        if call.result is None:
            return None
        if call.result == "?":
            return _RESTARTS.get(call.words.split(" ")[0])
        value = _signed(number(call.result) or 0)
        if value == -1 and call.words.startswith("E"):
            import errno

            return -int(getattr(errno, call.words.split(" ")[0], 1))
        return value

    def _unfinished(self, call: LoggedCall, args: tuple[int, ...], flags: int) -> tuple[int, bytes]:
        flags |= int(CallFlag.UNFINISHED)
        end = self.end_ns
        if call.tid in self.ends:
            end, status = self.ends[call.tid]
            killed = status is not None and bool(status & 0x7F)
            flags |= int(CallFlag.KILLED) if killed and call.name not in ("exit", "exit_group") else 0
        return self._packed(call, args, end, 0, flags)

    def _packed(
        self, call: LoggedCall, args: tuple[int, ...], end_ns: int | None, ret: int, flags: int
    ) -> tuple[int, bytes]:
        end = call.start_ns if end_ns is None else max(end_ns, call.start_ns)
        head = head_of(call, args, ret)
        if head is not None:
            flags |= int(CallFlag.HAS_HEAD)
        details = details_of(call)
        if details is not None:
            flags |= int(CallFlag.HAS_DETAIL)
            self.add_row("details", (call.tid, call.start_ns + self.shift, details[0], json.dumps(details[1])))
        record = CALL_STRUCT.pack(
            call.start_ns + self.shift, end - call.start_ns, call.tid, self.tree.pid(call.tid),
            number_of(call.name, _MACHINE), flags, ret, *args, (head or 0) & _MASK,
        )  # fmt: skip
        return end, record

    # What is said -------------------------------------------------------------------------------

    def _say(self, stands: bool) -> None:
        log, say = self.log, self.notes.append
        if not log.stamps:
            say("The log has no times: each line counts as one microsecond. Ask strace for them by -ttt -T.")
        elif log.stamps == "relative" and log.several_files:
            say("Times are differences between lines of several files: processes are not on one clock. Use -ttt.")
        elif not log.fine:
            say("The log's times are whole seconds: shorter waits cannot be told. Use -ttt.")
        if not log.durations:
            say("The log does not say how long calls took: those in one line are taken to last until their "
                "thread's next line. Ask strace for durations by -T.")  # fmt: skip
        if not any("<" in call.arguments or call.words.startswith("<") for call in log.calls):
            say("The log does not say what descriptors are: only those whose making it has are known. Use -yy.")
        names = {call.name for call in log.calls}
        if not names & {"clone", "clone3", "fork", "vfork"} and len(self.tree.first_ns) > 1:
            say("The log does not say who made whom: parents are told by waits and SIGCHLD only.")
        if "futex" in names and "mmap" not in names:
            say("The log has no mappings: which lock of one process is which of another is told by address only.")
        if stands:
            say(f"The log breaks off in calls that had not returned: they count as waiting for "
                f"{QUIET_NS // NS} s more.")  # fmt: skip
        if self._partly_seen():
            say("The log lacks the beginning of the program: threads and descriptors may exist that it does not show.")
        if log.skipped:
            say(f"{log.skipped} lines were nothing that strace prints, and were left out.")
        say("A log has no Python lines and no levels of pipes.")

    def _partly_seen(self) -> list[int]:
        """Processes whose beginning, or whose parent's, is not in the log: they may have more than is known."""
        begun = {call.tid for call in self.log.calls if call.name == "execve" and call.result in ("0", None)}
        partly: set[int] = set()
        for pid in sorted(self.tree.first_ns, key=lambda tid: self.tree.first_ns[tid]):
            birth = self.tree.births.get(pid)
            whole = pid in begun if birth is None else self.tree.pid(birth.maker) not in partly
            if self.tree.pid(pid) == pid and not whole:
                partly.add(pid)
        return sorted(partly)

    def _facts(self, images: dict[int, list[Image]]) -> None:
        root = images.get(self.tree.root, [Image(self.tree.root, 0)])[0]
        _, status = self._end_of_process(self.tree.root)
        facts: dict[str, Any] = {
            "architecture": str(_MACHINE),
            "engine": "strace-log",
            "start_ns": BEGIN_NS,
            "end_ns": self.end_ns + self.shift,
            "end_reason": "exit" if status is not None else "log-ends",
            "root_pid": self.tree.root,
            "argv": list(root.argv),
            "target": " ".join(root.argv),
            "import_notes": self.notes,
            "partly_seen": self._partly_seen(),
            "redacted": 0,
            "complete": 1,
        }
        if self.log.stamps == "epoch":
            facts["start_wall_ns"] = BEGIN_NS - self.shift
        if status is not None:
            facts["exit_status"] = status
        self.set_meta(**facts)
        # No events are counted as lost: what is not in a log is not known by number.
        for note in self.notes:
            self.add_row("losses", (BEGIN_NS, self.end_ns + self.shift, 0, "strace log", note))


def _signed(value: int) -> int:
    low = value & _MASK
    return low - ((low >> 63) << 64)


def _is_open(call: LoggedCall) -> bool:
    # One that a signal has interrupted is made again by the kernel.
    return call.end_ns is None or (call.result == "?" and call.words.startswith("ERESTART"))


def _small(word: str) -> int:
    return (number(word) or 0) & 0xFF


def _status(event: LoggedEvent) -> int:
    value = _small(event.value)
    if event.what == "exited":
        return value << 8
    return value | (0x80 if "core dumped" in event.facts else 0)
