# SPDX-License-Identifier: Apache-2.0
"""When each site has an allocation: hours of work, then a wait in the queue, as far into the future as anybody asks."""

from dataclasses import dataclass
from typing import Final

from coordinator.bench.setting import Setting

HOUR_US: Final = 3600 * 1_000_000
NEEDED_US: Final = 3 * HOUR_US
"""What an allocation must have left for a round to invite its site."""

_WALL_HOURS: Final = (12, 24, 24, 48)
_MEAN_WAIT_HOURS: Final = 1.5


@dataclass(frozen=True, kw_only=True)
class Span:
    """One allocation: queued from `submitted_us`, at work from `ready_us` until `ended_us` (of the history's clock)."""

    id: str
    submitted_us: int
    ready_us: int
    ended_us: int


class Calendar:
    """The allocations of one site, one after the other. Site number 0 never waits, so that somebody always works."""

    def __init__(self, setting: Setting, site: str) -> None:
        self._random = setting.random("calendar", site)
        self._waits = site != setting.sites[0]
        self._spans: list[Span] = []
        self.speed = self._random.uniform(0.82, 1.0)
        """Of its training, as a share of the nominal time of a window."""

    def at(self, now_us: int) -> Span:
        """The allocation that has not ended at `now_us`: it works then, or waits."""
        while not self._spans or self._spans[-1].ended_us <= now_us:
            self._spans.append(self._next())
        return next(span for span in reversed(self._spans) if span.submitted_us <= now_us)

    def ready(self, now_us: int) -> Span | None:
        """The allocation that works at `now_us` and has time left for a round."""
        span = self.at(now_us)
        return span if span.ready_us <= now_us <= span.ended_us - NEEDED_US else None

    def next_ready_us(self, now_us: int) -> int:
        """When the site can be invited at the earliest, from `now_us` on."""
        span = self.at(now_us)
        if now_us <= span.ended_us - NEEDED_US:
            return max(now_us, span.ready_us)
        return self.at(span.ended_us).ready_us

    def _next(self) -> Span:
        number = len(self._spans) + 1
        submitted = self._spans[-1].ended_us if self._spans else 0
        wait = self._random.expovariate(1 / _MEAN_WAIT_HOURS) if self._waits and self._spans else 0.0
        wall = self._random.choice(_WALL_HOURS) * self._random.uniform(0.4 if number == 1 else 0.95, 1.0)
        ready = submitted + int(wait * HOUR_US)
        ended = ready + int(wall * HOUR_US)
        return Span(id=f"a{number}", submitted_us=submitted, ready_us=ready, ended_us=ended)
