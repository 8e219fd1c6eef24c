"""Tables as text: one stream of NDJSON, or a folder with a CSV file for each."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TextIO

from qtrace.export.tables import Tables, chunks, frames_of, meta_of, plain_columns


def write_ndjson(trace: Tables, out: TextIO) -> None:
    """Write every table as one stream: a JSON object a line, with the table's name in ``table``.

    The first line has the recording's facts (``table`` is ``meta``). Missing values are null.
    """
    out.write(json.dumps({"table": "meta", **meta_of(trace)}) + "\n")
    for table, frame in frames_of(trace):
        names = list(frame.columns)
        for part in chunks(frame):
            for row in zip(*plain_columns(part), strict=True):
                out.write(json.dumps({"table": table, **dict(zip(names, row, strict=True))}) + "\n")


def write_csv(trace: Tables, folder: Path) -> list[Path]:
    """Write every table into a file of its own (``waits.csv``), with a header; return the files.

    Missing values are empty; lists (argv, args) are JSON; true and false are 1 and 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table, frame in frames_of(trace):
        path = folder / f"{table}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(frame.columns)
            for part in chunks(frame):
                cells = [[_cell(value) for value in column] for column in plain_columns(part)]
                rows.writerows(zip(*cells, strict=True))
        written.append(path)
    return written


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    return json.dumps(value) if isinstance(value, list) else value
