# SPDX-License-Identifier: Apache-2.0
"""Shards of every kind are read and written as one flat fragment, in place where their memory allows it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from federation.errors import ConfigError
from federation.fragments import build_fragments
from site_agent.inner_loop import parameters
from site_agent.inner_loop.parameters import RUN_ELEMENTS, LocalParameters
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
def test_any_part_is_read_and_written(cut: Callable[[str, torch.Tensor], list[Shard]]) -> None:
    tensors = values()
    shards = [shard for name, tensor in reversed(tensors.items()) for shard in cut(name, tensor)]
    local = LocalParameters(lambda: shards, TABLES)
    flat = expected(tensors)
    for start in range(0, SIZE, 3):
        for stop in (start + 1, min(start + 11, SIZE), SIZE):
            loaded = np.full(stop - start, np.nan, np.float32)
            local.fragment(0).load(slice(start, stop), loaded)
            assert np.array_equal(loaded, flat[start:stop])
    assert np.array_equal(local.read(0), flat)
    new = np.arange(SIZE, dtype=np.float32)
    fragment = local.fragment(0)
    for start in range(0, SIZE, 8):
        part = slice(start, min(start + 8, SIZE))
        fragment.store(part, new[part])
    fragment.finish()
    assert np.array_equal(local.read(0), new)
    local.write(0, flat)
    assert np.array_equal(local.read(0), flat)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("block", [1, 4, 7, 64])
@pytest.mark.parametrize("shortest", [1, 5, 12, 1000])
def test_runs_are_whole_blocks_in_order_and_cover_a_chunk_once(
    cut: Callable[[str, torch.Tensor], list[Shard]], block: int, shortest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameters, "RUN_ELEMENTS", shortest)
    tensors = values()
    shards = [shard for name, tensor in tensors.items() for shard in cut(name, tensor)]
    fragment, flat = LocalParameters(lambda: shards, TABLES).fragment(0), expected(tensors)
    for start in range(0, SIZE, block):
        for stop in range(start + 1, SIZE + 1):
            at = start
            for where, found, is_in_place in fragment.runs(slice(start, stop), block):
                assert where.start == at
                assert (where.stop - start) % block == 0 or where.stop == stop
                assert np.array_equal(found, flat[where])
                assert not is_in_place or where.stop == stop or found.size >= shortest
                at = where.stop
            assert at == stop


def test_a_long_run_inside_one_tensor_is_that_tensor() -> None:
    tensors = {"w": torch.zeros(3 * RUN_ELEMENTS), "x": torch.zeros(5), "y": torch.zeros(2 * RUN_ELEMENTS)}
    tables = build_fragments([(n, tuple(t.shape)) for n, t in tensors.items()], 1)
    local = LocalParameters(lambda: [Shard(n, whole(t), t) for n, t in tensors.items()], tables)
    size = tables[0].num_elements
    runs = list(local.fragment(0).runs(slice(0, size), 128))
    assert [run.is_in_place for run in runs] == [True, False, True]
    assert [run.where.start for run in runs] == [0, 3 * RUN_ELEMENTS, 3 * RUN_ELEMENTS + 128]
    for _, found, _ in runs:
        found += 1
    assert all((tensors[name] == 1).all() for name in ("w",))
    assert (tensors["y"][128 - 5 :] == 1).all()
    assert not tensors["y"][: 128 - 5].any()
    assert not tensors["x"].any()


def test_shards_must_cover_every_parameter_once() -> None:
    tensors = values()
    shards = [Shard(n, whole(t), t) for n, t in tensors.items()]
    with pytest.raises(ConfigError, match="parameter a: expected shards of 24 elements, found 30"):
        LocalParameters(lambda: [*shards, Shard("a", (slice(0, 1), slice(0, 6)), tensors["a"][:1])], TABLES)
    with pytest.raises(ConfigError, match="expected fp32, found"):
        LocalParameters(lambda: [Shard("a", whole(tensors["a"]), tensors["a"].double())], TABLES)
