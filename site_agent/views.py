# SPDX-License-Identifier: Apache-2.0
"""What the operator's commands show: a projection that the agent writes, so that they never touch its journal."""

from dataclasses import dataclass, replace

from federation.durable.api import FileSystem
from federation.durations import count
from federation.rounds import Federation, Run, RunState
from site_agent import derived, layout
from site_agent.agent_state import AgentState, Allocation
from site_agent.json_records import read_record, write_record
from site_agent.launcher.slurm.waiting import Hindrance
from site_agent.observations import AgentSettings, AllocationSeen, Execution, Observations
from site_agent.status import status_of
from site_agent.verdict_view import VerdictView, verdicts_of


@dataclass(frozen=True, kw_only=True)
class AllocationView:
    """The newest allocation of a run.

    Attributes:
        sentence: of its end. reason: the same in one word.
        remark: what the batch system says about a job that waits.
        hindrance: why it will not start by itself, None if it may.
        failures: failed ones in a row.
        doubt: why an operator may have to say what became of it, "" if all is known.
    """

    allocation: str = ""
    state: str = "none"
    handle: str = ""
    execution: str = ""
    sentence: str = ""
    reason: str = ""
    remark: str = ""
    hindrance: Hindrance | None = None
    failures: int = 0
    doubt: str = ""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run that names this site.

    Attributes:
        policy: what the policy says to the manifest by itself, "" while the manifest is not here.
        answer: what this site told the coordinator: "accepted", "declined", "" for nothing yet.
        sentence: why.
        no_start: why the policy lets no job start now, "" if it does: hours, maintenance, a budget.
        draining: why the policy tells a running job to end, "" if it does not.
        waits_for_operator: whether only `run accept` or `run refuse` decides.
        tasks: what became of the newest evaluation of benchmark tasks, a sentence each; none while there was none.
        verdicts: what became of the newest rounds that this site was invited to, the newest first.
    """

    run: str
    state: str
    manifest_digest: str
    policy: str
    answer: str
    sentence: str
    waits_for_operator: bool
    num_commits: int
    num_rounds: int
    open_rounds: tuple[int, ...]
    allocation: AllocationView
    no_start: str = ""
    draining: str = ""
    verdicts: tuple[VerdictView, ...] = ()
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SiteView:
    """Everything that the commands show."""

    site: str
    ledger_size: int
    heard_at_us: int
    silent: bool
    fault: str
    blobs_wanted: int
    waits_for_witnesses: bool
    runs: tuple[RunView, ...]


def view_of(
    settings: AgentSettings, state: AgentState, federation: Federation, seen: Observations, now_us: int
) -> SiteView:
    """The view now. Pure."""
    status, site = status_of(settings, state, federation, seen), settings.site
    states = {report.run: report.state.value for report in status.allocations}
    runs = derived.runs_of(federation, site)
    fresh = now_us - settings.adopt_grace_seconds * 1e6
    return SiteView(
        site=site,
        ledger_size=federation.size,
        heard_at_us=seen.heard_at_us - seen.heard_at_us % 60_000_000,
        silent=derived.silent(settings, seen, now_us),
        fault=seen.fault,
        blobs_wanted=len(status.blobs_wanted),
        waits_for_witnesses=status.waits_for_witnesses,
        runs=tuple(
            replace(_run_view(run, state, seen, states.get(run.id, "none"), fresh), verdicts=verdicts_of(run, site))
            for run in runs
        ),
    )


def _run_view(run: Run, state: AgentState, seen: Observations, allocation_state: str, fresh: float) -> RunView:
    manifest, answer = seen.manifests.get(run.id), state.answers.get(run.id)
    word = "" if answer is None else "accepted" if answer.accepted else "declined"
    sentence = answer.sentence if answer else manifest.sentence if manifest else "the manifest has not arrived yet"
    return RunView(
        run=run.id,
        state=run.state.value,
        manifest_digest=run.manifest_digest,
        policy=manifest.answer.value if manifest else "",
        answer=word,
        sentence=sentence,
        waits_for_operator=answer is None and manifest is not None and derived.asks_for_answer(run),
        num_commits=run.num_commits(),
        num_rounds=run.plan.num_rounds,
        open_rounds=run.open_rounds,
        no_start=manifest.shortage if manifest and _may_want_jobs(run, word) else "",
        draining=manifest.stop_sentence if manifest and _may_want_jobs(run, word) else "",
        allocation=_allocation_view(run.id, state, seen, allocation_state, fresh),
        tasks=_tasks(run.id, state),
    )


def _tasks(run: str, state: AgentState) -> tuple[str, ...]:
    newest = next((state.tasks[key] for key in reversed(list(state.tasks)) if key[0] == run), None)
    if newest is None:
        return ()
    num_scores, commits = len(newest.evaluation.scores), newest.evaluation.num_commits
    head = f"tasks of the model of {count(commits, 'commit')}: {count(num_scores, 'score')}"
    return (head, *(f"not scored: {problem}" for problem in newest.problems))


def _may_want_jobs(run: Run, answer: str) -> bool:
    return answer == "accepted" and run.state not in (RunState.COMPLETED, RunState.ABORTED)


def _allocation_view(
    run: str, state: AgentState, seen: Observations, allocation_state: str, fresh: float
) -> AllocationView:
    found = state.allocations.get(run, ())
    if not found:
        return AllocationView()
    job, human = derived.job_of(run, state, seen), seen.humans.get(run)
    return AllocationView(
        allocation=found[-1].id,
        state=allocation_state,
        handle=found[-1].handle,
        execution=job.execution.value if job else "",
        sentence=found[-1].end.sentence if found[-1].end else "",
        reason=found[-1].end.reason if found[-1].end else "",
        remark=job.remark if job else "",
        hindrance=derived.hindrance(job),
        failures=derived.failures_in_a_row(run, state, human.retry_at_us if human else 0),
        doubt=_doubt(found[-1], job, fresh),
    )


def _doubt(newest: Allocation, job: AllocationSeen | None, fresh: float) -> str:
    """What cannot be told of an allocation that is older than `fresh`, in microseconds."""
    if not newest.live or job is None or newest.intended_at_us > fresh:
        return ""
    if not newest.handle:
        return "it cannot be told whether its job was submitted" if job.attempted else ""
    return "it cannot be told whether its job still runs" if job.execution is Execution.UNKNOWN else ""


class ViewFile:
    """The view on disk, replaced when it changes."""

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._last: SiteView | None = None

    def show(self, view: SiteView) -> None:
        """Writes the view if it differs from the last one."""
        if view != self._last:
            write_record(self._fs, layout.VIEW, view)
            self._last = view


def read_view(fs: FileSystem) -> SiteView | None:
    """The newest view that an agent wrote, None if none ever ran."""
    return read_record(fs, layout.VIEW, SiteView)
