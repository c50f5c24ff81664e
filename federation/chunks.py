# SPDX-License-Identifier: Apache-2.0
"""Fixed chunks of a fragment and the digest over them.

A fragment is a flat fp32 vector, zero-padded to whole chunks of 2^20 elements. Its digest is the RFC 6962 root whose
leaf data are the little-endian fp32 bytes of its padded chunks, so it can be built and checked one chunk at a time, and
it is the same whoever holds the chunks.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from federation import merkle

CHUNK_ELEMENTS: Final = 2**20
"""Elements of a chunk: a multiple of every codec's block."""

CHUNK_BYTES: Final = 4 * CHUNK_ELEMENTS
"""Bytes of a padded chunk in fp32."""

Float32Vector: TypeAlias = npt.NDArray[np.float32]
"""A one-dimensional fp32 array."""

_LEAF_PREFIX: Final = b"\x00"


def check_vector(vector: Float32Vector, what: str) -> Float32Vector:
    """Returns `vector` if it is flat fp32; anything else would change the arithmetic without a word.

    Raises:
        TypeError: another dtype or more than one dimension: the caller's bug.
    """
    if not isinstance(vector, np.ndarray) or vector.dtype != np.float32 or vector.ndim != 1:
        found = f"{vector.dtype}{list(vector.shape)}" if isinstance(vector, np.ndarray) else type(vector).__name__
        raise TypeError(f"{what}: expected a flat float32 vector, found {found}")
    return vector


def little_endian_bytes(vector: Float32Vector) -> memoryview:
    """The little-endian fp32 bytes of a vector, without a copy where the machine and the memory layout allow it."""
    return np.ascontiguousarray(vector, dtype="<f4").data.cast("B")


@dataclass(frozen=True)
class ChunkGrid:
    """Where the chunks of a fragment of `num_elements` begin and end."""

    num_elements: int

    def __post_init__(self) -> None:
        if self.num_elements < 1:
            raise ValueError(f"num_elements: expected at least 1, found {self.num_elements}")

    @property
    def num_chunks(self) -> int:
        """Chunks, the last of which may be partly padding."""
        return -(-self.num_elements // CHUNK_ELEMENTS)

    def bounds(self, index: int) -> tuple[int, int]:
        """First element of a chunk and the one after its last real element.

        Raises:
            IndexError: there is no such chunk.
        """
        if not 0 <= index < self.num_chunks:
            raise IndexError(f"chunk: expected 0 to {self.num_chunks - 1}, found {index}")
        start = index * CHUNK_ELEMENTS
        return start, min(start + CHUNK_ELEMENTS, self.num_elements)

    def num_real(self, index: int) -> int:
        """Elements of a chunk that are not padding."""
        start, stop = self.bounds(index)
        return stop - start

    def padded(self, vector: Float32Vector, index: int) -> Float32Vector:
        """Chunk `index` of a whole fragment f32[num_elements] as a new f32[2^20], zeros behind its real elements.

        Raises:
            ValueError: the vector has another length.
        """
        if check_vector(vector, "fragment").size != self.num_elements:
            raise ValueError(f"fragment: expected {self.num_elements} elements, found {vector.size}")
        start, stop = self.bounds(index)
        return pad_chunk(vector[start:stop])


def pad_chunk(real: Float32Vector) -> Float32Vector:
    """A new f32[2^20]: the given elements (2^20 at most), then zeros."""
    if check_vector(real, "chunk").size > CHUNK_ELEMENTS:
        raise ValueError(f"chunk: expected at most {CHUNK_ELEMENTS} elements, found {real.size}")
    padded = np.zeros(CHUNK_ELEMENTS, np.float32)
    padded[: real.size] = real
    return padded


class FragmentHasher:
    """The digest of a fragment, chunk by chunk in ascending order. Memory: a few hashes, whatever the length."""

    def __init__(self) -> None:
        self._root = merkle.Frontier()
        self._full = True

    def update(self, chunk: Float32Vector) -> None:
        """Adds the next chunk: f32[n], n <= 2^20; shorter than that only as the last one, its padding is implied.

        Raises:
            ValueError: a chunk follows one that was not whole, or is empty or too long.
        """
        size = check_vector(chunk, "chunk").size
        if not self._full or not 0 < size <= CHUNK_ELEMENTS:
            raise ValueError(f"chunk: expected {CHUNK_ELEMENTS} elements, fewer only in the last, found {size} more")
        self._full = size == CHUNK_ELEMENTS
        self._root.append(chunk_hash(chunk))

    def hexdigest(self) -> str:
        """The digest of the chunks so far."""
        return self._root.root().hex()


def fragment_digest(vector: Float32Vector) -> str:
    """The digest of a whole fragment f32[n], in lower-case hexadecimal."""
    hasher = FragmentHasher()
    for index in range((grid := ChunkGrid(vector.size)).num_chunks):
        start, stop = grid.bounds(index)
        hasher.update(vector[start:stop])
    return hasher.hexdigest()


def zero_digest(num_elements: int) -> str:
    """The digest of a fragment of zeros: momentum and residual of every version 0."""
    root = merkle.Frontier()
    for _ in range(ChunkGrid(num_elements).num_chunks):
        root.append(_zero_leaf_hash())
    return root.root().hex()


@cache
def _zero_leaf_hash() -> bytes:
    return hashlib.sha256(_LEAF_PREFIX + bytes(CHUNK_BYTES)).digest()


def chunk_hash(chunk: Float32Vector) -> bytes:
    """The hash of one chunk f32[n], n <= 2^20, as a leaf of its fragment's digest: `merkle.root_of` makes that of them.

    Threads may hash the chunks of a fragment at the same time; the digest takes their hashes in ascending order.
    """
    # By bits, not by value: -0.0 is not what zero padding is made of. Looking at all of them takes long, and is rarely
    # needed where the first one is looked at before.
    bits = chunk.view(np.uint32)
    if not bits[:1].any() and not bits.any():
        return _zero_leaf_hash()
    # merkle.leaf_hash over the padded bytes, without building them.
    state = hashlib.sha256(_LEAF_PREFIX)
    state.update(little_endian_bytes(chunk))
    state.update(memoryview(_ZEROS)[: CHUNK_BYTES - chunk.nbytes])
    return state.digest()


_ZEROS: Final = bytes(CHUNK_BYTES)
