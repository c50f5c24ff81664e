# SPDX-License-Identifier: Apache-2.0
"""A Chromium for each module, and one generated consortium for all of them that only look."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_tab import CHROMIUM
from dashboard_process import Shown, shown
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}, of Debian's package chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="session")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    yield from shown(tmp_path_factory.mktemp("consortium") / "coordinator")


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    yield from shown(tmp_path_factory.mktemp("hostile") / "coordinator", num_rounds=20, evaluate_every=3, hostile=True)


@pytest.fixture(scope="module")
def screenshots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    chosen = request.config.getoption("--screenshots")
    directory = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory
