"""Recordings of any size: a real one whose busy part is repeated, one repetition after the other in time.

The calls, heads, threads and descriptors are those of 20,000 messages through one queue. When the busy
part begins and ends the queue is empty, so that streams of messages go on across the seam. What comes after it comes
as much later: the program's end, or a hang, with the moment that the recorder kept of it.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.bench_engines import perf_prefix
from qtrace.model.records import CALL_FIELDS, CallFlag
from qtrace.tracefile.reader import COLUMNS, TraceReader
from qtrace.tracefile.schema import TABLES
from qtrace.tracefile.writer import BLOCK_CALLS, TraceWriter, encode_block

PROGRAM = """
import sys, time
from multiprocessing import Event, Process, Queue

def produce(queue, go, all_taken):
    queue.put(0)
    go.wait()
    for number in range(int(sys.argv[1]) - 1):
        queue.put(number)
    all_taken.wait()

def leave_behind(queue):
    queue.put(bytes(100_000))

if __name__ == "__main__":
    queue, go, all_taken = Queue(), Event(), Event()
    child = Process(target=produce, args=(queue, go, all_taken))
    child.start()
    queue.get()
    begin = time.monotonic_ns()
    go.set()
    for _ in range(int(sys.argv[1]) - 1):
        queue.get()
    print(begin, time.monotonic_ns(), flush=True)
    all_taken.set()
    child.join()
    if sys.argv[2:] == ["hang"]:
        child = Process(target=leave_behind, args=(queue,))
        child.start()
        child.join()
"""
MESSAGES = 20_000
_ENDED_FOR_A_HANG = 124
_BUSY = (0, 1, 202)  # read, write, futex on x86_64


def hot_recording(
    folder: Path, hang: bool = False, engine: str = "ptrace", messages: int = MESSAGES
) -> tuple[Path, int, int]:
    """Record the hot queue, once; return the recording and between which times it is busy."""
    script, recording = folder / "hot_queue.py", folder / "hot_queue.qtrace"
    script.write_text(PROGRAM)
    before = (perf_prefix() or []) if engine == "perf" else []
    command = [*before, sys.executable, "-m", "qtrace", "record", "-q", "-f", "-o", str(recording), "--engine", engine]
    command += [str(script), str(messages), *["hang"] * hang]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode != (_ENDED_FOR_A_HANG if hang else 0):
        raise SystemExit(f"the recording ended with {ran.returncode}")
    begin, end = map(int, ran.stdout.split())
    return recording, begin, end


def make_big(calls: int, out: Path, hang: bool = False, engine: str = "ptrace") -> Path:
    """Write a recording of about so many calls, of a program that ends by itself or hangs."""
    with tempfile.TemporaryDirectory() as folder:
        source, begin, end = hot_recording(Path(folder), hang, engine)
        with TraceReader(source) as reader:
            once = reader.calls().astype(np.dtype(CALL_FIELDS))
            rows = {table.name: reader.rows(table.name) for table in TABLES if table.name not in ("blocks", "meta")}
            meta = dict(reader.meta)
            over = reader.end_ns
    rows["pending"] = []  # they are among the calls
    returned = once["start_ns"] + once["dur_ns"]
    inside = (once["start_ns"] > begin) & (returned < end) & ((once["flags"] & int(CallFlag.UNFINISHED)) == 0)
    busy = once[inside & np.isin(once["nr"], _BUSY)]
    repeats = max(1, round((calls - len(once)) / len(busy)) + 1)
    later = (repeats - 1) * (end - begin)
    # What began in the busy part and lasts beyond it lasts longer; what begins after it begins later.
    after = once["start_ns"] >= end
    once["dur_ns"][~after & (returned >= end)] += later
    once["start_ns"][after] += later
    writer = TraceWriter(out, overwrite=True)
    writer.close()
    database = sqlite3.connect(out)
    for name, entries in rows.items():
        places = [place for place, column in enumerate(COLUMNS[name]) if column.endswith("_ns")]
        for entry in entries:
            moved = list(entry)
            for place in places:
                moved[place] = _later(moved[place], end, over, later)
            if name == "snapshots":
                moved[2] = json.dumps(_later(json.loads(moved[2]), end, over, later))
            database.execute(f"INSERT OR REPLACE INTO {name} VALUES ({','.join('?' * len(moved))})", moved)
    _store(database, once[~after])
    for number in range(1, repeats):
        part = busy.copy()
        part["start_ns"] += number * (end - begin)
        _store(database, part)
    _store(database, once[after])
    for key in ("end_ns", "end_begins_ns"):
        if key in meta:
            meta[key] = str(int(meta[key]) + later)
    meta["last_block"] = str(database.execute("SELECT max(block) FROM blocks").fetchone()[0])
    database.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", list(meta.items()))
    database.commit()
    database.close()
    return out


def _store(database: sqlite3.Connection, part: np.ndarray) -> None:
    part = part[np.argsort(part["start_ns"] + part["dur_ns"], kind="stable")]
    for place in range(0, len(part), BLOCK_CALLS):
        block = part[place : place + BLOCK_CALLS]
        first, last, codec, records = encode_block(block.tobytes())
        database.execute(
            "INSERT INTO blocks (first_ns, last_ns, calls, codec, records) VALUES (?,?,?,?,?)",
            (first, last, len(block), codec, records),
        )


def _later(value: object, since: int, until: int, by_ns: int) -> object:
    """Move every time between two, wherever in a row or a snapshot it stands."""
    if isinstance(value, list):
        return [_later(each, since, until, by_ns) for each in value]
    if isinstance(value, dict):
        return {key: _later(each, since, until, by_ns) for key, each in value.items()}
    return value + by_ns if type(value) is int and since <= value <= until else value


if __name__ == "__main__":
    print(make_big(int(float(sys.argv[1])), Path(sys.argv[2]), hang=sys.argv[3:] == ["hang"]))
