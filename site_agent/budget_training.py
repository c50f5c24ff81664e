# SPDX-License-Identifier: Apache-2.0
"""Seconds that jobs trained, from the step metrics that they leave: one line per inner step. Pure.

A resumed job repeats the steps behind its last training checkpoint. For each step the newest line counts as the one
that went into the update; the older ones were trained for nothing. Jobs write these lines themselves: they tell where
the hours went, and no limit rests on them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from site_agent.agent_state import Allocation
from site_agent.budget import JobSize, size_of


@dataclass(frozen=True, kw_only=True)
class RoundTraining:
    """GPU-seconds of one round's window. `kept` went into its update, `repeated` was lost and trained again."""

    kept: float = 0.0
    repeated: float = 0.0

    @property
    def total(self) -> float:
        """Both."""
        return self.kept + self.repeated


NUM_IN_DETAIL: Final = 64
"""Rounds whose single steps are remembered, far more than can be in flight; of older ones only the sums are."""


@dataclass(kw_only=True)
class _Window:
    steps: dict[int, float] = field(default_factory=dict)
    repeated: float = 0.0
    closed: float = 0.0

    def add(self, step: int, gpu_seconds: float) -> None:
        self.repeated += self.steps.get(step, 0.0)
        self.steps[step] = gpu_seconds

    @property
    def training(self) -> RoundTraining:
        return RoundTraining(kept=self.closed + sum(self.steps.values()), repeated=self.repeated)

    def close(self) -> None:
        self.closed, self.steps = self.closed + sum(self.steps.values()), {}


class TrainingMeter:
    """`training_of`, line by line, for who follows metrics while they are written: memory grows with rounds only."""

    def __init__(self) -> None:
        """No training yet."""
        self._windows: dict[int, _Window] = {}
        self._in_detail: list[int] = []

    def add(self, line: Mapping[str, Any], allocations: Sequence[Allocation], default: JobSize) -> None:
        """Takes in the next line; one that is none of an inner step is left out."""
        number, step, seconds, fencing = (line.get(key) for key in ("round", "step", "seconds", "fencing"))
        if not (isinstance(number, int) and isinstance(step, int) and isinstance(fencing, int)):
            return
        if not isinstance(seconds, int | float) or not isfinite(seconds) or seconds < 0:
            return
        if number not in self._windows:
            self._begin(number)
        self._windows[number].add(step, seconds * _num_gpus(fencing, allocations, default))

    def rounds(self) -> dict[int, RoundTraining]:
        """GPU-seconds per round so far."""
        return {number: found.training for number, found in self._windows.items()}

    def _begin(self, number: int) -> None:
        self._windows[number] = _Window()
        self._in_detail.append(number)
        if len(self._in_detail) > NUM_IN_DETAIL:
            self._windows[self._in_detail.pop(0)].close()


def training_of(
    lines: Iterable[Mapping[str, Any]], allocations: Sequence[Allocation], default: JobSize
) -> dict[int, RoundTraining]:
    """GPU-seconds per round of one run; a line that is none of an inner step is left out.

    Args:
        lines: of `metrics.jsonl`, oldest first.
        allocations: of the run, ascending.
        default: what a job gets where the journal does not say.
    """
    meter = TrainingMeter()
    for line in lines:
        meter.add(line, allocations, default)
    return meter.rounds()


def _num_gpus(fencing: int, allocations: Sequence[Allocation], default: JobSize) -> int:
    """GPUs of the newest allocation that began with this fencing number or a lower one: a requeue has a higher one."""
    mine = next((a for a in reversed(allocations) if a.fencing <= fencing), None)
    if mine is None:
        return default.num_gpus
    return mine.accounted.num_gpus if mine.accounted else size_of(mine, default).num_gpus
