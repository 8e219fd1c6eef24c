"""Tables with the columns that are declared in `qtrace.model.columns`, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from qtrace.model.columns import TABLES


def table(name: str, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table with its declared columns and dtypes.

    Args:
        name: A table of `qtrace.model.columns.TABLES`.
        columns: Values for every column of it: lists with None for missing ones, or arrays.
    """
    frame = {column.name: _typed(columns[column.name], column.dtype) for column in TABLES[name]}
    return pd.DataFrame(frame, copy=False)


def from_rows(name: str, rows: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    """Return a table from tuples in the order of its declared columns."""
    every = list(rows)
    names = [column.name for column in TABLES[name]]
    values = list(zip(*every, strict=True)) if every else [()] * len(names)
    return table(name, dict(zip(names, values, strict=True)))


def _typed(values: Any, dtype: Any) -> Any:
    if isinstance(values, pd.api.extensions.ExtensionArray | pd.Categorical):
        return values
    if dtype == "int64":
        return np.asarray(values, dtype=np.int64)
    if dtype == "Int64" and isinstance(values, np.ndarray):
        return present(values, np.ones(len(values), dtype=bool))
    if dtype == "bool":
        return np.asarray(values, dtype=bool)
    return pd.Series(list(values), dtype=dtype)


def present(values: np.ndarray[Any, Any], known: np.ndarray[Any, np.dtype[np.bool_]]) -> Any:
    """Return an Int64 column whose values are NA where they are not known."""
    return pd.arrays.IntegerArray(values.astype(np.int64, copy=False), ~known)


def named(codes: np.ndarray[Any, Any], names: list[str]) -> Any:
    """Return a string column from places in a list of names; NA where the place is negative."""
    return pd.array(names, dtype="string").take(codes, allow_fill=True)


def category(codes: np.ndarray[Any, Any], names: list[str]) -> pd.Categorical:
    """Return a category column from places in a list of names; NA where the place is negative."""
    return pd.Categorical.from_codes(codes, categories=names)  # type: ignore[call-overload,no-any-return]
