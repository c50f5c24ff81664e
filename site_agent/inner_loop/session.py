# SPDX-License-Identifier: Apache-2.0
"""A job from its allocation's directory: for the reference trainer, and for anybody's torch loop in three lines.

    session = join(model, optimizer)
    while session.running:
        ...                                   # forward, backward, optimizer.step()
        session.step(float(loss), tokens)

The session sets the learning rate, exchanges fragments, waits for orders and outcomes, and writes training checkpoints
of parameters, optimizer, torch's generators and `state`. Whatever else the next step depends on (a data loader's
position) belongs into `state`; buffers that are not parameters are the program's.

Under torchrun the same lines stand on every rank, with this rank's loss and tokens; the model may be replicated
(`DistributedDataParallel`) or sharded (`fully_shard`). `state` is rank 0's and is given to every rank: a position in
the data must not depend on who asks, so that a run can go on with another number of ranks.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from site_agent.inner_loop.allocation import (
    Allocation,
    Member,
    ModelDiffersError,
    ask_on_signals,
    ended_by,
)
from site_agent.inner_loop.rank_allocations import AnyAllocation, open_allocation
from site_agent.inner_loop.seam import Evaluator, Shard, TrainerState, language_counter, shards_of
from site_agent.inner_loop.torch_state import (
    generator_state,
    load_generator_state,
    load_optimizer_state,
    optimizer_state,
)

__all__ = [
    "Allocation",
    "ModelDiffersError",
    "Session",
    "Stateful",
    "TorchTrainer",
    "ask_on_signals",
    "ended_by",
    "join",
]

ALLOCATION_VARIABLE = "FEDERATION_ALLOCATION"
"""The allocation's directory, for programs that are started without arguments."""


class Stateful(Protocol):
    """Anything of a training program that must survive a restart; values are JSON."""

    def state_dict(self) -> Any:
        """What `load_state_dict` takes."""

    def load_state_dict(self, state: Any) -> None:
        """Puts it back."""


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
        tensors, values = {**state.tensors, **generator_state()}, {**state.values, "own": own}
        return TrainerState(tensors=tensors, values=values, parts=state.parts)

    def load_state_dict(self, state: TrainerState) -> None:
        """Puts them back."""
        load_optimizer_state(self._optimizer, state)
        load_generator_state(state.tensors)
        if self._state is not None:
            self._state.load_state_dict(state.values["own"])

    def language_tokens(self) -> Mapping[str, int]:
        """What the program's own state counts, if it does."""
        return language_counter(self._state)()


class Session:
    """A training program inside a run.

    Attributes:
        running: whether another inner step is wanted.
        learning_rate: of that step; already set in the optimizer.
    """

    def __init__(self, allocation: AnyAllocation, loop: Member, optimizer: torch.optim.Optimizer) -> None:
        self._allocation, self._loop, self._optimizer = allocation, loop, optimizer
        self.running = True
        self.learning_rate = 0.0
        with allocation.reporting_failures():
            loop.begin(ask_on_signals())
            self._prepare()

    @property
    def num_steps(self) -> int:
        """Inner steps that this site has taken in the run, over all allocations."""
        return self._loop.num_steps

    def step(self, loss: float, tokens: int) -> None:
        """The optimizer has taken a step. Returns when the next one may begin, or when `running` is over.

        Args:
            loss: mean over the step on this rank, nats per token.
            tokens: that this rank trained on in this step.

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
        state: whatever else the next step depends on; without it a resumed job doesn't repeat data to the bit. With a
            method `language_tokens` (`seam.CountsLanguages`) it tells what was trained on, too.
        evaluator: scores models for the run's evaluations; without it they are left to others.
        allocation: the allocation's directory; by default from FEDERATION_ALLOCATION.

    Raises:
        ConfigError: no such directory, or (ModelDiffersError) the model isn't the run's.
        FencedError: another execution owns the allocation.
    """
    directory = allocation or Path(os.environ.get(ALLOCATION_VARIABLE, ""))
    claimed = open_allocation(directory)
    with claimed.reporting_failures():
        manifest = claimed.read_manifest()
        claimed.check_machine()
        loop = claimed.member(manifest, TorchTrainer(model, optimizer, state), evaluator)
    return Session(claimed, loop, optimizer)
