"""Record a program from its first instruction to its end: launch, loop, writer and watch together."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from qtrace.capture import perf_engine, procfs, ptrace_calls, seccomp
from qtrace.capture.callhooks import CallHooks
from qtrace.capture.hot_stops import HotStops, library
from qtrace.capture.launch import Launch, Program, closed_streams
from qtrace.capture.loop import WAKE_SIGNAL, Loop
from qtrace.capture.machine import architecture
from qtrace.capture.placement import Placement
from qtrace.capture.tracees import Tracees
from qtrace.capture.watch import Watch
from qtrace.errors import QtraceError, RecordingError
from qtrace.model import i386
from qtrace.model.blas import keep_to_one_thread
from qtrace.model.syscalls import Architecture, number_of
from qtrace.model.version import VERSION
from qtrace.tracefile.writer import Limits, TraceWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from qtrace.capture.perf_attach import JoinedTree
    from qtrace.capture.perf_collector import Collector
    from qtrace.model.snapshot import Snapshot
    from qtrace.model.verdict import Verdict

Judge = Callable[["Snapshot"], "Verdict"]
_SWITCH_SECONDS = 0.0005
"""The interpreter's switching interval while tracing: a background thread holds the loop up by this
at most, a tenth of the default."""


class RecordOptions:
    """How to record."""

    output: str
    overwrite: bool
    hang_after_ns: int
    end_on_hang: bool
    timeout_ns: int | None
    use_seccomp: bool
    follow: bool
    redact: bool
    duration_ns: int | None
    max_events: int | None
    max_bytes: int | None
    last_ns: int | None
    placement: str
    """See `qtrace.capture.placement`."""
    target_words: str
    """What the user asked for, for people."""
    engine: str
    """See `qtrace.capture.perf_engine`."""
    ring_bytes: int | None
    """Memory for the perf engine's ring buffers, for each CPU; None for what fits the machine."""

    def __init__(
        self,
        output: str,
        overwrite: bool = False,
        hang_after_ns: int = 3_000_000_000,
        end_on_hang: bool = True,
        timeout_ns: int | None = None,
        use_seccomp: bool = True,
        follow: bool = True,
        redact: bool = False,
        duration_ns: int | None = None,
        max_events: int | None = None,
        max_bytes: int | None = None,
        last_ns: int | None = None,
        placement: str = "auto",
        target_words: str = "",
        engine: str = "ptrace",
        ring_bytes: int | None = None,
    ) -> None:
        self.output = output
        self.overwrite = overwrite
        self.hang_after_ns = hang_after_ns
        self.end_on_hang = end_on_hang
        self.timeout_ns = timeout_ns
        self.use_seccomp = use_seccomp
        self.follow = follow
        self.redact = redact
        self.duration_ns = duration_ns
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.last_ns = last_ns
        self.placement = placement
        self.target_words = target_words
        self.engine = engine
        self.ring_bytes = ring_bytes


class Recorded:
    """How a recording went."""

    file: str
    """The recording."""
    status: int | None
    """Raw wait status of the program; None if it is not known."""
    ended_because: str
    """``hang``, ``timeout`` or ``interrupt`` where qtrace ended the program; empty otherwise."""
    verdict: Verdict | None
    """What held when qtrace began to end the program."""
    calls: int
    processes: int
    storing_failed: str
    notes: list[str]
    """What was left out, a sentence each."""

    def __init__(
        self,
        file: str,
        status: int | None = None,
        ended_because: str = "",
        verdict: Verdict | None = None,
        calls: int = 0,
        processes: int = 0,
        storing_failed: str = "",
        notes: list[str] | None = None,
    ) -> None:
        self.file = file
        self.status = status
        self.ended_because = ended_because
        self.verdict = verdict
        self.calls = calls
        self.processes = processes
        self.storing_failed = storing_failed
        self.notes = notes or []

    @property
    def path(self) -> Path:
        """The recording."""
        from pathlib import Path

        return Path(self.file)


