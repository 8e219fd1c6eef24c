"""A log of strace becomes a recording: the same waits and verdict, but for what a log lacks."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from qtrace import pipeline
from qtrace.decode.strace_lines import log_files, read_log
from qtrace.decode.strace_values import (
    c_string,
    descriptors_in,
    number,
    poll_set,
    split_arguments,
    wait_status,
)
from qtrace.errors import TargetError
from qtrace.model.kinds import STUCK, Certainty, VerdictKind, WaitKind
from qtrace.model.verdict import Verdict
from qtrace.tracefile.reader import TraceReader
from tests.support.processes import end_tree, running, tree, wait_until

HANGS = Path(__file__).parents[2] / "examples" / "join_before_get.py"
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

ENDS = textwrap.dedent("""\
    import threading, time
    from multiprocessing import Pipe, Process

    def child(end):
        time.sleep(0.9)
        end.send("x" * 100)
        time.sleep(0.8)

    if __name__ == "__main__":
        reader, writer = Pipe(False)
        process = Process(target=child, args=(writer,))
        process.start()
        writer.close()
        reader.recv()
        process.join()
        thread = threading.Thread(target=time.sleep, args=(0.8,))
        thread.start()
        thread.join()
    """)


def _log_of_hang(log: Path, *options: str) -> None:
    """Run the example under strace until nothing in it can go on; then end strace first, so that the log stops."""
    with running(["strace", *options, "-o", str(log), sys.executable, str(HANGS)]) as process:
        try:
            wait_until(lambda: _is_stuck(process.pid), 60, "the hang")
        finally:
            members = tree(process.pid)[1:]
            process.kill()
            for member in members:
                end_tree(member)


def _is_stuck(tracer: int) -> bool:
    verdict = _look(tracer, python=False)
    return verdict is not None and len(tree(tracer)) == 3 and verdict.kind in STUCK


def _look(tracer: int, *, python: bool = True) -> Verdict | None:
    # strace's first child is one that only tries out what the kernel can do.
    try:
        return pipeline.explain_pid(tree(tracer)[1], scope="down", python=python)
    except (IndexError, TargetError):
        return None


@needs_strace
@pytest.mark.parametrize(
    "options",
    [
        "-f -tt -T -yy", "-f -ttt -T -y", "-f -t", "-f -r -T", "-f", "-ff -ttt -T", "-ff -ttt -T -yy", "-ff -r -y",
        "-f -ttt -T -yy -e trace=process,desc,futex", "-f -q -tt -r -y",
    ],
)  # fmt: skip
def test_a_hang_is_the_same_hang_whatever_the_log_looks_like(options: str, tmp_path: Path) -> None:
    """Main waits for its child, the child for its feeder, the feeder for room that only main could make."""
    _log_of_hang(tmp_path / "strace.log", *options.split())
    path, done = pipeline.import_strace(tmp_path / "strace.log")
    assert path == tmp_path / "strace.qtrace"
    assert done.processes == 2
    verdict = pipeline.explain(path)
    assert verdict.kind is VerdictKind.DEADLOCK
    assert verdict.cycle
    assert [wait.kind for wait in verdict.chain] == [WaitKind.CHILD_EXIT, WaitKind.LOCK, WaitKind.PIPE_FULL]
    assert [wait.call_name for wait in verdict.chain] == ["wait4", "futex", "write"]
    assert verdict.chain[2].target is not None
    assert (verdict.chain[2].target.bytes, verdict.chain[2].target.capacity) == (61500, 65536)


@needs_strace
def test_a_hang_that_was_recorded_has_the_chain_of_the_log(tmp_path: Path) -> None:
    """Threads, calls and the amount in the pipe agree; Python's names are what a log lacks."""
    _log_of_hang(tmp_path / "a.log", "-f", "-ttt", "-T", "-yy")
    from_log = pipeline.explain(pipeline.import_strace(tmp_path / "a.log")[0])
    pipeline.record([str(HANGS)], tmp_path / "b.qtrace", python=sys.executable, hang_after_s=1)
    recorded = pipeline.explain(tmp_path / "b.qtrace")
    assert (from_log.kind, from_log.certainty, from_log.cycle) == (recorded.kind, recorded.certainty, recorded.cycle)
    same_lock = {WaitKind.THREAD_JOIN: WaitKind.LOCK}
    for logged, told in zip(from_log.chain, recorded.chain, strict=True):
        assert logged.kind == same_lock.get(told.kind, told.kind)
        assert logged.call_name == told.call_name
        assert logged.process == told.process
        assert (logged.tid == logged.pid) == (told.tid == told.pid)
        assert logged.target is not None
        assert told.target is not None
        assert (logged.target.bytes, logged.target.capacity) == (told.target.bytes, told.target.capacity)


