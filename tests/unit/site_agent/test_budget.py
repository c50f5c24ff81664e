# SPDX-License-Identifier: Apache-2.0
"""What jobs count for, in which unit, and that one pass never starts two of them on the same room in a budget."""

from dataclasses import replace

import pytest
from agent_situations import MANIFEST, RUN, SITE, THETA, Situation, digest_of

from federation import leaves as lv
from federation.messages import Update
from federation.site_profile import load_profile
from site_agent.agent_state import fold
from site_agent.budget import (
    DAY_US,
    HOUR_US,
    JobSize,
    Source,
    bytes_spent,
    charge_of,
    gpu_hours,
    to_account,
)
from site_agent.budget_units import AccountingSection, estimate_words, native_unit
from site_agent.entries import (
    AllocationAccounted,
    AllocationEnded,
    AllocationIntended,
    AllocationStopped,
    AllocationSubmitted,
    Entry,
    UpdateSigned,
)
from site_agent.manifests import ManifestJudge
from site_agent.observations import Answer, ManifestSeen
from site_agent.policy import PerDay, Policy

SIZE = JobSize(num_gpus=4, seconds_limit=6 * 3600)
T0 = 1_000 * DAY_US


def hours(number: float) -> int:
    """Microseconds of the clock, so many hours after the first intent."""
    return T0 + int(number * HOUR_US)


def intended(number: int = 1, *, size: JobSize = SIZE, at: float = 0) -> list[Entry]:
    return [
        AllocationIntended(
            run=RUN,
            number=number,
            fencing=number,
            at_us=hours(at),
            num_gpus=size.num_gpus,
            seconds_limit=size.seconds_limit,
        )
    ]


def submitted(number: int = 1, *, size: JobSize = SIZE, at: float = 0) -> list[Entry]:
    return [
        *intended(number, size=size, at=at),
        AllocationSubmitted(run=RUN, number=number, handle="slurm:c:7", at_us=hours(at)),
    ]


def ended(number: int = 1, *, at: float, reason: str = "stopped") -> list[Entry]:
    return [AllocationEnded(run=RUN, number=number, failed=False, reason=reason, sentence="", at_us=hours(at))]


def accounted(number: int = 1, *, used: float, gpus: int = 4, at: float = 50) -> list[Entry]:
    return [AllocationAccounted(run=RUN, number=number, elapsed_seconds=used * 3600, num_gpus=gpus, at_us=hours(at))]


def charged(entries: list[Entry], *, now: float, since: float | None = None) -> tuple[float, float, Source]:
    """Ended and live GPU-hours of the first job, and where they come from."""
    (job, *_) = fold(entries).allocations[RUN]
    charge = charge_of(job, SIZE, hours(now), 0 if since is None else hours(since))
    return charge.ended_us / HOUR_US, charge.live_us / HOUR_US, charge.source


def test_a_live_job_counts_in_full_from_its_intent() -> None:
    assert charged(intended(), now=0) == (0, 24, Source.IN_FULL)
    assert charged(submitted(), now=5) == (0, 24, Source.IN_FULL)


def test_a_live_job_adds_what_its_earlier_executions_used() -> None:
    assert charged([*submitted(), *accounted(used=5)], now=8) == (20, 24, Source.IN_FULL)


def test_a_job_without_a_wall_time_counts_as_one_of_a_day_and_more_if_it_lives_longer() -> None:
    entries = submitted(size=JobSize(num_gpus=1))
    assert charged(entries, now=3)[1] == 24
    assert charged(entries, now=30)[1] == 30
    assert charged([*entries, *ended(at=30)], now=31) == (30, 0, Source.JOURNAL)


def test_an_ended_job_counts_as_accounted_else_as_journaled() -> None:
    entries = [*submitted(), *ended(at=5)]
    assert charged(entries, now=9) == (20, 0, Source.JOURNAL)
    assert charged([*entries, *accounted(used=2)], now=9) == (8, 0, Source.ACCOUNTS)
    assert charged([*entries, *accounted(used=2), *accounted(used=3)], now=9)[0] == 12  # the later word counts


