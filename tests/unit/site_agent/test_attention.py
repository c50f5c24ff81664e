# SPDX-License-Identifier: Apache-2.0
"""An agent's rests: soon over where a short window ends, rare looks in a long one, never kept awake by one file."""

import threading
from dataclasses import dataclass, field

import pytest

from site_agent.attention import MAX_SECONDS, MIN_SECONDS, SHARE, Attention

UPDATE = "allocations/demo/a1/updates/3.json"


@dataclass
class Spool:
    """Time that passes only in waits, and files that appear at given times."""

    now: float = 0.0
    appears: dict[str, float] = field(default_factory=dict)
    looks: list[float] = field(default_factory=list)
    arrives_at: float = float("inf")
    ends_at: float = float("inf")

    def exists(self, path: str) -> bool:
        self.looks.append(self.now)
        return self.now >= self.appears.get(path, float("inf"))

    def attention(self) -> Attention:
        spool = self

        class Arrived(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout is not None
                if spool.arrives_at <= spool.now + timeout:
                    spool.now = spool.arrives_at
                    return True
                spool.now += timeout
                return False

        return Attention(self.exists, Arrived(), ended=lambda: self.now >= self.ends_at, clock=lambda: self.now)


@pytest.mark.parametrize("window", [0.2, 2.0, 30.0, 600.0])
def test_an_update_is_seen_within_a_hundredth_of_its_window(window: float) -> None:
    spool = Spool(appears={UPDATE: window})
    attention = spool.attention()
    while spool.now < window:
        attention.rest(0.5, [UPDATE])
    assert spool.now - window <= max(MIN_SECONDS, min(SHARE * window, 0.5)) + 1e-9


def test_a_long_window_costs_few_looks() -> None:
    spool = Spool()
    attention = spool.attention()
    while spool.now < 3600.0:
        attention.rest(0.5, [UPDATE])
    assert len(spool.looks) < 3600 / 0.25 * 2 + 1000
    per_second = [sum(1 for at in spool.looks if second <= at < second + 10) / 10 for second in (600, 3000)]
    assert max(per_second) <= 2 / MAX_SECONDS


def test_nothing_is_looked_for_where_nothing_is_awaited() -> None:
    spool = Spool()
    spool.attention().rest(5.0, [])
    assert (spool.now, spool.looks) == (5.0, [])


def test_a_file_that_the_passes_make_nothing_of_keeps_nobody_awake() -> None:
    spool = Spool(appears={UPDATE: 0.0})
    attention = spool.attention()
    attention.rest(0.5, [UPDATE])
    assert spool.now == 0.0
    attention.rest(0.5, [UPDATE])
    assert spool.now == 0.5


def test_what_the_courier_brings_ends_the_rest_at_once() -> None:
    spool = Spool(arrives_at=0.123)
    spool.attention().rest(5.0, [UPDATE])
    assert spool.now == 0.123


def test_an_agent_that_is_to_end_does_not_rest() -> None:
    spool = Spool(ends_at=0.0)
    spool.attention().rest(5.0, [UPDATE])
    assert spool.now == 0.0


def test_the_next_round_begins_to_be_awaited_anew() -> None:
    spool = Spool()
    attention = spool.attention()
    attention.rest(100.0, [UPDATE])
    before = len(spool.looks)
    attention.rest(0.1, [UPDATE.replace("3", "4")])
    assert len(spool.looks) - before >= 5
