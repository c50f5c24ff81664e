# SPDX-License-Identifier: Apache-2.0
"""A trainer of a few dozen numbers with an optimizer state, a data cursor and noise: everything that must survive."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch

from federation.fragments import scatter
from federation.manifest import Manifest
from site_agent.inner_loop.seam import Float32Array, Shard, StepResult, TrainerState, whole

Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]

PARAMETERS: Shapes = (
    ("embed", (3, 5)),
    *((f"layers.{i}.weight", (4, 7 + i)) for i in range(4)),
    ("norm", (6,)),
)

WIDE: Shapes = (("embed", (3, 400_000)), *PARAMETERS[1:])
"""The first fragment has two chunks, for two owners."""


def toy_theta0(manifest: Manifest, seed: int = 0) -> list[Float32Array]:
    """Version 0 of each fragment."""
    draw = np.random.default_rng(seed)
    return [draw.normal(size=table.num_elements).astype(np.float32) for table in manifest.fragments]


class ToyTrainer:
    """Momentum descent towards zero with noise that depends on the cursor; also a site of the oracle's.

    Args:
        name: sites of different names see different noise.
        shapes: of its parameters.
    """

    def __init__(self, name: str, shapes: Shapes = PARAMETERS) -> None:
        self._tensors = {n: torch.zeros(shape, dtype=torch.float32) for n, shape in shapes}
        self._momentum = {n: torch.zeros(shape, dtype=torch.float32) for n, shape in shapes}
        self._salt = sum(name.encode())
        self.cursor = 0

    def parameters(self) -> Mapping[str, Float32Array]:
        """Writable views, for the oracle."""
        return {name: tensor.numpy() for name, tensor in self._tensors.items()}

    def take(self, lr: float) -> StepResult:
        """One inner step."""
        self.cursor += 1
        loss = 0.0
        for index, (name, tensor) in enumerate(self._tensors.items()):
            phase = np.arange(tensor.numel(), dtype=np.float32) + np.float32(self.cursor * 13 + index + self._salt)
            gradient = tensor * 0.25 + torch.from_numpy(np.sin(phase)).reshape(tensor.shape)
            self._momentum[name].mul_(0.5).add_(gradient)
            tensor.sub_(self._momentum[name] * lr)
            loss += float(gradient.abs().mean())
        return StepResult(loss=loss, tokens=5 + self.cursor % 3)

    def step(self, lr: float) -> int:
        """One inner step, for the oracle: its tokens."""
        return self.take(lr).tokens

    def local_shards(self) -> Iterable[Shard]:
        """The parameters; the first one in two pieces, as a sharded trainer would hold it."""
        for name, tensor in self._tensors.items():
            if name == "embed":
                rows, columns = tensor.shape
                yield Shard(name, (slice(0, 1), slice(0, columns)), tensor[:1])
                yield Shard(name, (slice(1, rows), slice(0, columns)), tensor[1:])
            else:
                yield Shard(name, whole(tensor), tensor)

    def state_dict(self) -> TrainerState:
        """Momentum and cursor."""
        return TrainerState(
            tensors={name: m.clone() for name, m in self._momentum.items()}, values={"cursor": self.cursor}
        )

    def load_state_dict(self, state: TrainerState) -> None:
        """Puts them back."""
        for name, momentum in self._momentum.items():
            momentum.copy_(state.tensors[name])
        self.cursor = state.values["cursor"]


def toy_parameters(manifest: Manifest, vectors: Sequence[Float32Array]) -> dict[str, Float32Array]:
    """Fragment vectors as parameters by name."""
    found: dict[str, Float32Array] = {}
    for table, vector in zip(manifest.fragments, vectors, strict=True):
        found.update(scatter(table, vector))
    return found
