"""`qtrace summary`: calls by name and time by thread, in the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from qtrace import pipeline
from qtrace.cli.terminal import width_of


def summary(
    recording: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A recording; else the newest one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object (schema qtrace.summary/1).")] = False,
) -> None:
    """Say where the time went: calls by name, as strace -c does, and time by thread.

    Unlike strace -c: wall time, not CPU time, and calls that had not returned are counted.
    """
    path = recording if recording is not None else pipeline.newest_recording()
    if as_json:
        print(json.dumps(pipeline.summary_object(path)))
    else:
        print(pipeline.summary_words(path, width=width_of(sys.stdout)))
