"""`qtrace record`: run a program under the tracer; stop and say why, if it can never go on."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import typer

from qtrace import pipeline
from qtrace.cli.record_options import (
    VALUE_OPTIONS,
    Duration,
    Engine,
    EngineOption,
    Follow,
    Force,
    HangAfter,
    Last,
    MaxEvents,
    MaxSize,
    NoSeccomp,
    OnHang,
    OnHangOption,
    Output,
    PerfBuffer,
    Pid,
    Placement,
    PlacementOption,
    PythonOption,
    Quiet,
    Redact,
    Target,
    Timeout,
)
from qtrace.cli.terminal import colour_of, width_of
from qtrace.errors import QtraceError, RecordingError, UsageError

if TYPE_CHECKING:
    from qtrace.model.verdict import Verdict
    from qtrace.pipeline import Recorded

CONTEXT_SETTINGS = {"allow_interspersed_args": False}
ENDED_BY_QTRACE = 124


def prepare(words: list[str]) -> list[str]:
    """Return the arguments with ``--`` before the target: all that follows is the program's own."""
    place = 0
    while place < len(words):
        word = words[place]
        if word == "--":
            return words
        if word in ("-m", "-c") or not word.startswith("-") or word == "-":
            return [*words[:place], "--", *words[place:]]
        place += 2 if word in VALUE_OPTIONS else 1
    return words


_SIZE = re.compile(r"([0-9.]+)\s*([kKmMgG]?)i?[bB]?")
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_size(text: str) -> int:
    """Return bytes of ``500M`` or ``2G``.

    Raises:
        UsageError: It is no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is not a size", "Write bytes, or a number with K, M or G: 500M.")
    return int(float(found[1]) * _FACTORS[found[2].lower()])


def record(
    target: Target = None,
    python: PythonOption = "",
    output: Output = None,
    force: Force = False,
    quiet: Quiet = False,
    hang_after: HangAfter = 3.0,
    on_hang: OnHangOption = OnHang.STOP,
    timeout: Timeout = None,
    pid: Pid = None,
    duration: Duration = None,
    max_events: MaxEvents = None,
    max_size: MaxSize = "",
    last: Last = None,
    engine: EngineOption = Engine.PTRACE,
    perf_buffer: PerfBuffer = "",
    placement: PlacementOption = Placement.AUTO,
    no_seccomp: NoSeccomp = False,
    follow: Follow = True,
    redact: Redact = False,
) -> None:
    """Run a program under the tracer; stop and say why, if it can never go on.

    Streams are the program's own; so is the exit status, and a program that dies of a signal ends
    qtrace by it. Exit status 124: qtrace ended the program, because it hung or at --timeout.

    A seccomp filter makes only the recorded calls stop. It needs no_new_privs, under which setuid
    programs (sudo, ping) do not get their rights: record those with --no-seccomp, as root; and with
    it programs with filters of their own, whose answers are not seen otherwise. If the tracer is
    killed, the program is killed with it: it cannot go on with the filter alone.

    The ptrace engine breaks into the waits of a running program (-p) for a moment. All go on, but for
    a few that have a time limit (epoll_wait, sigtimedwait, semtimedop): they return EINTR, as after
    Ctrl-Z and fg. The perf engine stops nothing, and then sees no memory of short calls, no stops,
    and no descriptors that are closed at once.
    """
    if any(number is not None and number <= 0 for number in (hang_after, timeout, duration, last, max_events)):
        raise UsageError("times and limits have to be above zero", "For example: --hang-after 3 --timeout 60")
    if pid is not None and target:
        raise UsageError("-p and a program exclude one another", "Leave one of them out.")
    if engine is Engine.AUTO:
        engine = _chosen_engine(pid is not None or (not no_seccomp and follow), quiet)
    ending: list[Verdict] = []
    result = pipeline.record(
        pid if pid is not None else (target or []),
        output,
        python=python,
        overwrite=force,
        hang_after_s=hang_after,
        end_on_hang=on_hang is OnHang.STOP,
        timeout_s=timeout,
        use_seccomp=not no_seccomp,
        follow=follow,
        redact=redact,
        placement=placement.value,
        duration_s=duration,
        max_events=max_events,
        max_bytes=parse_size(max_size) if max_size else None,
        last_s=last,
        engine=engine,
        ring_bytes=parse_size(perf_buffer) if perf_buffer else None,
        on_verdict=None if quiet else lambda verdict, ends: ending.append(verdict) if ends else _tell(verdict),
    )
    if ending:
        _say_verdict(result, ending[-1])
    if not quiet:
        _say_end(result)
    _leave(result)


def _chosen_engine(filtered: bool, quiet: bool) -> Engine:
    chosen, why_not = pipeline.chosen_engine("auto", filtered=filtered)
    if not quiet:
        print(f"qtrace: engine {chosen}" + (f" (not perf: {why_not})" if why_not else ""), file=sys.stderr)
    return Engine(chosen)


_QUICKLY_EXPLAINED = 1_000_000
"""Calls of a recording that is explained in a moment."""


def _tell(verdict: Verdict) -> None:
    if sys.stderr is not None:
        _say(f"\nqtrace: this looks like a hang, and goes on:\n{_words_of(verdict)}")


def _say_verdict(result: Recorded, verdict: Verdict) -> None:
    # The recording knows more than the moment that it was ended at: who died, and in the middle of what.
    if sys.stderr is None:
        return
    if result.calls <= _QUICKLY_EXPLAINED and not result.storing_failed:
        with contextlib.suppress(QtraceError):
            verdict = pipeline.explain_recording(result.path)
    _say(f"\n{_words_of(verdict)}")


def _words_of(verdict: Verdict) -> str:
    return pipeline.verdict_words(verdict, colour=colour_of(sys.stderr), width=width_of(sys.stderr))


def _say(text: str) -> None:
    """Say something on standard error, if there is one: the program's exit status must not depend on it."""
    if sys.stderr is None:  # closed; print would take standard output, which is the program's
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - a full or broken one would fail again at the end


