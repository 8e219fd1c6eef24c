"""The report in a headless Chromium: each feature by clicking it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.render import inputs
from tests.render.conftest import Reports
from tests.support.browser import Page

NAMES = ("join_before_get", "hostile", "finished", "pool", "lock_order", "empty")

# Where a wait is on the screen: the middle of what of it is shown, on its lane's line.
PLACE = """
    const [row, share] = [arguments[0], arguments[1] ?? 0.5], w = Q.waits.columns;
    const canvas = document.querySelector("canvas.lanes").getBoundingClientRect();
    const label = document.querySelector(`[data-lane="${w.lane[row]}"]`).getBoundingClientRect();
    const from = Math.max(Q.timeline.x(w.start[row]), 0);
    const to = Math.min(Q.timeline.x(w.end[row]), Q.timeline.width());
    return [canvas.left + from + (to - from) * share, label.top + label.height / 2];
"""
# How many pixels of a canvas have a colour, within a few steps of each channel.
PIXELS = """
    const canvas = document.querySelector(arguments[0]), colour = arguments[1];
    const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let i = 0; i < data.length; i += 4) if (wanted.every((part, n) => Math.abs(data[i + n] - part) < 6)) found++;
    return found;
"""
PIPE_FULL, STUCK = "#d55e00", "#b8132f"


def _show(page: Page, css: str) -> None:
    page.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})", css)
    page.frame()


def _click(page: Page, css: str) -> None:
    _show(page, css)
    page.find(css).click()
    page.frame()


def _place(page: Page, row: int, share: float = 0.5) -> tuple[int, int]:
    _show(page, "canvas.lanes")
    x, y = page.run(PLACE, row, share)
    return int(x), int(y)


def _mouse(page: Page, x: int, y: int, *, click: bool = False, double: bool = False) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    chain = ActionChains(page.driver, duration=20)
    chain.w3c_actions.pointer_action.move_to_location(x, y)
    if click:
        chain.w3c_actions.pointer_action.click()
    if double:
        chain.w3c_actions.pointer_action.double_click()
    chain.perform()
    page.frame()


def _keys(page: Page, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(page.driver).send_keys(key).perform()
    page.frame()


def _drag(page: Page, css: str, begin: float, end: float) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    _show(page, css)
    box = page.run(
        "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return [b.left, b.top + b.height / 2, b.width]",
        css,
    )
    pointer = ActionChains(page.driver, duration=60)
    action = pointer.w3c_actions.pointer_action
    action.move_to_location(int(box[0] + box[2] * begin), int(box[1])).pointer_down()
    for part in (0.5, 1.0):
        action.move_to_location(int(box[0] + box[2] * (begin + (end - begin) * part)), int(box[1]))
    action.pointer_up()
    pointer.perform()
    page.frame()


def _window(page: Page) -> tuple[float, float]:
    t0, t1, span = page.run("return [Q.state.t0, Q.state.t1, Q.view.span_ns]")
    return t0 / span, t1 / span


def _row(page: Page, kind: str) -> int:
    """Return the last wait of a kind."""
    return int(page.run("return Q.waits.columns.kind.findLastIndex((k) => Q.view.kinds[k].id === arguments[0])", kind))


@pytest.mark.parametrize("width", [1440, 400])
@pytest.mark.parametrize("name", NAMES)
def test_a_report_opens_without_complaint(page: Page, reports: Reports, pictures: Path, name: str, width: int) -> None:
    """No console message, no request, nothing beyond the edge, the headline in sight, a lane a thread."""
    page.resize(width)
    page.open(reports(name))
    assert page.console() == []
    assert page.requests() == []
    assert page.overflow() == []
    headline = page.find("#headline")
    assert headline.is_displayed()
    assert headline.location["y"] < 400
    threads = len(getattr(inputs, name)().threads)
    folded = "[...document.querySelectorAll('.row.fold')].reduce((sum, row) => sum + Number(row.dataset.lanes), 0)"
    assert page.run(f"return document.querySelectorAll('.row.lane').length + {folded}") == threads
    page.picture(pictures / f"{name}-{width}.png")


def test_hostile_names_are_shown_and_never_run(page: Page, reports: Reports) -> None:
    """Whatever is opened, hovered or chosen: text of the program stays text."""
    page.open(reports("hostile"))
    row = _row(page, "child-exit")
    _mouse(page, *_place(page, row))
    assert inputs.HOSTILE in page.find("#tip").text
    _mouse(page, *_place(page, row), click=True)
    assert inputs.HOSTILE in page.find("#details").text
    _click(page, "#theme")
    _click(page, "#threads-menu summary")
    page.run("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    page.frame()
    assert page.run("return window.hacked") is None
    assert page.run("return document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert page.find("#headline").text == inputs.HOSTILE
    assert inputs.HOSTILE in page.find("#quality-table").text
    assert "<script>" in page.run("return document.querySelector('#graph-figure').textContent")


def test_the_verdict_needs_no_script(page: Page, reports: Reports) -> None:
    """With JavaScript switched off, the verdict is there, and a sentence on what is not."""
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.driver.get(reports("join_before_get").as_uri())
        text = page.find("main").text
    finally:
        page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "cannot exit before" in text
    assert "need JavaScript" in text
    assert "get() before join()" in text


def test_a_browser_that_cannot_unpack_says_so(page: Page, reports: Reports) -> None:
    """Without DecompressionStream: the verdict, and which browsers can show the rest."""
    command = "Page.addScriptToEvaluateOnNewDocument"
    added = page.driver.execute_cdp_cmd(command, {"source": "delete window.DecompressionStream"})
    try:
        page.driver.get("about:blank")
        page.driver.get(reports("join_before_get").as_uri())
        assert "DecompressionStream" in page.find("#cannot").text
        assert page.find("#headline").is_displayed()
        assert not page.find("#figures").is_displayed()
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_the_pointer_over_a_wait_tells_what_it_was(page: Page, reports: Reports) -> None:
    """Call as strace prints it, object, duration, the program's own line."""
    page.open(reports("join_before_get"))
    _mouse(page, *_place(page, _row(page, "child-exit")))
    tip = page.find("#tip")
    assert tip.is_displayed()
    for text in ("child-exit", "wait4(4101,", "child Process-1", "3.06 s", "never ended", "join_before_get.py:22"):
        assert text in tip.text
    _mouse(page, *_place(page, _row(page, "external")))
    assert "14.0 ms" in page.find("#tip").text
    _mouse(page, 5, 5)
    assert not page.find("#tip").is_displayed()


