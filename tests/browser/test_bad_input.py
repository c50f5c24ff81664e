# SPDX-License-Identifier: Apache-2.0
"""What sites and disks may hand over: pages that say so, never a stack trace, never a script that runs."""

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_tab import Tab, tab_in
from dashboard_process import DashboardProcess, Shown
from playwright.sync_api import Browser

from coordinator.bench.generated import Generated
from coordinator.bench.setting import RUN
from coordinator.home import LEDGER
from coordinator.observation_store import STATUS
from federation import leaves as lv
from federation import notes
from federation.durable.real import RealFileSystem
from federation.ledger.log import Ledger

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("browser")]

EVIL = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
MANY = 9_000_000


@pytest.fixture
def broken(tmp_path: Path, consortium: Shown) -> Shown:
    """A copy of the consortium's directory, to be damaged before it is served."""
    directory = tmp_path / "coordinator"
    shutil.copytree(consortium.directory, directory)
    return Shown(generated=consortium.generated, dashboard=DashboardProcess(directory=directory))


def unharmed(tab: Tab) -> None:
    """Nothing ran that was not ours, and nobody sees our own insides."""
    assert tab.page.evaluate("window.hacked") is None
    assert "Traceback" not in tab.page.content()
    assert "could not be made" not in tab.text


def test_markup_and_megabytes_of_a_site_are_shown_as_text(browser: Browser, broken: Shown) -> None:
    directory = broken.dashboard.directory
    status = directory / STATUS / "alps.json"
    document = json.loads(status.read_text())
    document["status"]["software"] = EVIL + "x" * MANY
    for allocation in document["status"]["allocations"]:
        allocation["allocation"] = EVIL
    status.write_text(json.dumps(document))
    (directory / "telemetry" / "alps.jsonl").write_text(json.dumps({"run": EVIL, "round": EVIL, "loss": "x" * MANY}))
    with broken.dashboard as dashboard, tab_in(browser, dashboard.url, token=broken.token()) as tab:
        for path in ("/", "/sites", "/site/alps", f"/run/{RUN}"):
            assert tab.open(path) == 200
            tab.draw()
            unharmed(tab)
            assert len(tab.page.content()) < 2_000_000
        tab.open(f"/ledger?q={EVIL}")
        assert tab.page.locator("#q").input_value() == EVIL
        unharmed(tab)


def test_a_broken_leaf_is_named_on_every_page(browser: Browser, broken: Shown) -> None:
    segment = max((broken.dashboard.directory / LEDGER).rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0x40
    segment.write_bytes(data)
    with broken.dashboard as dashboard, tab_in(browser, dashboard.url, token=broken.token()) as tab:
        for path in ("/", "/sites", "/languages", "/ledger"):
            assert tab.open(path) == 200
            assert tab.page.locator(".notice.bad", has_text="federation verify").count()
            unharmed(tab)


def test_a_ledger_without_leaves_says_so(browser: Browser, broken: Shown) -> None:
    shutil.rmtree(broken.dashboard.directory / LEDGER)
    with broken.dashboard as dashboard, tab_in(browser, dashboard.url, token=broken.token()) as tab:
        for path, words in {
            "/": "No runs yet",
            "/ledger": "The ledger is empty",
            "/languages": "",
            "/sites": "",
            "/public": "",
        }.items():
            assert tab.open(path) == 200, path
            assert words in tab.text
            unharmed(tab)
        assert tab.open("/ledger/0") == 404


def test_a_run_without_rounds_says_so(browser: Browser, broken: Shown) -> None:
    directory, made = broken.dashboard.directory, broken.generated
    leaves = list(until_the_first_round(made))
    shutil.rmtree(directory / LEDGER)
    origin, key = notes.default_origin(made.consortium.name), made.consortium.key("ledger")
    ledger = Ledger.create(RealFileSystem(directory), LEDGER, origin, key)
    ledger.append(leaves)
    ledger.close()
    with broken.dashboard as dashboard, tab_in(browser, dashboard.url, token=broken.token()) as tab:
        for path, words in {
            "/": "",
            f"/run/{RUN}": "No round was opened yet",
            f"/run/{RUN}/rounds": "No round was opened yet",
            f"/run/{RUN}/missing": "admitted so far",
            "/languages": "n/a",
        }.items():
            assert tab.open(path) == 200
            tab.draw()
            assert words in tab.text
            unharmed(tab)


def until_the_first_round(made: Generated) -> Iterator[lv.Leaf]:
    """Leaves before any round."""
    return itertools.takewhile(lambda leaf: not isinstance(leaf.body, lv.RoundOpenedV1), made.ledger.leaves())


def test_a_language_that_nobody_knows_is_named_by_its_code(browser: Browser, hostile: Shown) -> None:
    with tab_in(browser, hostile.url, token=hostile.token()) as tab:
        assert tab.open("/languages") == 200
        assert "<script>document.title" in tab.text  # a code like any other, as text
        assert "languages that nobody here knows" in tab.text
        unharmed(tab)
