# SPDX-License-Identifier: Apache-2.0
"""`site-agent doctor --job`, as a process and under a fake Slurm: what it finds, and that no job of it is left."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_slurm import FakeSlurm, Fault

from site_agent import doctor_job
from site_agent.cli.main import cli
from site_agent.doctor_case import Finding, Verdict
from site_agent.doctor_job import examine_job
from site_agent.setup import NewSite, init_site
from site_agent.site_config import SITE_FILE, load_site_config
from site_agent.site_text import BatchChoice

pytestmark = pytest.mark.processes


def make_site(directory: Path, batch: BatchChoice | None = None, **slurm: object) -> Path:
    """A site with data; further keys of [slurm]."""
    site = directory / "alpha"
    (directory / "data").mkdir()
    new = NewSite(
        site="alpha",
        profile="localhost",
        data_dir=str(directory / "data"),
        languages=("en",),
        policy="ask",
        batch=batch or BatchChoice(),
    )
    init_site(site, new)
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in slurm.items())
    text = (site / SITE_FILE).read_text()
    (site / SITE_FILE).write_text(text.replace("[slurm]\n", f"[slurm]\n{lines}"))
    return site


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[FakeSlurm]:
    slurm = FakeSlurm(tmp_path / "slurm", runs_jobs=True)
    yield slurm
    slurm.close()


@pytest.fixture
def under_slurm(slurm: FakeSlurm, tmp_path: Path) -> Callable[..., Path]:
    def make(python: str = sys.executable, account: str = "fed", partition: str = "batch", **more: object) -> Path:
        batch = BatchChoice(launcher="slurm", account=account, partition=partition, seconds_limit=1800)
        keys = {"bin_dir": str(slurm.bin_dir), "poll_seconds": 0.2, "python": python}
        return make_site(tmp_path, batch, **{**keys, **more})

    return make


def the_job(site: Path, wait_seconds: float = 60.0) -> Finding:
    """The one finding about a job that did not report."""
    (found,) = examine_job(site, load_site_config(site), wait_seconds)
    assert found.check == "test job"
    return found


def nothing_left(slurm: FakeSlurm) -> bool:
    return all(job.is_over for job in slurm.jobs())


def test_a_job_that_is_a_process(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    found = {f.check: f for f in examine_job(site, load_site_config(site), 240.0)}
    assert {f.verdict for f in found.values()} == {Verdict.OK}, found
    assert found["accelerator there"].found.endswith("in order")
    assert list((site / "spool/doctor").iterdir()) == []


def test_a_job_of_the_batch_system(under_slurm: Callable[..., Path], slurm: FakeSlurm) -> None:
    site = under_slurm()
    result = CliRunner().invoke(cli, ["doctor", str(site), "--job", "--wait-seconds", "240", "--json"])
    found = {check["check"]: check for check in json.loads(result.output)["checks"]}
    wanted = [
        "slurm commands",
        "container",
        "slurm controller",
        "slurm accounting",
        "control job",
        "partition",
        "nodes",
        "account",
        "batch script",
    ]
    wanted += ["test job", "spool there", "accelerator there", "golden vectors there", "data there", "clock there"]
    assert {name: found[name]["verdict"] for name in wanted} == dict.fromkeys(wanted, "ok"), result.output
    assert nothing_left(slurm)
    assert [job.limit_seconds for job in slurm.jobs()] == [doctor_job.JOB_SECONDS]


def test_without_job_nothing_is_submitted(
    under_slurm: Callable[..., Path], slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("site_agent.doctor._NUMERICS", {})
    CliRunner().invoke(cli, ["doctor", str(under_slurm())])
    assert slurm.jobs() == []
    assert {call[1] for call in slurm.calls("sbatch")} == {"--version", "--test-only"}


def test_an_account_without_budget(under_slurm: Callable[..., Path], slurm: FakeSlurm) -> None:
    found = the_job(under_slurm(account="empty"))
    assert found.verdict is Verdict.FAILED
    assert found.found.startswith("account-exhausted (AssocGrpCPUMinutesLimit)")
    assert "slurm.account" in found.advice
    assert nothing_left(slurm)


def test_a_queue_that_is_long(under_slurm: Callable[..., Path], tmp_path: Path) -> None:
    waiting = FakeSlurm(tmp_path / "waiting")
    found = the_job(under_slurm(bin_dir=str(waiting.bin_dir)), wait_seconds=1.0)
    assert found.verdict is Verdict.WARNING
    assert "--wait-seconds" in found.advice
    assert len(waiting.jobs()) == 1
    assert nothing_left(waiting)


def test_a_partition_that_is_not_there(under_slurm: Callable[..., Path], slurm: FakeSlurm) -> None:
    found = the_job(under_slurm(partition="nope"))
    assert "expected a partition that this user may use" in found.found
    assert "slurm.partition" in found.advice
    assert slurm.jobs() == []


def test_a_submission_of_which_nobody_knows(under_slurm: Callable[..., Path], slurm: FakeSlurm) -> None:
    slurm.faults(Fault(command="sbatch", kind="fail_after", status=1, says="sbatch: error: Socket timed out"))
    found = the_job(under_slurm(clean_environment="NONE"))
    assert found.verdict is Verdict.FAILED
    assert slurm.jobs()[0].name in found.advice


def test_a_job_that_finds_no_python_package(
    under_slurm: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_job, "_AFTER_END_SECONDS", 0.5)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"/usr/bin/python3: No module named 'site_agent'\" >&2\nexit 1\n")
    python.chmod(0o755)
    found = the_job(under_slurm(python=str(python)))
    assert found.verdict is Verdict.FAILED
    assert found.found.startswith("the job left no report: module-missing")
    assert "slurm.modules" in found.advice
    assert "job.log" in found.advice


def test_a_module_that_is_missing(under_slurm: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_job, "_AFTER_END_SECONDS", 0.5)
    site = under_slurm()
    text = (site / SITE_FILE).read_text()
    assert "modules = []" in text
    (site / SITE_FILE).write_text(text.replace("modules = []", 'modules = ["rocm/6.2"]'))
    found = the_job(site)
    assert "module-missing: rocm/6.2" in found.found
    assert "slurm.modules" in found.advice