@needs_strace
def test_a_program_that_ends_has_the_waits_that_recording_it_gives(tmp_path: Path) -> None:
    """Who waited for half a second or more (no chance of a busy machine), on what, and who ended it."""
    script = tmp_path / "ends.py"
    script.write_text(ENDS)
    log = tmp_path / "ends.log"
    subprocess.run(["strace", "-f", "-ttt", "-T", "-yy", "-o", log, sys.executable, script], check=True, timeout=60)
    path, _ = pipeline.import_strace(log)
    pipeline.record([str(script)], tmp_path / "recorded.qtrace", python=sys.executable)
    assert _long_waits(path) == _long_waits(tmp_path / "recorded.qtrace")
    assert pipeline.explain(path).kind is VerdictKind.FINISHED
    trace = pipeline.load(path)
    assert trace.processes["exit_code"].tolist() == [0, 0]
    assert trace.processes["name"].tolist() == ["ends.py", "child 1 of ends.py"]


def _long_waits(path: Path) -> list[tuple[str, str, str, int | None]]:
    trace = pipeline.load(path)
    order = {tid: place for place, tid in enumerate(trace.threads.sort_values("start_ns")["tid"])}
    kinds = trace.objects.set_index("object_id")["kind"]
    found = []
    for wait in trace.waits[trace.waits["end_ns"] - trace.waits["start_ns"] > 500_000_000].itertuples():
        kind = str(wait.kind).replace("thread-join", "lock")
        on = kinds.get(wait.object_id) if isinstance(wait.object_id, str) else None
        waker = None if pd.isna(wait.woken_by) else order[wait.woken_by]
        found.append((f"thread {order[wait.tid]}", kind, str(on), waker))
    assert len(found) == 6
    return sorted(found, key=lambda one: one[0])  # each thread's in the order of time


STRUCK_TOGETHER = """\
100 1000000000.000000 execve("/usr/bin/python3", ["python3", "app.py"], 0x7ffd00000000) = 0 <0.000500>
100 1000000000.010000 pipe2([3<pipe:[55]>, 4<pipe:[55]>], O_CLOEXEC) = 0 <0.000010>
100 1000000000.020000 clone(child_stack=NULL, flags=SIGCHLD, child_tidptr=0x7f0000000a10) = 101 <0.000300>
101 1000000000.021000 read(3<pipe:[55]>,  <unfinished ...>
100 1000000000.022000 wait4(101,  <unfinished ...>
100 1000000002.000000 <... wait4 resumed>0x7ffd00000100, 0, NULL) = ? ERESTARTSYS <1.978000>
101 1000000002.000050 <... read resumed>0x7ffd00000200, 4) = ? ERESTARTSYS <1.979050>
101 1000000002.000070 --- SIGINT {si_signo=SIGINT, si_code=SI_USER, si_pid=7, si_uid=0} ---
100 1000000002.000080 --- SIGINT {si_signo=SIGINT, si_code=SI_USER, si_pid=7, si_uid=0} ---
101 1000000002.000200 write(2</dev/null<char 1:3>>, "Traceback", 9) = 9 <0.000010>
100 1000000002.000250 write(2</dev/null<char 1:3>>, "Traceback", 9) = 9 <0.000010>
101 1000000002.000300 +++ exited with 1 +++
100 1000000002.000400 kill(100, SIGINT) = 0 <0.000010>
100 1000000002.000450 --- SIGINT {si_signo=SIGINT, si_code=SI_USER, si_pid=100, si_uid=0} ---
100 1000000002.000500 +++ killed by SIGINT +++
"""
"""Ctrl-C at a terminal: both processes are out of their calls before the log tells of either signal."""


