# SPDX-License-Identifier: Apache-2.0
"""What this site's jobs used and may still use, from its own journal. Pure.

What a job counts for, in GPU-seconds, is never less than what it used:

- one that lives counts in full: its GPUs times its wall time, and what the accounts say of its earlier executions;
- one that ended counts as the batch system's accounts say (`AllocationAccounted`);
- until they say it, it counts from its submission to its end by this site's journal, waits in the queue included, but
  with at most its wall time and what earlier executions used;
- one whose end only a person vouched for, and that was not accounted for, counts in full, as if it lived.

So if every start obeys `policy.may_start`, then no 24 hours hold more than the day's limit: of all jobs that used
something within any 24 hours look at the one that started last. When it started, everything that the others used in
these hours was counted, and what they might still use was counted in full. A job that the batch system starts anew may
use its wall time once more: as soon as that is seen, `policy.must_stop` ends it where there is no room for so much.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from site_agent.agent_state import AgentState, Allocation
from site_agent.failures import LAUNCH
from site_agent.start_delay import begins_at_us

US: Final = 1_000_000
DAY_US: Final = 24 * 3600 * US
HOUR_US: Final = 3600 * US
UNLIMITED_SECONDS: Final = 86_400
"""A job without a wall time counts as one of a day, and goes on counting if it lives longer."""

ACCOUNTING_DAYS: Final = 14
"""For so long after its end a job's accounts are asked for; some centres bring them up to date only once a day."""

VOUCHED: Final = "operator"
"""Reason of an end that the site's operator declared; nobody saw when the job really ended."""


class Source(StrEnum):
    """Where a job's figure comes from."""

    IN_FULL = "in full"
    """The most that it can use: it lives, or its end is not known."""

    ACCOUNTS = "by accounts"
    """The batch system's accounting."""

    JOURNAL = "by journal"
    """This site's journal: submission to end, at most the wall time."""

    NOTHING = "not begun"
    """It never began."""


@dataclass(frozen=True, kw_only=True)
class JobSize:
    """What one job gets. `num_gpus` as the scheduler counts them; `seconds_limit` of wall time, 0 for none."""

    num_gpus: int = 0
    seconds_limit: int = 0

    @property
    def full_us(self) -> int:
        """GPU-microseconds that it can use."""
        return self.num_gpus * (self.seconds_limit or UNLIMITED_SECONDS) * US

    @property
    def gpu_hours(self) -> float:
        """GPU-hours that it can use."""
        return self.full_us / HOUR_US


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What one job counts for. `ended_us` of GPU-microseconds that are over, `live_us` of those that may come."""

    ended_us: int = 0
    live_us: int = 0
    source: Source = Source.NOTHING

    @property
    def total_us(self) -> int:
        """Both."""
        return self.ended_us + self.live_us


def size_of(allocation: Allocation, default: JobSize) -> JobSize:
    """What the job was given; `default`, of site.toml, where an older release did not note it."""
    if allocation.num_gpus < 0 or allocation.seconds_limit < 0:
        return default
    return JobSize(num_gpus=allocation.num_gpus, seconds_limit=allocation.seconds_limit)


def charge_of(allocation: Allocation, default: JobSize, now_us: int, since_us: int = 0) -> Charge:
    """What one job counts for from `since_us` on; times in microseconds of this site's clock."""
    size = size_of(allocation, default)
    if allocation.live:
        return Charge(
            ended_us=_accounted_us(allocation, now_us, since_us),
            live_us=_live_us(allocation, size, now_us),
            source=Source.IN_FULL,
        )
    end_us = allocation.end.at_us if allocation.end else now_us
    if allocation.is_accounted:
        return Charge(ended_us=_accounted_us(allocation, end_us, since_us), source=Source.ACCOUNTS)
    if allocation.end and allocation.end.reason == VOUCHED:
        full_us = size.full_us if end_us > since_us else 0
        return Charge(ended_us=_accounted_us(allocation, end_us, since_us) + full_us, source=Source.IN_FULL)
    if not allocation.submitted_at_us and allocation.end and allocation.end.reason in LAUNCH:
        return Charge()
    # Nothing of a job that was told to wait runs before its time.
    began_us = max(allocation.submitted_at_us or allocation.intended_at_us, begins_at_us(allocation), since_us)
    used_us = size.num_gpus * max(0, end_us - began_us)
    # A requeue gives a job its wall time once more.
    most_us = _accounted_us(allocation, end_us, since_us) + size.full_us if size.seconds_limit else used_us
    return Charge(ended_us=min(used_us, most_us), source=Source.JOURNAL)


def _live_us(allocation: Allocation, size: JobSize, now_us: int) -> int:
    if size.seconds_limit or not allocation.submitted_at_us:
        return size.full_us
    return max(size.full_us, size.num_gpus * (now_us - allocation.submitted_at_us))


def _accounted_us(allocation: Allocation, end_us: int, since_us: int) -> int:
    """As late as it can have been: so no window that ends later holds less of it than was really used there."""
    accounted = allocation.accounted
    if accounted is None:
        return 0
    elapsed_us = max(0, int(accounted.elapsed_seconds * US))
    return accounted.num_gpus * min(elapsed_us, max(0, end_us - since_us))


def charges(state: AgentState, default: JobSize, now_us: int, *, run: str = "", since_us: int = 0) -> Iterator[Charge]:
    """What each job counts for, of one run or, for "", of all."""
    for name, found in state.allocations.items():
        if run in ("", name):
            yield from (charge_of(allocation, default, now_us, since_us) for allocation in found)


def gpu_hours(state: AgentState, default: JobSize, now_us: int, *, run: str = "", since_us: int = 0) -> float:
    """GPU-hours of jobs that ended and, in full, of those that live; summed as whole numbers, divided once."""
    found = charges(state, default, now_us, run=run, since_us=since_us)
    return sum(charge.total_us for charge in found) / HOUR_US


def to_account(state: AgentState, now_us: int) -> tuple[Allocation, ...]:
    """Jobs that ended lately and of which the accounts have not been read; what they do not say by then stays open."""
    ended = (a for found in state.allocations.values() for a in found if a.handle and a.end and not a.is_accounted)
    return tuple(a for a in ended if a.end and a.end.at_us > now_us - ACCOUNTING_DAYS * DAY_US)


def bytes_spent(state: AgentState, now_us: int) -> int:
    """Bytes of payloads signed, and so sent, within the last 24 hours."""
    recent = (key for key, at_us in state.signed_at_us.items() if at_us > now_us - DAY_US)
    return sum(state.signed[key].payload_bytes for key in recent)
