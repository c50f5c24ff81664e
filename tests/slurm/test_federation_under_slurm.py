# SPDX-License-Identifier: Apache-2.0
"""A federation's jobs under a real Slurm, disturbed in every way that a centre knows: the bits stay the same."""

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest
from federation_processes import SITES, ProcessFederation, Setting
from slurm_bed import SlurmBed
from slurm_federation import FAST, SETTING, assert_same_bits_and_single_executions, commits, jobs_of, running_job

from federation.durable.real import RealFileSystem
from federation.leaves import Outcome as Verdict
from site_agent import layout
from site_agent.preflight_report import read_preflight
from site_agent.site_config import REFERENCE_MODULE

pytestmark = pytest.mark.timeout(600)

SHORT = Setting(num_rounds=2)
NO_REQUEUE = {**FAST, "requeue": "false"}
Disturb = Callable[[ProcessFederation, SlurmBed], None]


# --- what a centre does to jobs ---------------------------------------------------------------------------------------


def cancel(federation: ProcessFederation, slurm: SlurmBed) -> None:
    slurm.cancel(running_job(federation, slurm))


def requeue(federation: ProcessFederation, slurm: SlurmBed) -> None:
    job = running_job(federation, slurm)
    slurm.requeue(job)
    slurm.wait_for(lambda: slurm.state(job) == "PENDING", 30, "the requeued job in the queue")


def drain(federation: ProcessFederation, slurm: SlurmBed) -> None:
    slurm.drain_node()
    slurm.cancel(running_job(federation, slurm))
    federation.wait_for(lambda: "Node" in remark(federation), "the successor's wait for a node")
    slurm.resume_node()


def node_failure(federation: ProcessFederation, slurm: SlurmBed) -> None:
    job = running_job(federation, slurm)
    slurm.crash_node()
    federation.wait_for(lambda: slurm.state(job) == "PENDING", "the requeued job in the queue")
    slurm.start_node()


def preemption(federation: ProcessFederation, slurm: SlurmBed) -> None:
    assert_gives_way(federation, slurm, "PENDING")


def preemption_for_good(federation: ProcessFederation, slurm: SlurmBed) -> None:
    """A job that is not to be requeued is ended instead."""
    assert_gives_way(federation, slurm, "PREEMPTED")


def assert_gives_way(federation: ProcessFederation, slurm: SlurmBed, state: str) -> None:
    """An urgent job wants the whole node: alpha's job goes, beta's too."""
    job = running_job(federation, slurm)
    urgent = ("--qos=urgent", f"--account={slurm.account}", "--exclusive", "--time=1")
    slurm.submit("exit 0", *urgent, "--output=/dev/null")
    federation.wait_for(lambda: slurm.state(job) == state, f"the job that gave way as {state}")
    ends = partial(slurm.accounted, "--jobs", job, "--duplicates", fields="State")
    federation.wait_for(lambda: ["PREEMPTED"] in ends(), "the preemption in the accounts")


def kill_the_agent(federation: ProcessFederation, slurm: SlurmBed) -> None:
    running_job(federation, slurm)
    service = federation.services["alpha"]
    service.failpoints.insert(0, "by hand")
    os.kill(service.pid, signal.SIGKILL)


def controller_away(federation: ProcessFederation, slurm: SlurmBed) -> None:
    slurm.stop_controller()
    federation.supervise()
    slurm.start_controller()


@pytest.mark.parametrize(
    "disturb",
    [cancel, requeue, drain, node_failure, preemption, preemption_for_good, kill_the_agent, controller_away],
    ids=lambda f: f.__name__,
)
def test_whatever_a_centre_does_the_bits_are_those_of_an_undisturbed_run(
    under_slurm: Callable[..., ProcessFederation], slurm: SlurmBed, undisturbed: tuple[str, ...], disturb: Disturb
) -> None:
    federation = under_slurm(lines=NO_REQUEUE if disturb is preemption_for_good else FAST).start()
    federation.begin()
    federation.wait_for(lambda: commits(federation) >= 2, "two commits")
    disturb(federation, slurm)
    federation.wait_for(federation.completed, "the run's end")
    assert_same_bits_and_single_executions(federation, slurm, undisturbed)


def test_an_agent_that_dies_around_its_submission_starts_nothing_twice(
    under_slurm: Callable[..., ProcessFederation], slurm: SlurmBed, undisturbed: tuple[str, ...]
) -> None:
    points = {"alpha": ("agent.after-intent", "agent.after-submit"), "beta": ("agent.after-submit",)}
    federation = under_slurm(agent_failpoints=points).start().run()
    assert federation.fired() == {site: list(names) for site, names in points.items()}
    assert_same_bits_and_single_executions(federation, slurm, undisturbed)
    for site in SITES:
        assert len(jobs_of(federation, slurm, site)) == 1, "one allocation was enough, and one job for it"


def test_a_chain_over_the_wall_time(
    under_slurm: Callable[..., ProcessFederation], slurm: SlurmBed, undisturbed: tuple[str, ...]
) -> None:
    """A job that waits for the other site's update reaches its wall time; its successor goes on in the same round."""
    federation = under_slurm(seconds_limit=60).start()
    federation.begin()
    federation.wait_for(lambda: commits(federation) >= 2, "two commits")
    beta = federation.services["beta"].pid
    os.kill(beta, signal.SIGSTOP)
    try:
        federation.wait_for(lambda: successor_is_ready(federation), "alpha's second job")
        before = commits(federation)
    finally:
        os.kill(beta, signal.SIGCONT)
    assert before < SETTING.num_rounds
    federation.wait_for(federation.completed, "the run's end")
    assert_same_bits_and_single_executions(federation, slurm, undisturbed)
    first = federation.agent_state("alpha").allocations["tiny"][0]
    assert first.end is not None
    assert first.end.reason in ("wall-time", "terminated"), first.end


def test_jobs_of_two_ranks_under_torchrun(under_slurm: Callable[..., ProcessFederation], slurm: SlurmBed) -> None:
    lines = {**FAST, "ranks_per_node": "2"}
    federation = under_slurm(lines=lines, trainer=REFERENCE_MODULE, setting=SHORT).start().run()
    federation.stop()
    run = federation.outcome().run
    assert [v.outcome for found in run.rounds.values() for v in found.verdicts.values()] == [Verdict.ADMITTED] * 4
    for site in SITES:
        report = read_preflight(RealFileSystem(federation.site(site)), layout.allocation_dir("tiny", 1))
        assert report is not None
        assert len(report.ranks) == 2


def successor_is_ready(federation: ProcessFederation) -> bool:
    view = federation.view("alpha")
    return view is not None and (view.allocation.allocation, view.allocation.state) == ("a2", "ready")


def remark(federation: ProcessFederation) -> str:
    view = federation.view("alpha")
    return view.allocation.remark if view else ""
