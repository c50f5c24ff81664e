# SPDX-License-Identifier: Apache-2.0
"""Where this site's GPU-hours went and how many a run still needs: a projection of journal, ledger and metrics. Pure.

Per run, in GPU-hours:

- *spent*: what its ended jobs count for (`site_agent.budget`), *committed*: what its live jobs count for, in full;
- *effective*: training that is in the model: steps whose update was sealed and committed, and not reverted since;
- *discarded*: training that is not: updates that were late, rejected or not in the seal, rounds that were abandoned or
  reverted, steps that were trained again after a crash;
- *open*: training of rounds that are not decided;
- *idle*: all else that jobs used so far: start-up, waiting for others, encoding, evaluations.

So spent + what live jobs used so far = effective + discarded + open + idle. Where jobs report more training than the
accounts have hours, the accounts win: the three figures are scaled down alike, and nothing is idle.

The forecast is rounds that are left times what a round has cost, all overhead included: what was used so far, without
open rounds, divided by this site's committed rounds. Its error is twice the standard error of that many rounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt
from statistics import fmean, pstdev

from federation.rounds import Federation, Round, RoundState, Run
from site_agent.agent_state import AgentState, Allocation
from site_agent.budget import DAY_US, HOUR_US, US, Charge, JobSize, Source, charge_of, charges, size_of
from site_agent.budget_training import RoundTraining
from site_agent.start_delay import begins_at_us

_HOUR: float = 3600.0


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """GPU-hours that a run still needs here. `sureness` says what that rests on; None, "" where nothing is measured."""

    gpu_hours: float | None
    error_gpu_hours: float | None
    num_rounds_left: int
    sureness: str


@dataclass(frozen=True, kw_only=True)
class RunBudget:
    """One run at this site, in GPU-hours; see the module.

    Attributes:
        sources: what the figures of ended jobs rest on, with how many jobs each.
    """

    run: str
    state: str
    num_jobs: int
    spent: float
    committed: float
    effective: float
    discarded: float
    open: float
    idle: float
    forecast: Forecast
    sources: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class DayBudget:
    """One day in UTC, over all runs, in GPU-hours. Training counts on the day on which its update was signed."""

    day: str
    spent: float
    effective: float
    discarded: float
    sent_bytes: int


@dataclass(frozen=True, kw_only=True)
class BudgetReport:
    """Everything that `site-agent budget` shows. `last_24_hours`, `sent_bytes` are what the day's limits look at."""

    site: str
    last_24_hours: float
    sent_bytes: int
    runs: tuple[RunBudget, ...]
    days: tuple[DayBudget, ...]


Training = Mapping[str, Mapping[int, RoundTraining]]
"""Per run, per round."""


def report_of(
    site: str, state: AgentState, federation: Federation, training: Training, default: JobSize, now_us: int
) -> BudgetReport:
    """The whole report at `now_us` (microseconds of this site's clock).

    Args:
        site: this site.
        state: the journal, folded.
        federation: the ledger, folded.
        training: what `training_of` makes of each run's metrics.
        default: what a job gets where the journal does not say.
        now_us: this site's clock.
    """
    names = sorted({*state.allocations, *(run for run, *_ in state.signed)})
    recent = charges(state, default, now_us, since_us=now_us - DAY_US)
    sent = sum(state.signed[key].payload_bytes for key, at in state.signed_at_us.items() if at > now_us - DAY_US)
    return BudgetReport(
        site=site,
        last_24_hours=sum(charge.total_us for charge in recent) / HOUR_US,
        sent_bytes=sent,
        runs=tuple(
            run_budget(site, state, federation.runs.get(name), name, training.get(name, {}), default, now_us)
            for name in names
        ),
        days=_days(site, state, federation, training, default, now_us),
    )


def run_budget(
    site: str,
    state: AgentState,
    run: Run | None,
    name: str,
    training: Mapping[int, RoundTraining],
    default: JobSize,
    now_us: int,
) -> RunBudget:
    """One run's figures. `run` is None where the ledger no longer names it: then nothing of it counts as effective."""
    jobs = state.allocations.get(name, ())
    found = [charge_of(job, default, now_us) for job in jobs]
    spent = sum(c.ended_us for c in found) / HOUR_US
    used = spent + sum(_used_so_far(job, default, now_us) for job in jobs if job.live) / HOUR_US
    effective, discarded, undecided = _split(site, run, training)
    if (trained := effective + discarded + undecided) > used:
        effective, discarded, undecided = (used / trained * part for part in (effective, discarded, undecided))
    return RunBudget(
        run=name,
        state=run.state.value if run else "unknown",
        num_jobs=len(jobs),
        spent=spent,
        committed=sum(c.live_us for c in found) / HOUR_US,
        effective=effective,
        discarded=discarded,
        open=undecided,
        idle=max(0.0, used - effective - discarded - undecided),
        forecast=forecast_of(site, run, training, used - undecided),
        sources=_sources(found),
    )


def in_the_model(site: str, found: Round | None) -> bool | None:
    """Whether this site's update of a round is in the model; None while the round is open."""
    if found is None or found.state not in (RoundState.COMMITTED, RoundState.ABANDONED):
        return None
    listed = any(update.site == site for update in found.sealed)
    return found.state is RoundState.COMMITTED and listed and not found.reverted


