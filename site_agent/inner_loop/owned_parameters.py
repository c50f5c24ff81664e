# SPDX-License-Identifier: Apache-2.0
"""Local parameters of a job of several ranks: a rank works on the chunks that it owns, wherever their elements live.

The trainer's shards decide who holds what: everything on every rank (replicas), or each rank a part (FSDP). Before a
fragment is encoded or merged its elements travel to their owners, afterwards back to all who hold them, in bounded
pieces. Memory for that on each rank: what it owns of one fragment, and a few pieces.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from math import prod

import numpy as np
import torch

from federation.chunks import Float32Vector
from federation.errors import ConfigError
from federation.fragments import check_table
from federation.manifest import FragmentTable, TableEntry
from site_agent.inner_loop.ownership import Interval, inward, merged, outward, owned
from site_agent.inner_loop.parameters import LocalFragment, LocalParameters, flat_offset
from site_agent.inner_loop.seam import Shard
from site_agent.inner_loop.team import Team, Transfer


class OwnedFragment(LocalFragment):
    """The owned part of one fragment; elements are counted from the part's first."""

    def __init__(self, values: Float32Vector, send_back: Callable[[Float32Vector], None]) -> None:
        super().__init__([(0, values)], ())
        self._values, self._send_back = values, send_back

    def finish(self) -> None:
        """After the last `store`: every rank gets what it holds. Collective."""
        self._send_back(self._values)


class OwnedParameters(LocalParameters):
    """Reads and writes what this rank owns of the local model. Whatever touches parameters is collective.

    Args:
        shards: of this rank.
        team: all ranks.
    """

    def __init__(self, shards: Callable[[], Iterable[Shard]], tables: Sequence[FragmentTable], team: Team) -> None:
        """Tells the ranks what each of them holds.

        Raises:
            ConfigError: a name, shape or dtype differs, or no rank holds some part of a parameter.
        """
        self._shards, self._tables, self._team = shards, tuple(tables), team
        team.agree(lambda: _check_dtypes(shards()))
        found = [json.loads(data) for data in team.gathered(json.dumps(_held(shards())).encode())]
        _check_shapes(found, self._tables)
        runs = [_intervals(list(shards()), table) for table in self._tables]
        held = [json.loads(data) for data in team.gathered(json.dumps(runs).encode())]
        self._inward, self._outward = self._plans([[_pairs(of) for of in rank] for rank in held])

    def part(self, fragment: int) -> slice:
        """Elements of a fragment that this rank owns."""
        return self.part_of(fragment, self._team.rank)

    def part_of(self, fragment: int, rank: int) -> slice:
        """Elements of a fragment that a rank owns."""
        return owned(self._tables[fragment].num_elements, fragment, rank, self._team.size)

    def fragment(self, fragment: int) -> LocalFragment:
        """The owned part as it is now."""
        return OwnedFragment(self.read(fragment), lambda values: self.write(fragment, values))

    def fragments(self) -> list[LocalFragment]:
        """The owned parts of every fragment as they are now."""
        return [self.fragment(p) for p in range(len(self._tables))]

    def on_device(self, fragment: int) -> list[torch.Tensor] | None:
        """Owners work in their machine's memory."""
        return None

    def read(self, fragment: int) -> Float32Vector:
        """A copy of the owned part, f32[n]."""
        part, live = self.part(fragment), self._live(fragment)
        vector = np.empty(part.stop - part.start, np.float32)

        def keep(start: int, stop: int, values: torch.Tensor) -> None:
            vector[start - part.start : stop - part.start] = values.numpy()

        self._team.run(self._inward[fragment], live.read, keep)
        return vector

    def write(self, fragment: int, vector: Float32Vector) -> None:
        """Sets a fragment on every rank, each giving f32[n], the part it owns."""
        part, live = self.part(fragment), self._live(fragment)

        def give(start: int, stop: int) -> torch.Tensor:
            return torch.from_numpy(vector[start - part.start : stop - part.start])

        self._team.run(self._outward[fragment], give, live.write)

    def _live(self, fragment: int) -> "LiveRuns":
        return LiveRuns(_runs(list(self._shards()), self._tables[fragment]))

    def _plans(self, held: list[list[list[Interval]]]) -> tuple[list[list[Transfer]], list[list[Transfer]]]:
        """Per fragment the ways in and out."""
        ways_in, ways_out = [], []
        for p in range(len(self._tables)):
            parts = [self.part_of(p, rank) for rank in range(self._team.size)]
            of_ranks = [rank[p] for rank in held]
            try:
                ways_in.append(inward(of_ranks, parts))
            except ValueError as error:
                raise ConfigError(f"fragment {p}: {error}") from None
            ways_out.append(outward(of_ranks, parts))
        return ways_in, ways_out


