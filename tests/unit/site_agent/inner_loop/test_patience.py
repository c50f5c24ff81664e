# SPDX-License-Identifier: Apache-2.0
"""How often a job looks for what it waits for."""

import pytest
from job_bench.bench import RestingClock, work_order

from site_agent.inner_loop.patience import Patience, Pauses


def test_looks_are_soon_at_first_and_seldom_in_a_long_wait() -> None:
    pauses, waited, looks = Pauses(0.005, 0.1), 0.0, 0
    while waited < 2.0:
        pause = pauses.take()
        assert pause <= 0.005 + 0.07 * waited, "what comes is seen within a small part of the time waited"
        waited, looks = waited + pause, looks + 1
    assert looks < 60
    assert pauses.take() == pytest.approx(0.1)
    pauses.reset()
    assert pauses.take() == pytest.approx(0.005)


def test_the_first_pause_is_never_longer_than_the_longest() -> None:
    assert Pauses(0.005, 0.001).take() == pytest.approx(0.001)


@pytest.mark.parametrize("event", ["moved", "busy"])
def test_a_wait_begins_anew_when_something_has_come(event: str) -> None:
    clock = RestingClock()
    patience = Patience(work_order(first_poll_seconds=0.005, poll_seconds=0.1), clock)

    def rest() -> float:
        before = clock.now()
        patience.rest()
        return clock.now() - before

    first = rest()
    assert first == pytest.approx(0.005, abs=1e-6)
    assert [rest() for _ in range(60)][-1] == pytest.approx(0.1, abs=1e-6)
    getattr(patience, event)()
    assert rest() == pytest.approx(first, abs=1e-6)


@pytest.mark.parametrize(("comes_after", "waited"), [(0.0, 0.005), (0.031, 0.035), (5.0, 0.1)])
def test_what_is_cheap_to_ask_for_is_asked_for_often(comes_after: float, waited: float) -> None:
    clock = RestingClock()
    patience = Patience(work_order(first_poll_seconds=0.005, poll_seconds=0.1), clock)
    begun = clock.now()
    patience.rest_until(lambda: clock.now() - begun >= comes_after)
    assert clock.now() - begun == pytest.approx(waited, abs=1e-3)


def test_in_a_long_wait_it_is_asked_for_seldom() -> None:
    clock, asked = RestingClock(), list[float]()
    patience = Patience(work_order(first_poll_seconds=0.005, poll_seconds=0.1), clock)
    patience.idle()
    clock.sleep(6.0)
    patience.rest_until(lambda: asked.append(clock.now()) or False)
    assert len(asked) == 2
