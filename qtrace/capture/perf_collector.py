"""Empties the ring buffers, makes calls of them, and merges these with the calls that stopped.

A thread of its own waits until a ring is a quarter full, or a moment has passed, and takes what is
there. While the program keeps the rings busy, making calls of it is put off (the CPU is the program's),
but not for long, and not for much memory. Whoever needs to know what is going on right now (the hang
watch) has it done at once: `collect`.

What perf cannot give is memory. Of calls in progress for a while it is read from the waiting process,
which cannot change it: what a poll on one descriptor watches, how long a sleep is, the first bytes of
a write. Such calls have a head as those of the ptrace engine have; short ones have none.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from qtrace.capture import procfs
from qtrace.capture.callhooks import duration_of
from qtrace.capture.memory import MemoryReader
from qtrace.capture.perf_calls import ENTER, EXIT, Array, End, OpenCall, Pairing, records_of
from qtrace.capture.perf_events import hurry
from qtrace.model.futex import FUTEX_COMMAND, FUTEX_WAITS
from qtrace.model.records import CALL_BYTES, CALL_FIELDS, CallFlag
from qtrace.model.syscalls import Architecture, by_number, number_of

if TYPE_CHECKING:
    from qtrace.capture.perf_events import Rings
    from qtrace.capture.perf_hooks import PerfHooks
    from qtrace.capture.tracees import RowSink

_IDLE_MS = 50
"""How old a record may get in a ring that does not fill up."""
_BUSY_BYTES = 1 << 20
"""So much taken at once, or since the last collecting, means that the program is busy."""
_MOST_BYTES = 24 << 20
_MOST_WAITING_BYTES = 96 << 20
"""If so much waits, calls are made of it more slowly than they come: then the rings may overflow."""
_LATEST_NS = 150_000_000
"""Collecting is put off until so much has been taken, or so much time has passed: with the committing
thread's half second, less than one second of calls is only in memory."""
_LONG_NS = 20_000_000
"""A call in progress for so long is worth a look at its memory."""
_CALL = np.dtype(CALL_FIELDS)
_HAS_HEAD = int(CallFlag.HAS_HEAD)
_FOREVER = 1 << 62
_Entry = TypeVar("_Entry")


