# SPDX-License-Identifier: Apache-2.0
"""Whether this site's policy lets jobs start now, and until when that stays so: for people, of no run in particular.

It asks the policy itself, and so says what the next job will be told. The moment is that of the one cause that is met
first; another one may follow upon it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from federation.leaves import Reason
from federation.messages import StartChange
from site_agent import budget
from site_agent.agent_state import AgentState
from site_agent.budget import DAY_US, UNLIMITED_SECONDS, US, JobSize
from site_agent.observations import Answer
from site_agent.policy import PerRun, Policy, PolicyAnswer, StartFigures, may_start
from site_agent.policy_hours import next_change, reached

MAX_MOMENTS: Final = 64
"""Moments that are tried for room in the day's budget."""


@dataclass(frozen=True, kw_only=True)
class StartOutlook:
    """`change`: what ends this answer; at `change_at_us` by this site's clock, 0 where nobody can tell."""

    may_start: bool
    change: StartChange = StartChange.NONE
    change_at_us: int = 0


def start_outlook(policy: Policy, job: JobSize, state: AgentState, now_us: int) -> StartOutlook:
    """The answer at `now_us` (microseconds of this site's clock) to a job of that size."""
    now, answer = _time(now_us), _answer(policy, job, state, now_us)
    if answer.answer is Answer.ACCEPT:
        at, change = min(_ends(policy, job, now), default=(None, StartChange.NONE))
        return StartOutlook(may_start=True, change=change, change_at_us=_us(at) if at else 0)
    if answer.reason is Reason.BUDGET:
        room_us = next((at for at in _moments(state, now_us) if _has_room(policy, job, state, at)), 0)
        return StartOutlook(may_start=False, change=StartChange.BUDGET, change_at_us=room_us)
    met = reached(policy.maintenance, now, job.seconds_limit or UNLIMITED_SECONDS)
    if met is not None:
        return StartOutlook(may_start=False, change=StartChange.MAINTENANCE, change_at_us=_us(met.ends_at))
    opens = next_change(policy.hours, now)
    return StartOutlook(may_start=False, change=StartChange.HOURS, change_at_us=_us(opens) if opens else 0)


def _answer(policy: Policy, job: JobSize, state: AgentState, now_us: int) -> PolicyAnswer:
    """`policy.may_start` without the limits of a single run."""
    figures = StartFigures(
        day_gpu_hours=budget.gpu_hours(state, job, now_us, since_us=now_us - DAY_US),
        day_bytes=budget.bytes_spent(state, now_us),
        job_gpu_hours=job.gpu_hours,
        wall_seconds=job.seconds_limit,
    )
    return may_start(policy.model_copy(update={"per_run": PerRun()}), figures, _time(now_us))


def _has_room(policy: Policy, job: JobSize, state: AgentState, at_us: int) -> bool:
    return _answer(policy, job, state, at_us).reason is not Reason.BUDGET


def _moments(state: AgentState, now_us: int) -> list[int]:
    """When something leaves the last 24 hours, soonest first."""
    ended = {a.end.at_us + DAY_US for found in state.allocations.values() for a in found if a.end}
    sent = {at_us + DAY_US for at_us in state.signed_at_us.values()}
    return sorted(at_us for at_us in ended | sent if at_us > now_us)[:MAX_MOMENTS]


def _ends(policy: Policy, job: JobSize, now: datetime) -> Iterator[tuple[datetime, StartChange]]:
    """What will end a time in which jobs may start."""
    closes = next_change(policy.hours, now)
    if closes is not None:
        yield closes, StartChange.HOURS
    wall = timedelta(seconds=job.seconds_limit or UNLIMITED_SECONDS)
    yield from ((m.begins_at - wall, StartChange.MAINTENANCE) for m in policy.maintenance if m.begins_at - wall > now)


def _time(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / US, UTC)


def _us(at: datetime) -> int:
    return int(at.timestamp() * US)
