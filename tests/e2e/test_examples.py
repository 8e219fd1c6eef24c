"""The examples, recorded and explained on every CPython that is found: the main job, end to end."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

import qtrace as qtrace_api
from tests.support.engines import both_engines, engine_params
from tests.support.processes import Outcome, qtrace
from tests.support.pythons import python_params

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TEN_SECONDS = 10.0

every_python = pytest.mark.parametrize(("python", "engine"), engine_params(python_params()))


def record(python: Path, engine: str, tmp_path: Path, name: str, *arguments: str) -> tuple[Outcome, Path]:
    """Record an example and return how that went, and the recording."""
    recording = tmp_path / "example.qtrace"
    script = str(EXAMPLES / f"{name}.py")
    outcome = qtrace("record", "--python", str(python), "-o", str(recording), script, *arguments, engine=engine)
    assert not outcome.leftovers
    return outcome, recording


def explained(recording: Path, status: int) -> dict[str, Any]:
    """Return the verdict's JSON, with the exit status checked."""
    outcome = qtrace("explain", "--json", str(recording))
    assert outcome.status == status, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def line_of(name: str, text: str) -> int:
    """Return the number of the line of an example that holds a text."""
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@every_python
def test_join_before_get_is_a_deadlock_of_three(python: Path, engine: str, tmp_path: Path) -> None:
    """The parent joins, the child's main joins its feeder, the feeder has no room: a proven circle."""
    begun = time.monotonic()
    outcome, recording = record(python, engine, tmp_path, "join_before_get")
    # The bound is for a quiet machine; one that runs other tests beside has to be given more.
    assert time.monotonic() - begun < 3 * TEN_SECONDS
    assert outcome.status == 124
    verdict = explained(recording, 1)
    assert (verdict["verdict"], verdict["certainty"]) == ("deadlock", "proven")
    assert verdict["pattern"] == "join-before-drain"
    assert verdict["cycle"] is True
    kinds = [(link["role"], link["kind"]) for link in verdict["chain"]]
    assert kinds == [("main", "child-exit"), ("main", "thread-join"), ("feeder", "pipe-full")]
    parent, _, feeder = verdict["chain"]
    own = next(frame for frame in parent["python"] if frame["file"].endswith("join_before_get.py"))
    assert own["line"] == line_of("join_before_get", "p.join()")
    # Of 16 pages the header begins one, which takes the odd bytes of the body too (pipe_write in
    # fs/pipe.c merges what is not a whole page), and 15 take whole pages of it.
    message = int(re.search(r", (\d+)$", feeder["syscall"]["text"])[1])  # type: ignore[index]
    assert feeder["object"]["capacity"] == 65_536
    assert feeder["object"]["bytes"] == 4 + message % 4096 + 15 * 4096
    assert "get" in verdict["advice"]
    assert "join" in verdict["advice"]


@every_python
def test_each_link_names_the_next_among_its_providers(python: Path, engine: str, tmp_path: Path) -> None:
    """The chain is one: each wait's next is a provider of it, and the last one's is the first."""
    _, recording = record(python, engine, tmp_path, "join_before_get")
    chain = explained(recording, 1)["chain"]
    for link, following in zip(chain, [*chain[1:], chain[0]], strict=True):
        assert following["tid"] in [provider["tid"] for provider in link["providers"]]


@every_python
def test_a_torn_message_has_no_sender(python: Path, engine: str, tmp_path: Path) -> None:
    """The reader waits for the rest of a message whose writer has ended: how much, and who it was."""
    outcome, recording = record(python, engine, tmp_path, "cancel_join_thread")
    assert outcome.status == 124
    verdict = explained(recording, 1)
    assert (verdict["verdict"], verdict["pattern"]) == ("orphaned", "torn-message")
    evidence = verdict["evidence"]
    message = evidence["message_bytes"]
    assert evidence["received_bytes"] + evidence["missing_bytes"] == message
    assert message > 65_536
    assert evidence["writer_exit"] == 0
    assert evidence["writer_pid"] not in (verdict["chain"][0]["pid"], None)


@every_python
@pytest.mark.parametrize("name", ["join_before_get", "cancel_join_thread"])
def test_a_message_that_fits_is_no_hang(python: Path, engine: str, tmp_path: Path, name: str) -> None:
    """Below the pipe's limit both programs end by themselves, with their own exit status."""
    outcome, recording = record(python, engine, tmp_path, name, "60000")
    assert outcome.status == 0, outcome.stderr
    verdict = explained(recording, 0)
    assert (verdict["verdict"], verdict["chain"]) == ("finished", [])


@every_python
def test_a_pipe_filled_by_its_only_reader_is_orphaned(python: Path, engine: str, tmp_path: Path) -> None:
    """65,536 bytes pass and 65,537 do not; nobody else could read them."""
    outcome, recording = record(python, engine, tmp_path, "pipe_size")
    assert outcome.status == 124
    assert re.findall(r"size (\d+) passes", outcome.stdout) == ["65535", "65536"]
    verdict = explained(recording, 1)
    assert (verdict["verdict"], verdict["pattern"]) == ("orphaned", "self-pipe-full")


@every_python
def test_a_larger_pipe_lets_it_pass(python: Path, engine: str, tmp_path: Path) -> None:
    """F_SETPIPE_SZ makes room, and the level's table has the new capacity."""
    outcome, recording = record(python, engine, tmp_path, "resize_pipe")
    assert outcome.status == 0
    assert explained(recording, 0)["verdict"] == "finished"
    fill = qtrace_api.load(recording).fill
    assert fill["capacity"].max() == 131_072
    assert fill["bytes"].max() == 65_537


@every_python
def test_the_right_order_finishes(python: Path, engine: str, tmp_path: Path) -> None:
    """Get before join: nothing is stuck."""
    outcome, recording = record(python, engine, tmp_path, "drained_queue")
    assert outcome.status == 0
    assert explained(recording, 0)["verdict"] == "finished"


@both_engines()
def test_the_verdict_in_words_has_twelve_lines_at_most(engine: str, tmp_path: Path) -> None:
    """A headline, the chain with process, thread, line, call and object, and the advice."""
    recording = tmp_path / "a.qtrace"
    outcome = qtrace("record", "-o", str(recording), str(EXAMPLES / "join_before_get.py"), engine=engine)
    said = qtrace("explain", str(recording)).stdout
    assert len(said.splitlines()) <= 12
    assert said.startswith("deadlock, proven, join-before-drain:")
    for part in ("p.join()", "wait4(", "61,500 of 65,536 bytes", "QueueFeederThread", "advice:"):
        assert part in said, part
    assert outcome.stderr.splitlines()[-1] == f"next: qtrace report {recording}"