class Collector(threading.Thread):
    """The thread that reads the rings, and what is known from them."""

    def __init__(
        self,
        rings: Rings,
        emit: Callable[[bytes], None],
        sink: RowSink,
        hooks: PerfHooks,
        machine: Architecture,
    ) -> None:
        """Make a collector; `start` begins.

        Args:
            rings: The rings, not yet enabled or just so.
            emit: Takes packed records in the order of their ends.
            sink: Takes rows of the recording's tables.
            hooks: Looks up what calls are on.
            machine: Whose numbers the calls have.
        """
        super().__init__(name="qtrace-perf", daemon=True)
        self.lost = 0
        """Records that the kernel dropped because a ring was full."""
        self.entered = 0
        """How many calls have begun."""
        self._rings = rings
        self._emit = emit
        self._sink = sink
        self._hooks = hooks
        self._pairing = Pairing(number_of("restart_syscall", machine))
        self._names = {number: row.name for number, row in by_number(machine).items()}
        self._stopped: list[bytes] = []
        self._ends: list[End] = []
        self._held: Array = np.empty(0, _CALL)
        self._lock = threading.Lock()
        self._take_lock = threading.Lock()
        """Held for moments only: the rings are emptied while calls are made of what was taken before."""
        self._due = threading.Event()
        self._over = self._closed = False
        self.foreign: dict[int, list[list[int]]] = {}
        """See `Tracees.foreign`."""
        self._enters: list[bytes] = []
        self._exits: list[bytes] = []
        self._taken_bytes = 0
        self._taken_ns = 0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._collected_ns = time.monotonic_ns()
        self._examined: dict[int, int] = {}
        self._memory = MemoryReader()
        self.add_stopped: Callable[[bytes], None] = self._stopped.append
        """Add the record of a call that stopped: for the loop."""

    # --- from other threads ----------------------------------------------------------------------

    def ended(self, time_ns: int, tid: int, killed: bool) -> None:
        """A thread has ended: the call that it is in never returns."""
        self._ends.append(End(time_ns, tid, killed))

    def open_calls(self) -> dict[int, OpenCall]:
        """Return the calls in progress at this moment, by tid."""
        self.collect()
        return self._pairing.open_calls.copy()

    def interrupted(self) -> dict[int, OpenCall]:
        """Return calls that a signal has interrupted and that may go on."""
        return self._pairing.interrupted.copy()

    def as_collected(self) -> tuple[dict[int, OpenCall], dict[int, OpenCall]]:
        """Return interrupted calls and calls in progress, as of the calls that were passed on last."""
        with self._lock:
            return self._pairing.interrupted.copy(), self._pairing.open_calls.copy()

    def finish(self) -> None:
        """Take what is left, and end: no tracee lives."""
        self._over = True
        os.eventfd_write(self._wake, 1)
        if self.is_alive():
            self.join()
        self.collect(_FOREVER)
        with self._lock:
            self._note_unpaired()
            self._closed = True
            self._rings.close()
            os.close(self._wake)

    # --- the thread ------------------------------------------------------------------------------

    def run(self) -> None:
        """Collect whenever a ring has filled up to its mark, or a moment has passed."""
        hurry()
        collecting = threading.Thread(target=self._run_collecting, name="qtrace-perf-calls", daemon=True)
        collecting.start()
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for ring in self._rings:
            poll.register(ring.fd, select.POLLIN)
        while not self._over:
            ready = poll.poll(_IDLE_MS)
            for fd, events in ready:
                if events & (select.POLLHUP | select.POLLERR) and fd != self._wake:
                    poll.unregister(fd)  # nobody is left whom this event could count
            with self._take_lock:
                if self._taken_bytes < _MOST_WAITING_BYTES:
                    self._take()
            busy = _BUSY_BYTES <= self._taken_bytes < _MOST_BYTES
            if not busy or self._taken_ns - self._collected_ns >= _LATEST_NS:
                self._due.set()
        self._due.set()
        collecting.join()

    def _run_collecting(self) -> None:
        hurry()
        while not self._over:
            self._due.wait()
            self._due.clear()
            self.collect()

    def collect(self, horizon_ns: int | None = None) -> None:
        """Take what the rings hold, and pass on the calls that have ended. For any thread."""
        with self._lock:
            if self._closed:
                return
            with self._take_lock:
                self._take()
                now, self._taken_bytes = self._taken_ns, 0
                taken = _all_of(self._enters), _all_of(self._exits)
            self._collect(*taken, now, now if horizon_ns is None else horizon_ns)

    def _take(self) -> None:
        now = time.monotonic_ns()
        for rings, found in ((self._rings.enters, self._enters), (self._rings.exits, self._exits)):
            for ring in rings:
                raw = ring.take()
                if raw:
                    found.append(raw)
                    self._taken_bytes += len(raw)
        # Every ring was read after this time.
        self._taken_ns = now

    def _collect(self, entries: list[bytes], exits: list[bytes], now: int, horizon: int) -> None:
        stopped, ends = _all_of(self._stopped), _all_of(self._ends)
        calls, entered = self._pairing.calls(
            self._records(entries, ENTER, now), self._records(exits, EXIT, now), ends, horizon
        )
        self.entered += len(entered)
        self._hooks.look_up(entered, now)
        self._pass_on(calls, b"".join(stopped), horizon)
        self._look_into_open_calls(now)
        self._collected_ns = now

    def _records(self, taken: list[bytes], kind: np.dtype[Any], now: int) -> list[Array]:
        found: list[Array] = []
        for raw in taken:
            records, lost = records_of(raw, kind)
            found += [self._without_foreign(some) for some in records] if self.foreign else records
            if lost:
                self._note_lost("entries" if kind is ENTER else "exits", lost, now)
        return found

    def _without_foreign(self, records: Array) -> Array:
        """Leave out the calls of 32-bit programs: the rings tell their numbers, which mean other calls here.

        They stop at the filter instead, and are recorded there.
        """
        wrong = np.zeros(len(records), bool)
        for pid, spans in self.foreign.copy().items():
            of_pid = records["pid"] == pid
            for begin, end in spans if of_pid.any() else ():
                wrong |= of_pid & (records["time"] >= begin) & (records["time"] < end)
        return records[~wrong]

    def _pass_on(self, calls: Array, stopped: bytes, horizon: int) -> None:
        if not (len(calls) or stopped or len(self._held)):
            return
        every = np.concatenate([self._held, np.frombuffer(stopped, _CALL, len(stopped) // CALL_BYTES), calls])
        ends = every["start_ns"] + every["dur_ns"]
        # A stop is stamped by this process, which may be ahead of what the rings have given.
        late = ends > horizon
        self._held = every[late]
        every, ends = every[~late], ends[~late]
        if len(every):
            self._emit(every[np.argsort(ends, kind="stable")].tobytes())

    # --- what is missing -------------------------------------------------------------------------

    def _note_lost(self, word: str, count: int, now: int) -> None:
        self.lost += count
        self._sink("losses", (self._collected_ns, now, count, word, "the ring buffer was full"))

    def _note_unpaired(self) -> None:
        totals = [ring.lost() for ring in self._rings]
        untold = sum(total for total in totals if total is not None) - self.lost
        now = time.monotonic_ns()
        if untold > 0:
            self.lost += untold
            self._sink("losses", (self._collected_ns, now, untold, "at the end", "the ring buffer was full"))
        if self._pairing.unpaired:
            row = (0, now, self._pairing.unpaired, "any CPU", "the other half of the call was lost, or never seen")
            self._sink("losses", row)

    def notes(self) -> list[str]:
        """Return what a user should know of what is missing, a sentence each."""
        if not self.lost:
            return []
        return [f"{self.lost:,} entries and exits of calls were lost: the ring buffers were full (--perf-buffer)"]

    # --- heads -----------------------------------------------------------------------------------

    def _look_into_open_calls(self, now: int) -> None:
        for tid, begun in list(self._pairing.open_calls.items()):
            start, call, flags, _ = begun
            if now - start < _LONG_NS or flags & _HAS_HEAD or self._examined.get(tid) == start:
                continue
            self._examined[tid] = start
            head = self._head(tid, self._pairing.pid_of(tid), call, now)
            if head is not None and self._is_inside(tid, call):
                self._pairing.open_calls[tid] = (start, call, flags | _HAS_HEAD, head)
        for gone in [tid for tid in self._examined if tid not in self._pairing.open_calls]:
            del self._examined[gone]

    def _head(self, tid: int, pid: int, call: list[int], now: int) -> int | None:
        name = self._names.get(call[0], "")
        if name in ("poll", "ppoll") and call[2] == 1:
            head = self._word(tid, call[1], 8)
            if head is not None:
                self._hooks.see_descriptor(pid, head & 0xFFFFFFFF, now)
            return head
        if name in ("write", "sendto", "pwrite64") and call[3] and self._hooks.is_headed(pid, call[1]):
            return self._word(tid, call[2], min(call[3], 8))
        place = {"nanosleep": 1, "clock_nanosleep": 3}.get(name)
        if name == "futex" and call[2] & FUTEX_COMMAND in FUTEX_WAITS:
            place = 4
        return duration_of(self._memory(tid, call[place], 16)) if place is not None and call[place] else None

    def _word(self, tid: int, address: int, size: int) -> int | None:
        raw = self._memory(tid, address, size)
        return int.from_bytes(raw, "little") if raw else None

    def _is_inside(self, tid: int, call: list[int]) -> bool:
        # What was read belongs to the call only if the thread is in it still.
        line = procfs.syscall_line(tid, tid)
        found = procfs.parse_numbers(line) if line is not None else None
        return found is not None and [found[0], *found[1]][:4] == call[:4]


def _all_of(entries: list[_Entry]) -> list[_Entry]:
    taken = entries[:]
    del entries[: len(taken)]
    return taken