def test_an_unfinished_wait_leads_round_the_chain(page: Page, reports: Reports) -> None:
    """Its details link to who could end it, link by link, until the circle is closed; then Escape closes them."""
    page.open(reports("join_before_get"))
    plain = page.run("return document.querySelector('canvas.lanes').toDataURL()")
    _mouse(page, *_place(page, _row(page, "child-exit")), click=True)
    details = page.find("#details")
    assert details.is_displayed()
    assert "Python stack" in details.text
    assert "p.join()" in details.text
    arrows = page.run("return document.querySelector('canvas.lanes').toDataURL()")
    assert arrows != plain
    seen = []
    for _ in range(3):
        seen.append(page.run("return Q.view.chain.findIndex((c) => c.wait === Q.waits.columns.id[Q.state.selected])"))
        page.find("#details .waits-for .link").click()
        page.frame()
    assert seen == [0, 1, 2]
    assert page.run("return Q.waits.columns.id[Q.state.selected] === Q.view.chain[0].wait")
    _keys(page, "\ue00c")
    assert not details.is_displayed()


def test_a_finished_wait_links_to_who_woke_it(page: Page, reports: Reports) -> None:
    """The details name the waker, and lead to it."""
    page.open(reports("join_before_get"))
    page.run("Q.timeline.reveal(arguments[0])", _row(page, "gil"))
    page.frame()
    link = page.find("#details .woken-by .link")
    assert link.text.startswith("Process-1 / ")
    before = page.run("return [Q.state.selected, Q.state.at]")
    link.click()
    page.frame()
    assert page.run("return [Q.state.selected, Q.state.at]") != before


