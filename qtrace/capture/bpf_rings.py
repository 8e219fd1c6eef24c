"""Ring buffers that programs of BPF fill, in place of perf's: of the processes followed, and of no others.

They give the same records (see `qtrace.tracefile.rings`), at half the price: no event is attached to a task, so
that a change of task costs nothing, nor does a new process inherit anything, and all is gone the moment it is
closed. It needs to be told which processes to follow, before they run; so it is there for programs that qtrace
starts, whose new processes stop anyway. And it needs CAP_BPF and CAP_PERFMON, or root, and Linux 5.8.

Sources: bpf(2), linux/bpf.h; the kernel's Documentation/bpf/ringbuf.rst.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Collection, Iterator
from functools import cache

from qtrace.capture import bpf, bpf_programs
from qtrace.capture.bpf_programs import FOLLOWED_WORDS, MARKS, Targets, enter_program, exit_program
from qtrace.capture.perf_events import online_cpus, ring_sizes
from qtrace.model.records import ENTER_BYTES, EXIT_BYTES
from qtrace.model.syscalls import Architecture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_PAGE: Final = mmap.PAGESIZE
_BUSY: Final = 0x80
"""In the last byte of a header's first word (BPF_RINGBUF_BUSY_BIT): its writer is not done with it. The other three
are the record's length."""
_LOST = 2  # PERF_RECORD_LOST
_LOST_RECORD = struct.Struct("<IHHQQ")
_FIRST_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO, linux/proc_ns.h
_MOST_PER_SECOND: Final = 25 << 20
"""So many bytes one CPU may write in a second, for a ring to be emptied in time."""
_LONGEST_MS: Final = 50


@cache
def why_not() -> str:
    """Return why programs of BPF cannot be used here; empty if they can. It is tried: the smallest one is loaded."""
    if "QTRACE_NO_BPF" in os.environ:
        return "QTRACE_NO_BPF is set"
    try:
        if os.stat("/proc/self/ns/pid").st_ino != _FIRST_NAMESPACE:
            return "it tells ids of the first pid namespace, and this is another (a container)"
        for fd in (bpf.new_ring(_PAGE), bpf.load(bpf_programs.NOTHING, "qtrace_nothing")):
            os.close(fd)
    except OSError as error:
        return f"bpf: {error.strerror}"
    return ""


class BpfRing:
    """The ring buffer of one CPU, of entries or of exits."""

    def __init__(self, cpu: int, ring_bytes: int, record_bytes: int) -> None:
        """Make it, and map it.

        Args:
            cpu: The CPU.
            ring_bytes: Its size: a power of two, at least a page.
            record_bytes: Size of each record, with the header that the ring puts before it.

        Raises:
            OSError: The kernel refused.
        """
        self.cpu = cpu
        self._bytes, self._record_bytes = ring_bytes, record_bytes
        self._taken = self._told_lost = 0
        self._counter: memoryview | None = None
        self.fd = bpf.new_ring(ring_bytes)
        try:
            self._consumer = mmap.mmap(self.fd, _PAGE)
            # The buffer is there twice, one behind the other: what reaches over its end lies in one piece.
            self._producer = mmap.mmap(self.fd, _PAGE + 2 * ring_bytes, prot=mmap.PROT_READ, offset=_PAGE)
        except OSError:
            os.close(self.fd)
            raise
        self._consumed = memoryview(self._consumer).cast("Q")
        self._all = memoryview(self._producer)
        self._produced = self._all[:_PAGE].cast("Q")

    def count_lost_in(self, counter: memoryview) -> None:
        """Say where the programs count what found no room: one word of 64 bits."""
        self._counter = counter

    def take(self) -> bytes:
        """Return the records that have come since, with the ring's own headers, and make room for new ones."""
        each = self._record_bytes
        begin = _PAGE + self._taken % self._bytes
        end = begin + self._produced[0] - self._taken
        lost = self._lost_record()
        # While the program is busy, all that is done here is done at its cost, so there is little: one look at
        # who is done with writing, and one copy. And no NumPy: there may be none yet.
        tops = self._all[begin + 3 : end : each].tobytes()
        if not tops.isascii():  # some are `_BUSY` or more
            end = begin + each * next(place for place, top in enumerate(tops) if top >= _BUSY)
        found = self._all[begin:end].tobytes()
        if found:
            self._taken += len(found)
            self._consumed[0] = self._taken
        return found + lost if lost else found

    def waiting_bytes(self) -> int:
        """Return how much has come since the last time."""
        return self._produced[0] - self._taken

    def is_half_full(self) -> bool:
        """Return whether half of it waits."""
        return 2 * self.waiting_bytes() > self._bytes

    def _lost_record(self) -> bytes:
        before, self._told_lost = self._told_lost, self.lost()
        if self._told_lost == before:
            return b""
        return _LOST_RECORD.pack(_LOST, 0, _LOST_RECORD.size, 0, self._told_lost - before)

    def lost(self) -> int:
        """Return how many records found no room so far."""
        return int(self._counter[0]) if self._counter is not None else 0

    def close(self) -> None:
        """Unmap and close."""
        if self._counter is not None:
            self._counter.release()
        for view in (self._consumed, self._produced, self._all):
            view.release()
        self._consumer.close()
        self._producer.close()
        os.close(self.fd)


