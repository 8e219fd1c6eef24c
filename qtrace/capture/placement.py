"""Which CPU the tracer and its tracees run on.

A stop hands the CPU from the tracee to the tracer and back. On two CPUs each hand-over wakes an idle
one, which costs several times the work itself (most in a virtual machine); on one CPU it is a switch.
So while stops are frequent, tracer and tracees share a CPU; when the tracees compute, they are let
apart again. The rule, looked at every 50 ms:

- together: at least `TOGETHER_STOPS_PER_SECOND` stops, and the tracees do not compete for one CPU;
- apart: fewer than `APART_STOPS_PER_SECOND`, or the tracees compete: use more than `COMPUTE_SHARE` of
  the CPU that they share. A thread that is busy alone competes with nobody, so stops decide: there must
  be fewer than `TOGETHER_STOPS_PER_SECOND`. After the second time they stay apart for a while that
  doubles each time.

A program begins together with its tracer, where every recorded call stops: its start is one thread that makes many.
With perf's engine it begins apart, and comes together early only where it makes processes that end at once.

A program does not see it: before a tracee asks for its affinity, or sets one, it gets its own back
(`before_affinity_call`), and one that sets its affinity is never moved again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection

from qtrace.capture import procfs

TOGETHER_STOPS_PER_SECOND = 3_000
"""Below this, waking the other CPU (10 to 40 µs a stop) costs less than a tenth of the time."""
APART_STOPS_PER_SECOND = 600
_CALM_STOPS_PER_SECOND = 60
"""Below this the CPU time of threads is not read: nothing is to be decided soon."""
COMPUTE_SHARE = 0.75
"""Tracing two processes that only exchange small messages leaves them about half of a shared CPU."""
ALONE_SHARE = 0.1
"""A thread is busy alone if all others together use less of a CPU than this."""
BEGINNING_NS = 100_000_000
_SHORT_LIVED = 5
"""If more processes than this end in a look's time, stops will go on."""
_MOST_THREADS = 256
"""With more threads than this nothing is moved: looking at each would cost more than it gains."""
_FEW_THREADS = 16
"""Of so few the CPU time is read at each look, so that the first busy look can decide."""
_FIRST_PAUSE_NS = 500_000_000
_ASKING_NS = 30_000_000
"""A tracee is inside of its affinity call for some microseconds after the stop."""
_SWEEPS = 3
"""So many looks after parting, threads are looked for that were made while together."""
_LONGEST_PAUSE_NS = 8_000_000_000


class _Shares:
    """What the tracees used of one CPU since the last look."""

    __slots__ = ("all", "others")

    all: float
    """-1 if there was no last look, or not at most of them."""
    others: float
    """All but the busiest thread's."""

    def __init__(self, all: float, others: float) -> None:
        self.all = all
        self.others = others

    def compete(self, rate: float) -> bool:
        """Whether they would get on faster on several CPUs, by the stops a second."""
        return self.all > COMPUTE_SHARE and (self.others > ALONE_SHARE or rate < TOGETHER_STOPS_PER_SECOND)


