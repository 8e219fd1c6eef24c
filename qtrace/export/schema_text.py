"""The documented schema of a recording and of the tables made from it, for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtrace.model import columns
from qtrace.model.records import CALL_BYTES, CALL_FIELDS, LIFECYCLE_EVENTS, CallFlag

SCHEMA_SCHEMA = "qtrace.schema/1"
_WIDTH = 100

FIELD_MEANINGS: Mapping[str, str] = {
    "start_ns": "entry, or the attach (AT_ATTACH)",
    "dur_ns": "exit minus entry; up to the end of the recording if UNFINISHED",
    "tid": "the thread",
    "pid": "its thread group",
    "nr": "number of the call in the recording's architecture",
    "flags": "see the flags below",
    "ret": "raw result: a negative errno on failure; 0 if UNFINISHED",
    **{f"a{place}": f"raw argument {place + 1}" for place in range(6)},
    "head": "8 bytes of memory whose meaning depends on the call (HAS_HEAD)",
}
FLAG_MEANINGS: Mapping[CallFlag, str] = {
    CallFlag.UNFINISHED: "had not returned when the recording, or the thread, ended",
    CallFlag.HAS_HEAD: "head holds memory, little-endian: the first bytes of what was read or written on a pipe or "
    "socket; both descriptors of pipe, pipe2 and socketpair; the status of wait4; the pollfd of a poll on one "
    "descriptor; nanoseconds of nanosleep, clock_nanosleep and of a futex wait's timeout; the events of epoll_ctl",
    CallFlag.RESTARTED: "interrupted and continued by the kernel: one wait",
    CallFlag.AT_ATTACH: "was in progress when the tracer attached: the start is the attach",
    CallFlag.HAS_DETAIL: "the table details has more",
    CallFlag.FROM_PERF: "came from the perf ring buffer, not from a stop",
    CallFlag.KILLED: "the thread died inside of the call (with UNFINISHED)",
    CallFlag.COMPAT: "made by a 32-bit program: number and arguments are those of the 64-bit call that does the same",
}


@dataclass(frozen=True, slots=True)
class RecordingSchema:
    """The schema of the file, as `qtrace.tracefile.schema` states it."""

    version: int
    application_id: int
    notes: str
    tables: Sequence[tuple[str, str, str]]
    """(name, what a row is, definition)."""


def schema_text(recording: RecordingSchema) -> str:
    """Return the schema in words: the file's tables, the record of a call, and the pandas tables."""
    lines = [
        f"A recording: an SQLite database, format {recording.version} (user_version), "
        f"application_id {recording.application_id:#x}",
        "",
        *recording.notes.strip().splitlines(),
        "",
    ]
    for name, row, ddl in recording.tables:
        lines += _paragraph(f"{name}: {row}.") + _paragraph(ddl, "    ") + [""]
    lines += [f"A call in blocks and pending: {CALL_BYTES} bytes, without padding (NumPy's dtypes)", ""]
    lines += [*_aligned([(name, kind, FIELD_MEANINGS[name]) for name, kind in CALL_FIELDS]), ""]
    lines += ["Flags of a call", ""]
    lines += [*_aligned([(flag.name or "", str(int(flag)), FLAG_MEANINGS[flag]) for flag in CallFlag]), ""]
    lines += [*_paragraph("Events of lifecycle: " + ", ".join(LIFECYCLE_EVENTS) + "."), ""]
    lines += ["The pandas tables of qtrace.load(FILE), and of every export", ""]
    lines += _paragraph(
        "Times are integer nanoseconds on CLOCK_MONOTONIC; the wall clock of the start is start_wall_ns in meta. "
        "What is missing is NA, never 0 or -1."
    )
    for name, some in columns.TABLES.items():
        lines += ["", name, *_aligned([(column.name, column.dtype, column.meaning) for column in some])]
    return "\n".join(lines) + "\n"


def schema_object(recording: RecordingSchema) -> dict[str, object]:
    """Return the same as one plain object (``qtrace.schema/1``)."""
    return {
        "schema": SCHEMA_SCHEMA,
        "format": recording.version,
        "application_id": recording.application_id,
        "recording": [{"table": name, "row": row, "sql": ddl} for name, row, ddl in recording.tables],
        "call": [{"field": name, "dtype": kind, "meaning": FIELD_MEANINGS[name]} for name, kind in CALL_FIELDS],
        "call_flags": [{"flag": flag.name, "value": int(flag), "meaning": FLAG_MEANINGS[flag]} for flag in CallFlag],
        "lifecycle_events": list(LIFECYCLE_EVENTS),
        "tables": {
            name: [{"column": column.name, "dtype": column.dtype, "meaning": column.meaning} for column in some]
            for name, some in columns.TABLES.items()
        },
    }


def _paragraph(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _aligned(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    first = max(len(row[0]) for row in rows)
    second = max(len(row[1]) for row in rows)
    lines = []
    for name, kind, meaning in rows:
        begin = f"    {name:<{first}}  {kind:<{second}}  "
        lines += textwrap.wrap(meaning, _WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))
    return lines
