# SPDX-License-Identifier: Apache-2.0
"""Memory of vectors that are no longer needed, for the next ones of the same length: no page is mapped again."""

import numpy as np

from federation.chunks import Float32Vector

MAX_PER_LENGTH = 2
"""Of one fragment at most a new theta and a new error feedback are made at a time."""


class SpareVectors:
    """Vectors to be overwritten. Belongs to one thread, but `is_lent` may be reset by another.

    Attributes:
        is_lent: somebody else still reads vectors that were current not long ago; until then nothing is overwritten.
    """

    def __init__(self) -> None:
        self.is_lent = False
        self._spares: dict[int, list[Float32Vector]] = {}

    def take(self, num_elements: int) -> Float32Vector:
        """f32[num_elements] with any content."""
        spares = self._spares.get(num_elements)
        if spares and not self.is_lent:
            return spares.pop()
        return np.empty(num_elements, np.float32)

    def give(self, vector: Float32Vector) -> None:
        """Hands over a vector that the caller will not look at again."""
        spares = self._spares.setdefault(vector.size, [])
        if len(spares) < MAX_PER_LENGTH:
            spares.append(vector)
