# SPDX-License-Identifier: Apache-2.0
"""The serial job that runs an agent, under a real Slurm: its successor, its signal, a node that dies, no pile-up."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from federation_processes import ProcessFederation
from services import LIBRARY, command_line
from slurm_bed import SlurmBed
from slurm_federation import SETTING, assert_same_bits_and_single_executions, commits, jobs_of

from site_agent import layout

SCRIPT = Path(__file__).parents[2] / "contrib/slurm/site-agent-serial.sbatch"
NAME = "federation-site-agent-lumi"
SECONDS = 60.0

IDLE_AGENT = """#!/bin/bash
trap 'echo "$SLURM_JOB_ID" >> {base}/stopped; exit 0' TERM
echo "$SLURM_JOB_ID $*" >> {base}/started
[ -e {base}/mistake ] && exit 2
while true; do sleep 0.1; done
"""

REAL_AGENT = """#!/bin/bash
echo "$SLURM_JOB_ID $*" >> {base}/started
seconds=({seconds})
started=$(wc -l < {base}/started)
export OMP_NUM_THREADS=1 PYTHONPATH={library}
exec {command} "$@" --poll-seconds 0.05 --for-seconds "${{seconds[started - 1]}}"
"""


@dataclass
class Chain:
    """Jobs of one name, one after the other."""

    slurm: SlurmBed
    base: Path

    @property
    def site(self) -> Path:
        """The site's directory."""
        return self.base / "sites" / "alpha"

    def begin_with_the_real_one(self, *for_seconds: int) -> str:
        """The first job; each agent has so many seconds, 0 for as long as it likes."""
        command, seconds = shlex.join(command_line("site-agent")), " ".join(map(str, for_seconds))
        program = REAL_AGENT.format(base=self.base, library=LIBRARY, command=command, seconds=seconds)
        return self.begin(program)

    def begin(self, program: str = "", *, time: str = "00:20:00") -> str:
        """Submits the first one, as an operator does; an agent that is not given as a program does nothing."""
        agent = self.base / "site-agent"
        agent.write_text(program or IDLE_AGENT.format(base=self.base))
        agent.chmod(0o755)
        (self.site / "state").mkdir(parents=True, exist_ok=True)
        script = self.base / SCRIPT.name  # with what a site changes in it
        script.write_text(SCRIPT.read_text().replace("#SBATCH --mem=1G\n", ""))
        partition = self.slurm.run(["sinfo", "--noheader", "--format=%R"]).stdout.split()[0]
        given = [f"--job-name={NAME}", f"--partition={partition}", f"--export=ALL,SITE_AGENT={agent}"]
        given += [f"--output={self.base}/%x.log", f"--time={time}"]
        argv = ["sbatch", "--parsable", *given, str(script), str(self.site)]
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
        line = f"{job} serve {self.site}"
        self.slurm.wait_for(lambda: line in self.lines("started"), SECONDS, f"an agent in job {job}")

    def successor(self, *before: str) -> str:
        """The one job that waits behind those."""
        self.slurm.wait_for(lambda: self.jobs("PENDING"), SECONDS, "a successor")
        (found,) = self.jobs("PENDING")
        assert found not in before
        return found

    def end(self, job: str) -> None:
        """What Slurm does before the wall time, and what must follow."""
        self.slurm.run(["scancel", "--signal=TERM", "--batch", job])
        self.slurm.wait_for(lambda: self.slurm.state(job) == "COMPLETED", SECONDS, "a good end")

    def times(self, job: str) -> tuple[str, str]:
        """Start and end of a job that has ended, as they can be compared."""
        self.slurm.wait_for(lambda: self._accounted(job)[1] != "Unknown", SECONDS, "the end in sacct")
        return self._accounted(job)

    def _accounted(self, job: str) -> tuple[str, str]:
        ((start, end),) = self.slurm.accounted(f"--jobs={job}", fields="Start,End")
        return start, end

    def hurry(self, job: str) -> None:
        """The five minutes are over."""
        self.slurm.run(["scontrol", "update", f"jobid={job}", "starttime=now"])

    def next(self, job: str) -> str:
        """The successor of a job whose agent serves; nothing but that job keeps it from starting."""
        self.wait_for_agent(job)
        following = self.successor(job)
        self.hurry(following)
        return following


