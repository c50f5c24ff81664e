# SPDX-License-Identifier: Apache-2.0
"""A job from its allocation's directory: for the reference trainer, and for anybody's torch loop in three lines.

    session = join(model, optimizer)
    while session.running:
        ...                                   # forward, backward, optimizer.step()
        session.step(float(loss), tokens)

The session sets the learning rate, exchanges fragments, waits for orders and outcomes, and writes training checkpoints
of parameters, optimizer, torch's generators and `state`. Whatever else the next step depends on (a data loader's
position) belongs into `state`; buffers that are not parameters are the program's.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

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
)
from federation.golden import check_golden_vectors
from federation.manifest import Manifest
from federation.wire import manifest_from_bytes
from site_agent.inner_loop.claim import FencedError, claim_allocation, this_execution
from site_agent.inner_loop.evaluations import EvaluationQueue
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.global_model import GlobalModel, SnapshotRefusedError, read_theta0
from site_agent.inner_loop.loop import InnerLoop
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.patience import Clock, Patience, SystemClock
from site_agent.inner_loop.reporter import Reporter
from site_agent.inner_loop.seam import Evaluator, Shard, Trainer, TrainerState, shards_of
from site_agent.inner_loop.spool import JobSpool
from site_agent.inner_loop.torch_state import (
    generator_state,
    load_generator_state,
    load_optimizer_state,
    optimizer_state,
)
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

ALLOCATION_VARIABLE = "FEDERATION_ALLOCATION"
"""The allocation's directory, for programs that are started without arguments."""


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