def test_unfinished_waits_reach_the_right_edge_with_a_mark(page: Page, reports: Reports) -> None:
    """The last columns of pixels hold the mark's colour, on every stuck lane and on no other recording."""
    page.open(reports("join_before_get"))
    edge = """
        const canvas = document.querySelector("canvas.lanes"), { width, height } = canvas;
        const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const { data } = copy.getImageData(width - 12, 0, 8, height);
        const [r, g, b] = [1, 3, 5].map((at) => parseInt(Q.theme.stuck.slice(at, at + 2), 16));
        const rows = new Set();
        for (let i = 0; i < data.length; i += 4) {
          if (data[i] === r && data[i + 1] === g && data[i + 2] === b) rows.add(Math.floor(i / 32));
        }
        return rows.size;"""
    assert page.run(edge) >= 3 * 3
    page.open(reports("finished"))
    assert page.run(edge) == 0


def test_a_kind_can_be_hidden_and_shown(page: Page, reports: Reports) -> None:
    """Its chip takes its colour from the lanes, its rows from the table, and is told to those who cannot see it."""
    page.open(reports("join_before_get"))
    assert page.run(PIXELS, "canvas.lanes", PIPE_FULL) > 500
    chip = '.chip[data-kind="pipe-full"]'
    _click(page, chip)
    assert page.run(PIXELS, "canvas.lanes", PIPE_FULL) == 0
    assert page.find(chip).get_attribute("aria-pressed") == "false"
    assert page.find("#waits-count").text == "5 of 6 waits"
    _click(page, "#reset")
    assert page.run(PIXELS, "canvas.lanes", PIPE_FULL) > 500


def test_threads_and_processes_can_be_left_out(page: Page, reports: Reports) -> None:
    """A thread's box takes its lane away; its process's box takes all of them."""
    page.open(reports("join_before_get"))
    _click(page, "#threads-menu summary")
    boxes = page.all("#threads-menu label")
    assert [box.text.split()[0] for box in boxes] == [
        "All",
        "join_before_get",
        "Process-1",
        "MainThread",
        "QueueFeederThread",
    ]
    boxes[4].click()
    page.frame()
    assert len(page.all(".row.lane")) == 2
    boxes[2].click()
    page.frame()
    boxes[2].click()
    page.frame()
    assert [row.get_attribute("data-tid") for row in page.all(".row.lane")] == ["4100"]


def test_short_waits_can_be_left_out(page: Page, reports: Reports) -> None:
    """The shortest duration counts for the timeline and the table."""
    page.open(reports("join_before_get"))
    page.find("#shortest option[value='1000000000']").click()
    page.frame()
    assert page.find("#found-count").text == "3 of 6 waits"
    assert len(page.all("#waits-rows tbody tr")) == 3


def test_search_finds_calls_objects_threads_and_lines(page: Page, reports: Reports) -> None:
    """All words must be found, wherever in the wait they stand."""
    page.open(reports("join_before_get"))
    for query, found in (
        ("wait4", 1),
        ("queue pipe", 1),
        ("feeder", 3),
        ("p.join()", 1),
        ("gil feeder", 1),
        ("zzz", 0),
    ):
        page.find("#search").clear()
        page.find("#search").send_keys(query)
        page.until(f"Q.state.query === {query!r}")
        page.frame()
        assert page.find("#waits-count").text.startswith(f"{found} of"), query
        assert page.find("#waits-search").get_attribute("value") == query


def test_zoom_and_pan_by_buttons_wheel_drag_and_keys(page: Page, reports: Reports) -> None:
    """Every way changes the window, within the recording, and `All` shows the whole again."""
    from selenium.webdriver.common.keys import Keys

    page.open(reports("join_before_get"))
    assert _window(page) == (0, 1)
    _click(page, "#zoom-in")
    assert _window(page) == pytest.approx((0.25, 0.75))
    _click(page, "#later")
    assert _window(page) == pytest.approx((0.375, 0.875))
    _click(page, "#zoom-out")
    _drag(page, "canvas.lanes", 0.3, 0.6)
    _click(page, "#zoom-in")
    before = _window(page)
    _drag(page, "canvas.lanes", 0.6, 0.3)
    after = _window(page)
    assert after[0] > before[0]
    assert after[1] - after[0] == pytest.approx(before[1] - before[0])
    _click(page, "#whole")
    assert _window(page) == (0, 1)
    page.run(
        "const c = document.querySelector('canvas.lanes'), b = c.getBoundingClientRect();"
        "const at = {clientX: b.left + b.width / 2, clientY: b.top};"
        "c.dispatchEvent(new WheelEvent('wheel', {deltaY: -120, ctrlKey: true, cancelable: true, ...at}))"
    )
    page.frame()
    wheeled = _window(page)
    assert wheeled[1] - wheeled[0] < 0.7
    _keys(page, "0")
    assert _window(page) == (0, 1)
    _keys(page, "+", Keys.ARROW_LEFT)
    assert _window(page)[0] < 0.5
    _keys(page, "-", "-")
    assert _window(page) == (0, 1)
    _mouse(page, *_place(page, _row(page, "child-exit")), double=True)
    assert _window(page)[1] - _window(page)[0] == pytest.approx(0.25)


