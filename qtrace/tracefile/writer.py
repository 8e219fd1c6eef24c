"""Write a recording so that a SIGKILL at any moment leaves a file that loads.

A thread of its own commits what has been added, three times a second; what is committed is in the one
file. SQLite's rollback journal is used without waiting for the disk (``synchronous=OFF``): a
killed process, unlike a power loss, loses nothing that was handed to the kernel. A write-ahead log
would be quicker, but leaves half of the recording in a second file that nobody copies along.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sqlite3
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from qtrace.errors import OutputExistsError, RecordingError
from qtrace.model.records import CALL_BYTES, CALL_FIELDS, CALL_STRUCT
from qtrace.tracefile.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _Entry = TypeVar("_Entry")

FLUSH_SECONDS = 0.3
"""A third of the promise that at most the last second is lost: a busy machine takes its share."""
_REST_SECONDS = 0.05
"""Between two commits, where one takes as long as that."""
BLOCK_CALLS = 20_000
_FITTING_CALLS = 2_000
"""Pieces in which calls are stored where the disk is full."""
COLUMNS_FROM = 2_000
"""Smaller blocks are stored row by row: there is little to gain."""
NUMPY_FROM = 100_000
"""So many calls of a recording are stored row by row as well, which needs no NumPy: to import it takes
as long as to trace 10,000 calls, and holds the tracer up."""
RESERVE_BYTES = 32 << 10
"""Room in the file that is given up when the disk is full: the last facts go there."""
_LAST_FACTS = ("end_reason", "end_begins_ns", "exit_status")
_RINGS_PRAGMAS = ("page_size=16384", "auto_vacuum=INCREMENTAL")
"""Large pages: storing 100 MB/s of ring contents takes less than half the time. What they took is given back."""
LEVEL = 1
"""zlib's level: 3 to 4 times smaller than raw, at several times the speed of level 6."""


class Limits:
    """What of a recording is kept; None: no limit."""

    max_calls: int | None
    max_bytes: int | None
    """Of stored calls; the tables beside them are small."""
    duration_ns: int | None
    """Calls that end so long after `TraceWriter.begin_duration` are not stored."""
    last_ns: int | None
    """Keep only the last so many nanoseconds: a flight recorder."""
    words: Mapping[str, str]
    """The limits as the user gave them."""

    def __init__(
        self,
        max_calls: int | None = None,
        max_bytes: int | None = None,
        duration_ns: int | None = None,
        last_ns: int | None = None,
        words: Mapping[str, str] | None = None,
    ) -> None:
        self.max_calls = max_calls
        self.max_bytes = max_bytes
        self.duration_ns = duration_ns
        self.last_ns = last_ns
        self.words = words or {}


class RingState:
    """What the reader of perf's rings has for a commit, as of one moment."""

    __slots__ = ("calls", "done", "parts", "pending")

    calls: bytes
    """Calls that have ended: packed records in the order of their ends."""
    pending: Mapping[int, bytes]
    """Calls in progress, by tid: where nothing is left to make calls of."""
    parts: Sequence[tuple[int, int, str, bytes]]
    """New rows of the table `rings`."""
    done: int
    """Of the parts up to this one calls have been made: they are taken out; -1 if there are no rings."""

    def __init__(
        self, calls: bytes, pending: Mapping[int, bytes], parts: Sequence[tuple[int, int, str, bytes]], done: int
    ) -> None:
        self.calls = calls
        self.pending = pending
        self.parts = parts
        self.done = done


class LeftOut:
    """Calls that were seen and not stored."""

    __slots__ = ("calls", "first_ns", "last_ns")

    first_ns: int
    last_ns: int
    calls: int

    def __init__(self, first_ns: int, last_ns: int, calls: int) -> None:
        self.first_ns = first_ns
        self.last_ns = last_ns
        self.calls = calls


NO_RINGS = RingState(b"", {}, (), -1)


