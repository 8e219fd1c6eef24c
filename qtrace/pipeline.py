"""The public Python API: record, load, explain and report. It introduces the rooms to each other.

Nothing here prints. Heavy packages are imported inside the function that needs them, so that
importing this module, and explaining, stay quick.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence

from qtrace.errors import OutputExistsError, RecordingError, UsageError
from qtrace.model.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from qtrace.analyse.differ import Differences
    from qtrace.analyse.trace import Trace
    from qtrace.capture.doctor import Finding as Finding
    from qtrace.capture.recorder import Recorded as Recorded
    from qtrace.capture.snapshot import Taking
    from qtrace.decode.strace_log import Imported
    from qtrace.export.schema_text import RecordingSchema
    from qtrace.model.snapshot import Snapshot
    from qtrace.model.verdict import Verdict
    from qtrace.render.report_input import ReportInput

SUFFIX = ".qtrace"


def _path(*parts: str | Path) -> Path:
    from pathlib import Path  # 3 ms, and a recording is made without it

    return Path(*parts)


def newest_recording(folder: Path | None = None) -> Path:
    """Return the newest recording of a folder (the working one) or of its `reports/`.

    Raises:
        RecordingError: There is none.
    """
    here = folder or _path(os.getcwd())
    found = [*here.glob(f"*{SUFFIX}"), *(here / "reports").glob(f"*{SUFFIX}")]
    if not found:
        raise RecordingError(
            f"there is no recording in {here} or its reports/",
            "Make one with: qtrace record SCRIPT.py",
        )
    return max(found, key=lambda path: path.stat().st_mtime)


class LiveLook(threading.Thread):
    """The moment of a running program: the first look is taken at once, the rest in the background.

    Between the two looks there is little to do but to wait: time enough to load what comes after them.

    Raises:
        TargetError: There is no such process.
    """

    def __init__(self, pid: int, *, scope: str = "up", python: bool = True) -> None:
        from qtrace.capture.snapshot import begin_snapshot

        super().__init__(name="qtrace-look", daemon=True)
        self._taking: Taking = begin_snapshot(pid, scope=scope, python=python)
        self._taken: Snapshot | BaseException | None = None
        self.start()

    def run(self) -> None:
        """Take the rest."""
        try:
            self._taken = self._taking.take()
        except BaseException as error:  # noqa: BLE001  raised where the snapshot is asked for
            self._taken = error

    def snapshot(self) -> Snapshot:
        """Return the moment; waits until it has been taken."""
        self.join()
        if isinstance(self._taken, BaseException):
            raise self._taken
        assert self._taken is not None
        return self._taken


def explain_pid(pid: int, *, scope: str = "up", python: bool = True, look: LiveLook | None = None) -> Verdict:
    """Return what holds a running program up, or that nothing does.

    Args:
        pid: Any process of the program.
        scope: ``up`` for the whole program, ``down`` for pid and its descendants, ``only`` for pid.
        python: Whether to ask py-spy for Python lines; without, more is left open.
        look: One that has been begun already, of the same pid, scope and choice.

    Raises:
        TargetError: There is no such process.
    """
    look = look or LiveLook(pid, scope=scope, python=python)
    import qtrace.render.text
    import qtrace.render.verdict_json  # noqa: F401
    from qtrace.analyse.explain import explain_snapshot

    return explain_snapshot(look.snapshot())


def explain(target: int | str | Path, *, at_ns: int | None = None) -> Verdict:
    """Return the verdict on a running program (an int: its pid) or on a recording (a path).

    Args:
        target: A pid or a recording.
        at_ns: For a recording: the moment, in nanoseconds since its start; its end if None.

    Raises:
        TargetError: There is no such process.
        RecordingError: The file is no recording, or cannot be read.
    """
    if isinstance(target, int):
        return explain_pid(target)
    return explain_recording(_path(target), at_ns=at_ns)


def explain_recording(path: str | Path, *, at_ns: int | None = None) -> Verdict:
    """Return the verdict on a recording at its end, or at a moment of it.

    Raises:
        RecordingError: The file is no recording, or cannot be read.
    """
    from dataclasses import replace

    from qtrace.analyse.excerpt import of_excerpt
    from qtrace.analyse.explain import explain_snapshot
    from qtrace.decode.moment import snapshot_at
    from qtrace.tracefile.reader import TraceReader

    with TraceReader(path) as reader:
        start_ns = int(reader.meta.get("start_ns", "0"))
        time_ns = None if at_ns is None else start_ns + at_ns
        verdict = replace(explain_snapshot(snapshot_at(reader, time_ns)), start_ns=start_ns)
        return of_excerpt(verdict) if reader.meta.get("partly_seen", "[]") != "[]" else verdict


def gaps_of(path: Path) -> list[str]:
    """Return what a recording does not have, and why, a sentence each; nothing if it is whole.

    Raises:
        RecordingError: The file is no recording, or cannot be read.
    """
    from qtrace.tracefile.reader import TraceReader

    with TraceReader(path) as reader:
        return reader.gaps()


def middle_of_longest_wait(path: Path) -> int:
    """Return the moment, in nanoseconds since the start, in the middle of the wait that cost most.

    Raises:
        RecordingError: The file is no recording, or nothing in it waited.
    """
    from qtrace.decode.moment import longest_wait
    from qtrace.tracefile.reader import TraceReader

    with TraceReader(path) as reader:
        found = longest_wait(reader)
        if found is None:
            raise RecordingError(f"nothing waits in {path}", "Explain its end instead: leave --longest out.")
        return (found[0] + found[1]) // 2 - int(reader.meta.get("start_ns", "0"))


def ended_verdict(pid: int) -> Verdict:
    """Return the verdict on a process that has ended while it was looked at."""
    from qtrace.model.kinds import Certainty, VerdictKind
    from qtrace.model.verdict import Verdict

    return Verdict(VerdictKind.FINISHED, Certainty.PROVEN, f"The process {pid} has ended; nothing is stuck.")


def verdict_words(verdict: Verdict, *, colour: bool = False, width: int = 100) -> str:
    """Return a verdict for a terminal, at most twelve lines."""
    from qtrace.render.text import verdict_text

    return verdict_text(verdict, colour=colour, width=width)


def verdict_json(verdict: Verdict, kind: str, value: int | str) -> dict[str, object]:
    """Return a verdict as the plain object of the contract ``qtrace.explain/1``."""
    from qtrace.render.verdict_json import verdict_object

    return verdict_object(verdict, kind, value)


def chosen_engine(engine: str, *, filtered: bool = True, starts: bool = True) -> tuple[str, str]:
    """Return the engine that `record` would use, ``perf`` or ``ptrace``, and why perf cannot be used.

    Args:
        engine: ``auto``, ``perf`` or ``ptrace``.
        filtered: Whether only the recorded calls are to stop (neither ``use_seccomp`` nor ``follow`` is False).
        starts: Whether the program is to be started, or runs already.

    Raises:
        EngineError: perf was asked for and cannot be used here.
    """
    from qtrace.capture.perf_engine import chosen

    return chosen(engine, filtered, starts=starts)


def record(
    target: Sequence[str] | int,
    output: str | Path | None = None,
    *,
    python: str = "",
    overwrite: bool = False,
    hang_after_s: float = 3.0,
    end_on_hang: bool = True,
    timeout_s: float | None = None,
    use_seccomp: bool = True,
    follow: bool = True,
    redact: bool = False,
    placement: str = "auto",
    duration_s: float | None = None,
    max_events: int | None = None,
    max_bytes: int | None = None,
    last_s: float | None = None,
    engine: str = "ptrace",
    ring_bytes: int | None = None,
    on_verdict: Callable[[Verdict, bool], None] | None = None,
) -> Recorded:
    """Run a program under the tracer to its end, or until it can never go on.

    Args:
        target: A script, ``-m`` and a module, ``-c`` and code, or a command; then its arguments.
            Or a pid (an int): that running process with its descendants, until it is let go.
        output: The recording; a new name in the working folder if None.
        python: The interpreter for scripts; the one that runs qtrace if empty.
        overwrite: Whether an existing output may be replaced.
        hang_after_s: How long the program has to stand still before it counts as hung.
        end_on_hang: Whether to end a program that is proven to hang.
        timeout_s: End the program after so long in any case.
        use_seccomp: Let only the recorded calls stop. Without, every call does.
        follow: Trace the children too.
        redact: Keep arguments, paths and source lines out of the recording.
        placement: ``auto``, ``together`` or ``free``: whether tracer and tracees share a CPU.
        duration_s: Record only so long; a running program is then let go.
        max_events, max_bytes, last_s: Store only so many calls, so much of them, so many last seconds.
        engine: ``ptrace``, ``perf``, or ``auto`` (perf where it is permitted): how calls are seen.
        ring_bytes: Memory for perf's ring buffers, for each CPU; what fits the machine if None.
        on_verdict: Told of a hang at once: the verdict, and whether the program is being ended.

    Raises:
        UsageError: This is not the main thread of its process.
        TargetError: The program could not be found or started.
        PermissionRefusedError: The system does not permit tracing.
        OutputExistsError: The output exists.
        RecordingError: The output cannot be written.
        EngineError: The engine that was asked for cannot be used here.
    """
    import shlex

    _require_main_thread()
    from qtrace.capture import recorder
    from qtrace.capture.target import resolve

    words = ["pid", str(target)] if isinstance(target, int) else list(target)
    program = None if isinstance(target, int) else resolve(words, python)
    options = recorder.RecordOptions(
        os.fspath(output) if output else new_name(words),
        overwrite,
        int(hang_after_s * 1e9),
        end_on_hang,
        None if timeout_s is None else int(timeout_s * 1e9),
        use_seccomp,
        follow,
        redact,
        None if duration_s is None else int(duration_s * 1e9),
        max_events,
        max_bytes,
        None if last_s is None else int(last_s * 1e9),
        placement,
        shlex.join(words),
        engine,
        ring_bytes,
    )
    tell = on_verdict or (lambda verdict, ends: None)
    if program is not None:
        return recorder.record(program, options, _judged, tell)
    return recorder.record_running(int(words[1]), options, _judged, tell)


def _require_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            "record() has to be called in the main thread, which is the one that gets signals",
            "From another thread run `qtrace record` as a process of its own: subprocess.run([...]).",
        )


def _judged(snapshot: Snapshot) -> Verdict:
    # The analysis is loaded when a moment is first judged: most programs have ended before.
    from qtrace.analyse.explain import explain_snapshot

    return explain_snapshot(snapshot)


def new_name(target: Sequence[str]) -> str:
    """Return a name for a recording that does not exist yet, from the target's name and the time."""
    words = [word for word in target if not word.startswith("-")] or ["program"]
    stem = "code" if target[0] == "-c" else os.path.splitext(os.path.basename(words[0].rstrip("/")))[0] or "program"
    base = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    name = f"{base}{SUFFIX}"
    number = 2
    while os.path.exists(name):
        name = f"{base}-{number}{SUFFIX}"
        number += 1
    return name