def test_the_overview_chooses_a_range(page: Page, reports: Reports) -> None:
    """Drawing over it shows that range; the levels of pipes follow, for they share the axis."""
    page.open(reports("finished"))
    level = "return document.querySelector('canvas.level').toDataURL()"
    before = page.run(level)
    _drag(page, "canvas.overview", 0.2, 0.4)
    t0, t1 = _window(page)
    assert t0 == pytest.approx(0.2, abs=0.02)
    assert t1 == pytest.approx(0.4, abs=0.02)
    assert page.run(level) != before
    assert page.find(".range-text").text.startswith(f"shows {page.run('return Q.duration(Q.state.t1 - Q.state.t0)')}")
    _drag(page, "canvas.overview", 0.3, 0.5)
    assert _window(page)[0] == pytest.approx(0.4, abs=0.02)


def test_levels_stand_under_the_lanes_and_tell_their_numbers(page: Page, reports: Reports) -> None:
    """The fill's canvas begins and ends where the lanes do; the pointer tells bytes and capacity."""
    page.open(reports("join_before_get"))
    box = "const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.left, b.right]"
    assert page.run(box, "canvas.level") == page.run(box, "canvas.lanes")
    assert "at most 61,500 of 65,536 bytes" in page.find(".track[data-object='pipe:[40961]'] .track-label").text
    _show(page, "canvas.level")
    left, right = page.run(box, "canvas.level")
    top = page.run("return document.querySelector('canvas.level').getBoundingClientRect().top")
    _mouse(page, int((left + right) / 2), int(top + 30))
    assert "61,500 bytes of 65,536" in page.find("#tip").text


def test_like_idle_workers_are_one_lane_that_opens(page: Page, reports: Reports) -> None:
    """24 workers that wait for the same thing are one line; clicking it shows each."""
    page.open(reports("pool"))
    fold = page.find(".row.fold")
    assert fold.get_attribute("data-lanes") == "24"
    assert "24 idle, like ForkPoolWorker" in fold.text
    _click(page, ".row.fold")
    assert len(page.all(".row.lane")) == 28
    assert not page.all(".row.fold")


def test_the_graph_shows_the_chain_and_follows_the_time(page: Page, reports: Reports) -> None:
    """At the verdict: the circle. Earlier: the waits of that moment. And back by one click."""
    page.open(reports("join_before_get"))
    text = "return document.querySelector('#graph-figure').textContent"
    figure = page.run(text)
    for name in ("QueueFeederThread", "child Process-1", "queue pipe", "61,500 of 65,536"):
        assert name in figure
    arrows = page.run("return [...document.querySelectorAll('#graph-text li')].map((n) => n.textContent)")
    assert len(arrows) == 6
    assert all("(in the chain)" in arrow for arrow in arrows)
    _mouse(page, *_place(page, _row(page, "external")), click=True)
    _keys(page, "\ue00c")
    later = page.run("return [...document.querySelectorAll('#graph-text li')].map((n) => n.textContent)")
    assert len(later) == 1
    assert "pipe" not in page.run(text)
    _click(page, "#graph-verdict")
    assert page.run(text) == figure


def test_a_node_of_the_graph_leads_to_its_wait(page: Page, reports: Reports) -> None:
    """Choosing a thread in the graph chooses its wait in the timeline."""
    page.open(reports("join_before_get"))
    _show(page, "#graph-figure")
    x, y = page.run(
        "const all = [...document.querySelectorAll('#graph-figure .annotation')];"
        "const n = all.find((a) => a.textContent.includes('QueueFeederThread ·'));"
        "const b = n.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]"
    )
    _mouse(page, int(x), int(y), click=True)
    assert "pipe-full" in page.find("#details").text


