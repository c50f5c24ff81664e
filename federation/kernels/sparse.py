# SPDX-License-Identifier: Apache-2.0
"""sparse and sparse-down block by block (`federation.codecs.sparse`, `sparse_down`, `top_k`).

The k largest magnitudes of a block are those not below some number, which is found by bisection: counting what is not
below a guess is one comparison per element in vectors, about ten guesses suffice, and bits are compared, so that the
last guess is exact. Both codecs are in this file because they share that, see `compiled`.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector
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

Bits: TypeAlias = npt.NDArray[np.uint32]
"""u32[4096]: a block's elements as bits."""

Places: TypeAlias = npt.NDArray[np.int64]
"""i64[k + 1]: indices of the block at hand; the last one is scratch."""

_BLOCK: Final = 4096
_KEPT: Final = 64
_KEPT_DOWN: Final = 256
_ABS: Final = np.uint32(0x7FFFFFFF)
_MAX_BITS: Final = 0x477FE000
"""65504 as fp32 bits, sparse's largest magnitude."""

_MAX_BITS_DOWN: Final = (127 + 120) << 23
"""2^120 as fp32 bits, sparse-down's."""

_OCTAVE: Final = 1 << 23
_MAX_SCALE_BITS: Final = (127 + 120) << 7
_REFUSED: Final = 1


@inlined
def _largest(bits_E: Bits) -> Integer:
    largest = np.uint32(0)
    for i in range(_BLOCK):
        magnitude = np.uint32(bits_E[i] & _ABS)
        largest = magnitude if magnitude > largest else largest
    return np.int64(largest)


@inlined
def _count(bits_E: Bits, threshold: Integer) -> Integer:
    """Elements with a magnitude of at least `threshold`, as bits."""
    least, count = np.uint32(threshold), np.uint32(0)
    for i in range(_BLOCK):
        count = np.uint32(count + np.uint32(np.uint32(bits_E[i] & _ABS) >= least))
    return np.int64(count)


@inlined
def _threshold(bits_E: Bits, largest: Integer, k: int) -> tuple[Integer, Integer]:
    """What is kept: magnitudes of at least this, as bits; of that very one, the first so many, or 0 for all of them."""
    # More than k elements, in the end at least k, are not below `low`; fewer than k are not below `high`.
    low = high = np.int64(largest + 1)
    above, step = np.int64(0), _OCTAVE
    while low > 1:
        low = low - step if low > step else np.int64(1)
        step *= 2
        count = np.int64(_count(bits_E, low))
        if count == k:
            return low, 0
        if count > k:
            break
        high, above = low, count
    if low == high:
        return 1, 0
    while high - low > 1:
        middle = (low + high) // 2
        count = np.int64(_count(bits_E, middle))
        if count == k:
            return middle, 0
        if count > k:
            low = middle
        else:
            high, above = middle, count
    return low, k - above


@inlined
def _gather(bits_E: Bits, least: np.uint32, place_K: Places) -> Integer:
    """The indices of magnitudes of at least `least`, and their number."""
    used = np.int64(0)
    for i in range(_BLOCK):
        # Written each time and kept by moving on: a branch would be guessed wrong too often.
        place_K[used] = i
        used += np.int64(np.uint32(bits_E[i] & _ABS) >= least)
    return used


@inlined
def _gather_with_ties(bits_E: Bits, least: np.uint32, ties: Integer, place_K: Places) -> Integer:
    used, left = np.int64(0), np.int64(ties)
    for i in range(_BLOCK):
        magnitude = np.uint32(bits_E[i] & _ABS)
        is_tie = magnitude == least
        place_K[used] = i
        used += np.int64(magnitude > least or (is_tie and left > 0))
        left -= np.int64(is_tie)
    return used


@inlined
def _select(bits_E: Bits, largest: Integer, k: int, place_K: Places) -> Integer:
    """The kept elements' indices, ascending, then the last one again; returns how many are kept."""
    threshold, ties = _threshold(bits_E, largest, k)
    least = np.uint32(threshold)
    used = _gather(bits_E, least, place_K) if ties == 0 else _gather_with_ties(bits_E, least, ties, place_K)
    last = place_K[used - 1] if used > 0 else 0
    for j in range(used, k):
        place_K[j] = last
    return used


