# SPDX-License-Identifier: Apache-2.0
"""The batch system's four commands as functions: arguments in, rows out, every failure typed. It decides nothing."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from federation.errors import ConfigError, DeadlineExceededError, LaunchFailedError, PeerUnavailableError
from site_agent.launcher.slurm.refusals import refusal_of
from site_agent.launcher.slurm.states import ENDED_STATES, REQUEUED

OURS: Final = ("SBATCH_", "SACCT_", "SQUEUE_", "SCANCEL_", "SLURM_", "SALLOC_")
"""Variables that would change what the commands do or print. An agent inside a job has many of them."""

KEPT: Final = frozenset({"SLURM_CONF", "SLURM_CLUSTERS", "SLURM_CONF_SERVER"})

_QUEUE_FORMAT: Final = "JobID:|,State:|,Reason:|,RestartCnt:|,StartTime:|,Name:"
_ACCOUNT_FORMAT: Final = "JobIDRaw,State,ExitCode,ElapsedRaw,NNodes,AllocTRES,JobName"
_MAX_WORDS: Final = 300

_SINCE: Final = "now-7days"
"""What ended before that is of no interest by its name."""


@dataclass(frozen=True, kw_only=True)
class QueueRow:
    """One job as squeue shows it. `state` is Slurm's long word, `reason` why it waits, `restarts` counts requeues.

    `starts_at`: unix seconds of its start, of a waiting one as backfill expects it; 0.0 where squeue does not say.
    """

    job: str
    state: str
    reason: str
    restarts: int
    name: str
    starts_at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AccountRow:
    """One job as sacct shows it. `state` is the first word (CANCELLED, not "CANCELLED by 7"), `exit_code` "1:0".

    `elapsed_seconds` is the time of all executions of a job that was requeued; the rest is of the newest one.
    `over_seconds` is the time of those that are over, `num_over` counts them.
    """

    job: str
    state: str
    exit_code: str
    elapsed_seconds: int
    num_nodes: int
    num_gpus: int
    name: str
    over_seconds: int = 0
    num_over: int = 0


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What a command said."""

    status: int
    out: str
    err: str


Runner = Callable[[Sequence[str], float], Completed]
"""Runs argv; raises DeadlineExceededError when the seconds are over, ConfigError if there is no such command."""


def run_command(argv: Sequence[str], timeout_seconds: float) -> Completed:
    """The `Runner` of real commands, in an environment without settings of the user's shell."""
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
            env=command_environment(os.environ),
        )
    except subprocess.TimeoutExpired:
        raise DeadlineExceededError(f"{argv[0]}: expected an answer within {timeout_seconds:g} s, found none") from None
    except OSError as error:
        raise ConfigError(f"{argv[0]}: expected a command that runs, found: {error.strerror}") from error
    return Completed(status=done.returncode, out=done.stdout, err=done.stderr)


def command_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The agent's own, less what changes the commands; their words in English, their times in one form."""
    kept = {n: v for n, v in environment.items() if n in KEPT or not n.startswith(OURS)}
    return {**kept, "LC_ALL": "C", "SLURM_TIME_FORMAT": "standard"}


