"""`qtrace explain`: the verdict alone, for a recording or for a program that hangs right now."""

from __future__ import annotations

import json
import re
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qtrace import pipeline
from qtrace.cli import early
from qtrace.cli.terminal import colour_of, width_of
from qtrace.errors import TargetError, UsageError
from qtrace.model.kinds import STUCK, VerdictKind

if TYPE_CHECKING:
    from qtrace.model.verdict import Verdict

_LOOK_AGAIN_SECONDS = 0.5
_WATCH_SECONDS = 2.0
_TIME = re.compile(r"([0-9]*\.?[0-9]+)\s*(s|ms|us|µs|ns|m|min)?")
_UNITS = {"s": 1e9, "ms": 1e6, "us": 1e3, "µs": 1e3, "ns": 1, "m": 60e9, "min": 60e9}


class Scope(StrEnum):
    """How much of the tree of processes is looked at."""

    UP = "up"
    DOWN = "down"
    ONLY = "only"


def explain(
    target: Annotated[
        str, typer.Argument(metavar="[PID|FILE]", help="A running process, or a recording; else the newest one.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object (schema qtrace.explain/1).")] = False,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="A recording at this moment: 12.5s, 300ms.")] = "",
    longest: Annotated[
        bool, typer.Option("--longest", help="A recording in the middle of the wait that cost most.")
    ] = False,
    tree: Annotated[
        Scope,
        typer.Option(help="From any pid up to the program's top and down; from pid down; pid only."),
    ] = Scope.UP,
    python: Annotated[bool, typer.Option("--python/--no-python", help="Ask py-spy for Python lines.")] = True,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until Ctrl-C.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return as soon as the program hangs, or ends.")] = False,
) -> None:
    """Say who waits for whom, and whether that can ever end.

    Of a running program nothing is stopped and nothing injected; any of its processes will do.
    Exit status: 0 nothing is stuck, 1 a hang was found, 2 bad usage or an error.
    """
    pid = int(target) if target.isdigit() and not Path(target).exists() else None
    if pid is None:
        _check_options(watch or wait, at, longest)
        path = Path(target) if target else pipeline.newest_recording()
        verdict = _of_recording(path, at, longest)
        _show(verdict, as_json, "recording", str(path))
        for gap in pipeline.gaps_of(path):
            print(f"qtrace: {gap}", file=sys.stderr)
        if not as_json and verdict.kind is VerdictKind.FINISHED:
            _say_where_time_went(path)
    else:
        if at or longest:
            raise UsageError("--at and --longest need a recording", f"Look at the process now: qtrace explain {pid}")
        verdict = _of_process(pid, tree.value, python, as_json, watch, wait)
    raise typer.Exit(1 if verdict.kind in STUCK else 0)


def _say_where_time_went(path: Path) -> None:
    bottleneck = pipeline.load(path).bottleneck
    if bottleneck:
        print(f"slow: {bottleneck}")
    print(f"next: qtrace report {path}", file=sys.stderr)


def _check_options(live: bool, at: str, longest: bool) -> None:
    if live:
        raise UsageError("--watch and --wait need a running process", "Give its pid: qtrace explain --wait PID")
    if at and longest:
        raise UsageError("--at and --longest exclude one another", "Choose one of them.")


def _of_recording(path: Path, at: str, longest: bool) -> Verdict:
    if longest:
        return pipeline.explain_recording(path, at_ns=pipeline.middle_of_longest_wait(path))
    return pipeline.explain_recording(path, at_ns=parse_time(at) if at else None)


def parse_time(text: str) -> int:
    """Return nanoseconds of ``12.5s``, ``300ms`` or plain seconds.

    Raises:
        UsageError: It is no time.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is not a time", "Write seconds since the start, such as 12.5s or 300ms.")
    return int(float(found[1]) * _UNITS[found[2] or "s"])


def _of_process(pid: int, scope: str, python: bool, as_json: bool, watch: bool, wait: bool) -> Verdict:
    verdict = pipeline.explain_pid(pid, scope=scope, python=python, look=early.take(pid, scope, python))
    if wait:
        verdict = _until_stuck(pid, scope, python, verdict)
    _show(verdict, as_json, "pid", pid)
    while watch:
        try:
            time.sleep(_WATCH_SECONDS)
            verdict = pipeline.explain_pid(pid, scope=scope, python=python)
        except TargetError:
            print(f"process {pid} has ended", file=sys.stderr)
            break
        except KeyboardInterrupt:
            break
        if sys.stdout.isatty() and not as_json:
            print("\x1b[H\x1b[2J", end="")
        _show(verdict, as_json, "pid", pid)
    return verdict


def _until_stuck(pid: int, scope: str, python: bool, verdict: Verdict) -> Verdict:
    while verdict.kind not in STUCK:
        time.sleep(_LOOK_AGAIN_SECONDS)
        try:
            verdict = pipeline.explain_pid(pid, scope=scope, python=python)
        except TargetError:
            return pipeline.ended_verdict(pid)
        if str(verdict.kind) == "finished":
            break
    return verdict


def _show(verdict: Verdict, as_json: bool, kind: str, value: int | str) -> None:
    if as_json:
        print(json.dumps(pipeline.verdict_json(verdict, kind, value)), flush=True)
        return
    print(pipeline.verdict_words(verdict, colour=colour_of(sys.stdout), width=width_of(sys.stdout)), flush=True)
