"""Recordings written by hand: calls and rows, given in a few words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from qtrace.model.records import CALL_STRUCT, CallFlag
from qtrace.model.syscalls import Architecture, number_of
from qtrace.tracefile.writer import TraceWriter


def packed(
    start_ns: int,
    dur_ns: int,
    tid: int,
    name: str,
    args: Sequence[int] = (),
    ret: int = 0,
    *,
    pid: int | None = None,
    head: bytes | None = None,
    flags: int = 0,
) -> bytes:
    """Return one call as the tracer packs it."""
    number = number_of(name, Architecture.X86_64)
    assert number is not None
    six = [arg & (1 << 64) - 1 for arg in (*args, *[0] * (6 - len(args)))]
    if head is not None:
        flags |= CallFlag.HAS_HEAD
    word = int.from_bytes((head or b"")[:8].ljust(8, b"\0"), "little")
    return CALL_STRUCT.pack(start_ns, dur_ns, tid, tid if pid is None else pid, number, flags, ret, *six, word)


def write_recording(
    path: Path,
    calls: Iterable[bytes] = (),
    rows: Mapping[str, Iterable[Sequence[object]]] | None = None,
    *,
    pending: Iterable[bytes] = (),
    blocks: int = 1,
    **meta: object,
) -> Path:
    """Write a recording and return its path.

    Args:
        path: Where to.
        calls: Packed calls in the order of their end.
        rows: Rows by table.
        pending: Packed calls in progress.
        blocks: Into how many blocks the calls go.
        meta: Facts beside ``architecture`` and ``start_ns``.
    """
    writer = TraceWriter(path, overwrite=True)
    every = list(calls)
    size = max(-(-len(every) // blocks), 1)
    waiting = {CALL_STRUCT.unpack(record)[2]: record for record in pending}
    writer.watch_calls(lambda: None, lambda: waiting)
    writer.set_meta(**{"architecture": "x86_64", "start_ns": 0, "root_pid": 100, **meta})
    for table, some in (rows or {}).items():
        writer.add_rows(table, some)
    for start in range(0, len(every), size):
        writer.add_calls(b"".join(every[start : start + size]))
        writer.flush()
    writer.close()
    return path


def event(time_ns: int, pid: int, tid: int, name: str, value: int = 0, **detail: object) -> tuple[object, ...]:
    """Return a row of lifecycle."""
    return (time_ns, pid, tid, name, value, json.dumps(detail))
