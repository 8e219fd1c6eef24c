"""A column of raw call arguments that costs no memory of its own.

Six arguments as a tuple of Python integers take 300 bytes; ten million calls would take 3 GB. So the
column keeps the recording's records and makes a tuple when one is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype, register_extension_dtype

from qtrace.model.records import as_bytes

NAMES = ("a0", "a1", "a2", "a3", "a4", "a5")
_RECORD = np.dtype([(name, "<u8") for name in NAMES])


@register_extension_dtype
class ArgumentsDtype(ExtensionDtype):
    """Six unsigned integers, shown as a tuple."""

    name = "arguments"
    type = tuple
    kind = "O"
    na_value = None

    @classmethod
    def construct_array_type(cls) -> Any:
        """Return the array that holds values of this type."""
        return ArgumentsArray


class ArgumentsArray(ExtensionArray):
    """Arguments of calls, one tuple of six a row."""

    def __init__(self, records: np.ndarray[Any, np.dtype[np.void]]) -> None:
        """Wrap records that have the fields a0 to a5, without copying them."""
        self._records = records

    @classmethod
    def _from_sequence(cls, scalars: Sequence[Any], *, dtype: Any = None, copy: bool = False) -> ArgumentsArray:
        rows = [tuple(row) if row is not None else (0,) * len(NAMES) for row in scalars]
        return cls(np.array(rows, dtype=_RECORD))

    @classmethod
    def _from_factorized(cls, values: Any, original: ArgumentsArray) -> ArgumentsArray:
        return cls._from_sequence(values)

    @property
    def dtype(self) -> ArgumentsDtype:
        """The type of the column."""
        return ArgumentsDtype()

    @property
    def nbytes(self) -> int:
        """Bytes of the arguments; they are shared with the records of the calls."""
        return len(self._records) * _RECORD.itemsize

    def __len__(self) -> int:
        """Return the number of calls."""
        return len(self._records)

    def __getitem__(self, item: Any) -> Any:
        """Return one call's tuple, or the column of several."""
        item = pd.api.indexers.check_array_indexer(self, item)
        found = self._records[item]
        if isinstance(found, np.ndarray):
            return type(self)(found)
        return tuple(int(found[name]) for name in NAMES)

    def __eq__(self, other: object) -> Any:
        """Compare row by row."""
        if isinstance(other, ArgumentsArray):
            equal = [self._records[name] == other._records[name] for name in NAMES]
            return np.logical_and.reduce(equal)
        return np.array([row == other for row in self], dtype=bool)

    def isna(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return that nothing is missing: every call has arguments."""
        return np.zeros(len(self), dtype=bool)

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> ArgumentsArray:
        """Return rows by place."""
        places = np.asarray(indices, dtype=np.int64)
        if allow_fill and (places < 0).any():
            raise ValueError("arguments cannot be missing")
        return type(self)(as_bytes(self._records)[places].view(self._records.dtype))

    def copy(self) -> ArgumentsArray:
        """Return the column again: it is never changed."""
        return type(self)(self._records)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """Return tuples as objects."""
        found = np.empty(len(self), dtype=object)
        found[:] = [self[place] for place in range(len(self))]
        return found

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[ArgumentsArray]) -> ArgumentsArray:
        parts = []
        for one in to_concat:
            rows = np.empty(len(one), dtype=_RECORD)
            for name in NAMES:
                rows[name] = one._records[name]
            parts.append(rows)
        return cls(np.concatenate(parts))
