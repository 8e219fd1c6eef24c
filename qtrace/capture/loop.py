"""The ptrace loop: wait for a stop, say what it is, act on it, let the tracee run on.

What it guarantees: one record a call, from entry to exit, in the order in which the kernel reported
the ends; every thread and process that comes out of the tree is followed; signals and stops reach
the program as they would without a tracer. Two hot stops a call (seccomp entry, syscall exit) are
handled in `run` itself; all else has a method of its own.

Why not python-ptrace's own loop: with more than one tracee it polls each and sleeps up to half a
second. Why `__WNOTHREAD`: other threads of this process run programs (py-spy) whose exit is theirs.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

from qtrace.capture import procfs, ptrace_calls
from qtrace.capture.callhooks import HAS_HEAD, CallHooks
from qtrace.capture.hot_stops import HotStops, OpenCall, OpenCalls
from qtrace.capture.memory import MemoryReader
from qtrace.capture.procfs import ImageKind
from qtrace.capture.ptrace_calls import (
    CONT,
    DETACH,
    EVENT_CLONE,
    EVENT_EXEC,
    EVENT_FORK,
    EVENT_SECCOMP,
    EVENT_STOP,
    EVENT_VFORK,
    GET_SYSCALL_INFO,
    INFO_ENTRY,
    INFO_EXIT,
    INFO_SECCOMP,
    LISTEN,
    SYSCALL,
    resume,
    syscall_words,
)
from qtrace.capture.tracees import Tracees, tgid_of
from qtrace.model import i386
from qtrace.model.records import CALL_STRUCT, CallFlag
from qtrace.model.syscalls import AUDIT_ARCH, Architecture, number_of

_WAIT_FLAGS = ptrace_calls.WALL | 0x20000000  # __WALL | __WNOTHREAD
_SYSCALL_STOP = (signal.SIGTRAP | 0x80) << 8 | 0x7F
_SECCOMP_STOP = EVENT_SECCOMP << 16 | signal.SIGTRAP << 8 | 0x7F
_HOT_STOPS = frozenset({_SYSCALL_STOP, _SECCOMP_STOP})
_GROUP_STOPS = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
_RESTARTS = frozenset({-512, -513, -514, -516})
"""ERESTARTSYS and its kin (include/linux/errno.h): the kernel's word to itself, that the call was
interrupted and may be made again. No program ever sees them."""
_UNFINISHED, _RESTARTED, _KILLED = int(CallFlag.UNFINISHED), int(CallFlag.RESTARTED), int(CallFlag.KILLED)
_COMPAT = int(CallFlag.COMPAT)
_SHORT_TIME = 1 << 16
"""Beside a call's flags: the times of this 32-bit call are of 32 bits too. Never stored."""
_KERNEL_SENT = 0x80  # si_code SI_KERNEL: a terminal's Ctrl-C

_JOB_STOP_NS = 300_000_000
"""So long the other processes of a job may take to stop after its root has."""
_FORGET_NS = 10_000_000_000

WAKE_SIGNAL = signal.SIGURG
"""Ignored by default, so one that comes too early or too late does no harm."""


