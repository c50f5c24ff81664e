# SPDX-License-Identifier: Apache-2.0
"""A tuple that grows cheaply: what a fold collects by the ten thousand, without copying all of it for each leaf."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, Generic, TypeVar, overload

T = TypeVar("T")

BLOCK: Final = 256


class LongTuple(Sequence[T], Generic[T]):
    """Never changes. `plus` shares all full blocks with the one that it continues: it copies n / 256 + 256 at most."""

    __slots__ = ("_blocks", "_tail")

    def __init__(self, blocks: tuple[tuple[T, ...], ...] = (), tail: tuple[T, ...] = ()) -> None:
        """
        Args:
            blocks: of `BLOCK` items each.
            tail: what comes after them, fewer than `BLOCK`.
        """
        self._blocks, self._tail = blocks, tail

    def plus(self, item: T) -> "LongTuple[T]":
        """These items and one more."""
        tail = (*self._tail, item)
        return LongTuple((*self._blocks, tail)) if len(tail) == BLOCK else LongTuple(self._blocks, tail)

    def __len__(self) -> int:
        return len(self._blocks) * BLOCK + len(self._tail)

    def __iter__(self) -> Iterator[T]:
        return chain(chain.from_iterable(self._blocks), self._tail)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...

    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected one of {len(self)} items, found {index}")
        block, position = divmod(index % len(self), BLOCK)
        return self._blocks[block][position] if block < len(self._blocks) else self._tail[position]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LongTuple):
            return NotImplemented
        return (self._blocks, self._tail) == (other._blocks, other._tail)

    def __hash__(self) -> int:
        return hash((self._blocks, self._tail))

    def __repr__(self) -> str:
        return f"LongTuple{tuple(self)!r}"
