"""The pandas tables of `qtrace.load`, column by column: dtype, unit and meaning, declared once.

Missing values are pandas NA. Times are CLOCK_MONOTONIC nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a public table."""

    name: str
    dtype: str
    """pandas dtype: Int64 where values can be missing, int64 where they cannot."""
    meaning: str


def _table(text: str) -> tuple[Column, ...]:
    rows = (line.split(None, 2) for line in text.strip().splitlines())
    return tuple(Column(name, dtype, meaning) for name, dtype, meaning in rows)


TABLES: Mapping[str, tuple[Column, ...]] = {
    "processes": _table("""
        pid         int64    thread group id
        image       int64    0 for the image it started with, 1 after the first exec, and so on
        ppid        Int64    parent at the start of this image
        name        string   for people: multiprocessing's name, script or command
        argv        object   list of str; NA if redacted
        start_ns    int64    begin of this image's life
        end_ns      Int64    end of it (exit or exec); NA while it lives
        exit_code   Int64    NA unless it exited
        exit_signal Int64    NA unless a signal ended it
    """),
    "threads": _table("""
        tid         int64    thread id
        pid         int64    thread group id
        name        string   Python's name where known, else the kernel's
        role        string   main, feeder, worker, handler, ... (model.kinds.Role)
        start_ns    int64    creation, or attach
        end_ns      Int64    NA while it lives
        creator_tid Int64    thread that made it
    """),
    "syscalls": _table("""
        start_ns    int64    entry
        dur_ns      Int64    entry to exit; NA if unfinished
        pid         int64    thread group id
        tid         int64    thread id
        name        category name of the call
        args        arguments  tuple of six raw arguments, made when it is looked at
        ret         Int64    result; NA if failed or unfinished
        errno       string   E-name; NA if it did not fail
        object_id   string   what it was on; NA if nothing
        unfinished  bool     had not returned at the end of the recording
    """),
    "waits": _table("""
        wait_id     int64    row number, referred to by other tables
        tid         int64    who waited
        pid         int64    its process
        start_ns    int64    begin of the blocked interval
        end_ns      int64    end of it, or of the recording if unfinished
        kind        category model.kinds.WaitKind
        object_id   string   what it waited on; NA if nothing
        name        category the call
        woken_by    Int64    tid that ended it; NA if the clock, the outside or nobody did
        stack_id    Int64    Python stack; NA if none was taken
        unfinished  bool     still waiting at the end
    """),
    "wakes": _table("""
        time_ns     int64    when
        waker_tid   int64    who ended the wait
        wakee_tid   int64    whose wait it was
        object_id   string   on what
        kind        category model.kinds.WaitKind of the wait
        wait_id     int64    row of waits
    """),
    "objects": _table("""
        object_id   string   see model.ids.ObjectId
        kind        category model.kinds.ObjectKind
        label       string   in words
        capacity    Int64    bytes, of pipes and sockets
        creator_pid Int64    process that made it
        created_ns  Int64    when
    """),
    "messages": _table("""
        object_id       string  pipe or socket
        seq             int64   number of the message on that object, from 0
        size            int64   body in bytes, without the header
        sender_tid      Int64   who wrote it
        receiver_tid    Int64   who read it; NA if nobody did
        write_start_ns  Int64   entry of the first write
        write_end_ns    Int64   exit of the last; NA if it never returned
        read_start_ns   Int64   entry of the first read
        read_end_ns     Int64   exit of the last
        complete        bool    all of it was read
    """),
    "fill": _table("""
        object_id   string   pipe
        time_ns     int64    when the level changed
        bytes       int64    level from then on
        capacity    Int64    bytes
    """),
}
"""Table name to its columns."""
