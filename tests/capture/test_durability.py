"""Full disks, limits, folders that cannot be written to: nothing is lost, and the words say what to do."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qtrace.tracefile.reader import TraceReader
from tests.support.processes import Outcome, qtrace

CALLS = 40_000
BUSY = f"""
import os
source, target = os.pipe()
for number in range({CALLS}):
    os.write(target, os.urandom(1 + number % 8))
    os.read(source, 8)
print("whole")
raise SystemExit(5)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


def _mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that a second of calls fills."""
    yield from _mounted(tmp_path / "small", "size=640k")


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody can write to: root is not kept out by a mode."""
    if os.geteuid() == 0:
        for folder in _mounted(tmp_path / "readonly", "size=300k"):
            (folder / "old.qtrace").write_text("an older one")
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
            yield folder
        return
    folder = tmp_path / "readonly"
    folder.mkdir()
    (folder / "old.qtrace").write_text("an older one")
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def record(output: Path, *target: str, options: tuple[str, ...] = (), **settings: object) -> Outcome:
    """Record a target, and return how that went."""
    return qtrace("record", "-o", str(output), *options, "--", *target, **settings)  # type: ignore[arg-type]


def started(marker: Path) -> tuple[str, str]:
    """Return a target that leaves a mark when it is run."""
    return "touch", str(marker)


def refused(outcome: Outcome, *words: str) -> None:
    """Check that a command has failed with status 2 and one clear message, of no more than three lines."""
    assert outcome.status == 2, outcome.stderr
    assert outcome.stderr.startswith("qtrace: ")
    assert len(outcome.stderr.splitlines()) <= 3
    assert "Traceback" not in outcome.stderr
    for word in words:
        assert word in outcome.stderr


def partial(path: Path, why: str) -> None:
    """Check that a recording loads, has calls, and says that it ends early."""
    with TraceReader(path) as reader:
        calls = reader.calls()
        assert reader.meta["storing_ended"] == why
        assert "complete" not in reader.meta
        assert reader.damage == ""
        assert reader.start_ns < reader.end_ns
        assert os.waitstatus_to_exitcode(int(reader.meta["exit_status"])) == 5
        assert reader.meta["end_reason"] == "exit"
        assert reader.end_ns <= int(reader.meta["storing_ended_ns"]) <= int(reader.meta["program_end_ns"])
        (lost,) = [row for row in reader.rows("losses") if row[3] == "disk"]
        assert lost[2] + reader.call_count >= 2 * CALLS
    said = qtrace("explain", str(path)).stderr
    assert f"the recording ends before the program did: {why}; the program ended with exit status 5" in said
    assert 0 < len(calls) < 2 * CALLS


@needs_root
def test_on_a_full_disk_the_program_goes_on(small_disk: Path) -> None:
    """The program runs to its end; the recording holds what fitted, and everybody says so."""
    outcome = record(small_disk / "run.qtrace", sys.executable, "-c", BUSY)
    assert outcome.stdout == "whole\n"
    assert outcome.status == 2
    assert outcome.leftovers == ()
    assert "ends early: database or disk is full" in outcome.stderr
    assert "The program ran on to its end (exit status 5)" in outcome.stderr
    partial(small_disk / "run.qtrace", "database or disk is full")
    with TraceReader(small_disk / "run.qtrace") as reader:
        assert f"recorded {reader.call_count - _pending(reader):,} calls" in outcome.stderr


def _pending(reader: TraceReader) -> int:
    return len(list(reader.rows("pending")))


@needs_root
def test_a_disk_without_any_room_is_refused_before_the_program_starts(small_disk: Path) -> None:
    """Nothing is started, and no empty file is left."""
    room = os.statvfs(small_disk)
    (small_disk / "fill").write_bytes(bytes(room.f_bavail * room.f_bsize))
    marker = small_disk.parent / "marker"
    refused(record(small_disk / "run.qtrace", *started(marker)), "cannot write the recording", "-o")
    assert not marker.exists()
    assert not (small_disk / "run.qtrace").exists()


