# SPDX-License-Identifier: Apache-2.0
"""The serial job that runs an agent, under a real Slurm: its successor, its signal, a node that dies, no pile-up."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from slurm_bed import SlurmBed

SCRIPT = Path(__file__).parents[2] / "contrib/slurm/site-agent-serial.sbatch"
NAME = "federation-site-agent-lumi"
SECONDS = 60.0

AGENT = """#!/bin/bash
echo "$SLURM_JOB_ID $*" >> {base}/started
trap 'echo "$SLURM_JOB_ID" >> {base}/stopped; exit 0' TERM
[ -e {base}/mistake ] && exit 2
while true; do sleep 0.1; done
"""


@dataclass
class Chain:
    """Jobs of one name, one after the other, with an agent that does nothing."""

    slurm: SlurmBed
    base: Path

    def begin(self, time: str = "00:04:00") -> str:
        """Submits the first one, as an operator does."""
        agent = self.base / "site-agent"
        agent.write_text(AGENT.format(base=self.base))
        agent.chmod(0o755)
        (self.base / "site/state").mkdir(parents=True)
        script = self.base / SCRIPT.name  # with what a site changes in it
        script.write_text(SCRIPT.read_text().replace("#SBATCH --mem=1G\n", ""))
        partition = self.slurm.run(["sinfo", "--noheader", "--format=%R"]).stdout.split()[0]
        given = [f"--job-name={NAME}", f"--partition={partition}", f"--export=ALL,SITE_AGENT={agent}"]
        given += [f"--output={self.base}/%x.log", f"--time={time}"]
        argv = ["sbatch", "--parsable", *given, str(script), str(self.base / "site")]
        return self.slurm.run(argv).stdout.strip()

    def jobs(self, *states: str) -> list[str]:
        """Ids of those that are in the queue."""
        argv = ["squeue", "--noheader", f"--name={NAME}", f"--states={','.join(states) or 'PENDING,RUNNING'}"]
        return sorted(self.slurm.run([*argv, "--format=%i"]).stdout.split(), key=int)

    def lines(self, name: str) -> list[str]:
        """What agents wrote down."""
        path = self.base / name
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_agent(self, job: str) -> None:
        """Returns when this job's agent serves."""
        line = f"{job} serve {self.base / 'site'}"
        self.slurm.wait_for(lambda: line in self.lines("started"), SECONDS, f"an agent in job {job}")

    def successor(self, *before: str) -> str:
        """The one job that waits behind those."""
        self.slurm.wait_for(lambda: self.jobs("PENDING"), SECONDS, "a successor")
        (found,) = self.jobs("PENDING")
        assert found not in before
        return found

    def hurry(self, job: str) -> None:
        """The five minutes are over."""
        self.slurm.run(["scontrol", "update", f"jobid={job}", "starttime=now"])


@pytest.fixture
def chain(slurm: SlurmBed, tmp_path: Path) -> Iterator[Chain]:
    yield Chain(slurm, tmp_path)
    slurm.run(["scancel", f"--name={NAME}"])


def test_the_next_job_goes_on_when_this_one_ends_and_they_do_not_pile_up(chain: Chain) -> None:
    job = chain.begin()
    for _ in range(3):
        chain.wait_for_agent(job)
        following = chain.successor(job)
        chain.hurry(following)
        assert chain.jobs() == [job, following]
        chain.slurm.run(["scancel", "--signal=TERM", "--batch", job])
        chain.slurm.wait_for(lambda job=job: chain.slurm.state(job) == "COMPLETED", SECONDS, "a good end")
        assert job in chain.lines("stopped")
        job = following
    chain.wait_for_agent(job)


def test_slurm_tells_the_agent_before_the_wall_time_ends(chain: Chain) -> None:
    """Less than three minutes are left from the beginning, so the signal comes at once."""
    job = chain.begin("00:01:00")
    chain.slurm.wait_for(lambda: chain.slurm.state(job) == "COMPLETED", 2 * SECONDS, "a good end")
    following = chain.successor(job)
    argv = ["squeue", "--noheader", f"--jobs={following}", "--format=%l"]
    assert chain.slurm.run(argv).stdout.strip() in ("1:00", "2:00")


def test_a_node_that_dies_ends_nothing(chain: Chain) -> None:
    job = chain.begin()
    chain.wait_for_agent(job)
    following = chain.successor(job)
    chain.hurry(following)
    chain.slurm.fail_node()
    chain.slurm.wait_for(lambda: chain.slurm.state(job) == "NODE_FAIL", SECONDS, "a lost job")
    assert chain.jobs() == [following]
    chain.slurm.resume_node()
    chain.wait_for_agent(following)


def test_an_operators_mistake_ends_the_chain(chain: Chain) -> None:
    (chain.base / "mistake").write_text("")
    job = chain.begin()
    chain.slurm.wait_for(lambda: chain.slurm.state(job) == "FAILED", SECONDS, "a failed job")
    chain.slurm.wait_for(lambda: chain.jobs() == [], SECONDS, "no successor")
