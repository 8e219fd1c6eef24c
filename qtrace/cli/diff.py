"""`qtrace diff`: the first wait that differs between two recordings, and where the time went instead."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from qtrace import pipeline
from qtrace.cli.terminal import width_of


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A recording, say of a good run.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one of the same program.")],
    least: Annotated[
        float | None,
        typer.Option("--min", metavar="MS", help="Leave out shorter waits; else 10 ms, or 2 % of the longer run."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object (schema qtrace.diff/1).")] = False,
) -> None:
    """Compare two recordings of a program: the first wait that differs, and where the time went instead.

    Threads are matched by their place in the tree of processes, not by their numbers. Exit status:
    0 no wait differs, 1 one does, 2 bad usage or an error.
    """
    found = pipeline.diff(first, second, least_ns=None if least is None else int(least * 1e6))
    if as_json:
        print(json.dumps(pipeline.diff_object(first, second, found)))
    else:
        print(pipeline.diff_words(first, second, found, width=width_of(sys.stdout)))
    raise typer.Exit(1 if found.waits else 0)
