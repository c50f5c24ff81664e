# SPDX-License-Identifier: Apache-2.0
"""How long a new job waits for other sites' jobs: what the coordinator suggests, within what this site allows."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from agent_situations import RUN, Situation

from federation.messages import AllocationState
from site_agent.agent_state import Allocation
from site_agent.budget import JobSize, charge_of
from site_agent.entries import (
    AllocationAccounted,
    AllocationEnded,
    AllocationIntended,
    AllocationStopped,
    AllocationSubmitted,
)
from site_agent.instructions import SubmitAllocation
from site_agent.observations import Execution, JobPhase
from site_agent.policy_hours import HoursSection, MaintenanceSection, latest_start_seconds
from site_agent.start_delay import (
    MAX_AGE_SECONDS,
    MIN_DELAY_SECONDS,
    SOONER,
    SuggestedStart,
    SuggestionSeen,
    begin_after_seconds,
    comes_too_late,
    start_delay_seconds,
    typical_wait_seconds,
)
from site_agent.status import changed

HOUR, US = 3600, 1_000_000
CAP = 6 * HOUR


# --- the suggestion ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "left"),
    [(0, 5000), (1000, 4000), (MAX_AGE_SECONDS, 1400), (MAX_AGE_SECONDS + 1, None), (-1, None)],
)
def test_the_age_of_a_suggestion_counts(age: float, left: float | None) -> None:
    found = SuggestedStart(seconds=5000, received_at_us=10**12)
    assert found.seconds_left(10**12 + int(age * US)) == left


def test_what_is_over_asks_for_nothing() -> None:
    assert SuggestedStart(seconds=10, received_at_us=0).seconds_left(60 * US) == 0.0


# --- what jobs wait anyway --------------------------------------------------------------------------------------------


def past(number: int, *, wait: float, delay: int = 0, elapsed: float = HOUR, stop: str = "") -> Allocation:
    """An allocation that ended and was accounted, after so long in the queue."""
    end_us = int((delay + wait + elapsed) * US)
    end = AllocationEnded(run=RUN, number=number, failed=False, reason="idle", sentence="", at_us=end_us)
    return Allocation(
        run=RUN,
        number=number,
        fencing=number,
        intended_at_us=0,
        begin_after_seconds=delay,
        handle="slurm:-:1",
        submitted_at_us=1,
        stop=AllocationStopped(run=RUN, number=number, reason=stop, at_us=0) if stop else None,
        end=end,
        accounted=AllocationAccounted(run=RUN, number=number, elapsed_seconds=elapsed, num_gpus=1, at_us=end_us),
    )


def test_the_typical_wait_is_the_median_of_the_newest_that_are_accounted() -> None:
    assert typical_wait_seconds([]) == 0.0
    old = [past(n, wait=100_000) for n in range(1, 4)]
    new = [past(n, wait=wait) for n, wait in enumerate((60, 900, 600, 30, 700), start=4)]
    assert typical_wait_seconds([*old, *new]) == pytest.approx(600, abs=1e-3)
    unknown = replace(past(9, wait=10**6), accounted=None)
    assert typical_wait_seconds([*old, *new, unknown]) == pytest.approx(600, abs=1e-3)


def test_a_delay_that_was_asked_for_is_no_wait_in_the_queue() -> None:
    assert typical_wait_seconds([past(1, wait=60, delay=HOUR)]) == pytest.approx(60)
    assert typical_wait_seconds([past(1, wait=-30)]) == 0.0, "accounts that say more than there was time for"


# --- the delay --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suggestion", "cap", "expected"),
    [
        (None, CAP, 0),
        (SuggestionSeen(seconds=2 * HOUR), CAP, 2 * HOUR),
        (SuggestionSeen(seconds=2 * HOUR), 0.0, 0),
        (SuggestionSeen(seconds=20 * HOUR), CAP, CAP),
        (SuggestionSeen(seconds=MIN_DELAY_SECONDS - 1), CAP, 0),
        (SuggestionSeen(seconds=2 * HOUR, latest_seconds=HOUR), CAP, 0),
        (SuggestionSeen(seconds=20 * HOUR, latest_seconds=CAP), CAP, CAP),
    ],
)
def test_the_delay(suggestion: SuggestionSeen | None, cap: float, expected: int) -> None:
    assert start_delay_seconds(suggestion, (), cap) == expected


def test_the_typical_wait_is_part_of_the_delay() -> None:
    assert start_delay_seconds(SuggestionSeen(seconds=2 * HOUR), [past(1, wait=HOUR)], CAP) == HOUR
    assert start_delay_seconds(SuggestionSeen(seconds=2 * HOUR), [past(1, wait=3 * HOUR)], CAP) == 0


def test_after_a_job_that_was_taken_back_the_next_one_does_not_wait() -> None:
    assert start_delay_seconds(SuggestionSeen(seconds=2 * HOUR), [past(1, wait=0, stop=SOONER)], CAP) == 0
    assert start_delay_seconds(SuggestionSeen(seconds=2 * HOUR), [past(1, wait=0, stop="hours")], CAP) == 2 * HOUR


# --- hours and maintenance --------------------------------------------------------------------------------------------

EVENING = datetime(2027, 3, 1, 22, 0, tzinfo=UTC)


def latest(limit: float, *windows: str, wall: float = HOUR, maintenance_in: float | None = None) -> float:
    begin = EVENING.timestamp() + (maintenance_in or 0.0)
    moments = [datetime.fromtimestamp(begin + seconds, UTC) for seconds in (0, HOUR)]
    sections = [] if maintenance_in is None else [MaintenanceSection(begins_at=moments[0], ends_at=moments[1])]
    return latest_start_seconds(HoursSection(windows=windows), sections, EVENING, wall, limit)


def test_a_job_begins_while_the_hours_last_and_is_over_before_maintenance() -> None:
    assert latest(5 * HOUR) == 5 * HOUR
    assert latest(5 * HOUR, "20:00-06:00") == 5 * HOUR
    assert latest(20 * HOUR, "20:00-06:00") == 8 * HOUR - 60
    assert latest(20 * HOUR, "20:00-06:00", "06:00-09:00") == 11 * HOUR - 60
    assert latest(5 * HOUR, "08:00-20:00") == 0
    assert latest(20 * HOUR, maintenance_in=10 * HOUR, wall=2 * HOUR) == 8 * HOUR
    assert latest(20 * HOUR, maintenance_in=HOUR, wall=2 * HOUR) == 0
    assert latest(20 * HOUR, maintenance_in=-2 * HOUR) == 20 * HOUR, "it is over"


# --- decisions --------------------------------------------------------------------------------------------------------


def situation(**suggestion: Any) -> Situation:
    """A run that goes on, accepted here, by a site that may delay its jobs; no job yet."""
    s = Situation().started()
    s.settings = replace(s.settings, max_start_delay_seconds=CAP)
    return s.see(suggestions={RUN: SuggestionSeen(**suggestion)} if suggestion else {})


def intended(s: Situation) -> AllocationIntended:
    (found,) = [entry for entry in s.settle() if isinstance(entry, AllocationIntended)]
    return found


def submissions(s: Situation) -> list[int]:
    return [i.begin_after_seconds for i in s.pending() if isinstance(i, SubmitAllocation)]


def test_a_malicious_coordinator_delays_a_job_by_no_more_than_the_cap() -> None:
    s = situation(seconds=10**18)
    assert intended(s).begin_after_seconds == CAP
    s.job(execution=Execution.UNKNOWN, phase=JobPhase.NONE, attempted=False)
    for passed in (0, HOUR, CAP, 2 * CAP):
        s.now_us = s.state.allocations[RUN][0].intended_at_us + passed * US
        assert submissions(s) == [max(0, CAP - passed)], "a submission that comes late waits no longer for it"


def test_without_a_suggestion_or_with_the_cap_at_0_jobs_begin_at_once() -> None:
    assert intended(situation()).begin_after_seconds == 0
    off = situation(seconds=2 * HOUR)
    off.settings = replace(off.settings, max_start_delay_seconds=0.0)
    assert intended(off).begin_after_seconds == 0


def test_an_open_round_waits_for_nobody() -> None:
    s = situation(seconds=2 * HOUR).opened(0).witnessed()
    assert intended(s).begin_after_seconds == 0


def delayed(passed: float, **suggestion: Any) -> Situation:
    """Its job was submitted with two hours to wait, so long ago; then the coordinator says something."""
    s = situation(seconds=2 * HOUR)
    s.settle()
    number = s.state.allocations[RUN][0].number
    s.job(number, execution=Execution.QUEUED, phase=JobPhase.NONE, start_in_seconds=int(2 * HOUR - passed))
    return s.later(passed).see(suggestions={RUN: SuggestionSeen(**suggestion)} if suggestion else {})


@pytest.mark.parametrize(
    ("passed", "suggestion", "reasons"),
    [
        (1200, {"seconds": 0.0}, [SOONER]),
        (1200, {"seconds": 1800.0}, [SOONER]),
        (1200, {"seconds": 2.0 * HOUR}, []),
        (1200, {"seconds": 2.0 * HOUR - 1700}, []),
        (300, {"seconds": 0.0}, []),
        (2 * HOUR - 300, {"seconds": 0.0}, []),
        (1200, {}, []),
    ],
)
def test_a_job_that_waits_for_those_who_are_there_is_taken_back(
    passed: float, suggestion: dict[str, float], reasons: list[str]
) -> None:
    s = delayed(passed, **suggestion)
    assert [entry.reason for entry in s.settle() if isinstance(entry, AllocationStopped)] == reasons


def test_a_running_job_is_not_taken_back() -> None:
    s = delayed(1200, seconds=0.0)
    s.job(execution=Execution.RUNNING)
    assert not any(isinstance(entry, AllocationStopped) for entry in s.settle())
    live = s.state.allocations[RUN][0]
    assert comes_too_late(SuggestionSeen(seconds=0.0), live, s.now_us), "only because it runs"
    assert begin_after_seconds(live, s.now_us) == 2 * HOUR - 1200


def test_the_report_says_when_a_waiting_job_is_expected_and_is_no_news_with_each_second() -> None:
    s = situation()
    s.settle()
    s.journal(AllocationSubmitted(run=RUN, number=1, handle="slurm:-:1", at_us=s.now_us))
    s.job(execution=Execution.QUEUED, phase=JobPhase.NONE, start_in_seconds=700)
    before = s.report().status
    (report,) = before.allocations
    assert (report.state, report.start_in_seconds) == (AllocationState.QUEUED, 700)
    s.job(execution=Execution.QUEUED, phase=JobPhase.NONE, start_in_seconds=699)
    assert not changed(before, s.report().status)
    s.job(execution=Execution.QUEUED, phase=JobPhase.NONE, start_in_seconds=0)
    assert changed(before, s.report().status)
    s.job(execution=Execution.RUNNING, phase=JobPhase.READY, start_in_seconds=700)
    (report,) = s.report().status.allocations
    assert report.start_in_seconds == 0


def test_what_a_job_waits_before_its_time_costs_nothing() -> None:
    ended = replace(past(1, wait=0, delay=2 * HOUR), accounted=None, num_gpus=4, seconds_limit=10 * HOUR)
    charge = charge_of(ended, JobSize(), now_us=0)
    assert charge.total_us == pytest.approx(4 * HOUR * US, rel=1e-6), "of three hours in all, two before its time"
