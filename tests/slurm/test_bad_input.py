# SPDX-License-Identifier: Apache-2.0
"""What goes wrong at one site in mid-run: a typed reason in the ledger, in `status` and at the end of the log.

Whatever it was, it costs the round that was open, the agent tries again only where that can help, and after the
operator has mended it the run goes on to its end.
"""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from federation_processes import ProcessFederation, Setting
from services import LIBRARY, run_command
from slurm_bed import SlurmBed
from slurm_federation import FAST, commits, handle_of, running_job

from federation.leaves import Reason
from federation.rounds import RunState
from site_agent import layout
from site_agent.failures import failure_of
from site_agent.launcher.slurm.batch import LOG_FILE
from site_agent.site_config import COMMAND_MODULE, SITE_FILE
from site_agent.views import RunView

pytestmark = pytest.mark.timeout(600)

SETTING = Setting(num_rounds=12)
SLOWLY = "--pause=0.5"
"""Of alpha's executable: a window takes two seconds, so that a job can be ended in the middle of one."""

REFUSED = (
    ('partition = "batch"', 'partition = "nowhere"', "unknown-partition"),
    ('account = "{account}"', 'account = "nobody"', "unknown-account"),
    ("seconds_limit = 600", "seconds_limit = 864000", "wall-time-limit"),
)
"""Lines of site.toml, what a person made of them, and the code."""

MISBEHAVIOUR = (
    ("exit-1", "trainer-exit", Reason.JOB_FAILED),
    ("no-result", "no-result", Reason.JOB_FAILED),
    ("nan-loss", "non-finite", Reason.NON_FINITE),
    ("bf16", "wrong-precision", Reason.MODEL_DIFFERS),
)


@pytest.fixture
def mode(tmp_path: Path) -> Path:
    """File with what alpha's executable is told."""
    path = tmp_path / "mode"
    path.write_text(SLOWLY)
    return path


@pytest.fixture
def federation(under_slurm: Callable[..., ProcessFederation], mode: Path) -> ProcessFederation:
    """Runs, and has committed a round; its windows are trained by an executable."""
    toy = f"{shlex.quote(sys.executable)} {shlex.quote(str(LIBRARY / 'toy_command.py'))}"
    of_alpha = f"case $FEDERATION_WORK_ORDER in */alpha/*) how=$(cat {shlex.quote(str(mode))});; esac"
    command = ("/bin/sh", "-c", f"{of_alpha}; exec {toy} ${{how:-}}")
    lines = {**FAST, "modules": "[]"}
    federation = under_slurm(setting=SETTING, lines=lines, trainer=COMMAND_MODULE, command=command)
    config = federation.site("alpha") / SITE_FILE
    config.write_text(config.read_text().replace("max_failures = 1000", "max_failures = 1"))
    federation.start().begin()
    federation.wait_for(lambda: commits(federation) >= 1, "a commit")
    return federation


def view_of(federation: ProcessFederation) -> RunView:
    found = federation.view("alpha")
    assert found is not None
    return found


def declined(federation: ProcessFederation, code: str, reason: Reason = Reason.JOB_FAILED) -> None:
    """Waits until alpha's newest job has ended with that code, and the round that it was in is declined."""

    def is_declined() -> bool:
        view = view_of(federation)
        is_over = view.allocation.state == "ended" and view.allocation.reason == code and not view.open_rounds
        return is_over and ("declined", reason) in [(v.verdict, v.reason) for v in view.verdicts[:1]]

    federation.wait_for(is_declined, f"a round that alpha declines for {code}")


def status(federation: ProcessFederation) -> str:
    return run_command("site-agent", "status", federation.site("alpha"))


def goes_on(federation: ProcessFederation) -> None:
    """The operator says that it is mended."""
    before = commits(federation)
    run_command("site-agent", "run", "retry", federation.site("alpha"), "tiny")
    federation.wait_for(lambda: commits(federation) > before, "another commit")


def end_in_mid_window(federation: ProcessFederation, slurm: SlurmBed) -> None:
    """Alpha's job, while a round waits for it."""
    job = running_job(federation, slurm)
    federation.wait_for(lambda: view_of(federation).open_rounds, "an open round")
    slurm.cancel(job)


def change(federation: ProcessFederation, old: str, new: str) -> None:
    """Of site.toml, while the agent is down."""
    federation.services["alpha"].stop()
    path = federation.site("alpha") / SITE_FILE
    text = path.read_text()
    assert text.count(old) == 1, (old, text)
    path.write_text(text.replace(old, new))
    federation.services["alpha"].start()


def test_what_the_batch_system_refuses(federation: ProcessFederation, slurm: SlurmBed) -> None:
    for old, new, code in REFUSED:
        old = old.format(account=slurm.account)
        change(federation, old, new)
        end_in_mid_window(federation, slurm)
        declined(federation, code)
        said = status(federation)
        assert f", {code}: sbatch: " in said
        assert f"WAITS FOR A HUMAN: {failure_of(code).advice}" in said
        assert f"not started, {code}: sbatch: " in (federation.base / "alpha.log").read_text()
        assert not handle_of(federation), "no other job is tried before somebody says so"
        change(federation, new, old)
        goes_on(federation)


def test_a_module_that_the_centre_does_not_have(federation: ProcessFederation, slurm: SlurmBed) -> None:
    change(federation, "modules = []", 'modules = ["rocm/99"]')
    end_in_mid_window(federation, slurm)
    declined(federation, "module-missing")
    assert "module-missing" in status(federation)
    assert log_of(federation)[-1] == "module-missing: rocm/99"
    change(federation, 'modules = ["rocm/99"]', "modules = []")
    goes_on(federation)


def log_of(federation: ProcessFederation) -> list[str]:
    """Lines of the log of alpha's newest job."""
    number = int(view_of(federation).allocation.allocation.removeprefix("a"))
    return (federation.site("alpha") / layout.allocation_dir("tiny", number) / LOG_FILE).read_text().splitlines()


def test_a_trainer_that_does_not_keep_to_its_contract(federation: ProcessFederation, mode: Path) -> None:
    for how, code, reason in MISBEHAVIOUR:
        mode.write_text(f"--mode={how}")
        declined(federation, code, reason)
        assert code in status(federation)
        assert log_of(federation)[-1].startswith(f"{code}: "), log_of(federation)[-3:]
        mode.write_text("")
        goes_on(federation)
    federation.wait_for(federation.completed, "the run's end")
    federation.stop()
    assert federation.outcome().run.state is RunState.COMPLETED