def _say_end(result: Recorded) -> None:
    why = {
        "hang": "ended the program: it can never go on",
        "timeout": "ended the program at its time limit",
        "interrupt": "was interrupted",
        "detach": "let the program go",
    }.get(result.ended_because)
    processes = "1 process" if result.processes == 1 else f"{result.processes:,} processes"
    said = f"qtrace: {why}; recorded" if why else "qtrace: recorded"
    calls = "1 call" if result.calls == 1 else f"{result.calls:,} calls"
    _say(f"{said} {calls} of {processes} in {result.path}")
    for note in result.notes:
        _say(f"qtrace: {note}")
    _say(f"next: qtrace report {result.path}")


def _how(status: int | None) -> str:
    if status is None:
        return ""
    ended = os.WIFSIGNALED(status)
    return f" (signal {os.WTERMSIG(status)})" if ended else f" (exit status {os.WEXITSTATUS(status)})"


def _leave(result: Recorded) -> None:
    if result.storing_failed:
        raise RecordingError(
            f"the recording {result.path} ends early: {result.storing_failed}",
            f"The program ran on to its end{_how(result.status)}. "
            "Free some space, or lift the limit, and record again.",
        )
    if result.ended_because in ("hang", "timeout"):
        raise typer.Exit(ENDED_BY_QTRACE)
    status = result.status
    if result.ended_because == "detach":
        raise typer.Exit(0)
    if status is None:
        raise typer.Exit(ENDED_BY_QTRACE if result.ended_because else 1)
    if os.WIFSIGNALED(status):
        pipeline.die_like(status)
        raise typer.Exit(128 + signal.Signals(os.WTERMSIG(status)))
    raise typer.Exit(os.WEXITSTATUS(status))
