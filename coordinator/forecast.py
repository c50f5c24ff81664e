# SPDX-License-Identifier: Apache-2.0
"""When a run will end, from the pace of its newest commits. Pure; an estimate for people, nothing decides by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_COMMITS: Final = 20
"""Newest commits that a pace is taken from: long enough for rounds that end in bursts, short enough to follow."""

MIN_COMMITS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What the pace of the newest commits leads to.

    Attributes:
        seconds_per_commit: mean time from one of them to the next.
        num_commits: that it was taken from.
        ends_at_us: the last commit, if that pace holds (microseconds since 1970).
    """

    seconds_per_commit: float
    num_commits: int
    ends_at_us: int


def forecast(commits_at_us: Sequence[int], num_left: int, since_us: int = 0) -> Forecast | None:
    """The forecast of a run that goes on; None where too few commits tell of a pace, or none is left.

    Args:
        commits_at_us: times of the newest commits, oldest first.
        num_left: commits until the end.
        since_us: when the run last started or resumed: what lies before it includes a pause.
    """
    found = [at for at in commits_at_us if at >= since_us][-MAX_COMMITS:]
    if len(found) < MIN_COMMITS or num_left <= 0:
        return None
    pace_us = (found[-1] - found[0]) / (len(found) - 1)
    return Forecast(
        seconds_per_commit=pace_us / 1e6, num_commits=len(found), ends_at_us=int(found[-1] + num_left * pace_us)
    )
