"""`qtrace import`: make a recording from a log of strace, so that it can be explained and drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qtrace import pipeline


def import_log(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="What `strace -f -o LOG` wrote; under -ff the name given there.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The recording; else LOG with the suffix .qtrace.")
    ] = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Overwrite an existing recording.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Make a recording from a log of strace, so that explain, report and export work on it.

    All usual forms are read: -t, -tt, -ttt, -r, -T, -y, -yy, with and without -ff, and lines copied
    from a terminal. Best for qtrace is: strace -f -ttt -T -yy -o LOG PROGRAM
    """
    path, done = pipeline.import_strace(log, output, overwrite=force)
    if quiet:
        return
    processes = "1 process" if done.processes == 1 else f"{done.processes:,} processes"
    print(f"qtrace: imported {done.calls:,} calls of {processes} into {path}", file=sys.stderr)
    for note in done.notes:
        print(f"qtrace: {note}", file=sys.stderr)
    print(f"next: qtrace explain {path}", file=sys.stderr)
