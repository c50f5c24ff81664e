# SPDX-License-Identifier: Apache-2.0
"""Every page as people see it: on a desk and on a phone, in light and in dark, by mouse, by keyboard and by ear."""

import re
from pathlib import Path

import pytest
from browser_tab import DESKTOP, PHONE, Tab, tab_in
from dashboard_process import Shown, slug
from playwright.sync_api import Browser, expect

from coordinator.bench.setting import RUN
from federation.roster_document import Role

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("browser")]

SIZES = {"desktop": DESKTOP, "phone": PHONE}
THEMES = {"desktop": ("dark", "light"), "phone": ("light", "dark")}
"""What axe-core looks at is the last one: it finds the same in both sizes."""

PAGES = (
    "/",
    f"/run/{RUN}",
    f"/run/{RUN}/rounds",
    f"/run/{RUN}/missing",
    f"/run/{RUN}/round/8",
    "/sites",
    "/site/alps",
    "/languages",
    "/ledger",
    "/ledger?q=committed",
    "/ledger/5",
    "/audit",
    "/public",
)


def looked_at(tab: Tab, path: str, screenshots: Path, *, prefix: str = "", num_themes: int = 2) -> None:
    """One page in every size, in one theme or two: it fits, everybody can use it, nothing was complained of."""
    for name, size in SIZES.items():
        tab.resize(size)
        assert tab.open(path) == 200
        tab.draw()
        for theme in THEMES[name][-num_themes:]:
            tab.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            expect(tab.page.locator("html")).to_have_attribute("data-theme", theme)
            file = screenshots / f"{prefix}{slug(path)}-{name}-{theme}.png"
            tab.page.screenshot(path=str(file), full_page=True)
        assert not tab.scrolls_sideways(), f"{path}, {name}: wider than the screen"
        assert tab.barriers() == [], f"{path}, {name}, {theme}"
    assert tab.complaints == []


def test_every_page_fits_and_can_be_used_by_everybody(browser: Browser, consortium: Shown, screenshots: Path) -> None:
    with tab_in(browser, consortium.url, token=consortium.token(Role.AUDITOR)) as tab:
        for path in PAGES:
            looked_at(tab, path, screenshots)


def test_hostile_texts_are_shown_as_texts_on_every_page(browser: Browser, hostile: Shown, screenshots: Path) -> None:
    with tab_in(browser, hostile.url, token=hostile.token(Role.AUDITOR)) as tab:
        for path in PAGES[:9]:
            looked_at(tab, path, screenshots, prefix="hostile-", num_themes=1)
            assert tab.page.title() != "owned"
            assert tab.page.locator("main script, main img, main iframe, main h1 ~ h1").count() == 0
            assert "Traceback" not in tab.text
        tab.open(f"/run/{RUN}/missing")
        assert "<script>document.title='owned'</script>" in tab.text or "onerror=" in tab.text


def test_the_door_and_a_page_that_is_not_there_can_be_used_too(
    browser: Browser, consortium: Shown, screenshots: Path
) -> None:
    with tab_in(browser, consortium.url, size=PHONE) as tab:
        for path, status in (("/enter", 200), ("/run/nothing/round/1", 200)):
            assert tab.open(path) == status
            assert "closed" in tab.text
            assert not tab.scrolls_sideways()
            assert tab.barriers() == []
        tab.enter(consortium.token())
        assert tab.open("/run/nothing") == 404
        assert "no run of that name" in tab.text
        assert tab.barriers() == []
        tab.page.screenshot(path=str(screenshots / "not-there-phone-light.png"))


