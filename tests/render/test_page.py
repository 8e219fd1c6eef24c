"""The page as text: what it contains, how large it is, what is folded, and that nothing gets out of its quotes."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qtrace.model.kinds import Certainty, VerdictKind, WaitKind
from qtrace.model.verdict import Line, Provider
from qtrace.render.page import lanes, marks, pipes
from qtrace.render.page.ending import before_the_end
from qtrace.render.page.quality import cost
from qtrace.render.page.verdict_html import chain_html
from qtrace.render.page.view import _told_apart, fold_sentence, page_view
from qtrace.render.palette import LOOKS
from qtrace.render.report import render_report
from tests.render import inputs

MB = 1_000_000
ALL = (inputs.join_before_get, inputs.hostile, inputs.finished, inputs.pool, inputs.lock_order, inputs.empty)


def _packed(page: str, block: str) -> bytes:
    found = re.search(rf'<script type="text/plain" id="packed-{block}">([A-Za-z0-9+/=]*)</script>', page)
    assert found
    return zlib.decompress(base64.b64decode(found.group(1)))


def _view(page: str) -> dict[str, Any]:
    view: dict[str, Any] = json.loads(_packed(page, "view"))
    return view


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("made", ALL, ids=lambda made: made.__name__)
def test_a_small_recording_is_a_page_of_at_most_3_mb_without_an_address(made: Any) -> None:
    """One file that needs no other: no tag of it names anything outside of it."""
    page = render_report(made())
    assert len(page.encode()) <= 3 * MB
    tags = _Tags()
    tags.feed(page)
    for tag, attributes in tags.tags:
        for name in ("src", "href", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)


def test_names_from_the_program_never_become_markup() -> None:
    """A thread, a path or an object whose name holds a script leaves the page's tags as they were."""
    plain, hostile = _Tags(), _Tags()
    plain.feed(render_report(inputs.join_before_get()))
    page = render_report(inputs.hostile())
    hostile.feed(page)
    assert "<img" not in page
    count = [tag for tag, _ in hostile.tags].count
    assert [count(name) for name in ("script", "img", "iframe", "object")] == [
        [tag for tag, _ in plain.tags].count(name) for name in ("script", "img", "iframe", "object")
    ]
    assert _view(page)["lanes"][0]["name"] == inputs.HOSTILE


def test_the_verdict_stands_in_the_page_before_any_script() -> None:
    """Headline, chain, closing of the circle, advice and lines need no script to be read."""
    page = render_report(inputs.join_before_get())
    static = page[: page.index("<script")]
    for text in ("cannot exit before", "QueueFeederThread", "61,500 of 65,536 bytes", "the circle is closed"):
        assert text in static
    assert "get() before join()" in static
    assert "join_before_get.py:22" in static
    assert static.count('class="card"') == 3


def test_every_kind_of_wait_has_a_look_of_its_own() -> None:
    """No two kinds share both hue and hatch, in either theme."""
    assert set(LOOKS) == set(WaitKind)
    assert len({(look.light, look.hatch) for look in LOOKS.values()}) == len(LOOKS)
    assert len({(look.dark, look.hatch) for look in LOOKS.values()}) == len(LOOKS)


def test_a_million_calls_are_folded_and_none_is_lost() -> None:
    """Every wait is either drawn by itself or counted in a bin, and the waited time is the same."""
    report = inputs.finished(1_000_000, workers=12)
    page = render_report(report)
    assert len(page.encode()) <= 15 * MB
    view = _view(page)
    exact = len(view["waits"]["id"])
    size = sum(marks_of for _, _, marks_of in view["density"]["series"])
    counts = np.frombuffer(_packed(page, "density"), "<u4", size)
    assert exact + int(counts.sum()) == len(report.waits)
    assert exact + size < len(report.waits) / 2
    assert view["folded"]["sentence"] == f"{len(report.calls):,} calls folded into {exact + size:,} marks"
    total = float((report.waits["end_ns"] - report.waits["start_ns"]).sum())
    assert sum(map(sum, view["time_by_kind"])) == pytest.approx(total, rel=1e-6)


def test_density_adds_up_to_the_time_waited() -> None:
    """Bins hold the waits' own time: a wait over several bins is parted, short ones are added up."""
    generator = np.random.default_rng(3)
    start = np.sort(generator.integers(0, 900_000, 5_000))
    rows = pd.DataFrame(
        {
            "start_ns": start,
            "end_ns": start + generator.integers(1, 60, 5_000),
            "lane": generator.integers(0, 3, 5_000),
            "kind_number": generator.integers(0, 4, 5_000),
        }
    )
    density = marks.density_of(rows, 0, 1_000_000, bins=marks.FEWEST_BINS)
    width = 1_000_000 / density.bins
    waited = float((rows["end_ns"] - rows["start_ns"]).sum())
    # Rounding upward adds at most one step of the share to each mark.
    assert waited * 0.99 <= density.share.sum() / marks.FULL * width <= waited + len(density.share) * width / marks.FULL
    assert density.count.sum() == len(rows)
    assert density.share.max() <= marks.FULL