def test_a_limit_on_file_sizes_ends_the_recording_not_the_program(tmp_path: Path) -> None:
    """ulimit -f: the recording ends where the limit is, and its name is said."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (540 << 10, 540 << 10))

    outcome = record(tmp_path / "run.qtrace", sys.executable, "-c", BUSY, preexec_fn=limit)
    assert outcome.stdout == "whole\n"
    assert outcome.status == 2
    assert "the limit on the size of files is reached (ulimit -f)" in outcome.stderr
    partial(tmp_path / "run.qtrace", "the limit on the size of files is reached (ulimit -f)")


def test_a_folder_that_cannot_be_written_to_is_refused(read_only_folder: Path, tmp_path: Path) -> None:
    """Before the program starts."""
    refused(
        record(read_only_folder / "run.qtrace", *started(tmp_path / "marker")), "cannot write the recording", "with -o"
    )
    assert not (tmp_path / "marker").exists()


def test_an_old_recording_in_such_a_folder_is_kept(read_only_folder: Path, tmp_path: Path) -> None:
    """-f does not help there, and does no harm."""
    old = read_only_folder / "old.qtrace"
    refused(record(old, *started(tmp_path / "marker"), options=("-f",)), "cannot write the recording")
    assert old.read_text() == "an older one"
    assert not (tmp_path / "marker").exists()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """Before the program starts; no folder is made."""
    output = tmp_path / "missing" / "run.qtrace"
    refused(record(output, *started(tmp_path / "marker")), str(output), "Choose a file in a folder")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_ordinary_file_is_not_overwritten(tmp_path: Path) -> None:
    """A device, a FIFO or a folder named by mistake stays what it is, with its mode."""
    fifo, folder = tmp_path / "fifo", tmp_path / "folder"
    os.mkfifo(fifo, 0o644)
    folder.mkdir()
    for output in (fifo, folder, Path("/dev/null")):
        mode = output.stat().st_mode
        refused(record(output, *started(tmp_path / "marker"), options=("-f",)), "not an ordinary file")
        assert output.stat().st_mode == mode
    assert not (tmp_path / "marker").exists()


def test_an_existing_recording_is_kept_without_f(tmp_path: Path) -> None:
    """The words name the two ways out."""
    output = tmp_path / "run.qtrace"
    output.write_text("an older one")
    refused(record(output, *started(tmp_path / "marker")), "exists", "-o", "-f")
    assert output.read_text() == "an older one"
    assert not (tmp_path / "marker").exists()


def test_an_existing_recording_is_replaced_with_f(tmp_path: Path) -> None:
    """Only by a recording, and with nothing left beside it."""
    output = tmp_path / "run.qtrace"
    output.write_text("an older one")
    assert record(output, "true", options=("-f",)).status == 0
    with TraceReader(output) as reader:
        assert reader.meta["complete"] == "1"
    assert list(tmp_path.iterdir()) == [output]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def _no_format(folder: Path) -> list[str]:
    target = folder / "no-format"
    target.write_bytes(b"\x7fELF but no more")
    target.chmod(0o755)
    return [str(target)]


def _missing_interpreter(folder: Path) -> list[str]:
    target = folder / "script"
    target.write_text("#!/no/such/interpreter\n")
    target.chmod(0o755)
    return [str(target)]


def _not_executable(folder: Path) -> list[str]:
    target = folder / "data"
    target.write_text("echo\n")
    target.chmod(0o644)
    return [str(target)]


CANNOT_START: list[tuple[Callable[[Path], list[str]], str]] = [
    (lambda folder: ["missing.py"], "there is no file missing.py"),
    (lambda folder: ["./missing"], "there is no file ./missing"),
    (lambda folder: ["no-such-command-anywhere"], "there is no command no-such-command-anywhere on PATH"),
    (lambda folder: [str(folder)], "is a folder without a __main__.py"),
    (_not_executable, "is not executable"),
    (_no_format, "Exec format error"),
    (_missing_interpreter, "does the interpreter of its first line exist?"),
    (lambda folder: ["-m"], "-m needs an argument"),
    (lambda folder: ["-c"], "-c needs an argument"),
]


@pytest.mark.parametrize(("target", "words"), CANNOT_START)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_program_that_cannot_start_leaves_all_as_it_was(
    target: Callable[[Path], list[str]], words: str, overwrite: bool, tmp_path: Path
) -> None:
    """The words say what is wrong; no recording is made, and an older one is not touched."""
    folder = tmp_path / "place"
    folder.mkdir()
    argv = target(folder)
    output = tmp_path / "run.qtrace"
    if overwrite:
        output.write_text("an older one")
    before = sorted(tmp_path.iterdir())
    refused(record(output, *argv, options=("-f",) if overwrite else ()), words)
    assert sorted(tmp_path.iterdir()) == before
    assert not overwrite or output.read_text() == "an older one"


@pytest.mark.parametrize("comment", [b"", b"a long one " * 5_000])
def test_an_archive_with_a_main_module_is_a_program(comment: bytes, tmp_path: Path) -> None:
    """As `python archive` runs it, whatever it is called, and whatever comment it ends with."""
    archive = tmp_path / "program"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("__main__.py", "print('from the archive')")
        made.comment = comment
    done = record(tmp_path / "run.qtrace", str(archive))
    assert (done.status, done.stdout) == (0, "from the archive\n")


BAD_OPTIONS = [
    ([], "there is nothing to record"),
    (["--timeout", "0", "true"], "above zero"),
    (["--timeout", "-3", "true"], "above zero"),
    (["--hang-after", "0", "true"], "above zero"),
    (["--engine", "magic", "true"], "magic"),
    (["--python", "/no/such/python", "-c", "1"], "there is no file /no/such/python"),
    (["--no-such-option", "true"], "--no-such-option"),
    (["-p", "999999999"], "999999999"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_OPTIONS)
def test_bad_arguments_are_refused(arguments: list[str], words: str, tmp_path: Path) -> None:
    """Status 2, a word about what is wrong, and no file."""
    outcome = qtrace("record", *arguments, cwd=tmp_path)
    assert outcome.status == 2
    assert words in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_room_for_a_process_is_said_so(tmp_path: Path) -> None:
    """ulimit -n so low that no pipe can be made: a message, not a traceback, and no file."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))

    outcome = record(tmp_path / "run.qtrace", "true", preexec_fn=limit)
    refused(outcome, "Too many open files")
    assert list(tmp_path.iterdir()) == []
