"""Reports written once for all tests of this folder, and one browser that opens them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qtrace.render.report import render_report
from tests.render import inputs
from tests.support.browser import Page, browser, missing

Reports = Callable[[str], Path]


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Return a function from an input's name to its report."""
    folder = tmp_path_factory.mktemp("reports")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            made = inputs.finished(1_000_000, 30) if name == "million" else getattr(inputs, name)()
            path.write_text(render_report(made), encoding="utf-8")
        return path

    return path_of


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests keep their pictures: QTRACE_PICTURES, or pytest's own folder, which is kept for three runs."""
    chosen = os.environ.get("QTRACE_PICTURES")
    folder = Path(chosen) if chosen else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    """Start a browser for the tests of a module."""
    if missing():
        pytest.skip(missing())
    with browser() as page:
        yield page


@pytest.fixture
def page(chromium: Page) -> Iterator[Page]:
    """Return the browser, wide and light, with nothing in its logs; a test may leave nothing there."""
    chromium.resize(1440)
    chromium.console()
    chromium.requests()
    yield chromium
    assert chromium.console() == []
