"""32-bit programs on a 64-bit kernel run as without a tracer, and their calls are recorded as strace sees them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from qtrace.capture import perf_events
from qtrace.capture.procfs import ImageKind, kind_of
from qtrace.model import i386
from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture, by_name, number_of
from qtrace.tracefile.reader import TraceReader
from tests.capture.behaviours import cannot_compile, needs_compiler, program, record_words, recorded, run
from tests.capture.call_sequences import differences, of_recording, run_strace, without
from tests.support.processes import qtrace, running, stat_fields, wait_until

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_32.h")
PROGRAMS = Path(__file__).resolve().parent / "programs"
BEHAVIOURS = (
    "tree:fork", "tree:vfork-exec", "tree:thread", "tree:clone3", "tree:clone-parent", "tree:clone-files",
    "tree:clone-vm", "tree:clone-untraced", "tree:posix-spawn", "tree:double-fork", "tree:fork-in-thread",
    "signals:handler", "signals:read-restarted", "signals:nanosleep-eintr", "signals:poll-eintr",
    "signals:sigtimedwait", "signals:sigsuspend", "signals:sleep-across-a-stop", "execs:exec", "execs:exec-script",
    "execs:pipeline", "execs:exec-in-children", "calls:pipe", "calls:full-pipe", "calls:poll-and-select",
    "calls:epoll", "calls:scm-rights", "calls:unix-socket", "calls:dup-and-close-range", "calls:vectors",
    "calls:flock", "calls:turns", "calls:own-filter", "calls:unknown-call",
)  # fmt: skip

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="32-bit programs of another machine"),
    pytest.mark.skipif(bool(cannot_compile("-m32")), reason="gcc makes no 32-bit programs here (gcc-multilib)"),
]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_32_bit_program_is_recorded_as_strace_sees_it(behaviour: str, tmp_path: Path) -> None:
    """The same output and end as bare; the same calls, results and order per thread as under strace."""
    family, _, name = behaviour.partition(":")
    argv = [str(program(family, "-m32")), name]
    assert recorded(argv, tmp_path / "run.qtrace") == run(argv)
    # Which child of clone-untraced is traced is for strace another question.
    left_out = frozenset({"futex"})
    expected = without(run_strace(argv, tmp_path / "log"), left_out)
    actual = without(of_recording(tmp_path / "run.qtrace"), left_out)
    if name == "clone-untraced":
        assert len(actual) > len(expected)
        actual = {thread: calls for thread, calls in actual.items() if thread in expected}
    assert expected["0"], "strace saw nothing"
    assert differences(expected, actual) == []


@pytest.mark.parametrize("behaviour", ["tree:clone-untraced", "calls:unix-socket", "signals:sleep-across-a-stop"])
def test_without_the_filter_it_is_the_same(behaviour: str, tmp_path: Path) -> None:
    """Where every call stops, 32-bit calls are told by what the kernel says of each."""
    family, _, name = behaviour.partition(":")
    argv = [str(program(family, "-m32")), name]
    assert recorded(argv, tmp_path / "run.qtrace", "--no-seccomp") == run(argv)
    assert of_recording(tmp_path / "run.qtrace").keys()
    with TraceReader(tmp_path / "run.qtrace") as reader:
        assert any(call["flags"] & CallFlag.COMPAT for call in reader.calls())


@pytest.mark.skipif(bool(perf_events.why_not()), reason="the perf engine cannot be used here")
@pytest.mark.parametrize("behaviour", ["tree:fork", "calls:unix-socket", "calls:turns", "execs:pipeline"])
def test_the_perf_engine_has_its_calls_from_stops(behaviour: str, tmp_path: Path) -> None:
    """The rings tell numbers alone, which mean other calls in the 64-bit table: those are left out."""
    family, _, name = behaviour.partition(":")
    argv = [str(program(family, "-m32")), name]
    assert recorded(argv, tmp_path / "run.qtrace", "--engine", "perf") == run(argv)
    left_out = frozenset({"futex"})
    expected = without(run_strace(argv, tmp_path / "log"), left_out)
    assert differences(expected, without(of_recording(tmp_path / "run.qtrace"), left_out)) == []


def test_the_table_is_that_of_the_kernels_header() -> None:
    """Each number is that of the call, or of the older one that does the same."""
    if not HEADER.exists():
        pytest.skip(f"no {HEADER}")
    numbers = {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}
    older = {7: "waitpid", 72: "sigsuspend", 142: "_newselect", 221: "fcntl64"}
    for number, name in i386.NAMES.items():
        said = numbers.get(number)
        if said is not None:  # the header may be older than the call
            assert said in (name, f"{name}_time64", older.get(number))
    known = {name.removesuffix("_time64"): number for number, name in numbers.items()}
    missing = {row.name for row in by_name().values() if row.recorded and row.x86_64 is not None} & known.keys()
    assert missing <= set(i386.NAMES.values()), "a recorded call has no 32-bit number"


def test_short_times_are_read_as_such(tmp_path: Path) -> None:
    """nanosleep, clock_nanosleep and futex with a struct timespec of 32-bit words; a 64-bit program after exec."""
    target = tmp_path / "short"
    subprocess.run(["gcc", "-m32", "-o", target, PROGRAMS / "short_times.c"], check=True)
    seen = run(record_words(tmp_path / "run.qtrace", [str(target)]))
    assert seen.output == "0 0 110\n64 bits\n"
    with TraceReader(tmp_path / "run.qtrace") as reader:
        calls = [call for call in reader.calls() if call["flags"] & CallFlag.COMPAT]
        names = ("nanosleep", "clock_nanosleep", "futex")
        wanted = {number_of(name, Architecture.X86_64): name for name in names}
        heads = {wanted[int(call["nr"])]: int(call["head"]) for call in calls if int(call["nr"]) in wanted}
        assert heads == {"nanosleep": 2_000_001, "clock_nanosleep": 3_000_002, "futex": 4_000_003}
        assert any(not call["flags"] & CallFlag.COMPAT for call in reader.calls()), "the 64-bit program's calls"


def test_a_running_32_bit_program_is_explained_and_attached_to(tmp_path: Path) -> None:
    """The live call has its right name (32-bit numbers mean other calls in the 64-bit table), and stays one wait."""
    target = tmp_path / "waits"
    source = (
        '#include <unistd.h>\nint main(void) { int p[2]; char c; pipe(p); write(1, "x", 1); return read(p[0], &c, 1); }'
    )
    subprocess.run(["gcc", "-m32", "-x", "c", "-o", target, "-"], input=source, text=True, check=True)
    with running([str(target)]) as process:
        wait_until(lambda: (stat_fields(process.pid) or "R")[0] == "S", what="the read")
        said = qtrace("explain", str(process.pid)).stdout
        assert "read(3, " in said
        recording = tmp_path / "a.qtrace"
        done = qtrace("record", "-q", "-o", str(recording), "-p", str(process.pid), "--duration", "0.3")
        assert done.status == 0, done.stderr
    with TraceReader(recording) as reader:
        (call,) = reader.calls()
    assert int(call["nr"]) == number_of("read", Architecture.X86_64)
    assert int(call["flags"]) & ~int(CallFlag.RESTARTED) == CallFlag.AT_ATTACH | CallFlag.UNFINISHED | CallFlag.COMPAT


def test_programs_are_told_apart_by_their_header(tmp_path: Path) -> None:
    """64-bit, 32-bit, and x32 (32-bit addresses, 64-bit calls), which is not recorded and said to be missing."""
    for option, kind in (("-m64", ImageKind.NATIVE), ("-m32", ImageKind.I386), ("-mx32", ImageKind.X32)):
        target = tmp_path / option
        subprocess.run(["gcc", option, "-c", "-x", "c", "-o", target, "-"], input="int x;", text=True, check=True)
        assert kind_of(target.read_bytes()[:20]) is kind
    assert kind_of(b"#!/bin/sh\n") is ImageKind.NATIVE