class SlurmCommands:
    """sbatch, squeue, sacct and scancel of one site, for its own user.

    Args:
        bin_dir: where they are, "" for PATH.
        timeout_seconds: for one answer.
        run: starts them.
    """

    def __init__(self, bin_dir: str = "", timeout_seconds: float = 60.0, run: Runner = run_command) -> None:
        self._bin_dir, self._timeout_seconds, self._run_command = bin_dir, timeout_seconds, run
        self._version: tuple[int, ...] = ()

    def is_there(self) -> bool:
        """Whether sbatch can be found."""
        return shutil.which("sbatch", path=self._bin_dir or None) is not None

    def version(self) -> tuple[int, ...]:
        """Of sbatch, such as (24, 11, 5); asked once. Raises PeerUnavailableError if it cannot be read."""
        if not self._version:
            self._version = self._ask_version()
        return self._version

    def _ask_version(self) -> tuple[int, ...]:
        done = self._run("sbatch", "--version")
        words = done.out.split()
        numbers = words[1].split(".") if len(words) > 1 else []
        if done.status or not numbers or not all(n[:2].isdecimal() for n in numbers[:2]):
            raise PeerUnavailableError(f"sbatch --version: expected a version, found {_words(done)!r:.100}")
        return tuple(int(n) for n in numbers if n.isdecimal())

    def submit(self, script: Path) -> tuple[str, str]:
        """Hands a script in; returns job id and cluster ("" where there is one only).

        Raises:
            LaunchFailedError: refused; there is certainly no job. Its `code` says why.
            PeerUnavailableError, DeadlineExceededError: there may be a job, now or later.
        """
        done = self._run("sbatch", "--parsable", str(script))
        job, _, cluster = done.out.strip().partition(";")
        if done.status == 0 and job.isdecimal():
            return job, cluster
        found = refusal_of(done.err)
        if done.status != 0 and found is not None:
            raise LaunchFailedError(f"sbatch: {found.sentence}: {_words(done)}", code=found.code, advice=found.advice)
        raise PeerUnavailableError(f"sbatch: expected a job id, found status {done.status}: {_words(done)}")

    def queue(self) -> list[QueueRow]:
        """Every job of this user that the controller remembers, in any state.

        Raises:
            PeerUnavailableError, DeadlineExceededError: no answer.
        """
        user = str(os.getuid())
        done = self._run("squeue", f"--user={user}", "--states=all", "--noheader", f"--Format={_QUEUE_FORMAT}")
        if done.status:
            raise PeerUnavailableError(f"squeue: expected a list, found status {done.status}: {_words(done)}")
        return [row for line in done.out.splitlines() if (row := _queue_row(line)) is not None]

    def accounts(self, jobs: Sequence[str]) -> list[AccountRow]:
        """The newest records of jobs in the accounting, by id; also of a held one.

        Raises:
            PeerUnavailableError, DeadlineExceededError: no answer.
        """
        # No --starttime: with one, sacct leaves out what was never eligible to start.
        return self._accounts(f"--jobs={','.join(jobs)}")

    def accounts_named(self, name: str) -> list[AccountRow]:
        """The newest records of this user's jobs of a name that could have started within the last days.

        Raises:
            PeerUnavailableError, DeadlineExceededError: no answer.
        """
        return self._accounts(f"--user={os.getuid()}", f"--name={name}", f"--starttime={_SINCE}")

    def _accounts(self, *chosen: str) -> list[AccountRow]:
        shape = ("--noheader", "--parsable2", "--allocations", "--duplicates", f"--format={_ACCOUNT_FORMAT}")
        done = self._run("sacct", *chosen, *shape)
        if done.status or "error" in done.err.lower():
            raise PeerUnavailableError(f"sacct: expected a list, found status {done.status}: {_words(done)}")
        return _newest(row for line in done.out.splitlines() if (row := _account_row(line)) is not None)

    def cancel(self, job: str, *arguments: str) -> None:
        """scancel of one job; one that is gone is no error.

        Raises:
            PeerUnavailableError, DeadlineExceededError: no answer.
        """
        done = self._run("scancel", *arguments, job)
        if done.status and "Invalid job id" not in done.err:
            raise PeerUnavailableError(f"scancel: expected no complaint, found status {done.status}: {_words(done)}")

    def _run(self, name: str, *arguments: str) -> Completed:
        path = str(Path(self._bin_dir) / name) if self._bin_dir else name
        return self._run_command([path, *arguments], self._timeout_seconds)


def _newest(rows: Iterable[AccountRow]) -> list[AccountRow]:
    """One row per job: its newest record, with the time of all its executions. sacct lists them oldest first."""
    newest: dict[str, AccountRow] = {}
    for row in rows:
        newest[row.job] = _with_earlier(newest.get(row.job), row)
    return list(newest.values())


def _with_earlier(earlier: AccountRow | None, row: AccountRow) -> AccountRow:
    is_over = row.state in ENDED_STATES or row.state == REQUEUED
    return replace(
        row,
        elapsed_seconds=row.elapsed_seconds + (earlier.elapsed_seconds if earlier else 0),
        over_seconds=row.elapsed_seconds * is_over + (earlier.over_seconds if earlier else 0),
        num_over=is_over + (earlier.num_over if earlier else 0),
    )


def _queue_row(line: str) -> QueueRow | None:
    fields = line.strip().split("|", 5)
    if len(fields) != 6 or not fields[0].isdecimal():
        return None  # an array's task, or a notice
    job, state, reason, restarts, start, name = fields
    return QueueRow(
        job=job,
        state=state,
        reason=reason,
        restarts=int(restarts) if restarts.isdecimal() else 0,
        name=name,
        starts_at=_unix_seconds(start),
    )


def _unix_seconds(local: str) -> float:
    """Of a time in the zone that the command and this process share; 0.0 for "N/A" and whatever is no time."""
    try:
        return time.mktime(time.strptime(local, "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return 0.0


def _account_row(line: str) -> AccountRow | None:
    fields = line.split("|", 6)
    if len(fields) != 7 or not fields[0].isdecimal():
        return None
    job, state, exit_code, elapsed, nodes, tres, name = fields
    return AccountRow(
        job=job,
        state=(state.split() or [""])[0],
        exit_code=exit_code,
        elapsed_seconds=int(elapsed) if elapsed.isdecimal() else 0,
        num_nodes=int(nodes) if nodes.isdecimal() else 0,
        num_gpus=_gpus(tres),
        name=name,
    )


def _gpus(tres: str) -> int:
    """Of "billing=4,cpu=4,gres/gpu=8,node=1": the untyped count, which holds the typed ones."""
    counts = dict(part.split("=", 1) for part in tres.split(",") if "=" in part)
    found = counts.get("gres/gpu", "0")
    return int(found) if found.isdecimal() else 0


def _words(done: Completed) -> str:
    return " ".join((done.err.strip() or done.out.strip() or "nothing was said").split())[:_MAX_WORDS]
