"""Programs that hang are said to, with the chain, the cause and the lines that their headers state."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.herd import Herd, Recordings, chosen, chosen_to_record, truths
from tests.support.engines import engine_params
from tests.support.truth import Truth, faults

HANGS = truths("hangs")
HANG_AFTER_S = 2.0
TIMEOUT_S = 20.0


def _programs(mode: str) -> list[Truth]:
    return [truth for truth in HANGS if mode in truth.modes]


@pytest.fixture(scope="module")
def herd(request: pytest.FixtureRequest) -> Iterator[Herd]:
    """The programs, run bare."""
    programs = Herd(chosen(request, "test_a_bare_program_that_hangs_is_explained"))
    yield programs
    programs.end()


@pytest.fixture(scope="module")
def recordings(request: pytest.FixtureRequest) -> Iterator[Recordings]:
    """The programs, run under the tracer."""
    test = "test_a_recorded_program_that_hangs_is_explained"
    made = Recordings(chosen_to_record(request, test), HANG_AFTER_S, TIMEOUT_S)
    yield made
    made.end()


@pytest.mark.parametrize("truth", _programs("pid"), ids=lambda truth: truth.path.stem)
def test_a_bare_program_that_hangs_is_explained(truth: Truth, herd: Herd) -> None:
    """`explain PID` finds verdict, pattern and chain, and exits with 1."""
    answer = herd.answer(truth)
    assert answer.ended is None, "the program ended by itself"
    assert faults(truth, answer) == [], answer.verdict.get("headline")


@pytest.mark.parametrize(("truth", "engine"), engine_params(_programs("record")))
def test_a_recorded_program_that_hangs_is_explained(truth: Truth, engine: str, recordings: Recordings) -> None:
    """`record` ends the program with 124, and `explain FILE` finds verdict, pattern and chain; by both engines."""
    answer = recordings.answer(truth, engine)
    assert answer.ended is None, "the program ended by itself"
    assert faults(truth, answer) == [], answer.verdict.get("headline") or answer.said
    assert answer.record_status == 124


def test_every_pattern_has_a_program() -> None:
    """Each known cause is the first choice of at least one program."""
    from qtrace.model.kinds import PatternId

    assert {str(pattern) for pattern in PatternId} <= {truth.patterns[0] for truth in HANGS}
