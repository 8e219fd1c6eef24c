"""The command line as a newcomer meets it: help, bad input, names, and what it leaves alone."""

from __future__ import annotations

import inspect
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from qtrace.cli import plain, recording
from qtrace.cli import record as record_verb
from qtrace.cli.app import build_app
from qtrace.cli.record_options import VALUE_OPTIONS
from tests.support.processes import Outcome, qtrace

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def assert_one_clear_refusal(outcome: Outcome) -> None:
    """Exit status 2, a sentence that begins with the command's name, then what to do, no traceback."""
    assert outcome.status == 2, outcome.stderr
    assert "Traceback" not in outcome.stderr
    lines = outcome.stderr.strip().splitlines()
    assert lines[0].startswith("qtrace: ")
    assert len(lines) >= 2, "what to do about it"
    assert outcome.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ["record"],
        ["record", "no_such_script.py"],
        ["record", "no-such-command-anywhere"],
        ["record", "./plain.txt"],
        ["record", "./folder"],
        ["record", "--timeout", "0", "true"],
        ["record", "--python", "/no/such/python", "script.py"],
        ["record", "-o", "/no/such/folder/a.qtrace", "true"],
        ["record", "-p", "999999999"],
        ["explain", "no_such.qtrace"],
        ["explain", "plain.txt"],
        ["explain", "999999999"],
        ["explain"],
        ["explain", "--at", "noon", "plain.txt"],
        ["explain", "--wait", "plain.txt"],
        ["report", "plain.txt"],
        ["report", "no_such.qtrace"],
    ],
    ids=" ".join,
)
def test_bad_input_gets_one_sentence_and_what_to_do(words: list[str], tmp_path: Path) -> None:
    """Whatever is wrong is said in one sentence with a remedy; nothing is left behind."""
    (tmp_path / "plain.txt").write_text("not a recording, and not executable\n")
    (tmp_path / "script.py").write_text("print('ran')\n")
    (tmp_path / "folder").mkdir()
    before = sorted(os.listdir(tmp_path))
    assert_one_clear_refusal(qtrace(*words, cwd=tmp_path))
    assert sorted(os.listdir(tmp_path)) == before


def test_a_wrong_choice_names_the_right_ones(tmp_path: Path) -> None:
    """An engine that does not exist: exit status 2, and which there are."""
    outcome = qtrace("record", "--engine", "magic", "true", cwd=tmp_path)
    assert outcome.status == 2
    assert all(engine in outcome.stderr for engine in ("auto", "perf", "ptrace"))
    assert os.listdir(tmp_path) == []


def test_an_existing_recording_is_not_overwritten(tmp_path: Path) -> None:
    """Without -f the old file stays as it was; with it, it is replaced."""
    target = tmp_path / "a.qtrace"
    target.write_bytes(b"precious")
    assert_one_clear_refusal(qtrace("record", "-o", str(target), "true"))
    assert target.read_bytes() == b"precious"
    assert qtrace("record", "-f", "-o", str(target), "true").status == 0
    assert target.read_bytes().startswith(b"SQLite format 3")


def test_a_program_that_cannot_start_leaves_the_old_recording(tmp_path: Path) -> None:
    """Even with -f: a file of a format that the system cannot run is found out only by exec."""
    target, broken = tmp_path / "a.qtrace", tmp_path / "broken"
    target.write_bytes(b"precious")
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    assert_one_clear_refusal(qtrace("record", "-f", "-o", str(target), str(broken)))
    assert target.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["a.qtrace", "broken"]