def die_like(status: int) -> None:
    """End this process by the signal of a raw wait status, as the recorded program ended."""
    from qtrace.capture.recorder import die_like as die

    die(status)


# --- the schema ----------------------------------------------------------------------------------


def schema_text() -> str:
    """Return the documented schema of a recording and of the tables made from it."""
    from qtrace.export.schema_text import schema_text as text

    return text(_recording_schema())


def schema_object() -> dict[str, object]:
    """Return the same as a plain object (``qtrace.schema/1``)."""
    from qtrace.export.schema_text import schema_object as plain

    return plain(_recording_schema())


def _recording_schema() -> RecordingSchema:
    from qtrace.export.schema_text import RecordingSchema
    from qtrace.tracefile import schema

    tables = [(table.name, table.row, table.ddl) for table in schema.TABLES]
    notes = (schema.__doc__ or "").replace("`qtrace schema` prints this module's text. ", "")
    return RecordingSchema(schema.SCHEMA_VERSION, schema.APPLICATION_ID, notes, tables)


def load(path: str | Path) -> Trace:
    """Return a recording as pandas tables, each made when it is first looked at.

    Raises:
        RecordingError: The file is no recording, or cannot be read.
    """
    from qtrace.analyse.trace import Trace
    from qtrace.decode.parts import Parts
    from qtrace.tracefile.reader import TraceReader

    with TraceReader(path) as reader:
        parts = Parts(reader)
    return Trace.from_parts(parts, _path(path).stem, lambda: explain_recording(_path(path)))