def forecast_of(site: str, run: Run | None, training: Mapping[int, RoundTraining], used: float) -> Forecast:
    """What the rounds that are left cost here. `used`: GPU-hours so far, without those of open rounds."""
    if run is None:
        return Forecast(
            gpu_hours=None, error_gpu_hours=None, num_rounds_left=0, sureness="the ledger names no such run"
        )
    left = max(0, run.plan.num_rounds - run.num_commits())
    done = [n for n, found in run.rounds.items() if in_the_model(site, found)]
    if not done or not left:
        why = "nothing is left" if not left else "no round of this site is committed yet"
        return Forecast(gpu_hours=None if left else 0.0, error_gpu_hours=None, num_rounds_left=left, sureness=why)
    cost = used / len(done)
    times = [training[n].total for n in done if n in training]
    mean = fmean(times) if times else 0.0
    if len(times) < 2 or not mean:
        sureness = f"measured in {len(done)} committed rounds, whose spread is not known"
        return Forecast(gpu_hours=left * cost, error_gpu_hours=None, num_rounds_left=left, sureness=sureness)
    # of the mean over the rounds that were measured, and of the sum over those that are left
    relative = 2 * pstdev(times) / mean * sqrt(1 / len(times) + 1 / left)
    sureness = f"measured in {len(times)} committed rounds, give or take {100 * relative:.0f} %"
    return Forecast(
        gpu_hours=left * cost, error_gpu_hours=left * cost * relative, num_rounds_left=left, sureness=sureness
    )


def _split(site: str, run: Run | None, training: Mapping[int, RoundTraining]) -> tuple[float, float, float]:
    """Effective, discarded and undecided training in GPU-hours."""
    effective = discarded = undecided = 0.0
    for number, found in training.items():
        ended = in_the_model(site, run.rounds.get(number)) if run else False
        discarded += found.repeated / _HOUR
        if ended is None:
            undecided += found.kept / _HOUR
        elif ended:
            effective += found.kept / _HOUR
        else:
            discarded += found.kept / _HOUR
    return effective, discarded, undecided


def _used_so_far(job: Allocation, default: JobSize, now_us: int) -> int:
    """GPU-microseconds of a live job since it might begin: a wait in the queue cannot be told from here."""
    size = size_of(job, default)
    since = size.num_gpus * max(0, now_us - max(job.submitted_at_us, begins_at_us(job))) if job.submitted_at_us else 0
    return min(since, size.full_us) if size.seconds_limit else since


def _sources(found: Sequence[Charge]) -> dict[str, int]:
    counted = {source: sum(1 for charge in found if charge.source is source) for source in Source}
    return {source.value: number for source, number in counted.items() if number}


# --- days -------------------------------------------------------------------------------------------------------------


def _days(
    site: str, state: AgentState, federation: Federation, training: Training, default: JobSize, now_us: int
) -> tuple[DayBudget, ...]:
    """Days on which something was used, signed or sent, oldest first."""
    spent: dict[int, float] = {}
    for found in state.allocations.values():
        for job in found:
            for day, used_us in _by_day(job, default, now_us).items():
                spent[day] = spent.get(day, 0.0) + used_us / HOUR_US
    sent: dict[int, int] = {}
    split: dict[int, tuple[float, float]] = {}
    for key, at_us in state.signed_at_us.items():
        day = at_us // DAY_US
        sent[day] = sent.get(day, 0) + state.signed[key].payload_bytes
        effective, discarded = _round_split(site, federation.runs.get(key[0]), training, key[0], key[1])
        before = split.get(day, (0.0, 0.0))
        split[day] = (before[0] + effective, before[1] + discarded)
    return tuple(
        DayBudget(
            day=f"{datetime.fromtimestamp(day * DAY_US / US, UTC):%Y-%m-%d}",
            spent=spent.get(day, 0.0),
            effective=split.get(day, (0.0, 0.0))[0],
            discarded=split.get(day, (0.0, 0.0))[1],
            sent_bytes=sent.get(day, 0),
        )
        for day in sorted({*spent, *sent})
    )


def _round_split(site: str, run: Run | None, training: Training, name: str, number: int) -> tuple[float, float]:
    found = training.get(name, {}).get(number)
    if found is None:
        return 0.0, 0.0
    effective, discarded, _ = _split(site, run, {number: found})
    return effective, discarded


def _by_day(job: Allocation, default: JobSize, now_us: int) -> dict[int, int]:
    """GPU-microseconds of an ended job per day: its use, laid out evenly to its end."""
    if job.end is None:
        return {}
    charge, size = charge_of(job, default, now_us), size_of(job, default)
    num_gpus = job.accounted.num_gpus if job.accounted else size.num_gpus
    if not num_gpus or not charge.ended_us:
        return {}
    begin_us, days = job.end.at_us - charge.ended_us // num_gpus, {}
    for day in range(begin_us // DAY_US, job.end.at_us // DAY_US + 1):
        used_us = min(job.end.at_us, (day + 1) * DAY_US) - max(begin_us, day * DAY_US)
        if used_us > 0:
            days[day] = num_gpus * used_us
    return days
