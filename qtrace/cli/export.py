"""`qtrace export`: a recording in the formats of other tools."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from qtrace import pipeline


class Format(StrEnum):
    """Formats that a recording can be written in."""

    PERFETTO = "perfetto"
    PARQUET = "parquet"
    NDJSON = "ndjson"
    CSV = "csv"
    STRACE = "strace"
    DOT = "dot"
    MERMAID = "mermaid"


_TO_THE_TERMINAL = frozenset({Format.NDJSON, Format.STRACE, Format.DOT, Format.MERMAID})


def export(
    recording: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A recording; else the newest one.")
    ] = None,
    to: Annotated[Format, typer.Option("--to", help="The format.")] = Format.PERFETTO,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A file (.gz compresses it), or a folder for parquet and csv; - for standard output, where ndjson, "
            "strace, dot and mermaid go anyway.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Overwrite what exists.")] = False,
) -> None:
    """Write a recording for other tools.

    perfetto: slices, arrows and pipe levels, for ui.perfetto.dev and chrome://tracing. parquet, csv:
    a folder with a file for each table. ndjson: every table in one stream. strace: the calls as
    strace prints them. dot, mermaid: who waits for whom, as a graph.
    """
    path = recording if recording is not None else pipeline.newest_recording()
    to_stream = str(output) == "-" or (output is None and to in _TO_THE_TERMINAL)
    if to_stream:
        pipeline.export_text(path, to, sys.stdout)
        return
    written = pipeline.export_recording(path, to, output, overwrite=force)
    print(f"qtrace: wrote {written}", file=sys.stderr)
    if to is Format.PERFETTO:
        print("Open it in https://ui.perfetto.dev (nothing is uploaded) or chrome://tracing.", file=sys.stderr)
