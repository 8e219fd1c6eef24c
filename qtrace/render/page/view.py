"""Everything that the page shows, as one tree of plain lists, numbers and words.

Times are nanoseconds since the picture's begin; long columns are stored as differences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from qtrace.model.kinds import WaitKind
from qtrace.model.syscalls import Architecture
from qtrace.model.verdict import Verdict
from qtrace.render.page import graph, lanes, marks, pipes, quality
from qtrace.render.page.arrays import MISSING, Words, codes, deltas, ints, words
from qtrace.render.page.calls import call_rows
from qtrace.render.page.texts import CallTexts, unfinished
from qtrace.render.palette import LOOKS
from qtrace.render.report_input import ReportInput
from qtrace.render.wording import short_count

FORMAT = 1
Plain = dict[str, Any]


@dataclass(frozen=True, eq=False)
class View:
    """The page's data, and the few facts that its static part needs."""

    plain: Plain
    density: bytes
    """Columns of the folded waits: count (uint32), bin (uint16, as steps within a series), share (uint8)."""
    start_ns: int
    """Begin of the picture, CLOCK_MONOTONIC."""
    finished: str
    """Where the time went, for a program that ended by itself."""
    summary: str
    """Processes, threads, calls and duration in one line."""


@dataclass(frozen=True, eq=False)
class _Stage:
    report: ReportInput
    start_ns: int
    end_ns: int
    processes: list[lanes.ProcessRow]
    lanes: list[lanes.Lane]
    lane_of_tid: dict[int, int]
    marks: marks.Marks
    by_kind: np.ndarray[Any, np.dtype[np.float64]]

    @property
    def span_ns(self) -> int:
        return max(self.end_ns - self.start_ns, 1)


def _bounds(report: ReportInput) -> tuple[int, int]:
    starts = [int(table["start_ns"].min()) for table in (report.threads, report.waits) if len(table)]
    ends = [int(table["end_ns"].dropna().max()) for table in (report.threads, report.waits) if table["end_ns"].any()]
    if len(report.calls):
        starts.append(int(report.calls["start_ns"].min()))
        ends.append(int((report.calls["start_ns"] + report.calls["dur_ns"]).max()))
    starts += [int(report.meta["start_ns"])] if report.meta.get("start_ns") else []
    ends += [int(report.meta["end_ns"])] if report.meta.get("end_ns") else []
    start = min(starts, default=0)
    return start, max([*ends, start + 1])


def _stage(report: ReportInput) -> _Stage:
    start, end = _bounds(report)
    processes = lanes.process_rows(report.processes)
    found = lanes.lanes_of(report.threads, processes)
    lane_of_tid = {lane.tid: number for number, lane in enumerate(found)}
    rows = marks.with_lanes(report.waits, lane_of_tid)
    tids = {int(wait.tid) for wait in report.verdict.chain}
    chosen = marks.choose(rows, marks.ids_of_verdict(rows, tids), start, end)
    return _Stage(report, start, end, processes, found, lane_of_tid, chosen, marks.time_by_kind(rows, len(found)))


def _lanes_plain(stage: _Stage) -> list[Plain]:
    life = [_life(stage, lane) for lane in stage.lanes]
    mostly = [
        (lanes.BRIEF, 1.0)
        if end - begin < stage.span_ns * lanes.BRIEF_SHARE
        else (int(row.argmax()), float(row.max() / max(end - begin, 1)))
        for row, (begin, end) in zip(stage.by_kind, life, strict=True)
    ]
    keep = frozenset(int(wait.tid) for wait in stage.report.verdict.chain)
    groups = lanes.idle_groups(stage.lanes, stage.processes, mostly, keep)
    return [
        asdict(lane)
        | {
            "start_ns": begin,
            "end_ns": end,
            "alive": lane.end_ns == MISSING,
            "fold": group,
            "brief": kind == lanes.BRIEF,
        }
        for lane, (begin, end), group, (kind, _) in zip(stage.lanes, life, groups, mostly, strict=True)
    ]