def test_a_straggler_shows_in_the_timeline(browser: Browser, consortium: Shown) -> None:
    with tab_in(browser, consortium.url, token=consortium.token()) as tab:
        tab.open(f"/run/{RUN}/round/8")
        tab.draw()
        bars = tab.page.evaluate("document.getElementById('chart-timeline').figures.bars")
        assert {bar["phase"] for bar in bars} >= {"training", "uploading", "waiting"}
        decided = {bar["lane"]: bar["end"] for bar in bars if bar["phase"] in ("training", "uploading")}
        straggler = max(decided, key=decided.__getitem__)
        waited = {bar["lane"]: bar["end"] - bar["start"] for bar in bars if bar["phase"] == "waiting"}
        assert min(waited, key=waited.__getitem__) == straggler
        assert tab.page.locator("#chart-timeline .bars .point").count() == len(bars)
        tab.page.get_by_text("The same as a table").click()
        assert f"round 8, {straggler}: training for" in tab.text


def test_a_rejected_update_says_why(browser: Browser, hostile: Shown) -> None:
    with tab_in(browser, hostile.url, token=hostile.token()) as tab:
        tab.open(f"/run/{RUN}/missing")
        rows = tab.page.locator("#table-missing tbody tr", has_text="rejected")
        why = rows.first.locator("td").last.inner_text()
        assert why.startswith("rejected: the ")


def test_a_tab_that_nobody_sees_keeps_no_connection(browser: Browser, consortium: Shown) -> None:
    look = "hidden => { window.unseen = hidden; document.dispatchEvent(new Event('visibilitychange')); }"
    with tab_in(browser, consortium.url) as tab:
        tab.page.add_init_script("""
            Object.defineProperty(document, "hidden", { get: () => window.unseen === true });
            const Source = window.EventSource;
            window.sources = [];
            window.EventSource = class extends Source { constructor(a) { super(a); window.sources.push(this); } };
        """)
        tab.enter(consortium.token())
        live = "window.sources.filter(source => source.readyState !== 2).length"
        expect(tab.page.locator("#live")).to_have_text("Live")
        tab.page.evaluate(look, True)
        assert tab.page.evaluate(live) == 0
        tab.page.evaluate(look, False)
        tab.page.wait_for_function(f"{live} === 1")
        assert tab.complaints == []


def test_a_legend_hides_its_line(browser: Browser, consortium: Shown) -> None:
    with tab_in(browser, consortium.url, token=consortium.token()) as tab:
        tab.open("/languages")
        tab.draw()
        entry = tab.page.locator(".legend button").first
        lines = tab.page.locator(".chart .scatterlayer .trace")
        shown = lines.count()
        assert tab.page.locator(".legend button").count() == shown
        entry.click()
        expect(entry).to_have_attribute("aria-pressed", "false")
        expect(lines).to_have_count(shown - 1)


def test_everything_can_be_done_by_keyboard(browser: Browser, consortium: Shown) -> None:
    with tab_in(browser, consortium.url, token=consortium.token()) as tab:
        press = tab.page.keyboard.press
        tab.open("/")
        press("Tab")
        assert tab.focused() == "Skip to the content"
        press("Enter")
        assert tab.page.evaluate("document.activeElement.id") == "main"
        tab.open("/")
        tab.tab_to(lambda focused: focused == "Sites")
        press("Enter")
        tab.page.wait_for_url("**/sites")

        tab.tab_to(lambda focused: focused == "Tokens")
        press("Enter")
        tab.page.wait_for_url("**sort=sites.tokens**")
        assert tab.page.locator("th[aria-sort=descending]").inner_text().startswith("Tokens")

        tab.open(f"/run/{RUN}")
        tab.tab_to(lambda focused: focused == "The same as a table")
        press("Enter")
        expect(tab.page.locator("#details-timeline table")).to_be_visible()

        before = tab.page.locator("html").get_attribute("data-theme")
        tab.tab_to(lambda focused: focused == "Dark")
        press("Enter")
        assert tab.page.locator("html").get_attribute("data-theme") != before

        tab.open("/ledger")
        tab.tab_to(lambda focused: focused == "q")
        tab.page.keyboard.type("committed round 9")
        press("Enter")
        tab.page.wait_for_url("**q=committed**")
        expect(tab.page.locator("#h-leaves")).to_have_text(re.compile(r"^[0-9]+ of [0-9]+ leaves$"))
        assert tab.complaints == []
