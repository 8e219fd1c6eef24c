"""Recordings of any size: a real one, repeated one after the other in time.

The calls, heads, threads and descriptors are those of 20,000 messages through one queue. Each
repetition begins where the one before has ended; what each pipe took in it also gave out, so streams
of messages go on across the seam.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from qtrace.model.records import CALL_FIELDS
from qtrace.tracefile.reader import TraceReader
from qtrace.tracefile.schema import TABLES
from qtrace.tracefile.writer import BLOCK_CALLS, TraceWriter, encode_block

PROGRAM = """
from multiprocessing import Process, Queue

def produce(queue):
    for number in range(20_000):
        queue.put(number)

if __name__ == "__main__":
    queue = Queue()
    child = Process(target=produce, args=(queue,))
    child.start()
    for _ in range(20_000):
        queue.get()
    child.join()
"""


def hot_recording(folder: Path) -> Path:
    """Record the hot queue, once."""
    script, recording = folder / "hot_queue.py", folder / "hot_queue.qtrace"
    script.write_text(PROGRAM)
    command = [sys.executable, "-m", "qtrace", "record", "-q", "-f", "-o", str(recording), str(script)]
    subprocess.run(command, check=True)
    return recording


def make_big(calls: int, out: Path) -> Path:
    """Write a recording of about so many calls."""
    with tempfile.TemporaryDirectory() as folder:
        source = hot_recording(Path(folder))
        with TraceReader(source) as reader:
            once = reader.calls().astype(np.dtype(CALL_FIELDS))
            rows = {table.name: reader.rows(table.name) for table in TABLES if table.name not in ("blocks", "meta")}
            meta = dict(reader.meta)
    # The hot part: what lies between the first and the last message.
    ends = once["start_ns"] + once["dur_ns"]
    once = once[np.argsort(ends, kind="stable")]
    start, span = int(meta["start_ns"]), int(ends.max()) - int(meta["start_ns"]) + 1_000
    hot = np.isin(once["nr"], _HOT)
    repeats = max(1, round(calls / max(int(hot.sum()), 1)))
    writer = TraceWriter(out, overwrite=True)
    writer.close()
    database = sqlite3.connect(out)
    for name, entries in rows.items():
        for entry in entries:
            moved = _later(name, entry, (repeats - 1) * span)
            database.execute(f"INSERT OR REPLACE INTO {name} VALUES ({','.join('?' * len(moved))})", moved)
    for number in range(repeats):
        part = once.copy() if number == 0 else once[hot].copy()
        part["start_ns"] += number * span
        for place in range(0, len(part), BLOCK_CALLS):
            block = part[place : place + BLOCK_CALLS]
            first, last, codec, records = encode_block(block.tobytes())
            database.execute(
                "INSERT INTO blocks (first_ns, last_ns, calls, codec, records) VALUES (?,?,?,?,?)",
                (first, last, len(block), codec, records),
            )
    meta["end_ns"] = str(start + repeats * span)
    database.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", list(meta.items()))
    database.commit()
    database.close()
    return out


_HOT = (0, 1, 202)  # read, write, futex on x86_64


def _later(name: str, entry: tuple[object, ...], by_ns: int) -> tuple[object, ...]:
    """Threads and processes end with the last repetition."""
    place = {"threads": 6, "processes": 8}.get(name)
    ended = place is not None and isinstance(entry[place], int)
    if name == "lifecycle" and entry[3] == "exit":
        place, ended = 0, True
    if not ended or place is None:
        return entry
    moved = list(entry)
    moved[place] = int(str(entry[place])) + by_ns
    return tuple(moved)


if __name__ == "__main__":
    print(make_big(int(float(sys.argv[1])), Path(sys.argv[2])))
