"""How far the recording can be trusted: what was kept, lost and folded, by which engine, at which cost."""

from __future__ import annotations

import json
from collections.abc import Mapping

from qtrace.render.page.arrays import ints, words
from qtrace.render.report_input import ReportInput
from qtrace.render.wording import count, digits, duration

_PLAIN: tuple[tuple[str, str], ...] = (
    ("Engine", "engine"),
    ("qtrace", "qtrace"),
    ("Python", "python"),
    ("Kernel", "kernel"),
    ("Architecture", "architecture"),
    ("Target", "target"),
    ("Folder", "cwd"),
    ("Ended because", "end_reason"),
    ("Limits", "limits"),
    ("Stacks not taken", "stacks_skipped"),
    ("Never seen", "lacks"),
)


_ENGINES = ("ptrace", "perf")
"""Engines that record live; an import has neither cost nor end of its own."""


def is_whole(meta: Mapping[str, str]) -> bool:
    """Return whether the recorder itself closed the file."""
    return meta.get("complete") in ("1", "true")


def command_line(meta: Mapping[str, str]) -> str:
    """Return the recorded command as typed, or what stands in its place."""
    if meta.get("redacted") not in (None, "", "0", "false", "null"):
        return "redacted"
    try:
        argv = json.loads(meta.get("argv", "[]"))
    except ValueError:
        return meta.get("argv", "")
    return " ".join(str(word) for word in argv) if isinstance(argv, list) else str(argv)


def quality_rows(report: ReportInput, span_ns: int, folded: str) -> list[tuple[str, str]]:
    """Return label and value pairs, those that are known."""
    rows = [("Command", command_line(report.meta))]
    rows += [(label, report.meta[key]) for label, key in _PLAIN if report.meta.get(key)]
    rows.append(("Duration", duration(span_ns)))
    calls = count(len(report.calls), "call")
    rows.append(("Kept", f"{calls}, {count(len(report.waits), 'wait')}, {count(len(report.messages), 'message')}"))
    rows.append(("Rate", f"{digits(len(report.calls) / max(span_ns / 1e9, 1e-9))} calls/s"))
    rows.append(("Cost of tracing", cost(report.meta, len(report.calls), span_ns)))
    if report.floor_ns:
        least = f"{duration(report.floor_ns)}: so long a call that cannot wait takes here, tracing included"
        rows.append(("Shortest wait", least))
    rows.append(("Lost", _losses(report)))
    rows += [("Lacks", sentence) for sentence in _lacks(report)]
    rows.append(("Folded", folded))
    rows.append(("Ends early", report.meta.get("storing_ended", "")))
    if report.meta.get("engine") in _ENGINES:
        whole = is_whole(report.meta)
        rows.append(("File", "closed by the recorder" if whole else "cut short: up to the last second is missing"))
    rows.append(("Damaged", report.damage))
    rows.append(("Stacks", count(len(report.stacks), "Python stack")))
    rows += [("Not seen", f"pid {pid}: {why}") for pid, why in report.verdict.unseen]
    return [(label, value) for label, value in rows if value]


def cost(meta: Mapping[str, str], calls: int, span_ns: int) -> str:
    """Return what the recorder measured of itself while it recorded; empty where there was none, as in an import."""
    if not meta.get("stops_cpu_ns"):
        killed = meta.get("engine") in _ENGINES and not is_whole(meta)
        return "not known: the recorder was ended before it could say" if killed else ""
    stops, stopped_ns, all_ns = (int(meta[key]) for key in ("stops", "stops_cpu_ns", "recorder_cpu_ns"))
    each = f", {duration(stopped_ns / calls)} a call" if calls else ""
    return (
        f"{count(stops, 'stop')} took {duration(stopped_ns)} of the tracer's CPU time{each}; with storing and "
        f"looking {duration(all_ns)} in all, {100 * all_ns / max(span_ns, 1):.0f} % of the duration"
    )


def missing(report: ReportInput) -> str:
    """Return what is not in the recording though it happened, as part of a sentence; empty if it is whole."""
    live = report.meta.get("engine") in _ENGINES
    lost = _losses(report)
    parts = [
        report.damage,
        report.meta.get("storing_ended", ""),
        "" if lost.startswith(("nothing", "not known")) else lost,
    ]
    if live and not is_whole(report.meta):
        parts.append("the recorder was ended before it could close the file: up to the last second is missing")
    return "; ".join(part for part in parts if part)


def gaps(report: ReportInput, start_ns: int, end_ns: int) -> list[tuple[int, int, str]]:
    """Return the stretches of the picture in which calls were lost: begin, end and reason; times from `start_ns`."""
    if report.losses is None:
        return []
    rows = report.losses[ints(report.losses["events"], 0) > 0]
    columns = zip(
        ints(rows["start_ns"], 0).tolist(), ints(rows["end_ns"], 0).tolist(), words(rows["reason"]), strict=True
    )
    # One that begins before the recording says that something is missing, not where.
    known = {(max(begin - start_ns, 0), min(end, end_ns) - start_ns, why) for begin, end, why in columns if begin > 0}
    return sorted(gap for gap in known if gap[1] > gap[0])


def _losses(report: ReportInput) -> str:
    losses = report.losses
    known = losses[ints(losses["events"], 0) > 0] if losses is not None else None
    if known is None or known.empty:
        return "nothing" if report.meta.get("engine") in _ENGINES else "not known by number: see what it lacks"
    events = int(ints(known["events"], 0).sum())
    reasons = ", ".join(sorted({str(reason) for reason in known["reason"].dropna()}))
    return f"{count(events, 'event')} in {count(len(known), 'place')}" + (f" ({reasons})" if reasons else "")


def _lacks(report: ReportInput) -> list[str]:
    """What is missing without a number, a sentence each: what a log of strace does not tell."""
    if report.losses is None:
        return []
    rows = report.losses[ints(report.losses["events"], 0) == 0]
    return list(dict.fromkeys(str(reason) for reason in rows["reason"].dropna()))
