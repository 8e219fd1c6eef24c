"""Columns of the tables as plain integers and words, the form that the page carries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

IntArray = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

MISSING = -1
"""Stands for NA inside the page's own arrays, never in a public table."""


def ints(column: pd.Series[Any], missing: int = MISSING) -> IntArray:
    """Return a column as int64, with `missing` for NA."""
    known = column if column.dtype == np.int64 else column.astype("Int64").fillna(missing)
    return np.asarray(known, dtype=np.int64)


def words(column: pd.Series[Any]) -> list[str]:
    """Return a column as text, with an empty string for NA."""
    return ["" if missing else str(word) for word, missing in zip(column, column.isna(), strict=True)]


def codes(column: pd.Series[Any], order: list[str] | None = None) -> tuple[IntArray, list[str]]:
    """Return each row's place in a list of the distinct words, and that list; NA is `MISSING`.

    Args:
        column: Words, as text or as a category.
        order: The list to use; words outside of it are `MISSING`.
    """
    places, distinct = pd.factorize(column)
    found = np.asarray(places, dtype=np.int64)
    names = [str(word) for word in distinct]
    if order is None:
        return found, names
    known = {word: place for place, word in enumerate(order)}
    # One place more than there are names, for NA, which factorize numbers -1.
    moved = np.array([*(known.get(word, MISSING) for word in names), MISSING], dtype=np.int64)
    return moved[found], order


def deltas(values: IntArray) -> list[int]:
    """Return the first value and then the differences: small numbers compress better than large ones."""
    if not len(values):
        return []
    return np.concatenate((values[:1], np.diff(values))).tolist()  # type: ignore[no-any-return]


class Words:
    """Distinct texts, each told once and then named by its number."""

    def __init__(self, first: Iterable[str] = ()) -> None:
        """Begin with some texts, numbered from 0."""
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}
        for text in first:
            self.number(text)

    def number(self, text: str) -> int:
        """Return the text's number, a new one if it was not seen before."""
        known = self._numbers.get(text)
        if known is None:
            known = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return known