class Stateful(Protocol):
    """Anything of a training program that must survive a restart; values are JSON."""

    def state_dict(self) -> Any:
        """What `load_state_dict` takes."""

    def load_state_dict(self, state: Any) -> None:
        """Puts it back."""


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
        self.spool = JobSpool(self._fs, self._run, claim)
        self.spool.report(JobReport(fencing=claim.fencing, state=JobState.STARTING, updated_at=self._clock.now()))

    def read_manifest(self) -> Manifest:
        """The run's manifest, after this machine has shown that it computes like all others.

        Raises:
            NumericsMismatchError: it does not.
            ConfigError, ProtocolError: the file cannot be read, or is another run's.
        """
        check_golden_vectors()
        path = Path(self.order.manifest_path)
        try:
            manifest = manifest_from_bytes(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: expected the run's manifest, found: {error.strerror}") from error
        if manifest.run != self.order.run:
            raise ConfigError(f"{path}: expected the manifest of run {self.order.run}, found run {manifest.run}")
        return manifest

    def loop(self, manifest: Manifest, trainer: Trainer, evaluator: Evaluator | None) -> InnerLoop:
        """The inner loop of this trainer, not begun.

        Raises:
            ModelDiffersError: the trainer's model or theta_0 is not the manifest's.
            DigestMismatchError: theta_0 has other values than the sites agreed on.
        """

        def make_model() -> GlobalModel:
            return GlobalModel(
                manifest,
                lambda: read_theta0(Path(self.order.theta0_path), manifest),
                num_threads=self.order.num_codec_threads,
                check_every=self.order.check_theta_every,
            )

        patience = Patience(self.order, self._clock)
        try:
            local = LocalParameters(trainer.local_shards, manifest.fragments)
            exchange = self.make_exchange(manifest, make_model(), local)
        except ConfigError as error:
            raise ModelDiffersError(str(error), advice=error.advice) from error
        metrics = MetricsLog(self._run, RunPaths().metrics)
        return InnerLoop(
            manifest=manifest,
            site=self.order.site,
            trainer=trainer,
            exchange=exchange,
            evaluations=EvaluationQueue(self.spool, evaluator, make_model),
            spool=self.spool,
            checkpoints=self.make_checkpoints(self._run),
            reporter=Reporter(self.spool, metrics, patience, self._reports.put),
            patience=patience,
            writer=self._writer,
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
        self.spool.report(
            JobReport(
                fencing=ended.fencing,
                state=JobState.ENDED,
                updated_at=self._clock.now(),
                error="" if ended.code.resumable else ended.sentence,
            )
        )
        self.spool.write_ended(ended)

    @contextmanager
    def reporting_failures(self) -> Iterator[None]:
        """Whatever ends the job inside is reported to the agent, then raised further."""
        try:
            yield
        except FencedError:
            raise  # The files belong to another execution now.
        except Exception as error:
            self.close(ended_by(error, self.order.fencing))
            raise


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


class TorchTrainer:
    """A program's own torch model and optimizer behind the seam."""

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: Stateful | None) -> None:
        self._model, self._optimizer, self._state = model, optimizer, state

    def local_shards(self) -> Iterable[Shard]:
        """Every trainable parameter, whole."""
        return shards_of(self._model)

    def state_dict(self) -> TrainerState:
        """Optimizer, torch's generators, and the program's own state."""
        state = optimizer_state(self._optimizer)
        own = None if self._state is None else self._state.state_dict()
        return TrainerState(tensors={**state.tensors, **generator_state()}, values={**state.values, "own": own})

    def load_state_dict(self, state: TrainerState) -> None:
        """Puts them back."""
        load_optimizer_state(self._optimizer, state)
        load_generator_state(state.tensors)
        if self._state is not None:
            self._state.load_state_dict(state.values["own"])


class Session:
    """A training program inside a run.

    Attributes:
        running: whether another inner step is wanted.
        learning_rate: of that step; already set in the optimizer.
    """

    def __init__(self, allocation: Allocation, loop: InnerLoop, optimizer: torch.optim.Optimizer) -> None:
        self._allocation, self._loop, self._optimizer = allocation, loop, optimizer
        self.running = True
        self.learning_rate = 0.0
        with allocation.reporting_failures():
            loop.begin(ask_on_signals())
            self._prepare()

    @property
    def num_steps(self) -> int:
        """Inner steps that this site has taken in the run, over all allocations."""
        return self._loop.progress.num_steps

    def step(self, loss: float, tokens: int) -> None:
        """The optimizer has taken a step. Returns when the next one may begin, or when `running` is over.

        Args:
            loss: mean over the step, nats per token.
            tokens: trained on in this step.

        Raises:
            TrainingError, TrustError: the job cannot go on; its end is already reported.
        """
        with self._allocation.reporting_failures():
            self._loop.complete(loss, tokens)
            self._prepare()

    def _prepare(self) -> None:
        rate = self._loop.prepare()
        if rate is None:
            self.running = False
            assert self._loop.ended is not None
            self._allocation.close(self._loop.ended)
            return
        self.learning_rate = rate
        for group in self._optimizer.param_groups:
            group["lr"] = rate


def join(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    state: Stateful | None = None,
    evaluator: Evaluator | None = None,
    allocation: Path | None = None,
) -> Session:
    """Makes a torch training program part of a run. Returns when the first inner step may begin.

    Args:
        model: its trainable parameters are the fragment table's, in fp32; they are set to the committed ones.
        optimizer: over these parameters; its learning rate is set before each step.
        state: whatever else the next step depends on; without it a resumed job doesn't repeat data to the bit.
        evaluator: scores models for the run's evaluations; without it they are left to others.
        allocation: the allocation's directory; by default from FEDERATION_ALLOCATION.

    Raises:
        ConfigError: no such directory, or (ModelDiffersError) the model isn't the run's.
        FencedError: another execution owns the allocation.
    """
    directory = allocation or Path(os.environ.get(ALLOCATION_VARIABLE, ""))
    claimed = Allocation(directory)
    with claimed.reporting_failures():
        manifest = claimed.read_manifest()
        loop = claimed.loop(manifest, TorchTrainer(model, optimizer, state), evaluator)
    return Session(claimed, loop, optimizer)