def test_a_day_in_the_queue_costs_at_most_the_wall_time() -> None:
    assert charged([*submitted(), *ended(at=30)], now=31)[0] == 24


def test_an_end_that_only_a_person_vouched_for_counts_in_full_until_it_is_accounted_for() -> None:
    entries = [*submitted(), *ended(at=1, reason="operator")]
    assert charged(entries, now=2) == (24, 0, Source.IN_FULL)
    assert charged([*entries, *accounted(used=0.5)], now=2) == (2, 0, Source.ACCOUNTS)


@pytest.mark.parametrize("reason", ["launch-failed", "unknown-partition", "account-exhausted"])
def test_a_job_that_was_certainly_not_started_costs_nothing(reason: str) -> None:
    assert charged([*intended(), *ended(at=2, reason=reason)], now=3) == (0, 0, Source.NOTHING)


def test_a_job_that_may_have_run_before_it_had_a_handle_counts_from_its_intent() -> None:
    assert charged([*intended(), *ended(at=2, reason="killed")], now=3) == (8, 0, Source.JOURNAL)


def test_only_what_lies_within_the_day_counts() -> None:
    entries = [*submitted(), *ended(at=6)]
    assert charged(entries, now=26, since=2)[0] == 16
    assert charged(entries, now=40, since=16)[0] == 0
    assert charged([*entries, *accounted(used=1)], now=29, since=5.5)[0] == 2  # as late as it can have been


def test_jobs_of_an_older_release_count_as_site_toml_says() -> None:
    state = fold([AllocationIntended(run=RUN, number=1, fencing=1, at_us=T0)])
    assert gpu_hours(state, JobSize(num_gpus=2, seconds_limit=3600), T0) == 2


def test_accounts_are_asked_for_until_they_answer_or_two_weeks_are_over() -> None:
    entries = [*submitted(), *ended(at=5)]
    numbers = [a.number for a in to_account(fold(entries), hours(6))]
    assert numbers == [1]
    assert to_account(fold([*entries, *accounted(used=1)]), hours(6)) == ()
    assert to_account(fold(submitted()), hours(6)) == ()
    assert to_account(fold([*intended(), *ended(at=5, reason="launch-failed")]), hours(6)) == ()
    assert to_account(fold(entries), hours(5 + 14 * 24)) == ()


def test_runs_are_counted_apart_and_together() -> None:
    other = AllocationIntended(run="other", number=1, fencing=1, at_us=T0, num_gpus=1, seconds_limit=3600)
    state = fold([*intended(), other])
    assert [gpu_hours(state, SIZE, T0, run=run) for run in (RUN, "other", "")] == [24, 1, 25]


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_bytes_of_the_day() -> None:
    situation = Situation().started().opened(0).opened(1)
    situation.journal(AllocationIntended(run=RUN, number=1, fencing=1, at_us=situation.now_us))
    for number, size in ((0, 100), (1, 70)):
        update = _update(situation, number, size)
        situation.journal(UpdateSigned(update=update, at_us=situation.now_us + number))
    now_us = situation.now_us
    assert bytes_spent(situation.state, now_us + DAY_US) == 70
    assert bytes_spent(situation.state, now_us) == 170


def _update(situation: Situation, number: int, size: int) -> Update:
    situation.update(number, payload_bytes=size)
    left = situation.seen.updates[-1]
    return Update(
        consortium="test",
        run=RUN,
        manifest_digest=MANIFEST,
        round=number,
        fragment=left.fragment,
        base_digest=digest_of("base", number),
        site=SITE,
        allocation="a1",
        codec="fp32",
        weight_tokens=1,
        new_tokens=1,
        num_steps=1,
        payload_digest=digest_of("payload", number),
        payload_bytes=size,
    )


