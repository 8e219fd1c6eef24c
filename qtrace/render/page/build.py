"""The page: static HTML that says the answer, and compressed data and scripts that draw the rest.

What it guarantees: one file, no request to anywhere (a Content-Security-Policy forbids them), and
the verdict readable without any script. Plotly's script (4.8 MB) and the data lie in the file
compressed with zlib in base64; the browser's DecompressionStream unpacks them. A browser without
one (before Chromium 80, Firefox 113, Safari 16.4) shows the verdict and says what it cannot show.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from plotly.offline import get_plotlyjs

from qtrace.render.page import quality
from qtrace.render.page.ending import before_the_end
from qtrace.render.page.verdict_html import advice_html, chain_html, headline_html
from qtrace.render.page.view import View, page_view
from qtrace.render.report_input import ReportInput

SCRIPTS = (
    "core.js",
    "waits.js",
    "draw.js",
    "gestures.js",
    "rows.js",
    "timeline.js",
    "overview.js",
    "tracks.js",
    "details.js",
    "filters.js",
    "graph_layout.js",
    "graph.js",
    "figures.js",
    "tables.js",
    "address.js",
    "keys.js",
    "main.js",
)
"""In the order of loading: each may use what stands before it."""
STYLES = ("page.css", "parts.css", "print.css")


@cache
def _asset(name: str) -> str:
    return (files("qtrace.render") / "assets" / name).read_text(encoding="utf-8")


def packed(content: bytes) -> str:
    """Return bytes compressed with zlib, in base64."""
    # Level 9 would take three times as long for a large recording's marks, and save 2 %.
    return base64.b64encode(zlib.compress(content, 6)).decode("ascii")


@cache
def _packed_plotly() -> str:
    return packed(get_plotlyjs().encode())


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def page(report: ReportInput) -> str:
    """Return the report of a recording as one HTML document that needs nothing else."""
    report = before_the_end(report)
    view = page_view(report)
    if report.verdict.start_ns is None:
        report = replace(report, verdict=replace(report.verdict, start_ns=view.start_ns))
    # NaN is no JSON: a figure that is not a number is a defect, better seen here than in the browser.
    plain = json.dumps(view.plain, separators=(",", ":"), allow_nan=False)
    return Template(_asset("page.html")).substitute(
        title=escape(f"{report.name}: {report.verdict.headline}" if report.verdict.headline else report.name),
        name=escape(report.name),
        summary=escape(view.summary),
        styles="\n".join(map(_asset, STYLES)),
        verdict=_verdict(report, view),
        notice=_notice(report),
        scripts="\n".join(map(_asset, SCRIPTS)),
        view=packed(plain.encode()),
        density=packed(view.density),
        plotly=_packed_plotly(),
    )


def _notice(report: ReportInput) -> str:
    # Whoever reads "nothing is stuck" has to know at once that a part of the recording is missing.
    missing = quality.missing(report)
    if not missing:
        return ""
    return (
        f'<p class="panel notice" id="missing"><b>Not everything is in this recording:</b> {escape(missing)}. '
        '<a href="#quality">Quality of the recording</a></p>'
    )


def _verdict(report: ReportInput, view: View) -> str:
    head = headline_html(report.verdict, lambda: _sentence(report.bottleneck) or view.finished)
    chain = chain_html(report.verdict)
    advice = advice_html(report.verdict)
    return f'{head}{chain}<div class="advice-box">{advice}</div>' if advice else head + chain
