# SPDX-License-Identifier: Apache-2.0
"""Sites that never answer, never get ready, or whose jobs die: a quorum goes on, or the run says who was missed."""

from dataclasses import dataclass, field, replace

import pytest
from majority_world import BOUNDS, MajorityWorld
from simulator.jobs import FakeJob, FakeLauncher
from simulator.settings import RUN, Setting
from simulator.world import SiteMachine

from coordinator.views import Document, run_document
from federation.leaves import Outcome, Reason, RoundAbandonedV1, RoundOpenedV1
from federation.messages import CommandKind
from federation.rounds import RoundState, RunState

MAX_STEPS = 9000
SHORT = replace(BOUNDS, answer_seconds=200, max_open_wait_seconds=600, max_round_seconds=500)


class DyingJob(FakeJob):
    """Begins to train, and dies of it."""

    def step(self, now: float) -> None:
        super().step(now)
        if self.done:
            self.alive = False


class StillbornJob(FakeJob):
    """Dies before its first word."""

    def step(self, now: float) -> None:
        self.alive = False


class FailingLauncher(FakeLauncher):
    """Starts jobs of one kind."""

    kind: type[FakeJob] = FakeJob

    def submit(self, *arguments: object, **named: object) -> str:
        handle = super().submit(*arguments, **named)  # type: ignore[arg-type]
        job = self.jobs[handle]
        self.jobs[handle] = self.kind(job.fs, job.directory, job.execution, job.manifest, job.theta0)
        return handle


