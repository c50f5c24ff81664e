# SPDX-License-Identifier: Apache-2.0
"""Where everything must run, a skipped test is a failed one."""

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

REQUIRE_ALL = os.environ.get("FEDERATION_REQUIRE_ALL") == "1"

# A commit passes or fails by what it holds, not by luck; everywhere else Hypothesis looks for new examples each time.
settings.register_profile("repeatable", derandomize=True)
if REQUIRE_ALL:
    settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", default="", help="directory that tests of the dashboard leave screenshots in")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "device: needs an accelerator, may be skipped where there is none")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a fixture of their file run in one process, so that it is made once; other groups stay."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None and _shares_a_fixture(item):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


def _shares_a_fixture(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    found = item._fixtureinfo.name2fixturedefs.values()
    return any(definition.scope == "module" for definitions in found for definition in definitions)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    """`FEDERATION_REQUIRE_ALL=1` (as in CI) turns a skip into a failure that says why the test wanted to skip.

    No machine can be made to have an accelerator, so tests marked `device` may skip.
    """
    report = yield
    may_skip = hasattr(report, "wasxfail") or item.get_closest_marker("device") is not None
    if REQUIRE_ALL and report.skipped and not may_skip:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped although FEDERATION_REQUIRE_ALL=1: {reason}"
    return report
