"""A recording's parts, each computed when it is first asked for: what the pandas tables are made from."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from qtrace.decode.arrays import BoolArray, CallArray, IntArray, distinct, names_of
from qtrace.decode.decoded import Decoded, Row, decode
from qtrace.decode.family import Family, family_of
from qtrace.decode.frames import StackRow, stack_rows
from qtrace.decode.history import exit_of
from qtrace.decode.json_text import mapping_of
from qtrace.decode.levels import seen_levels
from qtrace.decode.operands import Operands
from qtrace.decode.streams import Fill, Messages, Streams, fill_of, messages_of, number_map, streams_of
from qtrace.decode.waits import KINDS, Waits, waits_of
from qtrace.model.kinds import ObjectKind
from qtrace.tracefile.reader import TraceReader

_KIND_BY_PREFIX = {
    "futex": ObjectKind.FUTEX, "child": ObjectKind.CHILD, "children": ObjectKind.CHILD, "lock": ObjectKind.FILE_LOCK,
    "path": ObjectKind.FILE,
}  # fmt: skip


class Parts:
    """One recording, decoded piece by piece."""

    def __init__(self, reader: TraceReader) -> None:
        """Read the recording; it can be closed afterwards."""
        self._decoded: Decoded = decode(reader)
        self._levels = seen_levels(reader, reader.end_ns)
        self._snapshots = reader.rows("snapshots")
        self.meta: dict[str, str] = reader.meta
        self.start_ns: int = reader.start_ns
        self.end_ns: int = reader.end_ns
        self.losses: list[Row] = reader.rows("losses")
        self.damage: str = reader.damage
        self.wait_kinds: list[str] = [str(kind) for kind in KINDS]

    @property
    def calls(self) -> CallArray:
        """Every call in the order of entry."""
        return self._decoded.calls

    @property
    def call_object(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """For each call the number of the object that it was on; -1: none."""
        return self._decoded.on.number

    @property
    def object_ids(self) -> list[str]:
        """Object ids by number."""
        return self._decoded.on.objects

    @cached_property
    def call_names(self) -> tuple[list[str], IntArray]:
        """Names of calls, and the place in them by number (as unsigned 16 bits); -1: unknown."""
        return names_of(self._decoded.architecture)

    # Lives --------------------------------------------------------------------------------------

    @cached_property
    def _family(self) -> Family:
        return family_of(self._decoded.lifecycle)

    @cached_property
    def processes(self) -> list[Row]:
        """Rows of `processes`; ends and statuses that the recorder did not get to write are filled in."""
        ends = {row[1]: (row[0], *exit_of(row[4])) for row in self._decoded.lifecycle if row[3] == "exit"
                and row[1] == row[2]}  # fmt: skip
        latest = {row[0]: row[1] or 0 for row in self._decoded.processes}
        found = []
        for row in self._decoded.processes:
            last = (row[1] or 0) == latest[row[0]]
            if last and row[8] is None and row[0] in ends and ends[row[0]][0] >= row[7]:
                row = (*row[:8], *ends[row[0]])
            found.append(row)
        return found

    @property
    def lifecycle(self) -> list[Row]:
        """Rows of `lifecycle` in the order of time."""
        return self._decoded.lifecycle

    @cached_property
    def threads(self) -> list[Row]:
        """Rows of `threads`, named as Python names them where a stack was taken."""
        names = {(stack.tid, start): stack.thread_name for (_, start), stack in self.stacks.items()}
        by_tid = {tid: name for (tid, _), name in sorted(names.items(), key=lambda item: item[0][1]) if name}
        for tid, name in self._names_in_snapshots().items():
            by_tid.setdefault(tid, name)
        ends = {row[2]: row[0] for row in self._decoded.lifecycle if row[3] == "exit"}
        found = []
        for tid, pid, name, creator, tls, start, end in self._decoded.threads:
            name = by_tid.get(tid) or name or ("MainThread" if tid == pid else "")
            ended = ends.get(tid)
            end = ended if end is None and ended is not None and ended >= start else end
            found.append((tid, pid, name, creator, tls, start, end))
        return found

    def _names_in_snapshots(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for _, _, text in self._snapshots:
            threads = mapping_of(text).get("threads")
            for pair in threads if isinstance(threads, list) else ():
                if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], dict) and isinstance(pair[0], int):
                    names[pair[0]] = str(pair[1].get("name") or "")
        return names

    @cached_property
    def stacks(self) -> dict[tuple[int, int], StackRow]:
        """Python stacks by thread and the entry of the call they were taken in."""
        return stack_rows(self._decoded.stacks)

    # What they did ------------------------------------------------------------------------------

    @cached_property
    def _streams(self) -> Streams:
        return streams_of(self._decoded.calls, self.meta, self._decoded.descriptors, self._decoded.on)

    @cached_property
    def waits(self) -> Waits:
        """Blocked intervals."""
        return waits_of(self._decoded, self._streams)

    @cached_property
    def messages(self) -> Messages:
        """Messages through Connections."""
        return messages_of(self._streams)

    @cached_property
    def fill(self) -> Fill:
        """Levels of pipes."""
        on: Operands = self._decoded.on
        return fill_of(self._streams, self._decoded.descriptors, on, number_map(self._levels, on.objects))

    @cached_property
    def object_rows(self) -> list[tuple[str, str, str, int | None, int | None, int | None]]:
        """(object id, kind, label, capacity, creator's pid, made at) by number."""
        carriers = set(distinct(self.messages.stream))
        return [self._object_row(number, name, number in carriers) for number, name in enumerate(self.object_ids)]

    def _object_row(
        self, number: int, name: str, carries_messages: bool
    ) -> tuple[str, str, str, int | None, int | None, int | None]:
        descriptors = self._decoded.descriptors
        if number < len(descriptors.nodes):
            node = descriptors.nodes[number]
            capacity = descriptors.capacity_at(number, self.end_ns)
            kind = node.kind
            label = f"{kind} of messages" if carries_messages else str(kind).replace("-", " ")
            if kind is ObjectKind.FILE and name in self._decoded.files:
                label = f"file {self._decoded.files[name]}"
            return name, str(kind), label, capacity, node.creator_pid, node.created_ns
        kind = self._kind_of_word(number, name)
        return name, str(kind), self._label(name, kind), None, None, None

    def _kind_of_word(self, number: int, name: str) -> ObjectKind:
        prefix = name.partition(":")[0]
        if prefix == "shared":
            mapping = self._decoded.on.mapping.get(number, "")
            semaphore = mapping.rpartition("/")[2].startswith("sem.")
            return ObjectKind.SEMAPHORE if semaphore else ObjectKind.FUTEX
        if prefix in _KIND_BY_PREFIX:
            return _KIND_BY_PREFIX[prefix]
        try:
            return ObjectKind(prefix)
        except ValueError:
            return ObjectKind.OTHER

    def _label(self, name: str, kind: ObjectKind) -> str:
        prefix, _, rest = name.partition(":")
        if kind is ObjectKind.FUTEX and prefix == "futex":
            pid = rest.partition(":")[0]
            return f"lock in {self._process_name(int(pid))}" if pid.isdigit() else "lock of one process"
        if prefix in ("child", "children") and rest.isdigit():
            who = self._process_name(int(rest))
            return who if prefix == "child" else f"any child of {who}"
        words = {
            ObjectKind.SEMAPHORE: "shared semaphore",
            ObjectKind.FUTEX: "shared lock",
            ObjectKind.CLOCK: "the clock",
            ObjectKind.SIGNAL: "a signal",
            ObjectKind.FILE_LOCK: "file lock",
        }
        return words.get(kind, str(kind))

    def _process_name(self, pid: int) -> str:
        return self._process_names.get(pid, f"pid {pid}")

    @cached_property
    def _process_names(self) -> dict[int, str]:
        return {row[0]: str(row[3]) for row in self.processes}

    def is_used(self) -> BoolArray:
        """Return which objects a call was on, or a message went through."""
        used = np.zeros(len(self.object_ids), dtype=bool)
        used[self.call_object[self.call_object >= 0]] = True
        used[self.messages.stream] = True
        return used