class LiveRuns:
    """What this rank holds of one fragment, as runs of elements in the live tensors."""

    def __init__(self, runs: Iterable[tuple[int, torch.Tensor]]) -> None:
        self._runs = sorted(runs, key=lambda run: run[0])
        self._starts = [start for start, _ in self._runs]

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Elements in this machine's memory, f32[stop - start]."""
        pieces = [view.cpu() for view, _ in self._views(start, stop)]
        return pieces[0].contiguous() if len(pieces) == 1 else torch.cat(pieces)

    @torch.no_grad()
    def write(self, start: int, stop: int, values: torch.Tensor) -> None:
        """Sets elements."""
        for view, offset in self._views(start, stop):
            view.copy_(values[offset : offset + view.numel()])

    def _views(self, start: int, stop: int) -> Iterator[tuple[torch.Tensor, int]]:
        at = start
        while at < stop:
            index = bisect_right(self._starts, at) - 1
            first, run = self._runs[index]
            end = min(stop, first + run.numel())
            yield run[at - first : end - first], at - start
            at = end


def _runs(shards: Sequence[Shard], table: FragmentTable) -> Iterator[tuple[int, torch.Tensor]]:
    entries = {entry.name: entry for entry in table.entries}
    for shard in shards:
        if shard.name in entries and shard.tensor.numel():
            yield from _runs_of(entries[shard.name], shard)


def _runs_of(entry: TableEntry, shard: Shard) -> Iterator[tuple[int, torch.Tensor]]:
    """A shard as runs of elements that follow each other both in memory and in the fragment: one, or one per row."""
    tensor, shape = shard.tensor.detach(), entry.shape
    offset = flat_offset(shard.where, shape)
    if offset is not None and tensor.is_contiguous():
        yield entry.offset + offset, tensor.view(-1)
        return
    strides = [prod(shape[d + 1 :]) for d in range(len(shape))]
    first = sum(part.start * stride for part, stride in zip(shard.where, strides, strict=True))
    for index in product(*(range(size) for size in tensor.shape[:-1])):
        row = first + sum(i * stride for i, stride in zip(index, strides, strict=False))
        yield entry.offset + row, tensor[index]


def _intervals(shards: Sequence[Shard], table: FragmentTable) -> list[Interval]:
    return merged([(start, start + run.numel()) for start, run in _runs(shards, table)])


def _pairs(intervals: Sequence[Sequence[int]]) -> list[Interval]:
    return [(start, stop) for start, stop in intervals]


def _held(shards: Iterable[Shard]) -> dict[str, list[int]]:
    """How far each parameter reaches as far as this rank knows."""
    reach: dict[str, list[int]] = {}
    for shard in shards:
        known = reach.get(shard.name, [0] * len(shard.where))
        reach[shard.name] = [max(k, part.stop) for k, part in zip(known, shard.where, strict=True)]
    return reach


def _check_dtypes(shards: Iterable[Shard]) -> None:
    for shard in shards:
        if shard.tensor.dtype != torch.float32:
            raise ConfigError(
                f"parameter {shard.name}: expected fp32, found {shard.tensor.dtype}",
                advice="Offer the fp32 master copy of a parameter that is trained in lower precision.",
            )


def _check_shapes(found: Sequence[dict[str, list[int]]], tables: Sequence[FragmentTable]) -> None:
    shapes: dict[str, list[int]] = {}
    for of_rank in found:
        for name, reach in of_rank.items():
            shapes[name] = [max(pair) for pair in zip(reach, shapes.get(name, [0] * len(reach)), strict=True)]
    check_table(tables, [(name, tuple(shape)) for name, shape in shapes.items()])
