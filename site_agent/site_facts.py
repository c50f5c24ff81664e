# SPDX-License-Identifier: Apache-2.0
"""What this site tells the consortium about itself beside its status: for people, nothing is decided from it.

Every text is one that the egress list lets out, or it is left out. What costs a look at the disk is looked at now and
then; a report in between repeats it.
"""

import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from federation import certificates
from federation.durable.api import FileSystem
from federation.egress import or_nothing
from federation.errors import CertificateError, ProtocolError
from federation.messages import AllocationState, LanguageTokens, RunBudget, SiteFacts, SiteStatus
from federation.rounds import Federation
from federation.rpc.credentials import Certificates
from site_agent import budget, job_files, layout
from site_agent.agent_state import AgentState, Allocation
from site_agent.budget import US
from site_agent.budget_report import run_budget
from site_agent.budget_units import NativeUnit
from site_agent.courier.choice import read_choice
from site_agent.manifests import ManifestJudge
from site_agent.metrics_books import MetricsBooks
from site_agent.observations import Observations
from site_agent.preflight_report import DeviceKind, PreflightReport, read_preflight
from site_agent.start_delay import begins_at_us
from site_agent.start_outlook import StartOutlook, start_outlook

LOOK_US: Final = 20 * US
"""Between two looks at the disk."""

OUTLOOK_US: Final = 60 * US
"""Between two questions to the policy, unless its answer ends before."""

MAX_RUNS: Final = 32
"""Runs of which budgets and tokens are told, those with the newest jobs."""

MAX_JOBS: Final = 16
"""Newest jobs in which something is looked for."""

MAX_ACCELERATORS: Final = 65_536
"""Of one job, as in site.toml: the figure is the job's word."""

_WAITS: Final = (AllocationState.SUBMITTED, AllocationState.QUEUED)
_ANY_DEVICE: Final = {DeviceKind.CUDA: "NVIDIA GPU", DeviceKind.ROCM: "AMD GPU"}


@dataclass(frozen=True, kw_only=True)
class FixedFacts:
    """What site.toml and the centre's profile say.

    Attributes:
        num_gpus: of one job, -1 where nothing says so.
        architecture: of compute nodes, "" where the profile does not know.
    """

    profile: str = ""
    launcher: str = ""
    num_gpus: int = -1
    architecture: str = ""


@dataclass(frozen=True, kw_only=True)
class _JobTold:
    """What the reports of one job said; see `observations.AllocationSeen`."""

    ready_at: float = 0.0
    language_tokens: tuple[tuple[str, int], ...] = ()


