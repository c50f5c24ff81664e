# SPDX-License-Identifier: Apache-2.0
"""Unsigned integers of 12, 4 and 2 bits in bytes, little-endian: the first one is in the lowest bits."""

from typing import Final

import numpy as np
import numpy.typing as npt

MAX_INDEX: Final = 4095
"""Largest 12-bit index."""


def pack_indices(index_BK: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Bytes u8[blocks, 3 k / 2] of indices i64[blocks, k].

    A pair (a, b) becomes the bytes a & 255, a >> 8 | (b & 15) << 4, b >> 4.

    Raises:
        ValueError: an odd k, or an index outside 0 to 4095: the caller's bug.
    """
    if index_BK.shape[1] % 2:
        raise ValueError(f"12-bit indices: expected an even count, found {index_BK.shape[1]}")
    if index_BK.size and not 0 <= index_BK.min() <= index_BK.max() <= MAX_INDEX:
        raise ValueError(f"12-bit indices: expected 0 to {MAX_INDEX}, found {index_BK.min()} to {index_BK.max()}")
    a, b = index_BK[:, 0::2], index_BK[:, 1::2]
    packed = np.stack([a & 255, (a >> 8) | ((b & 15) << 4), b >> 4], axis=2)
    return packed.astype(np.uint8).reshape(len(index_BK), -1)


def unpack_indices(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The indices i64[blocks, k] in bytes u8[blocks, 3 k / 2]; every one is from 0 to 4095."""
    low, middle, high = (packed[:, i::3].astype(np.int64) for i in range(3))
    pairs = np.stack([low | ((middle & 15) << 8), (middle >> 4) | (high << 4)], axis=2)
    return pairs.reshape(len(packed), -1)


def pack_codes(code_BK: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Bytes u8[blocks, k / 4] of 2-bit codes u8[blocks, k]."""
    packed = np.zeros((len(code_BK), code_BK.shape[1] // 4), np.uint8)
    for i in range(4):
        packed |= code_BK[:, i::4] << np.uint8(2 * i)
    return packed


def unpack_codes(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The 2-bit codes u8[blocks, k] in bytes u8[blocks, k / 4]."""
    codes = np.stack([packed >> np.uint8(2 * i) & np.uint8(3) for i in range(4)], axis=2)
    return codes.reshape(len(packed), -1)


def pack_nibbles(q: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Bytes u8[blocks, k / 2] of two's complement nibbles i8[blocks, k] in [-8, 7]."""
    nibbles = q.view(np.uint8) & np.uint8(0x0F)
    return nibbles[:, 0::2] | (nibbles[:, 1::2] << np.uint8(4))


def unpack_nibbles(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """The integers i8[blocks, k] in [-8, 7] in bytes u8[blocks, k / 2]."""
    q = np.empty((packed.shape[0], 2 * packed.shape[1]), np.int8)
    signed = packed.view(np.int8)
    # An arithmetic shift right extends the sign of the upper nibble; the lower one is shifted up first.
    np.right_shift(np.left_shift(signed, np.int8(4)), np.int8(4), out=q[:, 0::2])
    np.right_shift(signed, np.int8(4), out=q[:, 1::2])
    return q