def test_the_graph_folds_a_pool_and_unfolds_it(page: Page, reports: Reports) -> None:
    """Workers that wait alike are one box that says how many; what can go on is named."""
    page.open(reports("pool"))
    text = "return document.querySelector('#graph-figure').textContent"
    assert "24 \N{MULTIPLICATION SIGN} ForkPoolWorker" in page.run(text)
    assert "can go on" in page.run(text)


def test_what_is_left_out_at_first_can_be_shown(page: Page, reports: Reports) -> None:
    """Arrows to all who hold a pipe, levels of all pipes: one click each, and the verdict's pipe comes first."""
    page.open(reports("crowded"))
    words = "return document.querySelectorAll('#graph-text li').length"
    few = page.run(words)
    assert "more arrow" in page.find("#graph-all").text
    _click(page, "#graph-all")
    assert page.run(words) > few
    _click(page, "#graph-fewer")
    assert page.run(words) == few
    shown = "return [...document.querySelectorAll('.track[data-object]:not([hidden])')].map((n) => n.dataset.object)"
    assert page.run(shown)[0] == inputs.QUEUE
    assert len(page.run(shown)) == 6
    _click(page, "#all-tracks")
    assert len(page.run(shown)) == 10
    assert page.overflow() == []


def test_time_by_thread_and_the_critical_path_are_drawn(page: Page, reports: Reports) -> None:
    """A bar a thread and kind; choosing a stretch of the critical path zooms the timeline there."""
    page.open(reports("finished"))
    assert page.run("return document.querySelectorAll('#by-thread .bars .point').length") >= 7 * 3
    assert page.run("return document.querySelectorAll('#critical .bars .point').length") == 40
    _show(page, "#critical")
    x, y = page.run(
        "const b = document.querySelector('#critical .bars .point path').getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + b.height / 2]"
    )
    _mouse(page, int(x), int(y))
    _mouse(page, int(x), int(y), click=True)
    page.until("Q.state.t1 - Q.state.t0 < Q.view.span_ns / 2")


def test_calls_by_thread_add_up_and_sort(page: Page, reports: Reports) -> None:
    """The table holds every call; a head sorts by its column, and once more the other way."""
    page.open(reports("finished"))
    report = inputs.finished()
    rows = page.run("return Q.view.calls")
    assert sum(row["calls"] for row in rows) == len(report.calls)
    assert sum(row["total_ns"] for row in rows) == int(report.calls["dur_ns"].sum())
    column = """return [...document.querySelectorAll('#calls-rows tbody tr td:nth-child(4)')]
        .map((n) => Number(n.textContent.replace(/,/g, '')))"""
    _click(page, "#calls-rows th:nth-child(4) button")
    down = page.run(column)
    assert down == sorted(down, reverse=True)
    assert page.find("#calls-rows th:nth-child(4)").get_attribute("aria-sort") == "descending"
    _click(page, "#calls-rows th:nth-child(4) button")
    assert page.run(column) == sorted(down)


def test_the_table_of_waits_searches_grows_and_leads_to_the_timeline(page: Page, reports: Reports) -> None:
    """A portion at first, more on demand, a row chosen is the wait selected."""
    page.open(reports("finished"))
    assert len(page.all("#waits-rows tbody tr")) == 20
    _click(page, "#waits-table .more")
    assert len(page.all("#waits-rows tbody tr")) == 120
    page.find("#waits-search").send_keys("semaphore Worker-3")
    page.until("document.querySelector('#waits-rows td').textContent.startsWith('Worker-3')")
    assert page.find("#search").get_attribute("value") == "semaphore Worker-3"
    _click(page, "#waits-rows tbody tr:nth-child(2)")
    assert "Worker-3" in page.find("#details").text
    assert page.find("#waits-rows tr.selected").is_displayed()


def test_latencies_are_those_of_the_messages(page: Page, reports: Reports) -> None:
    """p50, p95, p99 and max of sending, transit and receiving, as NumPy gives them."""
    page.open(reports("finished"))
    messages = inputs.finished().messages
    send = (messages["write_end_ns"] - messages["write_start_ns"]).to_numpy(dtype=float)
    shown = page.run("return Q.view.pipes[0].send")
    assert shown["p50_ns"] == int(np.quantile(send, 0.5))
    assert shown["p99_ns"] == int(np.quantile(send, 0.99))
    assert shown["max_ns"] == int(send.max())
    cells = page.run(
        "return [...document.querySelectorAll('#latency-rows tbody tr:first-child td')].map((n) => n.textContent)"
    )
    assert cells[1].startswith("send")
    assert cells[5] == page.run("return Q.duration(arguments[0])", int(send.max()))
    assert page.find("#pipes-rows tbody td:nth-child(4)").text == f"{len(messages):,}"


