# SPDX-License-Identifier: Apache-2.0
"""A trainer whose inner step adds noise: cheap, the same in every run, another one at every site and step."""

import time
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from federation.manifest import FragmentTable, Manifest
from site_agent.bench.spec import BenchSpec
from site_agent.inner_loop.seam import Shard, StepResult, TrainerState, whole

NOISE_ELEMENTS = 1_048_583
"""Drawn once; a prime, so that what is added to equal parts of a model differs."""

STEP_STRIDE = 104_729


class NoiseTrainer:
    """Parameters of the run's fragment table as torch tensors."""

    def __init__(self, tables: Sequence[FragmentTable], tokens: int, spec: BenchSpec, site: str) -> None:
        """
        Args:
            tokens: of one inner step.
            site: whose noise it is.
        """
        entries = [entry for table in tables for entry in table.entries]
        self._parameters = {entry.name: torch.zeros(entry.shape) for entry in entries}
        self._noise = torch.from_numpy(_noise(spec.noise_scale))
        self._offset = zlib.crc32(site.encode())
        self._tokens, self._step_seconds = tokens, spec.step_seconds
        self.num_steps = 0

    @classmethod
    def for_run(cls, manifest: Manifest, spec: BenchSpec, site: str) -> "NoiseTrainer":
        """The trainer of a manifest's model, whatever that is."""
        tokens = manifest.trainer.batch_size * manifest.trainer.sequence_length
        return cls(manifest.fragments, tokens, spec, site)

    def step(self) -> StepResult:
        """One inner step."""
        began = time.monotonic()
        self.num_steps += 1
        at = self._offset + self.num_steps * STEP_STRIDE
        with torch.no_grad():
            for parameter in self._parameters.values():
                at = self._add(parameter.view(-1), at)
        time.sleep(max(0.0, began + self._step_seconds - time.monotonic()))
        return StepResult(loss=1.0, tokens=self._tokens)

    def local_shards(self) -> Iterable[Shard]:
        """Every parameter, whole."""
        return [Shard(name, whole(tensor), tensor) for name, tensor in self._parameters.items()]

    def state_dict(self) -> TrainerState:
        """The number of steps decides what the next one adds."""
        return TrainerState(values={"num_steps": self.num_steps})

    def load_state_dict(self, state: TrainerState) -> None:
        """Puts it back."""
        self.num_steps = int(state.values["num_steps"])

    def _add(self, flat: torch.Tensor, at: int) -> int:
        for start, stop, first in _pieces(flat.numel(), at):
            flat[start:stop].add_(self._noise[first : first + stop - start])
        return at + flat.numel()


def _pieces(num_elements: int, at: int) -> Iterator[tuple[int, int, int]]:
    """A parameter in pieces that lie inside the noise: first and last element of each, and where its noise begins."""
    start = 0
    while start < num_elements:
        first = (at + start) % NOISE_ELEMENTS
        stop = min(num_elements, start + NOISE_ELEMENTS - first)
        yield start, stop, first
        start = stop


def _noise(scale: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    drawn = np.random.default_rng(0).standard_normal(NOISE_ELEMENTS, np.float32)
    return np.multiply(drawn, np.float32(scale))
