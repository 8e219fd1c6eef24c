"""`qtrace schema` documents every table, field, flag and column that there is."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

from qtrace import pipeline
from qtrace.export.schema_text import FIELD_MEANINGS, FLAG_MEANINGS
from qtrace.model import columns
from qtrace.model.records import CALL_FIELDS, CallFlag
from qtrace.tracefile.schema import TABLES
from tests.tracefile.recordings import write_recording


def test_every_field_and_flag_of_a_call_has_a_meaning() -> None:
    """A field that is added to the record has to be documented too."""
    assert list(FIELD_MEANINGS) == [name for name, _ in CALL_FIELDS]
    assert list(FLAG_MEANINGS) == list(CallFlag)


def test_the_text_names_every_table_and_every_column() -> None:
    """Nothing that a reader could meet is left out."""
    text = pipeline.schema_text()
    for table in TABLES:
        assert f"\n{table.name}: " in text
    for name, some in columns.TABLES.items():
        part = text[text.index(f"\n{name}\n") :].split("\n\n")[0]
        listed = [line.split()[:2] for line in part.splitlines()[2:] if line.startswith("    ") and line[4] != " "]
        assert listed == [[column.name, column.dtype] for column in some]
    assert max(map(len, text.splitlines())) <= 100


def test_the_printed_sql_is_the_sql_of_a_recording(tmp_path: Path) -> None:
    """The definitions are those that a recording is made with."""
    printed = subprocess.run(
        [sys.executable, "-m", "qtrace", "schema", "--json"], capture_output=True, text=True, check=True
    )
    stated = json.loads(printed.stdout)
    with sqlite3.connect(write_recording(tmp_path / "a.qtrace")) as database:
        real = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        version = database.execute("PRAGMA user_version").fetchone()[0]
    database.close()
    assert {row["table"]: row["sql"] for row in stated["recording"]} == real
    assert stated["format"] == version