def record(
    program: Program,
    options: RecordOptions,
    judge: Judge,
    on_verdict: Callable[[Verdict, bool], None],
) -> Recorded:
    """Run a program under the tracer until its last process has ended.

    Args:
        program: What to run.
        options: How to record.
        judge: Says what a moment means.
        on_verdict: Told of a hang at once: the verdict, and whether the program is now ended.

    Raises:
        TargetError: The program could not be started.
        PermissionRefusedError: The system does not permit tracing.
        OutputExistsError: The output exists and is not to be overwritten.
        RecordingError: The output cannot be written.
        EngineError: The engine that was asked for cannot be used here.
    """
    closed = closed_streams()
    machine = architecture()
    filtered = options.use_seccomp and options.follow
    opened: list[int] = []
    engine, _ = perf_engine.chosen(options.engine, filtered, opened, starts=True)
    with _closed_at_end(opened), _kept_for_failure(options.output, options.overwrite) as keep_old:
        writer = TraceWriter(
            options.output, overwrite=options.overwrite, limits=_limits(options), rings=engine == "perf"
        )
        try:
            launch = Launch(program, _filter(machine, engine) if filtered else None, closed)
            keep_to_one_thread()  # its environment is its own by now
            recording = _Recording(writer, options, launch.pid, judge, on_verdict, engine=engine)
            _close_all(opened)
            launch.seize(options.follow)
        except BaseException:
            writer.close()
            _remove(options.output)
            raise

        def begin(now_ns: int) -> None:
            recording.tracees.add_root(launch.pid, os.getpid(), now_ns, before_exec=True)
            if recording.loop.every_call:
                ptrace_calls.request(ptrace_calls.INTERRUPT, launch.pid)
            recording.placement.begin(launch.pid, engine == "ptrace")
            launch.go()

        result = recording.run(program.argv, begin)
        failure = launch.failure()
        if failure is not None:
            _remove(options.output)
            raise failure
        keep_old()
    return result


def record_running(
    pid: int, options: RecordOptions, judge: Judge, on_verdict: Callable[[Verdict, bool], None]
) -> Recorded:
    """Record a running tree until it has ended, is let go by a signal, or `duration_ns` is over.

    Args:
        pid: The topmost process; its descendants are taken with it.
        options: How to record; what is about launching does not matter.
        judge: Says what a moment means.
        on_verdict: Told of a hang at once. The program is never ended.

    Raises:
        TargetError: There is no such process.
        PermissionRefusedError: The system does not permit tracing it.
        OutputExistsError: The output exists and is not to be overwritten.
        RecordingError: The output cannot be written.
        EngineError: The engine that was asked for cannot be used here.
    """
    from qtrace.capture.attach import attach
    from qtrace.capture.snapshot import require_process

    machine = architecture()
    require_process(pid)
    engine, _ = perf_engine.chosen(options.engine, filtered=True)
    keep_to_one_thread()
    joined = None
    if engine == "perf":
        from qtrace.capture.perf_attach import join

        joined = join(pid, machine, options.ring_bytes)
    with _kept_for_failure(options.output, options.overwrite) as keep_old:
        writer = TraceWriter(
            options.output, overwrite=options.overwrite, limits=_limits(options), rings=engine == "perf"
        )
        recording = _Recording(writer, options, pid, judge, on_verdict, attached=True, engine=engine, joined=joined)
        try:

            def begin(now_ns: int) -> None:
                if recording.begin_attached is not None:
                    recording.begin_attached(now_ns)
                else:
                    attach(pid, recording.loop, recording.tracees, machine, now_ns)

            result = recording.run(procfs.argv(pid), begin)
        except QtraceError:
            writer.close()
            _remove(options.output)
            raise
        keep_old()
    return result


def _limits(options: RecordOptions) -> Limits:
    words = {"duration": f"{(options.duration_ns or 0) / 1e9:g} s"}
    return Limits(options.max_events, options.max_bytes, options.duration_ns, options.last_ns, words)


def _filter(machine: Architecture, engine: str) -> bytes:
    numbers = perf_engine.stopping_numbers(machine) if engine == "perf" else seccomp.recorded_numbers(machine)
    compat = i386.recorded_numbers() if machine is Architecture.X86_64 else ()
    return seccomp.build_filter(machine, numbers, compat)


@contextlib.contextmanager
def _closed_at_end(fds: list[int]) -> Iterator[None]:
    try:
        yield
    finally:
        _close_all(fds)


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.contextmanager
def _kept_for_failure(path: str, overwrite: bool) -> Iterator[Callable[[], None]]:
    """Put an older recording aside, and back if the program could not be started."""
    aside = f"{path}-old"
    if not overwrite or not os.path.isfile(path):
        yield lambda: None
        return
    try:
        os.replace(path, aside)
    except OSError as error:
        raise RecordingError(
            f"cannot write the recording {path}: {error.strerror}",
            "Choose a file in a folder that you may write to, with -o.",
        ) from None
    done = []
    try:
        yield lambda: done.append(True)
    finally:
        if done:
            _remove(aside)
        else:
            os.replace(aside, path)


_NOT_FOR_US = (
    signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO,
    signal.SIGPWR, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)  # fmt: skip
"""Signals that would end the tracer, and the program with it, where they are meant for the program: a Ctrl-\\ on the
terminal, or what the program sends to its own process group."""


