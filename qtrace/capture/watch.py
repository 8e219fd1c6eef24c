"""What goes on beside the loop: stacks of long waits, the hang watch, limits, and ending the program.

A thread of its own, so that the loop is never held up. It uses no ptrace (that is the loop's alone):
it reads /proc, runs py-spy, writes rows, and sends signals. What it needs for that is loaded when it is
first needed: the program has long been started then.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from qtrace.capture.computing import Computing
from qtrace.capture.machine import architecture
from qtrace.capture.memory import MemoryReader
from qtrace.capture.placement import BEGINNING_NS
from qtrace.model.behind import needed_memory
from qtrace.model.kinds import STUCK, Certainty
from qtrace.model.syscalls import by_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtrace.capture.loop import Loop
    from qtrace.capture.placement import Placement
    from qtrace.capture.pystacks import PythonThread
    from qtrace.capture.recorder import Judge, RecordOptions
    from qtrace.model.snapshot import Frame, Snapshot
    from qtrace.model.verdict import Verdict
    from qtrace.tracefile.writer import TraceWriter

LONG_WAIT_NS = 50_000_000
_TICK_SECONDS = 0.05
_FIRST_TICK_SECONDS = 0.02
"""So soon where it is still open whether a program stops so often that it should be on one CPU."""
_STACK_SHARE = 0.05
"""py-spy may use this share of the time that has passed, and a second on top: a program whose
threads wake up ten times a second must not be paid for with a CPU."""
_MOST_TRIES = 5
_STACK_BURST_NS = 1_000_000_000
_HOT_CALLS_PER_SECOND = 5_000
"""Of so many calls each waits for the CPUs that py-spy takes: then there is no second on top, and a wait that
lasts gets its stack when py-spy's share has grown so far."""
_PACE_NS = 40_000_000
"""Less than a tick."""
_STACK_NS = 50_000_000
"""What a dump takes, until one has been made."""
_BUSY_STOPS_PER_SECOND = 2_000
_SLOWEST_LOOK_NS = 30_000_000_000
_LOOK_SHARE = 0.01
_LOOK_BURST_NS = 1_000_000_000
"""Looks may have taken this share of the time, and a second on top, when one is to come early."""
_FIRST_LOOK_NS = 150_000_000
"""What a look takes, and more than a later one does."""
_COMPUTING_LOOK_SHARE = 0.0125
"""Of the time that a program computes, looks may take this share: the first comes after twelve seconds."""
_GRACE_NS = 2_000_000_000
"""Between the polite signal and SIGKILL."""


class _Still:
    """How many calls there had been, since when there are no more, and whether that was looked at."""

    __slots__ = ("calls", "is_known", "since_ns")

    calls: int
    since_ns: int
    is_known: bool

    def __init__(self, calls: int, since_ns: int, is_known: bool = False) -> None:
        self.calls = calls
        self.since_ns = since_ns
        self.is_known = is_known


