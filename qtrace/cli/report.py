"""`qtrace report`: a recording as one HTML page."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from qtrace import pipeline


def report(
    recording: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The recording; else the newest one here or in reports/.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.html", help="The page; else NAME.html in reports/.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Draw a recording as one HTML page: verdict, wait-for graph, timeline, pipes, tables.

    The page is a single file that opens without a network, and can be attached to a bug report. It
    goes to reports/NAME.html where there is a folder reports, else beside the recording.
    """
    path = recording or pipeline.newest_recording()
    page = pipeline.report(path, output)
    print(page)
    if open_page:
        webbrowser.open(page.resolve().as_uri())
    else:
        print(f"next: open {page} in a browser", file=sys.stderr)
