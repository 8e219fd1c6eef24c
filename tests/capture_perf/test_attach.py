"""A running tree is recorded by perf without a single stop, and what comes out of it is followed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from qtrace.model.records import CallFlag
from qtrace.model.syscalls import Architecture, number_of
from qtrace.tracefile.reader import TraceReader
from tests.capture.test_attach import BUSY
from tests.support.engines import command, needs_perf
from tests.support.processes import qtrace, running, stat_fields, tree, wait_until
from tests.support.truth import wait_until_it_stands

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GROWS = Path(__file__).resolve().parent / "programs" / "grows.py"
ROUNDS = 5

pytestmark = needs_perf


def attached(pid: int, recording: Path, *options: str) -> list[str]:
    """Return the command that records a running program by perf."""
    return command("perf", "record", "-q", "-f", "-o", str(recording), "-p", str(pid), *options)


def status_of(pid: int, name: str) -> list[str]:
    """Return a field of /proc/TID/status of every thread of a tree."""
    found = []
    for member in tree(pid):
        for tid in os.listdir(f"/proc/{member}/task"):
            lines = Path(f"/proc/{member}/task/{tid}/status").read_text().splitlines()
            found += [line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:")]
    return found


def is_begun(recording: Path) -> bool:
    """Whether a recorder has written what it found."""
    try:
        with TraceReader(recording) as reader:
            return bool(reader.rows("threads"))
    except Exception:  # noqa: BLE001 - not there yet, in whatever state
        return False


def test_a_busy_tree_is_joined_and_let_go_without_a_stop(tmp_path: Path) -> None:
    """Nobody is ever traced, every number arrives, and of each thread calls neither overlap nor come twice."""
    script, chance, seen = tmp_path / "busy.py", random.Random(11), 0
    script.write_text(BUSY)
    with running([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in range(ROUNDS):
            recording = tmp_path / f"{number}.qtrace"
            # Large rings: on a machine that runs other tests beside, nobody may come to empty them for a while.
            options = ("--perf-buffer", "96M", "--duration", f"{chance.uniform(0.2, 0.6):.3f}")
            with running(attached(process.pid, recording, *options)) as recorder:
                wait_until(lambda file=recording: is_begun(file), what="the attach")  # type: ignore[misc]
                assert set(status_of(process.pid, "TracerPid")) == {"0"}
                assert recorder.wait(60) == 0
            with TraceReader(recording) as reader:
                calls, threads = reader.calls(), reader.rows("threads")
                assert not reader.damage
                assert [row for row in reader.rows("losses") if row[3] != "limit"] == []
                assert "no stops" in reader.meta["lacks"]
            assert {int(tid) for tid in np.unique(calls["tid"])} <= {row[0] for row in threads}
            for tid in np.unique(calls["tid"]).tolist():
                mine = calls[calls["tid"] == tid]
                assert np.all(mine["start_ns"][1:] >= (mine["start_ns"] + mine["dur_ns"])[:-1]), tid
            seen += len(calls)
        out, _ = process.communicate(input="", timeout=60)
    assert out == "right\n"
    assert seen > 1_000 * ROUNDS


def test_what_comes_out_of_the_tree_is_followed(tmp_path: Path) -> None:
    """Threads, children, exec, exit codes, signals with their senders, and the end of the program itself."""
    recording = tmp_path / "a.qtrace"
    with running([sys.executable, str(GROWS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with running(attached(process.pid, recording)) as recorder:
            wait_until(lambda: is_begun(recording), what="the attach")
            out, _ = process.communicate(input="", timeout=60)
            assert process.returncode == 7
            assert recorder.wait(60) == 7
    first, second, third = map(int, out.split())
    root = process.pid
    with TraceReader(recording) as reader:
        ended = {row[0]: (row[2], row[9], row[10]) for row in reader.rows("processes") if row[8] is not None}
        images = {row[0]: row[3] for row in reader.rows("processes") if row[1] > 0}
        threads = [row for row in reader.rows("threads") if row[1] == root and row[0] != root]
        lifecycle = reader.rows("lifecycle")
        calls = reader.calls()
    own = os.getpid()
    assert ended == {
        root: (own, 7, None), first: (root, 3, None), second: (root, 0, None), third: (root, None, signal.SIGTERM),
    }  # fmt: skip
    assert images == {second: "true"}
    assert len(threads) == 1
    assert threads[0][3] == root
    assert threads[0][6] is not None
    signals = [(row[1], row[4], json.loads(row[5]).get("pid")) for row in lifecycle if row[3] == "signal"]
    assert (third, signal.SIGTERM, root) in signals
    pauses = calls[(calls["pid"] == third) & (calls["nr"] == number_of("pause", Architecture.X86_64))]
    assert pauses["flags"].tolist() == [CallFlag.FROM_PERF | CallFlag.UNFINISHED | CallFlag.KILLED]
    waits = calls[(calls["tid"] == root) & (calls["nr"] == number_of("wait4", Architecture.X86_64))]
    assert waits["ret"].tolist() == [first, second, third]


def test_a_call_in_progress_at_the_attach_is_recorded_as_such(tmp_path: Path) -> None:
    """It is marked, and unfinished as long as it goes on; the one that returns has its result."""
    recording = tmp_path / "a.qtrace"
    code = "import sys, threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); "
    with running([sys.executable, "-c", code + "sys.stdin.read(1)"], stdin=subprocess.PIPE) as process:
        wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/task")) == 2, what="the thread")
        wait_until(lambda: (stat_fields(process.pid) or "R")[0] == "S", what="the read")
        with running(attached(process.pid, recording)) as recorder:
            wait_until(lambda: is_begun(recording), what="the attach")
            process.communicate(input="x", timeout=60)
            assert recorder.wait(60) == 0
    with TraceReader(recording) as reader:
        calls = reader.calls()
        assert reader.rows("losses") == []
    known = {number_of(name, Architecture.X86_64): name for name in ("read", "clock_nanosleep")}
    marked = calls[(calls["flags"] & int(CallFlag.AT_ATTACH)) != 0]
    found = {
        known[int(call["nr"])]: (int(call["ret"]), bool(call["flags"] & int(CallFlag.UNFINISHED))) for call in marked
    }
    assert found == {"read": (1, False), "clock_nanosleep": (0, True)}


def test_a_hang_is_explained(tmp_path: Path) -> None:
    """The first example, run bare and joined when it hangs: the verdict is that on the running program."""
    recording = tmp_path / "a.qtrace"
    with running([sys.executable, str(EXAMPLES / "join_before_get.py")]) as process:
        wait_until_it_stands(process.pid, 2.0)
        bare = json.loads(qtrace("explain", "--json", str(process.pid)).stdout)
        with running(attached(process.pid, recording, "--duration", "0.5")) as recorder:
            assert recorder.wait(60) == 0
    joined = json.loads(qtrace("explain", "--json", str(recording)).stdout)
    for answer in (bare, joined):
        assert (answer["verdict"], answer["certainty"], answer["pattern"]) == (
            "deadlock",
            "proven",
            "join-before-drain",
        )
        assert [link["kind"] for link in answer["chain"]] == ["child-exit", "thread-join", "pipe-full"]


def test_an_interrupt_lets_go(tmp_path: Path) -> None:
    """Ctrl-C ends the recording, not the program."""
    recording = tmp_path / "a.qtrace"
    with running([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        with running(attached(process.pid, recording)) as recorder:
            wait_until(lambda: is_begun(recording), what="the attach")
            recorder.send_signal(signal.SIGINT)
            assert recorder.wait(30) == 0
        assert process.poll() is None
    with TraceReader(recording) as reader:
        assert reader.meta["end_reason"] == "detach"
