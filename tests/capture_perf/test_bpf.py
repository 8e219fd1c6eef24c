"""Rings that programs of BPF fill: the same records as perf's, of those who are followed and of nobody else."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qtrace.capture import bpf, bpf_programs, bpf_rings
from qtrace.capture.bpf_programs import FOLLOWED_WORDS, MARKS, Targets
from qtrace.capture.machine import architecture
from qtrace.capture.perf_engine import hot_numbers
from qtrace.model.syscalls import Architecture, number_of
from qtrace.tracefile.reader import TraceReader
from qtrace.tracefile.rings import ENTER, EXIT, records_of
from tests.capture.behaviours import needs_compiler, program
from tests.capture.call_sequences import differences, of_recording
from tests.support.engines import command, needs_perf
from tests.support.processes import in_session, running, wait_until

WHY_NOT = bpf_rings.why_not()
pytestmark = [needs_perf, pytest.mark.skipif(bool(WHY_NOT), reason=f"no programs of BPF here: {WHY_NOT}")]

MACHINE = architecture()
READ = number_of("read", MACHINE)
SMALL_BYTES = 64 << 10


@pytest.fixture
def rings() -> Iterator[bpf_rings.BpfRings]:
    """Small rings, which follow nobody yet."""
    made = bpf_rings.BpfRings(MACHINE, hot_numbers(MACHINE), SMALL_BYTES)
    yield made
    made.close()


def _taken(rings: bpf_rings.BpfRings) -> tuple[np.ndarray, np.ndarray, int]:
    """Return entries and exits of this thread's reads, in order, and how many records are said to be lost."""
    found, gone = [], 0
    for of_kind, layout in ((rings.enters, ENTER), (rings.exits, EXIT)):
        pieces = []
        for ring in of_kind:
            records, lost = records_of(ring.take(), layout)
            gone += lost
            pieces += [piece[(piece["nr"] == READ) & (piece["tid"] == threading.get_native_id())] for piece in records]
        every = np.concatenate(pieces) if pieces else np.zeros(0, layout)
        found.append(every[np.argsort(every["time"], kind="stable")])
    return found[0], found[1], gone


def _read_zeros(sizes: range) -> None:
    with open("/dev/zero", "rb", buffering=0) as zeros:
        for size in sizes:
            os.read(zeros.fileno(), size)


def test_each_call_has_an_entry_and_an_exit_as_perf_gives_them(rings: bpf_rings.BpfRings) -> None:
    """Who, when, which call, its arguments, and what it returned; also where the ring has begun anew many times."""
    rings.follow(os.getpid(), True)
    for turn in range(40):
        sizes = range(1 + turn * 100, 101 + turn * 100)
        before = time.monotonic_ns()
        _read_zeros(sizes)
        after = time.monotonic_ns()
        enters, exits, lost = _taken(rings)
        assert lost == 0
        assert enters["args"][:, 2].tolist() == exits["ret"].tolist() == list(sizes)
        assert set(enters["pid"]) == set(exits["pid"]) == {os.getpid()}
        assert (enters["time"] <= exits["time"]).all()
        assert before <= enters["time"][0]
        assert exits["time"][-1] <= after


def test_what_finds_no_room_is_counted(rings: bpf_rings.BpfRings) -> None:
    """What was taken and what is said to be lost is what there was."""
    rings.follow(os.getpid(), True)
    count = 4 * SMALL_BYTES // ENTER.itemsize
    _read_zeros(range(1, count + 1))
    rings.follow(os.getpid(), False)
    enters, exits, lost = _taken(rings)
    assert lost > 0
    others = lost + len(enters) + len(exits) - 2 * count
    assert others >= 0, "a record is neither there nor counted"
    assert sum(ring.lost() for ring in rings) == lost
    assert enters["args"][:, 2].tolist() == list(range(1, len(enters) + 1)), "what came first is kept"
    assert _taken(rings)[2] == 0, "nothing is said to be lost twice"


def test_only_who_is_followed_is_recorded(rings: bpf_rings.BpfRings) -> None:
    """Not before it is followed, not after it has been left; to leave somebody who was never followed is no error."""
    _read_zeros(range(1, 10))
    rings.follow(os.getpid(), True)
    _read_zeros(range(10, 20))
    rings.follow(os.getpid(), False)
    rings.follow(os.getpid(), False)
    _read_zeros(range(20, 30))
    enters, exits, _ = _taken(rings)
    assert enters["args"][:, 2].tolist() == exits["ret"].tolist() == list(range(10, 20))


