# SPDX-License-Identifier: Apache-2.0
"""sparse-down byte for byte, and every bound that a hostile payload could break."""

import re
import struct
from collections.abc import Sequence

import numpy as np
import pytest

from federation.codecs.int4 import Int4Codec
from federation.codecs.scaled_int import MAX_MAGNITUDE
from federation.codecs.sparse_down import SparseDownCodec
from federation.errors import MalformedPayloadError, NonFiniteUpdateError

CODEC = SparseDownCodec()
ONE = 0x3F80


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def block(indices: Sequence[int], integers: Sequence[int] = (), scale: int = ONE) -> bytes:
    """A stored block, packed as one long number; short lists are filled as the codec does."""
    indices = [*indices, *[indices[-1]] * (256 - len(indices))]
    packed = sum(i << 12 * place for place, i in enumerate(indices)).to_bytes(384, "little")
    nibbles = sum((q & 15) << 4 * place for place, q in enumerate(integers)).to_bytes(128, "little")
    return struct.pack("<H", scale) + packed + nibbles


def decoded(data: bytes, size: int = 4096) -> dict[int, float]:
    x = CODEC.decode(data, size)
    return {int(i): float(x[i]) for i in np.flatnonzero(x)}


def test_a_block_is_514_bytes() -> None:
    assert CODEC.encode(np.ones(4096, np.float32)).size == 514
    assert CODEC.encode(np.ones(4097, np.float32)).size == 1028


def test_bytes_of_seven_elements() -> None:
    data = CODEC.encode(vector(7, -7, 0, 1, -1, 2.5, 0.4)).tobytes()
    assert data == block([0, 1, 3, 4, 5, 6], [7, -7, 1, -1, 2, 0])
    assert CODEC.decode(data, 7).tolist() == [7, -7, 0, 1, -1, 2, 0]


def test_the_256_largest_are_kept_with_int4s_values() -> None:
    x = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    y = CODEC.decode(CODEC.encode(x), 4096)
    largest = np.argsort(-np.abs(x), kind="stable")[:256]
    assert sorted(np.flatnonzero(y).tolist()) == sorted(largest.tolist())
    # The same scale as int4 has for a block with the same largest element.
    top = x[largest[:128]]
    assert y[largest[:128]].tolist() == Int4Codec().decode(Int4Codec().encode(top), 128).tolist()


def test_what_four_sites_send_sparsely_fits() -> None:
    x = np.zeros(4096, np.float32)
    x[np.random.default_rng(1).permutation(4096)[:256]] = 7
    assert np.array_equal(CODEC.decode(CODEC.encode(x), 4096), x)


def test_zeros_stay_zeros() -> None:
    assert CODEC.encode(np.zeros(5000, np.float32)).tobytes() == bytes(1028)
    assert not CODEC.decode(bytes(1028), 5000).view(np.uint32).any()


def test_what_is_below_the_smallest_scale_becomes_zero() -> None:
    data = CODEC.encode(vector(2.0**-149, -(2.0**-140))).tobytes()
    assert data == block([0, 1], scale=0)
    assert CODEC.decode(data, 2).view(np.uint32).tolist() == [0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, float(MAX_MAGNITUDE) * 1.01, -3e38])
def test_what_cannot_be_held_is_not_encoded(value: float) -> None:
    x = np.ones(9000, np.float32)
    x[4096] = value
    with pytest.raises(NonFiniteUpdateError, match=r"sparse-down: expected magnitudes up to 1.329e\+36, found"):
        CODEC.encode(x)


def test_the_largest_magnitude_is_held() -> None:
    y = CODEC.decode(CODEC.encode(np.array([MAX_MAGNITUDE, -MAX_MAGNITUDE])), 2)
    assert y[0] == -y[1] == pytest.approx(float(MAX_MAGNITUDE), rel=0.01)


def test_a_block_may_use_256_places_or_one() -> None:
    assert decoded(block(range(3840, 4096), [1] * 256)) == dict.fromkeys(range(3840, 4096), 1.0)
    assert decoded(block([77], [-7])) == {77: -7.0}


ASCEND = "expected indices that ascend and then repeat the last one"
MALFORMED = {
    "descending": (block([4, 3], [1]), f"block 1 of the chunk: {ASCEND}, found 3 after 4 in place 1"),
    "ascending-again": (block([4, 4, 5], [1]), f"block 1 of the chunk: {ASCEND}, found 5 after 4 in place 2"),
    "unused": (block([4], [1, -3]), "block 1 of the chunk: expected 0 in unused places, found -3"),
    "last-unused": (block([4], [1] + [0] * 254 + [2]), "block 1 of the chunk: expected 0 in unused places, found 2"),
    "negative-scale": (
        block([4], [1], 0xBF80),
        "block 1 of the chunk: expected a scale from 0 to 1.329e+36, found bits bf80",
    ),
    "negative-zero-scale": (block([4], [0], 0x8000), "block 1 of the chunk: expected a scale from 0"),
    "infinite-scale": (block([4], [1], 0x7F80), "block 1 of the chunk: expected a scale from 0"),
    "nan-scale": (block([4], [1], 0x7FC0), "block 1 of the chunk: expected a scale from 0"),
    "large-scale": (block([4], [1], 0x7B81), "block 1 of the chunk: expected a scale from 0"),
    "minus-eight": (block([4], [-8]), "expected integers from -7, found -8"),
    "minus-eight-high": (block([4, 5], [1, -8]), "expected integers from -7, found -8"),
    "scale-zero": (block([4], [1], 0), "expected zeros in a block of scale 0, found others"),
}


@pytest.mark.parametrize(("data", "found"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_block_is_refused(data: bytes, found: str) -> None:
    good = block([1, 2, 3], [1, 2, 3])
    with pytest.raises(MalformedPayloadError, match=re.escape("sparse-down: " + found)):
        CODEC.decode(good + data + good, 3 * 4096)


@pytest.mark.parametrize("real", [1, 10, 255, 256, 257, 4095])
def test_an_index_behind_the_last_element_is_refused(real: int) -> None:
    assert decoded(block([real - 1], [1]), real) == {real - 1: 1.0}
    with pytest.raises(
        MalformedPayloadError, match=f"block 0 of the chunk: expected indices below its {real} elements"
    ):
        CODEC.decode(block([real], [1]), real)


def test_error_on_normal_data() -> None:
    x = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)
    y = CODEC.decode(CODEC.encode(x), x.size)
    there = y != 0
    assert there.sum() == 16 * 256
    assert float(np.mean((y - x)[there] ** 2)) < 0.01 * float(np.mean(x[there] ** 2))
    assert float(np.mean((y - x) ** 2)) < 0.7