class Loop:
    """Traces one tree of processes until it is gone."""

    def __init__(
        self,
        tracees: Tracees,
        hooks: CallHooks,
        emit: Callable[[bytes], None],
        lifecycle: Callable[[int, int, int, str, int | None, dict[str, object] | None], None],
        machine: Architecture,
        every_call: bool = False,
        hot: HotStops | None = None,
    ) -> None:
        """Make a loop that has no tracee yet.

        Args:
            tracees: The registry.
            hooks: What to read at which call.
            emit: Takes a packed record.
            lifecycle: Takes (time_ns, pid, tid, event, value, detail).
            machine: Whose numbers the calls have.
            every_call: Stop at every call (PTRACE_SYSCALL), where there is no seccomp filter.
            hot: Handles the hot stops in place of `run`, where it can: of a program that was started with a filter,
                and is never let go.
        """
        self.tracees = tracees
        self.hooks = hooks
        self.emit = emit
        self.lifecycle = lifecycle
        self.hot = hot
        self.open_calls: dict[int, OpenCall] | OpenCalls = {} if hot is None else hot.open_calls
        """Calls in progress, by tid. Others may read a copy."""
        self.interrupted: dict[int, OpenCall] = {}
        """Calls that a signal or a stop has interrupted and that may go on."""
        self.interrupted_at: dict[int, int] = {}
        self._stops = 0
        self.exit_status: dict[int, int] = {}
        """Raw wait status of ended thread group leaders that are still asked for."""
        self.every_call = every_call
        self.run_on = SYSCALL if every_call else CONT
        self.wanted: frozenset[int] = frozenset()
        """With every_call: the numbers to record; others pass."""
        self.root = 0
        self.begun = not every_call
        """With every_call the calls between fork and exec are seen, and are not the program's."""
        self.hold_interrupts = threading.Event()
        """Set while a Ctrl-C from the terminal is not to reach the program yet."""
        self.interrupt_seen: Callable[[], None] | None = None
        """Called when a terminal's SIGINT is about to reach a tracee."""
        self.held: dict[int, int] = {}
        """Tracees held in the stop before a signal, and that signal."""
        self._machine_word = AUDIT_ARCH[machine]
        self._restart_number = number_of("restart_syscall", machine)
        self._clone, self._clone3 = number_of("clone", machine), number_of("clone3", machine)
        # x86_64: clone(flags, stack, ptid, ctid, tls); aarch64 has tls before ctid (clone(2)).
        self._tls_place = 5 if machine is Architecture.X86_64 else 4
        self._execs = {number_of("execve", machine), number_of("execveat", machine)}
        self._soon: deque[Callable[[], None]] = deque()
        self.seized: set[int] = set()
        """Tracees that were running when they were seized and have not stopped yet."""
        self._skip: set[int] = set()
        """Tracees inside a call that is not recorded (with every_call)."""
        self._group_stopped: set[int] = set()
        self._thread: int | None = None
        self.letting_go = False
        self.stop_asked_ns = 0
        """When the terminal's Ctrl-Z came; 0 when it is done with."""
        self._let_go: set[int] = set()
        self._memory = MemoryReader()
        self._seen_stops: deque[tuple[int, int]] = deque()
        """Hot stops that have been seen and not been handled yet."""

    # --- the hot path ----------------------------------------------------------------------------

    def run(self) -> None:
        """Handle stops until no tracee is left."""
        clock = time.monotonic_ns
        waitpid = self._in_order if self.hot is None else self._wait
        if self.hot is not None:
            self.hooks.prepare(self.hot, self._machine_word)
        entry_hooks, exit_hooks = self.hooks.entry, self.hooks.exit
        open_calls, pid_of, emit = self.open_calls, self.tracees.pid_of, self.emit
        pack, words_of, result = CALL_STRUCT.pack, ptrace_calls.CALL_WORDS.tolist, ptrace_calls.RESULT
        run_on, interrupted = self.run_on, self.interrupted
        ptrace, info, info_bytes = ptrace_calls.quick, ptrace_calls.INFO_POINTER, ptrace_calls.INFO_BYTES
        architecture, usual, kind = ptrace_calls.ARCHITECTURE, self._machine_word, ptrace_calls.KIND
        adopt = self._adopt if self.hot is not None else None
        self._thread = threading.get_ident()
        while True:
            try:
                tid, status = waitpid(-1, _WAIT_FLAGS)
            except ChildProcessError:
                return
            now = clock()
            if not tid:
                continue
            self._stops += 1
            if status == _SECCOMP_STOP:
                if ptrace(GET_SYSCALL_INFO, tid, info_bytes, info) <= 0 or kind[0] != INFO_SECCOMP:
                    continue  # it has died, and another thread may have its id
                pid = pid_of.get(tid)
                if pid is None or interrupted or architecture[0] != usual:
                    self._entry_slowly(tid, now)
                    continue
                call = words_of()
                hook = entry_hooks.get(call[0])
                head = hook(tid, pid, call, now) if hook is not None else None
                open_calls[tid] = (now, call, 0, 0) if head is None else (now, call, HAS_HEAD, head)
                ptrace(SYSCALL, tid, 0, 0)
            elif status == _SYSCALL_STOP:
                begun = open_calls.get(tid)
                if begun is None or self.every_call:
                    self._syscall_stop_slowly(tid, now)
                    if self.letting_go and self._is_over():
                        return
                    continue
                if ptrace(GET_SYSCALL_INFO, tid, info_bytes, info) <= 0 or kind[0] != INFO_EXIT:
                    continue
                ret = result[0]
                start, call, flags, head = begun
                if ret in _RESTARTS:
                    del open_calls[tid]
                    interrupted[tid] = begun
                    self.interrupted_at[tid] = now
                    ptrace(run_on, tid, 0, 0)
                    continue
                pid = pid_of[tid]
                hook2 = exit_hooks.get(call[0])
                if hook2 is not None:
                    found = hook2(tid, pid, call, ret, now)
                    if found is not None:
                        flags, head = flags | HAS_HEAD, found
                # It runs on while its record is packed.
                ptrace(run_on, tid, 0, 0)
                nr, a0, a1, a2, a3, a4, a5 = call
                emit(pack(start, now - start, tid, pid, nr, flags, ret, a0, a1, a2, a3, a4, a5, head))
                del open_calls[tid]
                if adopt is not None:
                    adopt(tid, pid)  # a thread that has made a call, and lives, may make many
            else:
                self._other(tid, status, now)
                if (self.letting_go or not pid_of) and self._is_over():
                    return

    def _in_order(self, pid: int, options: int) -> tuple[int, int]:
        """Do what waitpid(2) does, in the order of the stops as far as that can be known.

        It tells of the oldest child first: of many that stop all the time, the younger would wait for ever. So
        all stops that there are are taken at once. Others than the hot ones are not kept: until it is
        handled, a thread may have ended, and another one may have its id.
        """
        if self._seen_stops:
            return self._seen_stops.popleft()
        found = os.waitpid(pid, options)
        while found[1] in _HOT_STOPS:
            after = os.waitpid(pid, options | os.WNOHANG)
            if not after[0]:
                break
            self._seen_stops.append(found)
            found = after
        if not self._seen_stops or found[1] not in _HOT_STOPS:
            return found
        self._seen_stops.append(found)
        return self._seen_stops.popleft()

    def _wait(self, pid: int, options: int) -> tuple[int, int]:
        """Do what waitpid(2) does; of hot stops, return those only that the library cannot handle."""
        assert self.hot is not None
        return self.hot.wait(options, bool(self.interrupted))

    def _adopt(self, tid: int, pid: int) -> None:
        if self.hot is not None and tid not in self.hot.places:
            self.hooks.hand_over(self.hot, tid, pid)

    @property
    def stops(self) -> int:
        """How many stops there have been. For any thread."""
        return self._stops + (self.hot.handled if self.hot is not None else 0)

    def _is_over(self) -> bool:
        # Not only ECHILD ends the loop: the caller may have children that outlive the program. One of the
        # program whose birth was not told yet is a tracee, though the loop knows nothing of it.
        if not self._let_go.issuperset(self.tracees.pid_of):
            return False
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True  # neither tracees nor children: looking through all of /proc takes 20 ms
        me = threading.get_native_id()
        return all(procfs.tracer_of(pid, tid) != me for pid in procfs.all_pids() for tid in procfs.thread_ids(pid))

    # --- calls, the slow way ---------------------------------------------------------------------

    def _entry_slowly(self, tid: int, now: int) -> None:
        """An entry of a new thread, of a 32-bit program, or while some call is interrupted."""
        call, flags = self._call_at_entry(tid)
        if call is None:
            self._run_on(tid, self.run_on)
        else:
            self._enter(tid, call, flags, now)

    def _call_at_entry(self, tid: int) -> tuple[list[int] | None, int]:
        """The call that the last `syscall_words` described, in the machine's numbers; None if it has none there."""
        call, word = ptrace_calls.CALL_WORDS.tolist(), ptrace_calls.ARCHITECTURE[0]
        if word == self._machine_word:
            return call, 0
        if word != i386.AUDIT_ARCH_I386:
            return None, 0
        native = i386.native_call(call[0], call[1:], lambda address, size: self._memory(tid, address, size))
        return native, _COMPAT | (_SHORT_TIME if call[0] in i386.SHORT_TIMES else 0)

    def _enter(self, tid: int, call: list[int], flags: int, now: int) -> None:
        pid = self._known(tid, now)
        before = self.interrupted.pop(tid, None)
        if before is not None:
            self._go_on_or_end(tid, pid, before, call)
        if tid not in self.open_calls:
            hook = self.hooks.entry.get(call[0])
            head = hook(tid, pid, call, now) if hook is not None else None
            if flags & _SHORT_TIME:
                flags ^= _SHORT_TIME
                head = self.hooks.short_duration(tid, call)
            self.open_calls[tid] = (now, call, flags, 0) if head is None else (now, call, flags | HAS_HEAD, head)
        self._run_on(tid, SYSCALL)

    def _go_on_or_end(self, tid: int, pid: int, before: OpenCall, call: list[int]) -> None:
        """An interrupted call is made again: the same wait. Or the program went on to another."""
        start, old, flags, head = before
        at = self.interrupted_at.pop(tid, start)
        if call[0] == self._restart_number or call == old:
            self.open_calls[tid] = (start, old, flags | _RESTARTED, head)
        else:
            self._store(tid, pid, (start, old, flags, head), at, -512)

    def _syscall_stop_slowly(self, tid: int, now: int) -> None:
        """A syscall stop where every call stops, or one whose entry was not seen."""
        if not syscall_words(tid) or not ptrace_calls.KIND[0]:
            return
        if ptrace_calls.KIND[0] == INFO_ENTRY:
            call, flags = self._call_at_entry(tid)
            self.begun = self.begun or (call is not None and call[0] in self._execs)
            if call is not None and self.begun and call[0] in self.wanted:
                self._enter(tid, call, flags, now)
            else:
                self._end_interrupted(tid, now)
                self._skip.add(tid)
                self._run_on(tid, SYSCALL)
            return
        begun = self.open_calls.pop(tid, None)
        self._skip.discard(tid)
        ret = ptrace_calls.RESULT[0]
        if self.letting_go and self._waits_again(tid):
            ret = -514
        if begun is not None:
            self._exit_slowly(tid, begun, ret, now)
        self._run_on(tid, self.run_on)

    def _exit_slowly(self, tid: int, begun: OpenCall, ret: int, now: int) -> None:
        pid = self._known(tid, now)
        if ret in _RESTARTS:
            self.interrupted[tid] = begun
            self.interrupted_at[tid] = now
            return
        start, call, flags, head = begun
        hook = self.hooks.exit.get(call[0])
        found = hook(tid, pid, call, ret, now) if hook is not None else None
        if found is not None:
            flags, head = flags | HAS_HEAD, found
        self._store(tid, pid, (start, call, flags, head), now, ret)

    def _end_interrupted(self, tid: int, now: int) -> None:
        before = self.interrupted.pop(tid, None)
        if before is not None:
            at = self.interrupted_at.pop(tid, now)
            self._store(tid, self._known(tid, now), before, at, -512)

    def _store(self, tid: int, pid: int, begun: OpenCall, end: int, ret: int, more: int = 0) -> None:
        start, call, flags, head = begun
        self.emit(packed(tid, pid, start, end, call, flags | more, ret, head))

    def _waits_again(self, tid: int) -> bool:
        """Whether a wait that the tracer's own interrupt has ended is made again."""
        process = self.tracees.processes.get(self.tracees.pid_of.get(tid, 0))
        native = process is not None and process.kind is ImageKind.NATIVE
        return native and self._machine_word == AUDIT_ARCH[Architecture.X86_64] and ptrace_calls.wait_again(tid)

    def in_progress(self, tid: int, call: list[int], now: int, compat: bool = False) -> None:
        """A call that a tracee was inside of when it was attached to: the attach interrupts it."""
        if call[0] in self.wanted:
            self.interrupted[tid] = (now, call, CallFlag.AT_ATTACH | (_COMPAT if compat else 0), 0)
            self.interrupted_at[tid] = now

    def _known(self, tid: int, now: int) -> int:
        pid = self.tracees.pid_of.get(tid)
        if pid is None:
            pid = tgid_of(tid)
            self.tracees.born(tid, pid, None, None, now, announced=False)
        return pid

    # --- all other stops -------------------------------------------------------------------------

    def _other(self, tid: int, status: int, now: int) -> None:
        if not os.WIFSTOPPED(status):
            self._ended(tid, status, now)
            return
        event, number = status >> 16, status >> 8 & 0xFF
        if event == EVENT_SECCOMP or number == signal.SIGTRAP | 0x80:
            self._syscall_stop_slowly(tid, now)
        elif event in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE):
            self._made(tid, event, now)
        elif event == EVENT_EXEC:
            self._execed(tid, now)
        elif event == EVENT_STOP:
            self._stopped(tid, number, now)
        else:
            self._signalled(tid, number, now)

    def _run_on(self, tid: int, how: int, number: int = 0) -> None:
        if self.letting_go:
            # A tracee in a group stop stays in it (ptrace(2), PTRACE_DETACH): the stop is its own.
            resume(tid, DETACH, number)
            self._let_go.add(tid)
        else:
            resume(tid, how, number)

    def let_go(self) -> None:
        """Detach from every tracee, each in the state it is in. From the loop's thread only.

        A tracee has to be stopped to be let go. Its call in progress goes on by itself.
        """
        self.letting_go = True
        self.release_held()
        for tid in list(self.tracees.pid_of):
            if ptrace_calls.request(ptrace_calls.INTERRUPT, tid) < 0:
                continue

    def how(self, tid: int) -> int:
        """How a tracee has to run on: to the exit of its call, if it is in one."""
        return SYSCALL if tid in self.open_calls or self.every_call else CONT

    def _made(self, tid: int, event: int, now: int) -> None:
        child = ptrace_calls.event_message(tid)
        if child > 0:
            parent = self._known(tid, now)
            call, is_compat = self._making(tid)
            flags, tls = self._clone_facts(tid, call) if call is not None else (0, None)
            if is_compat:
                tls = None  # the number of a segment, and no thread pointer
            if event != EVENT_CLONE:
                pid = child
            elif call is not None:
                pid = parent if flags & _CLONE_THREAD else child
            else:
                pid = tgid_of(child)
            lives = self.tracees.born(child, pid, tid, tls, now)
            if pid != parent and lives:
                self._forget_shared(pid)
                (self.hooks.shares if flags & _CLONE_FILES else self.hooks.forked)(parent, pid)
            facts = {"flags": flags, "thread": pid == parent, "call": _EVENT_WORDS[event], "pid": pid}
            self.lifecycle(now, parent, tid, "clone", child, facts)
        self._run_on(tid, self.how(tid))

    def _making(self, tid: int) -> tuple[list[int] | None, bool]:
        """The call with which a thread makes another one, if it is known, and whether it is one of 32 bits."""
        begun = self.open_calls.get(tid)
        return (begun[1], bool(begun[2] & _COMPAT)) if begun is not None else (None, False)

    def _forget_shared(self, pid: int) -> None:
        if self.hot is not None:
            self.hot.drop_process(pid)

    def _clone_facts(self, tid: int, call: list[int]) -> tuple[int, int | None]:
        """Flags and thread pointer of the clone that a thread is inside of."""
        if call[0] == self._clone3:
            raw = self._memory(tid, call[1], min(call[2], 64))
            if len(raw) < 64:
                return 0, None
            words = struct.unpack("<8Q", raw)  # struct clone_args: flags first, tls eighth
            return words[0], words[7] if words[0] & _CLONE_SETTLS else None
        if call[0] != self._clone:
            return 0, None
        return call[1], call[self._tls_place] if call[1] & _CLONE_SETTLS else None

    def _execed(self, tid: int, now: int) -> None:
        old = ptrace_calls.event_message(tid)
        self._forget_shared(tid)
        begun = self.open_calls.pop(old, None) if old > 0 else None
        for ended in self.tracees.execed(tid, old, now):
            if ended != old:
                self._end_open(ended, tid, now)
        if tid != old:
            self._end_open(tid, tid, now)
        if begun is not None:
            self.open_calls[tid] = begun
        self.interrupted.pop(old, None)
        self.hooks.forget(tid)
        process = self.tracees.processes.get(tid)
        facts: dict[str, object] = {"old_tid": old}
        if process is not None:
            facts |= {"argv": list(process.argv), "exe": process.exe}
        self.lifecycle(now, tid, tid, "exec", None, facts)
        self._run_on(tid, self.how(tid))

    def _stopped(self, tid: int, number: int, now: int) -> None:
        """PTRACE_EVENT_STOP: a new tracee, a group stop, or the end of one."""
        pid = self._known(tid, now)
        if number in _GROUP_STOPS:
            if tid not in self._group_stopped:
                self._group_stopped.add(tid)
                self.lifecycle(now, pid, tid, "stop", number, None)
            self._run_on(tid, LISTEN)
            self.stop_if_due()
            return
        if tid in self._group_stopped:
            self._group_stopped.discard(tid)
            self.lifecycle(now, pid, tid, "cont", None, None)
        self.at_interrupt_stop(tid, now)

    def on_job_stop(self, number: int, frame: object) -> None:
        """The tracer itself got a terminal's Ctrl-Z: a handler, in the loop's thread.

        The program decides: it may tidy up before it stops, or not stop at all. Were the tracer
        stopped first, its handler could not run; if it never stopped, the shell would wait on.
        """
        self.stop_asked_ns = time.monotonic_ns()
        self.stop_if_due()

    def stop_if_due(self) -> None:
        """Stop the tracer once the program has stopped at a Ctrl-Z. From the loop's thread only.

        The shell waits for the root alone; the others of the terminal's job get a moment for their
        handlers.
        """
        if not self.stop_asked_ns:
            return
        since_ns = time.monotonic_ns() - self.stop_asked_ns
        if self.root not in self._group_stopped:
            if since_ns > _FORGET_NS:
                self.stop_asked_ns = 0  # it does not stop at Ctrl-Z; a later stop has another cause
            return
        if since_ns >= _JOB_STOP_NS or all(
            pid in self._group_stopped for pid in self.tracees.processes if _is_in_our_group(pid)
        ):
            self.stop_asked_ns = 0
            os.kill(os.getpid(), signal.SIGSTOP)

    def at_interrupt_stop(self, tid: int, now: int) -> None:
        """A tracee has stopped because it is new, was continued, or was asked to; it runs on."""
        if tid in self.seized:
            self.seized.discard(tid)
            self._waits_again(tid)
        self._run_on(tid, self.how(tid))

    def _signalled(self, tid: int, number: int, now: int) -> None:
        pid = self._known(tid, now)
        found = ptrace_calls.signal_info(tid)
        facts: dict[str, object] = {}
        if found is not None:
            facts = {"code": found.code, "pid": found.pid, "uid": found.uid}
            if number == signal.SIGINT and found.code == _KERNEL_SENT and self.interrupt_seen is not None:
                self.interrupt_seen()
        self.lifecycle(now, pid, tid, "signal", number, facts)
        if number == signal.SIGINT and self.hold_interrupts.is_set() and self._from_our_terminal(pid, found):
            self.held[tid] = number
            return
        self._run_on(tid, self.how(tid), number)

    def _from_our_terminal(self, pid: int, found: ptrace_calls.SignalInfo | None) -> bool:
        """Whether a SIGINT is a Ctrl-C that the tracer gets too: not one of a process, or of another terminal."""
        return found is not None and found.code == _KERNEL_SENT and _is_in_our_group(pid)

    def release_held(self) -> None:
        """Let the signals that were held back reach the program. From the loop's thread only."""
        for tid, number in list(self.held.items()):
            del self.held[tid]
            self._run_on(tid, self.how(tid), number)

    def call_soon(self, action: Callable[[], None]) -> None:
        """Have something done in the loop's thread, the only one that may use ptrace.

        The loop waits inside waitpid: a signal brings it out, and the handler does the work.
        """
        self._soon.append(action)
        if self._thread is not None:
            signal.pthread_kill(self._thread, WAKE_SIGNAL)

    def on_wake(self, number: int, frame: object) -> None:
        """Do what was asked for: the handler of `WAKE_SIGNAL`, in the loop's thread."""
        while self._soon:
            self._soon.popleft()()

    # --- ends ------------------------------------------------------------------------------------

    def _ended(self, tid: int, status: int, now: int) -> None:
        pid = self.tracees.pid_of.get(tid, tid)
        self._end_open(tid, pid, now, killed=os.WIFSIGNALED(status))
        if self.hot is not None:
            self.hot.drop_thread(tid)
        self._group_stopped.discard(tid)
        self._skip.discard(tid)
        self.seized.discard(tid)
        self.held.pop(tid, None)
        known = tid in self.tracees.threads
        if self.tracees.gone(tid, status, now):
            self.hooks.forget(pid)
        if tid == self.root:
            self.exit_status[tid] = status
        if known:
            self.lifecycle(now, pid, tid, "exit", status, None)

    def _end_open(self, tid: int, pid: int, now: int, killed: bool = True) -> None:
        """A thread has ended inside of a call: the call never returns."""
        before = self.interrupted.pop(tid, None)
        begun = self.open_calls.pop(tid, None) or before
        self.interrupted_at.pop(tid, None)
        if begun is not None:
            self._store(tid, pid, begun, now, 0, _UNFINISHED | (_KILLED if killed else 0))

    def calls_in_progress(self) -> dict[int, OpenCall]:
        """Return the call that each thread is in. For any thread."""
        return self.open_calls.copy()

    def calls_lately(self) -> dict[int, OpenCall]:
        """Return the calls in progress now or a moment ago, whichever costs less. For any thread."""
        return self.open_calls.copy()

    def calls_interrupted(self) -> dict[int, OpenCall]:
        """Return calls that a signal or a stop has interrupted and that may go on. For any thread."""
        return self.interrupted.copy()

    def threads_stopped(self) -> set[int]:
        """Return the threads in a group stop. For any thread."""
        return self._group_stopped.copy()

    def calls_seen(self) -> int:
        """Return a number that grows with what the program does. For any thread."""
        return self.stops

    def take_turns(self, shares_cpu: bool) -> None:
        """Say whether tracer and tracees share a CPU. For any thread."""
        if self.hot is not None:
            self.hot.take_turns(shares_cpu)

    def take_ended(self) -> None:
        """Hand on the calls that have ended. For any thread."""
        if self.hot is not None:
            self.hot.take_ended()

    def pending(self) -> dict[int, bytes]:
        """Return a packed record for each call in progress: for the writer's thread."""
        return self._packed(self.interrupted.copy(), self.open_calls.copy())

    def _packed(self, *calls: dict[int, OpenCall]) -> dict[int, bytes]:
        now = time.monotonic_ns()
        found = {}
        for some in calls:
            for tid, (start, call, flags, head) in some.items():
                pid = self.tracees.pid_of.get(tid, tid)
                found[tid] = packed(tid, pid, start, now, call, flags | _UNFINISHED, 0, head)
        return found


_CLONE_FILES, _CLONE_THREAD, _CLONE_SETTLS = 0x400, 0x10000, 0x80000
_EVENT_WORDS = {EVENT_FORK: "fork", EVENT_VFORK: "vfork", EVENT_CLONE: "clone"}


def _is_in_our_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == os.getpgrp()
    except ProcessLookupError:
        return False


def packed(tid: int, pid: int, start: int, end: int, call: list[int], flags: int, ret: int, head: int) -> bytes:
    """Return a record of `CALL_FIELDS`."""
    nr, *args = call
    return CALL_STRUCT.pack(start, end - start, tid, pid, nr, flags, ret, *args, head)