# --- units ------------------------------------------------------------------------------------------------------------


def test_lumi_counts_halves_of_a_card() -> None:
    profile = load_profile("lumi")
    unit = native_unit(AccountingSection(), profile)
    assert (unit.name, unit.per_gpu_hour) == ("GPU-hours", 0.5)
    words = estimate_words(JobSize(num_gpus=8, seconds_limit=7200), unit, profile)
    assert words == (
        "at most 16 GPU-hours (8 GPU-hours of the centre): 8 GPUs (a GPU here is one GCD, half an MI250X: "
        "Slurm counts 8 on a node) for 2 hours of wall time"
    )


def test_site_toml_knows_better_than_the_profile() -> None:
    unit = native_unit(AccountingSection(unit="node-hours", units_per_gpu_hour=0.25), load_profile("leonardo"))
    assert (unit.name, unit.of(8), unit.source) == ("node-hours", 2.0, "site.toml")


def test_a_unit_without_a_price_is_none() -> None:
    unit = native_unit(AccountingSection(), load_profile("localhost"))
    assert unit.of(3) is None
    assert unit.words(3) == "3 GPU-hours"


# --- starting ---------------------------------------------------------------------------------------------------------


def _judge(per_day: float) -> ManifestJudge:
    policy = Policy(per_day=PerDay(gpu_hours=per_day, bytes=10**9))
    return ManifestJudge(policy=policy, site=SITE, consortium="test", trainers={}, job=SIZE)


def _started_runs(per_day: float) -> list[str]:
    """Runs, of two that both may train, whose jobs are intended until nothing more is decided."""
    situation = Situation().started()
    second = "run-2"
    situation.leaf(
        lv.RunCreatedV1(run=second, manifest_digest=MANIFEST, plan=situation.plan, operator="olga", command="d1"),
        lv.RunApprovedV1(run=second, operator="olga", command="d2"),
        lv.RunStartedV1(run=second, operator="olga", command="d3"),
    )
    judge, intents = _judge(per_day), []
    for _ in range(20):
        manifests = {run: judge.today(_accepted(run), situation.state, situation.now_us) for run in (RUN, second)}
        situation.see(manifests=manifests)
        entries = situation.decide()
        intents += [entry.run for entry in entries if isinstance(entry, AllocationIntended)]
        situation.journal(*entries)
        if not entries:
            return intents
    raise AssertionError("decides without end")


def _accepted(run: str) -> ManifestSeen:
    return ManifestSeen(run=run, digest=MANIFEST, answer=Answer.ACCEPT, theta_blob=THETA, codec="fp32")


def test_two_runs_do_not_start_on_the_same_room_in_the_days_budget() -> None:
    assert _started_runs(per_day=47) == [RUN]
    assert _started_runs(per_day=48) == [RUN, "run-2"]


def test_the_intent_notes_what_the_job_may_use() -> None:
    situation = Situation().started()
    seen = _judge(100).today(_accepted(RUN), situation.state, situation.now_us)
    situation.see(manifests={RUN: seen})
    (intent,) = (entry for entry in situation.settle() if isinstance(entry, AllocationIntended))
    assert (intent.num_gpus, intent.seconds_limit) == (4, 6 * 3600)


def test_a_policy_that_drains_stops_the_job_in_the_middle_of_a_round() -> None:
    situation = Situation().started()
    situation.settle()
    situation.journal(AllocationSubmitted(run=RUN, number=1, handle="7", at_us=situation.now_us)).job().opened(0)
    assert not _stops(situation)
    situation.see(manifests={RUN: replace(situation.seen.manifests[RUN], stop="maintenance", shortage="maintenance")})
    assert _stops(situation) == ["maintenance"]


def _stops(situation: Situation) -> list[str]:
    return [entry.reason for entry in situation.settle() if isinstance(entry, AllocationStopped)]
