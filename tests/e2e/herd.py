"""Many programs under test at once: they only stand there, so they can wait for their turn together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import prefix
from tests.support.pythons import found_pythons
from tests.support.truth import Answer, Truth, ask_when_it_stands, explain_recorded, read_folder, started

PROGRAMS = Path(__file__).resolve().parent.parent / "programs"
RECORDINGS_AT_ONCE = 3
BARE_AT_ONCE = 16


def truths(folder: str) -> list[Truth]:
    """Return what the programs of a folder under tests/programs state."""
    found = read_folder(PROGRAMS / folder)
    assert found
    return found


def newest_python(truth: Truth) -> Path:
    """Return the newest CPython of this machine on which a header holds, or skip the test."""
    versions = [version for version in found_pythons() if truth.holds_on(version)]
    if not versions:
        pytest.skip(f"holds on CPython {truth.pythons}, and none is on this machine")
    return found_pythons()[max(versions, key=lambda text: int(text.split(".")[1]))]


def _parameters(request: pytest.FixtureRequest, test: str) -> list[dict[str, Any]]:
    items = [item for item in request.session.items if getattr(item, "originalname", "") == test]
    return [item.callspec.params for item in items if item.path == request.path]  # type: ignore[attr-defined]


def chosen(request: pytest.FixtureRequest, test: str) -> list[Truth]:
    """Return the programs that a parametrized test of this module will be run with, in its order."""
    return [values["truth"] for values in _parameters(request, test)]


def chosen_to_record(request: pytest.FixtureRequest, test: str) -> list[tuple[Truth, str]]:
    """Return the programs and engines that a parametrized test of this module will be run with, in its order."""
    found = [(values["truth"], values["engine"]) for values in _parameters(request, test)]
    return [(truth, engine) for truth, engine in found if engine != "perf" or prefix() is not None]


class Herd:
    """Programs that are started some turns before they are asked about, and ended after it."""

    def __init__(self, queue: Iterable[Truth]) -> None:
        self._queue = [truth for truth in queue if not truth.load]
        self._running: dict[Path, tuple[contextlib.ExitStack, Any, float]] = {}

    def _start(self, truth: Truth) -> None:
        stack = contextlib.ExitStack()
        command = [str(newest_python(truth)), str(truth.path)]
        self._running[truth.path] = (stack, stack.enter_context(started(truth, command)), time.monotonic())

    def answer(self, truth: Truth) -> Answer:
        """Return what is said of a program, and start those whose turn is near."""
        while self._queue and len(self._running) < BARE_AT_ONCE:
            self._start(self._queue.pop(0))
        if truth.path not in self._running:
            self._queue = [other for other in self._queue if other.path != truth.path]
            self._start(truth)
        stack, process, start = self._running.pop(truth.path)
        with stack:
            return ask_when_it_stands(truth, process, time.monotonic() - start)

    def end(self) -> None:
        """End all that are left."""
        for stack, _, _ in self._running.values():
            stack.close()


class Recordings:
    """The answers to recordings that are made some at a time while the tests ask for them in turn."""

    def __init__(self, queue: Iterable[tuple[Truth, str]], hang_after_s: float, timeout_s: float) -> None:
        self._executor = ThreadPoolExecutor(RECORDINGS_AT_ONCE)
        self._limits = hang_after_s, timeout_s
        self._answers = {(truth.path, engine): self._begun(truth, engine) for truth, engine in queue}

    def _begun(self, truth: Truth, engine: str) -> Future[Answer]:
        return self._executor.submit(explain_recorded, truth, newest_python(truth), *self._limits, engine)

    def answer(self, truth: Truth, engine: str) -> Answer:
        """Return what an engine's recording of a program says, when it is there; one that failed is made anew."""
        try:
            return self._answers[truth.path, engine].result()
        except Exception:
            self._answers[truth.path, engine] = self._begun(truth, engine)
            raise

    def end(self) -> None:
        """Begin no more recordings, and wait for those that run."""
        self._executor.shutdown(cancel_futures=True)
