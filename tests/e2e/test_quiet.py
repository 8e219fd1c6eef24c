"""Programs that only look stuck: no answer may ever call one a hang."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.herd import Herd, Recordings, chosen, chosen_to_record, truths
from tests.support.engines import engine_params
from tests.support.truth import STUCK, Truth, faults

QUIET = truths("quiet")
HANG_AFTER_S = 1.0
TIMEOUT_S = 6.0
OVER_ITS_TIME = 124


@pytest.fixture(scope="module")
def herd(request: pytest.FixtureRequest) -> Iterator[Herd]:
    """The programs, run bare."""
    programs = Herd(chosen(request, "test_a_bare_program_that_is_not_stuck_is_not_called_so"))
    yield programs
    programs.end()


@pytest.fixture(scope="module")
def recordings(request: pytest.FixtureRequest) -> Iterator[Recordings]:
    """The programs, run under the tracer until their time is over."""
    made = Recordings(
        chosen_to_record(request, "test_a_recorded_program_that_is_not_stuck_is_let_go_on"), HANG_AFTER_S, TIMEOUT_S
    )
    yield made
    made.end()


@pytest.mark.parametrize("truth", QUIET, ids=lambda truth: truth.path.stem)
def test_a_bare_program_that_is_not_stuck_is_not_called_so(truth: Truth, herd: Herd) -> None:
    """`explain PID` says what it waits for (outside, the clock) or that it runs, and exits with 0."""
    assert truth.must_be_quiet
    answer = herd.answer(truth)
    assert answer.ended is None, "the program ended by itself"
    assert faults(truth, answer) == [], answer.verdict.get("headline")
    assert answer.status == 0


@pytest.mark.parametrize(("truth", "engine"), engine_params(QUIET))
def test_a_recorded_program_that_is_not_stuck_is_let_go_on(truth: Truth, engine: str, recordings: Recordings) -> None:
    """`record` ends it when its time is over and not before, by both engines: the recording is no hang."""
    answer = recordings.answer(truth, engine)
    assert answer.ended is None, "the program ended by itself"
    assert answer.verdict.get("verdict") not in STUCK, answer.verdict.get("headline")
    assert faults(truth, answer) == [], answer.verdict.get("headline") or answer.said
    assert answer.record_status == OVER_ITS_TIME