class BpfRings:
    """The rings of one recording, the programs that fill them, and the processes that are followed."""

    source: Final = "bpf"

    def __init__(self, machine: Architecture, numbers: Collection[int], ring_bytes: int | None) -> None:
        """Make rings and programs, and attach them; nobody is followed yet.

        Args:
            machine: Whose numbers the calls have.
            numbers: The calls that are wanted.
            ring_bytes: Memory for each CPU; None for what fits the machine.

        Raises:
            OSError: The kernel refused.
        """
        cpus = sorted(online_cpus())
        enter_bytes, exit_bytes = ring_sizes(ring_bytes, len(cpus))
        self.wait_ms = max(1, min(_LONGEST_MS, enter_bytes * 250 // _MOST_PER_SECOND))
        """How long the rings may be left alone: until a quarter is full, if much comes."""
        with contextlib.ExitStack() as stack:
            followed, self._followed = _words(stack, FOLLOWED_WORDS)
            marks, marked = _words(stack, 2 * MARKS // 8)
            self._marks = marked.cast("B")
            stack.callback(self._marks.release)
            counters, counted = _words(stack, 2 * len(cpus))
            self.enters = tuple(_ring(stack, cpu, enter_bytes, ENTER_BYTES) for cpu in cpus)
            self.exits = tuple(_ring(stack, cpu, exit_bytes, EXIT_BYTES) for cpu in cpus)
            for place, ring in enumerate(self):
                ring.count_lost_in(counted[place : place + 1])
            makers = (("sys_enter", enter_program, self.enters), ("sys_exit", exit_program, self.exits))
            for place, (tracepoint, maker, rings) in enumerate(makers):
                fds = [ring.fd for ring in rings]
                targets = Targets(followed, marks, counters, cpus, fds, place * len(cpus))
                program = bpf.load(maker(machine, numbers, targets), tracepoint.replace("sys", "qtrace"))
                stack.callback(os.close, program)
                stack.callback(os.close, bpf.attach(program, tracepoint))
            self._all = stack.pop_all()

    def __iter__(self) -> Iterator[BpfRing]:
        yield from self.enters
        yield from self.exits

    def have_room(self) -> bool:
        """Return whether all may be left alone for another `wait_ms`."""
        return not any(ring.is_half_full() for ring in self)

    def to_poll(self) -> tuple[int, ...]:
        """Return descriptors that are ready when there is much to take: none, they are looked at from time to time."""
        return ()

    def follow(self, pid: int, runs: bool) -> None:
        """Record a process, with all of its threads, from now on (runs), or no more. From one thread only."""
        word, bit = pid >> 6, 1 << (pid & 63)
        self._followed[word] = self._followed[word] | bit if runs else self._followed[word] & ~bit

    def has_called(self, pid: int) -> tuple[bool, bool]:
        """Return whether a process may have made a call that is recorded here, and whether it may have called futex."""
        place = pid % MARKS
        return bool(self._marks[place]), bool(self._marks[MARKS + place])

    def close(self) -> None:
        """Detach the programs, and close all."""
        self._all.close()

    def close_aside(self) -> None:
        """The same: unlike perf's events, nothing of this takes long."""
        self.close()


def _words(stack: contextlib.ExitStack, count: int) -> tuple[int, memoryview]:
    """Return words of 64 bits that the kernel and this process share: their descriptor, and themselves."""
    fd = bpf.new_words(count)
    stack.callback(os.close, fd)
    mapped = mmap.mmap(fd, _PAGE * -(-8 * count // _PAGE))
    stack.callback(mapped.close)
    words = memoryview(mapped).cast("Q")
    stack.callback(words.release)
    return fd, words


def _ring(stack: contextlib.ExitStack, cpu: int, ring_bytes: int, record_bytes: int) -> BpfRing:
    ring = BpfRing(cpu, ring_bytes, record_bytes)
    stack.callback(ring.close)
    return ring
