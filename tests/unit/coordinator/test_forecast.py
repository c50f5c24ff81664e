# SPDX-License-Identifier: Apache-2.0
"""When a run will end, from its newest commits."""

from coordinator.forecast import MAX_COMMITS, Forecast, forecast

SECOND = 1_000_000


def test_the_pace_of_the_newest_commits_goes_on() -> None:
    commits = [at * SECOND for at in (0, 10, 20, 30)]
    assert forecast(commits, 5) == Forecast(seconds_per_commit=10.0, num_commits=4, ends_at_us=80 * SECOND)


def test_rounds_that_end_in_bursts_count_by_their_mean() -> None:
    found = forecast([at * SECOND for at in (0, 0, 60, 60, 120, 120)], 2)
    assert found is not None
    assert found.seconds_per_commit == 24.0


def test_what_lies_before_a_pause_tells_nothing() -> None:
    commits = [at * SECOND for at in (0, 10, 5000, 5020, 5040)]
    found = forecast(commits, 1, since_us=4000 * SECOND)
    assert found is not None
    assert (found.seconds_per_commit, found.num_commits) == (20.0, 3)
    assert forecast(commits, 1, since_us=5010 * SECOND) is None


def test_a_few_commits_make_no_pace_and_an_end_needs_none() -> None:
    assert forecast([0, SECOND], 5) is None
    assert forecast([0, SECOND, 2 * SECOND], 0) is None


def test_only_so_many_count() -> None:
    commits = [0, *(1000 * SECOND + at * SECOND for at in range(MAX_COMMITS))]
    found = forecast(commits, 1)
    assert found is not None
    assert found.seconds_per_commit == 1.0
