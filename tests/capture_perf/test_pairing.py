"""Entries and exits become the calls that a simple machine, row by row, makes of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture, number_of
from qtrace.tracefile.rings import ENTER, EXIT, Array, Pairing, records_of
from qtrace.tracefile.threads import End, calls_of_few

RESTART_SYSCALL = 219
READ, FUTEX = 0, 202
INTERRUPTED, BLOCK = -512, -516


def enter(time: int, tid: int, number: int, *args: int, pid: int = 7) -> bytes:
    """Return a record of sys_enter as the kernel lays it out."""
    words = [*args, *[0] * (6 - len(args))]
    head = struct.pack("<IHHiiqI", 9, 0, ENTER.itemsize, pid, tid, time, 68)
    return (head + struct.pack("<Qq6Q", 0, number, *words)).ljust(ENTER.itemsize, b"\0")


def leave(time: int, tid: int, number: int, ret: int, pid: int = 7) -> bytes:
    """Return a record of sys_exit."""
    head = struct.pack("<IHHiiqI", 9, 0, EXIT.itemsize, pid, tid, time, 28)
    return (head + struct.pack("<Qqq", 0, number, ret)).ljust(EXIT.itemsize, b"\0")


def lost(count: int) -> bytes:
    """Return a record of what was dropped, with the trailer of sample_id_all."""
    return struct.pack("<IHHQQiiq", 2, 0, 40, 1, count, 7, 7, 5)


def fed(pairing: Pairing, enters: bytes, exits: bytes, horizon: int, *ends: End) -> list[tuple[int, ...]]:
    """Feed rows and return the calls that have ended: start, duration, tid, number, flags, result."""
    found, _ = pairing.calls(records_of(enters, ENTER)[0], records_of(exits, EXIT)[0], ends, horizon)
    names = ["start_ns", "dur_ns", "tid", "nr", "flags", "ret"]
    return sorted(tuple(int(row[name]) for name in names) for row in found)


PERF = int(CallFlag.FROM_PERF)


def test_an_entry_is_paired_with_the_exit_of_its_thread() -> None:
    """Two threads in turn, each with arguments and result of its own."""
    pairing = Pairing(Architecture.X86_64)
    enters = enter(10, 1, READ, 3, 99, 4) + enter(11, 2, FUTEX, 8)
    found, entered = pairing.calls(
        records_of(enters, ENTER)[0], records_of(leave(20, 2, FUTEX, -11) + leave(30, 1, READ, 4), EXIT)[0], [], 99
    )
    rows = {int(row["tid"]): row for row in found}
    assert len(entered) == 2
    assert [int(rows[1][name]) for name in ("start_ns", "dur_ns", "pid", "nr", "ret", "a0", "a1", "a2")] == [
        10, 20, 7, READ, 4, 3, 99, 4,
    ]  # fmt: skip
    assert (int(rows[2]["ret"]), int(rows[2]["a0"]), int(rows[2]["flags"])) == (-11, 8, PERF)
    assert pairing.unpaired == 0


def test_what_is_later_than_the_horizon_waits() -> None:
    """The exit is in one batch, the entry in the one before, and nothing is seen ahead of time."""
    pairing = Pairing(Architecture.X86_64)
    assert fed(pairing, enter(10, 1, READ), leave(30, 1, READ, 0), 20) == []
    assert pairing.open_calls[1][:2] == (10, [READ, 0, 0, 0, 0, 0, 0])
    assert fed(pairing, b"", b"", 40) == [(10, 20, 1, READ, PERF, 0)]
    assert pairing.open_calls == {}


def test_a_wait_that_goes_on_after_a_signal_is_one_call() -> None:
    """By restart_syscall or by the same call again; another call ends it where it was interrupted."""
    pairing = Pairing(Architecture.X86_64)
    enters = enter(10, 1, READ, 5) + enter(20, 1, RESTART_SYSCALL) + enter(40, 1, READ, 6) + enter(60, 1, READ, 6)
    exits = leave(15, 1, READ, BLOCK) + leave(30, 1, RESTART_SYSCALL, 1) + leave(45, 1, READ, INTERRUPTED)
    assert fed(pairing, enters, exits + leave(70, 1, READ, 2), 99) == [
        (10, 20, 1, READ, PERF | CallFlag.RESTARTED, 1),
        (40, 30, 1, READ, PERF | CallFlag.RESTARTED, 2),
    ]
    enters = enter(110, 1, READ, 5) + enter(130, 1, FUTEX)
    assert fed(pairing, enters, leave(120, 1, READ, INTERRUPTED) + leave(140, 1, FUTEX, 0), 199) == [
        (110, 10, 1, READ, PERF, -512),
        (130, 10, 1, FUTEX, PERF, 0),
    ]


def test_a_thread_that_ends_leaves_its_call_unfinished() -> None:
    """Killed inside of it, also when the kernel had already taken it out of its wait."""
    unfinished = PERF | CallFlag.UNFINISHED
    pairing = Pairing(Architecture.X86_64)
    enters = enter(10, 1, READ) + enter(11, 2, READ) + enter(12, 3, READ)
    ends = [End(30, 1, True), End(31, 2, False), End(5, 3, True)]
    assert fed(pairing, enters, leave(29, 1, READ, INTERRUPTED), 99, *ends) == [
        (10, 19, 1, READ, unfinished | CallFlag.KILLED, 0),
        (11, 20, 2, READ, unfinished, 0),
    ]
    assert list(pairing.open_calls) == [3], "its id was given to a new thread after that end"


def test_gaps_are_counted_and_do_not_join_strangers() -> None:
    """An exit without entry, an entry without exit, and the kernel's own count of dropped records."""
    pairing = Pairing(Architecture.X86_64)
    raw = enter(10, 1, READ) + lost(5) + enter(40, 1, FUTEX) + lost(2)
    pieces, dropped = records_of(raw, ENTER)
    assert (sum(map(len, pieces)), dropped) == (2, 7)
    assert fed(pairing, raw, leave(5, 2, READ, 1) + leave(50, 1, FUTEX, 0), 99) == [(40, 10, 1, FUTEX, PERF, 0)]
    assert pairing.unpaired == 2


