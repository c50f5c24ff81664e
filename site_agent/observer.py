# SPDX-License-Identifier: Apache-2.0
"""Looks at everything that a pass needs to see besides ledger and journal: job files, launcher, blobs, answers.

Job files are written by training code, so they are checked like a peer's input; a damaged one is as good as none.
Looking changes nothing but one thing: a finished payload is verified, fsynced and linked into the blob store, so that
whatever is signed afterwards is durable.
"""

import logging
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from federation.blobs.store import BlobStore
from federation.durable.api import FileSystem
from federation.errors import FederationError, TrustError
from federation.ids import is_digest, is_slug
from federation.ledger.copy import LedgerCopy
from federation.ledger.store import by_site
from federation.limits import DEFAULT_LIMITS
from federation.rounds import Federation, Run
from site_agent import derived, job_files, layout, snapshots
from site_agent.agent_state import AgentState, Allocation
from site_agent.budget import size_of, to_account
from site_agent.failures import code_of_state
from site_agent.job_files import BatchSeen
from site_agent.jobs import OutcomeFile, numbered, read_record
from site_agent.launcher.api import Launcher
from site_agent.launcher.slurm.waiting import hindrance_of
from site_agent.manifests import ManifestJudge, origin_of
from site_agent.observations import (
    AllocationSeen,
    EvaluationSeen,
    Execution,
    HumanAnswer,
    ManifestSeen,
    Observations,
    OutcomeSeen,
    SnapshotSeen,
    TasksSeen,
    UpdateSeen,
)
from site_agent.policy import Origin
from site_agent.start_delay import SuggestedStart, SuggestionSeen, begin_after_seconds

LOG: Final = logging.getLogger("site_agent")
FP32_BYTES: Final = 4
T = TypeVar("T")


