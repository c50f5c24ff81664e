# SPDX-License-Identifier: Apache-2.0
"""Tells people what is the case, once: conditions, memory, targets and the file that outlives a restart."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from coordinator.network_config import CoordinatorConfig
from coordinator.notices import store
from coordinator.notices.conditions import judge
from coordinator.notices.config import AlertsSection
from coordinator.notices.memory import Memory, Timing, Told
from coordinator.notices.sending import Pace, Sender, TargetHealth
from coordinator.notices.snapshot import LossHistory, Snapshot
from coordinator.notices.targets import Target, load_targets
from coordinator.notices.thresholds import DEFAULTS, Thresholds
from federation.durable import FileSystem
from federation.durable.real import RealFileSystem
from federation.errors import StorageError

LOG: Final = logging.getLogger("coordinator.notices")

_HOUR: Final = 3600.0


class Notifier:
    """Call `step` about once a second, from one thread, and `close` at the end.

    One process per directory: two of them would each say everything.
    """

    def __init__(
        self,
        fs: FileSystem,
        targets: Sequence[Target],
        *,
        thresholds: Thresholds = DEFAULTS,
        timing: Timing | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Goes on where an earlier process ended; begins to say what that one left unsaid.

        Args:
            fs: of the coordinator's directory; only `dashboard/notices.json` is written.
            clock: unix seconds, for the threads that send.

        Raises:
            ConfigError: a target's `ca_file` holds no certificates.
        """
        self._fs, self._thresholds, self._timing = fs, thresholds, timing or Timing()
        kept = store.load(fs)
        self._saving = threading.Lock()
        self._memory: Memory = kept.memory()
        self._losses = LossHistory()
        self._storage_fault = ""
        self._senders: tuple[Sender, ...] = tuple(
            Sender(target, kept.unsent.get(target.name, ()), pace=pace, clock=clock, on_change=self._save)
            for target in targets
        )
        for sender in self._senders:
            sender.start()

    def step(self, snapshot: Snapshot, now: float) -> None:
        """Looks once; returns at once, whatever the targets do.

        Args:
            snapshot: of now; its `losses` are filled in here.
            now: unix seconds.
        """
        self._losses = self._losses.seen(snapshot, self._thresholds.loss_history)
        findings = judge(replace(snapshot, losses=self._losses.values), now, self._thresholds)
        before = self._memory.told
        memory, sayings = self._memory.step(findings, now, self._timing)
        with self._saving:
            self._memory = memory
            for saying in sayings:
                LOG.info("%s %s: %s", saying.event.value, saying.notice.key, saying.notice.what)
                for sender in self._senders:
                    if sender.target.wants(saying):
                        sender.offer(saying)
        if sayings or before.keys() != memory.told.keys():
            self._save()
        for sender in self._senders if sayings else ():
            sender.wake()

    @property
    def told(self) -> tuple[Told, ...]:
        """What was said and is not over, most severe first."""
        return tuple(sorted(self._memory.told.values(), key=lambda t: (-t.worst.rank, t.notice.key)))

    @property
    def health(self) -> tuple[TargetHealth, ...]:
        """How each target fares."""
        return tuple(sender.health for sender in self._senders)

    @property
    def storage_fault(self) -> str:
        """Why the file could not be written, "" if it could."""
        return self._storage_fault

    def close(self) -> None:
        """Ends the threads; what is unsent is said by the next process."""
        for sender in self._senders:
            sender.close()
        self._save()

    def _save(self) -> None:
        """From any thread. A disk that takes nothing keeps nobody from being told."""
        with self._saving:
            try:
                store.save(self._fs, self._memory, {s.target.name: s.unsent for s in self._senders})
            except StorageError as error:
                if not self._storage_fault:
                    LOG.warning("%s cannot be written: %s; a restart would say things again", store.NOTICES, error)
                self._storage_fault = str(error)
            else:
                self._storage_fault = ""


def open_notifier(directory: Path, config: CoordinatorConfig) -> Notifier:
    """The notifier of a coordinator's directory.

    Raises:
        ConfigError: a file that coordinator.toml names is not what it should be.
    """
    alerts = config.alerts
    return Notifier(
        RealFileSystem(directory),
        load_targets(directory, config.notifications),
        thresholds=thresholds_of(alerts),
        timing=Timing(hold_seconds=alerts.hold_seconds, repeat_seconds=alerts.repeat_hours * _HOUR),
    )


def thresholds_of(alerts: AlertsSection) -> Thresholds:
    """The thresholds in force."""
    return replace(DEFAULTS, language_regression_percent=alerts.language_regression_percent)
