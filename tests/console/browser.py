"""Debian's Chromium, driven by Playwright. Everything that a page says or asks for is kept, to be compared with what it may."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deploy.local.process import program
from tests.brokers import missing_is_skipped

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = Path(__file__).with_name("axe.min.js")
WAIT_MS = 30_000
"""The longest wait for what a view shows: only a view that never shows it takes as long."""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. Where no Chromium is installed the test is skipped; in CI it fails."""
    with missing_is_skipped():
        # The one without windows needs half the CPU time: the other one draws its own tabs and menus, too.
        path = shutil.which("chromium-headless-shell") or program("chromium", "make debian")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 (starts in 0.2 s)

    # The sandbox of Chromium needs rights that a container has not.
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
    options.append("--js-flags=--no-opt --no-maglev")  # compiling well takes longer than these tests run
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page, and what it must not do: errors in its console, and requests to other addresses."""

    def __init__(self, page: Page, url: str) -> None:
        """`url`: where Lorestream runs."""
        self.page = page
        self.faults: list[str] = []
        self._url = url
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", lambda request: self._asked(request.url))

    def open(self, place: str, shows: str) -> Page:
        """Go to a place of the console, and wait until it shows what a selector names."""
        self.page.goto(f"{self._url}/console{place}")
        self.page.locator(shows).first.wait_for(state="visible")
        return self.page

    def violations(self, *, contrast: bool) -> list[str]:
        """The serious and critical findings of axe-core on the page as it is.

        `contrast`: also of colours, which takes most of the time.
        """
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text(encoding="utf-8"))
        # Of lists and tables the first rows, because all are alike; no frames, because the console has none.
        found: list[dict[str, Any]] = self.page.evaluate(
            """contrast => axe.run({include: [document], exclude: [['li:nth-child(n+5)'], ['tr:nth-child(n+5)']]}, {
                iframes: false, resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa'],
                rules: {'color-contrast': {enabled: contrast}},
            }).then(result => result.violations)""",
            contrast,
        )
        return [
            f"{each['id']} ({each['impact']}): {node['html'][:200]} {node['failureSummary'][:300]}"
            for each in found
            if each["impact"] in {"serious", "critical"}
            for node in each["nodes"]
        ]

    def is_wider_than_the_window(self) -> bool:
        """Whether the page scrolls sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")

    def _said(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.faults.append(f"{kind}: {text}")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"} and f"{parts.scheme}://{parts.netloc}" != self._url:
            self.faults.append(f"request: {url}")
