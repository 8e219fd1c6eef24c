"""What `qtrace record` does once its command line has been understood. Without Typer: see `qtrace.cli.plain`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys

from qtrace import pipeline
from qtrace.cli.terminal import colour_of, width_of
from qtrace.errors import QtraceError, RecordingError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtrace.model.verdict import Verdict
    from qtrace.pipeline import Recorded

ENDED_BY_QTRACE = 124

_SIZE = r"([0-9.]+)\s*([kKmMgG]?)i?[bB]?"
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_size(text: str) -> int:
    """Return bytes of ``500M`` or ``2G``.

    Raises:
        UsageError: It is no size.
    """
    found = re.fullmatch(_SIZE, text.strip())
    if found is None:
        raise UsageError(f"{text!r} is not a size", "Write bytes, or a number with K, M or G: 500M.")
    return int(float(found[1]) * _FACTORS[found[2].lower()])


def run(
    target: list[str] | None = None,
    python: str = "",
    output: str | None = None,
    force: bool = False,
    quiet: bool = False,
    hang_after: float = 3.0,
    on_hang: str = "stop",
    timeout: float | None = None,
    pid: int | None = None,
    duration: float | None = None,
    max_events: int | None = None,
    max_size: str = "",
    last: float | None = None,
    engine: str = "ptrace",
    perf_buffer: str = "",
    placement: str = "auto",
    no_seccomp: bool = False,
    follow: bool = True,
    redact: bool = False,
) -> int:
    """Record as the options of `qtrace record` say, and return the exit status."""
    if any(number is not None and number <= 0 for number in (hang_after, timeout, duration, last, max_events)):
        raise UsageError("times and limits have to be above zero", "For example: --hang-after 3 --timeout 60")
    if pid is not None and target:
        raise UsageError("-p and a program exclude one another", "Leave one of them out.")
    if engine == "auto":
        engine = _chosen_engine(pid is not None or (not no_seccomp and follow), pid is None, quiet)
    ending: list[Verdict] = []
    result = pipeline.record(
        pid if pid is not None else (target or []),
        output,
        python=python,
        overwrite=force,
        hang_after_s=hang_after,
        end_on_hang=on_hang == "stop",
        timeout_s=timeout,
        use_seccomp=not no_seccomp,
        follow=follow,
        redact=redact,
        placement=placement,
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
    return _status_of(result)


def _chosen_engine(filtered: bool, starts: bool, quiet: bool) -> str:
    chosen, why_not = pipeline.chosen_engine("auto", filtered=filtered, starts=starts)
    if not quiet:
        print(f"qtrace: engine {chosen}" + (f" (not perf: {why_not})" if why_not else ""), file=sys.stderr)
    return chosen


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
    _say(f"{said} {calls} of {processes} in {result.file}")
    for note in result.notes:
        _say(f"qtrace: {note}")
    _say(f"next: qtrace report {result.file}")


def _how(status: int | None) -> str:
    if status is None:
        return ""
    ended = os.WIFSIGNALED(status)
    return f" (signal {os.WTERMSIG(status)})" if ended else f" (exit status {os.WEXITSTATUS(status)})"


def _status_of(result: Recorded) -> int:
    """Return the exit status, or end this process as the program did."""
    if result.storing_failed:
        raise RecordingError(
            f"the recording {result.file} ends early: {result.storing_failed}",
            f"The program ran on to its end{_how(result.status)}. "
            "Free some space, or lift the limit, and record again.",
        )
    if result.ended_because in ("hang", "timeout"):
        return ENDED_BY_QTRACE
    status = result.status
    if result.ended_because == "detach":
        return 0
    if status is None:
        return ENDED_BY_QTRACE if result.ended_because else 1
    if os.WIFSIGNALED(status):
        pipeline.die_like(status)
        return 128 + signal.Signals(os.WTERMSIG(status))
    return os.WEXITSTATUS(status)