def test_calls_that_a_signal_has_ended_were_in_progress_before_it(tmp_path: Path) -> None:
    """A log tells first that a call was interrupted, and then by what; the verdict is the one of before both."""
    log = tmp_path / "together.log"
    log.write_text(STRUCK_TOGETHER)
    verdict = pipeline.explain(pipeline.import_strace(log)[0])
    assert verdict.kind is VerdictKind.DEADLOCK
    assert [wait.call_name for wait in verdict.chain] == ["wait4", "read"]


@needs_strace
def test_a_program_that_somebody_ends_is_judged_before_that(tmp_path: Path) -> None:
    """Ctrl-C wakes everybody: the log goes on with tracebacks, and the answer is the hang before."""
    log = tmp_path / "a.log"
    with running(["strace", "-f", "-ttt", "-T", "-yy", "-o", str(log), sys.executable, str(HANGS)]) as process:
        wait_until(lambda: _is_stuck(process.pid), 60, "the hang")
        for member in tree(process.pid)[1:]:
            os.kill(member, signal.SIGINT)
        wait_until(lambda: "SIGINT {" in log.read_text() and len(tree(process.pid)) < 3, 60, "the end of the child")
    verdict = pipeline.explain(pipeline.import_strace(log)[0])
    assert verdict.kind is VerdictKind.DEADLOCK
    assert [wait.call_name for wait in verdict.chain] == ["wait4", "futex", "write"]


PROGRAMS = Path(__file__).parents[1] / "programs"


@needs_strace
@pytest.mark.parametrize(
    ("program", "kind", "waiting", "chain"),
    [
        ("quiet/barrier_with_sleeper.py", VerdictKind.TIMED, 2, ["child-exit", "lock", "sleep"]),
        ("hangs/spawned_lock_order.py", VerdictKind.DEADLOCK, 2, ["child-exit", "lock", "lock"]),
        ("hangs/fifos_both_read.py", VerdictKind.DEADLOCK, 0, ["pipe-empty", "pipe-empty"]),
    ],
)
def test_locks_and_fifos_between_processes(
    program: str, kind: VerdictKind, waiting: int, chain: list[str], tmp_path: Path
) -> None:
    """Which semaphore is which, and who has it mapped without ever having waited for it, is in the mappings."""
    log = tmp_path / "a.log"

    def has_come() -> bool:
        seen = _look(process.pid)
        if seen is None:
            return False
        on_locks = [wait for wait in seen.waits if wait.kind in (WaitKind.LOCK, WaitKind.SEMAPHORE, WaitKind.CONDITION)]
        return seen.kind is kind and len(on_locks) >= waiting

    with running(
        ["strace", "-f", "-ttt", "-T", "-yy", "-o", str(log), sys.executable, str(PROGRAMS / program)]
    ) as process:
        try:
            wait_until(has_come, 60, program)
        finally:
            members = tree(process.pid)[1:]
            process.kill()
            for member in members:
                end_tree(member)
    verdict = pipeline.explain(pipeline.import_strace(log)[0])
    assert verdict.kind is kind
    assert [str(wait.kind).replace("semaphore", "lock") for wait in verdict.chain][-len(chain) :] == chain


TERMINAL = """\
# 4101 is the parent, 4117 its child
write(1, "joined, 1 in queue\\n", 19joined, 1 in queue
) = 19
[pid  4117] futex(0x7f11c4000d50, FUTEX_WAIT_PRIVATE, 0, NULL <unfinished ...>
[pid  4101] wait4(4117,
"""
ATTACHED = """\
getpid()                                = 800
clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLDstrace: Process 801 attached
 <unfinished ...>
[pid   801] getpid( <unfinished ...>
[pid   800] <... clone resumed>, child_tidptr=0x7f28) = 801
[pid   801] <... getpid resumed>)       = 801
[pid   800] close(4 <unfinished ...>
[pid   801] exit_group(0)               = ?
[pid   800] <... close resumed>)        = 0
[pid   801] +++ exited with 0 +++
wait4(801, [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 801
+++ exited with 0 +++
"""
INTERRUPTED = """\
read(3, 0x7f60f7a8d050, 4)              = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
--- SIGWINCH {si_signo=SIGWINCH, si_code=SI_KERNEL} ---
read(3, ^C0x7f60f7a8d050, 4)              = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
"""


