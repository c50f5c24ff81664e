# SPDX-License-Identifier: Apache-2.0
"""Where the hours went: the parts add up to what was used, and the forecast says how sure it is."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from agent_situations import RUN, SITE, Situation, digest_of

from federation import leaves as lv
from federation.messages import Update
from site_agent.agent_state import Allocation, fold
from site_agent.budget import HOUR_US, US, JobSize
from site_agent.budget_report import BudgetReport, RunBudget, report_of
from site_agent.budget_training import RoundTraining, training_of
from site_agent.entries import (
    AllocationAccounted,
    AllocationEnded,
    AllocationIntended,
    AllocationSubmitted,
    UpdateSigned,
)

SIZE = JobSize(num_gpus=2, seconds_limit=10 * 3600)


def lines(*steps: tuple[int, int, float, int]) -> Iterator[dict[str, Any]]:
    """Metrics of (round, step, seconds, fencing)."""
    for number, step, seconds, fencing in steps:
        yield {"round": number, "step": step, "seconds": seconds, "fencing": fencing, "loss": 1.0, "tokens": 8}


JOBS = (
    Allocation(run=RUN, number=1, fencing=1, intended_at_us=0, num_gpus=2, seconds_limit=60),
    Allocation(run=RUN, number=2, fencing=2, intended_at_us=0, num_gpus=8, seconds_limit=60),
)


def test_a_step_that_was_repeated_counts_once_as_kept() -> None:
    found = training_of(lines((0, 1, 10, 1), (0, 2, 10, 1), (0, 2, 30, 2), (1, 1, 5, 2)), JOBS, SIZE)
    assert found == {
        0: RoundTraining(kept=10 * 2 + 30 * 8, repeated=10 * 2),
        1: RoundTraining(kept=5 * 8, repeated=0),
    }


def test_a_requeued_job_has_the_gpus_of_its_allocation_and_accounts_win() -> None:
    assert training_of(lines((0, 1, 1, 9)), JOBS, SIZE)[0].kept == 8
    row = AllocationAccounted(run=RUN, number=2, elapsed_seconds=1, num_gpus=4, at_us=1)
    told = (JOBS[0], replace(JOBS[1], accounted=row))
    assert training_of(lines((0, 1, 1, 2)), told, SIZE)[0].kept == 4


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"round": "0", "step": 1, "seconds": 1, "fencing": 1},
        {"round": 0, "step": 1, "seconds": float("nan"), "fencing": 1},
        {"round": 0, "step": 1, "seconds": -1, "fencing": 1},
        {"round": 0, "step": 1, "seconds": 1},
    ],
)
def test_lines_that_jobs_damaged_are_left_out(line: dict[str, Any]) -> None:
    assert training_of([line], JOBS, SIZE) == {}


def trained(hours: float) -> RoundTraining:
    """A round's training of so many GPU-hours."""
    return RoundTraining(kept=hours * 3600)


def world() -> Situation:
    """One ended job of 2 GPUs and 10 hours, accounted with 9; rounds 0 and 1 committed with us, 2 without, 3 open."""
    situation = Situation(num_rounds=10).started()
    at = situation.now_us
    situation.journal(
        AllocationIntended(run=RUN, number=1, fencing=1, at_us=at, num_gpus=2, seconds_limit=36_000),
        AllocationSubmitted(run=RUN, number=1, handle="7", at_us=at),
        AllocationEnded(run=RUN, number=1, failed=False, reason="stopped", sentence="", at_us=at + 10 * HOUR_US),
        AllocationAccounted(run=RUN, number=1, elapsed_seconds=9 * 3600, num_gpus=2, at_us=at + 11 * HOUR_US),
    )
    for number in range(3):
        situation.opened(number).committed(number, listed=digest_of("payload", number) if number < 2 else "")
    situation.now_us = at + 12 * HOUR_US
    return situation.opened(3)


TRAINING = {0: trained(4), 1: replace(trained(5), repeated=1800), 2: trained(3), 3: trained(1)}


def report(situation: Situation, training: dict[int, RoundTraining] = TRAINING) -> BudgetReport:
    return report_of(SITE, situation.state, situation.federation, {RUN: training}, SIZE, situation.now_us)


def only_run(situation: Situation, training: dict[int, RoundTraining] = TRAINING) -> RunBudget:
    (found,) = report(situation, training).runs
    return found


