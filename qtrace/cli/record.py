"""`qtrace record`: run a program under the tracer; stop and say why, if it can never go on."""

from __future__ import annotations

import typer

from qtrace.cli import recording
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

CONTEXT_SETTINGS = {"allow_interspersed_args": False}


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
    status = recording.run(
        target,
        python,
        str(output) if output is not None else None,
        force,
        quiet,
        hang_after,
        on_hang.value,
        timeout,
        pid,
        duration,
        max_events,
        max_size,
        last,
        engine.value,
        perf_buffer,
        placement.value,
        no_seccomp,
        follow,
        redact,
    )
    raise typer.Exit(status)
