# SPDX-License-Identifier: Apache-2.0
"""Inputs of the golden vectors: fp32 values assembled bit by bit from an integer sequence.

No floating-point operation and no library's random distribution takes part, so every machine has the same inputs for
ever. The integers are SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector

_GAMMA: Final = 0x9E3779B97F4A7C15
_MASK: Final = 2**64 - 1


def integers(seed: int, count: int) -> npt.NDArray[np.uint64]:
    """The first `count` values u64[count] of SplitMix64 from a seed."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    z = steps + np.uint64(seed & _MASK)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def floats(seed: int, count: int, low: int, high: int) -> Float32Vector:
    """f32[count] of either sign with any mantissa and an exponent field from `low` to `high`.

    The field is the power of two plus 127; 0 gives zeros and subnormals, 255 would give NaN and infinity.
    """
    drawn = integers(seed, count)
    sign = (drawn >> np.uint64(63)).astype(np.uint32) << np.uint32(31)
    spread = np.uint64(high - low + 1)
    exponent = (np.uint64(low) + (drawn >> np.uint64(24)) % spread).astype(np.uint32) << np.uint32(23)
    mantissa = (drawn & np.uint64(0x7FFFFF)).astype(np.uint32)
    return (sign | exponent | mantissa).view(np.float32)


def usual(seed: int, count: int) -> Float32Vector:
    """Magnitudes from 2^-20 to 2, as parameters and pseudo-gradients have."""
    return floats(seed, count, 107, 127)


def wide(seed: int, count: int) -> Float32Vector:
    """Magnitudes from 2^-126 to 2^100 side by side."""
    return floats(seed, count, 1, 226)


def half_range(seed: int, count: int) -> Float32Vector:
    """Magnitudes from 2^-30 to 2^15 side by side: fp16's range, and what is too small for it."""
    return floats(seed, count, 97, 141)


def few(seed: int, count: int) -> Float32Vector:
    """One in a hundred has a magnitude from 2^-20 to 2, the others are zeros of either sign."""
    bits = usual(seed, count).view(np.uint32)
    chosen = integers(~seed, count) % np.uint64(100) == 0
    return np.where(chosen, bits, bits & np.uint32(1 << 31)).view(np.float32)


def order_matters(seed: int, count: int) -> Float32Vector:
    """Zeros but for 64 values at the beginning of each 4096, forwards and backwards in turn; needs no seed.

    28 of about 2, then 28 of 2^-49, then 8 of 2^15. The mean of the first 56 lies on a tie of fp32 beside one of fp16,
    if the small ones are lost one by one behind the others; above it, if they are added up first.
    """
    del seed
    low = np.float32(2 + 2.0**-10)
    pair = [low, np.nextafter(low, np.float32(3))]
    values = np.array([*pair * 14, *[2.0**-49] * 28, *[2.0**15] * 8], np.float32)
    x = np.zeros(-(-count // 8192) * 8192, np.float32).reshape(-1, 8192)
    x[:, :64], x[:, 4096:4160] = values, values[::-1]
    return x.reshape(-1)[:count]


def tiny(seed: int, count: int) -> Float32Vector:
    """Subnormals and what becomes subnormal when it is divided."""
    return floats(seed, count, 0, 4)


def halves(seed: int, count: int) -> Float32Vector:
    """k/2 for integers |k| <= 14: under int4 with a largest value of 7 in each block, every other one is a tie.

    The sign bit is kept at zero magnitude, so negative zeros are among them.
    """
    drawn = integers(seed, count)
    k = (drawn % np.uint64(15)).astype(np.float32)
    # Each block of 128 holds a 7, whose scale under int4 is exactly 1.
    k[::128] = np.float32(14)
    magnitudes = np.multiply(k, np.float32(0.5))
    sign = (drawn >> np.uint64(63)).astype(np.uint32) << np.uint32(31)
    return (magnitudes.view(np.uint32) | sign).view(np.float32)