def test_quality_names_engine_command_losses_and_folding(page: Page, reports: Reports) -> None:
    """What one must know to trust the rest."""
    page.open(reports("join_before_get"))
    text = page.find("#quality-table").text
    for part in (
        "ptrace",
        "python3 /home/ada/join_before_get.py",
        "Lost\nnothing",
        "8 calls, 6 waits, 1 message",
        "3.11.2",
    ):
        assert part in text


def test_the_address_keeps_what_was_chosen(page: Page, reports: Reports) -> None:
    """A link with the fragment opens the same picture: window, wait, filters, search, theme."""
    page.open(reports("join_before_get"))
    page.run("Q.timeline.reveal(arguments[0]); Q.zoom(0.5);", _row(page, "pipe-full"))
    _click(page, '.chip[data-kind="gil"]')
    page.find("#search").send_keys("pipe")
    page.until("Q.state.query === 'pipe'")
    _click(page, "#theme")
    page.until("location.hash.includes('theme=dark') && location.hash.includes('q=pipe')")
    fragment = page.run("return location.hash")
    state = (
        "return [Math.round(Q.state.t0), Math.round(Q.state.t1), Q.state.selected, [...Q.state.hidden], Q.state.query]"
    )
    before = page.run(state)
    page.open(reports("join_before_get"), fragment)
    assert page.run(state) == before
    assert page.run("return document.documentElement.dataset.theme") == "dark"
    assert page.find("#search").get_attribute("value") == "pipe"
    assert page.find("#details").is_displayed()


@pytest.mark.parametrize(
    "fragment", ["#t=9-1", "#t=a-b&wait=77&off=x&hide=nothing&min=-5&at=NaN", "#q=%3Cscript%3E", "#=", "#graph"]
)
def test_a_senseless_address_is_no_error(page: Page, reports: Reports, fragment: str) -> None:
    """What makes no sense is left out."""
    page.open(reports("join_before_get"), fragment)
    assert _window(page) == (0, 1)
    assert page.run("return Q.state.selected") == -1


def test_dark_and_light(page: Page, reports: Reports) -> None:
    """The reader's system decides, the button overrules it."""
    ground = "return getComputedStyle(document.body).backgroundColor"
    page.open(reports("join_before_get"))
    light = page.run(ground)
    _click(page, "#theme")
    dark = page.run(ground)
    assert dark != light
    page.run("history.replaceState(null, '', location.pathname)")
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    try:
        page.open(reports("join_before_get"))
        assert page.run(ground) == dark
        _keys(page, "t")
        assert page.run(ground) == light
    finally:
        scheme["features"][0]["value"] = "light"
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)


def test_the_question_mark_lists_the_keys(page: Page, reports: Reports) -> None:
    """And the keys do what it says: n goes through the chain's thread, w follows the chain, / searches."""
    page.open(reports("join_before_get"))
    _keys(page, "?")
    help_text = page.find("#help").text
    assert "zoom in" in help_text
    assert "search" in help_text
    _keys(page, "?")
    assert not page.find("#help").is_displayed()
    _keys(page, "n")
    assert page.run("return Q.waits.columns.id[Q.state.selected] === Q.view.chain[0].wait")
    _keys(page, "w")
    assert page.run("return Q.waits.columns.id[Q.state.selected] === Q.view.chain[1].wait")
    _keys(page, "p")
    assert "gil" in page.find("#details h3").text
    _keys(page, "/", "x")
    assert page.find("#search").get_attribute("value") == "x"


def test_j_and_k_go_from_thread_to_thread_at_one_moment(page: Page, reports: Reports) -> None:
    """With the keyboard alone every lane is reached; the moment stays."""
    page.open(reports("join_before_get"))
    at = page.run("return Q.state.at")
    lanes = []
    for _ in range(3):
        _keys(page, "j")
        lanes.append(page.run("return Q.waits.columns.lane[Q.state.selected]"))
    assert lanes == [0, 1, 2]
    _keys(page, "k")
    assert page.run("return [Q.waits.columns.lane[Q.state.selected], Q.state.at]") == [1, at]


