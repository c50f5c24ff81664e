# SPDX-License-Identifier: Apache-2.0
"""The largest magnitude of a vector, found among bits: those of non-negative values ascend with them."""

from typing import Final

import numpy as np

from federation.chunks import Float32Vector
from federation.kernels.compiled import BITS, FLOATS_IN, compiled

INFINITY_BITS: Final = 0x7F800000
"""Infinity as fp32 bits; every NaN is above it."""

_ABS: Final = np.uint32(0x7FFFFFFF)


@compiled(BITS, FLOATS_IN)
def largest_bits(x: Float32Vector) -> int:
    """The fp32 bits of max|x|, where a NaN counts as more than infinity."""
    bits, largest = x.view(np.uint32), np.uint32(0)
    for i in range(bits.size):
        magnitude = np.uint32(bits[i] & _ABS)
        largest = magnitude if magnitude > largest else largest
    return largest  # type: ignore[return-value]  # compiled, it is an integer of Python's
