# SPDX-License-Identifier: Apache-2.0
"""The doctor's questions and its test job under a real Slurm, and what an exhausted account does to a run."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from federation_processes import ProcessFederation
from slurm_bed import SlurmBed
from slurm_federation import commits

from site_agent.cli.main import cli
from site_agent.setup import NewSite, init_site
from site_agent.site_config import SITE_FILE
from site_agent.site_text import BatchChoice
from site_agent.views import AllocationView

pytestmark = pytest.mark.timeout(600)

SLURM_CHECKS = [
    "slurm commands",
    "slurm controller",
    "slurm accounting",
    "control job",
    "partition",
    "nodes",
    "account",
    "batch script",
    "test job",
]
OF_THE_JOB = ["spool there", "accelerator there", "golden vectors there", "data there", "clock there"]


@pytest.fixture
def bed(slurm: SlurmBed, monkeypatch: pytest.MonkeyPatch) -> SlurmBed:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    return slurm


def doctor(directory: Path, account: str, *, qos: str = "", ranks: int = 1) -> dict[str, dict[str, str]]:
    """The checks of a new site, with a test job."""
    site = directory / "alpha"
    (directory / "data").mkdir()
    batch = BatchChoice(launcher="slurm", partition="batch", account=account, qos=qos, seconds_limit=600)
    new = NewSite(
        site="alpha",
        profile="localhost",
        data_dir=str(directory / "data"),
        languages=("en",),
        policy="ask",
        batch=batch,
    )
    init_site(site, new)
    text = (site / SITE_FILE).read_text()
    (site / SITE_FILE).write_text(text.replace("[slurm]\n", f"[slurm]\npoll_seconds = 0.5\nranks_per_node = {ranks}\n"))
    result = CliRunner().invoke(cli, ["doctor", str(site), "--job", "--wait-seconds", "300", "--json"])
    return {check["check"]: check for check in json.loads(result.output)["checks"]}


def test_a_site_in_order(bed: SlurmBed, tmp_path: Path) -> None:
    found = doctor(tmp_path, bed.account, qos="urgent", ranks=2)
    wanted = [*SLURM_CHECKS, *OF_THE_JOB]
    assert {name: found.get(name, {}).get("verdict") for name in wanted} == dict.fromkeys(wanted, "ok"), found
    assert found["accelerator there"]["found"].startswith("2 rank(s) on ")
    assert found["accelerator there"]["found"].endswith("; in order")
    bed.wait_for(lambda: bed.run(["squeue", "--noheader"]).stdout == "", 30, "an empty queue")


def test_an_account_without_budget_is_told_at_once(bed: SlurmBed, tmp_path: Path) -> None:
    found = doctor(tmp_path, bed.empty_account)
    assert found["account"]["verdict"] == "ok"
    assert found["test job"]["verdict"] == "failed"
    assert found["test job"]["found"].startswith("account-exhausted (AssocGrpCPUMinutesLimit)")
    bed.wait_for(lambda: bed.run(["squeue", "--noheader"]).stdout == "", 30, "an empty queue")


@pytest.fixture
def federation(under_slurm: Callable[[], ProcessFederation], bed: SlurmBed) -> Iterator[ProcessFederation]:
    yield under_slurm()
    set_budget(bed, -1)


def test_a_budget_that_is_spent_in_mid_run(federation: ProcessFederation, bed: SlurmBed) -> None:
    """The successor waits for a person and says so; the others do not wait for it; with new budget all goes on."""
    federation.start().begin()
    federation.wait_for(lambda: allocation(federation).state == "ready" and commits(federation) >= 2, "two commits")
    set_budget(bed, 0)
    bed.cancel(allocation(federation).handle.rpartition(":")[2])
    federation.wait_for(lambda: allocation(federation).hindrance, "a successor that waits")
    hindrance = allocation(federation).hindrance
    assert hindrance is not None
    assert (hindrance.code, hindrance.needs_human) == ("account-exhausted", True)
    federation.wait_for(lambda: not open_rounds(federation), "no round that waits for this site")
    assert commits(federation) < federation.setting.num_rounds, "the budget was spent too late"
    said = CliRunner().invoke(cli, ["status", str(federation.site("alpha"))]).output
    assert "WAITS FOR A HUMAN: account-exhausted" in said
    log = (federation.base / "alpha.log").read_text()
    assert log.count("waits, account-exhausted (AssocGrpCPUMinutesLimit)") == 1
    set_budget(bed, -1)
    federation.wait_for(federation.completed, "the run's end")


def allocation(federation: ProcessFederation) -> AllocationView:
    view = federation.view("alpha")
    return view.allocation if view else AllocationView()


def open_rounds(federation: ProcessFederation) -> tuple[int, ...]:
    view = federation.view("alpha")
    return view.open_rounds if view else ()


def set_budget(bed: SlurmBed, cpu_minutes: int) -> None:
    """Of the account that jobs are charged to; -1 for no end of it."""
    limit = f"GrpTRESMins=cpu={cpu_minutes}"
    bed.run(["sacctmgr", "--immediate", "--quiet", "modify", "account", bed.account, "set", limit])