def report_input(trace: Trace) -> ReportInput:
    """Return what a report of a recording is made from.

    Raises:
        RecordingError: The recording cannot be judged.
    """
    from qtrace.render.report_input import ReportInput

    verdict = trace.verdict
    assert verdict is not None
    return ReportInput(
        trace.name,
        verdict,
        trace.processes,
        trace.threads,
        trace.waits,
        trace.objects,
        trace.messages,
        trace.fill,
        trace.calls,
        trace.stacks,
        trace.losses,
        trace.critical,
        trace.meta,
        trace.bottleneck,
        trace.floor_ns,
        trace.damage,
    )


def report(path: str | Path, out: str | Path | None = None) -> Path:
    """Write a recording as one HTML page that opens without a network, and return where it is.

    Args:
        path: The recording.
        out: The page; ``reports/NAME.html`` where there is a `reports/`, else beside the recording.

    Raises:
        RecordingError: The file is no recording, or the page cannot be written.
    """
    from qtrace.render.report import render_report

    recording = _path(path)
    target = _path(out) if out is not None else report_name(recording)
    text = render_report(report_input(load(recording)))
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordingError(
            f"cannot write the report {target}: {error.strerror}", "Choose another place with -o."
        ) from None
    return target


def report_name(recording: Path) -> Path:
    """Return where a recording's page goes."""
    folder = _path("reports")
    parent = folder if folder.is_dir() else recording.parent
    return parent / f"{recording.stem}.html"


