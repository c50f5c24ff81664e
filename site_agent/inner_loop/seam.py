# SPDX-License-Identifier: Apache-2.0
"""The seam between the protocol inside a job and whatever trains: what a trainer must offer, and nothing more."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from federation.errors import ConfigError
from federation.leaves import LanguageScore, TaskScore
from site_agent.jobs import EvaluationOrder

GlobalSlice: TypeAlias = tuple[slice, ...]
"""Where a shard lies in its whole parameter: one slice with start and stop per dimension."""

Float32Array: TypeAlias = npt.NDArray[np.float32]


class Shard(NamedTuple):
    """A piece of a trainable parameter that this process holds.

    Attributes:
        name: canonical name, as in the run's fragment table.
        where: which part of the whole parameter it is.
        tensor: fp32 view into the live parameter, on any device; the protocol reads it and writes into it.
    """

    name: str
    where: GlobalSlice
    tensor: torch.Tensor


class StepResult(NamedTuple):
    """What one inner step did: mean loss in nats per token, and tokens trained on."""

    loss: float
    tokens: int


class StatePart(NamedTuple):
    """What this rank holds of a tensor of state that is spread over ranks: flat, elements in a row.

    Attributes:
        start: of its first element in the whole tensor, flattened.
    """

    start: int
    tensor: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class TrainerState:
    """All of a trainer's state except the parameters: optimizer, generators, data cursor.

    In a job of several ranks, tensors and values are taken from rank 0 (with the generators of every rank) and given
    to all. What is put back may be another number of ranks': a tensor of which there were parts is in `tensors` then,
    as if it had been whole and flat; `trainer.pieces.range_of` reads a range of it.

    Attributes:
        tensors: by name, any dtype.
        values: JSON values.
        parts: by name; together the ranks hold the whole.
    """

    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, StatePart] = field(default_factory=dict)


class Trainer(Protocol):
    """What the inner loop needs to know of a trainer. Who calls the optimizer is the trainer's affair."""

    def local_shards(self) -> Iterable[Shard]:
        """Views into the live parameters; together they cover every parameter of the fragment table once."""

    def state_dict(self) -> TrainerState:
        """A copy of everything that the next step depends on, besides the parameters."""

    def load_state_dict(self, state: TrainerState) -> None:
        """Puts back what `state_dict` returned."""


@runtime_checkable
class CountsLanguages(Protocol):
    """What a trainer may offer besides."""

    def language_tokens(self) -> Mapping[str, int]:
        """Tokens per language code that the run's jobs at this site have trained on, as of this moment.

        A part of the trainer's state: after a training checkpoint was loaded, it is what it was there. {} if not known.
        """


def language_counter(trainer: object) -> Callable[[], Mapping[str, int]]:
    """What tells a trainer's tokens per language; of one that does not count, nothing."""
    return trainer.language_tokens if isinstance(trainer, CountsLanguages) else dict


class Evaluator(Protocol):
    """Scores a model that is not the one in training."""

    def evaluate(self, parameters: Mapping[str, Float32Array]) -> Iterator[tuple[LanguageScore, ...] | None]:
        """Yields None after each short piece of work, at last the scores. May be dropped at any point.

        Args:
            parameters: whole parameters by canonical name.
        """


class TaskProgress(Enum):
    """What one call of a scorer of tasks did."""

    WORKED = "worked"
    WAITS = "waits"
    """Nothing: something outside this process works."""


@dataclass(frozen=True, kw_only=True)
class ScoredTasks:
    """Scores of some benchmark tasks, and why others have none: a sentence each, which stays at this site."""

    scores: tuple[TaskScore, ...] = ()
    problems: tuple[str, ...] = ()


class TaskScorer(Protocol):
    """Scores benchmark tasks with a model that is not the one in training."""

    def score(
        self, order: EvaluationOrder, parameters: Callable[[], Mapping[str, Float32Array]]
    ) -> Iterator[TaskProgress | ScoredTasks]:
        """Yields after each short piece of work, and whatever has its scores by then. May be dropped at any point.

        Args:
            order: which model it is.
            parameters: whole parameters by canonical name, views that another evaluation may change between two
                pieces: then they have to be asked for again. Raises FederationError.
        """


def whole(tensor: torch.Tensor) -> GlobalSlice:
    """The slice of a parameter that one process holds entirely."""
    return tuple(slice(0, size) for size in tensor.shape)


def shards_of(model: torch.nn.Module) -> list[Shard]:
    """The trainable parameters of a module as far as this rank holds them, each storage once.

    Names are those of the module inside `DistributedDataParallel`; of a DTensor (`fully_shard`) it is the local part.
    """
    module = model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    return [Shard(name, *local_part(p)) for name, p in named]


def local_part(tensor: torch.Tensor) -> tuple[GlobalSlice, torch.Tensor]:
    """Which part of a parameter this rank holds, and a view of it.

    Raises:
        ConfigError: it is laid out in a way that is neither whole nor cut along a dimension.
    """
    spread: Any = tensor
    if not hasattr(spread, "placements"):
        return whole(tensor), tensor.detach()
    where = list(whole(tensor))
    for mesh_dim, placement in enumerate(spread.placements):
        if placement.is_replicate():
            continue
        if type(placement).__name__ != "Shard":
            raise ConfigError(
                f"parameter of shape {list(tensor.shape)}: expected Shard or Replicate, found {placement}"
            )
        mesh = spread.device_mesh
        where[placement.dim] = _cut(where[placement.dim], mesh.size(mesh_dim), mesh.get_local_rank(mesh_dim))
    local: torch.Tensor = spread.detach().to_local()
    if tuple(part.stop - part.start for part in where) != tuple(local.shape):
        raise ConfigError(f"parameter of shape {list(tensor.shape)}: expected the part {where}, found {local.shape}")
    return tuple(where), local


def _cut(part: slice, num_parts: int, index: int) -> slice:
    """What `torch.chunk` gives the part of this index."""
    size = -(-(part.stop - part.start) // num_parts)
    start = min(part.stop, part.start + index * size)
    return slice(start, min(part.stop, start + size))
