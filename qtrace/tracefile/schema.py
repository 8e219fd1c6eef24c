"""The recording's schema: ordinary SQLite tables, and calls in blocks of packed records.

`qtrace schema` prints this module's text. Times are CLOCK_MONOTONIC nanoseconds. Calls, of which
there are millions, lie in `blocks`: each row holds some ten thousand records of
`qtrace.model.records.CALL_FIELDS`, stored column after column (all start_ns, then all dur_ns, ...;
start_ns as differences to the one before) and compressed with zlib. Within a block records stand in
the order of their end; blocks overlap in time.
"""

from __future__ import annotations

APPLICATION_ID = 0x71747263
"""SQLite's application_id of a recording: the letters "qtrc"."""
SCHEMA_VERSION = 2
"""SQLite's user_version; a reader refuses a higher one."""


class TableSchema:
    """One table: what a row is, and its definition."""

    __slots__ = ("ddl", "name", "row")

    name: str
    row: str
    ddl: str

    def __init__(self, name: str, row: str, ddl: str) -> None:
        self.name = name
        self.row = row
        self.ddl = ddl


TABLES: tuple[TableSchema, ...] = (
    TableSchema(
        "meta",
        "a fact about the recording: qtrace, python, kernel, architecture, engine, target, argv (JSON), cwd, "
        "start_ns, start_wall_ns, end_ns, end_reason, end_begins_ns, exit_status (raw wait status of the target), "
        "root_pid, first_block and last_block (of blocks; the first where older ones were let go), "
        "pending_calls (rows of pending), "
        "lacks (what the engine cannot see), "
        "rings (what fills those of the perf engine, of a program that it has started: bpf or perf), "
        "storing_ended (why, where the disk was full), storing_ended_ns, "
        "program_end_ns (of a program that went on after that), "
        "complete (1 when the recorder closed the file itself), limits (JSON), redacted; the cost of tracing: "
        "stops (of threads, in number), stops_cpu_ns (CPU time of the recorder's thread that handled them), "
        "recorder_cpu_ns (of all its threads), stops_in_c (of the stops: those that the library of hot stops "
        "handled; absent where that was not in use)",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    ),
    TableSchema(
        "processes",
        "a process image's life; image counts execs; argv is JSON",
        "CREATE TABLE processes (pid INTEGER, image INTEGER, ppid INTEGER, name TEXT, argv TEXT, exe TEXT, uid INTEGER,"
        " start_ns INTEGER, end_ns INTEGER, exit_code INTEGER, exit_signal INTEGER, PRIMARY KEY (pid, start_ns))",
    ),
    TableSchema(
        "threads",
        "a thread; tls is the thread pointer given to clone (pthread_self), which names it to py-spy up to 3.10",
        "CREATE TABLE threads (tid INTEGER, pid INTEGER, name TEXT, creator_tid INTEGER, tls INTEGER,"
        " start_ns INTEGER, end_ns INTEGER, PRIMARY KEY (tid, start_ns))",
    ),
    TableSchema(
        "sightings",
        "what a descriptor was when the recorder looked at it (/proc/PID/fd, fdinfo); link as readlink gives it, "
        "object_id as in qtrace.model.ids, access r, w or rw, capacity of a pipe",
        "CREATE TABLE sightings (time_ns INTEGER, pid INTEGER, fd INTEGER, link TEXT, object_id TEXT, access TEXT,"
        " capacity INTEGER)",
    ),
    TableSchema(
        "words",
        "which object a futex word is: addr in pid's address space from time_ns on; kind is the mapping's",
        "CREATE TABLE words (time_ns INTEGER, pid INTEGER, addr INTEGER, object_id TEXT, mapping TEXT)",
    ),
    TableSchema(
        "lifecycle",
        "what happened to a thread: qtrace.model.records.LIFECYCLE_EVENTS; detail is JSON",
        "CREATE TABLE lifecycle (time_ns INTEGER, pid INTEGER, tid INTEGER, event TEXT, value INTEGER, detail TEXT)",
    ),
    TableSchema(
        "details",
        "what does not fit a call's record, by thread and entry; what: pollfds, sockaddr, passed_fds, path, "
        "epoll_event; value is JSON",
        "CREATE TABLE details (tid INTEGER, start_ns INTEGER, what TEXT, value TEXT)",
    ),
    TableSchema(
        "stacks",
        "a Python stack, innermost frame first, as JSON of qtrace.model.snapshot.Frame; reason: long-wait or hang; "
        "start_ns is the entry of the call it was taken in",
        "CREATE TABLE stacks (stack_id INTEGER PRIMARY KEY, pid INTEGER, tid INTEGER, time_ns INTEGER,"
        " start_ns INTEGER, reason TEXT, thread_name TEXT, frames TEXT)",
    ),
    TableSchema(
        "snapshots",
        "a moment of the whole tree as JSON of qtrace.model.snapshot.Snapshot; reason: hang, end, timeout, interrupt",
        "CREATE TABLE snapshots (time_ns INTEGER, reason TEXT, snapshot TEXT)",
    ),
    TableSchema(
        "losses",
        "events that are missing; where names the CPU, the limit or the cause",
        "CREATE TABLE losses (start_ns INTEGER, end_ns INTEGER, events INTEGER, place TEXT, reason TEXT)",
    ),
    TableSchema(
        "pending",
        "calls in progress at the last flush: one packed record a thread, replaced at each flush",
        "CREATE TABLE pending (tid INTEGER PRIMARY KEY, record BLOB)",
    ),
    TableSchema(
        "rings",
        "what perf's ring buffers gave and calls were not made of yet when the recorder was killed: kind enter or "
        "exit (the kernel's records, of one size), open or interrupted (packed calls); all looked into at time_ns. "
        "Since version 2",
        "CREATE TABLE rings (part INTEGER PRIMARY KEY, time_ns INTEGER, kind TEXT, records BLOB)",
    ),
    TableSchema(
        "blocks",
        "calls that ended: see above",
        "CREATE TABLE blocks (block INTEGER PRIMARY KEY, first_ns INTEGER, last_ns INTEGER, calls INTEGER, codec TEXT,"
        " records BLOB)",
    ),
)
