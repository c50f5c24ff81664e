# SPDX-License-Identifier: Apache-2.0
"""Writes the agent's side of the files that it exchanges with jobs: orders and outcomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from federation.blobs.store import BlobStore
from federation.durable.api import FileSystem
from site_agent import instructions as do
from site_agent import jobs, layout
from site_agent.data_sets import DataSet
from site_agent.jobs import (
    Claim,
    EvaluationOrder,
    OutcomeFile,
    OutcomeKind,
    RoundOrder,
    StopOrder,
    WorkOrder,
    write_record,
)
from site_agent.task_orders import NO_TASKS, TaskPlan

CLOSED: Final = "closed"
"""Owner of an allocation that the agent has closed; no execution has such a name."""


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """What site.toml says about jobs; see `jobs.WorkOrder`. `data_dir` is absolute, `commands` are per trainer."""

    data_dir: str
    languages: tuple[str, ...]
    seed: int = 0
    num_threads: int = 1
    num_codec_threads: int = 0
    check_theta_every: int = 1
    device: str = "cpu"
    max_idle_seconds: float = 600.0
    seconds_limit: int = 0
    data_sets: tuple[DataSet, ...] = ()
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parallelism: str = "ddp"
    drain_seconds: int = 0
    evaluation: TaskPlan = NO_TASKS


class OrderDesk:
    """Writes orders and outcomes below one directory; every file is replaced atomically and durably."""

    def __init__(self, fs: FileSystem, root: Path, blobs: BlobStore, site: str, settings: JobSettings) -> None:
        self._fs, self._root, self._blobs, self._site, self._settings = fs, root, blobs, site, settings

    def work(self, instruction: do.SubmitAllocation, trainer: str) -> None:
        """The manifest in the run's directory, then the allocation's work order for the trainer of that name."""
        run, number = instruction.run, instruction.number
        manifest = layout.run_paths(run).manifest
        self._blobs.link_to(instruction.manifest_digest, manifest)
        settings = self._settings
        allowed = tuple(found for found in settings.data_sets if found.name in instruction.data_sets)
        order = WorkOrder(
            run=run,
            site=self._site,
            allocation=f"a{number}",
            fencing=instruction.fencing,
            manifest_path=self._absolute(manifest),
            theta0_path=self._absolute(self._blobs.path(instruction.theta_blob)),
            run_dir=self._absolute(layout.run_paths(run).base),
            data_dir=settings.data_dir,
            languages=tuple(sorted({found.language for found in allowed})) or settings.languages,
            data_sets=allowed,
            seed=settings.seed,
            num_threads=settings.num_threads,
            num_codec_threads=settings.num_codec_threads,
            check_theta_every=settings.check_theta_every,
            device=settings.device,
            max_idle_seconds=settings.max_idle_seconds,
            seconds_limit=settings.seconds_limit,
            command=settings.commands.get(trainer, ()),
            parallelism=settings.parallelism,
            drain_seconds=settings.drain_seconds,
            evaluation=settings.evaluation,
        )
        write_record(self._fs, layout.allocation_paths(run, number).order, order)

    def round(self, instruction: do.IssueRound) -> None:
        """A round's order."""
        order = RoundOrder(
            round=instruction.round,
            fragment=instruction.fragment,
            base_version=instruction.base_version,
            base_digest=instruction.base_digest,
            lr_position=instruction.lr_position,
            num_steps=instruction.num_steps,
            generation=instruction.generation,
        )
        paths = layout.allocation_paths(instruction.run, instruction.allocation)
        write_record(self._fs, paths.round_order(instruction.round), order)

    def outcome(self, instruction: do.WriteOutcome) -> OutcomeFile:
        """A round's outcome; returns what was written."""
        outcome = OutcomeFile(
            round=instruction.round,
            kind=OutcomeKind(instruction.kind),
            fragment=instruction.fragment,
            version=instruction.version,
            theta_digest=instruction.theta_digest,
            blob_path=self._blob_path(instruction.blob_digest),
            listed_payload_digest=instruction.listed_payload_digest,
            snapshot_path=self._blob_path(instruction.snapshot_digest),
        )
        write_record(self._fs, layout.run_paths(instruction.run).outcome(instruction.round), outcome)
        return outcome

    def evaluation(self, instruction: do.IssueEvaluation) -> None:
        """An evaluation's order."""
        order = EvaluationOrder(
            id=instruction.id,
            request=instruction.request,
            num_commits=instruction.num_commits,
            versions=instruction.versions,
            chains=tuple(tuple(self._link(link) for link in chain) for chain in instruction.chains),
        )
        paths = layout.allocation_paths(instruction.run, instruction.allocation)
        path = paths.task_order if instruction.of_tasks else paths.evaluation
        write_record(self._fs, path(instruction.id), order)

    def close(self, run: str, number: int) -> None:
        """Takes the claim of an allocation that has ended: whatever may still start or go on for it is fenced off.

        A job that was thought lost, a submission that comes through late, a requeue by hand: each finds another owner.
        """
        paths = layout.allocation_paths(run, number)
        self._fs.mkdir(paths.claim)
        # The marker first: a job that wrote its own claim after that looks for it, one that did before loses the claim.
        self._fs.write(paths.closed, b"")
        write_record(self._fs, paths.owner, Claim(execution=CLOSED, fencing=0))

    def is_closed(self, run: str, number: int) -> bool:
        """Whether `close` was done to its end: the owner is written last."""
        owner = jobs.read_record(self._fs, layout.allocation_paths(run, number).owner, Claim)
        return owner is not None and owner.execution == CLOSED

    def stop(self, instruction: do.OrderStop) -> None:
        """The order to end; a refused run's evaluations are left, others are finished first."""
        order = StopOrder(reason=instruction.reason, finish_evaluations=instruction.reason != "refused")
        write_record(self._fs, layout.allocation_paths(instruction.run, instruction.allocation).stop, order)

    def allocation_path(self, run: str, number: int) -> Path:
        """Absolute path of an allocation's directory."""
        return self._root / layout.allocation_dir(run, number)

    def _link(self, link: do.ChainLink) -> jobs.ChainLink:
        return jobs.ChainLink(
            version=link.version,
            blob_path=self._blob_path(link.blob_digest),
            theta_digest=link.theta_digest,
            snapshot_path=self._blob_path(link.snapshot_digest),
        )

    def _blob_path(self, digest: str) -> str:
        return self._absolute(self._blobs.path(digest)) if digest else ""

    def _absolute(self, path: str) -> str:
        return str(self._root / path)
