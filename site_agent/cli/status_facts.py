# SPDX-License-Identifier: Apache-2.0
"""Everything that `site-agent status` looks at: the agent's view, files of jobs, courier, lock, journal. Reads only."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

from federation.directory_lock import described, find_holder, newest_hold, this_process
from federation.durable.real import RealFileSystem
from federation.errors import FederationError, UsageError
from federation.messages import AllocationState
from site_agent import layout
from site_agent.budget import DAY_US, JobSize, bytes_spent, gpu_hours
from site_agent.cli.courier import courier_facts, courier_lines
from site_agent.cli.credentials import credential_countdowns, credential_facts, credential_lines
from site_agent.credentials_watch import Countdown
from site_agent.jobs import JobReport, RoundOrder, read_record
from site_agent.journal import read_state
from site_agent.policy import load_policy
from site_agent.preflight_report import PreflightReport, read_preflight
from site_agent.site_config import SiteConfig, load_site_config
from site_agent.site_policy import job_size
from site_agent.views import SiteView, read_view

BUDGET_SECONDS: Final = 60.0
"""For so long a budget once read from the journal is shown: reading it takes as long as the journal is."""


@dataclass(frozen=True, kw_only=True)
class AgentSign:
    """Whether an agent serves the directory now.

    Attributes:
        runs: True: it was seen to, False: nothing has the directory, None: that cannot be told yet.
        died: the last one did not end cleanly.
        sentence: which process, and what is known of it.
    """

    runs: bool | None
    died: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class JobProgress:
    """What the newest job of a run says of itself. `num_steps`: of its window, None if its order is gone."""

    round: int
    phase: str
    step: int
    num_steps: int | None
    loss: float | None
    seconds_per_step: float
    seconds_left: int
    updated_at: float


@dataclass(frozen=True, kw_only=True)
class DayBudget:
    """What counts for the policy's limits of a day, None where there is none; `problem`: no figures can be had."""

    gpu_hours: float = 0.0
    max_gpu_hours: float | None = None
    num_bytes: int = 0
    max_bytes: int | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    """One look. `lines_of_courier`, `lines_of_credentials`: for people, as of `at` (unix seconds)."""

    at: float
    view: SiteView
    agent: AgentSign
    preflight: Mapping[str, PreflightReport]
    progress: Mapping[str, JobProgress]
    budget: DayBudget
    courier: Mapping[str, Any]
    credentials: tuple[Countdown, ...]
    lines_of_courier: tuple[str, ...]
    lines_of_credentials: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            **asdict(self.view),
            "agent": asdict(self.agent),
            "budget": asdict(self.budget),
            "courier": dict(self.courier),
            "credentials": credential_facts(list(self.credentials)),
            "preflight": {run: {"ok": report.ok, **asdict(report)} for run, report in self.preflight.items()},
            "progress": {run: asdict(found) for run, found in self.progress.items()},
        }


class StatusReader:
    """Looks at a site's directory again and again."""

    def __init__(self, site_dir: Path) -> None:
        """Raises ConfigError: not a site's directory, or site.toml is wrong."""
        self._dir, self._fs = site_dir, RealFileSystem(site_dir)
        self._config = load_site_config(site_dir)
        self._budget, self._budget_at = DayBudget(), float("-inf")

    def look(self, now: float) -> Status:
        """Everything as it is at `now` (unix seconds).

        Raises:
            UsageError: no agent ever ran here.
            FederationError: files are damaged or out of reach.
        """
        view, expiring = require_view(self._fs), credential_countdowns(self._fs, self._dir, now)
        return Status(
            at=now,
            view=view,
            agent=_agent_sign(self._fs, self._config),
            preflight=dict(_preflights(self._fs, view)),
            progress=dict(_progress(self._fs, view)),
            budget=self._day_budget(now),
            courier=courier_facts(self._fs),
            credentials=tuple(expiring),
            lines_of_courier=tuple(courier_lines(self._fs, now)),
            lines_of_credentials=tuple(credential_lines(expiring)),
        )

    def _day_budget(self, now: float) -> DayBudget:
        if time.monotonic() - self._budget_at >= BUDGET_SECONDS:
            self._budget = _read_budget(self._fs, self._dir, job_size(self._config), int(now * 1e6))
            self._budget_at = time.monotonic()
        return self._budget


def require_view(fs: RealFileSystem) -> SiteView:
    """The newest view of the directory's agent. Raises UsageError: none ever ran."""
    view = read_view(fs)
    if view is None:
        raise UsageError(f"{fs.root}: expected an agent that ran, found none", advice="Run `site-agent serve` first.")
    return view


def _agent_sign(fs: RealFileSystem, config: SiteConfig) -> AgentSign:
    held = find_holder(fs, this_process(), base=layout.LOCK, stale_seconds=config.agent.lock_stale_seconds)
    if held is not None:
        return AgentSign(runs=True if held.alive else None, died=False, sentence=held.words)
    owner = newest_hold(fs, base=layout.LOCK).owner
    if owner is None:
        return AgentSign(runs=False, died=False, sentence="none ran yet")
    return AgentSign(runs=False, died=not owner.released, sentence=f"the last one was {described(owner)}")


def _preflights(fs: RealFileSystem, view: SiteView) -> Iterator[tuple[str, PreflightReport]]:
    """Per run what its newest job found its machines to be, where it has got so far."""
    for run, number in _jobs(view):
        if (report := read_preflight(fs, layout.allocation_dir(run, number))) is not None:
            yield run, report


def _jobs(view: SiteView, *, live: bool = False) -> Iterator[tuple[str, int]]:
    """Run and number of each newest job."""
    for item in view.runs:
        number = item.allocation.allocation.removeprefix("a")
        if number.isdigit() and not (live and item.allocation.state == AllocationState.ENDED):
            yield item.run, int(number)


def _progress(fs: RealFileSystem, view: SiteView) -> Iterator[tuple[str, JobProgress]]:
    """Of jobs that have not ended; a report that cannot be read is none, it decides nothing."""
    for run, number in _jobs(view, live=True):
        try:
            found = _progress_of(fs, run, number)
        except FederationError:
            continue
        if found is not None:
            yield run, found


def _progress_of(fs: RealFileSystem, run: str, number: int) -> JobProgress | None:
    paths = layout.allocation_paths(run, number)
    report = read_record(fs, paths.report, JobReport)
    if report is None or report.round < 0:
        return None
    order = read_record(fs, paths.round_order(report.round), RoundOrder)
    return JobProgress(
        round=report.round,
        phase=report.phase.value,
        step=report.step,
        num_steps=order.num_steps if order is not None else None,
        loss=report.loss if isfinite(report.loss) and report.loss else None,
        seconds_per_step=report.seconds_per_step if isfinite(report.seconds_per_step) else 0.0,
        seconds_left=report.seconds_left,
        updated_at=report.updated_at if isfinite(report.updated_at) else 0.0,
    )


def _read_budget(fs: RealFileSystem, site_dir: Path, default: JobSize, now_us: int) -> DayBudget:
    try:
        policy, state = load_policy(site_dir), read_state(fs, layout.JOURNAL)
    except FederationError as error:
        return DayBudget(problem=error.diagnostics())
    return DayBudget(
        gpu_hours=gpu_hours(state, default, now_us, since_us=now_us - DAY_US),
        max_gpu_hours=policy.per_day.gpu_hours if isfinite(policy.per_day.gpu_hours) else None,
        num_bytes=bytes_spent(state, now_us),
        max_bytes=policy.per_day.bytes,
    )