def test_lines_copied_from_a_terminal_can_be_explained(tmp_path: Path) -> None:
    """The program's own output stands in the middle; the parent is the one who waits for the other."""
    log = tmp_path / "lines.txt"
    log.write_text(TERMINAL)
    path, done = pipeline.import_strace(log)
    assert (done.calls, done.processes) == (3, 2)
    assert any("1 lines were nothing" in note for note in done.notes)
    trace = pipeline.load(path)
    assert trace.syscalls[["tid", "name", "unfinished"]].values.tolist() == [
        [4101, "write", False],
        [4117, "futex", True],
        [4101, "wait4", True],
    ]
    assert trace.syscalls["ret"].iloc[0] == 19
    verdict = pipeline.explain(path)
    assert (verdict.kind, verdict.certainty, verdict.pattern) == (VerdictKind.ORPHANED, Certainty.LIKELY, None)
    assert [wait.tid for wait in verdict.chain] == [4101, 4117]
    waits = {wait.tid: wait for wait in verdict.waits}
    assert (waits[4101].kind, waits[4117].kind) == (WaitKind.CHILD_EXIT, WaitKind.LOCK)
    assert [provider.pid for provider in waits[4101].providers] == [4117]


def test_lines_without_a_pid_are_those_of_the_only_process(tmp_path: Path) -> None:
    """On a terminal strace says which process it is only as long as there are several."""
    log = tmp_path / "lines.txt"
    log.write_text(ATTACHED)
    read = read_log([log])
    assert read.skipped == 0
    assert [(call.tid, call.name, call.result) for call in read.calls] == [
        (800, "getpid", "800"),
        (800, "clone", "801"),
        (801, "getpid", "801"),
        (800, "close", "0"),
        (801, "exit_group", "?"),
        (800, "wait4", "801"),
    ]
    assert [(event.tid, event.what) for event in read.events] == [(801, "exited"), (800, "exited")]
    assert pipeline.explain(pipeline.import_strace(log)[0]).kind is VerdictKind.FINISHED


def test_an_interrupted_call_that_goes_on_is_one_wait(tmp_path: Path) -> None:
    """The kernel makes it again after a signal without a handler: it has not returned at the end."""
    log = tmp_path / "lines.txt"
    log.write_text(INTERRUPTED)
    trace = pipeline.load(pipeline.import_strace(log)[0])
    assert trace.syscalls[["name", "unfinished"]].values.tolist() == [["read", True]]
    assert trace.waits["unfinished"].tolist() == [True]


WHOLE = """\
900 10:00:00.000000 execve("/usr/bin/python3", ["python3", "-m", "app"], 0x7ffc /* 9 vars */) = 0 <0.000100>
900 10:00:00.100000 pipe2([3<pipe:[77]>, 4<pipe:[77]>], O_CLOEXEC) = 0 <0.000010>
900 10:00:00.200000 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>
901 10:00:00.200100 write(4<pipe:[77]>, "\\0\\0\\0\\5) = 9", 9 <unfinished ...>
900 10:00:00.200200 <... clone resumed>, child_tidptr=0x7f0) = 901 <0.000200>
901 10:00:00.200300 <... write resumed>) = 9 <0.000200>
900 10:00:00.200400 poll([{fd=3<pipe:[77]>, events=POLLIN}], 1, 500) = 1 ([{fd=3, revents=POLLIN}]) <0.000010>
900 10:00:00.200500 read(3<pipe:[77]>, "\\0\\0\\0\\5", 4) = 4 <0.000010>
900 10:00:00.200600 read(9, 0x7ffc, 4) = -1 EBADF (Bad file descriptor) <0.000010>
901 10:00:00.300000 nanosleep({tv_sec=1, tv_nsec=500},  <unfinished ...>
900 10:00:00.300100 wait4(901,  <unfinished ...>
901 10:00:00.400000 <... nanosleep resumed> <unfinished ...>) = ?
901 10:00:00.400100 +++ killed by SIGSEGV (core dumped) +++
900 10:00:00.400200 <... wait4 resumed>[{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV}], 0, NULL) = 901 <0.1001>
900 10:00:00.400300 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_DUMPED, si_pid=901, si_uid=5, si_status=SIGSEGV} ---
900 10:00:00.400400 exit_group(3)     = ?
900 10:00:00.400500 +++ exited with 3 +++
"""


