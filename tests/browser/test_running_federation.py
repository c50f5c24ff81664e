# SPDX-License-Identifier: Apache-2.0
"""The dashboard of a federation that trains: real coordinator, agents and jobs, a link from the command line."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser_tab import Tab, tab_in
from dashboard_process import DashboardProcess
from federation_processes import OPERATOR, RUN, JobServer, ProcessFederation, Setting
from playwright.sync_api import Browser, expect
from services import run_command

from coordinator.dashboard.gallery import FRESH_SECONDS
from coordinator.home import LEDGER, load_rosters
from federation.durable.real import RealFileSystem
from federation.leaves import RoundCommittedV1
from federation.ledger.log import Ledger

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("browser")]

COMMITS = "#table-runs tbody tr td:nth-of-type(3)"
UPDATE_SECONDS = 2.0
STRAGGLES_SECONDS = 3 + FRESH_SECONDS
"""So long that the page has to grow although nothing is heard: the script waits for three seconds with a chart."""

STRAGGLES_TRIED = 5


@dataclass(frozen=True, kw_only=True)
class Running:
    """A run that goes on for as long as the tests last, and its dashboard."""

    federation: ProcessFederation
    dashboard: DashboardProcess

    def link(self) -> str:
        """A one-time link, as an operator makes it."""
        base = self.federation.base
        said = run_command(
            "coordinator", "dashboard", "link", "--as", base / OPERATOR, "--coordinator", self.federation.coordinator
        )
        return said.splitlines()[0]

    def committed_at(self) -> list[float]:
        """When rounds were committed, by the coordinator's clock in unix seconds."""
        fs = RealFileSystem(self.federation.coordinator)
        rosters = load_rosters(fs, time.time_ns() // 1000)
        entry = rosters.coordinator()
        ledger = Ledger.open(fs, LEDGER, entry.ledger_origin, None, entry.ledger_public, rosters.witness_publics)
        return [leaf.at_us / 1e6 for leaf in ledger.leaves() if isinstance(leaf.body, RoundCommittedV1)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = JobServer(tmp_path_factory.mktemp("jobs"))
    base = tmp_path_factory.mktemp("running")
    with ProcessFederation(base=base, setting=Setting(num_rounds=2000), server=server) as federation:
        federation.set_up().start().begin()
        with DashboardProcess(directory=federation.coordinator) as dashboard:
            yield Running(federation=federation, dashboard=dashboard)
    server.service.stop()


def commits(tab: Tab) -> int:
    """As the overview says."""
    return int(tab.page.locator(COMMITS).inner_text().replace(",", ""))


def wait_for_commit(tab: Tab, number: int) -> float:
    """Waits until the overview shows so many commits; when it did, in unix seconds."""
    script = "([path, n]) => Number(document.querySelector(path).innerText.replace(',', '')) >= n && Date.now()"
    return float(tab.page.wait_for_function(script, arg=[COMMITS, number], polling=20).json_value()) / 1000


def test_a_running_federation_is_seen_as_it_moves(browser: Browser, running: Running) -> None:
    """In this order: the overview moves, one site straggles, the coordinator stops, the dashboard stops."""
    federation, dashboard = running.federation, running.dashboard
    with tab_in(browser, dashboard.url) as tab:
        tab.page.goto(running.link())
        tab.page.wait_for_url(f"{dashboard.url}/")
        expect(tab.page.locator("#live")).to_have_text("Live")
        expect(tab.page.locator(COMMITS)).to_be_visible(timeout=60_000)
        tab.page.evaluate("window.never_reloaded = true")
        the_overview_moves(tab, running)
        a_straggler_shows(tab, running)
        tab.open("/")
        federation.services.pop("coordinator").stop()
        expect(tab.page.locator(".notice.bad")).to_contain_text("coordinator was stopped", timeout=15_000)
        assert tab.complaints == []
        the_dashboard_goes_and_comes_back(tab, running)


def the_overview_moves(tab: Tab, running: Running) -> None:
    """Without a reload, and soon."""
    late = []
    for _ in range(3):
        wanted = commits(tab) + 1
        shown = wait_for_commit(tab, wanted)
        late.append(shown - running.committed_at()[wanted - 1])
    assert tab.page.evaluate("window.never_reloaded") is True
    # Several rounds a second come together; a machine that does other things, too, may make one of them wait.
    assert min(late) < UPDATE_SECONDS, late


def a_straggler_shows(tab: Tab, running: Running) -> None:
    """One site's agent stands still for a while: the other one waits for it."""
    tab.open(f"/run/{RUN}")
    beta = running.federation.services["beta"].pid
    bars = next((found for _ in range(STRAGGLES_TRIED) if (found := bars_without(beta, tab))), None)
    assert bars is not None
    newest = max(bars, key=lambda bar: bar["end"])["text"].partition(",")[0]
    last = {bar["lane"]: bar["phase"] for bar in bars if bar["text"].startswith(f"{newest},")}
    assert last["alpha"] == "waiting"
    assert last["beta"] in ("queued", "training", "uploading")
    assert tab.page.locator("#chart-timeline .bars .point").count() > 0


def bars_without(beta: int, tab: Tab) -> list[dict[str, Any]] | None:
    """The timeline once alpha has waited for long; None: beta stood still before it cosigned what alpha starts from."""
    bars_of = "document.getElementById('chart-timeline').figures?.bars || []"
    script = f"""([since, seconds]) => ({bars_of}).find(
        b => b.lane === 'alpha' && b.start > since && b.end - b.start > seconds)?.phase"""
    os.kill(beta, signal.SIGSTOP)
    try:
        arguments = [time.time() - STRAGGLES_SECONDS / 2, STRAGGLES_SECONDS]
        phase = tab.page.wait_for_function(script, arg=arguments).json_value()
        return tab.page.evaluate(bars_of) if phase == "waiting" else None
    finally:
        os.kill(beta, signal.SIGCONT)


def the_dashboard_goes_and_comes_back(tab: Tab, running: Running) -> None:
    """What was known stays on the page; another link, opened anywhere, lets it go on."""
    live = tab.page.locator("#live")
    shown = commits(tab)
    assert running.dashboard.stop() == 0
    expect(live).to_contain_text("cannot be reached", timeout=15_000)
    assert commits(tab) == shown
    running.dashboard.start()
    expect(live).to_contain_text("session is over", timeout=30_000)
    other = tab.page.context.new_page()
    other.goto(running.link())
    other.wait_for_url(f"{tab.url}/")
    expect(live).to_have_text("Live", timeout=30_000)
    assert "Traceback" not in (running.federation.coordinator.parent / "coordinator-dashboard.log").read_text()


def test_a_run_of_a_viewer_has_no_auditors_page(browser: Browser, running: Running) -> None:
    with tab_in(browser, running.dashboard.url) as tab:
        tab.page.goto(running.link())
        tab.page.wait_for_url(f"{running.dashboard.url}/")
        assert tab.page.locator("header nav a[href='/audit']").count() == 0
        assert tab.open("/audit") == 403


def test_the_log_of_refusals_names_no_secret(browser: Browser, running: Running) -> None:
    with tab_in(browser, running.dashboard.url) as tab:
        link = running.link()
        tab.page.goto(f"{link[:-9]}AAAAAAAAA")
        tab.page.get_by_text("This link is refused").wait_for()
    log = Path(running.federation.coordinator / "dashboard" / "security.log").read_text()
    assert "not that of the operator" in log
    assert link.partition("#")[2][-40:-9] not in log
