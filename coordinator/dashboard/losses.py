# SPDX-License-Identifier: Apache-2.0
"""Step metrics of all sites, summed up per round: what a chart of a thousand rounds needs, and no more memory."""

from dataclasses import dataclass, field
from typing import Final

from coordinator.telemetry import Line, step_metrics

MAX_ROUNDS: Final = 20_000
"""Rounds kept per run and site; the oldest go first."""


@dataclass(kw_only=True, slots=True)
class RoundSteps:
    """Steps of one site in one round, as far as they were reported. Repeated steps of a resumed job count again."""

    num_steps: int = 0
    loss_sum: float = 0.0
    last_loss: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def mean_loss(self) -> float | None:
        """Mean training loss, None without a step."""
        return self.loss_sum / self.num_steps if self.num_steps else None


@dataclass(kw_only=True)
class Losses:
    """Per run, site and round."""

    runs: dict[str, dict[str, dict[int, RoundSteps]]] = field(default_factory=dict)

    def add(self, site: str, line: Line) -> bool:
        """Takes in one stored line of step metrics; returns whether it was one with a run, a round and a loss."""
        found = step_metrics(line)
        if found is None or not found.run or found.round is None or found.loss is None:
            return False
        rounds = self.runs.setdefault(found.run, {}).setdefault(site, {})
        steps = rounds.setdefault(found.round, RoundSteps())
        steps.num_steps += 1
        steps.loss_sum += found.loss
        steps.last_loss = found.loss
        steps.tokens += found.tokens or 0
        steps.seconds += found.seconds or 0.0
        while len(rounds) > MAX_ROUNDS:
            del rounds[min(rounds)]
        return True

    def of(self, run: str, site: str) -> dict[int, RoundSteps]:
        """By round; {} where nothing was reported."""
        return self.runs.get(run, {}).get(site, {})