@dataclass(kw_only=True)
class AbsentWorld(MajorityWorld):
    """Some sites do less than they should.

    Attributes:
        silent: agents that were never started.
        failing: per site what its jobs are like.
        mute_after: sites whose agent is gone once a round has opened.
    """

    silent: tuple[str, ...] = ()
    mute_after: tuple[str, ...] = ()
    failing: dict[str, type[FakeJob]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for machine in self.machines:
            if machine.site in self.failing:
                launcher = FailingLauncher(self.manifest, machine.launcher.theta0)
                launcher.kind = self.failing[machine.site]
                machine.launcher = launcher

    def _tick(self, machine: SiteMachine) -> None:
        run = self.state_of_run()
        gone = machine.site in self.mute_after and run is not None and run.rounds
        if machine.site not in self.silent and not gone:
            super()._tick(machine)

    def document(self) -> Document:
        """What `run show` prints."""
        assert self.coordinator is not None
        return run_document(self.coordinator, self.run_now)

    def start_agent(self, machine: SiteMachine):  # type: ignore[no-untyped-def]
        """Agents here lose patience with jobs that fail."""
        agent = super().start_agent(machine)
        agent.settings = replace(agent.settings, max_failures=2)
        agent.executor.settings = agent.settings
        return agent


def committed(world: AbsentWorld) -> list[tuple[str, ...]]:
    """Runs to the end; per round whose updates were sealed."""
    world.run(MAX_STEPS)
    assert world.run_now.state is RunState.COMPLETED, world.run_now.pause
    rounds = world.run_now.rounds.values()
    return [tuple(u.site for u in found.sealed) for found in rounds if found.state is RoundState.COMMITTED]


def paused(world: AbsentWorld) -> tuple[Reason, str]:
    """Runs until it pauses; why."""
    world.run(MAX_STEPS)
    run = world.run_now
    assert run.state is RunState.PAUSED
    assert run.pause is not None
    assert world.document()["reason"] == run.pause.sentence
    return run.pause.reason, run.pause.sentence


# --- one of three: the quorum goes on ---------------------------------------------------------------------------------


def test_a_site_whose_agent_never_ran_is_not_waited_for_longer_than_the_grace() -> None:
    world = AbsentWorld(silent=("site-c",))
    assert committed(world) == [("site-a", "site-b")]
    (opened,) = world.bodies(RoundOpenedV1)
    assert "missing: site-c" in opened.sentence
    document = world.document()
    assert document["missed"] == {"site-c": {"not invited": 1}}
    assert document["sites_now"]["site-c"]["last_seen"] is None
    assert "site-c" not in document["answers"]


def test_a_site_that_is_invited_and_then_never_heard_of_again_is_missed() -> None:
    world = AbsentWorld(mute_after=("site-c",))
    assert committed(world) == [("site-a", "site-b")]
    (verdict,) = world.verdicts("site-c")
    assert (verdict.outcome, verdict.reason) == (Outcome.MISSED, Reason.NO_ANSWER)
    assert "site-c: first word allowed 300 s, waited" in verdict.sentence
    assert world.document()["missed"] == {"site-c": {"missed: no-answer": 1}}


def test_a_site_whose_jobs_never_get_ready_is_not_invited() -> None:
    world = AbsentWorld(failing={"site-c": StillbornJob})
    assert committed(world) == [("site-a", "site-b")]
    document = world.document()
    assert document["missed"] == {"site-c": {"not invited": 1}}
    assert document["sites_now"]["site-c"]["allocation"] in ("ended", "intended", "submitted")
    assert document["answers"]["site-c"]["accepted"]


def test_a_site_whose_job_dies_each_time_says_so() -> None:
    world = AbsentWorld(failing={"site-c": DyingJob})
    assert committed(world) == [("site-a", "site-b")]
    (verdict,) = world.verdicts("site-c")
    assert (verdict.outcome, verdict.reason) == (Outcome.DECLINED, Reason.JOB_FAILED)
    assert world.document()["missed"] == {"site-c": {"declined: job-failed": 1}}
    machine = next(m for m in world.machines if m.site == "site-c")
    assert isinstance(machine.launcher, FailingLauncher)
    assert 2 <= machine.launcher.num_started <= 4  # not again and again


# --- two of three: no quorum ------------------------------------------------------------------------------------------


def test_without_a_quorum_rounds_are_abandoned_and_the_run_pauses_with_names() -> None:
    world = AbsentWorld(failing={"site-b": DyingJob, "site-c": DyingJob}, bounds=replace(SHORT, max_abandoned=1))
    reason, sentence = paused(world)
    assert reason is Reason.ABANDONED_TOO_OFTEN
    assert "site-b (declined: job-failed), site-c (declined: job-failed)" in sentence
    (abandoned,) = world.bodies(RoundAbandonedV1)
    assert abandoned.reason is Reason.NO_QUORUM
    assert "1 of 3 sites (site-a), 2 needed" in abandoned.sentence
    assert set(world.document()["missed"]) == {"site-b", "site-c"}
    assert not world.run_now.num_commits()


@pytest.mark.parametrize(
    ("absent", "named"),
    [
        ({"silent": ("site-b", "site-c")}, ("site-b", "site-c")),
        ({"silent": ("site-a",), "failing": {"site-c": StillbornJob}}, ("site-a", "site-c")),
    ],
)
def test_a_run_that_cannot_open_a_round_in_time_pauses_and_says_who_was_missing(
    absent: dict[str, object], named: tuple[str, ...]
) -> None:
    world = AbsentWorld(bounds=SHORT, **absent)  # type: ignore[arg-type]
    reason, sentence = paused(world)
    assert reason is Reason.COULD_NOT_OPEN
    assert f"missing: {', '.join(named)}" in sentence
    assert not world.run_now.rounds
    for site in named:
        now = world.document()["sites_now"][site]
        assert now["last_seen"] is None or now["allocation"] != "ready"


def test_silent_witnesses_pause_the_run_by_name() -> None:
    """Agents that die with a job still running: nobody cosigns, so no base may be used."""
    world = AbsentWorld(silent=("site-b", "site-c"), bounds=replace(SHORT, witness_seconds=300))
    reason, sentence = paused(world)
    assert reason is Reason.WITNESSES_SILENT
    assert "site-b, site-c" in sentence
    assert "site-a" not in sentence


def test_an_absent_site_that_comes_back_takes_part_again() -> None:
    world = AbsentWorld(silent=("site-c",), setting=Setting(patient=False, codec="fp32", num_rounds=3))
    while not (world.coordinator and world.state_of_run() and world.run_now.num_commits()):
        world.step()
    world.silent = ()
    sealed = committed(world)
    assert sealed[0] == ("site-a", "site-b")
    assert sealed[-1] == ("site-a", "site-b", "site-c")
    assert world.document()["missed"]["site-c"]["not invited"] >= 1


def test_a_paused_run_goes_on_when_the_missing_site_is_there() -> None:
    world = AbsentWorld(silent=("site-b", "site-c"), bounds=SHORT)
    paused(world)
    world.silent = ("site-c",)
    world.command(CommandKind.RUN_RESUME)
    while world.run_now.state is RunState.PAUSED:
        world.step()
    assert committed(world) == [("site-a", "site-b")]
    assert world.run_now.id == RUN