class Observer:
    """This site's eyes. What cannot change any more (a judged manifest, an imported update) is looked at once."""

    def __init__(
        self,
        fs: FileSystem,
        blobs: BlobStore,
        copy: LedgerCopy,
        judge: ManifestJudge,
        launchers: Mapping[str, Launcher],
    ) -> None:
        self._fs, self._blobs, self._copy = fs, blobs, copy
        self._judge, self._launchers = judge, launchers
        self._site = judge.site
        self._manifests: dict[tuple[str, str, Origin], ManifestSeen] = {}
        self._outcomes: dict[str, dict[int, OutcomeSeen]] = {}
        self._updates: dict[tuple[str, int, int], UpdateSeen] = {}
        self._evaluations: dict[str, EvaluationSeen] = {}
        self._tasks: dict[str, TasksSeen] = {}
        self._orders: job_files.Orders = {}
        self._complained: set[str] = set()

    def observe(
        self,
        state: AgentState,
        federation: Federation,
        *,
        heard_at_us: int,
        fault: str,
        now_us: int,
        suggested: Mapping[str, SuggestedStart] = MappingProxyType({}),
    ) -> Observations:
        """One look at everything; `suggested`: what the coordinator said about the start of new jobs."""
        runs = [run for run in derived.runs_of(federation, self._site) if is_slug(run.id)]
        manifests = self._see_manifests(runs, state, federation, now_us)
        thetas = {run: manifest.theta_blob for run, manifest in manifests.items()}
        needed = derived.needed_blobs(federation, state, self._site, thetas)
        live = [(run, allocation) for run in runs if (allocation := state.live_allocation(run.id)) is not None]
        size = self._copy.size
        return Observations(
            manifests=manifests,
            humans=self._see_humans(),
            allocations={run.id: self._see_allocation(allocation, manifests, now_us) for run, allocation in live},
            updates=tuple(u for run in runs for u in self._see_updates(run, state)),
            evaluations=tuple(e for run in runs for e in self._see_evaluations(run.id, state)),
            tasks=tuple(found for run in runs for found in self._see_tasks(run.id, state)),
            outcomes=self._see_outcomes(runs),
            snapshots={(run.id, p): s for run in runs for p, s in self._see_snapshots(run.id, manifests.get(run.id))},
            blobs=frozenset(digest for digest in needed if self._blobs.has(digest)),
            witnessed=by_site(self._judge.consortium, self._copy.witnessed),
            checkpoint_size=size,
            checkpoint_root=self._copy.root() if size else "",
            accounts=self._see_accounts(state, manifests, now_us),
            suggestions=dict(self._see_suggestions(suggested, state, manifests, now_us)),
            heard_at_us=heard_at_us,
            fault=fault,
        )

    @property
    def judge(self) -> ManifestJudge:
        """The policy in force."""
        return self._judge

    def adopt(self, judge: ManifestJudge) -> None:
        """The site's policy has changed: every manifest is judged anew."""
        self._judge = judge
        self._manifests.clear()

    def trainer_of(self, run: str) -> str:
        """Name of the trainer that the run's manifest asks for, "" if that is not known."""
        return next((m.trainer for (name, *_), m in self._manifests.items() if name == run and m.trainer), "")

    def outcome_written(self, run: str, outcome: OutcomeFile) -> None:
        """Outcomes are read from disk once per process; who writes one says so here."""
        self._outcomes[run][outcome.round] = job_files.outcome_seen(outcome)

    # --- manifests and answers ----------------------------------------------------------------------------------------

    def _see_manifests(
        self, runs: list[Run], state: AgentState, federation: Federation, now_us: int
    ) -> dict[str, ManifestSeen]:
        found: dict[str, ManifestSeen] = {}
        for run in runs:
            manifest = self._see_manifest(run, origin_of(federation, run))
            if manifest is not None:
                found[run.id] = self._judge.today(manifest, state, now_us)
        return found

    def _see_manifest(self, run: Run, origin: Origin) -> ManifestSeen | None:
        key = (run.id, run.manifest_digest, origin)
        try:
            if key not in self._manifests and self._blobs.has(run.manifest_digest):
                data = self._blobs.read(run.manifest_digest, max_bytes=DEFAULT_LIMITS.max_manifest_bytes)
                self._manifests[key] = self._judge.judge(run, data, origin)
        except FederationError as error:
            self._complain(f"manifest of run {run.id}: {error}")
        return self._manifests.get(key)

    def _see_humans(self) -> dict[str, HumanAnswer]:
        found: dict[str, HumanAnswer] = {}
        for name in self._fs.list(layout.ANSWERS):
            run = name.removesuffix(".json")
            answer = self._record(f"{layout.ANSWERS}/{name}", HumanAnswer) if is_slug(run) else None
            if answer is not None and answer.run == run:
                found[run] = answer
        return found

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def _see_allocation(self, live: Allocation, manifests: Mapping[str, ManifestSeen], now_us: int) -> AllocationSeen:
        manifest = manifests.get(live.run)
        launcher = self._launchers.get(manifest.trainer) if manifest else None
        batch = _look(launcher, live, now_us) if launcher is not None and live.handle else BatchSeen()
        hindrance = hindrance_of(batch.remark) if batch.execution is Execution.QUEUED else None
        if hindrance is not None:
            what = f"{hindrance.code} ({batch.remark}): {hindrance.sentence}"
            self._complain(f"allocation {live.run}/{live.id} waits, {what}. {hindrance.advice}")
        try:
            return job_files.allocation_seen(self._fs, live, batch, self._orders)
        except FederationError as error:
            self._complain(f"allocation {live.run}/{live.id}: {error}")
            return AllocationSeen(run=live.run, number=live.number, execution=batch.execution)

    def _see_accounts(
        self, state: AgentState, manifests: Mapping[str, ManifestSeen], now_us: int
    ) -> dict[tuple[str, int], tuple[float, int]]:
        """What the batch system's accounting says of jobs that have ended; nothing where it doesn't know them yet."""
        found = {}
        for allocation in to_account(state, now_us):
            manifest = manifests.get(allocation.run)
            launcher = self._launchers.get(manifest.trainer) if manifest else None
            usage = launcher.usage(allocation.handle) if launcher is not None else None
            if usage is not None:
                found[allocation.run, allocation.number] = (usage.elapsed_seconds, usage.num_gpus)
        return found | dict(self._see_requeues(state, manifests))

    def _see_requeues(
        self, state: AgentState, manifests: Mapping[str, ManifestSeen]
    ) -> Iterator[tuple[tuple[str, int], tuple[float, int]]]:
        """What live jobs used before they were requeued, where more is known than was journaled."""
        for run, manifest in manifests.items():
            live, launcher = state.live_allocation(run), self._launchers.get(manifest.trainer)
            if live is None or not live.handle or launcher is None:
                continue
            seconds = launcher.earlier_seconds(live.handle)
            if seconds is not None and seconds > (live.accounted.elapsed_seconds if live.accounted else 0.0):
                yield (run, live.number), (seconds, size_of(live, self._judge.job).num_gpus)

    def _see_suggestions(
        self,
        suggested: Mapping[str, SuggestedStart],
        state: AgentState,
        manifests: Mapping[str, ManifestSeen],
        now_us: int,
    ) -> Iterator[tuple[str, SuggestionSeen]]:
        """Suggestions that are young enough, with what the policy says to them where a new job may be due."""
        for run, manifest in manifests.items():
            seconds = suggested[run].seconds_left(now_us) if run in suggested else None
            if seconds is None:
                continue
            if manifest.shortage or state.live_allocation(run) is not None:
                yield run, SuggestionSeen(seconds=seconds)
            else:
                latest = self._judge.latest_start_seconds(manifest, state, now_us, seconds)
                yield run, SuggestionSeen(seconds=seconds, latest_seconds=latest)

    def _see_updates(self, run: Run, state: AgentState) -> list[UpdateSeen]:
        """What jobs left for open rounds that are not settled, from the allocation that each was ordered of last."""
        found = []
        for opened, _ in derived.my_open_rounds(run, self._site):
            number = state.issued.get((run.id, opened.number))
            key = (run.id, opened.number, opened.fragment, opened.base_digest)
            if number is not None and key not in state.signed:
                update = self._see_update(run.id, number, opened.number, state)
                found += [update] if update else []
        return found

    def _see_update(self, run: str, number: int, round_number: int, state: AgentState) -> UpdateSeen | None:
        key = (run, number, round_number)
        if key in self._updates:
            return self._updates[key]
        allocation = next(a for a in state.allocations[run] if a.number == number)
        try:
            update = job_files.update_seen(self._fs, allocation, round_number)
        except FederationError as error:
            self._complain(f"update of round {run}/{round_number}: {error}")
            return None
        if update is None or update.problem:
            return update
        path = layout.allocation_paths(run, number).payload(round_number)
        try:
            self._blobs.import_file(path, update.payload_digest, max_bytes=update.payload_bytes)
        except (TrustError, KeyError) as error:  # not what the job said; no space is another matter
            return job_files.with_problem(update, f"payload: {error}")
        self._updates[key] = update
        return update

    def _see_evaluations(self, run: str, state: AgentState) -> list[EvaluationSeen]:
        found = []
        for allocation in state.allocations.get(run, ())[-2:]:
            paths = layout.allocation_paths(run, allocation.number)
            for number in numbered(self._fs, paths.evaluations, ".result.json"):
                evaluation = self._see_evaluation(allocation, paths.evaluation_result(number))
                found += [evaluation] if evaluation else []
        return found

    def _see_evaluation(self, allocation: Allocation, path: str) -> EvaluationSeen | None:
        if path not in self._evaluations:
            try:
                self._evaluations[path] = job_files.evaluation_seen(self._fs, allocation, path)
            except FederationError as error:
                self._complain(f"evaluation: {error}")
                return None
        return self._evaluations[path]

    def _see_tasks(self, run: str, state: AgentState) -> Iterator[TasksSeen]:
        for allocation in state.allocations.get(run, ())[-2:]:
            paths = layout.allocation_paths(run, allocation.number)
            for number in numbered(self._fs, paths.tasks, job_files.RESULT):
                path = paths.task_result(number)
                try:
                    self._tasks[path] = self._tasks.get(path) or job_files.tasks_seen(self._fs, allocation, number)
                    yield self._tasks[path]
                except FederationError as error:
                    self._complain(f"tasks: {error}")

    def _see_outcomes(self, runs: list[Run]) -> dict[tuple[str, int], OutcomeSeen]:
        for run in runs:
            if run.id not in self._outcomes:
                self._outcomes[run.id] = self._read_outcomes(run.id)
        names = [run.id for run in runs]
        return {(run, n): seen for run in names for n, seen in self._outcomes[run].items()}

    def _read_outcomes(self, run: str) -> dict[int, OutcomeSeen]:
        paths = layout.run_paths(run)
        found = {}
        for number in numbered(self._fs, paths.outcomes):
            outcome = self._record(paths.outcome(number), OutcomeFile)
            if outcome is not None and outcome.round == number:
                found[number] = job_files.outcome_seen(outcome)
        return found

    def _see_snapshots(self, run: str, manifest: ManifestSeen | None) -> Iterator[tuple[int, SnapshotSeen]]:
        """Of each fragment the snapshot that the coordinator named, once its blob is durable."""
        sizes = manifest.num_elements if manifest else ()
        for fragment, found in snapshots.noted(self._fs, run):
            digest = found.blob_digest
            if fragment < len(sizes) and (not digest or (is_digest(digest) and self._blobs.has(digest))):
                usable = bool(digest) and self._blobs.size(digest) == FP32_BYTES * sizes[fragment]
                yield fragment, SnapshotSeen(version=found.version, blob_digest=digest, usable=usable)

    def _record(self, path: str, kind: type[T]) -> T | None:
        try:
            return read_record(self._fs, path, kind)
        except FederationError as error:
            self._complain(f"{path}: {error}")
            return None

    def _complain(self, sentence: str) -> None:
        """Once per process: a pass comes twice a second."""
        if sentence not in self._complained:
            self._complained.add(sentence)
            LOG.warning("%s", sentence)


def _look(launcher: Launcher, live: Allocation, now_us: int) -> BatchSeen:
    """What the launcher says of one job."""
    handle = live.handle
    execution = Execution(launcher.query(handle))
    usage = launcher.usage(handle) if execution is Execution.ENDED else None
    return BatchSeen(
        execution=execution,
        restarts=launcher.restarts(handle),
        can_requeue=launcher.can_requeue,
        fate=code_of_state(usage.state, usage.reason) if usage else "",
        remark=launcher.remark(handle) if execution in (Execution.QUEUED, Execution.UNKNOWN) else "",
        start_in_seconds=_start_in_seconds(launcher, live, now_us) if execution is Execution.QUEUED else 0,
    )


def _start_in_seconds(launcher: Launcher, live: Allocation, now_us: int) -> int:
    """As the batch system expects it, but not before the moment that the job was told to wait for."""
    return max(launcher.start_in_seconds(live.handle, now_us / 1e6), begin_after_seconds(live, now_us))
