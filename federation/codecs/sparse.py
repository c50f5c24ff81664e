# SPDX-License-Identifier: Apache-2.0
"""sparse: the 64 largest of 4096 elements, with four values to choose from (SparseLoCo, arXiv 2508.15706).

A block of 120 bytes: 64 ascending 12-bit indices (96 bytes), 64 codes of 2 bits (16 bytes), a codebook of four fp16
values (8 bytes). Code 2 is the sign, code 1 says that the magnitude is above the block's mean. The value of a code is
the mean of the elements that have it, so their sum is kept. Unused places (see `top_k`) have code 0.

Sums are fp64, sequential by ascending index; a mean is rounded to fp32 and then to fp16, half to even.
"""

from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.codecs.packing import pack_codes, pack_indices, unpack_codes, unpack_indices
from federation.codecs.top_k import BLOCK_ELEMENTS, Mask, largest_of, scatter, used_places
from federation.errors import MalformedPayloadError, NonFinitePayloadError, NonFiniteUpdateError

NUM_KEPT: Final = 64
"""Elements that a block keeps at most."""

MAX_MAGNITUDE: Final = np.float32(65504)
"""Largest |x| that is encoded: fp16's largest value, which no mean can exceed then."""

_NUM_CODES: Final = 4
_INDEX_BYTES: Final = NUM_KEPT * 12 // 8
_CODEBOOK_AT: Final = _INDEX_BYTES + NUM_KEPT * 2 // 8
_EXPONENT: Final = np.uint16(0x7C00)
_SIGN: Final = np.uint16(0x8000)


class SparseCodec(Codec):
    """A 137th of fp32's bytes; what it drops is error feedback's to carry."""

    name: ClassVar[str] = "sparse"
    block_elements: ClassVar[int] = BLOCK_ELEMENTS
    bytes_per_block: ClassVar[int] = _CODEBOOK_AT + 2 * _NUM_CODES

    def _encode(self, x: Float32Vector) -> ByteVector:
        x_BE = self.whole_blocks(x)
        largest = np.abs(x).max()
        # The comparison is false for NaN too.
        if not largest <= MAX_MAGNITUDE:
            raise NonFiniteUpdateError(f"sparse: expected magnitudes up to {MAX_MAGNITUDE:.0f}, found {largest}")
        index_BK, used_BK = largest_of(x_BE, NUM_KEPT)
        kept_BK = np.where(used_BK, np.take_along_axis(x_BE, index_BK, axis=1), np.float32(0)).astype(np.float64)
        code_BK = _codes(kept_BK, used_BK)
        stored = np.empty((len(x_BE), self.bytes_per_block), np.uint8)
        stored[:, :_INDEX_BYTES] = pack_indices(index_BK)
        stored[:, _INDEX_BYTES:_CODEBOOK_AT] = pack_codes(code_BK)
        stored[:, _CODEBOOK_AT:] = _codebook(kept_BK, code_BK, used_BK).astype("<f2").view(np.uint8)
        return stored.reshape(-1)

    def _decode(self, raw: ByteVector, num_elements: int) -> Float32Vector:
        stored = raw.reshape(-1, self.bytes_per_block)
        index_BK = unpack_indices(stored[:, :_INDEX_BYTES])
        used_BK = used_places(self.name, index_BK, num_elements)
        code_BK = unpack_codes(stored[:, _INDEX_BYTES:_CODEBOOK_AT])
        _check_unused(code_BK, used_BK)
        bits_BC = np.ascontiguousarray(stored[:, _CODEBOOK_AT:]).view("<u2").astype(np.uint16, copy=False)
        _check_codebook(bits_BC)
        value_BC = bits_BC.view(np.float16).astype(np.float32)
        return scatter(np.take_along_axis(value_BC, code_BK.astype(np.int64), axis=1), index_BK, used_BK, num_elements)


def _codes(kept_BK: npt.NDArray[np.float64], used_BK: Mask) -> npt.NDArray[np.uint8]:
    magnitude_BK = np.abs(kept_BK)
    mean_B = _sequential_sum(magnitude_BK) / np.maximum(used_BK.sum(axis=1), 1)
    # Unused places hold zeros, which are neither negative nor above a mean of magnitudes.
    code_BK: npt.NDArray[np.uint8] = (2 * (kept_BK < 0) + (magnitude_BK > mean_B[:, None])).astype(np.uint8)
    return code_BK


def _codebook(
    kept_BK: npt.NDArray[np.float64], code_BK: npt.NDArray[np.uint8], used_BK: Mask
) -> npt.NDArray[np.float16]:
    codebook_BC = np.empty((len(kept_BK), _NUM_CODES), np.float16)
    for code in range(_NUM_CODES):
        having_BK = used_BK & (code_BK == code)
        mean_B = _sequential_sum(np.where(having_BK, kept_BK, 0.0)) / np.maximum(having_BK.sum(axis=1), 1)
        codebook_BC[:, code] = mean_B.astype(np.float32).astype(np.float16)
    return codebook_BC


def _sequential_sum(x_BK: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sums over the places, one after the other; a library's own sum has its own order. Zeros change nothing."""
    total_B = np.zeros(len(x_BK), np.float64)
    for column_B in x_BK.T:
        total_B += column_B
    return total_B


def _check_unused(code_BK: npt.NDArray[np.uint8], used_BK: Mask) -> None:
    wrong_B = (~used_BK & (code_BK != 0)).any(axis=1)
    if wrong_B.any():
        block = int(np.argmax(wrong_B))
        found = int(code_BK[block][~used_BK[block]].max())
        raise MalformedPayloadError(
            f"sparse: block {block} of the chunk: expected code 0 in unused places, found {found}"
        )


def _check_codebook(bits_BC: npt.NDArray[np.uint16]) -> None:
    infinite_BC = (bits_BC & _EXPONENT) == _EXPONENT
    if infinite_BC.any():
        raise NonFinitePayloadError(_codebook_message(bits_BC, infinite_BC, "finite values in the codebook"))
    negative_BC = (bits_BC & _SIGN) != 0
    wrong_BC = np.concatenate([negative_BC[:, :2], ~negative_BC[:, 2:] & (bits_BC[:, 2:] != 0)], axis=1)
    if wrong_BC.any():
        raise MalformedPayloadError(_codebook_message(bits_BC, wrong_BC, "codes 0 and 1 positive, 2 and 3 negative"))


def _codebook_message(bits_BC: npt.NDArray[np.uint16], wrong_BC: npt.NDArray[np.bool_], expected: str) -> str:
    block, code = (int(i) for i in np.unravel_index(np.argmax(wrong_BC), wrong_BC.shape))
    found = f"bits {int(bits_BC[block, code]):04x} for code {code}"
    return f"sparse: block {block} of the chunk: expected {expected}, found {found}"