def test_unfinished_waits_and_those_of_the_chain_are_never_folded() -> None:
    """However short they are: what the verdict speaks of is exact."""
    report = inputs.finished(100_000)
    waits = report.waits.copy()
    waits.loc[[11, 5_000], "end_ns"] = waits.loc[[11, 5_000], "start_ns"] + 1
    waits.loc[11, "unfinished"] = True
    rows = marks.with_lanes(waits, {int(tid): place for place, tid in enumerate(waits["tid"].unique())})
    chosen = marks.choose(rows, frozenset({5_000}), inputs.START, int(report.verdict.at_ns), limit=1_000)
    assert {11, 5_000} <= set(chosen.exact["wait_id"])
    assert len(chosen.exact) <= 1_002
    assert chosen.folded == len(rows) - len(chosen.exact)


def test_the_fold_sentence_counts_what_is_drawn() -> None:
    """Nothing folded is said as such."""
    small = page_view(inputs.join_before_get()).plain["folded"]
    assert small == {"calls": 8, "waits": 0, "sentence": "nothing: every one of 6 waits is drawn"}
    stage = marks.Marks(pd.DataFrame({"a": range(120)}), marks.density_of(_two_waits(), 0, 1_000_000), 9_800_000)
    assert fold_sentence(stage, 9_800_000) == "9.8 M calls folded into 122 marks"


def _two_waits() -> pd.DataFrame:
    return pd.DataFrame({"start_ns": [1, 700_001], "end_ns": [2, 700_002], "lane": [0, 0], "kind_number": [1, 1]})


def test_a_finished_program_says_where_its_time_went() -> None:
    """It has a headline of its own and no chain."""
    report = inputs.finished(2_000)
    assert report.verdict.kind is VerdictKind.FINISHED
    page = render_report(report)
    assert "time went: running" in page[: page.index("<script")]
    assert '<ol class="chain' not in page


def test_thinning_keeps_every_peak() -> None:
    """A level that jumped for a moment is still there when the curve has a hundredth of its corners."""
    level = np.zeros(100_000, dtype=np.int64)
    level[[777, 50_000, 99_990]] = [65_536, 4_096, 12_345]
    kept = pipes.thin(np.arange(100_000, dtype=np.int64), level, 1_000)
    assert len(kept) <= 1_100
    assert {777, 50_000, 99_990} <= set(kept.tolist())


def test_calls_read_as_strace_prints_them() -> None:
    """Arguments by their kind, results with the error's name and words, unfinished ones marked."""
    waits = page_view(inputs.join_before_get()).plain["waits"]
    texts = [waits["texts"][number] for number in waits["text"]]
    assert "read(3, 0x7ffd0, 832) = 832" in texts
    assert "wait4(4101,  <unfinished ...>" in texts
    assert any(text.endswith("= -1 ETIMEDOUT (Connection timed out)") for text in texts)
    # What the verdict knows better, because it could look behind the pointers, is taken from there.
    assert 'write(4, "\\0\\1\\0\\30"..., 65592 <unfinished ...>' in texts


def test_the_picture_ends_where_the_program_began_to_be_ended() -> None:
    """What a kill did to calls, lives and messages is no part of it: who waited then is still waiting."""
    report = inputs.finished(2_000)
    end = inputs.START + 2_000_000_000
    cut = before_the_end(replace(report, meta={**report.meta, "end_begins_ns": str(end)}))
    assert int(cut.waits["end_ns"].max()) == end
    spanning = (report.waits["start_ns"] < end) & (report.waits["end_ns"] > end)
    assert spanning.any()
    assert int(cut.waits["unfinished"].sum()) == int(spanning.sum())
    assert cut.waits.loc[cut.waits["unfinished"], "woken_by"].isna().all()
    assert cut.threads["end_ns"].isna().all()
    assert cut.processes["exit_code"].isna().all()
    assert int(cut.fill["time_ns"].max()) <= end
    assert int((cut.calls["start_ns"] + cut.calls["dur_ns"]).max()) == end
    assert int(cut.messages["write_start_ns"].max()) <= end
    assert int(cut.messages["read_end_ns"].max()) <= end
    assert page_view(cut).plain["span_ns"] == end - inputs.START
    assert before_the_end(report) is report


def test_objects_of_one_name_are_numbered() -> None:
    """The verdict's own keeps the name that it has in the cards; all others are told apart."""
    assert _told_apart(["pipe", "queue pipe", "pipe", "pipe"], [False] * 4) == [
        "pipe #1",
        "queue pipe",
        "pipe #2",
        "pipe #3",
    ]
    assert _told_apart(["pipe", "pipe", "lock"], [False, True, True]) == ["pipe #2", "pipe", "lock"]
    assert _told_apart(["pipe", "pipe"], [True, True]) == ["pipe #1", "pipe #2"]


