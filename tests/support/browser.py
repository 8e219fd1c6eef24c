"""A headless Chromium that opens a report, and tells what a reader's browser would complain about."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"
READY_S = 60.0
"""How long a page of the largest size may take on a busy machine; a bound, not a measurement."""


def missing() -> str:
    """Return why no page can be opened here; empty if one can."""
    if not any(map(shutil.which, BROWSERS)):
        return "no Chromium: apt install chromium"
    if not shutil.which(DRIVER):
        return "no chromedriver: apt install chromium-driver"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "no selenium: pip install selenium"
    return ""


needs_browser = pytest.mark.skipif(bool(missing()), reason=missing() or "a browser is here")


@dataclass
class Page:
    """An open report."""

    driver: Any

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page and return its value."""
        return self.driver.execute_script(script, *arguments)

    def find(self, css: str) -> Any:
        """Return the first element that a selector finds."""
        return self.driver.find_element("css selector", css)

    def all(self, css: str) -> list[Any]:
        """Return the elements that a selector finds."""
        found: list[Any] = self.driver.find_elements("css selector", css)
        return found

    def until(self, condition: str, what: str = "") -> Any:
        """Wait until a JavaScript expression is true, and return its value.

        Raises:
            AssertionError: It did not become true.
        """
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            return WebDriverWait(self.driver, READY_S, 0.05).until(lambda _: self.run(f"return {condition}"))
        except TimeoutException:
            raise AssertionError(f"{what or condition} did not come true; console: {self.console()}") from None

    def frame(self) -> None:
        """Wait until the page has painted what was changed before."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a report and wait until all of it is drawn."""
        self.driver.get("about:blank")
        self.driver.get(f"{path.resolve().as_uri()}{fragment}")
        self.until("document.documentElement.dataset.ready === 'true'", "the page's drawing")
        self.frame()

    def resize(self, width: int, height: int = 1000) -> None:
        """Give the page this many CSS pixels, narrower than a window can be."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.frame()
        self.frame()

    def console(self) -> list[str]:
        """Return what the console got since the last call: errors and warnings."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for, itself and data in it left out."""
        import json

        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        own = self.driver.current_url.split("#")[0]
        return [url for url in asked if not url.startswith(("data:", "blob:", "about:")) and url.split("#")[0] != own]

    def overflow(self) -> list[str]:
        """Return what reaches beyond the right edge of the page, unless it scrolls in a box of its own."""
        script = """
            const root = document.documentElement, wide = root.clientWidth, found = [];
            if (root.scrollWidth > wide) found.push(`page ${root.scrollWidth} > ${wide}`);
            for (const node of document.querySelectorAll("body *")) {
              const box = node.getBoundingClientRect();
              // What lies in a closed <details> has a box, but nobody sees it.
              if (!box.width || box.right <= wide + 1 || !node.checkVisibility({ visibilityProperty: true })) continue;
              if (node.closest("svg") && node.tagName !== "svg") continue;
              let up = node.parentElement, held = false;
              for (; up && up !== document.body; up = up.parentElement) {
                const cuts = getComputedStyle(up).overflowX !== "visible";
                held ||= cuts && up.getBoundingClientRect().right <= wide + 1;
              }
              if (!held) found.push(`${node.tagName}.${node.className} ${Math.round(box.right)}`);
            }
            return found;"""
        return list(self.run(script))

    def picture(self, path: Path, whole: bool = True) -> None:
        """Save a picture of the page; `whole`: down to its end, not the window only."""
        import base64

        path.parent.mkdir(parents=True, exist_ok=True)
        settings: dict[str, object] = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = self.run("return [document.documentElement.clientWidth, document.documentElement.scrollHeight]")
            settings["clip"] = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", settings)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def browser(dark: bool = False) -> Iterator[Page]:
    """Start a headless Chromium with its driver, and end both."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)), "")
    for flag in (
        "--headless=new",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1440,1000",
        "--force-color-profile=srgb",
    ):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's sandbox refuses to run as root
    options.add_argument("--disable-dev-shm-usage")  # containers have a small /dev/shm
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which(DRIVER)))
    try:
        page = Page(driver)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        page.resize(1440)
        yield page
    finally:
        driver.quit()
