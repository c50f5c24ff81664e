# SPDX-License-Identifier: Apache-2.0
"""Which rank owns which chunks, and how elements travel between those who hold them and those who own them.

A chunk has one owner. Of each fragment a rank owns consecutive chunks, as many as any other or one more or less, and
the parts are turned by one rank from fragment to fragment, so that small fragments do not all end up on one rank.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from federation.chunks import ChunkGrid
from site_agent.inner_loop.team import PIECE_BYTES, Transfer

Interval: TypeAlias = tuple[int, int]
"""First element and the one after the last."""

_PIECE_ELEMENTS = PIECE_BYTES // 4


def owned(num_elements: int, fragment: int, rank: int, size: int) -> slice:
    """Elements of a fragment that a rank owns: whole chunks, perhaps none."""
    grid, place = ChunkGrid(num_elements), (rank + fragment) % size
    first, last = grid.num_chunks * place // size, grid.num_chunks * (place + 1) // size
    if first == last:
        return slice(0, 0)
    return slice(grid.bounds(first)[0], grid.bounds(last - 1)[1])


def owners_in_order(num_elements: int, fragment: int, size: int) -> list[int]:
    """The ranks that own something of a fragment, as their parts follow each other."""
    parts = {rank: owned(num_elements, fragment, rank, size) for rank in range(size)}
    return sorted((r for r, part in parts.items() if part.stop), key=lambda r: parts[r].start)


def inward(held: Sequence[Sequence[Interval]], parts: Sequence[slice]) -> list[Transfer]:
    """From holders to owners: each element once, from its owner itself if that holds it, else from the lowest rank.

    Args:
        held: what each rank holds of a fragment, ascending.
        parts: what each rank owns of it.
    """
    moves = []
    for owner, part in enumerate(parts):
        missing = [(part.start, part.stop)] if part.stop > part.start else []
        for holder in (owner, *(r for r in range(len(parts)) if r != owner)):
            found, missing = _taken(missing, held[holder])
            moves += [Transfer(holder, owner, start, stop) for start, stop in found]
        if missing:
            raise ValueError(f"elements {missing[0]}: expected a rank that holds them, found none")
    return _in_pieces(moves, parts)


def outward(held: Sequence[Sequence[Interval]], parts: Sequence[slice]) -> list[Transfer]:
    """From owners to everybody who holds an element."""
    moves = []
    for owner, part in enumerate(parts):
        if part.stop > part.start:
            for holder, intervals in enumerate(held):
                found, _ = _taken([(part.start, part.stop)], intervals)
                moves += [Transfer(owner, holder, start, stop) for start, stop in found]
    return _in_pieces(moves, parts)


def merged(intervals: Sequence[Interval]) -> list[Interval]:
    """Ascending, those that touch or overlap as one."""
    found: list[Interval] = []
    for start, stop in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def _taken(wanted: Sequence[Interval], intervals: Sequence[Interval]) -> tuple[list[Interval], list[Interval]]:
    """What of the wanted lies in the intervals, and what does not; all are ascending and apart."""
    found: list[Interval] = []
    left: list[Interval] = []
    for start, stop in wanted:
        at = start
        for low, high in intervals:
            low, high = max(low, at), min(high, stop)
            if low < high:
                left += [(at, low)] if at < low else []
                found.append((low, high))
                at = high
        left += [(at, stop)] if at < stop else []
    return found, left


def _in_pieces(moves: Sequence[Transfer], parts: Sequence[slice]) -> list[Transfer]:
    """Bounded pieces in an order in which all pairs of ranks are at work at the same time."""

    def place(move: Transfer) -> tuple[int, int, int]:
        owner = move.source if _lies_in(move, parts[move.source]) else move.target
        return move.start - parts[owner].start, (move.target - move.source) % len(parts), move.source

    return sorted((piece for move in moves for piece in _cut(move)), key=place)


def _lies_in(move: Transfer, part: slice) -> bool:
    return bool(part.start <= move.start and move.stop <= part.stop)


def _cut(move: Transfer) -> Iterator[Transfer]:
    for start in range(move.start, move.stop, _PIECE_ELEMENTS):
        yield move._replace(start=start, stop=min(start + _PIECE_ELEMENTS, move.stop))