class TraceWriter:
    """A recording being written. Every method may be called from any thread."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        limits: Limits | None = None,
        rings: bool = False,
    ) -> None:
        """Create the file, readable by its owner only, and start the committing thread.

        Args:
            path: The recording.
            overwrite: Whether an existing file may be replaced.
            limits: What to leave out.
            rings: Whether there will be parts of perf's rings: much is written, and taken out again.

        Raises:
            OutputExistsError: The file exists and is not to be overwritten.
            RecordingError: It cannot be created.
        """
        self.path = os.fspath(path)
        self.failure = ""
        """Why storing has ended before the recording did; empty while all is well."""
        self.bytes_written = 0
        self.calls_written = 0
        self.left_out: dict[str, LeftOut] = {}
        """What was left out on purpose, by reason."""
        self._limits = limits or Limits()
        self._until_ns: int | None = None
        self._has_rings = rings
        self._create(self.path, overwrite)
        self._commit_lock = threading.Lock()
        # Appending to a list and deleting its beginning are each one step under the interpreter's
        # lock: the tracer's loop adds calls without taking a lock of its own.
        self._calls: list[bytes] = []
        self._rows: list[tuple[str, Sequence[object]]] = []
        self._meta: list[tuple[str, object]] = []
        self._late_facts: dict[str, object] = {}
        self._late_calls = 0
        self._failed_ns = 0
        self.add_calls: Callable[[bytes], None] = self._calls.append
        """Add ended calls: packed records (`CALL_STRUCT`), one after the other."""
        self._take_ended: Callable[[], None] = lambda: None
        self._pending: Callable[[], Mapping[int, bytes]] = dict
        self._rings: Callable[[], RingState] = lambda: NO_RINGS
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="qtrace-writer", daemon=True)
        self._thread.start()

    def _create(self, path: str, overwrite: bool) -> None:
        if os.path.exists(path) and not os.path.isfile(path):
            # A device would be opened, its mode changed, and be deleted if the program cannot start.
            raise RecordingError(
                f"cannot write the recording {path}: it is not an ordinary file", "Choose another name with -o."
            )
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | (os.O_TRUNC if overwrite else os.O_EXCL)
        try:
            os.close(os.open(path, flags, 0o600))
            os.chmod(path, 0o600)
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
            for pragma in (
                *(_RINGS_PRAGMAS if self._has_rings else ()),
                "journal_mode=DELETE",
                "synchronous=OFF",
                f"application_id={APPLICATION_ID}",
            ):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.execute("BEGIN")
            for table in TABLES:
                self._database.execute(table.ddl)
            self._database.execute("CREATE TABLE reserve (room BLOB)")
            self._database.execute("INSERT INTO reserve VALUES (zeroblob(?))", (RESERVE_BYTES,))
            self._database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._database.execute("COMMIT")
        except FileExistsError:
            raise OutputExistsError(
                f"{path} exists and is not overwritten",
                "Choose another name with -o, or say -f to overwrite it.",
            ) from None
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.Error):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # made just now, and of no use: a full disk
            raise RecordingError(
                f"cannot write the recording {path}: {error}",
                "Choose a file in a folder that you may write to, with -o.",
            ) from None

    def begin_duration(self) -> None:
        """Let the time that is recorded begin now: getting ready is not part of it."""
        if self._limits.duration_ns is not None:
            self._until_ns = time.monotonic_ns() + self._limits.duration_ns

    @property
    def committing_tid(self) -> int:
        """Id of the thread that commits."""
        return self._thread.native_id or 0

    def watch_calls(self, take_ended: Callable[[], None], pending: Callable[[], Mapping[int, bytes]]) -> None:
        """Say where calls are to be had that are not added by themselves; it is asked at each flush.

        Args:
            take_ended: Adds the calls that have ended until now, if there are any left; called from the
                committing thread.
            pending: Gives a packed record of the calls in progress, by tid; called from there too.
        """
        self._take_ended, self._pending = take_ended, pending

    def watch_rings(self, source: Callable[[], RingState]) -> None:
        """Say where to ask, at each flush, for what came out of perf's rings.

        Args:
            source: Called from the committing thread, with no call back into this object.
        """
        self._rings = source

    def stored_part(self, number: int) -> bytes | None:
        """Return a part of the rings that was committed, or None if it cannot be had."""
        with self._commit_lock:
            try:
                row = self._database.execute("SELECT records FROM rings WHERE part = ?", (number,)).fetchone()
            except sqlite3.Error:
                return None
        return row[0] if row is not None else None

    def add_rows(self, table: str, rows: Iterable[Sequence[object]]) -> None:
        """Add rows to an ordinary table; a row with a primary key that exists replaces the old one."""
        self._rows.extend([(table, row) for row in rows])

    def add_row(self, table: str, row: Sequence[object]) -> None:
        """Add one row to an ordinary table; a dictionary at its end is stored as JSON, which is made at the commit."""
        self._rows.append((table, row))

    def set_meta(self, **facts: object) -> None:
        """Set facts about the recording; values that are not text or numbers are stored as JSON."""
        self._meta.extend(facts.items())

    def flush(self) -> None:
        """Commit all that has been added, in the calling thread."""
        with self._commit_lock:
            calls, pending = self._taken_calls()
            rings = self._rings()
            calls = _merged(calls, rings.calls) if calls and rings.calls else calls or rings.calls
            pending = {**rings.pending, **pending}
            rows, meta = _taken(self._rows), dict(_taken(self._meta))
            if self.failure:
                # Taken all the same, so that memory stays flat.
                self._late_facts |= meta
                self._late_calls += len(calls) // CALL_BYTES
                return
            calls = self._within_limits(calls)
            before = self.calls_written, self.bytes_written
            try:
                self._commit(calls, pending, rows, meta, rings)
            except sqlite3.Error as error:
                self.calls_written, self.bytes_written = before
                self._late_facts |= meta
                stored = self._store_what_fits(calls, rows)
                self._late_calls += len(calls) // CALL_BYTES - stored
                self._fail(error)

    def _store_what_fits(self, calls: bytes, rows: list[tuple[str, Sequence[object]]]) -> int:
        """Commit, of what could not be committed as a whole, the rows, and calls piece by piece; return how many calls.

        Not where parts of the rings are stored: calls may be made of those, too.
        """
        before, piece = self.calls_written, _FITTING_CALLS * CALL_BYTES
        with contextlib.suppress(sqlite3.Error):
            self._roll_back()
            if self._database.execute("SELECT count(*) FROM rings").fetchone()[0]:
                return 0
            self._commit(b"", {}, rows, {}, NO_RINGS)
            for start in range(0, len(calls), piece):
                known = self.calls_written, self.bytes_written
                try:
                    self._commit(calls[start : start + piece], {}, [], {}, NO_RINGS)
                except sqlite3.Error:
                    self.calls_written, self.bytes_written = known
                    break
        return self.calls_written - before

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _taken_calls(self) -> tuple[bytes, dict[int, bytes]]:
        """Take the ended calls, and those in progress, as of one moment.

        The loop goes on meanwhile. Were the calls in progress asked for last, those that had begun
        and ended since would be missing between; asked for first, one that ended since would be
        there twice: so that one is found among the calls that have come in since.
        """
        before = len(self._calls)
        self._take_ended()
        pending = dict(self._pending())
        self._take_ended()
        packed: list[bytes] = _taken(self._calls)
        for record in CALL_STRUCT.iter_unpack(b"".join(packed[before:])):
            start, tid = record[0], record[2]
            still = pending.get(tid)
            if still is not None and CALL_STRUCT.unpack(still)[0] == start:
                del pending[tid]
        return b"".join(packed), pending

    def close(self) -> None:
        """Commit the rest and close the file."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self.flush()
        with self._commit_lock:
            with contextlib.suppress(sqlite3.Error):
                if self.failure:
                    self._store_last_facts()
                else:
                    self._database.execute("DROP TABLE reserve")
            if self._has_rings and not self.failure:
                self._give_room_back()
            self._database.close()

    def _give_room_back(self) -> None:
        # What the rings' parts took up, and nothing has been stored in since. A script, since a pragma
        # that gives no rows is stepped once only by `execute`.
        try:
            self._database.executescript("PRAGMA incremental_vacuum")
        except sqlite3.Error:
            return  # a file that is larger than it could be

    def _run(self) -> None:
        spent = 0.0
        while not self._closing:
            self._wake.wait(max(FLUSH_SECONDS - spent, _REST_SECONDS))
            begun = time.monotonic()
            self.flush()
            spent = time.monotonic() - begun

    def _fail(self, error: sqlite3.Error) -> None:
        # A full disk, or a file taken away: the program goes on, and the recording ends here.
        self.failure = str(error)
        limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
        if limited and error.sqlite_errorname.startswith("SQLITE_IOERR"):
            self.failure = "the limit on the size of files is reached (ulimit -f)"
        self._failed_ns = time.monotonic_ns()
        with contextlib.suppress(sqlite3.Error):
            self._roll_back()
            # From here on nothing may grow: pages come out of the reserve, and the journal is kept in memory.
            self._database.execute("PRAGMA journal_mode=MEMORY")
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("DROP TABLE reserve")
            self._store_fact("storing_ended", self.failure)
            self._store_fact("storing_ended_ns", self._failed_ns)
            self._database.execute("COMMIT")

    def _store_last_facts(self) -> None:
        """Say how the program ended, whose last calls there was no room for."""
        self._database.execute("BEGIN IMMEDIATE")
        for key in _LAST_FACTS:
            if self._late_facts.get(key) is not None:
                self._store_fact(key, self._late_facts[key])
        self._store_fact("program_end_ns", self._late_facts.get("end_ns"))
        row = (self._failed_ns, time.monotonic_ns(), self._late_calls, "disk", f"storing ended: {self.failure}")
        self._database.execute("INSERT INTO losses VALUES (?,?,?,?,?)", row)
        self._database.execute("COMMIT")

    def _store_fact(self, key: str, fact: object) -> None:
        text = fact if isinstance(fact, str | int | float) or fact is None else json.dumps(fact)
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, text))

    def _commit(
        self,
        calls: bytes,
        pending: Mapping[int, bytes],
        rows: list[tuple[str, Sequence[object]]],
        meta: Mapping[str, object],
        rings: RingState,
    ) -> None:
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        if rings.done >= 0:
            database.execute("DELETE FROM rings WHERE part <= ?", (rings.done,))
        database.executemany("INSERT OR REPLACE INTO rings VALUES (?,?,?,?)", rings.parts)
        by_table: dict[str, list[Sequence[object]]] = {}
        for name, row in rows:
            if isinstance(row[-1], dict):
                row = (*row[:-1], json.dumps(row[-1]))
            by_table.setdefault(name, []).append(row)
        for name, some in by_table.items():
            marks = ",".join("?" * len(some[0]))
            database.executemany(f"INSERT OR REPLACE INTO {name} VALUES ({marks})", some)
        for start in range(0, len(calls), BLOCK_CALLS * CALL_BYTES):
            self._insert_block(calls[start : start + BLOCK_CALLS * CALL_BYTES])
        if self._limits.last_ns is not None:
            self._forget_before(time.monotonic_ns() - self._limits.last_ns)
        self._store_left_out()
        database.execute("DELETE FROM pending")
        database.executemany("INSERT INTO pending VALUES (?, ?)", list(pending.items()))
        self._store_fact("pending_calls", len(pending))  # a reader that finds fewer knows that some are missing
        for key, fact in meta.items():
            self._store_fact(key, fact)
        database.execute("COMMIT")

    # --- limits ----------------------------------------------------------------------------------

    def _within_limits(self, calls: bytes) -> bytes:
        """Return the part of the calls that is stored; the rest is counted."""
        limits = self._limits
        until_ns = self._until_ns
        if until_ns is not None and time.monotonic_ns() >= until_ns:
            count = len(calls) // CALL_BYTES
            # Calls stand in the order of their end.
            import bisect

            room = bisect.bisect_right(range(count), until_ns, key=lambda place: end_of(calls, place))
            calls = self._cut(calls, room, f"--duration of {limits.words['duration']} was over")
        if limits.max_calls is not None:
            room = max(0, limits.max_calls - self.calls_written)
            if len(calls) > room * CALL_BYTES:
                return self._cut(calls, room, f"--max-events of {limits.max_calls:,} was reached")
        if limits.max_bytes is not None and self.bytes_written >= limits.max_bytes:
            return self._cut(calls, 0, f"--max-size of {limits.max_bytes:,} bytes was reached")
        return calls

    def _cut(self, calls: bytes, room: int, reason: str) -> bytes:
        rest = calls[room * CALL_BYTES :]
        if rest:
            first = CALL_STRUCT.unpack_from(rest)[0]
            self._leave_out(reason, first, time.monotonic_ns(), len(rest) // CALL_BYTES)
        return calls[: room * CALL_BYTES]

    def _leave_out(self, reason: str, first_ns: int, last_ns: int, calls: int) -> None:
        known = self.left_out.get(reason)
        if known is not None:
            first_ns, calls = min(first_ns, known.first_ns), calls + known.calls
        self.left_out[reason] = LeftOut(first_ns, last_ns, calls)

    def _forget_before(self, time_ns: int) -> None:
        database = self._database
        row = database.execute(
            "SELECT min(first_ns), max(last_ns), sum(calls) FROM blocks WHERE last_ns < ?", (time_ns,)
        ).fetchone()
        if row[2]:
            database.execute("DELETE FROM blocks WHERE last_ns < ?", (time_ns,))
            kept = database.execute("SELECT min(block) FROM blocks").fetchone()[0]
            if kept is not None:
                self._store_fact("first_block", kept)
            for table in ("details", "stacks"):
                database.execute(f"DELETE FROM {table} WHERE start_ns < ?", (time_ns,))
            seconds = (self._limits.last_ns or 0) / 1e9
            self._leave_out(f"only the last {seconds:g} s are kept (--last)", row[0], row[1], row[2])

    def _store_left_out(self) -> None:
        if not self.left_out:
            return
        self._database.execute("DELETE FROM losses WHERE place = 'limit'")
        for reason, left in self.left_out.items():
            row = (left.first_ns, left.last_ns, left.calls, "limit", reason)
            self._database.execute("INSERT INTO losses VALUES (?,?,?,?,?)", row)

    def _insert_block(self, calls: bytes) -> None:
        count = len(calls) // CALL_BYTES
        by_columns = self.calls_written + count > NUMPY_FROM or "numpy" in sys.modules
        first, last, codec, records = encode_block(calls, by_columns)
        cursor = self._database.execute(
            "INSERT INTO blocks (first_ns, last_ns, calls, codec, records) VALUES (?,?,?,?,?)",
            (first, last, count, codec, records),
        )
        # A reader that finds fewer knows that some are missing.
        self._database.execute("INSERT OR REPLACE INTO meta VALUES ('last_block', ?)", (cursor.lastrowid,))
        self.bytes_written += len(records)
        self.calls_written += count


def end_of(calls: bytes, place: int = 0) -> int:
    """Return when the so-manieth of packed calls was over."""
    start, spent = CALL_STRUCT.unpack_from(calls, place * CALL_BYTES)[:2]
    return int(start + spent)


def _merged(some: bytes, others: bytes) -> bytes:
    """Return calls of two sources in the order of their ends."""
    both = some + others
    if len(both) < COLUMNS_FROM * CALL_BYTES and "numpy" not in sys.modules:
        each = [both[place : place + CALL_BYTES] for place in range(0, len(both), CALL_BYTES)]
        each.sort(key=end_of)
        return b"".join(each)
    import numpy as np

    calls = np.frombuffer(both, dtype=np.dtype(CALL_FIELDS))
    return calls[np.argsort(calls["start_ns"] + calls["dur_ns"], kind="stable")].tobytes()


def _taken(entries: list[_Entry]) -> list[_Entry]:
    taken = entries[:]
    del entries[: len(taken)]
    return taken


def encode_block(calls: bytes, by_columns: bool = True) -> tuple[int, int, str, bytes]:
    """Return the first start, the last end, the codec and the stored bytes of packed records.

    Args:
        calls: The records.
        by_columns: Whether to store many of them column by column: smaller, but it needs NumPy.

    Codecs: ``rows`` is zlib over the records as they are; ``columns`` is zlib over all start_ns (as
    differences), then all dur_ns, and so on.
    """
    if not by_columns or len(calls) < COLUMNS_FROM * CALL_BYTES:
        times = [record[:2] for record in CALL_STRUCT.iter_unpack(calls)]
        first, last = min(start for start, _ in times), max(start + spent for start, spent in times)
        return first, last, "rows", zlib.compress(calls, LEVEL)
    import numpy as np

    records = np.frombuffer(calls, dtype=np.dtype(CALL_FIELDS))
    starts = records["start_ns"]
    columns = [np.diff(starts, prepend=starts.dtype.type(0)).tobytes()]
    columns += [records[name].tobytes() for name, _ in CALL_FIELDS[1:]]
    first, last = int(starts.min()), int((starts + records["dur_ns"]).max())
    return first, last, "columns", zlib.compress(b"".join(columns), LEVEL)
