# SPDX-License-Identifier: Apache-2.0
"""Generated directories that every test of the dashboard reads, and none writes."""

from collections.abc import Iterator

import pytest
from dashboard_bench import NOW_US, Bench

from coordinator.bench.generated import Generated, generate
from coordinator.bench.setting import LANGUAGES
from federation.roster_document import Role


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    directory = tmp_path_factory.mktemp("dashboard") / "coordinator"
    found = generate(directory, num_rounds=12, num_sites=3, languages=LANGUAGES[:4], now_us=NOW_US, seed=7)
    yield found
    found.close()


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    directory = tmp_path_factory.mktemp("hostile") / "coordinator"
    found = generate(
        directory, num_rounds=20, num_sites=3, languages=LANGUAGES[:4], now_us=NOW_US, seed=7, hostile=True
    )
    yield found
    found.close()


@pytest.fixture
def bench(made: Generated) -> Bench:
    return Bench(made)


@pytest.fixture
def viewer(made: Generated) -> Bench:
    found = Bench(made, public=("state", "scores"))
    found.enter()
    return found


@pytest.fixture
def auditor(made: Generated) -> Bench:
    found = Bench(made)
    found.enter(Role.AUDITOR)
    return found