class Placement:
    """Moves tracer and tracees. All methods but `before_affinity_call` are the watch thread's."""

    def __init__(self, mode: str, tracer_tid: int, creator_of: Callable[[int], int | None]) -> None:
        """Begin with everything where the kernel puts it.

        Args:
            mode: ``auto``, ``together`` (always) or ``free`` (never).
            tracer_tid: The loop's thread.
            creator_of: Who made a thread, for one that was made while together.
        """
        self.together = False
        self.changes = 0
        self._mode = mode
        self._tracer = tracer_tid
        self._creator_of = creator_of
        self._lock = threading.Lock()
        self._own: dict[int, set[int]] = {}
        """Affinity of the moved threads before they were moved."""
        self._exempt: set[int] = set()
        self._asked: dict[int, int] = {}
        self._last_ns = time.monotonic_ns()
        self._last_stops = self._last_ended = 0
        self._begun_ns = 0
        """Until then a program that began apart begins still: its start makes many stops, once."""
        self._last_cpu: dict[int, int] = {}
        self._quiet = 0
        self._pause_ns = 0
        self._apart_until_ns = 0
        self._sweeps = 0
        self._cpu = -1
        self._usual = os.sched_getaffinity(tracer_tid)
        if len(self._usual) < 2:
            self._mode = "free"

    @property
    def shares_cpu(self) -> bool:
        """Whether tracer and tracees are on one CPU."""
        return self.together or len(self._usual) < 2

    def begin(self, pid: int, stops_often: bool = True) -> None:
        """Put a program that is about to be started beside the loop, whose thread this is, if its start stops often."""
        if self._mode != "free":
            self._shares([(pid, pid)], 1)
            if stops_often:
                self._gather([(pid, pid)])
            else:
                self._begun_ns = time.monotonic_ns() + BEGINNING_NS

    def keep_out(self) -> None:
        """Let the calling thread run anywhere: it was made by the loop's, and has its affinity."""
        _set(threading.get_native_id(), self._usual)

    def tick(self, stops: int, threads: Collection[tuple[int, int]], ended: int = 0) -> None:
        """Decide anew.

        Args:
            stops: How many stops there have been since the beginning.
            threads: (pid, tid) of every tracee.
            ended: How many processes have ended since the beginning.
        """
        if self._mode == "free":
            return
        now = time.monotonic_ns()
        elapsed = max(now - self._last_ns, 1)
        rate = (stops - self._last_stops) * 1e9 / elapsed
        ended_lately = ended - self._last_ended
        self._last_ns, self._last_stops, self._last_ended = now, stops, ended
        if len(threads) > _MOST_THREADS:
            self.apart(threads)
            return
        if self._sweeps and not self.together:
            self.apart(threads)
        if not self.together and rate < TOGETHER_STOPS_PER_SECOND and self._mode == "auto":
            if len(threads) > _FEW_THREADS or rate < _CALM_STOPS_PER_SECOND:
                self._last_cpu.clear()
            else:
                self._shares(threads, elapsed)
            return
        shares = self._shares(threads, elapsed)
        if self._mode == "together":
            self._gather(threads)
        elif self.together:
            self._quiet = self._quiet + 1 if rate < APART_STOPS_PER_SECOND else 0
            if self._quiet > 2 or shares.compete(rate):
                self._part_for_a_while(now, shares.compete(rate), threads)
            else:
                self._gather(threads)
        elif (
            now >= self._apart_until_ns
            and shares.all >= 0
            and not shares.compete(rate)
            and (now >= self._begun_ns or ended_lately > _SHORT_LIVED)
        ):
            self._gather(threads)

    def _part_for_a_while(self, now: int, computes: bool, threads: Collection[tuple[int, int]]) -> None:
        self.apart(threads)
        self._quiet = 0
        if computes:
            self._apart_until_ns = now + self._pause_ns
            self._pause_ns = min(max(2 * self._pause_ns, _FIRST_PAUSE_NS), _LONGEST_PAUSE_NS)
        else:
            self._pause_ns = _FIRST_PAUSE_NS

    def _shares(self, threads: Collection[tuple[int, int]], elapsed: int) -> _Shares:
        spent = {}
        for pid, tid in threads:
            found = procfs.cpu_and_switches(pid, tid)
            if found is not None:
                spent[tid] = found[0]
        before, self._last_cpu = self._last_cpu, spent
        if not before:
            return _Shares(-1.0, -1.0)
        used = [(cpu - before[tid]) / elapsed for tid, cpu in spent.items() if tid in before]
        if 2 * len(used) < len(spent):
            return _Shares(-1.0, -1.0)  # most are new, and nothing is known of them
        return _Shares(sum(used), sum(used) - max(used, default=0.0))

    def _gather(self, threads: Collection[tuple[int, int]]) -> None:
        with self._lock:
            if not self.together:
                if self._sweeps:
                    # Together again so soon: who was made in between gets its own affinity first.
                    self._sweep(threads)
                    self._sweeps = 0
                # What is in here has its own affinity again, and would pass for moved.
                self._own.clear()
                self.together = True
                self.changes += 1
                self._cpu = self._place()
                self._move(self._tracer)
            now = time.monotonic_ns()
            for _, tid in threads:
                if tid in self._own or tid in self._exempt:
                    continue
                # One that has just asked is inside of its call still, and must find its own answer.
                if now - self._asked.get(tid, 0) > _ASKING_NS:
                    self._asked.pop(tid, None)
                    self._move(tid)

    def _place(self) -> int:
        # Where the loop runs now: the tracees' last CPU would do as well.
        try:
            with open(f"/proc/self/task/{self._tracer}/stat", encoding="utf-8", errors="replace") as file:
                text = file.read()
            cpu = int(text[text.rindex(")") + 2 :].split()[36])
        except (OSError, ValueError, IndexError):
            cpu = -1
        allowed = os.sched_getaffinity(self._tracer)
        return cpu if cpu in allowed else min(allowed)

    def _move(self, tid: int) -> None:
        try:
            own = os.sched_getaffinity(tid)
            if own == {self._cpu}:
                # Made by a thread that had been moved: its own affinity is its maker's own.
                own = self._inherited(tid) or own
            if self._cpu not in own:
                self._exempt.add(tid)
                return
            os.sched_setaffinity(tid, {self._cpu})
            self._own[tid] = own
        except OSError:
            return

    def _inherited(self, tid: int) -> set[int] | None:
        """The own affinity of a thread that was made by a moved one; None if it set one itself."""
        seen = set()
        maker = self._creator_of(tid)
        while maker is not None and maker not in seen:
            if maker in self._exempt:
                self._exempt.add(tid)
                return None
            if maker in self._own:
                return self._own[maker]
            seen.add(maker)
            maker = self._creator_of(maker)
        return self._usual

    def apart(self, threads: Collection[tuple[int, int]] = ()) -> None:
        """Give everybody their own affinity back.

        Args:
            threads: (pid, tid) of every tracee: those made since the last look have it from their
                makers, and get the makers' own.
        """
        with self._lock:
            if self.together:
                self.together = False
                self._sweeps = _SWEEPS
                for tid, cpus in self._own.items():
                    _set(tid, cpus)
            if self._sweeps and threads:
                self._sweeps -= 1
                self._sweep(threads)
            if not self._sweeps:
                self._own.clear()

    def _sweep(self, threads: Collection[tuple[int, int]]) -> None:
        for _, tid in threads:
            if tid in self._own or tid in self._exempt:
                continue
            try:
                moved = os.sched_getaffinity(tid) == {self._cpu}
            except OSError:
                continue
            own = self._inherited(tid) if moved else None
            if own is not None:
                _set(tid, own)

    def before_affinity_call(self, tid: int, target: int, sets: bool) -> None:
        """A tracee asks for, or sets, an affinity: it finds its own. Called in the loop's thread."""
        target = target or tid
        with self._lock:
            own = self._own.pop(target, None)
            if own is None and self.together and target not in self._exempt:
                own = self._inherited(target)
            if own is not None:
                _set(target, own)
            self._asked[target] = time.monotonic_ns()
            if sets:
                self._exempt.add(target)


def _set(tid: int, cpus: set[int]) -> None:
    try:
        os.sched_setaffinity(tid, cpus)
    except OSError:
        return
