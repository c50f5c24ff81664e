# SPDX-License-Identifier: Apache-2.0
"""What the coordinator has seen but not decided: reports of sites and running timers. Volatile, never in the ledger.

Losing it costs time, never correctness: bounds that run from an observation start again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from federation.messages import AllocationReport, AllocationState, ParticipationReport, Phase, SiteStatus


@dataclass(frozen=True, kw_only=True)
class Progress:
    """When (coordinator's clock, unix seconds) a site first reported each phase of a round; None if not yet."""

    answered_at: float | None = None
    training_at: float | None = None
    uploading_at: float | None = None
    step: int = 0
    loss: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SiteSeen:
    """The newest report of one site, and when it was received."""

    received_at: float
    status: SiteStatus
    progress: Mapping[str, Progress] = field(default_factory=dict)

    def ready_allocation(self, run: str, now: float, num_windows: int, window_steps: int) -> AllocationReport | None:
        """The allocation that is ready with time left for its next windows, or None.

        Args:
            run: id of the run.
            now: unix seconds, the coordinator's clock.
            num_windows: P.
            window_steps: inner steps of one of the site's windows.
        """
        for allocation in self.status.allocations:
            if allocation.run != run or allocation.state is not AllocationState.READY:
                continue
            needed = num_windows * window_steps * allocation.seconds_per_step
            if allocation.seconds_left < 0 or allocation.seconds_left - (now - self.received_at) >= needed:
                return allocation
        return None

    def progress_of(self, run: str, round_number: int) -> Progress:
        """What the site reported about a round."""
        return self.progress.get(f"{run}/{round_number}", Progress())


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Everything volatile that decisions rest on.

    Attributes:
        sites: newest report per site.
        witnessed: per site the largest checkpoint size that it cosigned.
        timers: since when (unix seconds) a named condition has held without a break.
        short_of_disk: per run a sentence, where free space would not hold another round.
        roster_expired: nothing new starts on the strength of an expired roster.
    """

    sites: Mapping[str, SiteSeen] = field(default_factory=dict)
    witnessed: Mapping[str, int] = field(default_factory=dict)
    timers: Mapping[str, float] = field(default_factory=dict)
    short_of_disk: Mapping[str, str] = field(default_factory=dict)
    roster_expired: bool = False

    def seen(self, site: str, status: SiteStatus, now: float) -> "Observations":
        """Takes in a report received at `now`."""
        before = self.sites.get(site)
        old = before.progress if before else {}
        progress = {
            f"{p.run}/{p.round}": _advance(old.get(f"{p.run}/{p.round}"), p, now) for p in status.participations
        }
        seen = SiteSeen(received_at=now, status=status, progress=progress)
        return replace(self, sites={**self.sites, site: seen})

    def without(self, site: str) -> "Observations":
        """Forgets what a site reported."""
        return replace(self, sites={name: seen for name, seen in self.sites.items() if name != site})

    def with_timers(self, holding: Mapping[str, bool], now: float) -> "Observations":
        """Starts timers of conditions that hold and have none, and drops those of conditions that do not hold."""
        timers = {name: self.timers.get(name, now) for name, holds in holding.items() if holds}
        return replace(self, timers=timers)

    def held_for(self, name: str, now: float) -> float:
        """Seconds that a condition has held; -1.0 if it does not hold."""
        since = self.timers.get(name)
        return -1.0 if since is None else now - since


def _advance(before: Progress | None, report: ParticipationReport, now: float) -> Progress:
    progress = before or Progress(answered_at=now)
    if report.phase in (Phase.TRAINING, Phase.UPLOADING) and progress.training_at is None:
        progress = replace(progress, training_at=now)
    if report.phase is Phase.UPLOADING and progress.uploading_at is None:
        progress = replace(progress, uploading_at=now)
    return replace(progress, step=report.step, loss=report.loss)