@pytest.fixture
def chain(slurm: SlurmBed, tmp_path: Path) -> Iterator[Chain]:
    yield Chain(slurm, tmp_path)
    slurm.run(["scancel", f"--name={NAME}"])


def test_the_next_job_goes_on_when_this_one_ends_and_they_do_not_pile_up(chain: Chain) -> None:
    job = chain.begin()
    for _ in range(3):
        following = chain.next(job)
        assert chain.jobs() == [job, following]
        chain.end(job)
        assert job in chain.lines("stopped")
        job = following
    chain.wait_for_agent(job)


def test_slurm_tells_the_agent_before_the_wall_time_ends(chain: Chain) -> None:
    """The limit is shortened under a job that runs: Slurm drops a signal that is due while a job is being started."""
    job = chain.begin(time="00:19:00")
    chain.wait_for_agent(job)
    following = chain.successor(job)
    chain.slurm.run(["scontrol", "update", f"jobid={job}", "timelimit=3"])
    chain.slurm.wait_for(lambda: chain.slurm.state(job) == "COMPLETED", 2 * SECONDS, "a good end")
    assert job in chain.lines("stopped")
    argv = ["squeue", "--noheader", f"--jobs={following}", "--format=%l"]
    assert chain.slurm.run(argv).stdout.strip() == "19:00"


def test_a_node_that_dies_ends_nothing(chain: Chain) -> None:
    job = chain.begin()
    following = chain.next(job)
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


def test_one_agent_after_the_other_serves_a_run(
    chain: Chain, under_slurm: Callable[..., ProcessFederation], undisturbed: tuple[str, ...]
) -> None:
    """The first is told to end, the second dies with its node and all jobs, the third has seconds, the fourth the rest.

    What they serve is one allocation with one job, and the bits are those of a run with one agent.
    """
    slurm = chain.slurm
    federation = under_slurm(elsewhere=["alpha"], seconds_limit=1800).start()
    first = chain.begin_with_the_real_one(0, 0, 5, 0)
    federation.begin()
    second = chain.next(first)
    federation.wait_for(lambda: commits(federation) >= 2, "two commits")
    assert chain.jobs("RUNNING") == [first]
    chain.end(first)
    third, before = chain.next(second), commits(federation)
    federation.wait_for(lambda: commits(federation) > before, "a commit under the second agent")
    slurm.crash_node()
    slurm.fail_node()
    slurm.wait_for(lambda: slurm.state(second) == "NODE_FAIL", SECONDS, "a lost job")
    assert commits(federation) < SETTING.num_rounds, "what came then was no disturbance"
    slurm.start_node()
    slurm.resume_node()
    fourth = chain.next(third)
    slurm.wait_for(lambda: slurm.state(third) == "COMPLETED", SECONDS, "an end by itself")
    chain.wait_for_agent(fourth)
    federation.wait_for(federation.completed, "the run's end")
    chain.end(fourth)
    assert_same_bits_and_single_executions(federation, slurm, undisturbed)
    assert len(jobs_of(federation, slurm, "alpha")) == 1, "one allocation was enough, and one job for it"
    assert_one_at_a_time(chain, first, second, third, fourth)


def assert_one_at_a_time(chain: Chain, *jobs: str) -> None:
    """Each owned the directory in its turn; only what did not end well cost an epoch."""
    times = [chain.times(job) for job in jobs]
    assert all(end <= start for (_, end), (start, _) in pairwise(times)), times
    said = (chain.base / f"{NAME}.log").read_text()
    assert re.findall(r"epoch (\d+)$", said, re.MULTILINE) == ["1", "1", "2", "2"], said
    owners = [path for path in (chain.site / layout.LOCK).iterdir() if path.name.isdecimal()]
    assert [owner.name for owner in owners] == [str(len(jobs))]
    assert json.loads(owners[0].read_text())["released"]
