# SPDX-License-Identifier: Apache-2.0
"""The control job: one held job of this site that every true answer of the batch system shows.

It never starts and costs nothing. If somebody cancels it the accounting says so, and another one is handed in.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from federation.durable.real import RealFileSystem
from site_agent.json_records import read_record, write_record
from site_agent.launcher.slurm.batch import control_script
from site_agent.launcher.slurm.commands import AccountRow, QueueRow, SlurmCommands
from site_agent.launcher.slurm.settings import SlurmSection
from site_agent.launcher.slurm.states import ENDED_STATES

RECORD: Final = "state/slurm-control.json"
SCRIPT: Final = "state/slurm-control.sbatch"

MIN_SECONDS_BETWEEN: Final = 600.0
"""Two submissions are at least so far apart, whatever becomes of control jobs here."""


@dataclass(frozen=True, kw_only=True)
class ControlRecord:
    """The control job in use. `submitted_at`: unix time."""

    job: str
    submitted_at: float


class ControlJob:
    """Keeps one control job in the queue.

    Args:
        fs: of the site's directory.
        name: of the job; unique to this site.
    """

    def __init__(
        self,
        fs: RealFileSystem,
        commands: SlurmCommands,
        settings: SlurmSection,
        name: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._fs, self._commands, self._settings, self._name, self._now = fs, commands, settings, name, now
        self._record = read_record(fs, RECORD, ControlRecord)

    @property
    def job(self) -> str:
        """Its id, "" if there is none."""
        return self._record.job if self._record else ""

    def is_shown(self, queue: Mapping[str, QueueRow]) -> bool:
        """Whether a list of the queue shows it."""
        row = queue.get(self.job)
        return row is not None and row.state not in ENDED_STATES

    def ensure(self) -> None:
        """Makes sure that there is one. Adopts one of its name that an agent submitted which died at that moment.

        Raises:
            FederationError: it cannot be told whether there is one, or it was refused.
        """
        if self._record is None:
            live = [row for row in self._commands.queue() if row.name == self._name and row.state not in ENDED_STATES]
            self._note(live[0].job if live else self._submit())

    def renew(self, record: AccountRow | None) -> None:
        """Another one, if the accounting says that this one has ended; not more often than is decent."""
        if self._record is None or record is None or record.state not in ENDED_STATES:
            return
        if self._now() - self._record.submitted_at >= MIN_SECONDS_BETWEEN:
            self._note(self._submit())

    def remove(self) -> None:
        """Takes it out of the queue: this site no longer needs it."""
        if self._record is not None:
            self._commands.cancel(self._record.job)
            self._fs.remove(RECORD)
            self._record = None

    def _submit(self) -> str:
        self._fs.write(SCRIPT, control_script(self._settings, self._name).encode())
        job, _ = self._commands.submit(self._fs.real_path(SCRIPT))
        return job

    def _note(self, job: str) -> None:
        self._record = ControlRecord(job=job, submitted_at=self._now())
        write_record(self._fs, RECORD, self._record)