@inlined
def _pack_places(place_K: Places, packed: ByteVector, k: int) -> None:
    for j in range(k // 2):
        a, b = place_K[2 * j], place_K[2 * j + 1]
        packed[3 * j] = np.uint8(a & 255)
        packed[3 * j + 1] = np.uint8((a >> 8) | ((b & 15) << 4))
        packed[3 * j + 2] = np.uint8(b >> 4)


@inlined
def _unpack_places(packed: ByteVector, k: int, num_real: int, place_K: Places) -> int:
    """The indices, each below 4096; returns how many are used, 0 if they are not in order or not below `num_real`."""
    for j in range(k // 2):
        low, middle, high = np.int64(packed[3 * j]), np.int64(packed[3 * j + 1]), np.int64(packed[3 * j + 2])
        place_K[2 * j] = low | ((middle & 15) << 8)
        place_K[2 * j + 1] = (middle >> 4) | (high << 4)
    used = 1
    while used < k and place_K[used] > place_K[used - 1]:
        used += 1
    for j in range(used, k):
        if place_K[j] != place_K[used - 1]:
            return 0
    return used if place_K[k - 1] < num_real else 0


@inlined
def _to_fp16(value: np.float32) -> Integer:
    """The fp16 bits nearest to a value of at most 65504, half to even."""
    bits = np.int64(np.float32(value).view(np.uint32))
    sign, magnitude = (bits >> 16) & 0x8000, bits & 0x7FFFFFFF
    if magnitude < 113 << 23:
        # Subnormal in fp16: a multiple of 2^-24. The product is exact, and 1024 is the smallest normal value's bits.
        return sign | np.int64(np.rint(np.float32(abs(value) * np.float32(2.0**24))))
    magnitude -= 112 << 23
    return sign | ((magnitude + 0xFFF + ((magnitude >> 13) & 1)) >> 13)


@inlined
def _from_fp16(bits: Integer) -> np.float32:
    """The value of finite fp16 bits."""
    exponent, mantissa = (bits >> 10) & 31, bits & 1023
    if exponent == 0:
        value = np.float32(np.float32(mantissa) * np.float32(2.0**-24))
        return -value if bits & 0x8000 else value
    return np.uint32(((bits & 0x8000) << 16) | ((exponent + 112) << 23) | (mantissa << 13)).view(np.float32)


@inlined
def _encode_values(x_E: Float32Vector, place_K: Places, used: Integer, stored_S: ByteVector) -> None:
    """Codes and codebook of the kept elements."""
    total = 0.0
    for j in range(used):
        total += abs(np.float64(x_E[place_K[j]]))
    mean = total / max(used, 1)
    sums, counts = np.zeros(4, np.float64), np.zeros(4, np.int64)
    for j in range(_KEPT // 4):
        stored_S[96 + j] = 0
    for j in range(used):
        value = np.float64(x_E[place_K[j]])
        code = 2 * np.int64(value < 0) + np.int64(abs(value) > mean)
        sums[code] += value
        counts[code] += 1
        stored_S[96 + j // 4] |= np.uint8(code << (2 * (j % 4)))
    for c in range(4):
        bits = np.int64(_to_fp16(np.float32(sums[c] / max(counts[c], 1))))
        stored_S[112 + 2 * c], stored_S[113 + 2 * c] = np.uint8(bits & 255), np.uint8(bits >> 8)


@compiled(STATUS, BLOCKS_IN, STORED_OUT)
def _encode_sparse(x_BE: Blocks, stored_BS: Stored) -> int:
    bits_BE, place_K = x_BE.view(np.uint32), np.empty(_KEPT + 1, np.int64)
    for b in range(x_BE.shape[0]):
        largest = _largest(bits_BE[b])
        if largest > _MAX_BITS:
            return _REFUSED
        used = _select(bits_BE[b], largest, _KEPT, place_K)
        _pack_places(place_K, stored_BS[b], _KEPT)
        _encode_values(x_BE[b], place_K, used, stored_BS[b])
    return 0


@inlined
def _load_codebook(stored_S: ByteVector, codebook: Float32Vector) -> int:
    for code in range(4):
        bits = np.int64(stored_S[112 + 2 * code]) | (np.int64(stored_S[113 + 2 * code]) << 8)
        negative = bits >= 0x8000
        if bits & 0x7C00 == 0x7C00 or (negative if code < 2 else not negative and bits != 0):
            return _REFUSED
        codebook[code] = _from_fp16(bits)
    return 0


@compiled(STATUS, STORED_IN, BLOCKS_OUT, COUNT)
def _decode_sparse(stored_BS: Stored, out_BE: Blocks, num_real: int) -> int:
    place_K, codebook = np.empty(_KEPT + 1, np.int64), np.empty(4, np.float32)
    for b in range(out_BE.shape[0]):
        used = _unpack_places(stored_BS[b], _KEPT, num_real, place_K)
        if used == 0 or _load_codebook(stored_BS[b], codebook) != 0:
            return _REFUSED
        for i in range(_BLOCK):
            out_BE[b, i] = 0
        for j in range(_KEPT):
            code = (stored_BS[b, 96 + j // 4] >> np.uint8(2 * (j % 4))) & 3
            if j < used:
                out_BE[b, place_K[j]] = codebook[code]
            elif code != 0:
                return _REFUSED
    return 0


@inlined
def _scale_bits(largest: Integer) -> Integer:
    bits = np.float32(np.uint32(largest).view(np.float32) / np.float32(7)).view(np.uint32)
    return np.int64((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@inlined
def _nibble(x: np.float32, divisor: np.float32) -> Integer:
    return np.int64(min(max(np.rint(x / divisor), np.float32(-7)), np.float32(7))) & 15


@compiled(STATUS, BLOCKS_IN, STORED_OUT)
def _encode_sparse_down(x_BE: Blocks, stored_BS: Stored) -> int:
    bits_BE, place_K = x_BE.view(np.uint32), np.empty(_KEPT_DOWN + 1, np.int64)
    for b in range(x_BE.shape[0]):
        largest = _largest(bits_BE[b])
        if largest > _MAX_BITS_DOWN:
            return _REFUSED
        used = _select(bits_BE[b], largest, _KEPT_DOWN, place_K)
        scale_bits = _scale_bits(largest)
        stored_BS[b, 0], stored_BS[b, 1] = np.uint8(scale_bits & 255), np.uint8(scale_bits >> 8)
        _pack_places(place_K, stored_BS[b, 2:], _KEPT_DOWN)
        divisor = np.uint32(scale_bits << 16).view(np.float32) if scale_bits != 0 else np.float32(np.inf)
        for j in range(_KEPT_DOWN // 2):
            low = _nibble(x_BE[b, place_K[2 * j]], divisor) if 2 * j < used else 0
            high = _nibble(x_BE[b, place_K[2 * j + 1]], divisor) if 2 * j + 1 < used else 0
            stored_BS[b, 386 + j] = np.uint8(low | (high << 4))
    return 0


@compiled(STATUS, STORED_IN, BLOCKS_OUT, COUNT)
def _decode_sparse_down(stored_BS: Stored, out_BE: Blocks, num_real: int) -> int:
    place_K = np.empty(_KEPT_DOWN + 1, np.int64)
    for b in range(out_BE.shape[0]):
        used = _unpack_places(stored_BS[b, 2:], _KEPT_DOWN, num_real, place_K)
        bits = np.int64(stored_BS[b, 0]) | (np.int64(stored_BS[b, 1]) << 8)
        if used == 0 or bits > _MAX_SCALE_BITS:
            return _REFUSED
        scale = np.uint32(bits << 16).view(np.float32)
        for i in range(_BLOCK):
            out_BE[b, i] = 0
        for j in range(_KEPT_DOWN):
            q = (((np.int64(stored_BS[b, 386 + j // 2]) >> (4 * (j % 2))) & 15) ^ 8) - 8
            if q == -8 or (q != 0 and (bits == 0 or j >= used)):
                return _REFUSED
            if j < used:
                out_BE[b, place_K[j]] = np.float32(q) * scale
    return 0


SPARSE: Final = BlockKernels(
    block_elements=_BLOCK, bytes_per_block=120, encode_blocks=_encode_sparse, decode_blocks=_decode_sparse
)
SPARSE_DOWN: Final = BlockKernels(
    block_elements=_BLOCK, bytes_per_block=514, encode_blocks=_encode_sparse_down, decode_blocks=_decode_sparse_down
)
