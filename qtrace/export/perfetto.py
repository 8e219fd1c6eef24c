"""A recording in the Trace Event Format, which ui.perfetto.dev and chrome://tracing open.

Why JSON and not Perfetto's own protobuf: both viewers read it, and so do a dozen other tools. What
is written, by the format's letters:

- ``M`` names and order of processes and threads;
- ``X`` a slice for each call, on its thread; one that waited has the kind of wait in its name and
  category; ``B`` without an end for a call that had not returned at the recording's end: the viewers
  draw it to the edge;
- ``s`` and ``f`` an arrow from the call that ended a wait to that wait's end;
- ``C`` the level of each pipe, in bytes, under the process that made it;
- ``i`` where the recording ends.

Times are microseconds since the recording's start, with three decimals; exact nanoseconds and the
call as strace prints it are among the arguments.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

import numpy as np

from qtrace.export.call_words import CallRow, machine_of, name_of, words_of
from qtrace.export.tables import CHUNK_ROWS, Tables, meta_of
from qtrace.model.records import CallFlag

if TYPE_CHECKING:
    import pandas as pd

_UNFINISHED, _KILLED = int(CallFlag.UNFINISHED), int(CallFlag.KILLED)


def write_perfetto(trace: Tables, out: TextIO) -> None:
    """Write a recording as one JSON object; events are streamed, never all in memory."""
    events = _Events(trace)
    facts = {key: value for key, value in meta_of(trace).items() if isinstance(value, str | int)}
    out.write(f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(facts)}, "traceEvents": [\n')
    between = ""
    for event in events.all():
        out.write(between + event)
        between = ",\n"
    out.write("\n]}\n")


class _Events:
    def __init__(self, trace: Tables) -> None:
        self.trace = trace
        self.machine = machine_of(trace.meta)
        self.start_ns = trace.start_ns
        waits, objects = trace.waits, trace.objects
        self.kinds = dict(
            zip(zip(waits["tid"].tolist(), waits["start_ns"].tolist(), strict=True), _rows(waits), strict=True)
        )
        self.labels = dict(zip(objects["object_id"].tolist(), objects["label"].tolist(), strict=True))

    def all(self) -> Iterator[str]:
        """Yield every event as JSON."""
        yield from self._names()
        yield from self._calls()
        yield from self._wakes()
        yield from self._levels()
        root = self.trace.meta.get("root_pid", "")
        yield _event(
            "end of the recording", "i", self._us(self.trace.end_ns), int(root) if root.isdigit() else 0, s="g"
        )

    def _us(self, time_ns: int) -> str:
        # Text, for a float has not enough digits for nanoseconds of a day.
        since = time_ns - self.start_ns
        return f"{'-' if since < 0 else ''}{abs(since) // 1000}.{abs(since) % 1000:03}"

    def _names(self) -> Iterator[str]:
        processes = self.trace.processes.drop_duplicates("pid", keep="last").sort_values("start_ns", kind="stable")
        for place, (pid, name) in enumerate(zip(processes["pid"].tolist(), processes["name"].tolist(), strict=True)):
            yield _event("process_name", "M", "0", pid, args={"name": str(name)})
            yield _event("process_sort_index", "M", "0", pid, args={"sort_index": place})
        threads = self.trace.threads.sort_values("start_ns", kind="stable")
        columns = (threads[name].tolist() for name in ("tid", "pid", "name", "role"))
        for place, (tid, pid, name, role) in enumerate(zip(*columns, strict=True)):
            named = name if isinstance(name, str) else role if isinstance(role, str) else f"tid {tid}"
            yield _event("thread_name", "M", "0", pid, tid, args={"name": named})
            yield _event("thread_sort_index", "M", "0", pid, tid, args={"sort_index": place})

    # Calls --------------------------------------------------------------------------------------

    def _calls(self) -> Iterator[str]:
        calls = self.trace.calls
        for first in range(0, len(calls), CHUNK_ROWS):
            for row in calls[first : first + CHUNK_ROWS].tolist():
                yield self._call(row)

    def _call(self, row: CallRow) -> str:
        start, spent, tid, pid, number, flags, *_ = row
        name = name_of(number, self.machine)
        args: dict[str, object] = {"call": words_of(row, self.machine), "start_ns": start, "dur_ns": spent}
        category = "call"
        wait = self.kinds.get((tid, start))
        if wait is not None:
            kind, object_id, woken_by = wait
            name, category = f"{name}: {kind}", f"wait,{kind}"
            if object_id is not None:
                args |= {"object": self.labels.get(object_id) or object_id, "object_id": object_id}
            if woken_by is not None:
                args["woken_by"] = woken_by
        if flags & _UNFINISHED:
            args["unfinished"] = True
            if not flags & _KILLED and start + spent >= self.trace.end_ns:
                return _event(name, "B", self._us(start), pid, tid, cat=category, args=args)
        return _event(name, "X", self._us(start), pid, tid, cat=category, dur=_duration(spent), args=args)

    # Arrows and levels --------------------------------------------------------------------------

    def _wakes(self) -> Iterator[str]:
        wakes, waits, threads = self.trace.wakes, self.trace.waits, self.trace.threads
        pid_of = dict(zip(threads["tid"].tolist(), threads["pid"].tolist(), strict=True))
        ends = dict(zip(waits["wait_id"].tolist(), waits["end_ns"].tolist(), strict=True))
        columns = (wakes[name].tolist() for name in ("time_ns", "waker_tid", "wakee_tid", "kind", "wait_id"))
        inside = _Within(self.trace.calls)
        for time, waker, wakee, kind, wait_id in zip(*columns, strict=True):
            # An arrow hangs on the slice that encloses its time; a slice's end is not inside of it.
            begin, end = inside(waker, time), ends[wait_id] - 1
            if begin is None or waker not in pid_of or wakee not in pid_of:
                continue
            begin = min(begin, end)
            common = {"cat": "wake", "id": wait_id}
            yield _event(f"wakes: {kind}", "s", self._us(begin), pid_of[waker], waker, **common)
            yield _event(f"wakes: {kind}", "f", self._us(end), pid_of[wakee], wakee, **common, bp="e")

    def _levels(self) -> Iterator[str]:
        fill, objects = self.trace.fill, self.trace.objects
        makers = dict(zip(objects["object_id"].tolist(), objects["creator_pid"].tolist(), strict=True))
        root = self.trace.meta.get("root_pid", "0")
        columns = (fill[name].tolist() for name in ("object_id", "time_ns", "bytes"))
        for object_id, time, level in zip(*columns, strict=True):
            maker = makers.get(object_id)
            pid = maker if isinstance(maker, int) else int(root)
            label = self.labels.get(object_id)
            name = f"bytes in {label} {object_id}" if isinstance(label, str) else f"bytes in {object_id}"
            yield _event(name, "C", self._us(time), pid, args={"bytes": level})


class _Within:
    """Finds the moment of a thread's call that a wake belongs to."""

    def __init__(self, calls: np.ndarray[tuple[int], np.dtype[np.void]]) -> None:
        self._order = np.argsort(calls["tid"], kind="stable")  # by thread, each in the order of entry
        self._tids = calls["tid"][self._order]
        self._starts = calls["start_ns"][self._order]
        self._spent = calls["dur_ns"][self._order]

    def __call__(self, tid: int, time_ns: int) -> int | None:
        """Return a time inside of a slice: this, or the last one of a call that ended just then; None: no slice."""
        first, last = np.searchsorted(self._tids, [tid, tid + 1]).tolist()
        place = first + int(np.searchsorted(self._starts[first:last], time_ns, side="right")) - 1
        if place < first:
            return None
        start, spent = int(self._starts[place]), int(self._spent[place])
        return min(time_ns, max(start + spent - 1, start)) if time_ns <= start + spent else None


def _rows(waits: pd.DataFrame) -> Iterator[tuple[str, str | None, int | None]]:
    columns = (waits[name].tolist() for name in ("kind", "object_id", "woken_by"))
    for kind, object_id, woken_by in zip(*columns, strict=True):
        yield kind, object_id if isinstance(object_id, str) else None, woken_by if isinstance(woken_by, int) else None


def _duration(spent_ns: int) -> str:
    return f"{spent_ns // 1000}.{spent_ns % 1000:03}"


def _event(name: str, phase: str, ts: str, pid: int, tid: int | None = None, **more: object) -> str:
    parts = [f'{{"name": {json.dumps(name)}, "ph": "{phase}", "ts": {ts}, "pid": {pid}']
    if tid is not None:
        parts.append(f'"tid": {tid}')
    for key, value in more.items():
        parts.append(f'"{key}": {value if key == "dur" else json.dumps(value)}')
    return ", ".join(parts) + "}"