# --- strace's logs -------------------------------------------------------------------------------


def import_strace(
    log: str | Path, output: str | Path | None = None, *, overwrite: bool = False
) -> tuple[Path, Imported]:
    """Make a recording from a log that strace wrote; return its path and what became of the log.

    Args:
        log: The file of ``strace -o``; under ``-ff`` the name that was given there, or one file.
        output: The recording; the log's name with another suffix if None.
        overwrite: Whether an existing output may be replaced.

    Raises:
        RecordingError: There is no such log, nothing in it is strace's, or the output cannot be written.
        OutputExistsError: The output exists.
    """
    from qtrace.capture.script import script_name
    from qtrace.decode.strace_lines import log_files, read_log
    from qtrace.decode.strace_log import import_log
    from qtrace.tracefile.writer import TraceWriter

    log = _path(log)
    files = log_files(log)
    if not files:
        raise RecordingError(f"there is no log {log}", "Make one with: strace -f -ttt -T -yy -o FILE PROGRAM")
    try:
        parsed = read_log(files)
    except OSError as error:
        raise RecordingError(f"cannot read {log}: {error.strerror or error}") from None
    if not parsed.calls:
        raise RecordingError(
            f"nothing in {log} is a call as strace prints it", "Make a log with: strace -f -ttt -T -yy -o FILE PROGRAM"
        )
    path = _path(output) if output else log.with_suffix(SUFFIX)
    writer = TraceWriter(path, overwrite=overwrite)
    try:
        writer.set_meta(qtrace=VERSION, imported_from=str(log))
        done = import_log(parsed, writer.add_row, writer.add_calls, writer.set_meta, script_name)
    except BaseException:
        writer.close()
        path.unlink(missing_ok=True)  # half a log would be taken for the whole
        raise
    writer.close()
    if writer.failure:
        raise RecordingError(f"the recording {path} could not be written: {writer.failure}")
    return path, done


# --- exports -------------------------------------------------------------------------------------

EXPORTS = {
    "perfetto": ".perfetto.json",
    "parquet": "-parquet",
    "ndjson": ".ndjson",
    "csv": "-csv",
    "strace": ".strace",
    "dot": ".dot",
    "mermaid": ".mmd",
}
"""Formats, and what their output's name ends with; parquet and csv are folders."""


def export_recording(path: str | Path, to: str, output: str | Path | None = None, *, overwrite: bool = False) -> Path:
    """Write a recording in another format; return the file or folder.

    Args:
        path: The recording.
        to: One of `EXPORTS`.
        output: File, or folder for parquet and csv; the recording's name with another ending if None.
            A name that ends with ``.gz`` is compressed.
        overwrite: Whether an existing output may be replaced.

    Raises:
        UsageError: There is no such format, or it needs a package that is not installed.
        RecordingError: The file is no recording, or the output cannot be written.
        OutputExistsError: The output exists.
    """
    from qtrace.export.outputs import text_output

    if to not in EXPORTS:
        raise UsageError(f"there is no format {to}", f"Choose one of: {', '.join(EXPORTS)}")
    source = _path(path)
    target = _path(output) if output is not None else source.with_name(source.stem + EXPORTS[to])
    if target.exists() and not overwrite and not (target.is_dir() and not any(target.iterdir())):
        raise OutputExistsError(f"{target} exists", "Choose another name with -o, or say -f to overwrite it.")
    try:
        if to in ("parquet", "csv"):
            _export_folder(source, to, target)
        else:
            with text_output(target) as out:
                export_text(source, to, out)
    except OSError as error:
        raise RecordingError(f"cannot write {target}: {error.strerror or error}", "Choose another with -o.") from None
    return target


