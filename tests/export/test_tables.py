"""What is read back from NDJSON, CSV and Parquet is what the tables have."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from qtrace import pipeline
from qtrace.errors import OutputExistsError, UsageError
from qtrace.export.tables import plain_columns
from qtrace.model.columns import TABLES

needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")


def _rows(frame: pd.DataFrame) -> list[list[object]]:
    return [list(row) for row in zip(*plain_columns(frame), strict=True)]


def test_plain_values_are_those_of_the_tables(finished: Path) -> None:
    """Integers stay whole numbers, missing values become None, lists stay lists."""
    trace = pipeline.load(finished)
    for name in TABLES:
        frame = getattr(trace, name)
        for column, values in zip(frame.columns, plain_columns(frame), strict=True):
            assert [value is None for value in values] == frame[column].isna().tolist(), f"{name}.{column}"
            kinds = {type(value) for value in values if value is not None}
            assert kinds <= {int, str, bool, list}, f"{name}.{column}"
            plain = [value for value in values if value is not None and not isinstance(value, list)]
            assert plain == [
                value for value in frame[column].tolist() if not isinstance(value, tuple | list) and pd.notna(value)
            ]


def test_ndjson_has_every_row_of_every_table(finished: Path) -> None:
    """One object a line, the table's name in it; the facts come first."""
    printed = subprocess.run(
        [sys.executable, "-m", "qtrace", "export", "--to", "ndjson", str(finished)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in printed.stdout.splitlines()]
    trace = pipeline.load(finished)
    facts = lines.pop(0)
    assert facts["table"] == "meta"
    assert facts["root_pid"] == int(trace.meta["root_pid"])
    assert [line["table"] for line in lines] == [name for name in TABLES for _ in range(len(getattr(trace, name)))]
    for name, columns in TABLES.items():
        rows = [
            {key: value for key, value in line.items() if key != "table"} for line in lines if line["table"] == name
        ]
        assert [list(row) for row in rows] == [[column.name for column in columns]] * len(rows)
        assert [list(row.values()) for row in rows] == _rows(getattr(trace, name))


def test_csv_has_a_file_for_each_table(finished: Path, tmp_path: Path) -> None:
    """With a header; a list is JSON, what is missing is empty."""
    folder = pipeline.export_recording(finished, "csv", tmp_path / "tables")
    trace = pipeline.load(finished)
    assert {path.name for path in folder.iterdir()} == {f"{name}.csv" for name in TABLES}
    for name, columns in TABLES.items():
        with (folder / f"{name}.csv").open(newline="") as file:
            header, *rows = list(csv.reader(file))
        assert header == [column.name for column in columns]
        expected = [
            ["" if value is None else str(int(value)) if isinstance(value, bool) else json.dumps(value)
             if isinstance(value, list) else str(value) for value in row]
            for row in _rows(getattr(trace, name))
        ]  # fmt: skip
        assert rows == expected
    syscalls = pd.read_csv(folder / "syscalls.csv")
    assert syscalls["start_ns"].tolist() == trace.syscalls["start_ns"].tolist()
    assert [tuple(json.loads(text)) for text in syscalls["args"]] == trace.syscalls["args"].tolist()


READ_BACK = """
import json, sys
import pyarrow.parquet as pq
folder, names = sys.argv[1], sys.argv[2].split()
found = {}
for name in names:
    table = pq.read_table(f"{folder}/{name}.parquet")
    schema = table.schema
    found[name] = {
        "columns": [
            [field.name, str(field.type), field.nullable, field.metadata[b"meaning"].decode()] for field in schema
        ],
        "rows": [list(row.values()) for row in table.to_pylist()],
        "facts": json.loads(schema.metadata[b"qtrace"]),
    }
assert "ptrace" not in sys.modules
print(json.dumps(found))
"""
ARROW = {
    "int64": "int64", "Int64": "int64", "bool": "bool", "string": "string",
    "category": "dictionary<values=string, indices=int32, ordered=0>",
}  # fmt: skip


@needs_pyarrow
def test_parquet_read_back_equals_the_tables(finished: Path, tmp_path: Path) -> None:
    """Values, types, meanings and facts; written and read in processes of their own."""
    folder = tmp_path / "tables"
    subprocess.run(
        [sys.executable, "-m", "qtrace", "export", "--to", "parquet", "-o", str(folder), str(finished)],
        capture_output=True, check=True,
    )  # fmt: skip
    read = subprocess.run(
        [sys.executable, "-c", READ_BACK, str(folder), " ".join(TABLES)], capture_output=True, text=True, check=True
    )
    found = json.loads(read.stdout)
    trace = pipeline.load(finished)
    for name, columns in TABLES.items():
        lists = {"args": "list<element: uint64>", "argv": "list<element: string>"}
        kinds = [ARROW.get(column.dtype) or lists[column.name] for column in columns]
        stated = [
            [column.name, kind, column.dtype not in ("int64", "bool"), column.meaning]
            for column, kind in zip(columns, kinds, strict=True)
        ]
        assert found[name]["columns"] == stated
        assert found[name]["rows"] == _rows(getattr(trace, name))
        assert found[name]["facts"]["root_pid"] == int(trace.meta["root_pid"])


SAME_PROCESS = """
import sys
from qtrace import pipeline
if sys.argv[3] != "nothing":
    import qtrace.capture.ptrace_calls
if sys.argv[3] == "registers":
    qtrace.capture.ptrace_calls.registers()
pipeline.export_recording(sys.argv[1], "parquet", sys.argv[2])
print(sorted({"ptrace", "pyarrow"} & set(sys.modules)))
"""


@needs_pyarrow
@pytest.mark.parametrize(
    ("first", "loaded"), [("registers", "['ptrace']"), ("capture", "[]"), ("nothing", "['pyarrow']")]
)
def test_pyarrow_and_python_ptrace_never_meet(first: str, loaded: str, finished: Path, tmp_path: Path) -> None:
    """Their licences forbid it: a process that has one, or may load it yet, exports in another process."""
    words = [sys.executable, "-c", SAME_PROCESS, str(finished), str(tmp_path / "out"), first]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded
    assert (tmp_path / "out" / "waits.parquet").stat().st_size > 0


def test_parquet_without_pyarrow_says_how_to_get_it(finished: Path, tmp_path: Path) -> None:
    """The extra is named, and what works without."""
    code = f"import sys; sys.modules['pyarrow'] = None\nfrom qtrace.export.parquet import write_parquet\nfrom pathlib import Path\nwrite_parquet(None, Path({str(tmp_path)!r}))"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UsageError: Parquet needs pyarrow" in done.stderr


def test_what_exists_is_not_overwritten(finished: Path, tmp_path: Path) -> None:
    """Unless that was asked for; and there are only the formats that there are."""
    out = tmp_path / "a.ndjson"
    out.write_text("mine")
    with pytest.raises(OutputExistsError):
        pipeline.export_recording(finished, "ndjson", out)
    assert out.read_text() == "mine"
    pipeline.export_recording(finished, "ndjson", out, overwrite=True)
    assert out.read_text().startswith('{"table": "meta"')
    with pytest.raises(UsageError):
        pipeline.export_recording(finished, "morse", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ndjson"]
