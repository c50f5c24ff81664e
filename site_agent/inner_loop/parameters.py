# SPDX-License-Identifier: Apache-2.0
"""Between a trainer's live parameters and the flat fp32 vectors of the fragment table."""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch

from federation.chunks import Float32Vector
from federation.errors import ConfigError
from federation.fragments import check_table
from federation.manifest import FragmentTable, TableEntry
from site_agent.inner_loop.seam import Float32Array, GlobalSlice, Shard

RUN_ELEMENTS = 16_384
"""Fewer elements in a row are copied together with their neighbours: that costs less than a call of their own."""

ACCELERATORS = ("cuda",)
"""What torch calls devices that may encode what lies on them; ROCm's are called cuda too."""


class Run(NamedTuple):
    """Elements that are worked on together.

    Attributes:
        where: as elements of the fragment.
        values: of these elements, f32.
        is_in_place: `values` are the local model's own memory; else they lie in memory that the next run on this
            thread uses again.
    """

    where: slice
    values: Float32Vector
    is_in_place: bool


class _Gathered(threading.local):
    """Memory of one thread, at most a chunk, mapped once: values stay in a cache until they have been worked on."""

    def __init__(self) -> None:
        self._values = np.empty(0, np.float32)

    def room(self, num_elements: int) -> Float32Vector:
        """f32[num_elements], whose values nobody needs any more."""
        if self._values.size < num_elements:
            self._values = np.empty(num_elements, np.float32)
        return self._values[:num_elements]


_GATHERED = _Gathered()


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

    For as long as the trainer does not replace its tensors. Threads may work on elements of their own.
    """

    def __init__(self, segments: Sequence[tuple[int, Float32Vector]], staged: Sequence[Staged]) -> None:
        """Takes the segments (offset, values), ascending; together they cover the fragment once."""
        self._starts = [start for start, _ in segments]
        self._segments = [values for _, values in segments]
        self._staged = staged

    def runs(self, where: slice, block_elements: int = 1) -> Iterator[Run]:
        """A chunk or less, in as few runs of whole blocks as its tensors allow; only the last may end inside a block.

        Args:
            where: begins at a block.
        """
        at = where.start
        while at < where.stop:
            stop = self._stop_of_run(at, where.stop, block_elements)
            if stop - at >= min(RUN_ELEMENTS, where.stop - at):
                index = self._segment_of(at)
                first = self._starts[index]
                yield Run(slice(at, stop), self._segments[index][at - first : stop - first], True)
            else:
                stop = self._stop_of_gathered(at, where.stop, block_elements)
                values = _GATHERED.room(stop - at)
                self.load(slice(at, stop), values)
                yield Run(slice(at, stop), values, False)
            at = stop

    def load(self, where: slice, out: Float32Vector) -> None:
        """Copies these elements."""
        for values, part in self._pieces(where):
            out[part] = values

    def store(self, where: slice, values: Float32Vector) -> None:
        """Sets these elements."""
        for target, part in self._pieces(where):
            target[...] = values[part]

    @torch.no_grad()
    def finish(self) -> None:
        """After the last `store`: what is not in place is copied to its tensors."""
        for staged in self._staged:
            staged.tensor.copy_(torch.from_numpy(staged.copy))

    def _segment_of(self, element: int) -> int:
        return bisect_right(self._starts, element) - 1

    def _stop_of_run(self, at: int, stop: int, block_elements: int) -> int:
        """Where the whole blocks end that lie in one segment from here on."""
        index = self._segment_of(at)
        end = self._starts[index] + self._segments[index].size
        return stop if end >= stop else at + (end - at) // block_elements * block_elements

    def _stop_of_gathered(self, at: int, stop: int, block_elements: int) -> int:
        """The next block from which on a run is long enough to be worked on in place."""
        reached = at
        while reached < stop and self._stop_of_run(reached, stop, block_elements) - reached < RUN_ELEMENTS:
            index = self._segment_of(reached)
            end = self._starts[index] + self._segments[index].size
            reached = min(stop, at + -(-(end - at) // block_elements) * block_elements)
        return reached

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

    def on_device(self, fragment: int) -> list[torch.Tensor] | None:
        """A fragment as flat fp32 views, one after the other, where it lies so on one accelerator; else None."""
        shards = self._by_name()
        places = {(shard.tensor.device, shard.tensor.dtype) for found in shards.values() for shard in found}
        if len(places) != 1 or not all(d.type in ACCELERATORS and t == torch.float32 for d, t in places):
            return None
        return _flat_views(self._tables[fragment], shards) or None

    def read(self, fragment: int) -> Float32Vector:
        """A copy of one fragment of the local model, f32[num_elements]."""
        vector = np.empty(self._tables[fragment].num_elements, np.float32)
        self.fragment(fragment).load(slice(0, vector.size), vector)
        return vector

    def write(self, fragment: int, vector: Float32Vector) -> None:
        """Sets one fragment of the local model from f32[num_elements]."""
        local = self.fragment(fragment)
        local.store(slice(0, vector.size), vector)
        local.finish()

    def _fragments(self, wanted: Iterable[int]) -> list[LocalFragment]:
        by_name = self._by_name()
        return [_local_fragment(self._tables[p], by_name) for p in wanted]

    def _by_name(self) -> dict[str, list[Shard]]:
        by_name: dict[str, list[Shard]] = {}
        for shard in self._shards():
            by_name.setdefault(shard.name, []).append(shard)
        return by_name


def _local_fragment(table: FragmentTable, shards: dict[str, list[Shard]]) -> LocalFragment:
    segments: list[tuple[int, Float32Vector]] = []
    staged: list[Staged] = []
    for entry in table.entries:
        for offset, values, stand_ins in _segments_of(entry, shards[entry.name]):
            segments.append((entry.offset + offset, values))
            staged += stand_ins
    return LocalFragment(sorted(segments, key=lambda segment: segment[0]), staged)


def _flat_views(table: FragmentTable, shards: dict[str, list[Shard]]) -> list[torch.Tensor]:
    """A fragment's shards in the order of their elements; none at all if one of them is not flat in the fragment."""
    views: list[tuple[int, torch.Tensor]] = []
    for entry in table.entries:
        for shard in shards[entry.name]:
            offset = flat_offset(shard.where, entry.shape)
            if offset is None or not shard.tensor.is_contiguous():
                return []
            views.append((entry.offset + offset, shard.tensor.detach().view(-1)))
    return [view for _, view in sorted(views, key=lambda placed: placed[0])]


def _segments_of(entry: TableEntry, shards: Sequence[Shard]) -> list[tuple[int, Float32Vector, list[Staged]]]:
    """Flat pieces of one parameter by offset in it; the whole parameter at once if a shard of it is not flat in it."""
    offsets = [flat_offset(shard.where, entry.shape) for shard in shards]
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


def flat_offset(where: GlobalSlice, shape: Sequence[int]) -> int | None:
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
