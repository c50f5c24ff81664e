# SPDX-License-Identifier: Apache-2.0
"""The test's side of the fake: makes the commands, moves the jobs, breaks things."""

import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from fake_slurm import life
from fake_slurm.faults import Fault, write_faults
from fake_slurm.store import LIB, START, Job, Store

COMMANDS: Final = ("sbatch", "squeue", "sacct", "sacctmgr", "scancel", "scontrol", "sinfo", "srun")


class FakeSlurm:
    """A cluster in a directory.

    Args:
        directory: made if it isn't there; one that is there already goes on.
        runs_jobs: submitted scripts are started as processes as soon as they may; else only a test moves jobs.
        starts_jobs: without processes, an eligible job counts as running from the next command on.
        clock: a time that stands still until `advance`, in seconds since 1970; 0 for the machine's clock.
        accounting_lag_seconds: for so long sacct doesn't know the name of a new job.
        kill_wait_seconds: between TERM and KILL of a job that is cancelled or out of time.
    """

    def __init__(
        self,
        directory: Path,
        *,
        runs_jobs: bool = False,
        starts_jobs: bool = False,
        clock: float = 0.0,
        version: str = "22.05.8",
        accounting_lag_seconds: float = 0.0,
        kill_wait_seconds: float = 2.0,
    ) -> None:
        self.directory = directory.absolute()
        self.bin_dir = self.directory / "bin"
        self._store = Store(self.directory)
        self.bin_dir.mkdir(parents=True, exist_ok=True)
        for name in COMMANDS:
            self._write_command(name)
        if not (self.directory / "cluster.json").exists():
            with self._store.open() as cluster:
                cluster.runs_jobs, cluster.starts_jobs = runs_jobs, starts_jobs
                cluster.accounting_lag_seconds = accounting_lag_seconds
                cluster.clock, cluster.version, cluster.kill_wait_seconds = clock, version, kill_wait_seconds

    @property
    def environment(self) -> dict[str, str]:
        """PATH with the fake's commands first."""
        return {"PATH": f"{self.bin_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}

    def jobs(self, name: str | None = None) -> list[Job]:
        """Every job that was ever submitted, also what Slurm has forgotten; `name` picks."""
        with self._store.open() as cluster:
            life.settle(cluster)
            return [job for job in cluster.jobs if name in (None, job.name)]

    def job(self, number: int | str) -> Job:
        """One job. Raises KeyError."""
        return next((job for job in self.jobs() if job.id == int(number)), None) or _unknown(number)

    def move(self, number: int | str, state: str) -> Job:
        """Brings a job into a state: RUNNING, COMPLETED, FAILED, TIMEOUT, CANCELLED, NODE_FAIL, PREEMPTED, or REQUEUED.

        After REQUEUED it is PENDING with one restart more; from NODE_FAIL or PREEMPTED it can be requeued too.

        Raises:
            ValueError: a real job could not go there.
        """
        with self._store.open() as cluster:
            job = cluster.job(int(number)) or _unknown(number)
            life.move(cluster, job, state)
            life.settle(cluster)
            return replace(job)

    def forget(self, number: int | str) -> None:
        """squeue no longer knows an ended job (its MinJobAge is over); sacct does."""
        with self._store.open() as cluster:
            (cluster.job(int(number)) or _unknown(number)).is_purged = True

    def hide_from_accounting(self, number: int | str) -> None:
        """sacct doesn't know a job (yet): the database lags behind the controller by up to seconds."""
        with self._store.open() as cluster:
            job = cluster.job(int(number)) or _unknown(number)
            job.is_accounted, job.earlier = False, []

    def release(self, number: int | str) -> None:
        """A held or delayed job may start."""
        with self._store.open() as cluster:
            job = cluster.job(int(number)) or _unknown(number)
            job.is_held, job.begin = False, 0.0
            life.settle(cluster)

    def faults(self, *plan: Fault) -> None:
        """Replaces the faults by these; none for a cluster in good health."""
        with self._store.open():
            write_faults(self.directory, plan)

    def tick(self, count: int = 1) -> None:
        """Time passes for what waits in ticks: orphaned submissions."""
        with self._store.open() as cluster:
            cluster.ticks += count
            life.settle(cluster)

    def advance(self, seconds: float) -> None:
        """Moves a clock that stands still."""
        with self._store.open() as cluster:
            cluster.clock = cluster.now + seconds

    def set_partitions(self, **limits: int) -> None:
        """Partitions and their longest wall times in seconds."""
        with self._store.open() as cluster:
            cluster.partitions = dict(limits)

    def calls(self, command: str | None = None) -> list[list[str]]:
        """Argument lists of all calls so far, each with the command's name first."""
        try:
            lines = (self.directory / "calls").read_text().splitlines()
        except FileNotFoundError:
            return []
        calls = [line.split("\x1f") for line in lines]
        return [call for call in calls if command in (None, call[0])]

    def close(self) -> None:
        """Ends every process of a job and every command that hangs."""
        with self._store.open() as cluster:
            processes = [pid for job in cluster.jobs for pid in (job.process, *job.steps) if pid]
        for pid in (*processes, *self._hanging()):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL) if pid in processes else os.kill(pid, signal.SIGKILL)

    def _hanging(self) -> list[int]:
        noted = [int(path.name) for path in self.directory.glob("hanging/*")]
        return [pid for pid in noted if str(self.directory).encode() in _command_line(pid)]

    def _write_command(self, name: str) -> None:
        path = self.bin_dir / name
        # -S -E: no site packages and no variables, so that a call takes tens of milliseconds.
        python = f"'{sys.executable}' -S -E -c '{START}' '{LIB}'"
        path.write_text(f"#!/bin/sh\nexec {python} {name} '{self.directory}' \"$@\"\n")
        path.chmod(0o755)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _unknown(number: int | str) -> Job:
    raise KeyError(f"job {number}")
