"""The table `syscalls`."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qtrace.analyse.arguments import NAMES, ArgumentsArray
from qtrace.analyse.frames import category, named, present, table
from qtrace.model.records import CallFlag

if TYPE_CHECKING:
    from qtrace.analyse.trace import TraceParts

_HIGHEST_ERRNO = 4095
_RESTARTS = {512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 516: "ERESTART_RESTARTBLOCK"}


def syscalls_table(parts: TraceParts) -> pd.DataFrame:
    """Return a row for each call, in the order of entry."""
    calls = parts.calls
    unfinished = (calls["flags"] & int(CallFlag.UNFINISHED)) != 0
    ret = calls["ret"].copy()
    failed = ~unfinished & (ret < 0) & (ret >= -_HIGHEST_ERRNO)
    names, places = parts.call_names
    return table(
        "syscalls",
        {
            "start_ns": calls["start_ns"].copy(),
            "dur_ns": present(calls["dur_ns"].copy(), ~unfinished),
            "pid": calls["pid"].astype(np.int64),
            "tid": calls["tid"].astype(np.int64),
            "name": category(places[calls["nr"].astype(np.uint16)], names),
            "args": ArgumentsArray(calls[list(NAMES)]),
            "ret": present(ret, ~failed & ~unfinished),
            "errno": named(np.where(failed, -ret, -1), _errors()),
            "object_id": named(parts.call_object, parts.object_ids),
            "unfinished": unfinished,
        },
    )


def _errors() -> list[str]:
    # By number; those that this machine has no name for are called by it.
    known = {**errno.errorcode, **_RESTARTS}
    return [known.get(number, f"E{number}") for number in range(_HIGHEST_ERRNO + 1)]
