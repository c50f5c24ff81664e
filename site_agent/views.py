# SPDX-License-Identifier: Apache-2.0
"""What the operator's commands show: a projection that the agent writes, so that they never touch its journal."""

from dataclasses import dataclass

from federation.durable.api import FileSystem
from federation.rounds import Federation, Run
from site_agent import derived, layout
from site_agent.agent_state import AgentState
from site_agent.json_records import read_record, write_record
from site_agent.observations import AgentSettings, Observations
from site_agent.status import status_of


@dataclass(frozen=True, kw_only=True)
class AllocationView:
    """The newest allocation of a run. `sentence` is of its end, `failures` counts failed ones in a row."""

    allocation: str = ""
    state: str = "none"
    handle: str = ""
    execution: str = ""
    sentence: str = ""
    failures: int = 0


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run that names this site.

    Attributes:
        policy: what the policy says to the manifest by itself, "" while the manifest is not here.
        answer: what this site told the coordinator: "accepted", "declined", "" for nothing yet.
        sentence: why.
        waits_for_operator: whether only `run accept` or `run refuse` decides.
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
    status = status_of(settings, state, federation, seen)
    states = {report.run: report.state.value for report in status.allocations}
    runs = derived.runs_of(federation, settings.site)
    return SiteView(
        site=settings.site,
        ledger_size=federation.size,
        heard_at_us=seen.heard_at_us - seen.heard_at_us % 60_000_000,
        silent=derived.silent(settings, seen, now_us),
        fault=seen.fault,
        blobs_wanted=len(status.blobs_wanted),
        waits_for_witnesses=status.waits_for_witnesses,
        runs=tuple(_run_view(run, state, seen, states.get(run.id, "none")) for run in runs),
    )


def _run_view(run: Run, state: AgentState, seen: Observations, allocation_state: str) -> RunView:
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
        allocation=_allocation_view(run.id, state, seen, allocation_state),
    )


def _allocation_view(run: str, state: AgentState, seen: Observations, allocation_state: str) -> AllocationView:
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
        failures=derived.failures_in_a_row(run, state, human.retry_at_us if human else 0),
    )


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
