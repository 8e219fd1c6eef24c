"""The report as a file's text: `render_report` is what the pipeline calls; `page.build` makes it."""

from __future__ import annotations

from qtrace.render.page.build import page
from qtrace.render.report_input import ReportInput


def render_report(report_input: ReportInput) -> str:
    """Return one recording's report: a single HTML document that opens without a network.

    Encode it as UTF-8. Its size is at most 15 MB whatever the recording's: see
    `qtrace.render.page.marks` for what is folded.
    """
    return page(report_input)
