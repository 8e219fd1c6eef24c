"""The page of ten million calls: how large, how long to build, and how it moves in Chromium.

Two recordings: one program's hot queue, repeated (three threads), and a made-up one of 24 workers whose
waits differ in kind and length. A frame's time is the work between its begin and its last drawing, without
waiting for the screen; zooming and hovering are smooth while it stays well under 100 ms.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.big_recording import make_big
from tests.support.browser import Page, browser, missing

CALLS = 10_000_000
WORKERS = 24
_MOVES = """
const done = arguments[0];
(async () => {
  const frame = () => new Promise((ready) => requestAnimationFrame((begin) => ready(performance.now() - begin)));
  const zooms = [], pans = [], hovers = [];
  await frame();
  for (let i = 0; i < 24; i++) { Q.zoom(0.72, Q.view.span_ns * 0.37); zooms.push(await frame()); }
  for (let i = 0; i < 24; i++) { Q.zoom(1 / 0.72, Q.view.span_ns * 0.37); zooms.push(await frame()); }
  Q.zoom(0.1); await frame();
  for (let i = 0; i < 40; i++) { Q.pan(i < 20 ? 0.2 : -0.2); pans.push(await frame()); }
  const canvas = document.querySelector("canvas.lanes"), box = canvas.getBoundingClientRect();
  for (let i = 0; i < 80; i++) {
    const x = box.left + (box.width * (i + 0.5)) / 80, y = box.top + (box.height * ((i * 7) % 80)) / 80;
    const begin = performance.now();
    canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y, pointerType: "mouse" }));
    const handled = performance.now() - begin;
    hovers.push(handled + (await frame()));
  }
  return { zooms, pans, hovers };
})().then(done, (error) => done(String(error)));"""


def _recorded(path: Path, calls: int) -> tuple[int, float]:
    """Write the report of a recording, in a process of its own; calls and seconds."""
    recording = make_big(calls, path.with_suffix(".qtrace"))
    task = [sys.executable, "-m", "benchmarks.bench_scale", "--task", "report", str(recording), str(recording)]
    answer = subprocess.run(task, check=True, capture_output=True, text=True)
    with contextlib.closing(sqlite3.connect(recording)) as database:
        (count,) = database.execute("SELECT sum(calls) FROM blocks").fetchone()
    recording.unlink()
    return int(count), float(json.loads(answer.stdout.splitlines()[-1])["seconds"])


def _made_up(path: Path, calls: int) -> tuple[int, float]:
    from qtrace.render.report import render_report
    from tests.render.inputs import finished

    made = finished(calls, WORKERS)
    begun = time.monotonic()
    path.write_text(render_report(made), encoding="utf-8")
    return len(made.calls), time.monotonic() - begun


def _moves(page: Page, path: Path) -> tuple[float, dict[str, list[float]]]:
    page.open(path)
    found = page.driver.execute_async_script(_MOVES)
    assert isinstance(found, dict), found
    return page.run("return Q.firstPicture") / 1000, found


def _milliseconds(times: list[float]) -> str:
    return f"{statistics.median(times):.0f} ms (at most {max(times):.0f})"


def main() -> None:
    """Print the table."""
    calls = int(float(sys.argv[1])) if len(sys.argv) > 1 else CALLS
    print("| page of | calls | size | built in | first picture | zoom, a frame | pan, a frame | hover |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        pages = []
        for title, make in (("a hot queue, 3 threads", _recorded), (f"{WORKERS} workers, made up", _made_up)):
            path = Path(folder) / f"page_{len(pages)}.html"
            pages.append((title, path, *make(path, calls)))
        if missing():
            for title, path, count, built in pages:
                print(
                    f"| {title} | {count:,} | {path.stat().st_size / 1e6:.1f} MB | {built:.1f} s | {missing()} | | | |"
                )
            return
        with browser() as page:
            page.driver.set_script_timeout(120)
            for title, path, count, built in pages:
                shown, moves = _moves(page, path)
                frames = " | ".join(_milliseconds(moves[name]) for name in ("zooms", "pans", "hovers"))
                size = path.stat().st_size / 1e6
                print(f"| {title} | {count:,} | {size:.1f} MB | {built:.1f} s | {shown:.1f} s | {frames} |")


if __name__ == "__main__":
    main()
