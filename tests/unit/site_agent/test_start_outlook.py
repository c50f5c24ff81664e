# SPDX-License-Identifier: Apache-2.0
"""Whether jobs may start now, and what ends that: hours, maintenance, the day's budget."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from federation.messages import StartChange
from site_agent.agent_state import AgentState, Allocation
from site_agent.budget import DAY_US, US, JobSize
from site_agent.entries import AllocationEnded
from site_agent.policy import PerDay, PerRun, Policy
from site_agent.policy_hours import HoursSection, MaintenanceSection
from site_agent.start_outlook import StartOutlook, start_outlook

NOON = datetime(2027, 3, 3, 12, 0, tzinfo=UTC)  # a Wednesday
JOB = JobSize(num_gpus=2, seconds_limit=3600)
ROOM = PerDay(gpu_hours=100.0, bytes=10**9)


def us(at: datetime) -> int:
    return int(at.timestamp()) * US


def asked(policy: Policy, state: AgentState | None = None, at: datetime = NOON) -> StartOutlook:
    return start_outlook(policy, JOB, state or AgentState(), us(at))


def hours(*windows: str) -> Policy:
    return Policy(per_day=ROOM, hours=HoursSection(windows=windows))


def maintained(begins: float, ends: float, *windows: str) -> Policy:
    """Maintenance from so many hours after noon to so many."""
    section = MaintenanceSection(begins_at=NOON + timedelta(hours=begins), ends_at=NOON + timedelta(hours=ends))
    return hours(*windows).model_copy(update={"maintenance": (section,)})


def test_nothing_ends_what_no_rule_limits() -> None:
    assert asked(hours()) == StartOutlook(may_start=True)


def test_hours_open_and_close() -> None:
    closes, opens = NOON + timedelta(hours=6), NOON + timedelta(hours=8)
    assert asked(hours("08:00-18:00")) == StartOutlook(
        may_start=True, change=StartChange.HOURS, change_at_us=us(closes)
    )
    assert asked(hours("20:00-06:00")) == StartOutlook(
        may_start=False, change=StartChange.HOURS, change_at_us=us(opens)
    )


def test_maintenance_counts_from_where_no_job_ends_before_it() -> None:
    found = asked(maintained(5, 9))
    assert (found.may_start, found.change) == (True, StartChange.MAINTENANCE)
    assert found.change_at_us == us(NOON + timedelta(hours=4)), "an hour before, the wall time of a job"
    inside = asked(maintained(0.5, 9))
    assert (inside.may_start, inside.change) == (False, StartChange.MAINTENANCE)
    assert inside.change_at_us == us(NOON + timedelta(hours=9))


def test_what_comes_first_is_told() -> None:
    assert asked(maintained(5, 9, "08:00-15:00")).change is StartChange.HOURS
    assert asked(maintained(2, 9, "08:00-15:00")).change is StartChange.MAINTENANCE


def spent(gpu_hours_ago: float) -> AgentState:
    """One job that used its whole hour on two GPUs, and ended so many hours before noon."""
    at_us = us(NOON - timedelta(hours=gpu_hours_ago))
    end = AllocationEnded(run="r", number=1, failed=False, reason="stopped", sentence="", at_us=at_us)
    began = at_us - 3600 * US
    job = Allocation(
        run="r", number=1, fencing=1, intended_at_us=began, handle="7", submitted_at_us=began, num_gpus=2, end=end
    )
    return AgentState(allocations={"r": (replace(job, seconds_limit=3600),)})


def test_a_day_s_budget_has_room_once_enough_is_a_day_old() -> None:
    state = spent(5)
    policy = Policy(per_day=PerDay(gpu_hours=3.0, bytes=10**9))
    found = asked(policy, state)
    assert (found.may_start, found.change) == (False, StartChange.BUDGET)
    half_over = us(NOON - timedelta(hours=5.5)) + DAY_US  # one of its two GPU-hours is older than a day then
    assert 0 <= found.change_at_us - half_over <= US
    assert asked(Policy(per_day=PerDay(gpu_hours=4.0, bytes=10**9)), state).may_start


def test_nobody_can_tell_when_a_budget_that_is_too_small_has_room() -> None:
    policy = Policy(per_day=PerDay(gpu_hours=1.0, bytes=10**9))
    assert asked(policy) == StartOutlook(may_start=False, change=StartChange.BUDGET)


def test_limits_of_a_single_run_do_not_count() -> None:
    policy = Policy(per_day=ROOM, per_run=PerRun(gpu_hours=0.5))
    assert asked(policy).may_start


def test_the_moment_is_one_at_which_the_policy_says_so() -> None:
    state, policy = spent(5), Policy(per_day=PerDay(gpu_hours=3.0, bytes=10**9))
    at_us = asked(policy, state).change_at_us
    assert start_outlook(policy, JOB, state, at_us).may_start
    assert not start_outlook(policy, JOB, state, at_us - 2 * US).may_start
