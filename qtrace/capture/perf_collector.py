"""Empties the ring buffers, and makes calls of what was in them, when there is time for it.

A thread of its own waits until a ring is a quarter full, or a moment has passed, and takes what is
there. While the program makes few calls, calls are made of it at once. While it makes many, the CPU
is the program's: what was taken goes into the recording as it came (the table `rings`), and calls are
made of it when the program is less busy, has ended, or when too much waits. Either way it is in the
file with the next commit. Whoever needs to know what is going on right now (the hang watch) is told
by the last entry and exit of each thread.

What perf cannot give is memory. Of calls in progress for a while it is read from the waiting process,
which cannot change it: what a poll on one descriptor watches, how long a sleep is, the first bytes of
a write. Such calls have a head as those of the ptrace engine have; short ones have none.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Sequence

from qtrace.capture import procfs
from qtrace.capture.callhooks import duration_of
from qtrace.capture.memory import MemoryReader
from qtrace.capture.perf_backlog import Backlog, Take
from qtrace.errors import EngineError
from qtrace.model.futex import FUTEX_COMMAND, FUTEX_WAITS
from qtrace.model.records import ENTER_BYTES, UNPAIRED, CallFlag
from qtrace.model.syscalls import Architecture, by_number
from qtrace.tracefile.threads import End, calls_of_few
from qtrace.tracefile.writer import RingState, TraceWriter, end_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from qtrace.capture.bpf_rings import BpfRing, BpfRings
    from qtrace.capture.perf_events import Ring, Rings
    from qtrace.capture.perf_hooks import PerfHooks
    from qtrace.capture.perf_last_seen import LastSeen
    from qtrace.capture.perf_late import LateRings
    from qtrace.capture.tracees import RowSink
    from qtrace.tracefile.rings import Array, Pairing
    from qtrace.tracefile.threads import OpenCall, Threads

    _Entry = TypeVar("_Entry")

_BEGINNING_NS, _LATEST_LOAD_NS, _LATEST_FOR_FEW_NS = 90_000_000, 300_000_000, 500_000_000
_FEW_RAW_BYTES = 256 << 10
"""Of so little calls are made without NumPy (20 ms) where the program is over: loading it takes longer."""
_WINDOW_NS = 100_000_000
_BUSY_BYTES_PER_SECOND = 4 << 20
"""Some 28,000 calls a second. Making calls of fewer costs the program next to nothing."""
_SHORTEST_BURST_NS = 20_000_000
_FEW_BYTES = 1 << 20
"""So little is made calls of before a commit (10 ms), so that none of it need be stored as it came."""
_MOST_BYTES = 128 << 20
"""If so much waits, calls are made of it while the program is busy: a second or two's work is left for its end."""
_MOST_WAITING_BYTES = 512 << 20
"""If so much waits, calls are made of it more slowly than they come: then the rings may overflow."""
_MOST_MADE_BYTES = 4 << 20
"""So many calls wait for the next commit (50 ms); more are committed at once, so that no commit takes long:
what the rings gave meanwhile waits for it."""
_SAMPLED = 64
"""Of what waits each so-manieth entry is looked into at once: what it is on may be gone later."""
_LONG_NS = 20_000_000
"""A call in progress for so long is worth a look at its memory."""
_HAS_HEAD = int(CallFlag.HAS_HEAD)
_FOREVER = 1 << 62
_STATE_PARTS = {"open": 0, "interrupted": -1, "enter": -2, "exit": -3}


class _Tools:
    """What works on records, with NumPy: loaded when the program leaves a CPU idle, or has run for a while."""

    __slots__ = ("last_seen", "pairing")

    def __init__(self, pairing: Pairing, last_seen: LastSeen) -> None:
        self.pairing = pairing
        self.last_seen = last_seen


