# SPDX-License-Identifier: Apache-2.0
"""Rounding to bf16: ties, carries, subnormals, overflow."""

import struct

import numpy as np
import pytest

from federation.codecs.bf16 import Bf16Codec, bf16_to_fp32, round_to_bf16
from federation.errors import NonFiniteUpdateError


def from_bits(bits: int) -> np.ndarray:
    return np.array([bits], np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x3F800000, 0x3F80),  # 1.0
        (0x3F807FFF, 0x3F80),  # below half
        (0x3F808000, 0x3F80),  # half, even stays
        (0x3F818000, 0x3F82),  # half, odd goes up
        (0x3F808001, 0x3F81),  # above half
        (0x3FFFFFFF, 0x4000),  # carry into the exponent
        (0x00000001, 0x0000),  # smallest subnormal
        (0x00018000, 0x0002),  # subnormal tie
        (0x007FFFFF, 0x0080),  # largest subnormal becomes normal
        (0x80000000, 0x8000),  # negative zero
        (0xBF818000, 0xBF82),  # sign is kept
        (0x7F7F7FFF, 0x7F7F),  # the largest that does not overflow
        (0x7F7F8000, 0x7F80),  # tie to infinity
    ],
)
def test_rounding_is_half_to_even(bits: int, expected: int) -> None:
    assert int(round_to_bf16(from_bits(bits))[0]) == expected


def test_expansion_is_exact() -> None:
    bits = np.arange(0x8000, dtype=np.uint16)
    assert np.array_equal(round_to_bf16(bf16_to_fp32(bits[bits < 0x7F80])), bits[bits < 0x7F80])


def test_stored_little_endian() -> None:
    assert Bf16Codec().encode(np.array([1.0, -2.0], np.float32)).tobytes() == bytes.fromhex("803f00c0")


@pytest.mark.parametrize("bits", [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x7F7FFFFF])
def test_what_is_not_finite_is_not_encoded(bits: int) -> None:
    with pytest.raises(NonFiniteUpdateError, match="expected finite"):
        Bf16Codec().encode(from_bits(bits))


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0xFFFF])
def test_what_is_not_finite_is_not_decoded(bits: int) -> None:
    with pytest.raises(NonFiniteUpdateError, match="element 1"):
        Bf16Codec().decode(struct.pack("<HH", 0x3F80, bits), 2)
