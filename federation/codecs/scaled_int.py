# SPDX-License-Identifier: Apache-2.0
"""Small integers in blocks with one bf16 scale each: the common part of int8 and int4 (blocks of 128) and sparse-down.

scale = RNE_bf16(max|x| / L), q = rint(x / scale) clipped to [-L, L], with L = 127 or 7; a block whose scale rounds to
zero is all zeros. Stored block: the scale's 2 bytes little-endian, then the integers. Decoded value: q * scale. Every
step is one correctly rounded fp32 operation.
"""

from abc import abstractmethod
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.codecs.bf16 import bf16_to_fp32, round_to_bf16
from federation.errors import MalformedPayloadError, NonFiniteUpdateError

BLOCK_ELEMENTS: Final = 128
SCALE_BYTES: Final = 2

MAX_MAGNITUDE: Final = np.float32(2.0**120)
"""Largest |x| that is encoded and largest scale that is decoded: 127 times it is still finite in fp32."""

_MAX_SCALE_BITS: Final = np.uint16(int(MAX_MAGNITUDE.view(np.uint32)) >> 16)


class ScaledIntCodec(Codec):
    """Blocks of 128 integers in [-largest, largest]."""

    block_elements: ClassVar[int] = BLOCK_ELEMENTS
    largest: ClassVar[int]

    @abstractmethod
    def _pack(self, q: npt.NDArray[np.int8]) -> ByteVector:
        """Stored bytes u8[blocks, bytes_per_block - 2] of integers i8[blocks, 128]."""

    @abstractmethod
    def _unpack(self, body: ByteVector) -> npt.NDArray[np.int8]:
        """The reverse of `_pack`; may return -largest - 1, which the caller refuses."""

    def _encode(self, x: Float32Vector) -> ByteVector:
        bits_B, q_BE = quantise(self.name, self.whole_blocks(x), self.largest)
        stored = np.empty((bits_B.size, self.bytes_per_block), np.uint8)
        stored[:, :SCALE_BYTES] = store_scales(bits_B)
        stored[:, SCALE_BYTES:] = self._pack(q_BE)
        return stored.reshape(-1)

    def _decode(self, raw: ByteVector, num_elements: int) -> Float32Vector:
        stored = raw.reshape(-1, self.bytes_per_block)
        bits_B, q_BE = load_scales(stored[:, :SCALE_BYTES]), self._unpack(stored[:, SCALE_BYTES:])
        check_scaled(self.name, bits_B, q_BE, self.largest)
        if q_BE.reshape(-1)[num_elements:].any():
            raise MalformedPayloadError(f"{self.name}: expected zeros behind the last element, found others")
        return dequantise(bits_B, q_BE).reshape(-1)[:num_elements]


def quantise(
    codec: str, x_BE: npt.NDArray[np.float32], largest: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int8]]:
    """Bits u16[blocks] of each block's scale and its integers i8[blocks, elements] in [-largest, largest].

    Raises:
        NonFiniteUpdateError: NaN, infinity or a magnitude above 2^120.
    """
    scratch_BE = np.abs(x_BE)
    largest_B = scratch_BE.max(axis=1)
    # The comparison is false for NaN too.
    if not (largest_B <= MAX_MAGNITUDE).all():
        raise NonFiniteUpdateError(f"{codec}: expected magnitudes up to {MAX_MAGNITUDE:.4g}, found {largest_B.max()}")
    bits_B = round_to_bf16(largest_B / np.float32(largest))
    np.divide(x_BE, _divisor(bits_B)[:, None], out=scratch_BE)
    np.rint(scratch_BE, out=scratch_BE)
    np.clip(scratch_BE, np.float32(-largest), np.float32(largest), out=scratch_BE)
    return bits_B, scratch_BE.astype(np.int8)


def dequantise(bits_B: npt.NDArray[np.uint16], q_BE: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """The values q * scale f32[blocks, elements]."""
    return np.multiply(q_BE, bf16_to_fp32(bits_B)[:, None], dtype=np.float32)


def store_scales(bits_B: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Little-endian bytes u8[blocks, 2] of scales."""
    return bits_B.astype("<u2", copy=False).view(np.uint8).reshape(-1, SCALE_BYTES)


def load_scales(stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """The reverse of `store_scales`."""
    return np.ascontiguousarray(stored).view("<u2").reshape(-1).astype(np.uint16, copy=False)


def check_scaled(codec: str, bits_B: npt.NDArray[np.uint16], q_BE: npt.NDArray[np.int8], largest: int) -> None:
    """Checks scales and integers as they were stored.

    Raises:
        MalformedPayloadError: `quantise` never gives them.
    """
    # As integers, bf16 bits of non-negative values ascend with them; a sign bit is above all of those.
    too_large = bits_B > _MAX_SCALE_BITS
    if too_large.any():
        block = int(np.argmax(too_large))
        raise MalformedPayloadError(
            f"{codec}: block {block} of the chunk: expected a scale from 0 to {MAX_MAGNITUDE:.4g}, "
            f"found bits {int(bits_B[block]):04x}"
        )
    if int(q_BE.min()) < -largest:
        raise MalformedPayloadError(f"{codec}: expected integers from {-largest}, found {q_BE.min()}")
    if q_BE[bits_B == 0].any():
        raise MalformedPayloadError(f"{codec}: expected zeros in a block of scale 0, found others")


def _divisor(bits_B: npt.NDArray[np.uint16]) -> Float32Vector:
    scale_B = bf16_to_fp32(bits_B)
    # Dividing by infinity gives the zeros that a block of scale 0 has.
    return np.where(bits_B == 0, np.float32(np.inf), scale_B)
