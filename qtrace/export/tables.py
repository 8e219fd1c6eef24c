"""The tables of a recording, and their rows as plain values: what every export is made from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from qtrace.model import columns

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from qtrace.model.verdict import Verdict

CHUNK_ROWS = 100_000
"""So many rows are in memory as Python objects at once."""


class Tables(Protocol):
    """A recording as pandas tables: `qtrace.load` gives one."""

    name: str
    meta: dict[str, str]
    start_ns: int
    end_ns: int

    @property
    def calls(self) -> np.ndarray[Any, np.dtype[np.void]]:
        """Every call as a record of `qtrace.model.records.CALL_FIELDS`, in the order of entry."""

    @property
    def lifecycle(self) -> Sequence[tuple[Any, ...]]:
        """Rows of the recording's table of that name."""

    @property
    def processes(self) -> pd.DataFrame:
        """As in `qtrace.model.columns`; so are the others."""

    @property
    def threads(self) -> pd.DataFrame:
        """Threads."""

    @property
    def waits(self) -> pd.DataFrame:
        """Blocked intervals."""

    @property
    def wakes(self) -> pd.DataFrame:
        """Who ended whose wait."""

    @property
    def objects(self) -> pd.DataFrame:
        """What is waited on."""

    @property
    def fill(self) -> pd.DataFrame:
        """Levels of pipes."""

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the end."""


def frames_of(trace: Tables) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name and the rows of each public table, in the order of `qtrace.model.columns`."""
    for name in columns.TABLES:
        yield name, getattr(trace, name)


def chunks(frame: pd.DataFrame, rows: int = CHUNK_ROWS) -> Iterator[pd.DataFrame]:
    """Yield a table in parts of so many rows; an empty table as one part."""
    for first in range(0, max(len(frame), 1), rows):
        yield frame.iloc[first : first + rows]


def plain_columns(frame: pd.DataFrame) -> list[list[object]]:
    """Return a table's columns as lists of plain values: int, bool, str, list or None where missing."""
    return [[_plain(value) for value in frame[name].tolist()] for name in frame.columns]


def _plain(value: Any) -> object:
    if value is None or isinstance(value, int | str | bool):
        return value
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if hasattr(value, "item"):
        return _plain(value.item())
    return None  # pandas NA


def meta_of(trace: Tables) -> Mapping[str, object]:
    """Return the recording's facts, numbers and JSON as such."""
    return {key: _fact(text) for key, text in sorted(trace.meta.items())}


def _fact(text: str) -> object:
    if text[:1] not in ("[", "{") and not text.lstrip("-").isdigit():
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
