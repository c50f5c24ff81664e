# SPDX-License-Identifier: Apache-2.0
"""Allocations of jobs that torchrun starts with several ranks: rank 0 holds the claim, the others follow it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from federation.durable.api import FileSystem
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError
from federation.manifest import Manifest
from site_agent.inner_loop.allocation import Allocation, Member, ModelDiffersError, ended_by, read_checked_manifest
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.following import Follower
from site_agent.inner_loop.leading import BeatingClock, Leader, LeadingExchange
from site_agent.inner_loop.owned_exchange import OwnedExchange
from site_agent.inner_loop.owned_model import OwnedModel, read_owned_theta0
from site_agent.inner_loop.owned_parameters import OwnedParameters
from site_agent.inner_loop.patience import Clock, SystemClock
from site_agent.inner_loop.preflight import preflight, write_preflight
from site_agent.inner_loop.rank_checkpoints import LeadingCheckpoints, RankCheckpoints
from site_agent.inner_loop.seam import Evaluator, TaskScorer, Trainer
from site_agent.inner_loop.spool import last_word_of
from site_agent.inner_loop.team import RankLostError, Team, Teams, gather_teams, rank_here, world_size_here
from site_agent.inner_loop.writer import BackgroundWriter
from site_agent.jobs import AllocationPaths, Claim, JobEnded, RunPaths, WorkOrder, read_record
from site_agent.json_records import encode

T = TypeVar("T")
E = TypeVar("E", bound=OwnedExchange)


class LeadingAllocation(Allocation):
    """Rank 0's: claimed first, then the other ranks are met."""

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        """As `Allocation`.

        Raises:
            RankLostError: the other ranks did not come.
        """
        super().__init__(directory, clock)
        with super().reporting_failures():
            self._teams = gather_teams(backend_for(self.order))
        self._beating = BeatingClock(self._clock, self._teams.training)
        self._clock = self._beating

    def together(self, work: Callable[[], T]) -> T:
        """work() on every rank; an error of any rank is everybody's."""
        return self._teams.training.agree(work)

    def read_manifest(self) -> Manifest:
        """As `Allocation.read_manifest`: every machine has shown that it computes like all others."""
        return self.together(super().read_manifest)

    def check_machine(self) -> None:
        """Looks at what every rank runs on, and writes it down."""
        report = preflight(self.order.device, self._teams.training, golden_problem="")
        self.together(lambda: write_preflight(self._fs, report))

    def member(
        self, manifest: Manifest, trainer: Trainer, evaluator: Evaluator | None, tasks: TaskScorer | None = None
    ) -> Member:
        """What the training program calls on rank 0."""
        return Leader(self.loop(manifest, trainer, evaluator, tasks), self._teams.training, self._beating)

    def _exchange_of(self, manifest: Manifest, trainer: Trainer) -> Exchange:
        return owned_exchange(LeadingExchange, self.order, manifest, trainer, self._teams.training)

    def make_checkpoints(self, run: FileSystem) -> LeadingCheckpoints:
        """Written by all ranks."""
        return LeadingCheckpoints(run, RunPaths().training, self._teams)

    def close(self, ended: JobEnded) -> None:
        """As `Allocation.close`; from here on the other ranks hear nothing more."""
        if hasattr(self, "_beating"):
            self._beating.is_followed = False
        super().close(ended)

    @contextmanager
    def reporting_failures(self) -> Iterator[None]:
        """As `Allocation.reporting_failures`; of a rank that was lost it is said which one."""
        with super().reporting_failures(), self._teams.training.losing_ranks():
            yield


