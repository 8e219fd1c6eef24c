"""Whether a program does nothing but compute: then no look has to ask whether it hangs.

A look costs the program's CPUs 0.1 to 0.2 s. What is asked here costs a file of /proc for each thread.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qtrace.capture import procfs
from qtrace.model.syscalls import Architecture, number_of

_SHARE = 0.6
"""So much of the time a thread that computes is on a CPU, or waits for one. (What it waits for is counted when it has
it.)"""
_CALLS_PER_SECOND = 50
"""Who asks whether something has come makes more."""
_MOST_THREADS = 64


class Computing:
    """Asked from time to time: it compares with the time before."""

    def __init__(self, root: int, machine: Architecture) -> None:
        """Begin with nothing to compare with.

        Args:
            root: The program's first process.
            machine: Whose numbers its calls have.
        """
        self._root = root
        self._wait = number_of("wait4", machine)
        self._at_ns = 0
        self._calls = 0
        self._ran: dict[int, int] = {}

    def is_all(
        self,
        now: int,
        threads: Collection[tuple[int, int]],
        calls_seen: int,
        calls: Mapping[int, tuple[int, list[int], int, int]],
    ) -> bool:
        """Return whether all threads have computed since the last time, but for the root's join of a process.

        Args:
            now: Monotonic time in nanoseconds.
            threads: (pid, tid) of every tracee.
            calls_seen: How many calls there have been since the beginning.
            calls: Those in progress, by tid.
        """
        before_ns, before, calls_before = self._at_ns, self._ran, self._calls
        self._at_ns, self._calls, self._ran = now, calls_seen, {}
        if len(threads) > _MOST_THREADS:
            return False
        for pid, tid in threads:
            found = procfs.runnable_ns(pid, tid)
            if found is not None:
                self._ran[tid] = found
        elapsed_ns = now - before_ns
        if not before or (calls_seen - calls_before) * 1e9 > _CALLS_PER_SECOND * elapsed_ns:
            return False
        working = [tid for _, tid in threads if not self._joins(tid, calls)]
        return bool(working) and all(
            tid in before and self._ran.get(tid, 0) - before[tid] >= _SHARE * elapsed_ns for tid in working
        )

    def _joins(self, tid: int, calls: Mapping[int, tuple[int, list[int], int, int]]) -> bool:
        """Whether this is the program's first thread, in a wait for the end of a process of which it is one."""
        call = calls.get(tid)
        return tid == self._root and call is not None and call[1][0] == self._wait
