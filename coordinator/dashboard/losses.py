# SPDX-License-Identifier: Apache-2.0
"""Step metrics of all sites, summed up per round: what a chart of a thousand rounds needs, and no more memory."""

import json
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

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

    def add(self, site: str, line: str) -> bool:
        """Takes in one stored line of step metrics; returns whether it was one with a run, a round and a loss."""
        try:
            record = json.loads(line)
            run, number, loss = str(record["run"]), int(record["round"]), float(record["loss"])
        except (ValueError, KeyError, TypeError):
            return False
        if not isfinite(loss):
            return False
        rounds = self.runs.setdefault(run, {}).setdefault(site, {})
        steps = rounds.setdefault(number, RoundSteps())
        steps.num_steps += 1
        steps.loss_sum += loss
        steps.last_loss = loss
        steps.tokens += int(_figure(record.get("tokens")))
        steps.seconds += _figure(record.get("seconds"))
        while len(rounds) > MAX_ROUNDS:
            del rounds[min(rounds)]
        return True

    def of(self, run: str, site: str) -> dict[int, RoundSteps]:
        """By round; {} where nothing was reported."""
        return self.runs.get(run, {}).get(site, {})


def _figure(value: object) -> float:
    is_figure = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return float(value) if is_figure and isinstance(value, int | float) else 0.0
