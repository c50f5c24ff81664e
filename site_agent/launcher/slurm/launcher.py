# SPDX-License-Identifier: Apache-2.0
"""Jobs under Slurm. A handle is `slurm:<cluster>:<job id>`, "-" where there is one cluster.

Exactly once (invariant I5) comes from four things together: the agent's intent on disk before anything is submitted; a
name that is unique to the allocation, with `--dependency=singleton`, so that two jobs of it never run beside each
other; a claim as the job's first act, which only one execution gets; and answers that are UNKNOWN when in doubt.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, LaunchFailedError, PeerUnavailableError, TransportError
from site_agent.launcher.api import JobPresence, JobUsage, Launcher
from site_agent.launcher.local import job_environment
from site_agent.launcher.slurm.answers import Lists, found_by_name, presence
from site_agent.launcher.slurm.batch import SCRIPT_FILE, BatchJob, render
from site_agent.launcher.slurm.commands import AccountRow, QueueRow, SlurmCommands
from site_agent.launcher.slurm.control import ControlJob
from site_agent.launcher.slurm.settings import SlurmSection
from site_agent.launcher.slurm.states import ENDED_STATES, WAITING_STATES
from site_agent.launcher.slurm.watch import Watch

LOG: Final = logging.getLogger("site_agent")

PASSED_ON: Final = frozenset({"FEDERATION_FAILPOINTS", "FEDERATION_NO_NETWORK"})
"""Variables of the agent that a job under Slurm gets; nothing else of its shell reaches it."""

KNOWS_NIL: Final = (23, 2, 3)
"""The release of Slurm from which sbatch knows `--export=NIL`."""


@dataclass(frozen=True, kw_only=True)
class SlurmSite:
    """What all launchers of one site share.

    Attributes:
        site_dir: the agent's directory, absolute.
        data_dirs: directories that a container needs as well, absolute.
        seconds_limit: wall time of one job.
        python: the agent's own interpreter.
    """

    site_dir: str
    data_dirs: tuple[str, ...]
    seconds_limit: int
    python: str
    settings: SlurmSection
    commands: SlurmCommands
    control: ControlJob | None
    watch: Watch


class SlurmLauncher(Launcher):
    """Submits `python -m MODULE ALLOCATION_DIR`, under torchrun where a job has several ranks.

    Args:
        module: the trainer's job module, as site.toml resolves it.
        isolate_network: jobs of one rank refuse network sockets; several ranks talk to each other.
    """

    def __init__(
        self,
        site: SlurmSite,
        module: str,
        *,
        isolate_network: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._site, self._module, self._isolate_network = site, module, isolate_network
        self._environment = environment
        self.can_requeue = site.settings.requeue

    def script(
        self, allocation_dir: Path, name: str, *, clean_environment: str = "NIL", begin_after_seconds: int = 0
    ) -> str:
        """The batch script of an allocation, as `submit` hands it in."""
        site = self._site
        return render(
            BatchJob(
                name=name,
                directory=str(allocation_dir),
                site_dir=site.site_dir,
                data_dirs=site.data_dirs,
                module=self._module,
                python=site.settings.python or site.python,
                seconds_limit=site.seconds_limit,
                begin_after_seconds=begin_after_seconds,
                clean_environment=clean_environment,
                settings=site.settings,
                variables=self._variables(),
            )
        )

    def submit(self, allocation_dir: Path, name: str, fencing: int, begin_after_seconds: int = 0) -> str:
        directory = allocation_dir.absolute()
        if not directory.is_dir():
            raise LaunchFailedError(f"job {name}: expected the allocation directory {directory}, found none")
        self._require_control(name)
        fs = RealFileSystem(directory)
        clean = self._clean_environment()
        script = self.script(directory, name, clean_environment=clean, begin_after_seconds=begin_after_seconds)
        fs.write(SCRIPT_FILE, script.encode())
        try:
            job, cluster = self._site.commands.submit(fs.real_path(SCRIPT_FILE))
        except ConfigError as error:  # no such command: certainly no job
            raise LaunchFailedError(str(error), code="no-sbatch", advice=error.advice) from error
        return f"slurm:{cluster or '-'}:{job}"

    def query(self, handle: str) -> JobPresence:
        lists = self._lists(handle)
        return presence(lists, _job_of(handle)) if lists is not None else JobPresence.UNKNOWN

    def cancel(self, handle: str, *, force: bool = False) -> None:
        """Ends a waiting job at once. A running one gets SIGTERM in its steps first, and everything with `force`."""
        job = _job_of(handle)
        if not job:
            return
        row = next((row for row in self._site.commands.queue() if row.job == job), None)
        if row is None or row.state in ENDED_STATES:
            return
        is_waiting = row.state in WAITING_STATES
        self._site.commands.cancel(job, *(() if force or is_waiting else ("--signal=TERM",)))

    def find(self, allocation_dir: Path, name: str) -> str | None:
        """By its unique name, in the queue and in the accounting; both must answer, and show the control job."""
        commands = self._site.commands
        queue = commands.queue()
        self._require_shown(name, {row.job: row for row in queue})
        accounts = self._named_accounts(name) if self._site.settings.has_accounting else []
        found = found_by_name(queue, accounts, name)
        live = {row.job for row in queue if row.state not in ENDED_STATES}
        self._cancel_twins(name, [job for job in found[1:] if job in live])
        return f"slurm:-:{found[0]}" if found else None

    def restarts(self, handle: str) -> int:
        row = self._row(handle)
        return row.restarts if row else 0

    def start_in_seconds(self, handle: str, now: float) -> int:
        row = self._row(handle)
        if row is None or row.state not in WAITING_STATES or not row.starts_at:
            return 0
        return max(1, round(row.starts_at - now))  # what is overdue is expected at any moment

    def usage(self, handle: str) -> JobUsage | None:
        lists = self._lists(handle, patient=True)
        record = lists.accounts.get(_job_of(handle)) if lists else None
        if record is None:
            return None
        return JobUsage(
            elapsed_seconds=float(record.elapsed_seconds),
            num_gpus=record.num_gpus,
            num_nodes=record.num_nodes,
            state=record.state,
            reason=record.exit_code,
        )

    def earlier_seconds(self, handle: str) -> float | None:
        lists, row = self._lists(handle), self._row(handle)
        if lists is None or row is None or not row.restarts:
            return None
        if not lists.has_accounting:
            return float(row.restarts * self._site.seconds_limit)
        record = lists.earlier.get(row.job)
        return float(record.over_seconds) if record and record.num_over >= row.restarts else None

    def remark(self, handle: str) -> str:
        lists = self._lists(handle)
        if lists is None:
            return self._site.watch.trouble
        row = lists.queue.get(_job_of(handle))
        return row.reason if row is not None and row.state in WAITING_STATES and row.reason != "None" else ""

    def _lists(self, handle: str, *, patient: bool = False) -> Lists | None:
        """The newest look at the batch system, None if there is none for this job."""
        job = _job_of(handle)
        return self._site.watch.lists(job, patient=patient) if job else None

    def _row(self, handle: str) -> QueueRow | None:
        """The job in the queue, as far as is known."""
        lists = self._lists(handle)
        return lists.queue.get(_job_of(handle)) if lists else None

    def _require_control(self, name: str) -> None:
        """A batch system that answers falsely is handed nothing: it could not be told afterwards what became of it."""
        if self._site.control is not None:
            self._site.control.ensure()
            self._require_shown(name, {row.job: row for row in self._site.commands.queue()})

    def _require_shown(self, name: str, queue: Mapping[str, QueueRow]) -> None:
        control = self._site.control
        if control is not None and not control.is_shown(queue):
            self._doubt(name, "the queue")

    def _named_accounts(self, name: str) -> list[AccountRow]:
        commands, control = self._site.commands, self._site.control
        if control is not None and not commands.accounts([control.job]):
            self._doubt(name, "the accounting")
        return commands.accounts_named(name)

    def _cancel_twins(self, name: str, twins: list[str]) -> None:
        """Waiting duplicates would only start to find the claim taken. Never one that runs: it may hold the claim."""
        for job in twins:
            LOG.warning("job %s was submitted twice; job %s is taken out of the queue if it still waits", name, job)
            self._site.commands.cancel(job, "--state=PENDING")

    def _doubt(self, name: str, what: str) -> None:
        control = self._site.control
        raise PeerUnavailableError(
            f"job {name}: expected {what} to show the control job {control.job if control else ''}, found a list "
            "without it: nothing is submitted on such an answer",
            advice="Wait for the batch system; if it stays so, see `site-agent attempt list`.",
        )

    def clean_environment_here(self) -> str:
        """As a submission would have it; "NIL" where no sbatch says what it knows."""
        try:
            return self._clean_environment()
        except (ConfigError, TransportError):
            return "NIL"

    def _clean_environment(self) -> str:
        chosen = self._site.settings.clean_environment
        if chosen != "auto":
            return chosen
        return "NIL" if self._site.commands.version() >= KNOWS_NIL else "NONE"

    def _variables(self) -> dict[str, str]:
        isolate = self._isolate_network and self._site.settings.num_ranks == 1
        environment = os.environ if self._environment is None else self._environment
        passed = job_environment(environment, isolate_network=isolate)
        return {name: value for name, value in passed.items() if name in PASSED_ON}


def is_handle(text: str) -> bool:
    """Whether a text is a handle of this launcher's."""
    return bool(_job_of(text))


def _job_of(handle: str) -> str:
    """The job id in a handle, "" if it is not one of Slurm's."""
    parts = handle.split(":")
    is_ours = len(parts) == 3 and parts[0] == "slurm" and parts[2].isascii() and parts[2].isdecimal()
    return parts[2] if is_ours else ""
