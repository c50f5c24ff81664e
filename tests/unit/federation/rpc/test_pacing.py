# SPDX-License-Identifier: Apache-2.0
"""The upload limit on a clock of its own: the average holds at any rate, for any number of streams, over changes."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.rpc.pacing import CREDIT_SECONDS, LOOK_SECONDS, UploadPace

PIECE = 1024 * 1024


@dataclass
class Clock:
    """Seconds that pass only where somebody sleeps, and a little more than asked for."""

    now: float = 100.0
    overshoot: float = 0.0
    sleeps: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        until = self.now + seconds + self.overshoot
        await asyncio.sleep(0)  # the other streams' turn
        self.now = max(self.now, until)


def pace_of(clock: Clock, limit: int) -> UploadPace:
    return UploadPace(limit, clock=lambda: clock.now, sleep=clock.sleep)


def sent_times(clock: Clock, pace: UploadPace, num_pieces: int, num_streams: int = 1) -> list[float]:
    """When each piece went, over all streams."""
    times: list[float] = []

    async def stream() -> None:
        while len(times) < num_pieces:
            await pace.turn(PIECE)
            times.append(clock.now)

    async def all_of_them() -> None:
        await asyncio.gather(*(stream() for _ in range(num_streams)))

    asyncio.run(all_of_them())
    return times[:num_pieces]


@pytest.mark.parametrize("limit", [100_000, 300_000, PIECE, 10 * PIECE, 200 * PIECE])
@pytest.mark.parametrize("num_streams", [1, 2])
def test_the_average_is_the_limit(limit: int, num_streams: int) -> None:
    clock = Clock(overshoot=0.001)
    times = sent_times(clock, pace_of(clock, limit), 200, num_streams)
    expected = 199 * PIECE / limit
    assert times[-1] - times[0] == pytest.approx(expected, rel=0.03, abs=CREDIT_SECONDS)


@settings(max_examples=40, deadline=None)
@given(st.integers(200_000, 500 * PIECE), st.floats(0.0, 0.05), st.integers(1, 3))
def test_no_window_carries_more_than_its_share(limit: int, overshoot: float, num_streams: int) -> None:
    clock = Clock(overshoot=overshoot)
    times = sent_times(clock, pace_of(clock, limit), 60, num_streams)
    for first in range(0, 60, 7):
        for last in range(first, 60, 5):
            allowed = (times[last] - times[first] + CREDIT_SECONDS) * limit + PIECE
            assert (last - first) * PIECE <= allowed * (1 + 1e-9)


def test_without_a_limit_nobody_waits() -> None:
    clock = Clock()
    assert sent_times(clock, pace_of(clock, 0), 1000) == [100.0] * 1000
    assert clock.sleeps == []


def test_messages_do_not_wait_but_count() -> None:
    clock = Clock()
    pace = pace_of(clock, PIECE)
    pace.owe(3 * PIECE)
    assert pace.seconds() == 3.0


def test_idle_time_saves_up_next_to_nothing() -> None:
    clock = Clock()
    pace = pace_of(clock, 10 * PIECE)
    clock.now += 3600
    pace.owe(PIECE)
    assert pace.seconds() == pytest.approx(0.1 - CREDIT_SECONDS)


@pytest.mark.parametrize(("change", "seconds"), [(100 * PIECE, LOOK_SECONDS), (0, LOOK_SECONDS)])
def test_a_higher_limit_counts_for_who_is_waiting(change: int, seconds: float) -> None:
    """At 1,000 bytes a second one piece takes 17 minutes: nobody waits that long once the limit is lifted."""
    clock = Clock()
    pace = pace_of(clock, 1000)
    pace.owe(PIECE)

    async def waiting() -> float:
        async def lift() -> None:
            pace.limit = change

        await asyncio.gather(pace.turn(PIECE), lift())
        return clock.now - 100.0

    assert asyncio.run(waiting()) <= 2 * seconds


def test_a_lower_limit_counts_for_what_is_owed() -> None:
    clock = Clock()
    pace = pace_of(clock, 10 * PIECE)
    pace.owe(PIECE)
    pace.limit = PIECE
    assert pace.seconds() == 1.0
