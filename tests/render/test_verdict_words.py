"""The verdict on a terminal and as JSON, for every scene of a known cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from qtrace.analyse.explain import explain_snapshot
from qtrace.model.ids import Tgid
from qtrace.model.kinds import Certainty, VerdictKind
from qtrace.model.verdict import Verdict
from qtrace.render.text import MOST_LINES, verdict_text
from qtrace.render.verdict_json import verdict_object
from tests.analyse.scenes import SceneBuilder, join_before_get
from tests.analyse.test_patterns import STUCK as SCENES

KEYS = ["schema", "target", "verdict", "certainty", "pattern", "headline", "advice", "chain", "cycle", "waits", "live"]
KEYS += ["unseen", "evidence"]
WAIT_KEYS = ["pid", "tid", "process", "thread", "role", "kind", "since_ns", "unfinished", "syscall", "object"]
WAIT_KEYS += ["providers", "python"]

every_scene = pytest.mark.parametrize(
    "scene", [scene for _, _, scene in SCENES], ids=[scene.__name__ for _, _, scene in SCENES]
)


def verdict_of(scene: Callable[[], SceneBuilder]) -> Verdict:
    return explain_snapshot(scene().snapshot())


@every_scene
@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_the_text_fits_into_twelve_lines_of_the_terminals_width(scene: Callable[[], SceneBuilder], width: int) -> None:
    """However long names, calls and advice are."""
    lines = verdict_text(verdict_of(scene), width=width).splitlines()
    assert 1 <= len(lines) <= MOST_LINES
    assert max(len(line) for line in lines) <= width


@every_scene
def test_the_text_begins_with_the_verdict_and_its_cause(scene: Callable[[], SceneBuilder]) -> None:
    """Kind, certainty and pattern, before the sentence; no colours unless asked for."""
    verdict = verdict_of(scene)
    text = verdict_text(verdict, width=120)
    assert text.startswith(f"{verdict.kind}, {verdict.certainty}, {verdict.pattern}: ")
    assert "\x1b" not in text
    assert "advice: " in text


def test_colours_are_only_paint() -> None:
    """The same words with and without."""
    verdict = verdict_of(join_before_get)
    painted = verdict_text(verdict, colour=True, width=200)
    assert painted.startswith("\x1b[1;31mdeadlock")
    for code in ("\x1b[1;31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"):
        painted = painted.replace(code, "")
    assert painted == verdict_text(verdict, width=200)


def test_the_chain_shows_lines_of_the_program_and_levels_of_pipes() -> None:
    """Who, on what, in which line, in which call; and that the last waits for the first."""
    text = verdict_text(verdict_of(join_before_get), width=200)
    assert "app.py:9 p.join()" in text
    assert "61,500 of 65,536 bytes, full for this message" in text
    assert "-> which waits for link 1, app.py main: a circle" in text


def test_what_is_not_sure_is_said() -> None:
    """An assumption, and a process that could not be seen."""
    verdict = replace(
        verdict_of(join_before_get),
        certainty=Certainty.LIKELY,
        assumptions=("nobody else calls exit",),
        unseen=((Tgid(7), "it belongs to user 0"), (Tgid(8), "it belongs to user 0")),
    )
    text = verdict_text(verdict, width=200)
    assert "assumed: nobody else calls exit" in text
    assert "not seen: pid 7: it belongs to user 0 (and 1 more)" in text
    assert len(text.splitlines()) <= MOST_LINES


@every_scene
def test_the_json_is_the_contract(scene: Callable[[], SceneBuilder]) -> None:
    """Plain values, the keys in their order, and the same in every wait."""
    verdict = verdict_of(scene)
    answer = json.loads(json.dumps(verdict_object(verdict, "pid", 100)))
    assert list(answer)[: len(KEYS)] == KEYS
    assert answer["schema"] == "qtrace.explain/1"
    assert answer["target"] == {"kind": "pid", "value": 100, "at_ns": verdict.at_ns}
    assert VerdictKind(answer["verdict"]) is verdict.kind
    for wait in answer["chain"] + answer["waits"]:
        assert list(wait) == WAIT_KEYS
        assert set(wait["syscall"]) == {"name", "text"}
        assert all(list(provider) == ["pid", "tid", "certainty", "why"] for provider in wait["providers"])
        assert all(list(frame) == ["file", "line", "function", "source"] for frame in wait["python"])
        assert wait["object"] is None or list(wait["object"]) == ["kind", "id", "label", "bytes", "capacity"]
