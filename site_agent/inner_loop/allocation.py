# SPDX-License-Identifier: Apache-2.0
"""A job's allocation: claimed, read, and everything that its inner loop is made of.

In a job of several ranks rank 0 holds it; `rank_allocations` has what the ranks do otherwise.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

from federation.durable.api import FileSystem
from federation.durable.failpoints import failpoint
from federation.durable.real import RealFileSystem
from federation.errors import (
    ConfigError,
    DigestMismatchError,
    FederationError,
    LossSpikeError,
    NonFiniteUpdateError,
    NumericsMismatchError,
    StorageError,
)
from federation.golden import check_golden_vectors
from federation.manifest import Manifest
from federation.wire import manifest_from_bytes
from site_agent.inner_loop.claim import FencedError, claim_allocation, this_execution
from site_agent.inner_loop.committed_model import SnapshotRefusedError
from site_agent.inner_loop.evaluations import EvaluationQueue
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.global_model import GlobalModel, read_theta0
from site_agent.inner_loop.loop import InnerLoop
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.patience import Clock, Patience, SystemClock
from site_agent.inner_loop.preflight import preflight, write_preflight
from site_agent.inner_loop.reporter import Reporter
from site_agent.inner_loop.seam import Evaluator, TaskScorer, Trainer, language_counter
from site_agent.inner_loop.spool import JobSpool
from site_agent.inner_loop.tasks import NobodyScores, TaskQueue
from site_agent.inner_loop.writer import BackgroundWriter, Latest
from site_agent.jobs import (
    AllocationPaths,
    EndCode,
    JobEnded,
    JobReport,
    JobState,
    RunPaths,
    WorkOrder,
    read_record,
)
from site_agent.trainer.checkpoint import TrainingCheckpoints
from site_agent.trainer.metrics import MetricsLog
from site_agent.trainer.task_command import CommandScorer

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Member(Protocol):
    """What a training program calls, whichever rank it is: the inner loop, or what stands for it."""

    @property
    def ended(self) -> JobEnded | None:
        """Why the job ended, None while it goes on."""

    @property
    def num_steps(self) -> int:
        """Inner steps that this site has taken in the run, over all allocations."""

    def begin(self, asked_to_end: Callable[[], str | None] = ...) -> None:
        """Continues from the newest training checkpoint, or starts from theta_0."""

    def prepare(self) -> float | None:
        """Does all that is due before the next inner step: its learning rate, or None at the job's end."""

    def complete(self, loss: float, tokens: int) -> None:
        """An inner step was taken: mean loss in nats per token, and tokens, of this process."""


class ModelDiffersError(ConfigError):
    """The trainer's model or theta_0 is not what the run's manifest describes."""


_END_CODES: tuple[tuple[type[Exception], EndCode], ...] = (
    (FencedError, EndCode.FENCED),
    (NonFiniteUpdateError, EndCode.NON_FINITE),
    (LossSpikeError, EndCode.LOSS_SPIKE),
    (NumericsMismatchError, EndCode.NUMERICS),
    (SnapshotRefusedError, EndCode.SNAPSHOT_REFUSED),
    (DigestMismatchError, EndCode.DIVERGED),
    (ModelDiffersError, EndCode.MODEL_DIFFERS),
)


ENDS_AT_VARIABLE = "FEDERATION_ENDS_AT"
"""Unix time at which the allocation's wall time is over, where the batch script knows it."""


def ends_at_here() -> float:
    """What the environment says of it, 0.0 if nothing."""
    said = os.environ.get(ENDS_AT_VARIABLE, "")
    return float(said) if said.isascii() and said.isdecimal() else 0.0