class Collector(threading.Thread):
    """The thread that reads the rings, and what is known from them."""

    def __init__(
        self,
        rings: Rings | BpfRings,
        writer: TraceWriter,
        sink: RowSink,
        hooks: PerfHooks,
        machine: Architecture,
        most_bytes: int | None = None,
        late: LateRings | None = None,
        joins: bool = False,
    ) -> None:
        """Make a collector; `start` begins.

        Args:
            rings: The rings, not yet enabled or just so.
            writer: The recording.
            sink: Takes rows of the recording's tables.
            hooks: Looks up what calls are on.
            machine: Whose numbers the calls have.
            most_bytes: How much may wait, where that is less than by default.
            late: Rings of threads that may fill the others, too.
            joins: Whether calls are made of nothing until `all_joined` is called.
        """
        super().__init__(name="qtrace-perf", daemon=True)
        self.lost = 0
        """Records that the kernel dropped because a ring was full."""
        self.entered = 0
        """How many calls have begun."""
        self._rings = rings
        self._writer = writer
        self._sink = sink
        self._hooks = hooks
        self._late, self._joins, self._attached = late, joins, joins
        self._most_bytes = min(most_bytes or _MOST_BYTES, _MOST_BYTES)
        self._machine = machine
        self._tools: _Tools | None = None
        self._is_loaded = threading.Event()
        self._backlog = Backlog()
        self._without_tools: Threads | None = None
        """Where all is over, and there was so little that they were not loaded at all."""
        self._names = {number: row.name for number, row in by_number(machine).items()}
        self._ends: list[tuple[int, int, bool]] = []
        self._made: list[bytes] = []
        """Calls for the next commit."""
        self._made_bytes = 0
        self._before_making: list[tuple[str, bytes]] | None = None
        """While calls are made of the oldest take: all from which that can be done anew."""
        self._lock = threading.Lock()
        """Held while calls are made of one take."""
        self._take_lock = threading.Lock()
        """Held for moments only: the rings are emptied while calls are made of what was taken before."""
        self._due = threading.Event()
        self._over = self._closed = False
        self._busy = True
        """Until the first window is over: what is short is over by then."""
        self._window_ns, self._window_bytes = time.monotonic_ns(), 0
        self.foreign: dict[int, list[list[int]]] = {}
        """See `Tracees.foreign`."""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._taken_ns = self._done_ns = time.monotonic_ns()
        self._examined: dict[int, int] = {}
        self._memory = MemoryReader()
        writer.watch_rings(self.for_commit)

    # --- from other threads ----------------------------------------------------------------------

    def ended(self, time_ns: int, tid: int, killed: bool) -> None:
        """A thread has ended: the call that it is in never returns."""
        self._ends.append((time_ns, tid, killed))
        if self._tools is not None:
            self._tools.last_seen.calls.pop(tid, None)

    def joined(self, tid: int, pid: int, call: list[int] | None, time_ns: int) -> None:
        """A thread was there at the attach, in a call or in none."""
        with self._lock:
            self._pairing.join(tid, pid, call, time_ns)

    def all_joined(self, time_ns: int) -> None:
        """All threads that were there at the attach are known, and recorded since a time."""
        self._pairing.all_joined(time_ns)
        self._joins = False

    def left(self, time_ns: int) -> None:
        """The tree is about to be let go."""
        self._pairing.left(time_ns)

    def open_calls(self) -> dict[int, OpenCall]:
        """Return the calls in progress at this moment, by tid."""
        if self._tools is None:
            return {}
        with self._lock:
            if self._closed:
                return self._pairing.open_calls.copy()
            with self._take_lock:
                self._take()
            self._make_few()
        return self.lately()

    def lately(self) -> dict[int, OpenCall]:
        """Return the calls in progress when the rings were looked into last."""
        if self._tools is None:
            return {}
        calls = self._pairing.open_calls.copy()
        return self._last_seen.over(calls) if self._backlog.takes else calls

    def interrupted(self) -> dict[int, OpenCall]:
        """Return calls that a signal has interrupted and that may go on."""
        return self._pairing.interrupted.copy() if self._tools is not None else {}

    def for_commit(self) -> RingState:
        """Return all that has come since the last commit: for the committing thread."""
        if self._tools is None:
            return self._before_tools()
        if not self._lock.acquire(blocking=False):
            found = self._while_making()
            if found is not None:
                return found
            self._lock.acquire()
        try:
            if not self._closed:
                with self._take_lock:
                    self._take()
                self._make_few()
            state = self._pairing.state(self._taken_ns)
            with self._take_lock:
                found = self._to_store(state)
            if not self._backlog.takes:
                return RingState(found.calls, self._pairing.pending(time.monotonic_ns()), (), found.done)
            self._look_up_some(found.parts)
            return found
        finally:
            self._lock.release()

    def _while_making(self) -> RingState | None:
        """The same while calls are made of the oldest take, which may last: as if that had not begun.

        None if it is just over.
        """
        with self._take_lock:
            before = self._before_making
            if before is None:
                return None
            self._take()
            found = self._to_store(before)
        self._look_up_some(found.parts)
        return found

    def _to_store(self, state: list[tuple[str, bytes]]) -> RingState:
        # With `_take_lock` held.
        rows = self._backlog.to_store(not self._writer.failure)
        first = [(_STATE_PARTS[kind], self._taken_ns, kind, raw) for kind, raw in state if raw]
        made, self._made, self._made_bytes = self._made, [], 0
        return RingState(b"".join(made), {}, [*first, *rows], self._backlog.done)

    def finish(self) -> None:
        """Take what is left, make calls of it, and end: no tracee lives."""
        self._over, self._joins = True, False
        os.eventfd_write(self._wake, 1)
        if self.is_alive():
            self.join()
        with self._take_lock:
            self._take()
        if self._tools is None:
            if self._makes_calls_of_few():
                self._closed = True
                os.close(self._wake)
                return
            self._load()
        with self._take_lock:
            self._backlog.add(_FOREVER, [])
        self._make_all(lambda: True)
        with self._lock:
            self._note_unpaired(self._pairing.unpaired)
            self._closed = True
            os.close(self._wake)

    def close(self) -> None:
        """Close the rings: after `finish`, when this process has no more threads that a fork could disturb."""
        self._rings.close_aside()

    # --- the thread ------------------------------------------------------------------------------

    def run(self) -> None:
        """Take whenever a ring has filled up to its mark, or a moment has passed."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for fd in self._rings.to_poll():
            poll.register(fd, select.POLLIN)
        try:
            self._let_begin(poll)
            if self._over:
                return
            self._load()
        finally:
            self._is_loaded.set()
        self._window_ns = time.monotonic_ns()
        making = threading.Thread(target=self._run_making, name="qtrace-perf-calls", daemon=True)
        making.start()
        while not self._over:
            self._wait(poll)
            with self._take_lock:
                if self._backlog.size < _MOST_WAITING_BYTES:
                    self._take()
            if self._is_time():
                self._due.set()
        self._due.set()
        making.join()

    def _wait(self, poll: select.poll) -> None:
        for fd, events in poll.poll(self._rings.wait_ms):
            if events & (select.POLLHUP | select.POLLERR) and fd != self._wake:
                poll.unregister(fd)  # nobody is left whom this event could count

    def _let_begin(self, poll: select.poll) -> None:
        """Leave the CPUs to a program that has just begun: to load NumPy takes a tenth of a second of one.

        What it does meanwhile stays in the rings while there is room, since a copy has to be made at its cost.
        """
        begun = time.monotonic_ns()
        idle = came = 0
        while not self._over:
            self._wait(poll)
            before, came = came, self._come_bytes()
            if not self._rings.have_room():
                with self._take_lock:
                    self._take()
            spent = time.monotonic_ns() - begun
            if came != before and spent < _LATEST_FOR_FEW_NS and self._are_few():
                continue  # one that waits has time enough, and its waits are looked at
            # Of a busy program all threads may wait for a moment: twice in succession they hardly do.
            idle = idle + 1 if procfs.has_idle_cpu() else 0
            if spent > _LATEST_LOAD_NS or (spent > _BEGINNING_NS and idle > 1):
                return

    def _are_few(self) -> bool:
        """Whether calls can be made of all that has come without NumPy, if the program ends now."""
        return not self._attached and self._come_bytes() <= _FEW_RAW_BYTES

    def _come_bytes(self) -> int:
        """Return how much waits, in the rings and out of them."""
        return self._backlog.size + sum(ring.waiting_bytes() for ring in self._rings)

    def _makes_calls_of_few(self) -> bool:
        """Make calls of all that has come if it is little, and nothing is missing; whether that was done."""
        if not self._are_few() or self.foreign:
            return False
        contents = [part for take in self._backlog.takes for part in take.contents()]
        ends = [End(*end) for end in self._ends]
        made = calls_of_few(contents, ends, self._machine)
        if made is None:
            return False
        threads, entries = made
        self._hooks.look_up_few(entries)
        while self._backlog.takes:
            self._backlog.oldest_is_done()
        self._without_tools = threads
        self._note_unpaired(threads.unpaired)
        return True

    def _before_tools(self) -> RingState:
        threads = self._without_tools
        with self._take_lock:
            if not self._closed:
                self._take()
            rows = self._backlog.to_store(False)  # nothing is taken out of memory yet
        if threads is None:
            return RingState(b"", {}, rows, self._backlog.done)
        made, threads.done = sorted(threads.done, key=end_of), []
        return RingState(b"".join(made), threads.pending(time.monotonic_ns()), (), self._backlog.done)

    def _load(self) -> None:
        from qtrace.capture.perf_last_seen import LastSeen
        from qtrace.tracefile.rings import Pairing

        tools = _Tools(Pairing(self._machine), LastSeen())
        with self._take_lock:
            for take in self._backlog.takes:
                self._see(take, tools.last_seen)
            self._tools = tools
        self._is_loaded.set()

    def _loaded(self) -> _Tools:
        if self._tools is None:
            self._is_loaded.wait()
        if self._tools is None:
            raise EngineError(
                "NumPy could not be loaded",
                "Reinstall it (pip install --force-reinstall numpy), or use --engine ptrace.",
            )
        return self._tools

    @property
    def _pairing(self) -> Pairing:
        return self._loaded().pairing

    @property
    def _last_seen(self) -> LastSeen:
        return self._loaded().last_seen

    def _run_making(self) -> None:
        while not self._over:
            self._due.wait()
            self._due.clear()
            self._make_all(self._is_time)

    def _is_time(self) -> bool:
        """Whether calls are to be made of what waits."""
        if not self._busy or self._backlog.size > self._most_bytes:
            return True
        return bool(self._writer.failure)

    def _take(self) -> None:
        now = time.monotonic_ns()
        late = self._late.take() if self._late is not None else []
        contents = [(kind, ring.take()) for kind, rings in self._by_kind() for ring in rings]
        if late and self._late is not None:
            contents += self._late.without_twins(late, contents)
        before, self._taken_ns = self._taken_ns, now  # every ring was read after this time
        contents = [(kind, raw) for kind, raw in contents if raw]
        self._is_busy(sum(len(raw) for _, raw in contents), now, now - before)
        if contents or not (self._tools is None or self._backlog.takes or self._busy):
            take = self._backlog.add(now, contents)
            self.entered += sum(len(raw) for kind, raw in contents if kind == "enter") // ENTER_BYTES
            if self._tools is not None:
                self._see(take, self._tools.last_seen)

    @staticmethod
    def _see(take: Take, last_seen: LastSeen) -> None:
        from qtrace.capture.perf_last_seen import records_in

        contents = take.contents()
        last_seen.see(records_in(contents, "enter")[0], records_in(contents, "exit")[0])

    def _by_kind(self) -> tuple[tuple[str, tuple[Ring, ...] | tuple[BpfRing, ...]], ...]:
        return ("enter", self._rings.enters), ("exit", self._rings.exits)

    def _is_busy(self, taken_bytes: int, now: int, since_ns: int) -> None:
        self._window_bytes += taken_bytes
        spent = now - self._window_ns
        if spent >= _WINDOW_NS:
            self._busy = _is_much(self._window_bytes, spent)
            self._window_ns, self._window_bytes = now, 0
        elif _is_much(taken_bytes, max(since_ns, _SHORTEST_BURST_NS)):
            self._busy = True  # before a window is over

    # --- calls -----------------------------------------------------------------------------------

    def _make_few(self) -> None:
        # With `_lock` held. What waits for longer may have to be read from the recording first.
        if self._backlog.size <= _FEW_BYTES:
            while self._make_next():
                pass

    def _make_all(self, go_on: Callable[[], bool]) -> None:
        """Make calls of what waits, a take at a time, as long as a condition holds."""
        while go_on():
            with self._lock:
                made = self._make_next()
            if self._made_bytes > _MOST_MADE_BYTES:
                self._writer.flush()
            if not made and not self._read_again():
                return

    def _read_again(self) -> bool:
        """Read what the next take is missing; whether there is one. With no lock: a commit may hold them all."""
        with self._take_lock:
            parts = self._backlog.takes[0].parts if self._backlog.takes else []
            missing = [part for part in parts if part.raw is None]
        for part in missing:
            raw = self._writer.stored_part(part.number)
            if raw is None and part.number > self._backlog.done:
                self._note_lost("the recording", 1, time.monotonic_ns())
            part.raw = raw or b""
        return bool(missing)

    def _make_next(self) -> bool:
        """Make calls of the oldest take, if there is one and it is in memory. With `_lock` held."""
        with self._take_lock:
            takes = self._backlog.takes
            if self._joins or not takes or not takes[0].is_in_memory():
                return False
            # Of all this a commit may make use meanwhile, and of no later state.
            contents, horizon = takes[0].contents(), takes[0].horizon_ns
            self._before_making = self._pairing.state(self._taken_ns)
        self._make(contents, horizon)
        return True

    def _make(self, contents: list[tuple[str, bytes]], horizon: int) -> None:
        made = b""
        if contents or self._ends or self._pairing.has_waiting:
            made = self._calls_of(contents, horizon)
        with self._take_lock:
            self._before_making = None
            self._backlog.oldest_is_done()
            if made:
                self._made.append(made)
                self._made_bytes += len(made)
            all_made = not self._backlog.takes
            if all_made:
                self._last_seen.calls.clear()
        if all_made:
            self._look_into_open_calls(time.monotonic_ns())
        self._done_ns = min(horizon, self._taken_ns)

    def _calls_of(self, contents: list[tuple[str, bytes]], horizon: int) -> bytes:
        """Return the calls that have ended until then, packed, in the order of their ends."""
        import numpy as np

        from qtrace.capture.perf_last_seen import records_in

        enters, lost = records_in(contents, "enter")
        if lost:
            self._note_lost("entries", lost, horizon)
        exits, lost = records_in(contents, "exit")
        if lost:
            self._note_lost("exits", lost, horizon)
        if self.foreign:
            enters, exits = ([self._without_foreign(some) for some in part] for part in (enters, exits))
        calls, entered = self._pairing.calls(enters, exits, [End(*end) for end in _all_of(self._ends)], horizon)
        self._hooks.look_up(entered, horizon)
        order = np.argsort(calls["start_ns"] + calls["dur_ns"], kind="stable")
        return calls[order].tobytes()

    def _without_foreign(self, records: Array) -> Array:
        """Leave out the calls of 32-bit programs: the rings tell their numbers, which mean other calls here.

        They stop at the filter instead, and are recorded there.
        """
        import numpy as np

        wrong = np.zeros(len(records), bool)
        for pid, spans in self.foreign.copy().items():
            of_pid = records["pid"] == pid
            for begin, end in spans if of_pid.any() else ():
                wrong |= of_pid & (records["time"] >= begin) & (records["time"] < end)
        return records[~wrong]

    def _look_up_some(self, rows: Sequence[tuple[int, int, str, bytes]]) -> None:
        import numpy as np

        from qtrace.tracefile.rings import ENTER, records_of

        fresh = [raw for part, _, kind, raw in rows if kind == "enter" and part > 0]
        pieces = [records for raw in fresh for records in records_of(raw, ENTER)[0]]
        if pieces:
            self._hooks.look_up(np.concatenate([records[::_SAMPLED] for records in pieces]), rows[-1][1])

    # --- what is missing -------------------------------------------------------------------------

    def _note_lost(self, word: str, count: int, now: int) -> None:
        self.lost += count
        self._sink("losses", (self._done_ns, now, count, word, "the ring buffer was full"))

    def _note_unpaired(self, unpaired: int) -> None:
        totals = [ring.lost() for ring in self._rings]
        untold = sum(total for total in totals if total is not None) - self.lost
        now = time.monotonic_ns()
        if untold > 0:
            self.lost += untold
            self._sink("losses", (self._done_ns, now, untold, "at the end", "the ring buffer was full"))
        if unpaired:
            row = (0, now, unpaired, "any CPU", UNPAIRED)
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


def _is_much(taken_bytes: int, spent_ns: int) -> bool:
    return taken_bytes * 1_000_000_000 > _BUSY_BYTES_PER_SECOND * spent_ns


def _all_of(entries: list[_Entry]) -> list[_Entry]:
    taken = entries[:]
    del entries[: len(taken)]
    return taken