def test_a_truncated_recording_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Half of a file: either a verdict or a clear refusal, never a traceback."""
    whole = tmp_path / "whole.qtrace"
    assert qtrace("record", "-o", str(whole), str(EXAMPLES / "drained_queue.py")).status == 0
    content = whole.read_bytes()
    for share in (0.1, 0.5, 0.9):
        half = tmp_path / "half.qtrace"
        half.write_bytes(content[: int(len(content) * share)])
        outcome = qtrace("explain", str(half))
        assert "Traceback" not in outcome.stderr
        assert outcome.status in (0, 1, 2)


def test_everything_after_the_target_is_its_own(tmp_path: Path) -> None:
    """Options behind the script, behind -m and behind -c reach the program."""
    show = tmp_path / "show.py"
    show.write_text("import sys; print(sys.argv[1:])")
    for target in ([str(show)], ["-m", "show"], ["-c", show.read_text()]):
        words = ["record", "-q", "-f", "-o", str(tmp_path / "a.qtrace"), *target, "-o", "--json", "-m", "x"]
        outcome = qtrace(*words, cwd=tmp_path)
        assert outcome.stdout == "['-o', '--json', '-m', 'x']\n", outcome.stderr


def test_options_with_values_are_known_to_the_splitting(tmp_path: Path) -> None:
    """The list of options that take a value is the one that the command has."""
    app = typer.Typer()
    app.command()(record_verb.record)
    command = typer.main.get_command(app)
    valued = {
        name
        for parameter in command.params
        if not getattr(parameter, "is_flag", False) and parameter.param_type_name == "option"
        for name in parameter.opts
        if name != "--help"
    }
    assert valued == VALUE_OPTIONS


def test_the_status_and_streams_are_the_programs_own(tmp_path: Path) -> None:
    """Output, input, exit status and death by signal pass through."""
    code = "import sys; print(sys.stdin.read().upper(), end=''); sys.exit(7)"
    command = [sys.executable, "-m", "qtrace", "record", "-q", "-o", str(tmp_path / "a.qtrace"), "-c", code]
    done = subprocess.run(command, input="hello\n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("HELLO\n", "", 7)
    killed = qtrace("record", "-q", "-o", str(tmp_path / "b.qtrace"), "--", "sh", "-c", "kill -USR1 $$")
    assert killed.status == -10


def test_a_recording_gets_a_new_name_each_time(tmp_path: Path) -> None:
    """Two recordings of one program in the same second are two files; explain takes the newest."""
    for _ in range(2):
        assert qtrace("record", "-q", str(EXAMPLES / "drained_queue.py"), cwd=tmp_path).status == 0
    names = sorted(path.name for path in tmp_path.glob("*.qtrace"))
    assert len(names) == 2
    assert all(name.startswith("drained_queue-") for name in names)
    assert qtrace("explain", cwd=tmp_path).status == 0


def test_the_recording_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Mode 0600, whatever the umask."""
    target = tmp_path / "a.qtrace"
    assert qtrace("record", "-q", "-o", str(target), "true").status == 0
    assert target.stat().st_mode & 0o777 == 0o600


def test_help_and_a_short_recording_are_quick(tmp_path: Path) -> None:
    """--help within 0.4 s and a recording of `true` within 1.5 s, on a machine with nothing else to do.

    The bounds are multiplied by what an empty interpreter takes now against the 15 ms that it takes
    on a quiet machine, since other tests may run beside.
    """

    def seconds(*command: str) -> float:
        begun = time.monotonic()
        subprocess.run([sys.executable, *command], capture_output=True, check=True, timeout=60)
        return time.monotonic() - begun

    empty = statistics.median(seconds("-I", "-c", "") for _ in range(5))
    factor = max(1.0, empty / 0.015)
    assert min(seconds("-m", "qtrace", "--help") for _ in range(5)) < 0.4 * factor
    target = str(tmp_path / "a.qtrace")
    assert min(seconds("-m", "qtrace", "record", "-f", "-o", target, "--", "true") for _ in range(3)) < 1.5 * factor


_LINES = [
    ["app.py"],
    ["-q", "-f", "-o", "a.qtrace", "--engine", "perf", "--", "app.py", "-q", "--", "x"],
    ["--quiet", "--force", "--output", "b", "--hang-after", "1.5", "--timeout", "60", "-m", "package", "-v"],
    ["-c", "pass", "--engine", "perf"],
    ["--", "-c", "pass"],
    ["-o", "-q", "app.py"],
]


@pytest.mark.parametrize("line", _LINES)
def test_a_plain_line_is_understood_as_typer_does(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the command line, what is recorded, and how, is the same."""
    monkeypatch.delenv("QTRACE_ENGINE", raising=False)
    parameters = inspect.signature(recording.run).parameters
    found: dict[str, object] = {}

    def run(*values: object) -> int:
        found.update(zip(parameters, values, strict=True))
        return 0

    options = plain.understood(line)
    assert options is not None
    monkeypatch.setattr(recording, "run", run)
    with pytest.raises(SystemExit):
        build_app(["record"])(["record", *record_verb.prepare(line)])
    assert {name: parameter.default for name, parameter in parameters.items()} | options == found


@pytest.mark.parametrize(
    "line",
    [
        [], ["-q"], ["--redact", "app.py"], ["--engine", "none", "app.py"], ["--timeout", "soon", "app.py"],
        ["-qf", "a"], ["--timeout=3", "app.py"], ["-o"], ["--help"], ["-p", "1"],
    ],
)  # fmt: skip
def test_any_other_line_is_left_to_typer(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong, and what is rare, is said and understood by it alone."""
    monkeypatch.delenv("QTRACE_ENGINE", raising=False)
    assert plain.understood(line) is None


def test_the_environments_engine_is_left_to_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows of QTRACE_ENGINE."""
    monkeypatch.setenv("QTRACE_ENGINE", "perf")
    assert plain.understood(["app.py"]) is None