class FollowingAllocation:
    """Any other rank's: reads the work order, writes nothing there while rank 0 lives."""

    def __init__(self, directory: Path) -> None:
        """Waits for rank 0, which claims the allocation first.

        Raises:
            ConfigError: there is no order.
            RankLostError: rank 0 did not come.
        """
        fs, paths = RealFileSystem(directory), AllocationPaths()
        order = read_record(fs, paths.order, WorkOrder)
        if order is None:
            raise ConfigError(f"{directory}: expected a work order ({paths.order}), found none")
        self.order, self._fs, self._run = order, fs, RealFileSystem(Path(order.run_dir))
        self._teams: Teams = gather_teams(backend_for(order))
        self._claim = read_record(fs, paths.owner, Claim)
        self._writer = BackgroundWriter()

    def together(self, work: Callable[[], T]) -> T:
        """work() on every rank; an error of any rank is everybody's."""
        return self._teams.training.agree(work)

    def read_manifest(self) -> Manifest:
        """The run's manifest. Raises as `Allocation.read_manifest`, on every rank alike."""
        return self.together(lambda: read_checked_manifest(self.order))

    def check_machine(self) -> None:
        """Tells rank 0 what this rank runs on."""
        preflight(self.order.device, self._teams.training, golden_problem="")
        self.together(lambda: None)

    def member(
        self, manifest: Manifest, trainer: Trainer, evaluator: Evaluator | None, tasks: TaskScorer | None = None
    ) -> Member:
        """What the training program calls on this rank. Raises ModelDiffersError."""
        team = self._teams.training
        try:
            exchange = owned_exchange(OwnedExchange, self.order, manifest, trainer, team)
        except ConfigError as error:
            raise ModelDiffersError(str(error), advice=error.advice) from error
        checkpoints = RankCheckpoints(self._run, RunPaths().training, self._teams)
        return Follower(trainer=trainer, exchange=exchange, checkpoints=checkpoints, team=team, writer=self._writer)

    def close(self, ended: JobEnded) -> None:
        """Rank 0 has the last word."""
        self._writer.close()

    @contextmanager
    def reporting_failures(self) -> Iterator[None]:
        """Rank 0 reports; here they are only raised, unless it is rank 0 that was lost.

        Raises:
            RankLostError: the rank that was lost, as seen from here; after rank 0 has said what it saw.
        """
        try:
            with self._teams.training.losing_ranks():
                yield
        except RankLostError as error:
            self._teams.training.outlast_leader()
            self._speak_for_leader(error)
            raise

    def _speak_for_leader(self, error: RankLostError) -> None:
        """Where rank 0 is gone without a last word, the lowest rank that is left has it."""
        team, paths = self._teams.training, AllocationPaths()
        gone, owner = team.gone(), read_record(self._fs, paths.owner, Claim)
        leads_now = gone[: team.rank] == tuple(range(team.rank))
        if leads_now and owner is not None and owner == self._claim:
            # What is there already stays: rank 0 may have said it on a machine whose files are seen late here.
            ended = ended_by(error, owner.fencing)
            if self._fs.create(paths.ended, encode(ended)):
                self._fs.write(paths.last_word, last_word_of(ended))


AnyAllocation = Allocation | FollowingAllocation


def open_allocation(directory: Path) -> AnyAllocation:
    """This process's view of an allocation, by what torchrun says of it: alone, rank 0, or another rank.

    Raises:
        ConfigError: there is no order.
        FencedError: another execution owns this allocation.
        RankLostError: the other ranks did not come.
    """
    if world_size_here() == 1:
        return Allocation(directory)
    return LeadingAllocation(directory, SystemClock()) if rank_here() == 0 else FollowingAllocation(directory)


def owned_exchange(kind: type[E], order: WorkOrder, manifest: Manifest, trainer: Trainer, team: Team) -> E:
    """What computes on the chunks that this rank owns. Collective.

    Raises:
        ConfigError: the trainer's model or theta_0 is not the manifest's.
    """
    local = OwnedParameters(trainer.local_shards, manifest.fragments, team)
    theta0 = Path(order.theta0_path)
    model = OwnedModel(
        manifest,
        lambda: read_owned_theta0(theta0, manifest, team),
        team,
        num_threads=order.num_codec_threads,
        check_every=order.check_theta_every,
    )
    return kind(manifest, model, local, team)


def backend_for(order: WorkOrder) -> str:
    """What torch calls the transport of gradients: NCCL on accelerators (also ROCm's, RCCL), gloo on processors."""
    return backend_of(order.device)


def backend_of(device: str) -> str:
    """As `backend_for`, for a device as site.toml names it."""
    return "gloo" if device.startswith("cpu") else "cpu:gloo,cuda:nccl"
