# SPDX-License-Identifier: Apache-2.0
"""int8 and int4 block by block (`federation.codecs.scaled_int`), every loop of a kind that vectorises.

The largest magnitude is found among bits, which the compiler reduces in vectors, where a maximum of floats has NaN to
think of. Integers out of range are gathered lane by lane and looked at once in the end: a reduction a block costs more.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from federation.codecs.api import ByteVector
from federation.kernels.blocks import BlockKernels, Blocks, Stored
from federation.kernels.compiled import (
    BLOCKS_IN,
    BLOCKS_OUT,
    COUNT,
    STATUS,
    STORED_IN,
    STORED_OUT,
    Integer,
    compiled,
    inlined,
)

Integers: TypeAlias = npt.NDArray[np.int8]
"""i8[128]: the integers of the block at hand."""

_BLOCK: Final = 128
_ABS: Final = np.uint32(0x7FFFFFFF)
_MAX_BITS: Final = np.uint32((127 + 120) << 23)
"""2^120 as fp32 bits. Infinity and every NaN are above it."""

_MAX_SCALE_BITS: Final = (127 + 120) << 7
_INFINITY: Final = np.float32(np.inf)
_REFUSED: Final = 1


@inlined
def _scale_bits(bits_E: npt.NDArray[np.uint32], limit: np.float32) -> Integer:
    """The scale's bf16 bits from the bits of a block's elements; negative if a magnitude is refused."""
    largest = np.uint32(0)
    for i in range(_BLOCK):
        magnitude = np.uint32(bits_E[i] & _ABS)
        largest = magnitude if magnitude > largest else largest
    if largest > _MAX_BITS:
        return -1
    bits = np.float32(np.uint32(largest).view(np.float32) / limit).view(np.uint32)
    return np.int64((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@inlined
def _quantised(x: np.float32, divisor: np.float32, limit: int) -> np.int8:
    # Not far from the limit even where the scale is subnormal, so it fits an integer before it is clipped.
    q = np.int32(np.rint(x / divisor))
    q = q if q < limit else np.int32(limit)
    return np.int8(q if q > -limit else np.int32(-limit))


@inlined
def _divisor(scale_bits: Integer) -> np.float32:
    return np.uint32(scale_bits << 16).view(np.float32) if scale_bits != 0 else _INFINITY


@inlined
def _write_scale(bits: Integer, stored_S: ByteVector) -> None:
    stored_S[0], stored_S[1] = np.uint8(bits & 0xFF), np.uint8(bits >> 8)


@compiled(STATUS, BLOCKS_IN, STORED_OUT)
def _encode_int8(x_BE: Blocks, stored_BS: Stored) -> int:
    bits_BE, signed_BS = x_BE.view(np.uint32), stored_BS.view(np.int8)
    for b in range(x_BE.shape[0]):
        scale_bits = _scale_bits(bits_BE[b], np.float32(127))
        if scale_bits < 0:
            return _REFUSED
        _write_scale(scale_bits, stored_BS[b])
        divisor = _divisor(scale_bits)
        for i in range(_BLOCK):
            signed_BS[b, 2 + i] = _quantised(x_BE[b, i], divisor, 127)
    return 0


@compiled(STATUS, BLOCKS_IN, STORED_OUT)
def _encode_int4(x_BE: Blocks, stored_BS: Stored) -> int:
    bits_BE, q_E = x_BE.view(np.uint32), np.empty(_BLOCK, np.int8)
    # Two integers side by side are one little-endian number.
    pairs = q_E.view(np.uint16)
    for b in range(x_BE.shape[0]):
        scale_bits = _scale_bits(bits_BE[b], np.float32(7))
        if scale_bits < 0:
            return _REFUSED
        _write_scale(scale_bits, stored_BS[b])
        divisor = _divisor(scale_bits)
        for i in range(_BLOCK):
            q_E[i] = _quantised(x_BE[b, i], divisor, 7)
        for i in range(_BLOCK // 2):
            pair = pairs[i]
            stored_BS[b, 2 + i] = np.uint8((pair & np.uint16(0x0F)) | ((pair >> np.uint16(4)) & np.uint16(0xF0)))
    return 0


@inlined
def _stored_bits(stored_S: ByteVector) -> np.int64:
    return np.int64(stored_S[0]) | (np.int64(stored_S[1]) << 8)


@inlined
def _any_from(q_E: Integers, first: int) -> bool:
    for i in range(first, _BLOCK):  # noqa: SIM110 (numba compiles no generator)
        if q_E[i] != 0:
            return True
    return False


@inlined
def _any_below(lowest_E: Integers, limit: int) -> int:
    for i in range(_BLOCK):
        if lowest_E[i] < limit:
            return _REFUSED
    return 0


# What is written block by block is written here and not in a function of a block: handed on as a slice, memory may be
# anywhere for the compiler, and its loops take four times as long.


@compiled(STATUS, STORED_IN, BLOCKS_OUT, COUNT)
def _decode_int8(stored_BS: Stored, out_BE: Blocks, num_real: int) -> int:
    signed_BS, lowest_E = stored_BS.view(np.int8), np.zeros(_BLOCK, np.int8)
    for b in range(out_BE.shape[0]):
        for i in range(_BLOCK):
            lowest_E[i] = min(lowest_E[i], signed_BS[b, 2 + i])
        bits = _stored_bits(stored_BS[b])
        if bits > _MAX_SCALE_BITS or _any_from(signed_BS[b, 2:], 0 if bits == 0 else num_real):
            return _REFUSED
        scale = np.uint32(bits << 16).view(np.float32)
        for i in range(_BLOCK):
            out_BE[b, i] = np.float32(signed_BS[b, 2 + i]) * scale
    return _any_below(lowest_E, -127)


@compiled(STATUS, STORED_IN, BLOCKS_OUT, COUNT)
def _decode_int4(stored_BS: Stored, out_BE: Blocks, num_real: int) -> int:
    lowest_E, q_E = np.zeros(_BLOCK, np.int8), np.empty(_BLOCK, np.int8)
    pairs = q_E.view(np.uint16)
    for b in range(out_BE.shape[0]):
        for i in range(_BLOCK // 2):
            byte = np.uint16(stored_BS[b, 2 + i])
            pairs[i] = (byte & np.uint16(0x0F)) | ((byte & np.uint16(0xF0)) << np.uint16(4))
        for i in range(_BLOCK):
            # Four bits in two's complement: their sign is extended.
            q_E[i] = np.int8((q_E[i] ^ np.int8(8)) - np.int8(8))
            lowest_E[i] = min(lowest_E[i], q_E[i])
        bits = _stored_bits(stored_BS[b])
        if bits > _MAX_SCALE_BITS or _any_from(q_E, 0 if bits == 0 else num_real):
            return _REFUSED
        scale = np.uint32(bits << 16).view(np.float32)
        for i in range(_BLOCK):
            out_BE[b, i] = np.float32(q_E[i]) * scale
    return _any_below(lowest_E, -7)


INT8: Final = BlockKernels(
    block_elements=_BLOCK, bytes_per_block=130, encode_blocks=_encode_int8, decode_blocks=_decode_int8
)
INT4: Final = BlockKernels(
    block_elements=_BLOCK, bytes_per_block=66, encode_blocks=_encode_int4, decode_blocks=_decode_int4
)
