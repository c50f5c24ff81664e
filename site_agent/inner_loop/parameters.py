# SPDX-License-Identifier: Apache-2.0
"""Between a trainer's live parameters and the flat fp32 vectors of the fragment table."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch

from federation.chunks import Float32Vector
from federation.errors import ConfigError
from federation.fragments import check_table
from federation.manifest import FragmentTable, TableEntry
from site_agent.inner_loop.seam import Float32Array, GlobalSlice, Shard


class Staged(NamedTuple):
    """Values that do not lie as the fragment table has them (another device, strides): a copy stands in for them.

    Attributes:
        tensor: the live values.
        copy: the same values in memory that belongs to a segment.
    """

    tensor: torch.Tensor
    copy: Float32Array


class LocalFragment:
    """One fragment of the local model, read and written in place wherever its tensors allow it.

    For as long as the trainer does not replace its tensors. Threads may work on strips that do not overlap.
    """

    def __init__(self, segments: Sequence[tuple[int, Float32Vector]], staged: Sequence[Staged]) -> None:
        """Takes the segments (offset, values), ascending; together they cover the fragment once."""
        self._starts = [start for start, _ in segments]
        self._segments = [values for _, values in segments]
        self._staged = staged

    def strip(self, where: slice, scratch: Float32Vector | None = None) -> Float32Vector:
        """The values of these elements: a view where they lie in one tensor, else a copy, in `scratch` if given."""
        first = self._segment_of(where.start)
        inside = self._segments[first][where.start - self._starts[first] : where.stop - self._starts[first]]
        if inside.size == where.stop - where.start:
            return inside
        out = np.empty(where.stop - where.start, np.float32) if scratch is None else scratch[: where.stop - where.start]
        for values, part in self._pieces(where):
            out[part] = values
        return out

    def store(self, where: slice, values: Float32Vector) -> None:
        """Sets these elements; nothing is to do where `values` is the view that `strip` returned."""
        for target, part in self._pieces(where):
            if not np.may_share_memory(target, values[part]):
                target[...] = values[part]

    @torch.no_grad()
    def finish(self) -> None:
        """After the last `store`: what is not in place is copied to its tensors."""
        for staged in self._staged:
            staged.tensor.copy_(torch.from_numpy(staged.copy))

    def _segment_of(self, element: int) -> int:
        return bisect_right(self._starts, element) - 1

    def _pieces(self, where: slice) -> Iterable[tuple[Float32Vector, slice]]:
        """Each segment's values inside `where`, and which part of it they are."""
        at = where.start
        while at < where.stop:
            index = self._segment_of(at)
            offset = at - self._starts[index]
            values = self._segments[index][offset : offset + where.stop - at]
            yield values, slice(at - where.start, at - where.start + values.size)
            at += values.size


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

    def fragment(self, fragment: int) -> LocalFragment:
        """A fragment of the local model as it is now."""
        return self._fragments([fragment])[0]

    def fragments(self) -> list[LocalFragment]:
        """Every fragment of the local model as it is now."""
        return self._fragments(range(len(self._tables)))

    def read(self, fragment: int) -> Float32Vector:
        """A copy of one fragment of the local model, f32[num_elements]."""
        vector = np.empty(self._tables[fragment].num_elements, np.float32)
        everything = slice(0, vector.size)
        vector[:] = self.fragment(fragment).strip(everything, vector)
        return vector

    def write(self, fragment: int, vector: Float32Vector) -> None:
        """Sets one fragment of the local model from f32[num_elements]."""
        local = self.fragment(fragment)
        local.store(slice(0, vector.size), vector)
        local.finish()

    def _fragments(self, wanted: Iterable[int]) -> list[LocalFragment]:
        by_name: dict[str, list[Shard]] = {}
        for shard in self._shards():
            by_name.setdefault(shard.name, []).append(shard)
        return [_local_fragment(self._tables[p], by_name) for p in wanted]


def _local_fragment(table: FragmentTable, shards: dict[str, list[Shard]]) -> LocalFragment:
    segments: list[tuple[int, Float32Vector]] = []
    staged: list[Staged] = []
    for entry in table.entries:
        for offset, values, stand_ins in _segments_of(entry, shards[entry.name]):
            segments.append((entry.offset + offset, values))
            staged += stand_ins
    return LocalFragment(sorted(segments, key=lambda segment: segment[0]), staged)


def _segments_of(entry: TableEntry, shards: Sequence[Shard]) -> list[tuple[int, Float32Vector, list[Staged]]]:
    """Flat pieces of one parameter by offset in it; the whole parameter at once if a shard of it is not flat in it."""
    offsets = [_flat_offset(shard.where, entry.shape) for shard in shards]
    if any(offset is None for offset in offsets):
        whole = np.empty(entry.shape, np.float32)
        staged = [Staged(shard.tensor.detach(), whole[shard.where]) for shard in shards]
        for tensor, copy in staged:
            copy[...] = tensor.cpu().numpy()
        return [(0, whole.reshape(-1), staged)]
    return [(offset, *_flat(shard)) for offset, shard in zip(offsets, shards, strict=True) if offset is not None]


def _flat(shard: Shard) -> tuple[Float32Vector, list[Staged]]:
    """A shard's values as one flat vector: its own memory if that lies so on this machine."""
    tensor = shard.tensor.detach()
    if tensor.device.type == "cpu" and tensor.is_contiguous():
        return tensor.view(-1).numpy(), []
    copy = tensor.cpu().contiguous()
    copy = copy.clone() if copy.data_ptr() == tensor.data_ptr() else copy
    return copy.view(-1).numpy(), [Staged(tensor, copy.numpy())]


def _flat_offset(where: GlobalSlice, shape: Sequence[int]) -> int | None:
    """Where a shard's first element lies in its flattened parameter; None if others lie between its elements."""
    sizes = [part.stop - part.start for part in where]
    cut = next((d for d, size in enumerate(sizes) if size != 1), len(sizes))
    if any(size != full for size, full in zip(sizes[cut + 1 :], shape[cut + 1 :], strict=True)):
        return None
    strides = [prod(shape[d + 1 :]) for d in range(len(shape))]
    return int(sum(part.start * stride for part, stride in zip(where, strides, strict=True)))


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
