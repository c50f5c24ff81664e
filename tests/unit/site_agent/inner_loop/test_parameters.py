# SPDX-License-Identifier: Apache-2.0
"""Shards of every kind are read and written as one flat fragment, in place where their memory allows it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from federation.errors import ConfigError
from federation.fragments import build_fragments
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.seam import Shard, whole

SHAPES = {"a": (4, 6), "b": (), "c": (7,), "d": (2, 3, 5)}
TABLES = build_fragments(list(SHAPES.items()), 1)
SIZE = TABLES[0].num_elements


def values() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def rows(name: str, tensor: torch.Tensor) -> list[Shard]:
    rest = tuple(slice(0, n) for n in tensor.shape[1:])
    return [Shard(name, (slice(0, 1), *rest), tensor[:1]), Shard(name, (slice(1, len(tensor)), *rest), tensor[1:])]


def columns(name: str, tensor: torch.Tensor) -> list[Shard]:
    first, cut = slice(0, tensor.shape[0]), tensor.shape[1] - 2
    rest = tuple(slice(0, n) for n in tensor.shape[2:])
    stop = tensor.shape[1]
    left, right = (first, slice(0, cut), *rest), (first, slice(cut, stop), *rest)
    return [Shard(name, left, tensor[left].clone()), Shard(name, right, tensor[right].clone())]


def strided(name: str, tensor: torch.Tensor) -> list[Shard]:
    wide = torch.zeros((*tensor.shape, 2))
    wide[..., 0] = tensor
    return [Shard(name, whole(tensor), wide[..., 0])]


CUTS: dict[str, Callable[[str, torch.Tensor], list[Shard]]] = {
    "whole": lambda name, tensor: [Shard(name, whole(tensor), tensor)],
    "rows": lambda name, t: rows(name, t) if t.dim() else [Shard(name, (), t)],
    "columns": lambda name, t: columns(name, t) if t.dim() > 1 else [Shard(name, whole(t), t)],
    "strided": strided,
}


def expected(tensors: dict[str, torch.Tensor]) -> np.ndarray:
    return np.concatenate([tensors[entry.name].reshape(-1).numpy() for entry in TABLES[0].entries])


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_any_strip_is_read_and_written(cut: Callable[[str, torch.Tensor], list[Shard]]) -> None:
    tensors = values()
    shards = [shard for name, tensor in reversed(tensors.items()) for shard in cut(name, tensor)]
    local = LocalParameters(lambda: shards, TABLES)
    flat = expected(tensors)
    for start in range(0, SIZE, 3):
        for stop in (start + 1, min(start + 11, SIZE), SIZE):
            scratch = np.full(SIZE, np.nan, np.float32)
            assert np.array_equal(local.fragment(0).strip(slice(start, stop), scratch), flat[start:stop])
    assert np.array_equal(local.read(0), flat)
    new = np.arange(SIZE, dtype=np.float32)
    fragment = local.fragment(0)
    for start in range(0, SIZE, 8):
        strip = slice(start, min(start + 8, SIZE))
        fragment.store(strip, new[strip])
    fragment.finish()
    assert np.array_equal(local.read(0), new)
    local.write(0, flat)
    assert np.array_equal(local.read(0), flat)


def test_a_strip_inside_one_tensor_is_that_tensor() -> None:
    tensors = values()
    local = LocalParameters(lambda: [Shard(n, whole(t), t) for n, t in tensors.items()], TABLES)
    entry = next(e for e in TABLES[0].entries if e.name == "a")
    fragment = local.fragment(0)
    strip = slice(entry.offset + 2, entry.offset + 9)
    view = fragment.strip(strip)
    assert np.shares_memory(view, tensors["a"].numpy())
    view += 1
    fragment.store(strip, view)
    assert np.array_equal(fragment.strip(strip), tensors["a"].reshape(-1)[2:9].numpy())


def test_shards_must_cover_every_parameter_once() -> None:
    tensors = values()
    shards = [Shard(n, whole(t), t) for n, t in tensors.items()]
    with pytest.raises(ConfigError, match="parameter a: expected shards of 24 elements, found 30"):
        LocalParameters(lambda: [*shards, Shard("a", (slice(0, 1), slice(0, 6)), tensors["a"][:1])], TABLES)
    with pytest.raises(ConfigError, match="expected fp32, found"):
        LocalParameters(lambda: [Shard("a", whole(tensors["a"]), tensors["a"].double())], TABLES)
