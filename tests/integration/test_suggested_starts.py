# SPDX-License-Identifier: Apache-2.0
"""An agent whose coordinator suggests when its jobs need not begin yet: on a simulated disk, with virtual jobs."""

from dataclasses import replace
from pathlib import Path

import pytest
from hostile_site import EVIL, HostileWorld
from hostile_site import RUN as THEIR_RUN
from one_site import RUN, START, TRAINER, OneSite
from simulator.settings import Setting
from suspect_site import SuspectSite
from virtual_jobs import ROOT, VirtualLauncher

from federation.durable.simulated import SimulatedFileSystem
from federation.messages import AllocationReport, AllocationState, LedgerTail, SiteStatus, SuggestedStart
from site_agent import layout
from site_agent.launcher.api import JobPresence
from site_agent.policy import PerDay, Policy
from site_agent.policy_hours import HoursSection
from site_agent.site_config import SiteConfig

HOUR = 3600.0
CAP = 6 * HOUR


class Queue(VirtualLauncher):
    """Jobs begin when they were asked to, and the batch system says so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.says_when = True
        self.delays: list[int] = []
        self.begins: dict[str, float] = {}

    def submit(self, allocation_dir: Path, name: str, fencing: int, begin_after_seconds: int = 0) -> str:
        handle = super().submit(allocation_dir, name, fencing)
        self.delays.append(begin_after_seconds)
        self.begins[handle] = self.now + begin_after_seconds
        return handle

    def waits(self, handle: str) -> bool:
        """Whether the job is still in the queue."""
        return self.jobs[handle].alive and self.now < self.begins[handle]

    def query(self, handle: str) -> JobPresence:
        return JobPresence.QUEUED if self.waits(handle) else super().query(handle)

    def start_in_seconds(self, handle: str, now: float) -> int:
        return max(1, round(self.begins[handle] - now)) if self.says_when else 0


class DelayedSite(SuspectSite):
    """A site that may delay its jobs by six hours."""

    launcher: Queue

    def __init__(self, policy: Policy | None = None) -> None:
        settings = {"max_start_delay_seconds": CAP, "max_silence_seconds": 10 * 86_400.0}
        fs = SimulatedFileSystem(2)
        OneSite.__init__(self, SimulatedFileSystem(1), fs, ROOT, Queue(), policy=policy, settings=settings)
        self.coordinator.create()

    def step(self) -> None:
        """One pass of everybody; jobs in the queue do nothing."""
        OneSite.step(self)
        self.now += 1.0
        self.launcher.now = self.now
        for handle, job in self.launcher.jobs.items():
            if job.alive and not self.launcher.waits(handle):
                job.step(self.fs)  # type: ignore[arg-type]

    def suggest(self, seconds: int, run: str = RUN) -> None:
        """The coordinator says so, and the site hears it."""
        tail = self.coordinator.ledger.tail(self.coordinator.ledger.size)
        word = SuggestedStart(run=run, seconds=seconds)
        self.say(
            LedgerTail(first_index=tail.first_index, leaves=(), checkpoint=tail.checkpoint, suggested_starts=(word,))
        )
        self.steps(3)

    def reported(self) -> tuple[AllocationState, int]:
        """State and expected start of the job, as the coordinator knows them."""
        job = self.coordinator.of(SiteStatus)[-1].allocations[-1]
        return job.state, job.start_in_seconds


@pytest.fixture
def site() -> DelayedSite:
    site = DelayedSite()
    site.steps(3)
    return site


@pytest.mark.parametrize("says_when", [True, False])
def test_the_next_job_waits_for_the_others_and_the_site_says_how_long(site: DelayedSite, says_when: bool) -> None:
    site.launcher.says_when = says_when  # if not, the site knows at least when it may begin
    site.suggest(7200)
    site.coordinator.start()
    site.until(lambda: site.launcher.delays)
    (delay,) = site.launcher.delays
    assert 7150 < delay < 7200, "the seconds since it was heard count"
    site.now += 40  # a heartbeat is due
    site.steps(3)
    state, seconds = site.reported()
    assert state is AllocationState.QUEUED
    assert 7050 < seconds < delay
    site.now += 7200
    site.until(site.ready)
    assert site.reported() == (AllocationState.READY, 0)


@pytest.mark.parametrize("seconds", [10**6, 2**64 - 1])
def test_a_malicious_coordinator_delays_a_job_by_the_cap_and_no_more(site: DelayedSite, seconds: int) -> None:
    site.suggest(seconds)
    site.coordinator.start()
    site.until(lambda: site.launcher.delays)
    for _ in range(8):
        site.now += HOUR
        site.suggest(seconds)
    assert site.launcher.delays == [CAP]
    site.until(site.ready)


def test_one_that_changes_its_mind_for_ever_delays_a_job_once(site: DelayedSite) -> None:
    """Of two jobs in a row at most one waits, and no job that was taken back is followed by one that waits."""
    site.suggest(86_400)
    site.coordinator.start()
    site.until(lambda: site.launcher.delays)
    begun = site.now
    site.now += HOUR
    site.suggest(0)
    site.until(lambda: site.agent.state.allocations[RUN][0].stop)
    site.suggest(86_400)
    site.until(lambda: len(site.launcher.delays) == 2, seconds=300.0)
    assert site.launcher.delays == [CAP, 0]
    site.until(site.ready)
    assert site.now - begun < HOUR + 600


def test_what_was_said_is_known_after_a_restart_and_forgotten_after_an_hour(site: DelayedSite) -> None:
    site.suggest(7200)
    site.start_agent()
    assert site.agent.inbox.suggested[RUN].seconds == 7200
    site.now += HOUR + 60
    site.coordinator.start()
    site.until(lambda: site.launcher.delays)
    assert site.launcher.delays == [0]


def test_a_damaged_note_and_runs_that_nobody_knows_are_nothing(site: DelayedSite) -> None:
    site.suggest(7200, run="another")
    assert site.agent.inbox.suggested == {}
    site.fs.write(layout.SUGGESTED, b'{"runs": 7}')
    site.start_agent()
    assert site.agent.inbox.suggested == {}


@pytest.mark.parametrize(("closes", "delayed"), [("23:00", False), ("03:00", True)])
def test_no_job_is_delayed_into_hours_in_which_none_may_start(closes: str, delayed: bool) -> None:
    assert START % 86_400 == 22 * HOUR + 13 * 60 + 20
    hours = HoursSection(windows=(f"20:00-{closes}",))
    budget = PerDay(gpu_hours=24.0, bytes=10**9)
    policy = Policy(unlisted="accept", trainers={"reference": TRAINER}, per_day=budget, hours=hours)
    site = DelayedSite(policy)
    site.steps(3)
    site.suggest(7200)
    site.coordinator.start()
    site.until(lambda: site.launcher.delays)
    assert [delay > 0 for delay in site.launcher.delays] == [delayed]


def test_only_a_batch_system_delays_jobs() -> None:
    slurm = {"launcher": "slurm", "job": {"seconds_limit": 3600}}
    assert SiteConfig(site="alpha").settings().max_start_delay_seconds == 0.0
    assert SiteConfig.model_validate({"site": "alpha", **slurm}).settings().max_start_delay_seconds == CAP
    off = {"site": "alpha", **slurm, "agent": {"max_start_delay_seconds": 0}}
    assert SiteConfig.model_validate(off).settings().max_start_delay_seconds == 0.0


class AllNeeded(HostileWorld):
    """All three sites are needed, and one says that its job waits."""

    expected = int(4 * HOUR)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.hostile.report = self.say  # type: ignore[method-assign]

    def _create(self) -> None:
        self.manifest = replace(self.manifest, plan=replace(self.manifest.plan, quorum_sites=3))
        super()._create()

    def say(self) -> None:
        """The third site's word."""
        state = AllocationState.QUEUED if self.expected else AllocationState.READY
        job = AllocationReport(
            run=THEIR_RUN, allocation="a1", state=state, seconds_left=-1, start_in_seconds=self.expected
        )
        self.hostile.post(SiteStatus(ledger_size=self.hostile.federation.size, allocations=(job,)))

    def heard(self) -> dict[str, int]:
        """What each honest site's agent knows."""
        agents = {machine.site: machine.agent for machine in self.machines if machine.site != EVIL}
        return {
            site: agent.inbox.suggested[THEIR_RUN].seconds
            for site, agent in agents.items()
            if agent is not None and THEIR_RUN in agent.inbox.suggested
        }


def test_what_one_site_expects_reaches_the_others_and_is_taken_back_when_it_is_there() -> None:
    world = AllNeeded(setting=Setting(patient=False, codec="fp32"))
    for _ in range(2000):
        if len(world.heard()) == 2:
            break
        world.step()
    assert set(world.heard()) == {"site-a", "site-b"}
    assert all(7000 < seconds <= 7200 for seconds in world.heard().values()), "half of the time, less what has passed"
    size = world.coordinator.ledger.size if world.coordinator else 0
    world.expected = 0
    world.say()
    for _ in range(2000):
        if not any(world.heard().values()):
            break
        world.step()
    assert world.heard() == {"site-a": 0, "site-b": 0}
    kinds = {type(leaf.body).__name__ for leaf in world.coordinator.ledger.leaves(size)} if world.coordinator else {""}
    assert "RoundOpenedV1" in kinds