class FactsDesk:
    """One site's facts.

    Args:
        judge: the policy in force.
    """

    def __init__(self, fs: FileSystem, fixed: FixedFacts, judge: Callable[[], ManifestJudge]) -> None:
        self._fs, self._fixed, self._judge = fs, fixed, judge
        self._books = MetricsBooks(fs)
        self._told: dict[tuple[str, int], _JobTold] = {}
        self._machines: dict[tuple[str, int], PreflightReport] = {}
        self._looked_at_us = -LOOK_US
        self._looked: SiteFacts = SiteFacts()
        self._outlook = StartOutlook(may_start=False)
        self._asked_at_us = -OUTLOOK_US

    def facts(
        self, report: SiteStatus, state: AgentState, federation: Federation, seen: Observations, now_us: int
    ) -> SiteFacts:
        """What goes out with this report, at `now_us` (microseconds of this site's clock)."""
        if not 0 <= now_us - self._looked_at_us < LOOK_US:
            self._looked_at_us = now_us
            self._looked = self._look(state, federation, now_us)
        self._ask(state, now_us)
        left_us = self._outlook.change_at_us - now_us
        return replace(
            self._looked,
            queue_wait_seconds=self._queue_wait(state, seen),
            waiting_seconds=_waiting(report, state, now_us),
            may_start=self._outlook.may_start,
            next_change=self._outlook.change,
            next_change_seconds=max(0, left_us // US),
            language_tokens=tuple(self._language_tokens(state, seen)),
        )

    def _ask(self, state: AgentState, now_us: int) -> None:
        is_over = self._outlook.change_at_us and now_us >= self._outlook.change_at_us
        if is_over or not 0 <= now_us - self._asked_at_us < OUTLOOK_US:
            judge = self._judge()
            self._outlook = start_outlook(judge.policy, judge.job, state, now_us)
            self._asked_at_us = now_us

    # --- now and then -------------------------------------------------------------------------------------------------

    def _look(self, state: AgentState, federation: Federation, now_us: int) -> SiteFacts:
        fixed, machine = self._fixed, self._machine(state)
        looked = SiteFacts(
            profile=_allowed("profile", fixed.profile),
            launcher=_allowed("launcher", fixed.launcher),
            courier=_courier(self._fs),
            python=_allowed("python", platform.python_version()),
            num_accelerators=fixed.num_gpus,
            architecture=_allowed("architecture", fixed.architecture or platform.machine()),
            certificate_not_after_us=_certificate_not_after_us(self._fs),
            budgets=tuple(self._budgets(state, federation, now_us)),
        )
        return looked if machine is None else _with_machine(looked, machine)

    def _machine(self, state: AgentState) -> PreflightReport | None:
        """What the newest job found that looked at its machine."""
        for job in _newest_jobs(state):
            key = (job.run, job.number)
            if key not in self._machines:
                found = read_preflight(self._fs, layout.allocation_dir(*key))
                if found is None:
                    continue
                self._machines = {key: found}
            return self._machines[key]
        return None

    def _budgets(self, state: AgentState, federation: Federation, now_us: int) -> Iterator[RunBudget]:
        for run in _newest_runs(state):
            found = self._budget(run, state, federation, now_us)
            if found is not None:
                yield found

    def _budget(self, run: str, state: AgentState, federation: Federation, now_us: int) -> RunBudget | None:
        judge = self._judge()
        training = self._books.training(run, state.allocations[run], judge.job)
        if training is None:
            return None
        figures = run_budget(judge.site, state, federation.runs.get(run), run, training, judge.job, now_us)
        used = figures.effective + figures.discarded + figures.open + figures.idle
        limits, native = judge.policy.per_run, judge.unit.of(used)
        forecast = figures.forecast.gpu_hours
        return RunBudget(
            run=run,
            gpu_hours_effective=figures.effective,
            gpu_hours_discarded=figures.discarded,
            gpu_hours_open=figures.open,
            gpu_hours_idle=figures.idle,
            gpu_hours_counted=budget.gpu_hours(state, judge.job, now_us, run=run),
            gpu_hours_limit=limits.gpu_hours or 0.0,
            native_unit=_unit(judge.unit),
            native_spent=native or 0.0,
            native_limit=(limits.native_units or 0.0) if native is not None else 0.0,
            forecast_gpu_hours=-1.0 if forecast is None else forecast,
        )

    # --- with every report --------------------------------------------------------------------------------------------

    def _queue_wait(self, state: AgentState, seen: Observations) -> int:
        """Of the newest job that was ready, from when it could begin; reports of requeued ones do not tell."""
        for job in _newest_jobs(state):
            at = self._report_of(job, seen).ready_at
            if job.submitted_at_us and at:
                return max(0, int(at * US) - _could_begin_us(job)) // US
        return -1

    def _language_tokens(self, state: AgentState, seen: Observations) -> Iterator[LanguageTokens]:
        """Of each run what its newest job says that knows."""
        for run in _newest_runs(state):
            said = (self._report_of(job, seen).language_tokens for job in reversed(state.allocations[run][-MAX_JOBS:]))
            for language, tokens in next(filter(None, said), ()):
                yield LanguageTokens(run=run, language=language, tokens=tokens)

    def _report_of(self, job: Allocation, seen: Observations) -> _JobTold:
        """Of a live job as it was seen in this pass; of one that has ended its last report, read once."""
        now = seen.allocations.get(job.run)
        if job.live:
            is_it = now is not None and now.number == job.number
            return _JobTold(ready_at=now.ready_at, language_tokens=now.language_tokens) if now and is_it else _JobTold()
        key = (job.run, job.number)
        if key not in self._told:
            found = job_files.past_report(self._fs, job)
            told = (job_files.ready_at(found, job), job_files.language_tokens(found)) if found else (0.0, ())
            self._told[key] = _JobTold(ready_at=told[0], language_tokens=told[1])
        return self._told[key]


# --- single facts -----------------------------------------------------------------------------------------------------


def _allowed(name: str, text: str) -> str:
    return or_nothing("SiteFacts", name, text)


def _newest_jobs(state: AgentState) -> list[Allocation]:
    """Over all runs, newest first."""
    found = [job for jobs in state.allocations.values() for job in jobs[-MAX_JOBS:]]
    return sorted(found, key=lambda job: job.intended_at_us, reverse=True)[:MAX_JOBS]


def _newest_runs(state: AgentState) -> list[str]:
    """Runs that had jobs here, those with the newest first."""
    newest = {run: jobs[-1].intended_at_us for run, jobs in state.allocations.items() if jobs}
    return sorted(newest, key=lambda run: newest[run], reverse=True)[:MAX_RUNS]


def _with_machine(facts: SiteFacts, report: PreflightReport) -> SiteFacts:
    first = report.ranks[0]
    is_accelerator = first.device is not DeviceKind.CPU
    name = _allowed("accelerator", first.device_name) or _ANY_DEVICE.get(first.device, "") if is_accelerator else ""
    return replace(
        facts,
        torch=_allowed("torch", first.torch) or _allowed("torch", first.torch.partition("+")[0]),
        accelerator=name,
        num_accelerators=min(max(0, report.world_size), MAX_ACCELERATORS) if is_accelerator else 0,
        architecture=_allowed("architecture", first.architecture) or facts.architecture,
    )


def _courier(fs: FileSystem) -> str:
    try:
        return _allowed("courier", read_choice(fs).value)
    except ProtocolError:
        return ""


def _certificate_not_after_us(fs: FileSystem) -> int:
    try:
        channel = Certificates.read(fs).channel
        found = certificates.read_certificate(channel) if channel else None
    except CertificateError:
        return 0
    return int(found.not_valid_after_utc.timestamp()) * US if found else 0


def _unit(unit: NativeUnit) -> str:
    """The centre's unit as a slug; one that the list does not know is "units"."""
    if unit.per_gpu_hour is None:
        return ""
    slug = re.sub(r"[^a-z0-9]+", "-", unit.name.lower()).strip("-")
    return or_nothing("RunBudget", "native_unit", slug) or "units"


def _waiting(report: SiteStatus, state: AgentState, now_us: int) -> int:
    """Of the job that has waited longest; one that was told to wait waits from then on."""
    waits = [found.run for found in report.allocations if found.state in _WAITS]
    jobs = (job for run in waits if (job := state.live_allocation(run)) is not None)
    return max((max(0, now_us - _could_begin_us(job)) // US for job in jobs), default=-1)


def _could_begin_us(job: Allocation) -> int:
    return max(job.submitted_at_us or job.intended_at_us, begins_at_us(job))