def _life(stage: _Stage, lane: lanes.Lane) -> tuple[int, int]:
    end = lane.end_ns if lane.end_ns != MISSING else stage.end_ns
    return max(lane.start_ns - stage.start_ns, 0), max(end - stage.start_ns, 0)


def _processes_plain(stage: _Stage) -> list[Plain]:
    return [
        asdict(row)
        | {
            "start_ns": row.start_ns - stage.start_ns,
            "end_ns": row.end_ns - stage.start_ns if row.end_ns != MISSING else MISSING,
        }
        for row in stage.processes
    ]


def _objects_plain(stage: _Stage) -> tuple[list[Plain], list[str]]:
    objects = stage.report.objects
    # A recording knows every file that was ever opened: the page names those that it speaks of.
    tables = (stage.marks.exact, stage.report.fill, stage.report.messages, stage.report.critical)
    used = {str(name) for rows in tables if rows is not None for name in rows["object_id"].dropna().unique()}
    objects = objects[objects["object_id"].isin(used)]
    ids = words(objects["object_id"])
    # The verdict has looked closer at what it speaks of, and names it better.
    waits = (*stage.report.verdict.waits, *stage.report.verdict.chain)
    named = {str(wait.target.object_id): wait.target.label for wait in waits if wait.target}
    plain = [named.get(i) or _short(label) or i for i, label in zip(ids, words(objects["label"]), strict=True)]
    labels = _told_apart(plain, [i in named for i in ids])
    rows = zip(ids, words(objects["kind"]), labels, ints(objects["capacity"]), strict=True)
    return [{"id": i, "kind": kind, "label": label, "capacity": int(size)} for i, kind, label, size in rows], ids


def _short(label: str) -> str:
    # Of a file its name: the folders are in the calls' own text, and in the tables.
    return f"file {label.rpartition('/')[2]}" if label.startswith("file /") else label


def _told_apart(labels: list[str], in_verdict: list[bool]) -> list[str]:
    # Ten pipes that are all called "pipe of messages" are numbered; the verdict's own keeps the name it has there.
    often = Counter(labels)
    told = Counter(label for label, named in zip(labels, in_verdict, strict=True) if named)
    taken = Counter({label: 1 for label, count in told.items() if count == 1})
    found = []
    for label, named in zip(labels, in_verdict, strict=True):
        if often[label] == 1 or (named and told[label] == 1):
            found.append(label)
            continue
        taken[label] += 1
        found.append(f"{label} #{taken[label]}")
    return found


def _waits_plain(stage: _Stage, object_ids: list[str]) -> Plain:
    rows = stage.marks.exact
    # Objects that the table of objects lacks still need a name.
    place, _names = codes(rows["object_id"], list(dict.fromkeys(object_ids)))
    names_of_calls, call_names = codes(rows["name"])
    texts = Words()
    describe = CallTexts(stage.report.calls, _architecture(stage.report.meta), rows)
    begin = rows["start_ns"].to_numpy() - stage.start_ns
    waker = ints(rows["woken_by"])
    stack = ints(rows["stack_id"])
    stack_places = {number: at for at, number in enumerate(stage.report.stacks)}
    return {
        "id": deltas(ints(rows["wait_id"])),
        "lane": deltas(ints(rows["lane"])),
        "start": deltas(begin),
        "dur": (rows["end_ns"].to_numpy() - rows["start_ns"].to_numpy()).tolist(),
        "kind": ints(rows["kind_number"]).tolist(),
        "object": place.tolist(),
        "call": names_of_calls.tolist(),
        "text": [texts.number(text) for text in _with_verdicts(describe.texts(), rows, stage.report.verdict)],
        "waker": [stage.lane_of_tid.get(int(tid), MISSING) for tid in waker],
        "stack": [stack_places.get(int(number), MISSING) for number in stack],
        "unfinished": np.flatnonzero(rows["unfinished"].to_numpy(dtype=bool)).tolist(),
        "calls": call_names,
        "texts": texts.texts,
    }


