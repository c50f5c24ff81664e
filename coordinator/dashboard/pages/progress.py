# SPDX-License-Identifier: Apache-2.0
"""How far a run has come, and when it may end."""

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from coordinator.dashboard.times import Times, commit_times
from federation.ledger_state import Run, RunState

PACE_COMMITS: Final = 20
"""Newest commits whose distance gives the pace."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Of one run.

    Attributes:
        share: of its planned rounds that are committed, 0 to 1.
        last_commit: unix seconds, None before the first.
        seconds_per_commit: median over the newest commits, None below two of them.
        end: unix seconds by that pace, None where it cannot be told or nothing is left.
    """

    share: float
    last_commit: float | None
    seconds_per_commit: float | None
    end: float | None


def progress_of(run: Run, times: Times, now: float, works: bool = True) -> Progress:
    """By the pace of the newest commits, from the last one on; the end of a run that does not move recedes.

    `works`: whether the coordinator does; without it nothing moves, and nobody knows until when.
    """
    ended = [us / 1e6 for us in commit_times(times.rounds.get(run.id, {}))][-PACE_COMMITS - 1 :]
    steps = [after - before for before, after in pairwise(ended)]
    pace = median(steps) if steps else None
    left = run.plan.num_rounds - run.num_commits()
    moves = works and run.state is RunState.RUNNING and pace is not None and left > 0
    return Progress(
        share=min(1.0, run.num_commits() / max(1, run.plan.num_rounds)),
        last_commit=ended[-1] if ended else None,
        seconds_per_commit=pace,
        end=max(now, ended[-1] + pace) + (left - 1) * pace if moves and pace is not None else None,
    )