class Watch(threading.Thread):
    """The second thread of a recording."""

    def __init__(
        self,
        writer: TraceWriter,
        loop: Loop,
        options: RecordOptions,
        root: int,
        judge: Judge,
        on_verdict: Callable[[Verdict, bool], None],
        placement: Placement,
        attached: bool = False,
    ) -> None:
        super().__init__(name="qtrace-watch", daemon=True)
        self.ended_because = ""
        self.verdict: Verdict | None = None
        self.notes: list[str] = []
        self._writer = writer
        self._loop = loop
        self._options = options
        self._root = root
        self._judge = judge
        self._on_verdict = on_verdict
        self._over = threading.Event()
        self._placement = placement
        self._attached = attached
        self._let_go = False
        self._interrupts: list[int] = []
        self.from_program: Counter[int] = Counter()
        """Signals that the program is sending to its own process group, and with it to the tracer."""
        self._start_ns = time.monotonic_ns()
        self._names = by_number(architecture())
        self._stack_taken: dict[int, int] = {}
        self._attempts: dict[int, tuple[int, int]] = {}
        """Entry of the wait whose stack is wanted, and how often it was tried, by tid."""
        self._named: set[int] = set()
        """Threads whose name a stack has told."""
        self._stack_ids = 0
        self._stack_spent_ns = 0
        self._last_stack_ns = _STACK_NS
        self._postponed: dict[int, int] = {}
        """Entry of the wait whose stack has to wait for a better time, by tid."""
        self._is_hot = True  # until the calls have been counted for a moment
        self._pace = (self._start_ns, 0)
        """When the calls were counted last, and how many there had been."""
        self._skipped_stacks = 0
        self._last_stops = 0
        self._next_look_ns = self._start_ns + min(options.hang_after_ns // 2, 1_000_000_000)
        self._look_every_ns = max(options.hang_after_ns // 3, 300_000_000)
        self._look_spent_ns = 0
        self._still = _Still(0, self._start_ns)
        self._computing = Computing(root, architecture())
        self._told: set[str] = set()
        self._kill_at_ns: int | None = None
        self._memory = MemoryReader()
        loop.hold_interrupts.set()

    # --- from the loop's thread ------------------------------------------------------------------

    def on_interrupt(self, number: int, frame: object) -> None:
        """The tracer itself got SIGINT, SIGTERM or SIGHUP: a handler, in the loop's thread."""
        if self.from_program[number]:
            return
        self._interrupts.append(number)

    def finish(self) -> None:
        """Wait for the thread to end: no tracee is left."""
        self._over.set()
        if self.is_alive():
            self.join()

    # --- the thread ------------------------------------------------------------------------------

    def run(self) -> None:
        """Look every 50 ms until the program is gone, and a bit more often at first."""
        self._placement.keep_out()
        self._start_ns = time.monotonic_ns()
        while not self._over.wait(self._tick_seconds()) and not self._let_go:
            try:
                self._turn(time.monotonic_ns())
            except Exception as error:  # noqa: BLE001 - a defect here must not keep a program from being ended
                self._note_once(f"the watch had an error ({error!r}); please report it")
        if self._skipped_stacks:
            self._writer.set_meta(stacks_skipped=self._skipped_stacks)

    def _tick_seconds(self) -> float:
        begins = time.monotonic_ns() - self._start_ns < BEGINNING_NS
        return _FIRST_TICK_SECONDS if begins and not self._placement.together else _TICK_SECONDS

    def _turn(self, now: int) -> None:
        threads = [(pid, tid) for tid, pid in self._loop.tracees.pid_of.copy().items()]
        tracees = self._loop.tracees
        self._placement.tick(self._loop.stops, threads, tracees.ever - len(tracees.processes))
        self._loop.take_turns(self._placement.shares_cpu)
        if self._loop.stop_asked_ns:
            self._loop.call_soon(self._loop.stop_if_due)
        if self._kill_at_ns is not None:
            self._go_on_ending(now)
            return
        if self._interrupts or (self._attached and self._is_over(now)):
            self._interrupted()
            return
        limit = self._options.timeout_ns
        if limit is not None and now - self._start_ns >= limit:
            self._end("timeout", *self._looked(), signal.SIGTERM)
            return
        self._look_at_pace(now)
        self._stacks_of_long_waits(now)
        if self._has_come_to_rest(now) or now >= self._next_look_ns:
            self._look(now)

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _looked(self) -> tuple[Snapshot | None, Verdict | None]:
        """Look at the tree and judge it; None for what could not be had, with a note."""
        snapshot = None
        try:
            snapshot = self._snapshot()
            return snapshot, self._judge(snapshot)
        except Exception as error:  # noqa: BLE001 - without a verdict the program is still ended, and recorded
            self._note_once(f"no verdict could be found ({error!r}); please report it")
            return snapshot, None

    def _is_over(self, now: int) -> bool:
        limit = self._options.duration_ns
        return limit is not None and now - self._start_ns >= limit

    # --- stacks ----------------------------------------------------------------------------------

    def _look_at_pace(self, now: int) -> None:
        since, before = self._pace
        if now - since >= _PACE_NS:
            seen = self._loop.calls_seen()
            self._is_hot = (seen - before) * 1_000_000_000 > _HOT_CALLS_PER_SECOND * (now - since)
            self._pace = (now, seen)

    def _has_become_hot(self, now: int) -> bool:
        # The calls of the last moment may still be where nobody has looked.
        self._loop.calls_in_progress()
        since, before = self._pace
        seen = self._loop.calls_seen() - before
        return seen * 1_000_000_000 > _HOT_CALLS_PER_SECOND * max(now - since, _PACE_NS)

    def _stacks_of_long_waits(self, now: int) -> None:
        fresh: dict[int, dict[int, int]] = {}
        calls = self._loop.calls_lately()
        for tid in [tid for tid, start in self._postponed.items() if tid not in calls or calls[tid][0] != start]:
            del self._postponed[tid]
            self._skipped_stacks += 1
        for tid, (start, call, _, _) in calls.items():
            if now - start < LONG_WAIT_NS or self._stack_taken.get(tid) == start:
                continue
            pid = self._loop.tracees.pid_of.get(tid)
            if pid is None:
                continue
            if self._attempts.get(tid, (0, 0))[0] != start:
                self._attempts[tid] = (start, 0)
                self._keep_memory(tid, start, call)
            if self._is_python(pid):
                fresh.setdefault(pid, {})[tid] = start
            else:
                self._stack_taken[tid] = start
        for known in (self._stack_taken, self._attempts):
            for gone in [tid for tid in known if tid not in self._loop.tracees.pid_of]:
                del known[gone]
        self._named.intersection_update(self._loop.tracees.pid_of)
        self._is_hot = self._is_hot or (bool(fresh) and self._has_become_hot(now))
        for pid, waits in fresh.items():
            self._take_stacks(pid, waits)

    def _is_python(self, pid: int) -> bool:
        process = self._loop.tracees.processes.get(pid)
        return process is not None and process.exe.rpartition("/")[2].startswith("python")

    def _keep_memory(self, tid: int, start: int, call: list[int]) -> None:
        row = self._names.get(call[0])
        if row is None:
            return
        found = {}
        for address, size in needed_memory(row.name, call[1:]):
            raw = self._memory(tid, address, min(size, 4096)) if address else b""
            if raw:
                found[str(address)] = raw.hex()
        if found:
            self._writer.add_row("details", (tid, start, "memory", json.dumps(found)))

    def _take_stacks(self, pid: int, waits: dict[int, int]) -> None:
        now = time.monotonic_ns()
        share = int((now - self._start_ns) * _STACK_SHARE)
        if self._is_hot and self._stack_spent_ns + self._last_stack_ns > share:
            self._postponed |= waits
            return
        if self._stack_spent_ns > _STACK_BURST_NS + share:
            self._skipped_stacks += sum(1 for tid in waits if not self._attempts[tid][1])
            self._tried(waits)
            return
        from qtrace.capture import pystacks
        from qtrace.capture.perf_events import at_ease

        with at_ease():
            dump = pystacks.dump(pid, list(waits))
        self._last_stack_ns = time.monotonic_ns() - now
        self._stack_spent_ns += self._last_stack_ns
        for tid in waits:
            self._postponed.pop(tid, None)
        now_in = self._loop.calls_in_progress()
        for tid, start in waits.items():
            python = dump.threads.get(tid)
            still = now_in.get(tid)
            if python is not None and still is not None and still[0] == start:
                self._store_stack(pid, tid, start, "long-wait", python.name, python.frames)
                self._stack_taken[tid] = start
        self._name_others(pid, dump.threads)
        self._tried(waits)

    def _name_others(self, pid: int, threads: Mapping[int, PythonThread]) -> None:
        # Threads that never wait long have names and a part in the program too: one stack each tells them.
        now = time.monotonic_ns()
        for tid, python in threads.items():
            if tid not in self._named and tid in self._loop.tracees.pid_of:
                self._store_stack(pid, tid, now, "seen", python.name, python.frames)

    def _tried(self, waits: dict[int, int]) -> None:
        # py-spy can fail on a process that is moving; a wait that goes on is tried again.
        for tid, start in waits.items():
            tries = self._attempts[tid][1] + 1
            self._attempts[tid] = (start, tries)
            if tries >= _MOST_TRIES:
                self._stack_taken[tid] = start

    def _store_stack(
        self, pid: int, tid: int, start: int | None, reason: str, name: str, frames: tuple[Frame, ...]
    ) -> None:
        self._stack_ids += 1
        self._named.add(tid)
        text = json.dumps([_plain_frame(frame, self._options.redact) for frame in frames])
        now = time.monotonic_ns()
        self._writer.add_row("stacks", (self._stack_ids, pid, tid, now, start, reason, name, text))

    # --- hangs -----------------------------------------------------------------------------------

    def _has_come_to_rest(self, now: int) -> bool:
        """Whether all threads have been in calls for `--hang-after`, which they were not at the last look.

        Then the next look comes early, however rare looks have become.
        """
        seen = self._loop.calls_seen()
        if seen != self._still.calls:
            self._still = _Still(seen, now)
            return False
        if self._still.is_known or now - self._still.since_ns < self._options.hang_after_ns:
            return False
        self._still.is_known = True
        calls = self._loop.calls_in_progress()
        rests = all(tid in calls for tid in self._loop.tracees.pid_of.copy())
        return rests and self._look_spent_ns < _LOOK_BURST_NS + _LOOK_SHARE * (now - self._start_ns)

    def _look(self, now: int) -> None:
        seen = self._loop.calls_seen()
        stops, self._last_stops = seen - self._last_stops, seen
        self._next_look_ns = now + self._look_every_ns
        if stops > _BUSY_STOPS_PER_SECOND * self._look_every_ns / 1e9 or not self._may_hang(now):
            return
        only_computes = self._only_computes(now)
        if self._root in self._loop.tracees.threads and now - self._start_ns < self._options.hang_after_ns:
            return  # nobody can have stood for so long yet, and the first look takes 0.15 s of CPU time
        if only_computes:
            return
        self._still.is_known = True
        snapshot, verdict = self._looked()
        self._look_spent_ns += time.monotonic_ns() - now
        if snapshot is None or verdict is None or verdict.kind not in STUCK:
            # An idle server is looked at ever less often, and one that computes still less: a look takes its CPUs.
            computes = snapshot is not None and any(thread.state == "R" for thread in snapshot.threads.values())
            every = (
                max(self._look_every_ns * 3, self._options.hang_after_ns) if computes else self._look_every_ns * 3 // 2
            )
            self._look_every_ns = min(every, _SLOWEST_LOOK_NS)
            if computes:
                self._next_look_ns = now + self._look_every_ns
            return
        self._look_every_ns = max(self._options.hang_after_ns // 3, 300_000_000)
        self._next_look_ns = now + self._look_every_ns
        ends = self._options.end_on_hang and not self._attached
        if verdict.certainty is Certainty.PROVEN and self._holds_the_program(verdict):
            stood = self._stood_for(verdict, now) >= self._options.hang_after_ns
            if ends and stood:
                self._end("hang", snapshot, verdict, signal.SIGTERM)
            elif stood:
                self._tell(snapshot, verdict)
            # Else the next look ends it, and says why: told now, the same would be said twice.
        elif self._waited_long(now):
            self._tell(snapshot, verdict)

    def _only_computes(self, now: int) -> bool:
        """Whether a look can wait, as all compute. Not for ever: one may do so in vain, waiting for a value."""
        threads = [(pid, tid) for tid, pid in self._loop.tracees.pid_of.copy().items()]
        calls = self._loop.calls_in_progress()
        spends = self._look_spent_ns + _FIRST_LOOK_NS > _COMPUTING_LOOK_SHARE * (now - self._start_ns)
        return self._computing.is_all(now, threads, self._loop.calls_seen(), calls) and spends

    def _tell(self, snapshot: Snapshot, verdict: Verdict) -> None:
        if verdict.headline in self._told:
            return
        self._told.add(verdict.headline)
        self._store_snapshot(snapshot, "look")
        self._on_verdict(verdict, False)

    def _may_hang(self, now: int) -> bool:
        if self._root not in self._loop.tracees.threads:
            return True
        return self._root in self._loop.calls_in_progress() or self._root in self._loop.calls_interrupted()

    def _waited_long(self, now: int) -> bool:
        begun = self._loop.calls_in_progress().get(self._root)
        return begun is None or now - begun[0] >= self._options.hang_after_ns

    def _holds_the_program(self, verdict: Verdict) -> bool:
        """Whether it is the program itself that can never go on."""
        root_lives = self._root in self._loop.tracees.threads
        if root_lives and self._root not in {int(tid) for tid in verdict.stuck_tids}:
            return False
        calls = self._loop.calls_in_progress()
        return any(int(wait.tid) in calls for wait in verdict.chain)

    def _stood_for(self, verdict: Verdict, now: int) -> int:
        """Return how long the youngest wait of a chain has lasted."""
        calls = self._loop.calls_in_progress()
        return now - max((calls[int(wait.tid)][0] for wait in verdict.chain if int(wait.tid) in calls), default=now)

    def _snapshot(self) -> Snapshot:
        from qtrace.capture.snapshot import take_snapshot_of

        loop = self._loop
        calls = {tid: (call[0], call[1:]) for tid, (_, call, _, _) in loop.calls_interrupted().items()}
        members = loop.tracees.processes
        return take_snapshot_of(self._root, lambda: list(members), calls=calls, stopped=loop.threads_stopped())

    # --- the end ---------------------------------------------------------------------------------

    def _detach(self) -> None:
        """Let a tree go that was running before: with the verdict of this moment, untouched."""
        now = time.monotonic_ns()
        threads = [(pid, tid) for tid, pid in self._loop.tracees.pid_of.copy().items()]
        self._placement.apart(threads)
        self._loop.call_soon(self._loop.let_go)
        self.ended_because = "detach"
        self._writer.set_meta(end_begins_ns=now, end_reason="detach")
        # The look is taken while the program runs free again: it costs it nothing.
        snapshot, self.verdict = self._looked()
        if snapshot is not None:
            self._store_snapshot(snapshot, "detach")
        self._let_go = True

    def _interrupted(self) -> None:
        if self._attached:
            self._detach()
            return
        # A terminal's Ctrl-C goes to all at once; the loop needs a moment to hold the program's back.
        if self._over.wait(_TICK_SECONDS):
            return
        number = self._interrupts[0]
        self._interrupts.clear()
        snapshot, verdict = self._looked()
        held = bool(self._loop.held)
        self._loop.hold_interrupts.clear()
        self._loop.call_soon(self._loop.release_held)
        # A terminal sends Ctrl-C to everybody; a plain kill only to the tracer.
        polite = 0 if held else number
        self._end("interrupt", snapshot, verdict, polite)

    def _end(self, why: str, snapshot: Snapshot | None, verdict: Verdict | None, polite: int) -> None:
        now = time.monotonic_ns()
        self.ended_because, self.verdict = why, verdict
        self._kill_at_ns = now + _GRACE_NS
        begins = snapshot.time_ns if snapshot is not None else now
        if snapshot is not None:
            self._store_snapshot(snapshot, why)
        self._writer.add_row("lifecycle", (now, self._root, self._root, "end-begins", None, json.dumps({"why": why})))
        self._writer.set_meta(end_begins_ns=begins, end_reason=why)
        self._writer.flush()
        self._loop.hold_interrupts.clear()
        self._loop.call_soon(self._loop.release_held)
        if verdict is not None:
            self._on_verdict(verdict, True)
        if polite == signal.SIGINT:
            _send([self._root], polite)
        elif polite:
            _send(list(self._loop.tracees.processes), polite)

    def _go_on_ending(self, now: int) -> None:
        assert self._kill_at_ns is not None
        if self._interrupts or now >= self._kill_at_ns:
            # A second Ctrl-C is meant.
            self._interrupts.clear()
            _send(list(self._loop.tracees.processes), signal.SIGKILL)

    def _store_snapshot(self, snapshot: Snapshot, reason: str) -> None:
        from qtrace.capture.privacy import for_storing
        from qtrace.model.snapshot_json import dump_snapshot

        self._writer.add_row(
            "snapshots", (snapshot.time_ns, reason, dump_snapshot(for_storing(snapshot, self._options.redact)))
        )
        calls = self._loop.calls_in_progress()
        for thread in snapshot.threads.values():
            if thread.stack:
                begun = calls.get(int(thread.tid))
                start = begun[0] if begun is not None else None
                self._store_stack(int(thread.pid), int(thread.tid), start, "hang", thread.name, thread.stack)


def _plain_frame(frame: Frame, redact: bool) -> dict[str, object]:
    from dataclasses import asdict

    found = asdict(frame)
    # Local variables can be anything; they only serve the snapshot's own analysis.
    del found["variables"]
    if redact:
        found["source"] = ""
    return found


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