class _Recording:
    """The parts of one recording, and how they are wired."""

    def __init__(
        self,
        writer: TraceWriter,
        options: RecordOptions,
        root: int,
        judge: Judge,
        on_verdict: Callable[[Verdict, bool], None],
        attached: bool = False,
        engine: str = "ptrace",
        joined: JoinedTree | None = None,
    ) -> None:
        self.writer = writer
        self.options = options
        self.engine = engine
        self.notes: list[str] = []
        self.collector: Collector | None = None
        self.root = root
        self.machine = architecture()
        self.attached = attached
        self.begin_attached: Callable[[int], None] | None = None
        every_call = (attached and joined is None) or not (options.use_seccomp and options.follow)
        self.tracees = Tracees(writer.add_row, options.redact)
        placement = options.placement if joined is None else "free"
        self.placement = Placement(placement, threading.get_native_id(), self.tracees.creator_of)
        if joined is not None:
            self.loop = self._attached_perf_loop(joined)
        elif engine == "perf":
            self.loop = self._perf_loop()
        else:
            hooks = CallHooks(self._store_sighting, self.machine, self.placement)
            loaded = library() if not every_call else None
            hot = HotStops(loaded, writer.add_calls) if loaded is not None else None
            self.loop = Loop(self.tracees, hooks, writer.add_calls, self._lifecycle, self.machine, every_call, hot)
        self.loop.wanted = frozenset(seccomp.recorded_numbers(self.machine))
        self.loop.root = root
        self.loop.begun = attached or not every_call
        self.watch = Watch(writer, self.loop, options, root, judge, on_verdict, self.placement, attached)
        kill = number_of("kill", self.machine)
        assert kill is not None
        self.loop.hooks.entry[kill] = self._kill_begins
        self.loop.hooks.exit[kill] = self._kill_ends

    def _store_sighting(self, table: str, row: Sequence[object]) -> None:
        """Store what a descriptor or a word was, with --redact without the names of files; or what is not seen."""
        if table == "losses":
            self.notes.append(str(row[4]))
        if self.options.redact and table == "sightings" and str(row[3]).startswith("/"):
            row = (*row[:3], "(redacted)", *row[4:])
        self.writer.add_row(table, row)

    def _kill_begins(self, tid: int, pid: int, call: list[int], now: int) -> None:
        if _reaches_us(pid, call[1]):
            self.watch.from_program[call[2]] += 1

    def _kill_ends(self, tid: int, pid: int, call: list[int], ret: int, now: int) -> None:
        # The signal has been sent, and our handler has run, before the call's exit was told.
        if _reaches_us(pid, call[1]) and self.watch.from_program[call[2]]:
            self.watch.from_program[call[2]] -= 1

    def _perf_loop(self) -> Loop:
        rings = perf_engine.open_rings(self.root, self.machine, self.options.ring_bytes)
        from qtrace.capture.perf_hooks import PerfHooks
        from qtrace.capture.perf_loop import PerfLoop

        hooks = PerfHooks(self._store_sighting, self.machine, self.placement)
        self.collector = perf_engine.collector_of(
            rings, self.writer, self.writer.add_row, hooks, self.machine, self.options.max_bytes
        )
        self.collector.foreign = self.tracees.foreign
        self.tracees.on_process = rings.follow
        hooks.has_called = rings.has_called
        self.writer.set_meta(rings=rings.source)
        return PerfLoop(
            self.tracees, hooks, self.writer.add_calls, self._lifecycle, self.machine,
            collector=self.collector, in_rings=perf_engine.hot_numbers(self.machine),
        )  # fmt: skip

    def _attached_perf_loop(self, joined: JoinedTree) -> Loop:
        from qtrace.capture.perf_attach import LACKS
        from qtrace.capture.perf_attached_loop import PerfAttachedLoop
        from qtrace.capture.perf_hooks import AttachedHooks

        hooks = AttachedHooks(self._store_sighting, self.machine, self.placement)
        self.collector = perf_engine.collector_of(
            joined.rings, self.writer, self.writer.add_row, hooks, self.machine, self.options.max_bytes, joined
        )
        self.writer.set_meta(lacks=LACKS)
        loop = PerfAttachedLoop(
            self.tracees, hooks, self.writer.add_calls, self._lifecycle,
            joined=joined, machine=self.machine, see=hooks.see_descriptor, collector=self.collector,
        )  # fmt: skip
        self.begin_attached = loop.begin
        return loop

    def _lifecycle(
        self, time_ns: int, pid: int, tid: int, event: str, value: int | None, detail: dict[str, object] | None
    ) -> None:
        if self.options.redact and detail:
            detail = {key: fact for key, fact in detail.items() if key not in ("argv", "exe")}
        self.writer.add_row("lifecycle", (time_ns, pid, tid, event, value, detail or None))

    def run(self, argv: Sequence[str], begin: Callable[[int], None]) -> Recorded:
        """Trace until nobody is left.

        Args:
            argv: What is recorded, for the file.
            begin: Lets the program go, or attaches to it; given the time.
        """
        start = time.monotonic_ns()
        self.writer.set_meta(**_facts(self.options, argv, self.root, start, self.attached), engine=self.engine)
        self.writer.watch_calls(self.loop.take_ended, self.loop.pending)
        self.writer.flush()  # a tracer killed at once still leaves a file that says of what
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        gc.freeze()  # what is there by now stays: the collector need not look through it while the loop runs
        loop_ns, all_ns = time.thread_time_ns(), time.process_time_ns()
        try:
            with _handlers(self.loop, self.watch):
                if self.collector is not None:
                    from qtrace.capture.perf_events import hurry

                    hurry()
                    hurry(self.writer.committing_tid)
                    self.collector.start()
                begin(start)
                self.writer.begin_duration()
                self.watch.start()
                self.loop.run()
        finally:
            sys.setswitchinterval(before)
            self.watch.finish()
            self.placement.apart()
            if self.collector is not None:
                self.collector.finish()
                self.notes += self.collector.notes()
        cost = {"stops": self.loop.stops, "stops_cpu_ns": time.thread_time_ns() - loop_ns}
        if self.loop.hot is not None:
            cost["stops_in_c"] = self.loop.hot.handled
        self.writer.set_meta(**cost, recorder_cpu_ns=time.process_time_ns() - all_ns)
        return self._result()

    def _result(self) -> Recorded:
        watch, loop = self.watch, self.loop
        status = loop.exit_status.get(self.root)
        self.writer.set_meta(
            end_ns=time.monotonic_ns(), end_reason=watch.ended_because or "exit", exit_status=status, complete=1
        )
        self.writer.close()
        if self.collector is not None:
            self.collector.close()
        notes = [f"{left.calls:,} calls are not in it: {why}" for why, left in self.writer.left_out.items()]
        return Recorded(
            self.options.output, status, watch.ended_because, watch.verdict, self.writer.calls_written,
            self.tracees.ever, self.writer.failure, [*watch.notes, *self.tracees.left_out, *notes, *self.notes],
        )  # fmt: skip


