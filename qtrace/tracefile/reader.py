"""Read a recording, whole or not: what a killed recorder, a full disk or a bad copy has left.

The file is opened for reading only and nothing is left beside it. A rollback journal that a killed
recorder left ("hot") must be played back before the tables make sense, which needs write access: it
is done in a private copy. Otherwise the file is read in place, in many short statements, so that a
recorder which is still writing is never kept waiting.

A damaged file is read as far as it goes: SQLite refuses a page, not the file, so reading goes on
behind the hole; rows whose values cannot be right and blocks that fail zlib's checksum are left
out. What was left out is counted, and said in `TraceReader.damage`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from qtrace.errors import RecordingError
from qtrace.model.records import CALL_BYTES, CALL_FIELDS, CALL_STRUCT, UNPAIRED, CallFlag, as_bytes
from qtrace.model.syscalls import Architecture
from qtrace.tracefile.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES

if TYPE_CHECKING:
    import numpy as np

    from qtrace.tracefile.rings import CallsLeft

    CallArray: TypeAlias = np.ndarray[Any, np.dtype[np.void]]

Row: TypeAlias = tuple[Any, ...]
_T = TypeVar("_T")

LATEST_NS = 1 << 62
"""No machine has been up for 146 years: a later time is damage, and would overflow sums."""
MOST_CALLS_IN_BLOCK = 1 << 21
"""A hundred times what the writer puts into a block; more is damage, not a reason to allocate."""
LONGEST_HOLE = 1 << 24
"""How many row numbers are skipped at most to find a readable row behind a damaged page."""
_AHEAD = 4
"""So many blocks are unpacked before they are asked for."""
_NUMBER_AT = 24
"""So many bytes of a call's record stand before its number."""
_WRITE_AHEAD = 2
"""SQLite's format versions for reading and writing say whether there is a write-ahead log (fileformat2)."""
ANSWER_SECONDS = 10.0
"""How long to wait for a recorder that is committing just now."""

_NEVER_NULL = frozenset({"time_ns", "start_ns", "pid", "tid", "fd", "addr", "object_id", "event", "what", "stack_id"})
_ID_COLUMNS = frozenset({"pid", "tid", "fd", "ppid", "creator_tid"})
_DDL = {table.name: table.ddl for table in TABLES}
_SINCE = {"rings": 2}
"""Tables that the first version did not have."""


def _columns_of(ddl: str) -> tuple[tuple[str, str], ...]:
    inside = ddl[ddl.index("(") + 1 : ddl.rindex(")")].split(" PRIMARY KEY (")[0]
    words = (column.split() for column in inside.split(","))
    return tuple((word[0], word[1]) for word in words if len(word) > 1)


COLUMNS = {name: tuple(column for column, _ in _columns_of(ddl)) for name, ddl in _DDL.items()}
"""Table name to its columns, in the order of `TraceReader.rows`."""


