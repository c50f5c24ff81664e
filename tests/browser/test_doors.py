# SPDX-License-Identifier: Apache-2.0
"""Who comes in, and what a person is told who stays outside."""

import pytest
from browser_tab import Tab, tab_in
from dashboard_process import Shown
from playwright.sync_api import Browser

from coordinator.dashboard.sessions import COOKIE
from federation.roster_document import Role

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("browser")]


def refused(tab: Tab, token: str) -> str:
    """Tries a link that must not count; what the page says."""
    with tab.page.expect_response(lambda answer: answer.request.method == "POST") as found:
        tab.page.goto(f"{tab.url}/enter#{token}")
    assert found.value.status == 403
    tab.page.wait_for_load_state()
    tab.page.get_by_text("This link is refused").wait_for()
    assert "#" not in tab.page.url
    assert COOKIE not in {cookie["name"] for cookie in tab.page.context.cookies()}
    return tab.text


def test_links_that_do_not_count_are_refused_with_a_sentence(browser: Browser, consortium: Shown) -> None:
    with tab_in(browser, consortium.url) as tab:
        used = consortium.token()
        tab.enter(used)
        tab.page.context.clear_cookies()
        assert "used already" in refused(tab, used)
        assert "it has expired" in refused(tab, consortium.token(seconds=-1))
        whole = consortium.token()
        assert "not that of the operator" in refused(tab, f"{whole[:-8]}AAAAAAAA")
        assert "it is not whole" in refused(tab, whole[:40])
        assert "coordinator dashboard link" in tab.text


def test_an_auditors_page_is_closed_to_viewers(browser: Browser, consortium: Shown) -> None:
    with tab_in(browser, consortium.url, token=consortium.token()) as tab:
        assert tab.page.locator("header nav").inner_text().split() == ["Overview", "Sites", "Languages", "Ledger"]
        assert tab.open("/audit") == 403
        assert "for auditors" in tab.text
        status = tab.page.evaluate("fetch('/audit/leaf/1.bin').then(answer => answer.status)")
        assert status == 403
    with tab_in(browser, consortium.url, token=consortium.token(Role.AUDITOR)) as tab:
        tab.page.get_by_role("link", name="Audit").click()
        tab.page.wait_for_url("**/audit")
        assert tab.page.locator("h1").inner_text().startswith("Audit")


def test_who_leaves_is_outside(browser: Browser, consortium: Shown) -> None:
    with tab_in(browser, consortium.url, token=consortium.token()) as tab:
        tab.page.get_by_role("button", name="Leave").click()
        tab.page.wait_for_url("**/enter")
        tab.open("/sites")
        assert tab.page.url.endswith("/enter")