def test_the_cost_of_tracing_is_what_the_recorder_measured() -> None:
    """Stops, CPU time a call, and the recorder's share of the duration; a killed recorder could not say."""
    meta = {"engine": "ptrace", "complete": "1"}
    measured = {"stops": "2000", "stops_cpu_ns": "12000000", "recorder_cpu_ns": "50000000"}
    assert cost({**meta, **measured}, 1_000, 1_000_000_000) == (
        "2,000 stops took 12.0 ms of the tracer's CPU time, 12.0 µs a call; "
        "with storing and looking 50.0 ms in all, 5 % of the duration"
    )
    assert cost({"engine": "ptrace"}, 10, 10) == "not known: the recorder was ended before it could say"
    assert cost({"engine": "strace-log", "complete": "1"}, 10, 10) == ""


def test_children_that_idle_alike_are_one_lane() -> None:
    """A recording numbers the processes that multiprocessing made: that is no difference between them."""
    rows = [
        lanes.ProcessRow(pid, 1, "app.py" if pid == 1 else f"child {pid} of app.py", "", pid, -1, "")
        for pid in range(1, 8)
    ]
    found = [lanes.Lane(row.pid, row.pid, place, "MainThread", "worker", 0, -1) for place, row in enumerate(rows)]
    assert lanes.idle_groups(found, rows, [(3, 0.5)] + [(3, 0.99)] * 6, frozenset({5})) == [-1, 0, 0, 0, -1, 0, 0]


def test_pipes_say_who_sends_and_who_receives() -> None:
    """Thread ids, the busiest first; none where nobody was seen."""
    report = inputs.finished(2_000)
    (row,) = pipes.pipe_metrics(report.messages, report.waits, 1)
    assert set(row.senders) == set(report.messages["sender_tid"].dropna())
    counts = report.messages["receiver_tid"].value_counts()
    assert [counts[tid] for tid in row.receivers] == sorted(counts.tolist(), reverse=True)


def test_threads_too_short_to_be_seen_are_one_lane() -> None:
    """A thousand workers that each died at once would be a thousand empty lanes."""
    report = inputs.finished(2_000)
    main = report.threads.iloc[[0]]
    start = int(main["start_ns"].iloc[0])
    dead = [
        main.assign(tid=90_000 + n, pid=90_000 + n, name="MainThread", start_ns=start + n, end_ns=start + n + 9)
        for n in range(9)
    ]
    family = [
        report.processes.iloc[[0]].assign(
            pid=90_000 + n, name=f"child {n} of app.py", start_ns=start + n, end_ns=start + n + 9
        )
        for n in range(9)
    ]
    view = page_view(
        replace(report, threads=pd.concat([report.threads, *dead]), processes=pd.concat([report.processes, *family]))
    ).plain
    brief = [lane for lane in view["lanes"] if lane["brief"]]
    assert [lane["tid"] for lane in brief] == [90_000 + n for n in range(9)]
    assert len({lane["fold"] for lane in brief}) == 1
    assert brief[0]["fold"] != -1


def test_what_is_missing_is_said_beside_the_verdict() -> None:
    """Lost calls, their place in the timeline, and damage: "nothing is stuck" alone would say too much."""
    whole = inputs.finished(2_000)
    assert 'id="missing"' not in render_report(whole)
    start = int(whole.threads["start_ns"].min())
    losses = pd.DataFrame({"start_ns": [start + 10], "end_ns": [start + 1_000], "events": [7], "place": ["limit"],
                           "reason": ["<only> the last"]})  # fmt: skip
    lossy = replace(whole, losses=losses, meta={**whole.meta, "engine": "ptrace", "complete": "1"})
    page = render_report(lossy)
    assert "7 events in 1 place (&lt;only&gt; the last)" in page[: page.index("<script")]
    assert page_view(lossy).plain["gaps"] == [[10, 1_000, "<only> the last"]]
    damaged = render_report(replace(whole, damage="the recording is damaged"))
    assert "the recording is damaged" in damaged[: damaged.index("<script")]


def test_a_line_that_two_threads_stand_at_is_told_once() -> None:
    """With what each of them does there; lists of evidence are words, not Python."""
    report = inputs.join_before_get()
    line = Line("/home/u/app.py", 5, "work", "with right:", "waits for it")
    lines = (line, replace(line, note="holds left meanwhile"), line)
    verdict = replace(report.verdict, lines=lines, evidence={"locks": ["a", "b"], "idle_workers": [29399, 29400]})
    page = render_report(replace(report, verdict=verdict))
    assert page.count("waits for it; holds left meanwhile") == 1
    assert "<dd>a, b</dd>" in page
    assert "<dd>29399, 29400</dd>" in page


def test_the_circle_closes_where_the_verdict_says() -> None:
    """Of several links that could end the last wait it is the first of its providers."""
    verdict = inputs.join_before_get().verdict
    last = verdict.chain[-1]
    tids = [link.tid for link in verdict.chain[:2]]
    holds = "holds a read end"
    providers = tuple(Provider(verdict.chain[0].pid, tid, Certainty.LIKELY, holds) for tid in reversed(tids))
    turned = replace(verdict, cycle=True, chain=(*verdict.chain[:-1], replace(last, providers=providers)))
    assert turned.back_to == 1
    assert f"{len(turned.chain)} waits for 2" in chain_html(turned)
