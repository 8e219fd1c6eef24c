"""What a recording knows beyond a moment: who died in which call, what is in the middle, who did what.

This is on the path of a verdict, so it uses NumPy and never pandas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from qtrace.decode.family import family_of
from qtrace.decode.frames import StackRow, stack_rows
from qtrace.model.calltext import call_text
from qtrace.model.ids import ObjectId, Tgid, Tid
from qtrace.model.records import CallFlag
from qtrace.model.snapshot import Call, Death, Framing, History, LastTaker, Use
from qtrace.model.syscalls import NEVER_RETURN

if TYPE_CHECKING:
    from qtrace.decode.arrays import BoolArray, IntArray
    from qtrace.decode.decoded import Decoded
    from qtrace.decode.streams import Messages, Streams
    from qtrace.tracefile.reader import TraceReader

Level = tuple[int, int]
"""(time, bytes) of a pipe, as a snapshot had it."""

_EAGAIN = -11


def history_of(reader: TraceReader, until_ns: int | None = None) -> History:
    """Return the history of a recording.

    Args:
        reader: The recording.
        until_ns: Up to when; the whole if None.
    """
    from qtrace.decode.decoded import decode
    from qtrace.decode.levels import seen_levels

    decoded = decode(reader)
    if until_ns is not None:
        decoded = decoded.until(until_ns)
    return history_from(decoded, seen_levels(reader, decoded.end_ns))


def history_from(decoded: Decoded, levels: Mapping[str, Level]) -> History:
    """Return the history of what has been decoded.

    Args:
        decoded: The recording, up to the moment.
        levels: Levels of pipes that were seen, by object id, the latest of each.
    """
    from qtrace.decode.streams import messages_of, streams_of

    family = family_of(decoded.lifecycle)
    streams = streams_of(decoded.calls, decoded.meta, decoded.descriptors, decoded.on)
    messages = messages_of(streams)
    return History(
        deaths=tuple(_deaths(decoded)),
        framing=_framing(decoded, streams, messages, levels),
        message_streams=frozenset(ObjectId(decoded.on.objects[number]) for number in set(messages.stream.tolist())),
        uses=_uses(decoded),
        takers=_takers(decoded),
        fork_threads={Tgid(birth.pid): tuple(Tid(tid) for tid in birth.parents_threads) for birth in family.forked()},
        creators={
            ObjectId(name): Tgid(node.creator_pid)
            for name, node in zip(decoded.descriptors.objects, decoded.descriptors.nodes, strict=True)
            if node.creator_pid is not None and (node.created_ns or 0) <= decoded.end_ns
        },
        children_made={Tgid(pid): count for pid, count in family.made.items()},
    )


# Deaths -------------------------------------------------------------------------------------------


def _deaths(decoded: Decoded) -> Iterator[Death]:
    calls = _last_unfinished(decoded)
    stacks = stack_rows(decoded.stacks)
    for time, pid, tid, event, status, _ in decoded.lifecycle:
        if event != "exit":
            continue
        code, signal = exit_of(status)
        place = calls.get(tid)
        call, object_id, stack = None, None, None
        if place is not None and int(decoded.calls["start_ns"][place]) <= time:
            call = call_at(decoded, place)
            number = int(decoded.on.number[place])
            object_id = ObjectId(decoded.on.objects[number]) if number >= 0 else None
            stack = stacks.get((tid, call.entered_ns or 0))
        yield Death(
            Tid(tid), Tgid(pid), _name_of(decoded, pid, tid, stack), time, code, signal, call, object_id,
            stack.frames if stack is not None else (),
        )  # fmt: skip


def exit_of(status: int | None) -> tuple[int | None, int | None]:
    """Return exit code and signal of a raw wait status (wait(2)); one of them is None."""
    if status is None:
        return None, None
    signal = status & 0x7F
    return (None, signal) if signal else (status >> 8 & 0xFF, None)


def _last_unfinished(decoded: Decoded) -> dict[int, int]:
    # A thread that ended in the middle of a call; one that ended by asking for it is in no call.
    import numpy as np

    from qtrace.decode.arrays import chosen

    waiting = (decoded.calls["flags"] & int(CallFlag.UNFINISHED)) != 0
    waiting &= ~chosen(decoded.calls, decoded.architecture, NEVER_RETURN)
    return {int(decoded.calls["tid"][place]): place for place in np.flatnonzero(waiting).tolist()}


def call_at(decoded: Decoded, place: int) -> Call:
    """Return a recorded call as one that a thread is inside of."""
    from qtrace.model.syscalls import by_number

    record = decoded.calls[place]
    row = by_number(decoded.architecture).get(int(record["nr"]))
    name = row.name if row is not None else f"syscall_{int(record['nr'])}"
    args = tuple(int(record[f"a{number}"]) for number in range(6))
    return Call(name, args, call_text(name, args), int(record["start_ns"]))


def _name_of(decoded: Decoded, pid: int, tid: int, stack: StackRow | None) -> str:
    if tid == pid:
        return next((row[3] for row in reversed(decoded.processes) if row[0] == pid and row[3]), f"pid {pid}")
    if stack is not None and stack.thread_name:
        return stack.thread_name
    return next((row[2] for row in reversed(decoded.threads) if row[0] == tid and row[2]), f"tid {tid}")


# Streams ------------------------------------------------------------------------------------------


def _framing(
    decoded: Decoded, streams: Streams, messages: Messages, levels: Mapping[str, Level]
) -> dict[ObjectId, Framing]:
    import numpy as np

    open_ones = np.flatnonzero(~messages.complete & ((messages.received > 0) | (messages.write_end_ns < 0)))
    found: dict[ObjectId, Framing] = {}
    for place in open_ones.tolist():
        stream = int(messages.stream[place])
        name = ObjectId(decoded.on.objects[stream])
        if name in found:
            continue  # bytes come out in the order they went in: the first one is the one that is read
        found[name] = Framing(
            name,
            int(messages.total[place]),
            int(messages.received[place]),
            _put_in(decoded, streams, messages, place, levels.get(name)),
            Tgid(int(messages.sender_pid[place])),
            Tid(int(messages.sender[place])),
        )
    return found


def _put_in(decoded: Decoded, streams: Streams, messages: Messages, place: int, seen: Level | None) -> int:
    # Of a write that has not returned nobody says how much it put in: so much as was taken out and
    # what lies in the pipe. The kernel was asked for that at the last look, if there was one; if a
    # reader waits there, it is empty; otherwise the writer has filled it.
    from qtrace.decode.streams import level_of_blocked

    first, total = int(messages.first_byte[place]), int(messages.total[place])
    received = int(messages.received[place])
    if int(messages.write_end_ns[place]) >= 0:
        return total
    stream = int(messages.stream[place])
    if stream in streams.waited_for:
        return received
    upper = min(int(messages.written[place]), total)
    if seen is not None:
        reads = streams.reads.part(stream)
        taken = int(streams.reads.bytes[reads][streams.reads.end_ns[reads] <= seen[0]].sum())
        return min(max(taken + seen[1] - first, received), upper)
    level = level_of_blocked(streams, stream, decoded.descriptors.capacity_at(stream, decoded.end_ns))
    return min(max(streams.taken(stream) + level - first, received), upper)


# Uses and locks -----------------------------------------------------------------------------------


def _uses(decoded: Decoded) -> dict[tuple[Tgid, ObjectId], Use]:
    import numpy as np

    from qtrace.decode.arrays import chosen, ends_of, numbered
    from qtrace.decode.blocking import blocked, floor_of, futex_wakes, last_of
    from qtrace.decode.streams import READS, WRITES

    calls, meta = decoded.calls, decoded.meta
    known = np.flatnonzero(decoded.on.number >= 0)
    number = decoded.on.number[known].astype(np.uint64)
    pairs, place = numbered(calls["pid"][known].astype(np.uint64) << np.uint64(32) | number)
    done = (calls["ret"] > 0) & ((calls["flags"] & int(CallFlag.UNFINISHED)) == 0)
    waits = blocked(calls, meta, floor_of(calls, meta))

    def counted(which: BoolArray) -> list[int]:
        counts: list[int] = np.bincount(place[which[known]], minlength=len(pairs)).tolist()
        return counts

    reads = counted(chosen(calls, decoded.architecture, READS) & done)
    writes = counted(chosen(calls, decoded.architecture, WRITES) & done)
    waited = counted(waits)
    woke = counted(futex_wakes(calls, meta) & done)
    latest: IntArray = ends_of(calls)[known][last_of(place, len(pairs))] if len(known) else np.zeros(0, dtype=np.int64)
    found = {}
    for row, pair in enumerate(pairs.tolist()):
        key = Tgid(pair >> 32), ObjectId(decoded.on.objects[pair & 0xFFFFFFFF])
        found[key] = Use(reads[row], writes[row], waited[row], woke[row], int(latest[row]))
    return found


def _takers(decoded: Decoded) -> dict[ObjectId, LastTaker]:
    import numpy as np

    from qtrace.decode.arrays import ends_of, numbered
    from qtrace.decode.blocking import futex_waits, futex_wakes, last_of

    calls, meta = decoded.calls, decoded.meta
    waits = futex_waits(calls, meta)
    at = np.flatnonzero((waits | futex_wakes(calls, meta)) & (decoded.on.number >= 0))
    at = at[np.argsort(ends_of(calls)[at], kind="stable")]
    number = decoded.on.number[at].astype(np.uint64)
    keys, place = numbered(calls["tid"][at].astype(np.uint64) << np.uint64(32) | number)
    last = at[last_of(place, len(keys))]
    took = waits[last] & np.isin(calls["ret"][last], (0, _EAGAIN))
    took &= (calls["flags"][last] & int(CallFlag.UNFINISHED)) == 0
    ends = ends_of(calls)[last]
    found: dict[ObjectId, LastTaker] = {}
    for row in np.flatnonzero(took)[np.argsort(ends[took], kind="stable")].tolist():
        name = ObjectId(decoded.on.objects[int(keys[row]) & 0xFFFFFFFF])
        record = calls[last[row]]
        why = "came back last from a wait on this lock, and has woken nobody since"
        found[name] = LastTaker(name, Tid(int(record["tid"])), Tgid(int(record["pid"])), int(ends[row]), why)
    return found