def test_every_field_of_a_small_log(tmp_path: Path) -> None:
    """Times, arguments, results, heads, births, deaths, signals and what descriptors were."""
    log = tmp_path / "small.log"
    log.write_text(WHOLE)
    with TraceReader(pipeline.import_strace(log)[0]) as reader:
        calls = reader.calls()
        rows = {table: reader.rows(table) for table in ("processes", "lifecycle", "sightings", "losses")}
        meta = reader.meta
    second, ms = 1_000_000_000, 1_000_000
    named = [(int(call["start_ns"]), int(call["dur_ns"]), int(call["tid"]), int(call["nr"])) for call in calls]
    assert named == [
        (second, 100_000, 900, 59),
        (second + 100 * ms, 10_000, 900, 293),
        (second + 200 * ms, 200_000, 900, 56),
        (second + 200 * ms + 100_000, 200_000, 901, 1),
        (second + 200 * ms + 400_000, 10_000, 900, 7),
        (second + 200 * ms + 500_000, 10_000, 900, 0),
        (second + 200 * ms + 600_000, 10_000, 900, 0),
        (second + 300 * ms, 100 * ms + 100_000, 901, 35),
        (second + 300 * ms + 100_000, 100_100_000, 900, 61),
        (second + 400 * ms + 400_000, 100_000, 900, 231),
    ]
    assert calls["ret"].tolist() == [0, 0, 901, 9, 1, 4, -9, 0, 901, 0]
    assert (calls["flags"] & 1).tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 1]
    assert int(calls["flags"][7]) & 64  # died inside
    assert calls["head"].tolist() == [
        0, 3 | 4 << 32, 0, int.from_bytes(b"\0\0\0\x05) = ", "little"), 3 | 1 << 32 | 1 << 48,
        int.from_bytes(b"\0\0\0\x05", "little"), 0, 1_000_000_500, 11, 0,
    ]  # fmt: skip
    assert calls["a0"].tolist()[2] == 0x200000 | 0x1000000 | 17
    assert [(row[0], row[2], row[3], json.loads(row[4]), row[9], row[10]) for row in rows["processes"]] == [
        (900, 0, "-m app", ["python3", "-m", "app"], 3, None),
        (901, 900, "-m app", ["python3", "-m", "app"], None, 11),
    ]
    assert [row[1:5] for row in sorted(rows["lifecycle"])] == [
        (900, 900, "clone", 901),
        (901, 901, "exit", 11 | 0x80),
        (900, 900, "signal", 17),
        (900, 900, "exit", 3 << 8),
    ]
    assert [row[1:6] for row in rows["sightings"]] == [
        (900, 3, "pipe:[77]", "pipe:[77]", "r"),
        (900, 4, "pipe:[77]", "pipe:[77]", "w"),
    ]
    assert meta["engine"] == "strace-log"
    assert meta["root_pid"] == "900"
    assert [row[4] for row in rows["losses"]] == ["A log has no Python lines and no levels of pipes."]


