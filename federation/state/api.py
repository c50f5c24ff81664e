# SPDX-License-Identifier: Apache-2.0
"""What a store of (theta, m, r) promises. One contract suite runs on every backend.

A version is written beside the others and appears as a whole, never in place. It is a cache: whoever reads it compares
digests with the ledger's, and rebuilds on a mismatch (`federation.aggregate`).
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np

from federation.chunks import ChunkGrid, Float32Vector

STATE_BYTES: Final = 12
"""Of one element of a version: theta, momentum and residual."""


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
    """A version being written, which nobody sees until `commit`. Leaving the `with` block without it discards it.

    Chunks are written either in ascending order by `write_chunk`, or by `reserve` and `filled`, in any order and by any
    thread.
    """

    def __init__(self, num_elements: int) -> None:
        self.grid = ChunkGrid(num_elements)
        self._lock = threading.Lock()
        self._reserved: dict[int, StateChunk] = {}
        self._waiting: dict[int, StateChunk] = {}
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

    def reserve(self, index: int) -> StateChunk:
        """Arrays for the real elements of a chunk, of unknown content; the caller writes them, then calls `filled`.

        Each chunk once. Who reserves far ahead of the lowest chunk that is not filled makes some stores hold them all.

        Raises:
            IndexError: there is no such chunk.
        """
        size = self.grid.num_real(index)
        chunk = StateChunk(np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32))
        with self._lock:
            self._reserved[index] = chunk
        return chunk

    def filled(self, index: int) -> None:
        """The arrays of `reserve(index)` hold the chunk; they are the store's from here on.

        Raises:
            KeyError: it was not reserved: the caller's bug.
            DiskFullError: too little space; nothing becomes visible.
        """
        with self._lock:
            self._waiting[index] = self._reserved.pop(index)
            while (chunk := self._waiting.pop(self._next, None)) is not None:
                self._write(self._next, chunk)
                self._next += 1

    def commit(self, *, durable: bool = True) -> None:
        """Makes the version visible as a whole, in place of one of the same number (whose bits are the same).

        Args:
            durable: fsync it, now or soon. Without, a crash may lose or tear it; it is then rebuilt from ledger and
                blobs.

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

    def view_chunk(self, index: int) -> StateChunk:
        """Like `read_chunk`, but the caller only reads the arrays; without a copy where the store can. Any thread."""
        return self.read_chunk(index)


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

    def drop_copy(self, run: str, fragment: int, version: int) -> bool:
        """Removes the copy that `open` gives, for whoever found it damaged, if the store has another one.

        Returns whether `open` gives another copy now. Stores with one copy of everything do nothing.
        """
        return False

    def prune(self, run: str, fragment: int, *, current: Collection[int], in_force: Collection[int]) -> None:
        """Removes what is no longer needed; whatever is gone can be rebuilt.

        Args:
            current: versions that will be read soon.
            in_force: all versions that the ledger's chain has; a rebuild may start from any of them that is kept.
        """
        for version in self.versions(run, fragment):
            if version and version not in current:
                self.delete(run, fragment, version)

    def bytes_wanted(self, run: str, fragment: int, num_elements: int) -> int:
        """Bytes of disk that the next version of a fragment may take beyond what is there; 0 for stores in memory."""
        return 0

    def begin_sync(self, run: str, fragment: int, version: int) -> None:  # noqa: B027 - for stores with copies in memory
        """Lets what a commit left in memory go to the disk now: a hint, for a moment when nobody waits for the disk.

        Else the kernel does it when memory fills with it, which is while the next commit is written.
        """

    def close(self) -> None:  # noqa: B027 - most stores do nothing in the background
        """Ends what the store does in the background; what was not done then is abandoned, and can be rebuilt."""
