# SPDX-License-Identifier: Apache-2.0
"""What an agent sees and keeps, as metrics. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from federation.exposition import Sample
from federation.messages import AllocationState, Phase, SiteStatus
from federation.rounds import Federation, Run, RunState
from federation.rpc.status import CourierStatus
from site_agent import budget, derived
from site_agent.agent_state import AgentState
from site_agent.budget import DAY_US, HOUR_US, US
from site_agent.manifests import ManifestJudge
from site_agent.metrics import catalogue as metric
from site_agent.observations import AgentSettings, Observations
from site_agent.status import status_of

WAITING: Final = "waiting"
PHASES: Final = (WAITING, *(phase.value for phase in Phase))
_HOUR: Final = 3600.0
_IN_QUEUE: Final = (AllocationState.SUBMITTED, AllocationState.QUEUED)


@dataclass(frozen=True, kw_only=True)
class AgentSnapshot:
    """Everything that is looked at.

    Attributes:
        state: the journal, folded.
        federation: the ledger's copy, folded.
        seen: the newest pass's view.
        judge: the policy in force, with what one job gets and the centre's unit.
        now: unix seconds, this site's clock.
        software: what the agent calls its release.
        outstanding: messages that are not acknowledged.
        free_bytes: of the site's directory; None if nobody could tell.
        spool_bytes: None before a first whole look.
        credentials: per name when it expires.
        courier: what the gRPC courier says of itself; None where there is none.
    """

    settings: AgentSettings
    state: AgentState
    federation: Federation
    seen: Observations
    judge: ManifestJudge
    now: float
    software: str = ""
    outstanding: int = 0
    free_bytes: int | None = None
    spool_bytes: int | None = None
    credentials: Mapping[str, float] = field(default_factory=dict)
    courier: CourierStatus | None = None

    @property
    def site(self) -> str:
        """This site."""
        return self.settings.site

    @property
    def now_us(self) -> int:
        """The same moment in microseconds."""
        return int(self.now * US)


def samples(snapshot: AgentSnapshot) -> Iterator[Sample]:
    """Everything that `site_agent.metrics.catalogue` names and that is known in this snapshot."""
    yield from _agent(snapshot)
    yield from _carriage(snapshot)
    yield from _day(snapshot)
    status = status_of(snapshot.settings, snapshot.state, snapshot.federation, snapshot.seen)
    for run in derived.runs_of(snapshot.federation, snapshot.site):
        yield from _run(snapshot, run, status)
        yield from _job(snapshot, run)
        yield from _budget(snapshot, run)


def _agent(snapshot: AgentSnapshot) -> Iterator[Sample]:
    site, settings, state, seen = snapshot.site, snapshot.settings, snapshot.state, snapshot.seen
    yield metric.INFO.of(1, site, snapshot.software)
    yield metric.PASS.of(snapshot.now, site)
    yield metric.EPOCH.of(state.epoch, site)
    if seen.heard_at_us:
        yield metric.HEARD.of(seen.heard_at_us / US, site)
    yield metric.MAX_SILENCE.of(settings.max_silence_seconds, site)
    yield metric.MAX_FAILURES.of(settings.max_failures, site)
    yield metric.FAULT.of(bool(seen.fault), site)
    yield metric.LEDGER_LEAVES.of(snapshot.federation.size, site)
    yield metric.COSIGNED.of(state.cosigned.size if state.cosigned else 0, site)
    for name, expires_at in sorted(snapshot.credentials.items()):
        yield metric.CREDENTIAL_EXPIRY.of(expires_at, site, name)


def _carriage(snapshot: AgentSnapshot) -> Iterator[Sample]:
    site = snapshot.site
    if snapshot.courier is not None:
        yield metric.CONNECTED.of(snapshot.courier.connected, site)
        yield metric.COURIER_FAILURES.of(snapshot.courier.failures, site)
    yield metric.OUTSTANDING.of(snapshot.outstanding, site)
    if snapshot.seen.round_trip_seconds > 0:
        yield metric.ROUND_TRIP.of(snapshot.seen.round_trip_seconds, site)
    if snapshot.spool_bytes is not None:
        yield metric.SPOOL.of(snapshot.spool_bytes, site)
    if snapshot.free_bytes is not None:
        yield metric.FREE.of(snapshot.free_bytes, site)


def _day(snapshot: AgentSnapshot) -> Iterator[Sample]:
    site, state, now_us, judge = snapshot.site, snapshot.state, snapshot.now_us, snapshot.judge
    used = budget.gpu_hours(state, judge.job, now_us, since_us=now_us - DAY_US)
    yield metric.DAY_GPU.of(used * _HOUR, site)
    yield metric.DAY_GPU_LIMIT.of(judge.policy.per_day.gpu_hours * _HOUR, site)
    yield metric.DAY_SENT.of(budget.bytes_spent(state, now_us), site)
    yield metric.DAY_SENT_LIMIT.of(judge.policy.per_day.bytes, site)


def _run(snapshot: AgentSnapshot, run: Run, status: SiteStatus) -> Iterator[Sample]:
    site, found = snapshot.site, snapshot.state.allocations.get(run.id, ())
    yield from (metric.RUN_STATE.of(run.state is state, site, run.id, state.value) for state in RunState)
    newest = next((report.state for report in status.allocations if report.run == run.id), None)
    states = Counter({AllocationState.ENDED: max(0, len(found) - 1)})
    states.update([newest] if newest is not None else [])
    yield from (metric.ALLOCATIONS.of(states[s], site, run.id, s.value) for s in AllocationState)
    yield metric.FAILED.of(sum(1 for a in found if a.end is not None and a.end.failed), site, run.id)
    human = snapshot.seen.humans.get(run.id)
    failures = derived.failures_in_a_row(run.id, snapshot.state, human.retry_at_us if human else 0)
    yield metric.FAILURES.of(failures, site, run.id)
    if found and newest in _IN_QUEUE and found[-1].submitted_at_us:
        yield metric.QUEUE_WAIT.of((snapshot.now_us - found[-1].submitted_at_us) / US, site, run.id)
    phases = [report.phase.value for report in status.participations if report.run == run.id]
    yield from (metric.PHASE.of(word == (phases[-1] if phases else WAITING), site, run.id, word) for word in PHASES)


def _job(snapshot: AgentSnapshot, run: Run) -> Iterator[Sample]:
    """What the live job reported last."""
    site, job = snapshot.site, derived.job_of(run.id, snapshot.state, snapshot.seen)
    if job is None:
        return
    if job.start_in_seconds > 0:
        yield metric.EXPECTED_START.of(job.start_in_seconds, site, run.id)
    if job.seconds_left >= 0:
        yield metric.LEFT.of(job.seconds_left, site, run.id)
    if job.round >= 0:
        yield metric.STEP.of(job.step, site, run.id)
    if job.loss:  # 0.0 stands for none yet
        yield metric.LOSS.of(job.loss, site, run.id)
    if job.seconds_per_step > 0:
        yield metric.STEP_SECONDS.of(job.seconds_per_step, site, run.id)


def _budget(snapshot: AgentSnapshot, run: Run) -> Iterator[Sample]:
    """As the policy counts: what may still be used by a live job is counted in full."""
    site, judge = snapshot.site, snapshot.judge
    found = list(budget.charges(snapshot.state, judge.job, snapshot.now_us, run=run.id))
    spent, committed = sum(c.ended_us for c in found), sum(c.live_us for c in found)
    yield metric.GPU.of(spent / US, site, run.id, "spent")
    yield metric.GPU.of(committed / US, site, run.id, "committed")
    hours, limits = (spent + committed) / HOUR_US, judge.policy.per_run
    parts = []
    if limits.gpu_hours is not None:
        yield metric.GPU_LIMIT.of(limits.gpu_hours * _HOUR, site, run.id)
        parts.append((hours, limits.gpu_hours))
    native = judge.unit.of(hours)
    if native is not None:
        yield metric.NATIVE.of(native, site, run.id, judge.unit.name)
    if limits.native_units is not None:
        yield metric.NATIVE_LIMIT.of(limits.native_units, site, run.id, judge.unit.name)
        parts += [(native, limits.native_units)] if native is not None else []
    ratios = [used / limit for used, limit in parts if limit]
    if ratios:
        yield metric.BUDGET.of(max(ratios), site, run.id)
