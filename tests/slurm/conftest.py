# SPDX-License-Identifier: Apache-2.0
"""One real Slurm in each process that runs tests of this directory; those of one file run one after the other."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from federation_processes import JobServer, ProcessFederation, Setting
from slurm_bed import SlurmBed, slurm_bed, why_not
from slurm_federation import FAST, SETTING

from site_agent.site_text import BatchChoice


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slurm: wants a real Slurm, which the tests start themselves")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests here: `slurm`, real processes, one group of pytest-xdist for each file: they mostly wait."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.processes)
            item.add_marker(pytest.mark.xdist_group(f"slurm: {item.path.stem}"))


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


@pytest.fixture(scope="session")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    """Forks the jobs of all federations."""
    server = JobServer(tmp_path_factory.mktemp("jobs"))
    yield server
    server.service.stop()


@pytest.fixture(scope="session")
def undisturbed(job_server: JobServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Theta of the run as it ends with jobs that are plain processes."""
    base = tmp_path_factory.mktemp("local")
    with ProcessFederation(base=base, setting=SETTING, server=job_server) as federation:
        federation.set_up().start().run()
    return federation.outcome().theta


@pytest.fixture
def under_slurm(
    slurm: SlurmBed, job_server: JobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., ProcessFederation]]:
    """Makes a federation whose jobs the bed runs."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    made = []

    def make(
        *, seconds_limit: int = 600, lines: Mapping[str, str] = FAST, setting: Setting = SETTING, **more: object
    ) -> ProcessFederation:
        batch = BatchChoice(launcher="slurm", partition="batch", account=slurm.account, seconds_limit=seconds_limit)
        federation = ProcessFederation(
            base=tmp_path,
            setting=setting,
            server=job_server,
            batch=batch,
            slurm=lines,
            **more,  # type: ignore[arg-type]
        )
        made.append(federation)
        return federation.set_up()

    yield make
    for federation in made:
        federation.stop()
