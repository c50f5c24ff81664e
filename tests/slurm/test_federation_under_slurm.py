# SPDX-License-Identifier: Apache-2.0
"""A federation whose jobs run under a real Slurm, disturbed in every way that a centre knows: the bits stay the same.

All sites are required and no bound is near, so a run that was disturbed must end with the theta of an undisturbed one
(invariant I6); and whatever was killed, of one allocation there is one execution (invariant I5).
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from federation_processes import SITES, JobServer, ProcessFederation, Setting
from slurm_bed import SlurmBed

from federation.durable.real import RealFileSystem
from federation.leaves import Outcome as Verdict
from site_agent import layout
from site_agent.identity import job_tag, load_identity
from site_agent.inner_loop.last_word import EXIT_FENCED
from site_agent.preflight_report import read_preflight
from site_agent.site_config import REFERENCE_MODULE
from site_agent.site_text import BatchChoice

pytestmark = pytest.mark.timeout(600)

SETTING, SHORT = Setting(num_rounds=12), Setting(num_rounds=2)
FAST = {"poll_seconds": "0.3"}
Disturb = Callable[[ProcessFederation, SlurmBed], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    server = JobServer(tmp_path_factory.mktemp("jobs"))
    yield server
    server.service.stop()


@pytest.fixture(scope="module")
def undisturbed(server: JobServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Theta of the run as it ends with jobs that are plain processes."""
    with ProcessFederation(base=tmp_path_factory.mktemp("local"), setting=SETTING, server=server) as federation:
        federation.set_up().start().run()
    return federation.outcome().theta


@pytest.fixture
def under_slurm(
    slurm: SlurmBed, server: JobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
            server=server,
            batch=batch,
            slurm=lines,
            **more,  # type: ignore[arg-type]
        )
        made.append(federation)
        return federation.set_up()

    yield make
    for federation in made:
        federation.stop()


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
    job = running_job(federation, slurm)
    slurm.submit(
        "exit 0", "--qos=urgent", f"--account={slurm.account}", "--exclusive", "--time=1", "--output=/dev/null"
    )
    federation.wait_for(lambda: slurm.state(job) == "PENDING", "the job that gave way in the queue")


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
    [cancel, requeue, drain, node_failure, preemption, kill_the_agent, controller_away],
    ids=lambda f: f.__name__,
)
def test_whatever_a_centre_does_the_bits_are_those_of_an_undisturbed_run(
    under_slurm: Callable[..., ProcessFederation], slurm: SlurmBed, undisturbed: tuple[str, ...], disturb: Disturb
) -> None:
    federation = under_slurm().start()
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


# --- what was seen ----------------------------------------------------------------------------------------------------


def assert_same_bits_and_single_executions(
    federation: ProcessFederation, slurm: SlurmBed, undisturbed: tuple[str, ...]
) -> None:
    federation.stop()
    assert federation.outcome().theta == undisturbed
    for site in SITES:
        started = Counter(name for name, state, code in jobs_of(federation, slurm, site) if trained(state, code))
        assert set(started.values()) <= {1}, f"{site}: an allocation was executed twice: {started}"


def trained(state: str, exit_code: str) -> bool:
    """Whether a job got further than the claim."""
    return exit_code != f"{EXIT_FENCED}:0" and not (state.startswith("CANCELLED") and exit_code == "0:0")


def jobs_of(federation: ProcessFederation, slurm: SlurmBed, site: str) -> list[tuple[str, str, str]]:
    """Name, state and exit code of every job of a site's allocations, held control job left out."""
    tag = job_tag(load_identity(RealFileSystem(federation.site(site)), site))
    rows = slurm.accounted("--allocations", fields="JobName%200,State,ExitCode")
    return [(name, state, code) for name, state, code in rows if name.endswith(tag) and "-control-" not in name]


def running_job(federation: ProcessFederation, slurm: SlurmBed) -> str:
    """Id of alpha's job, once it runs."""
    found = federation.wait_for(lambda: handle_of(federation), "a handle of alpha's job")
    slurm.wait_for(lambda: slurm.state(found) == "RUNNING", 30, "a running job of alpha's")
    assert commits(federation) < SETTING.num_rounds, "what comes now is no disturbance"
    return str(found)


def handle_of(federation: ProcessFederation) -> str:
    view = federation.view("alpha")
    return view.allocation.handle.rpartition(":")[2] if view and view.allocation.state != "ended" else ""


def remark(federation: ProcessFederation) -> str:
    view = federation.view("alpha")
    return view.allocation.remark if view else ""


def commits(federation: ProcessFederation) -> int:
    view = federation.view("alpha")
    return view.num_commits if view else 0