def test_what_began_before_an_attach_is_no_loss() -> None:
    """Exits of earlier calls, the call in progress, and a new thread that comes out of the call of its maker."""
    clone = number_of("clone", Architecture.X86_64) or 0
    pairing = Pairing(Architecture.X86_64)
    pairing.join(1, 7, [READ, 3, 0, 0, 0, 0, 0], 50)
    pairing.join(2, 7, None, 50)
    pairing.all_joined(40)
    exits = leave(35, 1, READ, 1) + leave(45, 1, READ, 2) + leave(60, 1, READ, 3)
    exits += leave(61, 2, FUTEX, 0) + leave(62, 3, clone, 0)
    assert fed(pairing, b"", exits, 99) == [(50, 10, 1, READ, PERF | CallFlag.AT_ATTACH, 3)]
    assert pairing.unpaired == 0
    assert fed(pairing, enter(100, 3, READ), leave(110, 2, READ, 0), 199) == []
    assert pairing.unpaired == 1
    pairing.left(200)
    assert fed(pairing, b"", leave(210, 3, READ, 1) + leave(220, 3, READ, 1), 299) == [(100, 110, 3, READ, PERF, 1)]
    assert pairing.unpaired == 1


# --- any order -----------------------------------------------------------------------------------


@dataclass
class _Machine:
    """Row by row: what each thread does, in the order of time."""

    done: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, rows: list[tuple[int, int, int, int, int]]) -> list[tuple[int, ...]]:
        open_calls: dict[int, tuple[int, int, int]] = {}
        waiting: dict[int, tuple[tuple[int, int, int], int]] = {}
        for time, tid, kind, number, ret in rows:
            if kind == 0:
                before = waiting.pop(tid, None)
                if before is not None and number in (RESTART_SYSCALL, before[0][1]):
                    open_calls[tid] = (before[0][0], before[0][1], PERF | CallFlag.RESTARTED)
                    continue
                if before is not None:
                    self.done.append((before[0][0], before[1] - before[0][0], tid, before[0][1], before[0][2], -512))
                open_calls[tid] = (time, number, PERF)
            elif ret in (INTERRUPTED, BLOCK):
                waiting[tid] = (open_calls.pop(tid), time)
            else:
                start, old, flags = open_calls.pop(tid)
                self.done.append((start, time - start, tid, old, flags, ret))
        return sorted(self.done)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, int, int, int]]:
    """Rows (time, tid, kind, number, result) of threads that call, are interrupted, and go on."""
    inside: dict[int, int] = {}
    stopped: dict[int, int] = {}
    rows = []
    for time in range(1, draw(st.integers(2, 60))):
        tid = draw(st.integers(1, 4))
        if tid in inside:
            ret = draw(st.sampled_from([0, 3, -11, INTERRUPTED, BLOCK]))
            number = inside.pop(tid)
            if ret < -500:
                stopped[tid] = number
            rows.append((time, tid, 1, number, ret))
        else:
            choices = [READ, FUTEX, *([RESTART_SYSCALL] if tid in stopped else [])]
            inside[tid] = draw(st.sampled_from(choices))
            stopped.pop(tid, None)
            rows.append((time, tid, 0, inside[tid], 0))
    return rows


