# SPDX-License-Identifier: Apache-2.0
"""What a store of (theta, m, r) promises. One contract suite runs on every backend.

A version is written beside the others and appears as a whole, never in place. It is a cache: whoever reads it compares
digests with the ledger's, and rebuilds on a mismatch (`federation.aggregate`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from federation.chunks import ChunkGrid, Float32Vector


class StateChunk(NamedTuple):
    """The real elements of one chunk: f32[2^20], fewer in the last chunk of a fragment."""

    theta: Float32Vector
    momentum: Float32Vector
    residual: Float32Vector


@dataclass(frozen=True, kw_only=True)
class StateDigests:
    """Fragment digests of one version; "" where the ledger has not recorded one."""

    theta: str
    momentum: str = ""
    residual: str = ""


class StateWriter(ABC):
    """A version being written, which nobody sees until `commit`. Leaving the `with` block without it discards it."""

    def __init__(self, num_elements: int) -> None:
        self.grid = ChunkGrid(num_elements)
        self._next = 0

    def write_chunk(self, index: int, theta: Float32Vector, momentum: Float32Vector, residual: Float32Vector) -> None:
        """Writes the next chunk; chunks come in ascending order, each as its real elements. Inputs are copied.

        Raises:
            ValueError: a chunk out of order or of another length than the grid's: the caller's bug.
            DiskFullError: too little space; nothing becomes visible.
        """
        expected = self.grid.num_real(self._next) if self._next < self.grid.num_chunks else 0
        chunk = StateChunk(theta, momentum, residual)
        if index != self._next or any(part.size != expected for part in chunk):
            raise ValueError(
                f"chunk: expected {self._next} with {expected} elements, "
                f"found {index} with {'/'.join(str(part.size) for part in chunk)}"
            )
        self._write(index, chunk)
        self._next += 1

    def commit(self, *, durable: bool = True) -> None:
        """Makes the version visible as a whole, in place of one of the same number (whose bits are the same).

        Args:
            durable: fsync it. Without, a crash may lose or tear it; it is then rebuilt from ledger and blobs.

        Raises:
            ValueError: chunks are missing: the caller's bug.
            DiskFullError: too little space; nothing becomes visible.
        """
        if self._next != self.grid.num_chunks:
            raise ValueError(f"state: expected {self.grid.num_chunks} chunks before the commit, found {self._next}")
        self._commit(durable=durable)

    @abstractmethod
    def discard(self) -> None:
        """Drops what was written. Does nothing after `commit`."""

    @abstractmethod
    def _write(self, index: int, chunk: StateChunk) -> None: ...

    @abstractmethod
    def _commit(self, *, durable: bool) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class StateReader(ABC):
    """One committed version."""

    def __init__(self, num_elements: int) -> None:
        self.grid = ChunkGrid(num_elements)

    @abstractmethod
    def read_chunk(self, index: int) -> StateChunk:
        """The real elements of a chunk, as arrays that the caller may keep and change.

        Raises:
            IndexError: there is no such chunk.
            CorruptObjectError: the store noticed damage (it need not: digests tell).
        """


class StateStore(ABC):
    """Versions of (theta, m, r) by run, fragment and version number."""

    @abstractmethod
    def create(self, run: str, fragment: int, version: int, num_elements: int) -> StateWriter:
        """Begins a version."""

    @abstractmethod
    def open(self, run: str, fragment: int, version: int) -> StateReader | None:
        """A committed version, or None.

        Raises:
            CorruptObjectError: it is there and cannot be read.
        """

    @abstractmethod
    def delete(self, run: str, fragment: int, version: int) -> None:
        """Removes a version; does nothing if it is gone."""

    @abstractmethod
    def versions(self, run: str, fragment: int) -> list[int]:
        """Numbers of the committed versions, ascending."""
