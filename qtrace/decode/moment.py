"""The tree of a recording at one moment: as its recorder saw it at the end, or rebuilt from events.

A recorder looks at the tree once more before it ends it: those snapshots have what no event tells
(values of semaphores, levels, stacks of every thread). For other moments the tree is put together
again from lives, calls in progress and the replay of descriptors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from qtrace.decode.ending import has_ended_by_itself, outside_end, stated_end
from qtrace.decode.history import exit_of, history_from
from qtrace.decode.levels import seen_levels
from qtrace.model.ids import Tgid
from qtrace.model.records import CallFlag
from qtrace.model.snapshot import Process, Snapshot, Thread
from qtrace.model.snapshot_json import load_snapshot

if TYPE_CHECKING:
    from qtrace.decode.decoded import Decoded
    from qtrace.tracefile.reader import TraceReader


def snapshot_at(reader: TraceReader, time_ns: int | None = None) -> Snapshot:
    """Return the tree at a moment, with all that the recording knew by then.

    Args:
        reader: The recording.
        time_ns: CLOCK_MONOTONIC; None for its end: the last moment before somebody began to end the
            program. Moments from the recorder's last look on are answered with that look.
    """
    from qtrace.decode.decoded import decode
    from qtrace.decode.rebuild import rebuilt

    if time_ns is None and has_ended_by_itself(reader):
        return _all_over(reader)
    stored, is_final = _last_look(reader)
    if stored is not None and is_final and (time_ns is None or time_ns >= stored.time_ns):
        return _enriched(reader, _decoded_for(reader, stored.time_ns), stored)
    decoded = decode(reader)
    moment = _end_of(reader, decoded) if time_ns is None else min(max(time_ns, decoded.start_ns), decoded.end_ns)
    if stored is not None and _still_holds(decoded, stored, moment):
        return _enriched(reader, decoded, stored)
    view = decoded.until(moment)
    levels = seen_levels(reader, moment)
    snapshot = rebuilt(view, levels, stored.objects if stored is not None else None)
    return replace(snapshot, history=history_from(view, levels), uncertain=_doubts(reader, moment))


def _decoded_for(reader: TraceReader, last_ns: int) -> Decoded:
    """Return what a look at the end needs: of millions of calls, most merged."""
    from qtrace.decode.condensed import condensed_calls, tells_the_end
    from qtrace.decode.decoded import decode

    calls = condensed_calls(reader, last_ns)
    if calls is not None:
        decoded = decode(reader, calls)
        if tells_the_end(decoded.until(min(last_ns, decoded.end_ns))):
            return decoded
    return decode(reader)


def longest_wait(reader: TraceReader) -> tuple[int, int] | None:
    """Return begin and end, on CLOCK_MONOTONIC, of the longest wait for something else than the clock.

    Where there is none, the longest sleep; None where nothing waited.
    """
    import numpy as np

    from qtrace.decode.blocking import blocked, floor_of
    from qtrace.decode.decoded import decode

    decoded = decode(reader)
    calls = decoded.calls
    waits = blocked(calls, decoded.meta, floor_of(calls, decoded.meta))
    clock = decoded.on.objects.index("clock")
    for which in (waits & (decoded.on.number != clock), waits):
        at = np.flatnonzero(which)
        if len(at):
            record = calls[at[np.argmax(calls["dur_ns"][at])]]
            return int(record["start_ns"]), int(record["start_ns"] + record["dur_ns"])
    return None


def _last_look(reader: TraceReader) -> tuple[Snapshot | None, bool]:
    """The newest snapshot, and whether it was taken because the program was about to be ended.

    One that was taken on the way ("look": a likely hang, and the program was let go on) says
    nothing about the end by itself.
    """
    ordered = sorted(reader.rows("snapshots"), key=lambda row: (row[1] != "look", int(row[0])), reverse=True)
    for _, reason, text in ordered:
        try:
            return load_snapshot(text), reason != "look"
        except ValueError:
            continue  # damaged: the one before
    return None, False


def _still_holds(decoded: Decoded, stored: Snapshot, moment: int) -> bool:
    """Whether nothing has happened between a look on the way and a later moment."""
    if stored.time_ns > moment:
        return False
    ends = decoded.calls["start_ns"] + decoded.calls["dur_ns"]
    between = (ends > stored.time_ns) & (ends <= moment) & (decoded.calls["flags"] & int(CallFlag.UNFINISHED) == 0)
    return not between.any() and not any(stored.time_ns < row[0] <= moment for row in decoded.lifecycle)


def _end_of(reader: TraceReader, decoded: Decoded) -> int:
    begins = (stated_end(reader), outside_end(decoded))
    return min([time for time in begins if time is not None] + [decoded.end_ns])


def _all_over(reader: TraceReader) -> Snapshot:
    """A program that has finished: its processes, and nobody who lives."""
    from qtrace.decode.family import family_of
    from qtrace.decode.names import named
    from qtrace.decode.rebuild import process_of

    rows = sorted(reader.rows("processes"), key=lambda row: int(row[7]))
    found = {}
    for row in named(rows, family_of(reader.rows("lifecycle"))):
        ended = replace(process_of(row), state="X", end_ns=row[8], exit_code=row[9], exit_signal=row[10])
        found[Tgid(row[0])] = ended
    root = reader.meta.get("root_pid", "")
    end_ns = max(row[8] for row in rows)
    first = Tgid(int(root)) if root.isdigit() else next(iter(found))
    return Snapshot(end_ns, first, found, {}, {}, source="recording", uncertain=_doubts(reader, end_ns))


def _enriched(reader: TraceReader, decoded: Decoded, stored: Snapshot) -> Snapshot:
    view = decoded.until(min(stored.time_ns, decoded.end_ns))
    since = calls_in_progress(view)
    threads = {tid: _since(thread, since.get(int(tid))) for tid, thread in stored.threads.items()}
    names = {Tgid(row[0]): str(row[3]) for row in view.processes if row[7] <= view.end_ns}
    processes = {pid: replace(process, name=names.get(pid, process.name)) for pid, process in stored.processes.items()}
    dead = {pid: process for pid, process in dead_processes(view).items() if pid not in stored.processes}
    return replace(
        stored,
        source="recording",
        threads=threads,
        processes={**processes, **dead},
        history=history_from(view, seen_levels(reader, view.end_ns)),
        uncertain=(*stored.uncertain, *_doubts(reader, view.end_ns)),
    )


def _since(thread: Thread, start_ns: int | None) -> Thread:
    if thread.call is None or start_ns is None:
        return thread
    return replace(thread, since_ns=start_ns, call=replace(thread.call, entered_ns=start_ns))


def calls_in_progress(view: Decoded) -> dict[int, int]:
    """Return the entry of the call that each living thread is inside of, by tid."""
    import numpy as np

    flags = view.calls["flags"] & int(CallFlag.UNFINISHED | CallFlag.KILLED)
    places = np.flatnonzero(flags == int(CallFlag.UNFINISHED))
    tids, starts = view.calls["tid"][places].tolist(), view.calls["start_ns"][places].tolist()
    return dict(zip(tids, starts, strict=True))


def dead_processes(view: Decoded) -> Mapping[Tgid, Process]:
    """Return the processes that had ended, by pid."""
    from qtrace.decode.rebuild import process_of

    ends: dict[int, tuple[int, int | None]] = {}
    for time, pid, tid, event, status, _ in view.lifecycle:
        if event == "exit" and tid == pid:
            ends[pid] = (time, status)
    found = {}
    for row in view.processes:
        if row[0] in ends and row[7] <= ends[row[0]][0]:
            time, status = ends[row[0]]
            code, signal = exit_of(status)
            found[Tgid(row[0])] = replace(process_of(row), state="X", end_ns=time, exit_code=code, exit_signal=signal)
    return found


def _doubts(reader: TraceReader, until_ns: int) -> tuple[str, ...]:
    doubts = [reader.damage] if reader.damage else []
    lost = sum(row[2] or 0 for row in reader.rows("losses") if row[0] <= until_ns)
    if lost:
        doubts.append(f"{lost} events were lost while recording")
    return tuple(doubts)