def test_words_of_a_line() -> None:
    """Commas in strings, structs and names of descriptors do not separate arguments."""
    assert split_arguments('3<UNIX-STREAM:[7->8,"/a,b"]>, "x, \\"y", [{a=1, b=2}], A|B /* c, d */') == [
        '3<UNIX-STREAM:[7->8,"/a,b"]>', '"x, \\"y"', "[{a=1, b=2}]", "A|B /* c, d */",
    ]  # fmt: skip
    words = ("0x10", "-1", "0600", "0", "NULL", "3<pipe:[9]>", "POLLIN|POLLOUT", "AT_FDCWD</>")
    assert [number(word) for word in words] == [16, -1, 384, 0, 0, 3, 5, -100]
    assert number("FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME") == 9 | 128 | 256
    assert number("SOME_FLAG_OF_TOMORROW") is None
    assert c_string(r'"\0\12a\x41\n\"\\"...') == b'\0\naA\n"\\'
    assert descriptors_in("1</dev/pts/1<char 136:1>>, 5<TCP:[1.2.3.4:5->6.7.8.9:10]>") == [
        (1, "/dev/pts/1<char 136:1>"),
        (5, "TCP:[1.2.3.4:5->6.7.8.9:10]"),
    ]
    assert poll_set("[{fd=3<pipe:[1]>, events=POLLIN}, {fd=4, events=POLLOUT|POLLERR}]") == [(3, 1), (4, 12)]
    assert wait_status("[{WIFEXITED(s) && WEXITSTATUS(s) == 7}]") == 7 << 8
    assert wait_status("[{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}]") == 19 << 8 | 0x7F


@pytest.mark.parametrize(
    ("first", "stamps"),
    [("", ""), ("23:59:59 ", "clock"), ("1700000000.000001 ", "epoch"), ("     0.000002 ", "relative")],
)
def test_time_stamps_are_told_apart(first: str, stamps: str, tmp_path: Path) -> None:
    """None, of the day, since 1970, and since the line before."""
    log = tmp_path / "a.log"
    log.write_text(f"{first}close(3) = 0\n7 {first}close(4) = 0\n[pid 8] {first}close(5) = 0\n")
    read = read_log(log_files(log))
    assert [call.name for call in read.calls] == ["close"] * 3
    assert read.stamps == stamps
    assert read.skipped == 0
    starts = [call.start_ns for call in read.calls]
    assert starts == sorted(set(starts))


def test_midnight_is_no_step_back(tmp_path: Path) -> None:
    """A time of day that falls by hours is the next day's."""
    log = tmp_path / "a.log"
    log.write_text("23:59:59.900000 close(3) = 0\n00:00:00.100000 close(4) = 0\n")
    first, second = read_log([log]).calls
    assert second.start_ns - first.start_ns == 200_000_000


@pytest.mark.parametrize("seed", range(40))
def test_a_mangled_log_is_read_as_far_as_it_goes(seed: int, tmp_path: Path) -> None:
    """Whatever an editor, a pager or a full disk did to it: no line makes the import fail."""
    choose = random.Random(seed)
    lines = "".join(choose.choices([WHOLE, TERMINAL, ATTACHED, INTERRUPTED], k=2)).splitlines()
    for _ in range(choose.randint(1, 25)):
        place = choose.randrange(len(lines))
        line = lines[place]
        cut = choose.randrange(len(line) + 1)
        lines[place] = choose.choice(
            [
                line[:cut],
                line[cut:],
                line[:cut] + choose.choice('"([{<\\,=)]}>+- \x00\ud800é7') + line[cut:],
                line[:cut] + choose.choice(lines)[cut:],
                re.sub(r"\d+", lambda _: str(choose.choice([0, -1, 7, 2**31, 2**63, 10**30])), line, count=1),
                choose.choice(lines),
            ]
        )
    log = tmp_path / "a.log"
    log.write_text("\n".join(["900 close(3) = 0", *lines]), encoding="utf-8", errors="surrogatepass")
    path, done = pipeline.import_strace(log)
    assert done.calls > 0
    assert len(pipeline.load(path).syscalls) == done.calls
    pipeline.explain(path)


def test_a_file_without_calls_is_refused(tmp_path: Path) -> None:
    """Any text could be named by mistake."""
    log = tmp_path / "notes.txt"
    log.write_text("Dear diary,\n")
    found = subprocess.run([sys.executable, "-m", "qtrace", "import", log], capture_output=True, text=True)
    assert found.returncode == 2
    assert "nothing in" in found.stderr
    assert not log.with_suffix(".qtrace").exists()
