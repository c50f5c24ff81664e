# SPDX-License-Identifier: Apache-2.0
"""When squeue expects a waiting job to start, and a job that is not to start yet."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from site_agent.launcher.slurm.commands import Completed, SlurmCommands
from site_agent.launcher.slurm.launcher import SlurmLauncher, SlurmSite
from site_agent.launcher.slurm.settings import SlurmSection
from site_agent.launcher.slurm.watch import Watch

NOW = 1_800_000_000.0


def local(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


def launcher(commands: SlurmCommands, settings: SlurmSection, directory: Path) -> SlurmLauncher:
    site = SlurmSite(
        site_dir=str(directory),
        data_dirs=(),
        seconds_limit=600,
        python="/usr/bin/python3",
        settings=settings,
        commands=commands,
        control=None,
        watch=Watch(commands, None, poll_seconds=30, has_accounting=False),
    )
    return SlurmLauncher(site, "a_trainer.job", environment={})


@pytest.mark.parametrize(
    ("state", "start", "expected"),
    [
        ("PENDING", local(NOW + 7200), 7200),
        ("PENDING", local(NOW - 60), 1),
        ("PENDING", "N/A", 0),
        ("PENDING", "Unknown", 0),
        ("PENDING", "", 0),
        ("PENDING", "tomorrow", 0),
        ("PENDING", "9999-12-31T99:99:99", 0),
        ("RUNNING", local(NOW + 7200), 0),
        ("COMPLETED", local(NOW - 60), 0),
    ],
)
def test_the_expected_start_of_a_job(tmp_path: Path, state: str, start: str, expected: int) -> None:
    def run(argv: Sequence[str], timeout_seconds: float) -> Completed:
        return Completed(status=0, out=f"7|{state}|Resources|0|{start}|a-name\n", err="")

    found = launcher(SlurmCommands(run=run), SlurmSection(), tmp_path)
    assert found.start_in_seconds("slurm:-:7", NOW) == expected
    assert found.start_in_seconds("slurm:-:8", NOW) == 0
    assert found.start_in_seconds("local:7", NOW) == 0


@pytest.mark.processes
def test_a_delayed_job_waits_and_says_until_when(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path / "slurm", clock=NOW)
    try:
        settings = SlurmSection(bin_dir=str(slurm.bin_dir), command_timeout_seconds=5)
        found = launcher(SlurmCommands(settings.bin_dir, 5), settings, tmp_path)
        handle = found.submit(tmp_path, "delayed", 1, 7200)
        assert "#SBATCH --begin=now+7200" in (tmp_path / "job.sbatch").read_text()
        assert 7100 < found.start_in_seconds(handle, NOW) <= 7200
        (tmp_path / "other").mkdir()
        found.submit(tmp_path / "other", "at-once", 1)
        assert "--begin" not in (tmp_path / "other" / "job.sbatch").read_text()
    finally:
        slurm.close()
