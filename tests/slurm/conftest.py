# SPDX-License-Identifier: Apache-2.0
"""One real Slurm for all tests of this directory, which therefore run in one process, one after the other."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_bed import SlurmBed, slurm_bed, why_not


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slurm: wants a real Slurm, which the tests start themselves")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests here: `slurm`, real processes, one group of pytest-xdist."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.processes)
            item.add_marker(pytest.mark.xdist_group("slurm"))


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[SlurmBed]:
    """The bed, in a directory with a short name: sockets lie in it."""
    if reason := why_not():
        pytest.skip(f"a real Slurm {reason}")
    directory = Path(tempfile.mkdtemp(prefix="slurm-bed-"))
    try:
        with slurm_bed(directory) as bed:
            yield bed
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def slurm(slurm_session: SlurmBed) -> Iterator[SlurmBed]:
    """The bed with an empty queue and an idle node; both again afterwards, whatever the test did to them."""
    yield slurm_session
    slurm_session.recover()