def test_what_was_used_is_split_without_rest() -> None:
    found = only_run(world())
    assert (found.spent, found.committed) == (18, 0)
    assert (found.effective, found.discarded, found.open, found.idle) == (9, 3.5, 1, 4.5)
    assert found.sources == {"by accounts": 1}
    assert report(world()).last_24_hours == 18


def test_an_abandoned_and_a_reverted_round_are_discarded() -> None:
    situation = world().abandoned(3)
    assert only_run(situation).discarded == 4.5
    situation.leaf(lv.RunRevertedV1(run=RUN, to_round=0, operator="olga", command="r"))
    found = only_run(situation)
    assert (found.effective, found.discarded, found.open) == (4, 9.5, 0)


def test_accounts_win_over_jobs_that_report_more_training_than_time() -> None:
    found = only_run(world(), {0: trained(30), 1: trained(6)})
    assert (found.effective, found.discarded, found.idle) == (pytest.approx(18), 0, 0)


def test_a_live_job_is_committed_in_full_and_used_since_its_submission() -> None:
    situation = world()
    situation.journal(
        AllocationIntended(run=RUN, number=2, fencing=2, at_us=situation.now_us, num_gpus=2, seconds_limit=36_000),
        AllocationSubmitted(run=RUN, number=2, handle="8", at_us=situation.now_us),
    )
    situation.now_us += HOUR_US
    found = only_run(situation)
    assert (found.spent, found.committed, found.num_jobs) == (18, 20, 2)
    assert found.effective + found.discarded + found.open + found.idle == 18 + 2


def test_the_forecast_takes_all_overhead_of_committed_rounds_and_says_how_sure_it_is() -> None:
    forecast = only_run(world()).forecast
    assert forecast.num_rounds_left == 7
    assert forecast.gpu_hours == pytest.approx(7 * (18 - 1) / 2)
    assert forecast.error_gpu_hours is not None
    assert 0 < forecast.error_gpu_hours < forecast.gpu_hours
    assert forecast.sureness.startswith("measured in 2 committed rounds, give or take ")


def test_without_a_committed_round_there_is_no_forecast() -> None:
    situation = Situation(num_rounds=10).started()
    situation.journal(AllocationIntended(run=RUN, number=1, fencing=1, at_us=1, num_gpus=2, seconds_limit=36_000))
    forecast = only_run(situation, {}).forecast
    assert (forecast.gpu_hours, forecast.num_rounds_left) == (None, 10)
    assert forecast.sureness == "no round of this site is committed yet"


def test_a_forecast_without_metrics_rests_on_the_accounts_alone() -> None:
    forecast = only_run(world(), {}).forecast
    assert (forecast.gpu_hours, forecast.error_gpu_hours) == (7 * 18 / 2, None)
    assert forecast.sureness == "measured in 2 committed rounds, whose spread is not known"


def test_days_are_those_of_utc() -> None:
    situation = Situation(num_rounds=10).started().opened(0).committed(0, listed=digest_of("payload", 0))
    midnight_us = 20_000 * 86_400 * US
    found = situation.federation.runs[RUN].rounds[0]
    update = Update(
        consortium="test",
        run=RUN,
        manifest_digest=situation.manifest_digest,
        round=0,
        fragment=0,
        base_digest=found.base_digest,
        site=SITE,
        allocation="a1",
        codec="fp32",
        weight_tokens=1,
        new_tokens=1,
        num_steps=1,
        payload_digest=digest_of("payload", 0),
        payload_bytes=77,
    )
    situation.journal(
        AllocationIntended(run=RUN, number=1, fencing=1, at_us=midnight_us, num_gpus=2, seconds_limit=36_000),
        AllocationSubmitted(run=RUN, number=1, handle="7", at_us=midnight_us - 2 * HOUR_US),
        UpdateSigned(update=update, at_us=midnight_us + 1),
        AllocationEnded(run=RUN, number=1, failed=False, reason="stopped", sentence="", at_us=midnight_us + HOUR_US),
    )
    situation.now_us = midnight_us + 2 * HOUR_US
    eve, day = report(situation, {0: trained(3)}).days
    assert (eve.day, eve.spent, eve.effective, eve.sent_bytes) == ("2024-10-03", 4, 0, 0)
    assert (day.day, day.spent, day.effective, day.sent_bytes) == ("2024-10-04", 2, 3, 77)


def test_an_agent_that_never_ran_has_an_empty_report() -> None:
    situation = Situation()
    assert report_of(SITE, fold([]), situation.federation, {}, SIZE, 1).runs == ()
