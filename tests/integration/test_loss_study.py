# SPDX-License-Identifier: Apache-2.0
"""What the loss study simulates in one process is what real federations do, to the bit.

The same run.toml goes to coordinator, agents and jobs as processes, and to the simulator; the digests of theta of every
fragment must be equal after three exchanges of the whole model.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from federation_processes import CONSORTIUM, RUN, SITES, JobServer, ProcessFederation

from federation.bench.loss_settings import METHODS, Choice, Method, StudySettings, run_toml
from federation.rounds import RunState

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600), pytest.mark.xdist_group("loss study")]

SEED = 3
NUM_EXCHANGES = 3
SETTINGS = StudySettings(
    sites={site: (language,) for site, language in SITES.items()},
    num_inner_steps=4,
    tau=2,
    warmup_steps=2,
    inner_lr=3e-3,
    hidden_size=16,
    intermediate_size=32,
    num_heads=2,
    batch_size=2,
    sequence_length=16,
    evaluation_bytes=128,
)
CHOICES = {"int4": Choice(lr=0.7, beta=0.5), "sparse": Choice(lr=1.0, beta=0.9), "streaming": Choice(lr=1.4, beta=0.5)}


@dataclass(frozen=True)
class StudySetting:
    """A run of the study as a federation's setting."""

    method: Method
    num_rounds: int = NUM_EXCHANGES

    def run_toml(self, run: str = RUN) -> str:
        choice = CHOICES[self.method.name]
        return run_toml(
            SETTINGS, self.method, choice, seed=SEED, num_rounds=self.num_rounds, run=run, consortium=CONSORTIUM
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    server = JobServer(tmp_path_factory.mktemp("jobs"))
    yield server
    server.service.stop()


def simulate(server: JobServer, setting: StudySetting, sites: dict[str, Path], directory: Path) -> list[str]:
    """Theta digests that the trainer package's process arrives at."""
    spec = {
        "runs": [{"name": "simulated", "run_toml": setting.run_toml(), "seed": SEED}],
        "sites": [{"site": s, "data_dir": str(path), "languages": [SITES[s]]} for s, path in sites.items()],
        "out_dir": str(directory),
    }
    path = directory / "spec.json"
    path.write_text(json.dumps(spec))
    server.run("site_agent.trainer.loss_study", str(path))
    digests: list[str] = json.loads((directory / "simulated.json").read_text())["theta_digests"]
    return digests


@pytest.mark.parametrize("name", CHOICES)
def test_the_simulator_equals_a_federation(name: str, server: JobServer, tmp_path: Path) -> None:
    setting = StudySetting(METHODS[name])
    with ProcessFederation(base=tmp_path / "federation", setting=setting, server=server) as federation:
        federation.set_up().start().run().stop()
    outcome = federation.outcome()
    assert outcome.run.state is RunState.COMPLETED
    num_fragments = SETTINGS.num_fragments if METHODS[name].streaming else 1
    assert sorted(outcome.run.rounds) == list(range(NUM_EXCHANGES * num_fragments)), "a round was abandoned"
    sites = {site: federation.site(site) / "data" for site in SITES}
    simulated = simulate(server, setting, sites, tmp_path)
    assert tuple(simulated) == outcome.theta
    assert len(set(simulated)) == num_fragments
