"""The loop of a tree that was taken by perf: it stops nobody, and reads what a ptrace loop sees in stops."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from qtrace.capture import perf_events, procfs
from qtrace.capture.perf_attach import JoinedTree
from qtrace.capture.perf_loop import PerfLoop
from qtrace.capture.perf_told import Delivered, Ended, Execed, Made, Sent, Told, parsed
from qtrace.model.syscalls import Architecture, number_of

_WAIT_MS = 50
_CHECK_NS = 500_000_000
_TWICE_NS = 100_000
"""Of a thread that was found late each record may come twice, this close together."""
_THREAD_FLAGS = 0x3D0F00
"""What a C library makes threads with (clone(2)); the true flags lie in memory, where clone3 is used."""
_HARMLESS = frozenset({
    signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN,
    signal.SIGTTOU,
})  # fmt: skip
"""Signals whose default action ends nobody."""


class PerfAttachedLoop(PerfLoop):
    """A loop that only reads what the kernel tells."""

    def __init__(
        self,
        *arguments: Any,
        joined: JoinedTree,
        machine: Architecture,
        see: Callable[[int, int, int], None],
        **options: Any,
    ) -> None:
        """See `PerfLoop`; joined has the events of the tree, see looks a descriptor up."""
        super().__init__(*arguments, machine, **options)
        self._joined = joined
        self._see = see
        self._generate, self._deliver = (
            perf_events.tracepoint_id(f"signal/signal_{name}") for name in ("generate", "deliver")
        )
        self._exits = {number_of("exit", machine): False, number_of("exit_group", machine): True}
        self._waiting: list[Told] = []
        self._codes: dict[int, int] = {}
        self._fatal: dict[int, int] = {}
        self._ending: dict[int, Sent] = {}
        """The last signal, of those that may end a process, that one of the tree sent to a process."""
        self._senders: dict[tuple[int, int], int] = {}
        self._missing: set[int] = set()
        self._next_check_ns = 0
        self._last: dict[tuple[object, ...], int] = {}

    def begin(self, now_ns: int) -> None:
        """Enable the events, and tell what is there already."""
        joined = self._joined
        joined.enable()
        enabled_ns = time.monotonic_ns()
        for tid, pid in joined.threads.items():
            member = joined.members[pid]
            if pid not in self.tracees.processes:
                self.tracees.add_root(pid, member.stat.ppid, now_ns)
                for fd in procfs.descriptors(pid):
                    self._see(pid, fd, now_ns)
            self.tracees.born(tid, pid, None, None, now_ns)
            line = procfs.syscall_line(pid, tid)
            call = procfs.parse_numbers(line) if line else None
            known = call is not None and call[0] in self.wanted
            inside = [call[0], *call[1]] if call is not None and known else None
            self.collector.joined(tid, pid, inside, time.monotonic_ns())
        self.collector.all_joined(enabled_ns)

    def run(self) -> None:
        """Follow the tree until it is gone, or is to be let go."""
        self._thread = threading.get_ident()
        poll = select.poll()
        for ring in self._joined.told:
            poll.register(ring.fd, select.POLLIN)
        while self.tracees.threads and not self.letting_go:
            for fd, events in poll.poll(_WAIT_MS):
                if events & (select.POLLHUP | select.POLLERR):
                    poll.unregister(fd)
            self._follow()
            self._notice_ends()
        self._follow()
        self._joined.close()

    def let_go(self) -> None:
        """End the recording: to disable the events, and later to close them, is all that there is to letting go."""
        if not self.letting_go:
            self.letting_go = True
            self.collector.left(time.monotonic_ns())
            self._joined.disable()

    def release_held(self) -> None:
        """Nothing is ever held back."""

    # --- what is told ----------------------------------------------------------------------------

    def _follow(self) -> None:
        horizon = time.monotonic_ns()
        found = self._waiting
        for ring in self._joined.told:
            found += parsed(ring.take(), self._generate, self._deliver)
        found.sort(key=lambda told: told.time_ns)
        self._waiting = [told for told in found if told.time_ns > horizon]
        for told in found[: len(found) - len(self._waiting)]:
            if not self._is_twin(told):
                self._take_note(told)

    def _is_twin(self, told: Told) -> bool:
        if not self._joined.late:
            return False
        key = (type(told), told.tid, getattr(told, "number", 0))
        before = self._last.get(key, -_TWICE_NS)
        self._last[key] = told.time_ns
        return told.time_ns - before < _TWICE_NS

    def _take_note(self, told: Told) -> None:
        if isinstance(told, Made):
            self._made_by(told)
        elif isinstance(told, Ended):
            self._gone(told)
        elif isinstance(told, Execed):
            self._became(told)
        elif isinstance(told, Sent):
            self._senders[told.target, told.number] = told.pid
            if told.number not in _HARMLESS:
                self._ending[told.target] = told
        else:
            self._reached(told)

    def _made_by(self, told: Made) -> None:
        is_thread = told.pid == told.maker_pid
        if told.tid in self.tracees.threads or told.maker_pid not in self.tracees.processes:
            return
        self.tracees.born(told.tid, told.pid, told.maker_tid, None, told.time_ns)
        if not is_thread:
            self.hooks.forked(told.maker_pid, told.pid)
        flags = _THREAD_FLAGS if is_thread else int(signal.SIGCHLD)
        facts: dict[str, object] = {
            "flags": flags,
            "thread": is_thread,
            "call": "clone" if is_thread else "fork",
            "pid": told.pid,
        }
        self.lifecycle(told.time_ns, told.maker_pid, told.maker_tid, "clone", told.tid, facts)

    def _became(self, told: Execed) -> None:
        for ended in self.tracees.execed(told.pid, told.tid, told.time_ns, told.name):
            self.collector.ended(told.time_ns, ended, True)
        self.hooks.forget(told.pid)
        process = self.tracees.processes[told.pid]
        facts: dict[str, object] = {"old_tid": told.pid, "argv": list(process.argv), "exe": process.exe}
        self.lifecycle(told.time_ns, told.pid, told.pid, "exec", None, facts)

    def _reached(self, told: Delivered) -> None:
        facts: dict[str, object] = {"code": told.code}
        number = told.number
        ending = self._ending.pop(told.pid, None)
        if number == signal.SIGKILL and ending is not None:
            # The kernel has a fatal signal take effect as a SIGKILL (complete_signal in kernel/signal.c).
            number = ending.number
        sender = self._senders.pop((told.tid, number), None) or self._senders.pop((told.pid, number), None)
        if sender is not None:
            facts["pid"] = sender
        self.lifecycle(told.time_ns, told.pid, told.tid, "signal", number, facts)
        if told.by_default and number not in _HARMLESS:
            self._fatal.setdefault(told.pid, number)

    def _gone(self, told: Ended) -> None:
        if told.tid not in self.tracees.threads:
            return
        status = self._status_of(told)
        self.collector.ended(told.time_ns, told.tid, status is not None and os.WIFSIGNALED(status))
        if self.tracees.gone(told.tid, status, told.time_ns):
            self.hooks.forget(told.pid)
            self._fatal.pop(told.pid, None)
            self._codes.pop(told.pid, None)
        if told.tid == self.root:
            self.exit_status[told.tid] = status if status is not None else 0
        self.lifecycle(told.time_ns, told.pid, told.tid, "exit", status, None)

    def _status_of(self, told: Ended) -> int | None:
        """Return the raw wait status: as its parent will get it, or by what ended the thread or its process."""
        zombie = procfs.stat(told.pid) if told.tid == told.pid else None
        if zombie is not None and zombie.state == "Z":
            return zombie.exit_status
        if told.pid in self._fatal:
            return self._fatal[told.pid]
        calls = self.collector.open_calls()
        for tid, (_, call, _, _) in calls.items():
            whole = self._exits.get(call[0])
            if whole and self.tracees.pid_of.get(tid) == told.pid:
                self._codes[told.pid] = (call[1] & 0xFF) << 8
        if told.pid in self._codes:
            return self._codes[told.pid]
        own = calls.get(told.tid)
        return (own[1][1] & 0xFF) << 8 if own is not None and own[1][0] in self._exits else None

    def _notice_ends(self) -> None:
        # A thread that ended before its events were enabled, or whose end a full ring has dropped, is told by nobody.
        now = time.monotonic_ns()
        if now < self._next_check_ns:
            return
        self._next_check_ns = now + _CHECK_NS
        missing = {tid for tid, pid in self.tracees.pid_of.items() if not os.path.exists(f"/proc/{pid}/task/{tid}")}
        for tid in missing & self._missing:
            self._gone(Ended(now, tid, self.tracees.pid_of[tid]))
        self._missing = missing
