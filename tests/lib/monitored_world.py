# SPDX-License-Identifier: Apache-2.0
"""A consortium and an agent in which everything that metrics tell of has happened at least once."""

from dataclasses import replace
from typing import Any

from agent_situations import RUN as AGENT_RUN
from agent_situations import SITE as AGENT_SITE
from agent_situations import Situation
from decider_world import BOUNDS, World

from coordinator.inputs import DeclineReceived, EvaluationReceived, RoundAggregated, StateDigested
from coordinator.metrics import Snapshot
from federation.leaves import Contribution, LanguageScore, Reason
from federation.messages import (
    AllocationReport,
    AllocationState,
    CommandKind,
    Evaluation,
    LanguageTokens,
    ParticipationReport,
    Phase,
    RoundDeclined,
    RunBudget,
    SiteFacts,
    SiteStatus,
)
from federation.rpc.status import CourierStatus
from site_agent.budget import JobSize
from site_agent.budget_units import NativeUnit
from site_agent.entries import (
    AllocationEnded,
    AllocationIntended,
    AllocationSubmitted,
    Cosigned,
    EpochBegan,
)
from site_agent.manifests import ManifestJudge
from site_agent.metrics.projection import AgentSnapshot
from site_agent.observations import AllocationSeen, Execution, JobPhase
from site_agent.policy import PerDay, PerRun, Policy

DAY = 86_400.0
HOUR = 3600.0


def facts(**changes: Any) -> SiteFacts:
    """What a site says of its certificate, queue and budget, with changes to the latter."""
    budget = {
        "run": "demo",
        "gpu_hours_effective": 60.0,
        "gpu_hours_discarded": 10.0,
        "gpu_hours_open": 2.0,
        "gpu_hours_idle": 3.0,
        "gpu_hours_limit": 100.0,
        "native_unit": "core-hours",
        "native_spent": 600.0,
        "native_limit": 1000.0,
        "forecast_gpu_hours": 40.0,
    }
    return SiteFacts(
        certificate_not_after_us=1_700_000_000_000_000,
        queue_wait_seconds=90,
        budgets=(RunBudget(**(budget | changes)),),
        language_tokens=(LanguageTokens(run="demo", language="fi", tokens=4096),),
    )


def report(world: World, site: str, **changes: Any) -> None:
    """A site reports that it trains round 2, with changes."""
    allocation = AllocationReport(
        run="demo", allocation="a1", state=AllocationState.READY, seconds_left=600, seconds_per_step=0.5
    )
    training = ParticipationReport(run="demo", round=2, phase=Phase.TRAINING, step=3, loss=2.5)
    values: dict[str, Any] = {
        "ledger_size": 7,
        "allocations": (allocation,),
        "participations": (training,),
        "software": "hpc-federation 0.1",
        "sent_at_us": int((world.now - 0.25) * 1e6),
        "blobs_wanted": ("b" * 64,),
        "measured_round_trip_seconds": 4,
    }
    status = SiteStatus(ledger_size=0, facts=facts() if changes.pop("tells", False) else None)
    world.seen = world.seen.seen(site, replace(status, **(values | changes)), world.now)


def committed(world: World, number: int, cosine: float = 0.5) -> None:
    """All sites but gamma deliver a round; it is committed."""
    for site in ("alpha", "beta"):
        world.update(site, number, payload=f"{site}-{number}", update_digest=f"{site}-{number}")
    world.put(
        DeclineReceived(
            site="gamma",
            decline=RoundDeclined(run="demo", round=number, reason=Reason.LOSS_SPIKE, sentence="the loss left"),
        )
    )
    world.tick()
    world.put(
        RoundAggregated(
            run="demo",
            round=number,
            theta_digest=f"t{number}",
            blob_digest=f"b{number}",
            blob_bytes=8,
            aggregate_norm=0.75,
            contributions=tuple(Contribution(site=s, norm=1.5, cosine=cosine) for s in ("alpha", "beta")),
            numerics_version=1,
        )
    )
    world.put(StateDigested(run="demo", round=number, fragment=0, momentum_digest="m", residual_digest="r"))


def evaluated(world: World, site: str, num_commits: int, **scores: float) -> None:
    """A site scores the model made by so many commits."""
    version = 0 if not num_commits else world.run.versions[0][num_commits].number
    evaluation = Evaluation(
        run="demo",
        site=site,
        request=0,
        num_commits=num_commits,
        versions=(version,),
        scores=tuple(LanguageScore(language=n, bits_per_byte=s, num_bytes=1000) for n, s in scores.items()),
    )
    world.put(EvaluationReceived(evaluation=evaluation, evidence_digest="e" * 64))


