"""A recording as strace prints it: read back, it says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qtrace import pipeline
from qtrace.model.kinds import VerdictKind
from qtrace.model.records import CallFlag


@pytest.mark.parametrize("which", ["finished", "hung"])
def test_the_text_read_back_has_the_same_calls(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Threads, names, results and times to the microsecond, and which calls had not returned."""
    path = request.getfixturevalue(which)
    text = pipeline.export_recording(path, "strace", tmp_path / "a.strace")
    back = pipeline.load(pipeline.import_strace(text)[0])
    told = pipeline.load(path)
    names = ["tid", "name", "unfinished"]
    assert back.syscalls[names].values.tolist() == told.syscalls[names].values.tolist()
    ended = ~told.syscalls["unfinished"]
    for name in ("ret", "errno"):
        assert back.syscalls[name][ended].astype("string").equals(told.syscalls[name][ended].astype("string"))
    first = int(told.syscalls["start_ns"].iloc[0])
    shift = int(back.syscalls["start_ns"].iloc[0]) - first
    assert (back.syscalls["start_ns"] - told.syscalls["start_ns"] - shift).abs().max() <= 2_000
    numbers = ("close", "read", "write", "wait4", "futex")
    same = ended & told.syscalls["name"].isin(numbers)
    assert [args[0] for args in back.syscalls["args"][same]] == [args[0] for args in told.syscalls["args"][same]]
    heads = told.calls["flags"] & int(CallFlag.HAS_HEAD) != 0
    pipes = heads & ended.to_numpy() & (told.syscalls["name"] == "pipe2").to_numpy()
    assert pipes.any()
    assert (back.calls["head"][pipes] == told.calls["head"][pipes]).all()


def test_lines_have_the_forms_of_strace(hung: Path, tmp_path: Path) -> None:
    """Each is a call, the rest of one, a signal, or the end of a process."""
    text = pipeline.export_recording(hung, "strace", tmp_path / "a.strace").read_text()
    form = re.compile(
        r"\d+ +\d+\.\d{6} ("
        r"[a-z_0-9]+\(.*\) += (\?|-?\d+|0x[0-9a-f]+)( [A-Z]+ \(.*\))?( <\d+\.\d{6}>)?"
        r"|[a-z_0-9]+\(.* <unfinished \.\.\.>"
        r"|<\.\.\. [a-z_0-9]+ resumed>.*\) += (\?|-?\d+|0x[0-9a-f]+)( [A-Z]+ \(.*\))?( <\d+\.\d{6}>)?"
        r"|<\.\.\. [a-z_0-9]+ resumed> <unfinished \.\.\.>\) = \?"
        r"|--- SIG[A-Z]+ \{si_signo=SIG[A-Z]+, si_code=[A-Z_]+(, si_pid=\d+, si_uid=\d+)?\} ---"
        r"|\+\+\+ (exited with \d+|killed by SIG[A-Z]+) \+\+\+)"
    )
    lines = text.splitlines()
    assert len(lines) > 300
    assert [line for line in lines if not form.fullmatch(line)] == []
    tids = [line.split()[0] for line in lines if "+++" in line]
    assert len(tids) == len(set(tids)) == 3


def test_a_finished_program_stays_finished(finished: Path, tmp_path: Path) -> None:
    """The ends of its processes are in the text."""
    text = pipeline.export_recording(finished, "strace", tmp_path / "a.strace")
    assert pipeline.explain(pipeline.import_strace(text)[0]).kind is VerdictKind.FINISHED


def test_a_program_that_was_ended_because_it_hung_hangs_in_its_text(hung: Path, tmp_path: Path) -> None:
    """The signal by which it was ended is in the text, with its sender: the verdict is that of the moment before."""
    text = pipeline.export_recording(hung, "strace", tmp_path / "a.strace")
    assert re.search(r"--- SIGTERM \{si_signo=SIGTERM, si_code=SI_USER, si_pid=\d+, si_uid=\d+\} ---", text.read_text())
    back, told = pipeline.explain(pipeline.import_strace(text)[0]), pipeline.explain(hung)
    assert back.kind is told.kind is VerdictKind.DEADLOCK
    assert [wait.tid for wait in back.chain] == [wait.tid for wait in told.chain]