def test_who_has_made_a_call_is_known_without_the_records(rings: bpf_rings.BpfRings) -> None:
    """A child that ends at once has made none, one that reads has, and futex is told from the others."""

    def marks(action: str) -> tuple[bool, bool]:
        waits, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(waits, 1)
            os._exit(1)
        marks = rings.has_called(pid)  # whoever had this number, or one 65,536 away, may have left one
        rings.follow(pid, action != "nothing")
        os.write(go, b"g")
        os.waitpid(pid, 0)
        rings.follow(pid, False)
        for fd in (waits, go):
            os.close(fd)
        assert marks == (False, False)
        return rings.has_called(pid)

    assert marks("nothing") == (False, False)
    assert marks("read")[0]
    program = "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=0.01)"
    child = subprocess.Popen([sys.executable, "-c", f"input(); {program}"], stdin=subprocess.PIPE)
    rings.follow(child.pid, True)
    child.communicate(b"\n", timeout=60)
    rings.follow(child.pid, False)
    assert rings.has_called(child.pid) == (True, True)


def test_the_kernel_takes_programs_for_very_many_cpus() -> None:
    """The search for a CPU's ring is verified for a thousand of them."""
    followed, marks = bpf.new_words(FOLLOWED_WORDS), bpf.new_words(2 * MARKS // 8)
    counters, ring = bpf.new_words(2 * 1024), bpf.new_ring(4096)
    fds = [followed, marks, counters, ring]
    try:
        targets = Targets(followed, marks, counters, range(1024), [ring] * 1024, 1024)
        for maker in (bpf_programs.enter_program, bpf_programs.exit_program):
            fds.append(bpf.load(maker(MACHINE, hot_numbers(MACHINE), targets), "qtrace_many"))
    finally:
        for fd in fds:
            os.close(fd)


@needs_compiler
@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("tree", "fork-in-thread"),
        ("execs", "execs-in-a-row"),
        ("signals", "read-restarted"),
        ("tree", "wnohang"),
    ],
)
def test_bpf_and_perf_record_the_same_calls(family: str, name: str, tmp_path: Path) -> None:
    """The recording says which of the two it was; the calls are the same, thread by thread."""
    sequences = {}
    statuses = set()
    for kind, before in (("bpf", ()), ("perf", ("env", "QTRACE_NO_BPF=1"))):
        path = tmp_path / f"{kind}.qtrace"
        words = command("perf", "record", "-q", "-o", str(path), "--", str(program(family)), name)
        with running([*before, *words], stdout=subprocess.DEVNULL) as process:
            statuses.add(process.wait(60))
        with TraceReader(path) as reader:
            assert reader.meta["rings"] == kind
            assert list(reader.rows("losses")) == []
        sequences[kind] = of_recording(path)
    assert len(statuses) == 1
    assert sequences["perf"]["0"]
    assert differences(sequences["perf"], sequences["bpf"]) == []


def test_where_ids_are_those_of_a_container_perf_is_used(tmp_path: Path) -> None:
    """The programs see ids of the first pid namespace only; the recording has those of its own, and all calls."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace can be made here")
    script = "import os; r, w = os.pipe(); [(os.write(w, b'x'), os.read(r, 1)) for _ in range(500)]"
    words = command("perf", "record", "-q", "-o", str(tmp_path / "a.qtrace"), "--", sys.executable, "-c", script)
    assert subprocess.run([*apart, *words], timeout=60, check=False).returncode == 0
    with TraceReader(tmp_path / "a.qtrace") as reader:
        assert reader.meta["rings"] == "perf"
        calls = reader.calls()
    assert int((calls["nr"] == number_of("write", MACHINE)).sum()) >= 500
    assert set(calls["pid"].tolist()) <= set(range(100)), "ids of another namespace"


def _program_ids() -> set[int]:
    """Return the ids of all programs of BPF that the kernel has."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    get_next_id = 11  # BPF_PROG_GET_NEXT_ID
    found: set[int] = set()
    words = (ctypes.c_uint32 * 3)(0, 0, 0)
    while libc.syscall(ctypes.c_long(call), ctypes.c_long(get_next_id), words, ctypes.c_long(12)) == 0:
        words[0] = words[1]
        found.add(words[1])
    assert ctypes.get_errno() == errno.ENOENT
    return found


def test_nothing_is_left_in_the_kernel_when_the_recorder_is_killed(tmp_path: Path) -> None:
    """Programs are there while it records, and gone with it."""
    before = _program_ids()
    words = command("perf", "record", "-q", "-o", str(tmp_path / "a.qtrace"), sys.executable, "-c", "input()")
    with running(words, stdin=subprocess.PIPE) as process:
        wait_until(lambda: len(_program_ids() - before) == 2)
        for pid in in_session(process.pid):
            if Path(f"/proc/{pid}/cmdline").read_bytes().count(b"record"):
                os.kill(pid, 9)
        process.wait(30)
    wait_until(lambda: not _program_ids() - before)


def test_architectures_are_those_that_programs_are_known_for() -> None:
    """Whoever adds a machine has to say where its registers lie."""
    assert set(bpf_programs.REGISTERS) == set(Architecture)
