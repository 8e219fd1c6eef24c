"""The options of `qtrace record`: one annotated type each, so that the command itself can be read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

VALUE_OPTIONS = frozenset(
    {
        "--python",
        "-o",
        "--output",
        "--hang-after",
        "--on-hang",
        "--timeout",
        "--engine",
        "--perf-buffer",
        "--placement",
        "-p",
        "--pid",
        "--duration",
        "--max-events",
        "--max-size",
        "--last",
    }
)
"""Options that take a value: what follows one is not the target. A test compares them."""


class OnHang(StrEnum):
    """What to do with a program that can never go on."""

    STOP = "stop"
    WAIT = "wait"


class Engine(StrEnum):
    """How calls are seen."""

    AUTO = "auto"
    PERF = "perf"
    PTRACE = "ptrace"


class Placement(StrEnum):
    """Where tracer and program run."""

    AUTO = "auto"
    TOGETHER = "together"
    FREE = "free"


Target = Annotated[
    list[str] | None,
    typer.Argument(metavar="SCRIPT|-m MODULE|-c CODE|COMMAND [ARGS]...", help="What to run, and its arguments."),
]
PythonOption = Annotated[str, typer.Option(help="Interpreter for scripts; else the one that runs qtrace.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="The recording; else a new name from target and time.")
]
Force = Annotated[bool, typer.Option("-f", "--force", help="Overwrite an existing recording.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]
HangAfter = Annotated[float, typer.Option(metavar="SECONDS", help="Stand still so long to count as hung.")]
OnHangOption = Annotated[OnHang, typer.Option(help="End a program that is proven to hang, or only say so.")]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help="End the program after so long.")]
Pid = Annotated[
    int | None, typer.Option("-p", "--pid", help="A running process instead, with its descendants; Ctrl-C lets go.")
]
Duration = Annotated[float | None, typer.Option(metavar="SECONDS", help="Record only so long.")]
MaxEvents = Annotated[int | None, typer.Option(metavar="N", help="Store at most so many calls.")]
MaxSize = Annotated[str, typer.Option(metavar="BYTES", help="Store at most so much: 500M, 2G.")]
Last = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Keep only the last so many seconds (flight recorder).")
]
EngineOption = Annotated[
    Engine,
    typer.Option(
        envvar="QTRACE_ENGINE",
        help="Stops (ptrace), rings for frequent calls (perf), or perf where it is permitted (auto).",
    ),
]
PerfBuffer = Annotated[str, typer.Option(metavar="BYTES", help="Ring buffers of perf, on each CPU.")]
PlacementOption = Annotated[
    Placement, typer.Option(help="Put tracer and program on one CPU while calls are frequent, always, or never.")
]
NoSeccomp = Annotated[
    bool,
    typer.Option(
        "--no-seccomp",
        help="Stop at every call instead of filtering by seccomp: slower; under root, setuid programs keep theirs.",
    ),
]
Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="Trace child processes too.")]
Redact = Annotated[
    bool, typer.Option("--redact", help="Keep command lines, folders and source lines out of the recording.")
]
