"""Tables as Parquet files, by the optional extra pyarrow.

pyarrow and python-ptrace must not be in one process, for their licences: nothing here imports
`qtrace.capture`, and whoever has it loaded has to export in a process of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qtrace.errors import UsageError
from qtrace.export.tables import Tables, chunks, frames_of, meta_of, plain_columns
from qtrace.model import columns

GROUP_ROWS = 1_000_000
"""Rows in one row group: what is in memory at once."""


def write_parquet(trace: Tables, folder: Path) -> list[Path]:
    """Write every table into a file of its own (``waits.parquet``); return the files.

    Types follow `qtrace.model.columns`: int64, bool, string (categories as dictionaries), list of
    string for argv and list of uint64 for args. Each column's meaning is in its field's metadata, the
    recording's facts are in the schema's.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed",
            "Install it with: pip install 'qtrace[parquet]', or export --to csv or ndjson.",
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"qtrace": json.dumps(meta_of(trace))}
    written = []
    for table, frame in frames_of(trace):
        path = folder / f"{table}.parquet"
        schema = pa.schema([_field(pa, table, column) for column in columns.TABLES[table]], metadata=facts)
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for part in chunks(frame, GROUP_ROWS):
                lists = zip(plain_columns(part), schema.types, strict=True)
                writer.write_table(pa.Table.from_arrays([pa.array(some, kind) for some, kind in lists], schema=schema))
        written.append(path)
    return written


def _field(pa: Any, table: str, column: columns.Column) -> Any:
    kinds = {
        "int64": pa.int64(),
        "Int64": pa.int64(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "category": pa.dictionary(pa.int32(), pa.string()),
    }
    kind = kinds.get(column.dtype)
    if kind is None:
        kind = pa.list_(pa.uint64() if column.name == "args" else pa.string())
    nullable = column.dtype not in ("int64", "bool")
    return pa.field(column.name, kind, nullable=nullable, metadata={"meaning": column.meaning})