class Allocation:
    """A claimed allocation: order, manifest and files, before there is a model."""

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        """Reads the order and claims the allocation; nothing may be trained before.

        Raises:
            ConfigError: there is no order.
            FencedError: another execution owns this allocation.
        """
        self._fs = RealFileSystem(directory)
        paths = AllocationPaths()
        order = read_record(self._fs, paths.order, WorkOrder)
        if order is None:
            raise ConfigError(f"{directory}: expected a work order ({paths.order}), found none")
        self.order = order
        claim = this_execution(order.fencing)
        claim_allocation(self._fs, paths, claim)
        failpoint("job.after-claim")
        self._clock = clock or SystemClock()
        self._run = RealFileSystem(Path(order.run_dir))
        self._writer = BackgroundWriter()
        self._reports = Latest[JobReport](lambda report: self.spool.report(report))
        self._reporter: Reporter | None = None
        self.spool = JobSpool(self._fs, self._run, claim)
        self.spool.report(JobReport(fencing=claim.fencing, state=JobState.STARTING, updated_at=self._clock.now()))

    def read_manifest(self) -> Manifest:
        """The run's manifest, after this machine has shown that it computes like all others.

        Raises:
            NumericsMismatchError: it does not.
            ConfigError, ProtocolError: the file cannot be read, or is another run's.
        """
        return read_checked_manifest(self.order)

    def together(self, work: Callable[[], T]) -> T:
        """work(), where several ranks do it all of them; an error of any rank is everybody's."""
        return work()

    def check_machine(self) -> None:
        """Looks at what the job runs on, and writes it down. After `read_manifest`, which runs the golden vectors.

        Raises:
            PreflightFailedError: it does not compute what it should.
        """
        write_preflight(self._fs, preflight(self.order.device, golden_problem=""))

    def loop(
        self, manifest: Manifest, trainer: Trainer, evaluator: Evaluator | None, tasks: TaskScorer | None = None
    ) -> InnerLoop:
        """The inner loop of this trainer, not begun.

        Args:
            tasks: scores the benchmark tasks that the site has as files, with the trainer's model.

        Raises:
            ModelDiffersError: the trainer's model or theta_0 is not the manifest's.
            DigestMismatchError: theta_0 has other values than the sites agreed on.
        """
        patience = Patience(self.order, self._clock, ends_at_here())
        try:
            exchange = self._exchange_of(manifest, trainer)
        except ConfigError as error:
            raise ModelDiffersError(str(error), advice=error.advice) from error
        metrics = MetricsLog(self._run, RunPaths().metrics)
        counter = language_counter(trainer)
        self._reporter = Reporter(self.spool, metrics, patience, self._reports.put, counter)
        make_model = cache(lambda: self._make_model(manifest))  # one for all evaluations
        scorers, pause = self._task_scorers(manifest, tasks), self.order.evaluation.seconds_per_pause
        return InnerLoop(
            manifest=manifest,
            site=self.order.site,
            trainer=trainer,
            exchange=exchange,
            evaluations=EvaluationQueue(self.spool, evaluator, make_model),
            spool=self.spool,
            checkpoints=self.make_checkpoints(self._run),
            reporter=self._reporter,
            patience=patience,
            writer=self._writer,
            tasks=TaskQueue(self.spool, scorers, make_model, pause),
        )

    def member(
        self, manifest: Manifest, trainer: Trainer, evaluator: Evaluator | None, tasks: TaskScorer | None = None
    ) -> Member:
        """What the training program calls, not begun. Arguments and errors as of `loop`."""
        return self.loop(manifest, trainer, evaluator, tasks)

    def _task_scorers(self, manifest: Manifest, tasks: TaskScorer | None) -> list[TaskScorer]:
        """What scores the tasks of this site, each kind by what can."""
        wanted, scorers = self.order.evaluation, list[TaskScorer]()
        if wanted.of_files:
            scorers.append(tasks or NobodyScores(wanted.of_files))
        if wanted.of_command:
            scorers.append(CommandScorer(manifest, self.order, self._run))
        return scorers

    def _exchange_of(self, manifest: Manifest, trainer: Trainer) -> Exchange:
        local = LocalParameters(trainer.local_shards, manifest.fragments)
        return self.make_exchange(manifest, self._make_model(manifest), local)

    def _make_model(self, manifest: Manifest) -> GlobalModel:
        return GlobalModel(
            manifest,
            lambda: read_theta0(Path(self.order.theta0_path), manifest),
            num_threads=self.order.num_codec_threads,
            check_every=self.order.check_theta_every,
        )

    def make_exchange(self, manifest: Manifest, model: GlobalModel, local: LocalParameters) -> Exchange:
        """What computes at boundaries and merges."""
        return Exchange(manifest, model, local)

    def make_checkpoints(self, run: FileSystem) -> TrainingCheckpoints:
        """Where training checkpoints go, inside the run's directory."""
        return TrainingCheckpoints(run, RunPaths().training)

    def close(self, ended: JobEnded) -> None:
        """The last report and the last word, after what is still being written."""
        self._writer.close()
        self._reports.close()
        try:
            self.spool.report(self._final_report(ended))
        except StorageError as error:
            _log.warning("the last report was not written: %s", error)  # the last word may find room
        self.spool.write_ended(ended)

    def _final_report(self, ended: JobEnded) -> JobReport:
        now = self._clock.now()
        if self._reporter is not None:
            return self._reporter.final(ended, now)
        error = "" if ended.code.resumable else ended.sentence
        return JobReport(fencing=ended.fencing, state=JobState.ENDED, updated_at=now, error=error)

    @contextmanager
    def reporting_failures(self) -> Iterator[None]:
        """Whatever ends the job inside is reported to the agent, then raised further."""
        try:
            yield
        except FencedError:
            raise  # The files belong to another execution now.
        except Exception as error:
            self.close(ended_by(error, self.spool.claim.fencing))
            raise


def read_checked_manifest(order: WorkOrder) -> Manifest:
    """The run's manifest, after this machine has shown that it computes like all others.

    Raises:
        NumericsMismatchError: it does not.
        ConfigError, ProtocolError: the file cannot be read, or is another run's.
    """
    check_golden_vectors()
    path = Path(order.manifest_path)
    try:
        manifest = manifest_from_bytes(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: expected the run's manifest, found: {error.strerror}") from error
    if manifest.run != order.run:
        raise ConfigError(f"{path}: expected the manifest of run {order.run}, found run {manifest.run}")
    return manifest


def ended_by(error: Exception, fencing: int) -> JobEnded:
    """What a job's last word is after an error."""
    code = next((code for kind, code in _END_CODES if isinstance(error, kind)), EndCode.FAILED)
    sentence = error.diagnostics() if isinstance(error, FederationError) else f"{type(error).__name__}: {error}"
    return JobEnded(code=code, reason=type(error).__name__, sentence=sentence[:2000], fencing=fencing)


def ask_on_signals() -> Callable[[], str | None]:
    """From now on SIGTERM and SIGINT only set a word, which the returned function tells: the step is finished first.

    Outside the main thread, where Python allows no handlers, signals keep their meaning.
    """
    words: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: words.append(signal.Signals(received).name.lower()))
    return lambda: words[0] if words else None
