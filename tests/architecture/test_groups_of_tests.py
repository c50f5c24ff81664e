# SPDX-License-Identifier: Apache-2.0
"""Tests of one group run in one process: what takes a minute to set up would be set up in each of them otherwise.

pytest-xdist hands out tests by their ids, which it ends with the name of the group.
"""

import pytest


@pytest.fixture(scope="module")
def shared() -> str:
    return "made once"


def test_a_fixture_of_a_file_makes_a_group(request: pytest.FixtureRequest, shared: str) -> None:
    has_groups = request.config.getoption("loadgroup", default=False)
    assert request.node.nodeid.endswith(f"@{request.path}") is has_groups


@pytest.mark.xdist_group("a group of its own")
def test_a_mark_makes_one_too(request: pytest.FixtureRequest) -> None:
    has_groups = request.config.getoption("loadgroup", default=False)
    assert request.node.nodeid.endswith("@a group of its own") is has_groups