def test_a_card_of_the_chain_leads_to_its_wait(page: Page, reports: Reports) -> None:
    """Cards are buttons into the timeline; their stacks open in place."""
    page.open(reports("join_before_get"))
    _click(page, ".card:nth-child(3) details summary")
    assert "Queue._feed" in page.find(".card:nth-child(3)").text
    assert page.run("return Q.state.selected") == -1
    _click(page, ".card:nth-child(3) .head")
    assert "pipe-full" in page.find("#details").text


def test_on_paper_there_are_no_controls_and_nothing_is_cut(page: Page, reports: Reports) -> None:
    """Printing leaves the navigation out and keeps within the sheet."""
    page.open(reports("join_before_get"))
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not page.find("nav.parts").is_displayed()
        assert not page.find("#filters .bar").is_displayed()
        assert page.find("#headline").is_displayed()
        page.resize(760)  # A4 at 96 dots an inch, less its margins
        page.until("document.querySelector('#by-thread svg').getBoundingClientRect().right <= 761")
        page.frame()
        assert page.overflow() == []
        sheet: dict[str, Any] = page.driver.execute_cdp_cmd("Page.printToPDF", {})
        assert len(sheet["data"]) > 50_000
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


CONTRAST = """
    const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
    const ground = (node) => {
      for (; node; node = node.parentElement) {
        const c = parse(getComputedStyle(node).backgroundColor);
        if (c.length === 3 || c[3] === 1) return c;
      }
      return [255, 255, 255];
    };
    const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const node = walk.currentNode.parentElement;
      const seen = walk.currentNode.textContent.trim() && node.checkVisibility();
      if (!seen || node.closest("svg, script, noscript")) continue;
      const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const text = node.textContent.slice(0, 30);
      if (ratio < 4.5) found.push(`${node.tagName}.${node.className} ${text} ${ratio.toFixed(2)}`);
    }
    return found;
"""


def test_text_can_be_read_and_controls_have_names(page: Page, reports: Reports) -> None:
    """Contrast of at least 4.5 to 1 in both themes; every control and figure tells what it is."""
    page.open(reports("pool"))
    page.run("Q.timeline.reveal(0)")
    page.frame()
    assert page.run(CONTRAST) == []
    _keys(page, "t")
    assert page.run(CONTRAST) == []
    nameless = """
        const name = (node) => node.textContent.trim() || node.getAttribute("aria-label") || node.title
          || node.closest("label")?.textContent.trim();
        return [...document.querySelectorAll("button, input, select, canvas, [role=img]")]
          .filter((node) => node.checkVisibility() && !name(node) && !node.closest("[aria-hidden=true]"))
          .map((node) => node.outerHTML.slice(0, 80));"""
    assert page.run(nameless) == []
    assert page.run("return [document.documentElement.lang, document.querySelectorAll('h1').length]") == ["en", 1]


def test_a_million_calls_are_drawn_zoomed_and_explained(page: Page, reports: Reports, pictures: Path) -> None:
    """Density is drawn where waits are folded, says how many they are, and gives way to single ones on zooming."""
    path = reports("million")
    assert path.stat().st_size < 15_000_000
    page.open(path)
    assert "calls folded into" in page.find("#folded").text
    assert page.run(PIXELS, "canvas.lanes", PIPE_FULL) > 2_000
    _show(page, "canvas.lanes")
    row = page.find('[data-tid="5000"]').rect
    top = page.run("return document.querySelector('[data-tid=\"5000\"]').getBoundingClientRect().top")
    left = page.run("return document.querySelector('canvas.lanes').getBoundingClientRect().left")
    found = False
    for step in range(40, 300, 7):
        _mouse(page, int(left + step), int(top + row["height"] / 2))
        found = found or "short wait" in page.find("#tip").text
        if found:
            break
    assert found
    page.picture(pictures / "million-1440.png")
    for _ in range(6):
        _click(page, "#zoom-in")
    assert page.run(PIXELS, "canvas.lanes", PIPE_FULL) > 100
    # A bound far above what a screen needs (10 ms here), for a busy machine: a pause would be seconds.
    assert page.run("const t = performance.now(); Q.zoom(0.8); Q.redraw(); return performance.now() - t") < 1_000
    page.picture(pictures / "million-zoomed-1440.png", whole=False)
