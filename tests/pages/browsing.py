"""A browser that keeps account of what a page asks for and complains of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WHY_NOT = "no Chromium here (apt-get install chromium): pages are not looked at"
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
GRAVE = ("serious", "critical")


@dataclass
class Visit:
    """A page that was opened. ``asked``: what it loaded besides itself."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def faults(self) -> list[tuple[str, str]]:
        """What axe finds that is serious: (rule, an element)"""
        found = Axe().run(self.page).response["violations"]
        return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in GRAVE]

    @property
    def overflow_px(self) -> int:
        """By how much the page is wider than the screen."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    @property
    def clipboard(self) -> str:
        return self.page.evaluate("navigator.clipboard.readText()")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Browser, file: Path, width: int = 1600, **settings: Any) -> Iterator[Visit]:
    """The page in a window of its own; ``settings`` as Playwright's contexts take them."""
    settings.setdefault("color_scheme", "light")
    context = browser.new_context(viewport={"width": width, "height": 1000}, **settings)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(10_000)
    visited = Visit(page)
    page.on("console", lambda message: visited.said.append(message.text))
    page.on("pageerror", lambda error: visited.said.append(str(error)))
    page.on("request", lambda request: visited.asked.append(request.url))
    address = file.as_uri()
    page.goto(address)
    visited.asked.remove(address)
    try:
        yield visited
    finally:
        context.close()