def _reaches_us(pid: int, target: int) -> bool:
    """Whether a signal that a tracee sends reaches the tracer too: one for its whole process group does."""
    signed = (target & 0xFFFFFFFF) - ((target & 0x80000000) << 1)
    if signed > 0:
        return signed == os.getpid()
    if signed == 0:
        with contextlib.suppress(ProcessLookupError):
            return os.getpgid(pid) == os.getpgrp()
        return False
    return signed == -1 or -signed == os.getpgrp()


def _facts(options: RecordOptions, argv: Sequence[str], root: int, start: int, attached: bool) -> dict[str, object]:
    facts: dict[str, object] = {
        "qtrace": VERSION,
        "python": sys.version.split()[0],
        "kernel": os.uname().release,
        "architecture": os.uname().machine,
        "seccomp": int(options.use_seccomp and options.follow and not attached),
        "attached": int(attached),
        "start_ns": start,
        "start_wall_ns": time.time_ns(),
        "root_pid": root,
        "hang_after_ns": options.hang_after_ns,
        "redacted": int(options.redact),
    }
    if not options.redact:
        facts |= {"target": options.target_words, "argv": list(argv), "cwd": os.getcwd()}
    return facts


@contextlib.contextmanager
def _handlers(loop: Loop, watch: Watch) -> Iterator[None]:
    """Signals to the tracer itself: they end the program in order, and keep the recording."""
    wanted: dict[int, Callable[[int, FrameType | None], None]] = {
        WAKE_SIGNAL: loop.on_wake,
        signal.SIGINT: watch.on_interrupt,
        signal.SIGTERM: watch.on_interrupt,
        signal.SIGHUP: watch.on_interrupt,
        signal.SIGTSTP: loop.on_job_stop,
        signal.SIGTTIN: loop.on_job_stop,
    }
    wanted |= dict.fromkeys(_NOT_FOR_US, lambda number, frame: None)
    before = {number: signal.getsignal(number) for number in wanted}
    if before[signal.SIGINT] is signal.SIG_IGN:
        loop.hold_interrupts.clear()  # under nohup, or in a script's background: a Ctrl-C is not for us
    for number, handler in wanted.items():
        if before[number] is not signal.SIG_IGN or number == WAKE_SIGNAL:
            signal.signal(number, handler)
    if loop.hot is not None:
        loop.hot.heed(number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def die_like(status: int) -> None:
    """End this process by the signal that ended the program, without a core file of its own."""
    number = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):  # which nobody can handle or block
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