@settings(deadline=None, max_examples=300)
@given(histories(), st.lists(st.integers(0, 60), max_size=4), st.lists(st.integers(0, 2), min_size=60, max_size=60))
def test_any_cut_and_any_cpu_gives_the_same_calls(
    rows: list[tuple[int, int, int, int, int]], cuts: list[int], cpus: list[int]
) -> None:
    """Rows spread over three CPUs, read at any moments: the calls are those of the machine."""
    pairing = Pairing(Architecture.X86_64)
    found: list[tuple[int, ...]] = []
    left = list(zip(rows, cpus, strict=False))
    for horizon in [*sorted(cuts), 1_000]:
        # What was read may reach beyond the horizon on some CPUs: here two rows of the first one.
        now = [(row, cpu) for row, cpu in left if row[0] <= horizon or (cpu == 0 and row[0] <= horizon + 2)]
        left = [pair for pair in left if pair not in now]
        enters, exits = _pieces(now, 0), _pieces(now, 1)
        ended, _ = pairing.calls(enters, exits, [], horizon)
        found += [
            tuple(int(row[name]) for name in ("start_ns", "dur_ns", "tid", "nr", "flags", "ret")) for row in ended
        ]
    assert sorted(found) == _Machine().run(rows)
    assert pairing.unpaired == 0


@settings(deadline=None, max_examples=300)
@given(histories(), st.lists(st.integers(0, 2), min_size=60, max_size=60), st.lists(st.integers(1, 70), max_size=2))
def test_without_numpy_the_calls_are_the_same(
    rows: list[tuple[int, int, int, int, int]], cpus: list[int], ends: list[int]
) -> None:
    """Of a program that is over, one by one: what has ended, what has not, and what is missing its other half."""
    spread = list(zip(rows, cpus, strict=False))[len(ends) :]  # something is missing where threads end, too
    died = [End(time, tid, True) for tid, time in enumerate(ends, 1)]
    contents = []
    for cpu in range(3):
        contents.append(
            ("enter", b"".join(enter(*row[:2], row[3], 5) for row, at in spread if (at, row[2]) == (cpu, 0)))
        )
        contents.append(("exit", b"".join(leave(*row[:2], *row[3:]) for row, at in spread if (at, row[2]) == (cpu, 1))))
    pairing = Pairing(Architecture.X86_64)
    pieces = [[piece for what, raw in contents if what == kind for piece in records_of(raw, layout)[0]]
              for kind, layout in (("enter", ENTER), ("exit", EXIT))]  # fmt: skip
    bulk, entered = pairing.calls(*pieces, died, 1_000)
    few = calls_of_few(contents, died, Architecture.X86_64)
    assert few is not None
    threads, entries = few
    assert sorted(threads.done) == sorted(call.tobytes() for call in bulk)
    assert threads.pending(99) == pairing.pending(99)
    assert threads.unpaired == pairing.unpaired
    assert sorted((time, tid) for time, _, tid, _ in entries) == sorted(
        zip(entered["time"], entered["tid"], strict=True)
    )


def test_without_numpy_nothing_is_made_of_what_tells_of_losses() -> None:
    """A record that is none of a call has to be understood, which the other way does."""
    assert calls_of_few([("enter", enter(1, 1, READ))], [], Architecture.X86_64) is not None
    assert calls_of_few([("enter", enter(1, 1, READ) + lost(3))], [], Architecture.X86_64) is None
    damaged = bytearray(enter(1, 1, READ))
    damaged[0] = 7
    assert calls_of_few([("enter", bytes(damaged))], [], Architecture.X86_64) is None


def _pieces(rows: list[tuple[tuple[int, int, int, int, int], int]], kind: int) -> list[Array]:
    found: list[Array] = []
    for cpu in range(3):
        mine = [row for row, at in rows if at == cpu and row[2] == kind]
        raw = b"".join(
            enter(row[0], row[1], row[3]) if kind == 0 else leave(row[0], row[1], row[3], row[4]) for row in mine
        )
        found += records_of(raw, ENTER if kind == 0 else EXIT)[0]
    assert sum(map(len, found)) == sum(row[2] == kind for row, _ in rows)
    return found or [np.empty(0, ENTER if kind == 0 else EXIT)]