def export_text(path: str | Path, to: str, out: TextIO) -> None:
    """Write a recording in one of the formats that are one stream of text: all but parquet and csv.

    Raises:
        UsageError: The format is none of them.
        RecordingError: The file is no recording, or cannot be read.
    """
    from qtrace.export import graphs, perfetto, strace_text, text_tables

    if to in ("dot", "mermaid"):
        draw = graphs.dot_text if to == "dot" else graphs.mermaid_text
        out.write(draw(explain_recording(_path(path))))
        return
    writers: dict[str, Callable[[Trace, TextIO], None]] = {
        "perfetto": perfetto.write_perfetto,
        "ndjson": text_tables.write_ndjson,
        "strace": strace_text.write_strace,
    }
    if to not in writers:
        raise UsageError(f"{to} is no single stream", "Name a folder with -o.")
    writers[to](load(path), out)


def _export_folder(source: Path, to: str, target: Path) -> None:
    import sys

    if to == "csv":
        from qtrace.export.text_tables import write_csv

        write_csv(load(source), target)
    elif "qtrace.capture.ptrace_calls" in sys.modules:
        # pyarrow must not come into a process that has python-ptrace, or may yet load it, for their licences.
        import subprocess

        words = [sys.executable, "-m", "qtrace", "export", "--to", to, "-f", "-o", str(target), str(source)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise RecordingError(done.stderr.strip().removeprefix("qtrace: ") or f"the export to {to} failed")
    else:
        from qtrace.export.parquet import write_parquet

        write_parquet(load(source), target)


def doctor() -> list[Finding]:
    """Try everything that qtrace uses on this machine, and return what works and what does not."""
    from qtrace.capture.doctor import examine

    return examine()


# --- summaries -----------------------------------------------------------------------------------


def summary_words(path: str | Path, *, width: int = 100) -> str:
    """Return calls by name and time by thread for a terminal.

    Raises:
        RecordingError: The file is no recording, or cannot be read.
    """
    from qtrace.analyse.summary import calls_by_name, spent_by_thread
    from qtrace.render.summary_text import summary_text

    trace = load(path)
    head = f"{_path(path).name}: {_life_words(trace)}"
    if trace.bottleneck:
        head += f"\n{trace.bottleneck}"
    calls = calls_by_name(trace)
    names = ("name", "calls", "errors", "unfinished", "ns", "mean_ns")
    rows = list(zip(*(calls[name].tolist() for name in names), strict=True))
    return summary_text(head, rows, spent_by_thread(trace), width)


def summary_object(path: str | Path) -> dict[str, object]:
    """Return the same as a plain object (``qtrace.summary/1``)."""
    from qtrace.analyse.summary import calls_by_name, spent_by_thread

    trace = load(path)
    calls = calls_by_name(trace)
    return {
        "schema": "qtrace.summary/1",
        "recording": str(path),
        "duration_ns": trace.end_ns - trace.start_ns,
        "bottleneck": trace.bottleneck or None,
        "calls": [
            dict(zip(calls.columns, row, strict=True))
            for row in zip(*(calls[name].tolist() for name in calls), strict=True)
        ],
        "threads": [
            {"thread": name, "life_ns": life, "ns": dict(parts)} for name, life, parts in spent_by_thread(trace)
        ],
    }


def _life_words(trace: Trace) -> str:
    from qtrace.render.wording import count, duration

    verdict = trace.verdict
    parts = [
        count(len(trace.calls), "call"),
        count(trace.processes["pid"].nunique(), "process", "processes"),
        count(len(trace.threads), "thread"),
    ]
    ended = f", {verdict.kind}" if verdict is not None else ""
    return f"{', '.join(parts)}, {duration(trace.end_ns - trace.start_ns)}{ended}"


def diff(first: str | Path, second: str | Path, *, least_ns: int | None = None) -> Differences:
    """Return what differs between two recordings of a program.

    Args:
        first: One recording.
        second: The other.
        least_ns: Leave out waits that are shorter; if None 10 ms, or a fiftieth of the longer one.

    Raises:
        RecordingError: One of the files is no recording, or cannot be read.
    """
    from qtrace.analyse.differ import differences

    return differences(load(first), load(second), least_ns)


def diff_words(first: str | Path, second: str | Path, found: Differences, *, width: int = 100) -> str:
    """Return for a terminal what `diff` has found."""
    from qtrace.render.summary_text import difference_text

    lives = [f"{_path(path).name}: {_life_words(load(path))}" for path in (first, second)]
    return difference_text(lives, found.least_ns, found.waits, found.shifts, width)


def diff_object(first: str | Path, second: str | Path, found: Differences) -> dict[str, object]:
    """Return what `diff` has found as a plain object (``qtrace.diff/1``)."""
    from dataclasses import asdict

    return {"schema": "qtrace.diff/1", "first": str(first), "second": str(second), **asdict(found)}
