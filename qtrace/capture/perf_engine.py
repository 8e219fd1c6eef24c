"""Whether the perf engine can be used, and its parts put together."""

from __future__ import annotations

import errno

from qtrace.capture import seccomp
from qtrace.errors import EngineError
from qtrace.model.syscalls import Architecture, Trait, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtrace.capture.bpf_rings import BpfRings
    from qtrace.capture.perf_attach import JoinedTree
    from qtrace.capture.perf_collector import Collector
    from qtrace.capture.perf_events import Rings
    from qtrace.capture.perf_hooks import PerfHooks
    from qtrace.capture.tracees import RowSink
    from qtrace.tracefile.writer import TraceWriter

ENGINES = ("auto", "perf", "ptrace")
_TOO = ("restart_syscall", "clone", "clone3", "fork", "vfork")
"""The first goes on with a wait that began in the rings. Of what the others make an event stop tells, anyway."""
_MOST_FREQUENT = ("futex", "read", "write", "poll", "wait4")


def chosen(engine: str, filtered: bool, opened: list[int] | None = None, *, starts: bool = False) -> tuple[str, str]:
    """Return the engine to use, ``perf`` or ``ptrace``, and why perf cannot be used (empty if it can).

    Args:
        engine: What the user asked for: one of `ENGINES`.
        filtered: Whether calls are filtered by seccomp; the perf engine is of no use otherwise.
        opened: See `qtrace.capture.perf_events.why_not`.
        starts: Whether the program is still to be started, so that BPF may do in place of perf's events.

    Raises:
        EngineError: perf was asked for and cannot be used.
    """
    if engine == "ptrace":
        return "ptrace", ""
    why = "every call has to stop" if not filtered else _why_not(opened, starts)
    if why and engine == "perf":
        raise EngineError(
            f"the perf engine cannot be used here: {why}",
            "It needs root (or CAP_PERFMON, and a readable tracefs: sudo mount -t tracefs nodev /sys/kernel/tracing),\n"
            "and neither --no-seccomp nor --no-follow. Without it: --engine ptrace",
        )
    return ("ptrace" if why else "perf"), why


def _why_not(opened: list[int] | None, starts: bool) -> str:
    from qtrace.capture import bpf_rings, perf_events  # not for ptrace alone

    if starts and not bpf_rings.why_not() and perf_events.events_folder() and perf_events.is_there():
        return ""  # to load such a program takes all rights that an event on a tracepoint takes
    return perf_events.why_not(opened)


def hot_numbers(machine: Architecture) -> list[int]:
    """Return the numbers of the calls that come through the ring buffers."""
    every = seccomp.recorded_numbers(machine)
    rare = set(seccomp.recorded_numbers(machine, Trait.HOT))
    others = {number_of(name, machine) for name in _TOO}
    return [number for number in every if number not in rare or number in others]


def stopping_numbers(machine: Architecture) -> list[int]:
    """Return the numbers of the calls that stop."""
    return sorted(set(seccomp.recorded_numbers(machine)) - set(hot_numbers(machine)))


def open_rings(pid: int, machine: Architecture, ring_bytes: int | None) -> Rings | BpfRings:
    """Open the rings of a process that is about to call exec, and of all that come out of it.

    Those of BPF, where they may be had, have to be told whom to follow.

    Raises:
        EngineError: The kernel refused.
    """
    from qtrace.capture import bpf_rings, perf_events

    numbers = hot_numbers(machine)
    if not bpf_rings.why_not():
        try:
            return bpf_rings.BpfRings(machine, numbers, ring_bytes)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise EngineError(
                    f"the programs of BPF could not be made: {error.strerror}",
                    "Record without them: QTRACE_NO_BPF=1 qtrace record ...",
                ) from None
    first = [number_of(name, machine) for name in _MOST_FREQUENT]
    accepted = perf_events.filter_text(numbers, [number for number in first if number is not None])
    try:
        return perf_events.open_rings(pid, accepted, ring_bytes)
    except OSError as error:
        raise EngineError(
            f"the ring buffers of perf could not be opened: {error.strerror}",
            "Smaller ones may be permitted (--perf-buffer 1); or record with --engine ptrace.",
        ) from None


def collector_of(
    rings: Rings | BpfRings,
    writer: TraceWriter,
    sink: RowSink,
    hooks: PerfHooks,
    machine: Architecture,
    most_bytes: int | None = None,
    joined: JoinedTree | None = None,
) -> Collector:
    """Return a collector."""
    from qtrace.capture.perf_collector import Collector

    late = None
    if joined is not None and joined.late_rings is not None:
        from qtrace.capture.perf_late import LateRings

        late = LateRings(joined.late_rings, joined.late)
    return Collector(rings, writer, sink, hooks, machine, most_bytes, late, joined is not None)
