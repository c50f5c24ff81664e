# SPDX-License-Identifier: Apache-2.0
"""Figures of the viewers' bench from arrivals and samples."""

import asyncio
import os

import pytest

from coordinator.bench import viewers
from coordinator.bench.viewers import latencies, slope, spread
from coordinator.bench.viewing import Arrival, charts_of


def arrival(at: float, number: int, num_leaves: int = 0, viewer: str = "a") -> Arrival:
    return Arrival(at=at, viewer=viewer, address="/", number=number, num_leaves=num_leaves)


def test_a_frame_counts_from_the_oldest_leaf_that_it_was_the_first_to_bring() -> None:
    seen = [arrival(1.0, 7, 10), arrival(5.0, 8, 12), arrival(5.5, 8, 0, "b")]
    # Leaves 10 and 11 came at 3.0 and 4.5; the first frame's were there before.
    assert latencies(seen, [3.0, 4.5], first=10) == [2.0, 2.5]


def test_frames_without_new_leaves_do_not_count() -> None:
    assert latencies([arrival(1.0, 7, 10), arrival(2.0, 8, 10)], [1.5], first=10) == []


def test_a_page_that_is_sent_again_does_not_count_again() -> None:
    seen = [arrival(1.0, 7, 10), arrival(2.0, 8, 11), arrival(9.0, 8, 11)]
    assert latencies(seen, [1.5], first=10) == [0.5]


def test_a_view_whose_size_nobody_was_told_does_not_count() -> None:
    assert latencies([arrival(1.0, 7, 10), arrival(2.0, 8, 0, "b")], [1.5], first=10) == []


def test_the_slope_is_per_second() -> None:
    assert slope([(0.0, 100), (1.0, 150), (2.0, 200)]) == pytest.approx(50)
    assert slope([(1.0, 100)]) == 0


def test_the_99th_percentile_is_of_the_upper_end() -> None:
    found = spread([float(value) for value in range(1, 201)])
    assert (found["median"], found["p99"], found["largest"]) == (100.5, 199.0, 200.0)
    assert spread([])["median"] is None


def test_charts_are_found_with_their_addresses() -> None:
    html = b'<div class="chart" data-chart="/run/a?sort=x.y&amp;chart=bits" role="img">'
    assert charts_of(html) == ("/run/a?sort=x.y&chart=bits",)


def test_usage_is_watched_for_as_long_as_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers, "PATIENCE_SECONDS", 0.01)
    found = asyncio.run(viewers.Usage(pid=os.getpid()).watch(0.3, asyncio.Event()))
    assert found["seconds"] >= 0.3
