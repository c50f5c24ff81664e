# SPDX-License-Identifier: Apache-2.0
"""Whether this site's policy lets jobs start now, and until when that stays so: for people, of no run in particular.

It asks the policy itself, and so says what the next job will be told. The moment is that of the one cause that is met
first; another one may follow upon it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from federation.leaves import Reason
from federation.messages import StartChange
from site_agent import budget
from site_agent.agent_state import AgentState
from site_agent.budget import DAY_US, UNLIMITED_SECONDS, US, JobSize
from site_agent.observations import Answer
from site_agent.policy import PerRun, Policy, PolicyAnswer, StartFigures, may_start
from site_agent.policy_hours import next_change, reached


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
        return StartOutlook(
            may_start=False, change=StartChange.BUDGET, change_at_us=_room_at_us(policy, job, state, now_us)
        )
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


def _room_at_us(policy: Policy, job: JobSize, state: AgentState, now_us: int) -> int:
    """When the last 24 hours hold little enough, to the second; 0 if only the end of a live job can bring that about.

    What has ended leaves these hours little by little and for good, so that the moment can be closed in upon.
    """
    full_us, room_us = now_us, now_us + DAY_US
    if not _has_room(policy, job, state, room_us):
        return 0
    while room_us - full_us > US:
        middle_us = (full_us + room_us) // 2
        has_room = _has_room(policy, job, state, middle_us)
        full_us, room_us = (full_us, middle_us) if has_room else (middle_us, room_us)
    return room_us


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
