# SPDX-License-Identifier: Apache-2.0
"""Sites as their newest reports show them, each by itself and in each of its runs, as metrics. Pure."""

from collections.abc import Iterator

from coordinator.metrics import catalogue as metric
from coordinator.metrics.facts import BudgetFacts, facts_of
from coordinator.metrics.snapshot import LIVE, Snapshot
from coordinator.observations import SiteSeen
from federation.exposition import Sample, foreign
from federation.messages import AllocationReport, AllocationState, Phase

STATES = ("active", "drained", "revoked")
WAITING = "waiting"
"""The phase of a site that reports of no open round."""

PHASES = (WAITING, *(phase.value for phase in Phase))


def site_samples(snapshot: Snapshot) -> Iterator[Sample]:
    """All sites, whether they were heard or not."""
    runs = {run.id: run for run in snapshot.shown_runs()}
    for site in snapshot.known_sites():
        state = _state(snapshot, site)
        yield from (metric.SITE_STATE.of(state == word, site, word) for word in STATES)
        if state == "revoked":
            continue
        mine = (run for run in snapshot.state.runs.values() if run.state in LIVE and run.is_member(site))
        yield metric.SITE_RUNS.of(sum(1 for _ in mine), site)
        seen = snapshot.observations.sites.get(site)
        if seen is None:
            continue
        yield from _report(snapshot, site, seen)
        for run in runs.values():
            if run.is_member(site):
                yield from _in_run(run.id, site, seen)
        facts = facts_of(seen.status)
        for budget in facts.budgets:
            if budget.run in runs and runs[budget.run].is_member(site):
                yield from _budget(budget.run, site, budget)
        for entry in facts.language_tokens:
            if entry.run in runs and runs[entry.run].is_member(site):
                yield metric.LANGUAGE_TOKENS.of(entry.tokens, entry.run, site, entry.language)


def _state(snapshot: Snapshot, site: str) -> str:
    if site in snapshot.state.revoked:
        return "revoked"
    return "drained" if site in snapshot.state.drained else "active"


def _report(snapshot: Snapshot, site: str, seen: SiteSeen) -> Iterator[Sample]:
    status, facts = seen.status, facts_of(seen.status)
    yield metric.SITE_INFO.of(1, site, foreign(status.software))
    yield metric.SITE_LAST_SEEN.of(seen.received_at, site)
    if status.sent_at_us:
        yield metric.SITE_REPORT_DELAY.of(seen.received_at - status.sent_at_us / 1e6, site)
    yield metric.SITE_ROUND_TRIP.of(snapshot.round_trip_seconds(site), site)
    yield metric.SITE_LEDGER_LEAVES.of(status.ledger_size, site)
    yield metric.SITE_BLOBS_WANTED.of(len(status.blobs_wanted), site)
    yield metric.SITE_WAITS_FOR_WITNESSES.of(status.waits_for_witnesses, site)
    if facts.certificate_expires_at is not None:
        yield metric.SITE_CERTIFICATE_EXPIRY.of(facts.certificate_expires_at, site)
    if facts.queue_wait_seconds is not None:
        yield metric.SITE_QUEUE_WAIT.of(facts.queue_wait_seconds, site)


def _in_run(run: str, site: str, seen: SiteSeen) -> Iterator[Sample]:
    status = seen.status
    allocation = next((a for a in reversed(status.allocations) if a.run == run), None)
    if allocation is not None:
        yield from _allocation(run, site, allocation)
    mine = [p for p in status.participations if p.run == run]
    phase = mine[-1].phase.value if mine else WAITING
    yield from (metric.PARTICIPATION_PHASE.of(phase == word, run, site, word) for word in PHASES)
    training = next((p for p in reversed(mine) if p.phase is Phase.TRAINING), None)
    if training is not None:
        yield metric.SITE_STEP.of(training.step, run, site)
    losses = [p.loss for p in mine if p.loss]  # 0.0 stands for none yet; NaN is a loss
    if losses:
        yield metric.SITE_LOSS.of(losses[-1], run, site)


def _allocation(run: str, site: str, found: AllocationReport) -> Iterator[Sample]:
    yield from (metric.ALLOCATION_STATE.of(found.state is s, run, site, s.value) for s in AllocationState)
    if found.state is AllocationState.READY and found.seconds_left >= 0:
        yield metric.ALLOCATION_LEFT.of(found.seconds_left, run, site)
    if found.start_in_seconds > 0:
        yield metric.EXPECTED_START.of(found.start_in_seconds, run, site)
    if found.seconds_per_step > 0:
        yield metric.STEP_SECONDS.of(found.seconds_per_step, run, site)


def _budget(run: str, site: str, found: BudgetFacts) -> Iterator[Sample]:
    uses = {
        "effective": found.effective_seconds,
        "discarded": found.discarded_seconds,
        "open": found.open_seconds,
        "idle": found.idle_seconds,
    }
    yield from (metric.SITE_GPU_SECONDS.of(s, run, site, use) for use, s in uses.items() if s is not None)
    if found.limit_seconds is not None:
        yield metric.SITE_GPU_LIMIT.of(found.limit_seconds, run, site)
    if found.forecast_seconds is not None:
        yield metric.SITE_GPU_FORECAST.of(found.forecast_seconds, run, site)
    if found.native_spent is not None:
        yield metric.SITE_NATIVE.of(found.native_spent, run, site, found.native_unit)
    if found.native_limit is not None:
        yield metric.SITE_NATIVE_LIMIT.of(found.native_limit, run, site, found.native_unit)
    if found.ratio is not None:
        yield metric.SITE_BUDGET.of(found.ratio, run, site)