class TraceReader:
    """One recording, opened for reading.

    Attributes:
        path: The file.
        meta: Facts about the recording; the keys are those of the schema's table `meta`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file and read its facts.

        Raises:
            RecordingError: It is missing, no recording, one of a newer version, or damaged so far
                that not even its list of tables can be read.
        """
        self.path = Path(path)
        self._losses: dict[str, int] = {}
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._calls: CallArray | None = None
        self._database = self._open()
        try:
            self._known = self._check()
            self.meta: dict[str, str] = {str(key): str(value) for key, value in self.rows("meta") if value is not None}
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> TraceReader:
        """Return the reader, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; what was read stays usable."""
        self._database.close()
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    # Opening ------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            with self.path.open("rb") as file:
                head = file.read(100)
        except OSError as error:
            raise RecordingError(
                f"cannot read the recording {self.path}: {error.strerror or error}",
                "Name a file that `qtrace record` wrote.",
            ) from None
        if not head.startswith(b"SQLite format 3\0") or int.from_bytes(head[68:72], "big") != APPLICATION_ID:
            raise RecordingError(f"{self.path} is not a qtrace recording", "Name a file that `qtrace record` wrote.")
        self._version = version = int.from_bytes(head[60:64], "big")
        if version > SCHEMA_VERSION:
            raise RecordingError(
                f"{self.path} was written by a newer qtrace (format {version}; this one reads {SCHEMA_VERSION})",
                "Install a newer qtrace: pip install --upgrade qtrace",
            )
        ways = [self._open_in_place, self._open_rolled_back, self._open_as_it_lies]
        if _WRITE_AHEAD in head[18:20]:
            ways = ways[2:]  # no recorder keeps such a log: damage, and SQLite would make files beside it
        for attempt in ways:
            database = attempt()
            if database is not None:
                return database
        raise RecordingError(
            f"{self.path} is damaged beyond reading: its list of tables cannot be read",
            "Only a copy from before the damage can help.",
        )

    def _open_in_place(self) -> sqlite3.Connection | None:
        return _connect(self.path, "mode=ro")

    def _open_rolled_back(self) -> sqlite3.Connection | None:
        # A journal that SQLite would have to play back makes a read-only open fail: SQLite's
        # READONLY_ROLLBACK. Played back in a copy, the last transaction, which was never committed,
        # is gone and the rest is whole.
        journal = self.path.with_name(self.path.name + "-journal")
        if not journal.exists():
            return None
        self._copy = tempfile.TemporaryDirectory(prefix="qtrace-")
        copied = Path(self._copy.name, "recording")
        try:
            shutil.copyfile(self.path, copied)
            shutil.copyfile(journal, copied.with_name("recording-journal"))
        except OSError:
            return None
        return _connect(copied, "mode=rw")

    def _open_as_it_lies(self) -> sqlite3.Connection | None:
        # Without locks and journals: a file system that has no locks, or a damaged header.
        return _connect(self.path, "immutable=1")

    def _check(self) -> frozenset[str]:
        # Only tables exactly as the schema has them are read: a file from elsewhere could hold a
        # view of that name whose query never ends.
        found: dict[Any, Any] = dict(self._guarded("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        return frozenset(name for name, ddl in _DDL.items() if found.get(name) == ddl)

    # Tables -------------------------------------------------------------------------------------

    @property
    def damage(self) -> str:
        """What could not be read so far, in a sentence; empty if the recording is whole."""
        if not self._losses:
            return ""
        parts = [f"{what} ({times})" if times > 1 else what for what, times in self._losses.items()]
        return "the recording is damaged; left out: " + ", ".join(parts)

    def gaps(self) -> list[str]:
        """Return what the recording does not have, and why, a sentence each; nothing if it is whole."""
        found = [self.damage] if self.damage else []
        if "storing_ended" in self.meta:
            found.append(f"the recording ends before the program did: {self.meta['storing_ended']}{self._later()}")
        elif self.meta.get("complete") != "1":
            found.append("the recorder did not come to its end: up to the last second is missing")
        for *_, events, _, reason in self.rows("losses"):
            if reason is not None and not str(reason).startswith("storing ended"):
                found.append(f"{events:,} calls are not in it: {reason}" if events else str(reason))
        return found

    def _later(self) -> str:
        """How the program ended after that, as far as it is known."""
        stated = [self.meta.get(key, "") for key in ("storing_ended_ns", "program_end_ns", "exit_status")]
        if not all(text.isdigit() for text in stated):
            return ""
        ended, end, status = (int(text) for text in stated)
        how = f"ended by signal {status & 0x7F}" if status & 0x7F else f"ended with exit status {status >> 8}"
        return f"; the program {how} {max(0, end - ended) / 1e9:.1f} s later"

    def _lose(self, what: str, times: int = 1) -> None:
        self._losses[what] = self._losses.get(what, 0) + times

    def rows(self, table: str) -> list[Row]:
        """Return a table's rows, in the order they were written, columns as in the schema.

        Rows whose values cannot be right are left out; see `damage`.

        Raises:
            KeyError: The schema has no such table.
        """
        columns = _columns_of(_DDL[table])
        if table not in self._known:
            if self._version >= _SINCE.get(table, 0):
                self._lose(f"the table {table}")
            return []
        names = ", ".join(name for name, _ in columns)
        if "WITHOUT ROWID" in _DDL[table]:
            read = self._guarded(f"SELECT {names} FROM {table}", table)
        else:
            read = [row[1:] for row in self._scan(table, names)]
        fits = _fitting(columns)
        kept = [row for row in read if fits(row)]
        if len(kept) < len(read):
            self._lose(f"rows of {table} with impossible values", len(read) - len(kept))
        return kept + self._losses_in_rings() if table == "losses" else kept

    def _guarded(self, query: str, table: str = "") -> list[Row]:
        read: list[Row] = []
        try:
            for row in self._database.execute(query):
                if table and read and not row[0] > read[-1][0]:
                    raise sqlite3.DatabaseError("keys out of order")
                read.append(row)
        except (sqlite3.Error, TypeError):
            self._lose(f"a part of {table}" if table else "the list of tables")
        return read

    def _scan(self, table: str, names: str) -> Iterator[Row]:
        # In the order of row numbers, which must grow: a damaged tree of pages could lead back to
        # where it was, without end. Behind a page that cannot be read, go on by ever longer steps.
        last, step = -(1 << 63) - 1, 0
        while True:
            try:
                cursor = self._database.execute(
                    f"SELECT rowid, {names} FROM {table} WHERE rowid >= ? ORDER BY rowid", (last + (step or 1),)
                )
                for row in cursor:
                    if row[0] <= last:
                        raise sqlite3.DatabaseError("row numbers out of order")
                    last, step = row[0], 0
                    yield row
                return
            except (sqlite3.Error, OverflowError):
                if not step:
                    self._lose(f"a part of {table}")
                    last = max(last, 0)
                step = step * 2 or 1
                if step > LONGEST_HOLE:
                    return

    # Calls --------------------------------------------------------------------------------------

    @cached_property
    def end_ns(self) -> int:
        """The recording's last moment: from `meta`, or the latest time found where that is missing."""
        stated = self.meta.get("end_ns", "")
        if stated.isdigit() and 0 < int(stated) < LATEST_NS:
            return int(stated)
        times = [last for _, _, last, *_ in self._block_list]
        times += [row[0] for table in ("lifecycle", "snapshots") for row in self.rows(table)]
        times += [record[0] for record in self._pending_records]
        times += [row[1] for row in self._ring_rows]
        return max(times, default=self.start_ns)

    @cached_property
    def start_ns(self) -> int:
        """The recording's first moment: from `meta`, or the earliest time found where that is missing."""
        stated = self.meta.get("start_ns", "")
        if stated.isdigit() and 0 < int(stated) < LATEST_NS:
            return int(stated)
        times = [first for _, first, *_ in self._block_list]
        times += [row[0] for row in self.rows("lifecycle")]
        times += [record[0] for record in self._pending_records]
        return min(times, default=0)

    @cached_property
    def _block_list(self) -> list[tuple[int, int, int, int, str]]:
        # The stored bytes are not touched: where they do not fit a page SQLite reads them only
        # when asked for.
        if "blocks" not in self._known:
            self._lose("the table blocks")
            return []
        kept, numbers = [], []
        for row in self._scan("blocks", "block, first_ns, last_ns, calls, codec"):
            numbers.append(row[0])
            _, block, first, last, count, codec = row
            whole = isinstance(count, int) and 0 < count <= MOST_CALLS_IN_BLOCK and _is_time(first) and _is_time(last)
            if whole and codec in ("rows", "columns"):
                kept.append((block, first, last, count, codec))
            else:
                self._lose("blocks of calls")
        # Blocks are numbered one after the other, and only the oldest are ever taken out (--last).
        holes = numbers[-1] - numbers[0] + 1 - len(numbers) if numbers else 0
        begins = self.meta.get("first_block", "1")
        if numbers and begins.isdigit():
            holes += max(0, numbers[0] - int(begins))
        stated = self.meta.get("last_block", "")
        if stated.isdigit():
            holes += max(0, int(stated) - (numbers[-1] if numbers else 0))
        if holes > 0:
            self._lose("blocks of calls", holes)
        return kept

    @cached_property
    def _pending_records(self) -> list[tuple[int, ...]]:
        found = []
        for tid, packed in self.rows("pending"):
            if isinstance(packed, bytes) and len(packed) == CALL_BYTES:
                record = CALL_STRUCT.unpack(packed)
                if record[2] == tid and _is_time(record[0]):
                    found.append(record)
                    continue
            self._lose("rows of pending with impossible values")
        if self._in_rings is not None:
            found += [CALL_STRUCT.unpack(packed) for packed in self._in_rings.pending]
        stated = self.meta.get("pending_calls", "")
        if stated.isdigit() and int(stated) > len(found) and not self._losses:
            self._lose("calls in progress", int(stated) - len(found))
        return found

    @cached_property
    def _ring_rows(self) -> list[Row]:
        rows = self.rows("rings")
        kept = [row for row in rows if isinstance(row[3], bytes) and row[1] is not None]
        if len(kept) < len(rows):
            self._lose("rows of rings with impossible values", len(rows) - len(kept))
        return kept

    @cached_property
    def _in_rings(self) -> CallsLeft | None:
        # Only a killed recorder leaves any: then the last of its calls were stored as the kernel gave them.
        if not self._ring_rows:
            return None
        from qtrace.tracefile.rings import calls_left
        from qtrace.tracefile.threads import End

        ends = []
        killed = {(row[2], row[0]): bool(int(row[4] or 0) & 0x7F) for row in self.rows("lifecycle") if row[3] == "exit"}
        for tid, *_, end_ns in self.rows("threads"):
            if end_ns is not None:
                ends.append(End(end_ns, tid, killed.get((tid, end_ns), True)))
        machine = self.meta.get("architecture", "")
        known = Architecture(machine) if machine in set(Architecture) else Architecture.X86_64
        return calls_left(self._ring_rows, ends, known)

    def _losses_in_rings(self) -> list[Row]:
        left = self._in_rings
        if left is None:
            return []
        first, last = self._ring_rows[0][1], self._ring_rows[-1][1]
        found = [(left.lost, "at the end", "the ring buffer was full"), (left.unpaired, "any CPU", UNPAIRED)]
        return [(first, last, *some) for some in found if some[0]]

    @property
    def call_count(self) -> int:
        """How many calls the recording holds, by its own list and without reading them."""
        in_rings = len(self._in_rings.ended) if self._in_rings is not None else 0
        return sum(count for *_, count, _ in self._block_list) + len(self._pending_records) + in_rings

    def calls(self) -> CallArray:
        """Return every call in the order of entry: a structured array of `CALL_FIELDS`.

        Read once and kept: 92 bytes a call. Calls that were in progress when the recording ended
        have `CallFlag.UNFINISHED`, and last until `end_ns`.
        """
        if self._calls is None:
            self._calls = self._read_calls()
        return self._calls

    def _read_calls(self) -> CallArray:
        # In two passes: the first reads when each call began, which tells its place; the second puts
        # each block's records where they belong. So the whole is in memory once, and sorted at once.
        import numpy as np

        blocks = [block for block in self._block_list if block[3]]
        starts = [self._block_starts(block, codec, count) for block, _, _, count, codec in blocks]
        blocks = [block for block, some in zip(blocks, starts, strict=True) if some is not None]
        pending = self.pending_calls()
        if self._in_rings is not None:
            pending = np.concatenate([self._in_rings.ended, pending])
        every = np.concatenate([*(some for some in starts if some is not None), pending["start_ns"]])
        del starts
        order = np.argsort(every, kind="stable")
        place = np.empty(len(every), dtype=np.int64)
        place[order] = np.arange(len(every))
        del order, every
        records = np.empty(len(place), dtype=np.dtype(CALL_FIELDS))
        right = np.ones(len(place), dtype=bool)
        upto = np.cumsum([0, *(block[3] for block in blocks)]).tolist()
        puts = [place[begin:end] for begin, end in pairwise(upto)]
        todo = (
            (self._packed(block), codec, records, put) for (block, *_, codec), put in zip(blocks, puts, strict=True)
        )
        for put, done in zip(puts, _ahead(_put, todo), strict=True):
            if not done:
                self._lose("blocks of calls")
                right[put] = False
        as_bytes(records)[place[upto[-1] :]] = as_bytes(pending)
        return self._without_impossible(records, right)

    def _stored(self, block: int, size: int, limit: int) -> bytes | None:
        # The first `limit` bytes of a block's records; None if they cannot be had. The whole is
        # asked for with one byte more than there may be, so that zlib gets to its checksum.
        packed = self._packed(block)
        if packed is None:
            return None
        try:
            stream = zlib.decompressobj()
            raw = stream.decompress(packed, limit)
        except zlib.error:
            return None
        if limit > size:
            return raw if len(raw) == size and stream.eof else None
        return raw if len(raw) == limit else None

    def _block_starts(self, block: int, codec: str, count: int) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        import numpy as np

        size = count * CALL_BYTES
        raw = self._stored(block, size, size if codec == "rows" else count * 8)
        if raw is None:
            self._lose("blocks of calls")
            return None
        if codec == "rows":
            return np.frombuffer(raw, dtype=np.dtype(CALL_FIELDS))["start_ns"].copy()
        return np.cumsum(np.frombuffer(raw, dtype="<i8"))

    @property
    def block_ends(self) -> list[int]:
        """When the last call of each block returned."""
        return [last for _, _, last, count, _ in self._block_list if count]

    def columns(self) -> Iterator[dict[str, np.ndarray[Any, Any]] | None]:
        """Read block by block, column by column, without keeping anything: for a single pass.

        Within a block calls stand in the order of their end. None for a block that cannot be read; it is not
        counted as lost, as somebody who reads all calls will find it.
        """
        blocks = [(block, count, codec) for block, _, _, count, codec in self._block_list if count]
        todo = ((self._packed(block), count * CALL_BYTES) for block, count, _ in blocks)
        for (_, count, codec), raw in zip(blocks, _ahead(_unpacked, todo), strict=True):
            yield None if raw is None else _columns_in(raw, codec, count)

    def numbered(self, numbers: np.ndarray[Any, np.dtype[np.bool_]]) -> CallArray | None:
        """Return the calls of certain numbers, block by block, without those in progress: for few of many.

        Of a block that has none of them no more is unpacked than their numbers. None where a block cannot be read.

        Args:
            numbers: For each number whether it is wanted.
        """
        import numpy as np

        blocks = [(block, count, codec) for block, _, _, count, codec in self._block_list if count]
        found = [np.empty(0, dtype=np.dtype(CALL_FIELDS))]
        todo = ((self._packed(block), codec, count, numbers) for block, count, codec in blocks)
        for some in _ahead(_numbered_in, todo):
            if some is None:
                return None
            found.append(some)
        return np.concatenate(found)

    def pending_calls(self) -> CallArray:
        """Return the calls that were in progress at the end, as `calls` has them."""
        import numpy as np

        pending = np.array(self._pending_records, dtype=np.dtype(CALL_FIELDS))
        pending["flags"] |= int(CallFlag.UNFINISHED)
        pending["dur_ns"] = np.maximum(self.end_ns - pending["start_ns"], 0)
        return pending

    def _packed(self, block: int) -> bytes | None:
        try:
            answer = self._database.execute("SELECT records FROM blocks WHERE block = ?", (block,)).fetchone()
        except sqlite3.Error:
            return None
        return answer[0] if answer is not None and isinstance(answer[0], bytes) else None

    def _without_impossible(self, records: CallArray, right: np.ndarray[Any, np.dtype[np.bool_]]) -> CallArray:
        # `right` is false where a block turned out to be damaged: nothing was put there.
        unread = int((~right).sum())
        for name in ("start_ns", "dur_ns"):
            right &= (records[name] >= 0) & (records[name] < LATEST_NS)
        impossible = int((~right).sum()) - unread
        if impossible:
            self._lose("calls with impossible times", impossible)
        return records if unread + impossible == 0 else as_bytes(records)[right].view(records.dtype)


def _connect(path: Path, mode: str) -> sqlite3.Connection | None:
    # writable_schema lets SQLite open a file that is shorter than its header says (a truncated
    # one); nothing is written through it. The first query tells whether the file can be read at all.
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        isolation_level=None,
        timeout=ANSWER_SECONDS,
        check_same_thread=False,
    )
    database.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        database.execute("PRAGMA writable_schema=ON")
        database.execute("PRAGMA trusted_schema=OFF")
        database.execute("PRAGMA mmap_size=0")
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return database
    except sqlite3.Error:
        pass
    database.close()
    return None


def _ahead(work: Callable[..., _T], todo: Iterable[tuple[Any, ...]]) -> Iterator[_T]:
    """Do the work for each in turn, the next ones meanwhile: zlib and NumPy work without the interpreter's lock."""
    with ThreadPoolExecutor(2, "qtrace-unpack") as pool:
        begun: deque[Future[_T]] = deque()
        for arguments in todo:
            begun.append(pool.submit(work, *arguments))
            if len(begun) > _AHEAD:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def _put(packed: bytes | None, codec: str, records: CallArray, put: np.ndarray[Any, np.dtype[np.int64]]) -> bool:
    """Put a block's records where they belong; False where it cannot be read."""
    import numpy as np

    raw = _unpacked(packed, len(put) * CALL_BYTES)
    if raw is None:
        return False
    if codec == "rows":
        read = np.frombuffer(raw, dtype=records.dtype)
    else:
        read = np.empty(len(put), dtype=records.dtype)
        for name, column in _columns_in(raw, codec, len(put)).items():
            read[name] = column
    as_bytes(records)[put] = as_bytes(read)
    return True


def _unpacked(packed: bytes | None, size: int) -> bytes | None:
    """Return a block's whole records; None where they fail zlib's checksum or have another size."""
    if packed is None:
        return None
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(packed, size + 1)
    except zlib.error:
        return None
    return raw if len(raw) == size and stream.eof else None


def _numbered_in(
    packed: bytes | None, codec: str, count: int, numbers: np.ndarray[Any, np.dtype[np.bool_]]
) -> CallArray | None:
    """Return a block's calls of certain numbers; None where it cannot be read."""
    import numpy as np

    size = count * CALL_BYTES
    upto = size + 1 if codec == "rows" else count * (_NUMBER_AT + 2)
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(packed or b"", upto)
        if codec != "rows":
            if len(raw) != upto:
                return None
            if not numbers[np.frombuffer(raw, "<u2", count, count * _NUMBER_AT)].any():
                return np.empty(0, dtype=np.dtype(CALL_FIELDS))
            raw += stream.decompress(stream.unconsumed_tail, size + 1 - upto)
    except zlib.error:
        return None
    if len(raw) != size:
        return None
    columns = _columns_in(raw, codec, count)
    at = np.flatnonzero(numbers[columns["nr"].astype(np.uint16)])
    records = np.empty(len(at), dtype=np.dtype(CALL_FIELDS))
    for name, column in columns.items():
        records[name] = column[at]
    return records


def _columns_in(raw: bytes, codec: str, count: int) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    if codec == "rows":
        records = np.frombuffer(raw, dtype=np.dtype(CALL_FIELDS))
        return {name: records[name] for name, _ in CALL_FIELDS}
    found = {}
    place = 0
    for name, kind in CALL_FIELDS:
        column = np.frombuffer(raw, dtype=kind, count=count, offset=place)
        place += column.nbytes
        found[name] = np.cumsum(column) if name == "start_ns" else column
    return found


def _is_time(number: object) -> bool:
    return isinstance(number, int) and 0 <= number < LATEST_NS


def _fitting(columns: tuple[tuple[str, str], ...]) -> Callable[[Row], bool]:
    # SQLite lets any value stand in any column; the rest of qtrace may rely on their types.
    rules = [_fits_integer(name) if kind == "INTEGER" else _fits_kind(name, kind) for name, kind in columns]

    def fits(row: Row) -> bool:
        return all(rule(value) for rule, value in zip(rules, row, strict=True))

    return fits


def _fits_integer(name: str) -> Callable[[Any], bool]:
    null = name not in _NEVER_NULL
    highest = LATEST_NS if name.endswith("_ns") else 1 << 31 if name in _ID_COLUMNS else 1 << 63
    lowest = 0 if name.endswith("_ns") else -highest
    return lambda value: null if value is None else isinstance(value, int) and lowest <= value < highest


def _fits_kind(name: str, kind: str) -> Callable[[Any], bool]:
    null = name not in _NEVER_NULL
    wanted = bytes if kind == "BLOB" else str
    return lambda value: null if value is None else isinstance(value, wanted)