def eventful_world() -> World:
    """Two commits; a third round is open, and the run is paused."""
    world = World(num_rounds=5, bounds=replace(BOUNDS, max_round_seconds=400))
    evaluated(world, "alpha", 0, fi=2.0, mt=3.0)
    for number in (0, 1):
        world.ready()
        world.tick(100)
        committed(world, number, cosine=0.5 - number / 4)
    evaluated(world, "alpha", 2, fi=1.5, mt=3.5)
    world.ready()
    world.tick(100)
    report(world, "alpha", tells=True)
    queued = AllocationReport(
        run="demo", allocation="a2", state=AllocationState.QUEUED, seconds_left=-1, start_in_seconds=50
    )
    report(world, "beta", allocations=(queued,), participations=())
    world.command(CommandKind.RUN_PAUSE)
    return world


def snapshot_of(world: World, **changes: Any) -> Snapshot:
    """What a coordinator's dashboard would hold."""
    values: dict[str, Any] = {
        "consortium": "test",
        "state": world.state,
        "observations": world.seen,
        "now": world.now,
        "roster_expires_at": world.now + 10 * DAY,
        "certificates": {"server": world.now + 5 * DAY},
        "coordinator_seen_at": world.now - 1.0,
        "software": "hpc-federation 0.1",
    }
    return Snapshot(**(values | changes))


# --- the agent ------------------------------------------------------------------------------------------------------


def busy_agent() -> Situation:
    """An agent whose first job failed and whose second one trains."""
    situation = Situation(quorum_sites=1).started().opened(0, allocation="a2")
    started = situation.now_us
    situation.journal(
        EpochBegan(epoch=2),
        Cosigned(size=4, root="ab" * 32),
        AllocationIntended(run=AGENT_RUN, number=1, fencing=1, at_us=started, num_gpus=4, seconds_limit=7200),
        AllocationSubmitted(run=AGENT_RUN, number=1, handle="slurm:-:1", at_us=started),
        AllocationEnded(
            run=AGENT_RUN, number=1, failed=True, reason="failed", sentence="", at_us=started + 3600 * 10**6
        ),
        AllocationIntended(
            run=AGENT_RUN, number=2, fencing=2, at_us=started + 3600 * 10**6, num_gpus=4, seconds_limit=7200
        ),
        AllocationSubmitted(run=AGENT_RUN, number=2, handle="slurm:-:2", at_us=started + 3600 * 10**6),
    )
    situation.later(3700)
    return situation.job(
        2,
        execution=Execution.RUNNING,
        phase=JobPhase.READY,
        round=0,
        training=True,
        step=3,
        loss=2.5,
        seconds_left=600,
        seconds_per_step=0.5,
    ).see(round_trip_seconds=4.0)


def waiting_agent() -> Situation:
    """The same, while its second job waits in the queue."""
    situation = busy_agent()
    waits = AllocationSeen(
        run=AGENT_RUN, number=2, execution=Execution.QUEUED, phase=JobPhase.NONE, start_in_seconds=50
    )
    return situation.see(allocations={AGENT_RUN: waits})


def agent_snapshot(situation: Situation, **changes: Any) -> AgentSnapshot:
    """What an agent's exporter would hold."""
    policy = Policy(
        unlisted="accept",
        per_day=PerDay(gpu_hours=24.0, bytes=10**9),
        per_run=PerRun(gpu_hours=20.0, native_units=400.0),
    )
    judge = ManifestJudge(
        policy=policy,
        site=AGENT_SITE,
        consortium="test",
        trainers={},
        job=JobSize(num_gpus=4, seconds_limit=7200),
        unit=NativeUnit(name="core-hours", per_gpu_hour=16.0, source="site.toml"),
    )
    values: dict[str, Any] = {
        "settings": situation.settings,
        "state": situation.state,
        "federation": situation.federation,
        "seen": situation.seen,
        "judge": judge,
        "now": situation.now_us / 1e6,
        "software": "hpc-federation 0.1",
        "outstanding": 2,
        "free_bytes": 10**12,
        "spool_bytes": 4096,
        "credentials": {"roster": 1_700_000_000.0},
        "courier": CourierStatus(courier="grpc", connected=True),
    }
    return AgentSnapshot(**(values | changes))
