# SPDX-License-Identifier: Apache-2.0
"""The seam between the protocol inside a job and whatever trains: what a trainer must offer, and nothing more."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from federation.leaves import LanguageScore

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


@dataclass(frozen=True, kw_only=True)
class TrainerState:
    """All of a trainer's state except the parameters: optimizer, generators, data cursor.

    Attributes:
        tensors: by name, any dtype.
        values: JSON values.
    """

    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


class Trainer(Protocol):
    """What the inner loop needs to know of a trainer. Who calls the optimizer is the trainer's affair."""

    def local_shards(self) -> Iterable[Shard]:
        """Views into the live parameters; together they cover every parameter of the fragment table once."""

    def state_dict(self) -> TrainerState:
        """A copy of everything that the next step depends on, besides the parameters."""

    def load_state_dict(self, state: TrainerState) -> None:
        """Puts back what `state_dict` returned."""


class Evaluator(Protocol):
    """Scores a model that is not the one in training."""

    def evaluate(self, parameters: Mapping[str, Float32Array]) -> Iterator[tuple[LanguageScore, ...] | None]:
        """Yields None after each short piece of work, at last the scores. May be dropped at any point.

        Args:
            parameters: whole parameters by canonical name.
        """


def whole(tensor: torch.Tensor) -> GlobalSlice:
    """The slice of a parameter that one process holds entirely."""
    return tuple(slice(0, size) for size in tensor.shape)


def shards_of(model: torch.nn.Module) -> list[Shard]:
    """The trainable parameters of an ordinary module, each storage once."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [Shard(name, whole(p), p.detach()) for name, p in named]
