"""Every pattern has a page, and the program on the page hangs as the page says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qtrace.analyse.explain import explain_snapshot
from qtrace.capture.snapshot import take_snapshot
from qtrace.errors import TargetError
from qtrace.model.kinds import STUCK, PatternId, VerdictKind
from qtrace.model.verdict import Verdict

PAGES = Path(__file__).resolve().parents[2] / "docs" / "patterns"
HEADINGS = ["## Symptom", "## Cause", "## The smallest program that shows it", "## Fix"]
PATIENCE_S = 60


def text_of(pattern: PatternId) -> str:
    return (PAGES / f"{pattern}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("pattern", list(PatternId))
def test_a_page_says_what_it_looks_like_why_and_what_to_do(pattern: PatternId) -> None:
    """The four parts, in order, each with words below it."""
    text = text_of(pattern)
    assert text.startswith(f"# {pattern}\n")
    assert re.findall(r"^## .*", text, re.MULTILINE) == HEADINGS
    assert all(len(part.strip()) > 20 for part in re.split(r"^## .*", text, flags=re.MULTILINE)[1:])


def test_there_is_no_page_for_a_pattern_that_does_not_exist() -> None:
    """Ids never change; a page without one is a mistake."""
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == {str(pattern) for pattern in PatternId}


@pytest.mark.parametrize("pattern", list(PatternId))
def test_the_program_on_the_page_shows_it(pattern: PatternId, tmp_path: Path) -> None:
    """Run it, look at it until it stands still, and read the pattern's name in the verdict."""
    found = re.search(r"```python\n(.*?)```", text_of(pattern), re.DOTALL)
    assert found is not None
    program = tmp_path / "program.py"
    program.write_text(found.group(1), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        verdict = _verdict_with(process, pattern)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert verdict.pattern == pattern
    assert verdict.kind in STUCK or (verdict.kind, pattern) == (VerdictKind.TIMED, PatternId.GRANDCHILD_HOLDS_PIPE)


def _verdict_with(process: subprocess.Popen[bytes], pattern: PatternId) -> Verdict:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        verdict = explain_snapshot(take_snapshot(process.pid))
        if verdict.pattern == pattern or time.monotonic() > deadline:
            return verdict
        if process.poll() is not None:
            raise TargetError(f"the program on the page of {pattern} ended by itself")
