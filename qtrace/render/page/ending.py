"""The recording up to its end: what happened while qtrace, its user or a time limit ended the program is no part.

A hung program that is killed has no unfinished calls in the kernel's eyes: a write is cut short and
returns, a join is interrupted. What a reader wants to see is the last moment before that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from qtrace.model.records import CallFlag
from qtrace.render.report_input import CallArray, ReportInput


def before_the_end(report: ReportInput) -> ReportInput:
    """Return the recording as it stood when the program began to be ended; unchanged if nobody ended it."""
    end = int(report.meta.get("end_begins_ns") or 0)
    if not end:
        return report
    return replace(
        report,
        threads=_lives(report.threads, end, []),
        processes=_lives(report.processes, end, ["exit_code", "exit_signal"]),
        waits=_waits(report.waits, end),
        messages=_messages(report.messages, end),
        fill=report.fill[report.fill["time_ns"] <= end],
        calls=_calls(report.calls, end),
        critical=None if report.critical is None else _clipped(report.critical, end),
        meta={**report.meta, "end_ns": str(end)},
    )


def _lives(rows: pd.DataFrame, end: int, facts: list[str]) -> pd.DataFrame:
    kept = rows[rows["start_ns"] <= end].copy()
    later = (kept["end_ns"] > end).fillna(False).to_numpy(dtype=bool)
    for column in ("end_ns", *facts):
        kept[column] = kept[column].mask(later)
    return kept


def _waits(waits: pd.DataFrame, end: int) -> pd.DataFrame:
    kept = waits[waits["start_ns"] < end]
    later = kept["end_ns"].to_numpy() > end
    return kept.assign(
        end_ns=kept["end_ns"].clip(upper=end),
        unfinished=kept["unfinished"].to_numpy(dtype=bool) | later,
        woken_by=kept["woken_by"].mask(later),
    )


def _messages(messages: pd.DataFrame, end: int) -> pd.DataFrame:
    known = messages["write_start_ns"].fillna(messages["read_start_ns"])
    kept = messages[(known <= end).fillna(False).to_numpy(dtype=bool)].copy()
    unread = (kept["read_end_ns"] > end).fillna(False).to_numpy(dtype=bool)
    for column in ("write_end_ns", "read_start_ns", "read_end_ns"):
        kept[column] = kept[column].mask((kept[column] > end).fillna(False).to_numpy(dtype=bool))
    kept["complete"] = kept["complete"].to_numpy(dtype=bool) & ~unread
    return kept


def _calls(calls: CallArray, end: int) -> CallArray:
    kept = calls[: int(np.searchsorted(calls["start_ns"], end))]
    later: Any = np.flatnonzero(kept["start_ns"] + kept["dur_ns"] > end)
    if len(later):
        kept = kept.copy()
        kept["dur_ns"][later] = end - kept["start_ns"][later]
        kept["flags"][later] |= np.uint16(CallFlag.UNFINISHED)
        kept["ret"][later] = 0
    return kept


def _clipped(path: pd.DataFrame, end: int) -> pd.DataFrame:
    kept = path[path["start_ns"] < end]
    return kept.assign(end_ns=kept["end_ns"].clip(upper=end))
