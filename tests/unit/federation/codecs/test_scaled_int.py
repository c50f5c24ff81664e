# SPDX-License-Identifier: Apache-2.0
"""int8 and int4 byte for byte, and every bound that a hostile payload could break."""

import struct

import numpy as np
import pytest

from federation.codecs.int4 import Int4Codec
from federation.codecs.int8 import Int8Codec
from federation.codecs.scaled_int import MAX_MAGNITUDE, ScaledIntCodec
from federation.errors import MalformedPayloadError, NonFiniteUpdateError

INT8, INT4 = Int8Codec(), Int4Codec()
BOTH = pytest.mark.parametrize("codec", [INT8, INT4], ids=lambda c: c.name)


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def block(codec: ScaledIntCodec, scale_bits: int, *body: int) -> bytes:
    data = struct.pack("<H", scale_bits) + bytes(b & 0xFF for b in body)
    return data + bytes(codec.bytes_per_block - len(data))


def test_int4_bytes_low_nibble_first() -> None:
    # scale 7/7 = 1.0 = bf16 3f80
    data = INT4.encode(vector(7, -7, 1, -1, 3)).tobytes()
    assert data == block(INT4, 0x3F80, 0x97, 0xF1, 0x03)


def test_int8_bytes() -> None:
    data = INT8.encode(vector(127, -127, 1, -1, 0)).tobytes()
    assert data == block(INT8, 0x3F80, 127, -127, 1, -1)


def test_ties_go_to_even() -> None:
    decoded = INT4.decode(INT4.encode(vector(7, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5)), 7)
    assert decoded.tolist() == [7, 0, 2, 2, 0, -2, -2]


def test_the_scale_is_rounded_half_to_even() -> None:
    # 1.00390625 = 1 + 2^-8 lies between bf16 1.0 and 1.0078125: the even one, 1.0
    assert INT4.encode(vector(7 * 1.00390625))[:2].tobytes() == struct.pack("<H", 0x3F80)


def test_a_scale_rounded_down_clips() -> None:
    # max/7 is rounded down to 2^-133, the smallest bf16: 10 times that is clipped to 7
    smallest = 2.0**-133
    assert INT4.decode(INT4.encode(vector(10 * smallest)), 1)[0] == np.float32(7 * smallest)


@BOTH
def test_what_is_below_the_smallest_scale_becomes_zero(codec: ScaledIntCodec) -> None:
    tiny = vector(2.0**-149, -(2.0**-140))
    data = codec.encode(tiny)
    assert not data.any()
    assert codec.decode(data, 2).view(np.uint32).tolist() == [0, 0]


@BOTH
def test_zeros_stay_zeros_and_finite(codec: ScaledIntCodec) -> None:
    data = codec.encode(np.zeros(300, np.float32))
    assert not data.any()
    assert not codec.decode(data, 300).view(np.uint32).any()


@BOTH
def test_blocks_are_independent(codec: ScaledIntCodec) -> None:
    x = np.zeros(384, np.float32)
    x[0], x[200] = 1e-6, 1e6
    decoded = codec.decode(codec.encode(x), 384)
    assert decoded[0] == pytest.approx(1e-6, rel=0.01)
    assert decoded[200] == pytest.approx(1e6, rel=0.01)
    assert np.count_nonzero(decoded) == 2


@BOTH
def test_only_blocks_with_a_real_element_are_stored(codec: ScaledIntCodec) -> None:
    assert codec.encode(np.ones(128, np.float32)).size == codec.bytes_per_block
    assert codec.encode(np.ones(129, np.float32)).size == 2 * codec.bytes_per_block


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, float(MAX_MAGNITUDE) * 1.01, -3e38])
def test_what_cannot_be_held_is_not_encoded(codec: ScaledIntCodec, value: float) -> None:
    x = np.ones(200, np.float32)
    x[150] = value
    with pytest.raises(NonFiniteUpdateError, match="expected magnitudes up to"):
        codec.encode(x)


@BOTH
def test_the_largest_magnitude_is_held(codec: ScaledIntCodec) -> None:
    decoded = codec.decode(codec.encode(np.array([MAX_MAGNITUDE, -MAX_MAGNITUDE])), 2)
    assert np.isfinite(decoded).all()


@BOTH
def test_the_largest_scale_decodes_to_finite_values(codec: ScaledIntCodec) -> None:
    bits = int(MAX_MAGNITUDE.view(np.uint32)) >> 16
    body = codec.largest if codec is INT8 else codec.largest | codec.largest << 4
    assert np.isfinite(codec.decode(block(codec, bits, body), 2)).all()
    with pytest.raises(MalformedPayloadError, match="expected a scale"):
        codec.decode(block(codec, bits + 1, body), 2)


@BOTH
@pytest.mark.parametrize("bits", [0x8000, 0xBF80, 0x7F80, 0x7FC0, 0xFF80, 0xFFFF], ids=hex)
def test_negative_and_non_finite_scales_are_refused(codec: ScaledIntCodec, bits: int) -> None:
    good = block(codec, 0x3F80, 1)
    with pytest.raises(MalformedPayloadError, match="block 1 of the chunk: expected a scale"):
        codec.decode(good + block(codec, bits), 256)


@pytest.mark.parametrize(
    ("codec", "body"), [(INT8, [-128]), (INT4, [0x08]), (INT4, [0x80])], ids=["int8", "int4-low", "int4-high"]
)
def test_the_integer_without_a_counterpart_is_refused(codec: ScaledIntCodec, body: list[int]) -> None:
    with pytest.raises(MalformedPayloadError, match=f"integers from {-codec.largest}"):
        codec.decode(block(codec, 0x3F80, *body), 128)


@BOTH
def test_scale_zero_with_integers_is_refused(codec: ScaledIntCodec) -> None:
    with pytest.raises(MalformedPayloadError, match="block of scale 0"):
        codec.decode(block(codec, 0, 1), 128)


@BOTH
def test_values_behind_the_last_element_are_refused(codec: ScaledIntCodec) -> None:
    body = [1, 1] if codec is INT8 else [0x11]
    codec.decode(block(codec, 0x3F80, *body), 2)
    with pytest.raises(MalformedPayloadError, match="behind the last element"):
        codec.decode(block(codec, 0x3F80, *body), 1)


@pytest.mark.parametrize(("codec", "bound"), [(INT8, 8e-4), (INT4, 2e-2)], ids=["int8", "int4"])
def test_error_on_normal_data(codec: ScaledIntCodec, bound: float) -> None:
    x = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)
    error = codec.decode(codec.encode(x), x.size).astype(np.float64) - x
    assert float(np.mean(error**2)) < bound
