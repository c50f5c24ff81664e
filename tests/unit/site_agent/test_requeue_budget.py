# SPDX-License-Identifier: Apache-2.0
"""What a live job used before a requeue is journaled as soon as it is known, and once."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from site_agent.agent_state import AgentState, fold
from site_agent.budget import JobSize, Source, charge_of, to_account
from site_agent.entries import AllocationAccounted, AllocationEnded, AllocationIntended, AllocationSubmitted
from site_agent.observer import Observer

HOUR, US = 3600, 1_000_000
SIZE = JobSize(num_gpus=4, seconds_limit=10 * HOUR)
LIVE = fold(
    [
        AllocationIntended(run="r", number=1, fencing=1, at_us=0, num_gpus=4, seconds_limit=10 * HOUR),
        AllocationSubmitted(run="r", number=1, handle="slurm:-:7", at_us=0),
    ]
)
EARLIER = AllocationAccounted(run="r", number=1, elapsed_seconds=8.0 * HOUR, num_gpus=4, at_us=9 * HOUR * US)
END = AllocationEnded(run="r", number=1, failed=False, reason="stopped", sentence="", at_us=20 * HOUR * US)


def seen(state: AgentState, earlier_seconds: float | None) -> dict[tuple[str, int], tuple[float, int]]:
    launcher = SimpleNamespace(earlier_seconds=lambda _: earlier_seconds, usage=lambda _: None)
    observer = SimpleNamespace(_launchers={"t": launcher}, _judge=SimpleNamespace(job=SIZE))
    observer._see_requeues = lambda *given: Observer._see_requeues(cast(Observer, observer), *given)
    manifests = cast(Any, {"r": SimpleNamespace(trainer="t")})
    return Observer._see_accounts(cast(Observer, observer), state, manifests, 30 * HOUR * US)


@pytest.mark.parametrize(
    ("journaled", "known", "expected"),
    [
        (None, None, {}),
        (None, 8.0 * HOUR, {("r", 1): (8.0 * HOUR, 4)}),
        (EARLIER, 8.0 * HOUR, {}),
        (EARLIER, 13.0 * HOUR, {("r", 1): (13.0 * HOUR, 4)}),
    ],
)
def test_more_than_was_journaled(journaled: AllocationAccounted | None, known: float | None, expected: object) -> None:
    state = fold([journaled], LIVE) if journaled else LIVE
    assert seen(state, known) == expected


def test_a_requeued_job_counts_with_its_wall_time_once_more() -> None:
    (job,) = fold([EARLIER], LIVE).allocations["r"]
    charge = charge_of(job, SIZE, 9 * HOUR * US)
    assert (charge.total_us // (HOUR * US), charge.source) == (4 * 18, Source.IN_FULL)


def test_its_end_is_accounted_for_as_a_whole() -> None:
    state = fold([EARLIER, END], LIVE)
    (job,) = state.allocations["r"]
    assert not job.is_accounted
    charge = charge_of(job, SIZE, 21 * HOUR * US)
    assert (charge.total_us // (HOUR * US), charge.source) == (4 * 18, Source.JOURNAL)
    assert to_account(state, 21 * HOUR * US) == (job,)
    final = replace(EARLIER, elapsed_seconds=11.0 * HOUR, at_us=END.at_us)
    state = fold([EARLIER, END, final], LIVE)
    (job,) = state.allocations["r"]
    assert to_account(state, 21 * HOUR * US) == ()
    charge = charge_of(job, SIZE, 21 * HOUR * US)
    assert (charge.total_us // (HOUR * US), charge.source) == (4 * 11, Source.ACCOUNTS)
