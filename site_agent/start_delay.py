# SPDX-License-Identifier: Apache-2.0
"""How long a new job may wait for the other sites' jobs, so that they run at the same time. Pure.

The coordinator suggests, the site decides: nothing that it says delays a job beyond `max_start_delay_seconds`, or into
hours in which this site starts none, or one that has work already.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import median
from typing import Final

from site_agent.agent_state import Allocation

MAX_AGE_SECONDS: Final = 3600.0
"""A suggestion that was received longer ago says nothing about now."""

MAX_SUGGESTION_SECONDS: Final = 86_400
"""What lies further ahead is taken as this far."""

MIN_DELAY_SECONDS: Final = 60
"""Less is not worth an option of the batch system."""

SOONER: Final = "sooner"
"""Why a delayed job that still waits is taken back: the others are there earlier than was thought."""

SOONER_SECONDS: Final = 600
"""By so much earlier, for a job that has so long to wait yet and was submitted so long ago."""

_NUM_WAITS: Final = 5
_US: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SuggestedStart:
    """What the coordinator said last about one run: seconds from when it was received, by this site's clock."""

    seconds: int
    received_at_us: int

    def seconds_left(self, now_us: int) -> float | None:
        """Seconds from now; None if it is too old, or if the clock was set back since."""
        age = (now_us - self.received_at_us) / _US
        return max(0.0, self.seconds - age) if 0 <= age <= MAX_AGE_SECONDS else None


@dataclass(frozen=True, kw_only=True)
class SuggestedStarts:
    """The same, per run, as it lies on disk."""

    runs: dict[str, SuggestedStart] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SuggestionSeen:
    """A suggestion that counts.

    Attributes:
        seconds: from now, before which a job need not begin; 0.0: the others are there.
        latest_seconds: from now, after which the policy's hours or maintenance let no job begin that may begin now.
    """

    seconds: float
    latest_seconds: float = inf


def typical_wait_seconds(allocations: Sequence[Allocation]) -> float:
    """The median of what the newest jobs waited in the queue since they might begin; 0.0 if no accounts tell."""
    waits = [wait for a in allocations if (wait := _wait_seconds(a)) is not None]
    return median(waits[-_NUM_WAITS:]) if waits else 0.0


def _wait_seconds(allocation: Allocation) -> float | None:
    end, accounted = allocation.end, allocation.accounted
    if end is None or accounted is None or not allocation.is_accounted or not allocation.submitted_at_us:
        return None
    if accounted.elapsed_seconds <= 0:
        return None
    since_us = max(allocation.submitted_at_us, begins_at_us(allocation))
    return max(0.0, (end.at_us - since_us) / _US - accounted.elapsed_seconds)


def begins_at_us(allocation: Allocation) -> int:
    """Before when it was not to begin, by this site's clock in microseconds; 0 if it could begin at once."""
    delay_us = allocation.begin_after_seconds * _US
    return allocation.intended_at_us + delay_us if delay_us else 0


def begin_after_seconds(allocation: Allocation, now_us: int) -> int:
    """How long a job that is submitted now is still to wait, 0 if it is not: time that has passed counts."""
    return max(0, (begins_at_us(allocation) - now_us) // _US)


def start_delay_seconds(
    suggestion: SuggestionSeen | None, allocations: Sequence[Allocation], max_delay_seconds: float
) -> int:
    """What the next job of a run is to wait.

    1. Nothing without a suggestion that counts, or if this site does not delay its jobs.
    2. Nothing after a job that was taken back because the others came sooner: no coordinator delays a site for ever.
    3. The suggestion, less what this site's jobs wait in the queue anyway, at most `max_delay_seconds`.
    4. Nothing if the policy would let no job begin then.
    """
    if suggestion is None or max_delay_seconds <= 0:  # 1
        return 0
    if allocations and allocations[-1].stop is not None and allocations[-1].stop.reason == SOONER:  # 2
        return 0
    delay = int(min(suggestion.seconds - typical_wait_seconds(allocations), max_delay_seconds))  # 3
    return delay if MIN_DELAY_SECONDS <= delay <= suggestion.latest_seconds else 0  # 4


def comes_too_late(suggestion: SuggestionSeen | None, live: Allocation, now_us: int) -> bool:
    """Whether a delayed job that still waits would begin long after the others are there."""
    left = begin_after_seconds(live, now_us)
    is_old = now_us - live.intended_at_us >= SOONER_SECONDS * _US
    return suggestion is not None and is_old and left - suggestion.seconds > SOONER_SECONDS