def _with_verdicts(texts: list[str], rows: pd.DataFrame, verdict: Verdict) -> list[str]:
    # For the waits that the verdict speaks of it has the better text: what pointers pointed to is in it.
    known = {int(wait.tid): wait.call_text for wait in (*verdict.waits, *verdict.chain) if wait.call_text}
    columns = zip(texts, ints(rows["tid"]).tolist(), rows["unfinished"].tolist(), words(rows["name"]), strict=True)
    return [
        unfinished(known[tid]) if open_ and known.get(tid, "").startswith(f"{name}(") else text
        for text, tid, open_, name in columns
    ]


def _architecture(meta: Mapping[str, str]) -> Architecture:
    try:
        return Architecture(meta.get("architecture", Architecture.X86_64))
    except ValueError:
        return Architecture.X86_64


def _density_plain(density: marks.Density) -> tuple[Plain, bytes]:
    # There may be a million marks: as numbers of JSON they would take the browser seconds. The columns
    # are little-endian arrays one after the other, the widest first, so that each lies aligned.
    series = density.lane * len(marks.KINDS) + density.kind
    distinct, first, sizes = np.unique(series, return_index=True, return_counts=True)
    step = np.diff(density.bin, prepend=0)
    step[first] = density.bin[first]
    columns = (
        density.count.astype("<u4").tobytes() + step.astype("<u2").tobytes() + density.share.astype("u1").tobytes()
    )
    rows = zip(distinct // len(marks.KINDS), distinct % len(marks.KINDS), sizes, strict=True)
    return {"bins": density.bins, "series": [[int(value) for value in row] for row in rows]}, columns


def _stacks_plain(report: ReportInput) -> tuple[list[list[int]], list[list[Any]]]:
    frames: dict[tuple[str, int, str, str], int] = {}
    stacks = []
    for stack in report.stacks.values():
        keys = [(frame.file, frame.line, frame.function, frame.source) for frame in stack]
        stacks.append([frames.setdefault(key, len(frames)) for key in keys])
    return stacks, [list(key) for key in frames]


def _fill_plain(stage: _Stage, ids: dict[str, int]) -> list[Plain]:
    return [
        {
            "object": ids.get(curve.object_id, MISSING),
            "id": curve.object_id,
            "time": deltas(curve.time_ns - stage.start_ns),
            "bytes": curve.bytes.tolist(),
            "capacity": deltas(curve.capacity),
            "corners": curve.thinned_from,
        }
        for curve in pipes.fill_curves(stage.report.fill)
    ]


def _pipes_plain(stage: _Stage, ids: dict[str, int]) -> list[Plain]:
    found = []
    for row in pipes.pipe_metrics(stage.report.messages, stage.report.waits, stage.span_ns):
        plain = {name: getattr(row, name) for name in row.__dataclass_fields__}
        plain |= {name: asdict(spread) if spread else None for name, spread in _spreads(row)}
        plain["object"] = ids.get(row.object_id, MISSING)
        plain["depth_time_ns"] = deltas(row.depth_time_ns - stage.start_ns)
        plain["depth"] = row.depth.tolist()
        found.append(plain)
    return found


def _spreads(row: pipes.PipeMetrics) -> list[tuple[str, pipes.Spread | None]]:
    return [("send", row.send), ("transit", row.transit), ("receive", row.receive)]


def _critical_plain(stage: _Stage, ids: dict[str, int]) -> Plain | None:
    path = stage.report.critical
    if path is None or path.empty:
        return None
    path = path.sort_values("start_ns")
    kind, _ = codes(path["kind"], marks.KINDS)
    return {
        "start": deltas(ints(path["start_ns"]) - stage.start_ns),
        "dur": (ints(path["end_ns"]) - ints(path["start_ns"])).tolist(),
        "lane": [stage.lane_of_tid.get(int(tid), MISSING) for tid in ints(path["tid"])],
        "kind": kind.tolist(),
        "object": [ids.get(name, MISSING) for name in words(path["object_id"])],
    }


def _graph_plain(found: graph.WaitGraph, objects: list[Plain]) -> Plain:
    # Objects have the names that they have in the timeline, where two of one name are numbered.
    labels = {f"o{row['id']}": row["label"] for row in objects}
    plain = asdict(found)
    for node in plain["nodes"]:
        node["title"] = labels.get(node["key"], node["title"])
    return plain


def _chain_plain(stage: _Stage) -> list[Plain]:
    rows = stage.marks.exact
    # Sorted by lane and start: what comes later replaces what came before.
    last = dict(zip(ints(rows["tid"]).tolist(), ints(rows["wait_id"]).tolist(), strict=True))
    return [
        {
            "tid": int(wait.tid),
            "lane": stage.lane_of_tid.get(int(wait.tid), MISSING),
            "wait": int(last.get(int(wait.tid), MISSING)),
        }
        for wait in stage.report.verdict.chain
    ]


def _finished_sentence(stage: _Stage) -> str:
    # Where the time went: the kinds that took most of the main thread's wall time.
    if not stage.lanes:
        return ""
    begin, end = _life(stage, stage.lanes[0])
    lived = max(end - begin, 1)
    waited = stage.by_kind[0]
    parts = [
        f"{_in_words(marks.KINDS[kind])} {100 * waited[kind] / lived:.0f} %"
        for kind in waited.argsort()[::-1]
        if waited[kind] / lived >= 0.01
    ][:3]
    running = max(1 - waited.sum() / lived, 0)
    return f"Where its main thread's time went: {', '.join([f'running {100 * running:.0f} %', *parts])}."


def _in_words(kind: str) -> str:
    meaning = LOOKS[WaitKind(kind)].meaning
    return kind if meaning.startswith(kind) else f"{kind} ({meaning})"


def fold_sentence(stage_marks: marks.Marks, calls: int) -> str:
    """Return what the picture left out: "9.8 M calls folded into 4,120 marks"."""
    drawn = len(stage_marks.exact) + len(stage_marks.density.lane)
    if not stage_marks.folded:
        return f"nothing: every one of {short_count(drawn)} waits is drawn"
    return f"{short_count(calls)} calls folded into {short_count(drawn)} marks"


def page_view(report: ReportInput) -> View:
    """Return all that the page shows of one recording."""
    stage = _stage(report)
    objects, object_ids = _objects_plain(stage)
    ids = {name: number for number, name in enumerate(object_ids)}
    names = {row.pid: row.name for row in stage.processes}
    stacks, frames = _stacks_plain(report)
    density, density_bytes = _density_plain(stage.marks.density)
    folded = fold_sentence(stage.marks, len(report.calls))
    verdict = report.verdict
    plain: Plain = {
        "format": FORMAT,
        "name": report.name,
        "span_ns": stage.span_ns,
        "verdict_at_ns": min(max(verdict.at_ns - stage.start_ns, 0), stage.span_ns) if verdict.at_ns else stage.span_ns,
        "kinds": [{"id": str(kind), **asdict(LOOKS[kind])} for kind in WaitKind],
        "processes": _processes_plain(stage),
        "lanes": _lanes_plain(stage),
        "objects": objects,
        "waits": _waits_plain(stage, object_ids),
        "density": density,
        "folded": {"calls": len(report.calls), "waits": stage.marks.folded, "sentence": folded},
        "stacks": stacks,
        "frames": frames,
        "fill": _fill_plain(stage, ids),
        "pipes": _pipes_plain(stage, ids),
        "calls": [asdict(row) for row in call_rows(report.calls, _architecture(report.meta))],
        "time_by_kind": np.rint(stage.by_kind).astype(np.int64).tolist(),
        "critical": _critical_plain(stage, ids),
        "chain": _chain_plain(stage),
        "cycle": verdict.cycle,
        "graph": _graph_plain(graph.wait_graph(verdict, names), objects),
        "gaps": [list(gap) for gap in quality.gaps(report, stage.start_ns, stage.end_ns)],
        "quality": quality.quality_rows(report, stage.span_ns, folded),
    }
    return View(plain, density_bytes, stage.start_ns, _finished_sentence(stage), _summary(stage))


def _summary(stage: _Stage) -> str:
    from qtrace.render.wording import count, duration

    calls = short_count(len(stage.report.calls))
    return (
        f"{count(len(stage.processes), 'process', 'processes')} · {count(len(stage.lanes), 'thread')} · "
        f"{calls} calls · {duration(stage.span_ns)}"
    )
