"""The page of a real recording, in a real browser."""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from pathlib import Path

import qtrace as qtrace_api
from qtrace.model.records import CallFlag
from tests.support.browser import browser, needs_browser
from tests.support.processes import qtrace

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@needs_browser
def test_the_page_of_the_first_example(tmp_path: Path) -> None:
    """No console error, no request to anywhere, a lane for each thread, the headline visible."""
    recording, page_file = tmp_path / "join.qtrace", tmp_path / "join.html"
    qtrace("record", "-q", "-o", str(recording), str(EXAMPLES / "join_before_get.py"))
    assert qtrace("report", str(recording), "-o", str(page_file)).status == 0
    assert page_file.stat().st_size <= 3_000_000
    trace = qtrace_api.load(recording)
    with browser() as page:
        page.open(page_file)
        assert page.console() == []
        assert page.requests() == []
        assert page.run("return Q.view.lanes.length") == len(trace.threads)
        headline = page.find("h1")
        assert headline.is_displayed()
        assert trace.verdict.headline.rstrip(".") in headline.text
        shot = Path(os.environ.get("QTRACE_SCREENSHOTS", tmp_path)) / "join_before_get.png"
        page.picture(shot)
        assert shot.stat().st_size > 10_000


def test_the_page_says_what_tracing_cost(tmp_path: Path) -> None:
    """Measured by the recorder: two stops a call at least, and CPU time for them."""
    recording, page_file = tmp_path / "a.qtrace", tmp_path / "a.html"
    qtrace("record", "-q", "-o", str(recording), str(EXAMPLES / "drained_queue.py"))
    qtrace("report", str(recording), "-o", str(page_file))
    trace = qtrace_api.load(recording)
    stops, loop_ns, all_ns = (int(trace.meta[key]) for key in ("stops", "stops_cpu_ns", "recorder_cpu_ns"))
    stopped = int(((trace.calls["flags"] & int(CallFlag.FROM_PERF)) == 0).sum())
    assert stops >= 2 * (stopped - len(trace.processes) - len(trace.threads))  # a last call has no exit
    assert 0 < loop_ns <= all_ns
    packed = re.search('id="packed-view">([^<]*)<', page_file.read_text())
    assert packed
    quality = dict(json.loads(zlib.decompress(base64.b64decode(packed[1])))["quality"])
    assert quality["Cost of tracing"].startswith(f"{stops:,} stops took ")
    assert "tracing included" in quality["Shortest wait"]


def test_the_page_goes_where_the_reader_expects_it(tmp_path: Path) -> None:
    """reports/NAME.html where there is a folder reports, else beside the recording."""
    qtrace("record", "-q", "-o", "a.qtrace", str(EXAMPLES / "drained_queue.py"), cwd=tmp_path)
    assert qtrace("report", "a.qtrace", cwd=tmp_path).stdout == "a.html\n"
    (tmp_path / "reports").mkdir()
    assert qtrace("report", cwd=tmp_path).stdout == "reports/a.html\n"
    assert (tmp_path / "reports" / "a.html").read_text().startswith("<!doctype html>")
