# SPDX-License-Identifier: Apache-2.0
"""What the dashboard's process does beside pages: it looks what is the case, tells people, answers Prometheus."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version

from coordinator import metrics
from coordinator.dashboard.follower import Follower
from coordinator.notices.heartbeat import Heartbeat, issuers_not_after_us
from coordinator.notices.memory import Told
from coordinator.notices.notifier import Notifier
from coordinator.notices.snapshot import Snapshot
from federation.durable import FileSystem
from federation.exposition import Exposition

_US = 1e6


@dataclass
class Watchman:
    """One directory's; `look` is called about once a second, from one thread."""

    fs: FileSystem
    follower: Follower
    notifier: Notifier
    clock: Callable[[], float] = time.time
    _heartbeat: Heartbeat = field(init=False)
    _issuers_us: int = field(init=False)

    def __post_init__(self) -> None:
        self._heartbeat = Heartbeat(self.fs)
        self._issuers_us = issuers_not_after_us(self.fs)

    def look(self) -> bool:
        """Judges this moment and has said what is news. Returns whether something began or ended."""
        before = self.told
        view = self.follower.view
        self.notifier.step(
            Snapshot(
                state=view.state,
                observations=view.observations,
                witnessed=view.observations.witnessed,
                roster_expires_at_us=view.rosters.current.expires_at_us,
                coordinator_certificate_not_after_us=self._issuers_us,
                ledger_fault=view.log.fault,
                coordinator=self._heartbeat.look(),
            ),
            self.clock(),
        )
        return self.told != before

    @property
    def told(self) -> tuple[Told, ...]:
        """What is the case and was said, most severe first."""
        return self.notifier.told

    def metrics(self, accept: str) -> Exposition:
        """The answer to a scrape."""
        view, now = self.follower.view, self.clock()
        seen = self._heartbeat.look()
        return metrics.expose(
            metrics.Snapshot(
                consortium=view.consortium,
                state=view.state,
                observations=view.observations,
                now=now,
                ledger_size=view.log.size,
                roster_expires_at=view.rosters.current.expires_at_us / _US,
                certificates={"issuer": self._issuers_us / _US} if self._issuers_us else {},
                coordinator_seen_at=now - seen.quiet_seconds if seen.owner else None,  # None: it was never served
                software=f"hpc-federation {version('hpc-federation')}",
            ),
            accept,
        )

    def close(self) -> None:
        """What is unsent is said by the next process."""
        self.notifier.close()
