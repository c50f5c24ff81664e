# SPDX-License-Identifier: Apache-2.0
"""The status report: what the coordinator may know of this site at a glance. Pure; nobody decides from it twice."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import ceil
from typing import Final

from federation.messages import (
    AllocationReport,
    AllocationState,
    ParticipationReport,
    Phase,
    SiteStatus,
    SnapshotWanted,
)
from federation.rounds import Federation, Run
from federation.witnesses import may_use
from site_agent import catch_up, derived
from site_agent.agent_state import AgentState, Allocation
from site_agent.observations import AgentSettings, AllocationSeen, Execution, JobPhase, Observations

MAX_BLOBS_WANTED: Final = 64
"""Digests asked for at once, the oldest first; the rest follows when these have come."""


def status_of(settings: AgentSettings, state: AgentState, federation: Federation, seen: Observations) -> SiteStatus:
    """What this site reports now; the driver adds the time and the software's version."""
    runs = derived.runs_of(federation, settings.site)
    thetas = {run: manifest.theta_blob for run, manifest in seen.manifests.items()}
    wholes = tuple(wanted for run in runs for wanted in derived.snapshots_wanted(run, settings.site, state, seen))
    needed = derived.needed_blobs(federation, state, settings.site, thetas, _begun(runs, state, seen, wholes))
    missing = [digest for digest in needed if digest not in seen.blobs]
    jobs = [(run, job) for run in runs if (job := derived.job_of(run.id, state, seen)) is not None]
    return SiteStatus(
        ledger_size=federation.size,
        allocations=tuple(_allocation(run, state, seen) for run in runs if state.allocations.get(run.id)),
        participations=tuple(p for run in runs for p in _participations(run, settings.site, state, seen)),
        blobs_wanted=tuple(missing[:MAX_BLOBS_WANTED]),
        applied=tuple(f"{run.id}:{','.join(map(str, job.applied))}" for run, job in jobs if job.applied),
        waits_for_witnesses=any(_waits(run, settings.site, state, seen) for run in runs),
        snapshots_wanted=wholes,
        measured_round_trip_seconds=ceil(seen.round_trip_seconds),
        declared_round_trip_seconds=ceil(settings.round_trip_seconds),
    )


def _begun(
    runs: Iterable[Run], state: AgentState, seen: Observations, wanted: Iterable[SnapshotWanted]
) -> dict[tuple[str, int], int]:
    """Per (run, fragment) the version of the snapshot that is here or asked for: no older blob is needed."""
    here = {(run.id, p): start.version for run in runs for p, start in enumerate(catch_up.starts_of(run, state, seen))}
    return here | {(wish.run, wish.fragment): wish.version for wish in wanted}


def changed(before: SiteStatus | None, now: SiteStatus) -> bool:
    """Whether a report is due at once: more than counters that move all the time differs."""
    return before is None or _without_counters(before) != _without_counters(now)


def _without_counters(status: SiteStatus) -> SiteStatus:
    allocations = tuple(
        replace(
            a,
            seconds_left=min(a.seconds_left, 0),
            seconds_per_step=0.0,
            start_in_seconds=min(a.start_in_seconds, 1),
        )
        for a in status.allocations
    )
    participations = tuple(replace(p, step=0, loss=0.0) for p in status.participations)
    quiet = replace(status, allocations=allocations, participations=participations, measured_round_trip_seconds=0)
    return replace(quiet, software="", sent_at_us=0)


def _allocation(run: Run, state: AgentState, seen: Observations) -> AllocationReport:
    """The run's newest allocation."""
    newest = state.allocations[run.id][-1]
    mine = derived.job_of(run.id, state, seen)
    now = _state(newest, mine)
    return AllocationReport(
        run=run.id,
        allocation=newest.id,
        state=now,
        seconds_left=mine.seconds_left if mine else -1,
        seconds_per_step=mine.seconds_per_step if mine else 0.0,
        start_in_seconds=mine.start_in_seconds if mine and now is AllocationState.QUEUED else 0,
    )


def _state(allocation: Allocation, job: AllocationSeen | None) -> AllocationState:
    if not allocation.live or (job is not None and job.end is not None):
        return AllocationState.ENDED
    if not allocation.handle:
        return AllocationState.INTENDED
    if allocation.stop is not None or (job is not None and job.phase is JobPhase.DRAINING):
        return AllocationState.DRAINING
    if job is not None and job.phase is JobPhase.READY:
        return AllocationState.READY
    is_known = job is not None and (job.phase is not JobPhase.NONE or job.execution is Execution.QUEUED)
    return AllocationState.QUEUED if is_known else AllocationState.SUBMITTED


def _participations(run: Run, site: str, state: AgentState, seen: Observations) -> Iterator[ParticipationReport]:
    job = derived.job_of(run.id, state, seen)
    left = {u.round for u in seen.updates if u.run == run.id}
    for found, _ in derived.my_open_rounds(run, site):
        key = (run.id, found.number, found.fragment, found.base_digest)
        here = job if job is not None and job.round == found.number else None
        # A job trains on while it writes what it encoded.
        is_behind = job is not None and job.round > found.number and (run.id, found.number) in state.issued
        if key in state.signed or found.number in left or is_behind or (here is not None and not here.training):
            phase = Phase.UPLOADING
        else:
            phase = Phase.TRAINING if here is not None else Phase.INVITED
        step, loss = (here.step, here.loss) if here is not None else (0, 0.0)
        yield ParticipationReport(run=run.id, round=found.number, phase=phase, step=step, loss=loss)


def _waits(run: Run, site: str, state: AgentState, seen: Observations) -> bool:
    """Whether an open round of this site may not begin because its base is too far ahead of its witnesses."""
    if not derived.accepted(run, state):
        return False
    open_rounds = (found for found, _ in derived.my_open_rounds(run, site) if derived.base_in_force(run, found))
    unissued = (found for found in open_rounds if (run.id, found.number) not in state.issued)
    return any(not may_use(run, derived.base_commits(run, found), seen.witnessed) for found in unissued)
