# SPDX-License-Identifier: Apache-2.0
"""Between a trainer's live parameters and the flat fp32 vectors of the fragment table."""

from collections.abc import Callable, Iterable, Sequence
from math import prod

import numpy as np
import torch

from federation.chunks import Float32Vector
from federation.errors import ConfigError
from federation.fragments import check_table, scatter
from federation.manifest import FragmentTable
from site_agent.inner_loop.seam import GlobalSlice, Shard


class LocalParameters:
    """Reads and writes whole fragments of the local model.

    Shards are asked for anew each time: a trainer may replace its tensors between two steps.
    """

    def __init__(self, shards: Callable[[], Iterable[Shard]], tables: Sequence[FragmentTable]) -> None:
        """Checks that the shards are what the table describes.

        Raises:
            ConfigError: a name, shape or dtype differs, or shards do not cover a parameter once.
        """
        self._shards = shards
        self._tables = tuple(tables)
        _check(list(shards()), self._tables)

    def read(self, fragment: int) -> Float32Vector:
        """A copy of one fragment of the local model, f32[num_elements]."""
        vector = np.zeros(self._tables[fragment].num_elements, np.float32)
        views = scatter(self._tables[fragment], vector)
        for shard in self._shards():
            if shard.name in views:
                views[shard.name][shard.where] = shard.tensor.detach().cpu().numpy()
        return vector

    @torch.no_grad()
    def write(self, fragment: int, vector: Float32Vector) -> None:
        """Sets one fragment of the local model from f32[num_elements]."""
        views = scatter(self._tables[fragment], vector)
        for shard in self._shards():
            if shard.name in views:
                # A copy, because torch warns about read-only memory and may keep the view.
                shard.tensor.detach().copy_(torch.from_numpy(views[shard.name][shard.where].copy()))


def _check(shards: Sequence[Shard], tables: Sequence[FragmentTable]) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    covered: dict[str, int] = {}
    for shard in shards:
        if shard.tensor.dtype != torch.float32:
            raise ConfigError(
                f"parameter {shard.name}: expected fp32, found {shard.tensor.dtype}",
                advice="Offer the fp32 master copy of a parameter that is trained in lower precision.",
            )
        known = shapes.get(shard.name, (0,) * len(shard.where))
        shapes[shard.name] = tuple(max(k, part.stop) for k, part in zip(known, shard.where, strict=True))
        covered[shard.name] = covered.get(shard.name, 0) + _num_elements(shard.where)
    check_table(tables, shapes.items())
    for name, shape in shapes.items():
        if covered[name] != prod(shape):
            raise ConfigError(f"parameter {name}: expected shards of {prod(shape)} elements, found {covered[name]}")


def _num_elements(where: GlobalSlice) -> int:
    return prod(part.stop - part.start for part in where)
