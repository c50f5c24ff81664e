# SPDX-License-Identifier: Apache-2.0
"""Two sites whose windows an executable trains, with real agents and a coordinator: killed or not, the same bits."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from federation_processes import PLAIN, SITES, JobServer, Outcome, ProcessFederation
from toy_command_job import KILLS_FILE, TOY

from federation.leaves import Outcome as Verdict
from federation.rounds import RunState
from site_agent.site_config import COMMAND_MODULE

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600), pytest.mark.xdist_group("command federation")]

SETTING = replace(PLAIN, num_rounds=2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    server = JobServer(tmp_path_factory.mktemp("jobs"))
    yield server
    server.service.stop()


def ended(server: JobServer, base: Path, kills: dict[str, tuple[str, ...]]) -> Outcome:
    """As site.toml has it, or with a job module around it that arms failpoints."""
    how = {"trainer": "toy_command_job"} if kills else {"trainer": COMMAND_MODULE, "command": TOY}
    with ProcessFederation(base=base, setting=SETTING, server=server, **how) as federation:  # type: ignore[arg-type]
        federation.set_up()
        for site, failpoints in kills.items():
            (federation.site(site) / KILLS_FILE).write_text("\n".join(failpoints))
        federation.start().run().stop()
        for site in kills:
            assert not (federation.site(site) / KILLS_FILE).read_text(), "not every kill came"
    return federation.outcome()


def test_killed_jobs_and_undisturbed_ones_end_with_the_same_theta(server: JobServer, tmp_path: Path) -> None:
    undisturbed = ended(server, tmp_path / "undisturbed", {})
    assert undisturbed.run.state is RunState.COMPLETED
    verdicts = [v for found in undisturbed.run.rounds.values() for v in found.verdicts.values()]
    assert [v.outcome for v in verdicts] == [Verdict.ADMITTED] * SETTING.num_rounds * len(SITES)
    kills = {"alpha": ("job.before-command", "job.after-command"), "beta": ("job.after-training-checkpoint",)}
    assert ended(server, tmp_path / "killed", kills).theta == undisturbed.theta
