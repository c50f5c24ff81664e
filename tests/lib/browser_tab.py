# SPDX-License-Identifier: Apache-2.0
"""One tab of a real Chromium on a dashboard: what it complained of, its charts, and whether everybody can read it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page

CHROMIUM = Path("/usr/bin/chromium")
DESKTOP, PHONE = (1400, 900), (390, 844)
SECONDS = 30.0
SERIOUS = ("serious", "critical")


@dataclass
class Tab:
    """A page and what went wrong in it. Addresses are paths of the dashboard at `url`."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(1000 * SECONDS)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"{self.page.url}: {error}"))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def enter(self, token: str) -> None:
        """Comes in with what stands behind the # of a one-time link."""
        self.page.goto(f"{self.url}/enter#{token}")
        self.page.wait_for_url(f"{self.url}/")

    def open(self, path: str) -> int:
        """Goes to a page; its status."""
        answer = self.page.goto(self.url + path)
        assert answer is not None
        return answer.status

    def draw(self) -> None:
        """Scrolls to every chart until it is drawn, then back to the top."""
        for chart in self.page.locator(".chart").all():
            chart.scroll_into_view_if_needed()
            self.page.wait_for_function("chart => chart.dataset.drawn", arg=chart.element_handle())
        self.page.evaluate("scrollTo(0, 0)")

    def resize(self, size: tuple[int, int]) -> None:
        """Another screen."""
        self.page.set_viewport_size({"width": size[0], "height": size[1]})

    @property
    def text(self) -> str:
        """What a reader sees of the content."""
        return self.page.locator("main").inner_text()

    def scrolls_sideways(self) -> bool:
        """Whether the document is wider than the screen; tables scroll within themselves."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def barriers(self) -> list[str]:
        """What axe-core finds that keeps people out."""
        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        return [f"{v['id']}: {v['nodes'][0]['html']:.300}" for v in found if v["impact"] in SERIOUS]

    def focused(self) -> str:
        """Text or name of the element that the keyboard is on."""
        script = "(e => e.getAttribute('aria-label') || e.innerText || e.id || e.tagName)(document.activeElement)"
        return str(self.page.evaluate(script)).strip()

    def tab_to(self, wanted: Callable[[str], bool], limit: int = 200) -> str:
        """Presses Tab until the focus is where it is wanted, and can be seen there."""
        for _ in range(limit):
            self.page.keyboard.press("Tab")
            if wanted(self.focused()):
                width = self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert width != "none", f"{self.focused()}: the focus cannot be seen"
                return self.focused()
        raise AssertionError(f"not reached by keyboard; the focus is on {self.focused()}")


@contextmanager
def tab_in(browser: Browser, url: str, *, size: tuple[int, int] = DESKTOP, token: str = "") -> Iterator[Tab]:
    """A tab in a context of its own; the dashboard's self-made certificate is accepted as a person would."""
    width, height = size
    context = browser.new_context(ignore_https_errors=True, viewport={"width": width, "height": height}, locale="en-GB")
    try:
        tab = Tab(context.new_page(), url)
        if token:
            tab.enter(token)
        yield tab
    finally:
        context.close()
