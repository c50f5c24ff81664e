# SPDX-License-Identifier: Apache-2.0
"""Memory of vectors that are no longer needed, for the next ones of the same length: no page is mapped again."""

from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector

MAX_PER_LENGTH = 2
"""Of one fragment at most a new theta and a new error feedback are made at a time."""

T = TypeVar("T", np.float32, np.uint8)
_Shelves: TypeAlias = dict[int, list[npt.NDArray[T]]]


class SpareVectors:
    """Vectors to be overwritten. Belongs to one thread, but `is_lent` may be reset by another.

    Attributes:
        is_lent: somebody else still reads vectors that were current not long ago; until then nothing is overwritten.
    """

    def __init__(self) -> None:
        self.is_lent = False
        self._spares: _Shelves[np.float32] = {}
        self._payloads: _Shelves[np.uint8] = {}

    def take(self, num_elements: int) -> Float32Vector:
        """f32[num_elements] with any content."""
        found = self._found(self._spares, num_elements)
        return np.empty(num_elements, np.float32) if found is None else found

    def give(self, vector: Float32Vector) -> None:
        """Hands over a vector that the caller will not look at again."""
        _put(self._spares, vector)

    def take_payload(self, num_bytes: int) -> ByteVector:
        """u8[num_bytes] with any content."""
        found = self._found(self._payloads, num_bytes)
        return np.empty(num_bytes, np.uint8) if found is None else found

    def give_payload(self, payload: ByteVector) -> None:
        """Hands over a payload that nobody writes to a file any more."""
        _put(self._payloads, payload)

    def _found(self, shelves: _Shelves[T], length: int) -> npt.NDArray[T] | None:
        vectors = shelves.get(length)
        return vectors.pop() if vectors and not self.is_lent else None


def _put(shelves: _Shelves[T], vector: npt.NDArray[T]) -> None:
    vectors = shelves.setdefault(vector.size, [])
    if len(vectors) < MAX_PER_LENGTH:
        vectors.append(vector)
