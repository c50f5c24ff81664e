# SPDX-License-Identifier: Apache-2.0
"""sparse byte for byte, and every bound that a hostile payload could break."""

import re
import struct
from collections.abc import Sequence

import numpy as np
import pytest

from federation.chunks import CHUNK_ELEMENTS
from federation.codecs.sparse import SparseCodec
from federation.errors import MalformedPayloadError, NonFiniteUpdateError

CODEC = SparseCodec()
ONE, HALF, MINUS_ONE, MINUS_ZERO = 0x3C00, 0x3800, 0xBC00, 0x8000


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def block(
    indices: Sequence[int], codes: Sequence[int] = (), book: Sequence[int] = (ONE, ONE, MINUS_ONE, MINUS_ONE)
) -> bytes:
    """A stored block, packed as one long number; short lists are filled as the codec does."""
    indices = [*indices, *[indices[-1]] * (64 - len(indices))]
    codes = [*codes, *[0] * (64 - len(codes))]
    packed = sum(i << 12 * place for place, i in enumerate(indices)).to_bytes(96, "little")
    return (
        packed + sum(c << 2 * place for place, c in enumerate(codes)).to_bytes(16, "little") + struct.pack("<4H", *book)
    )


def decoded(data: bytes, size: int = 4096) -> dict[int, float]:
    x = CODEC.decode(data, size)
    return {int(i): float(x[i]) for i in np.flatnonzero(x)}


def test_a_block_is_120_bytes() -> None:
    assert CODEC.encode(np.ones(4096, np.float32)).size == 120
    assert CODEC.encode(np.ones(4097, np.float32)).size == 240
    assert CODEC.encode(np.ones(CHUNK_ELEMENTS, np.float32)).size == 256 * 120


def test_bytes_of_six_elements() -> None:
    # t = (1 + 5 + 3 + 3 + 8) / 5 = 4: 1 and 3 below it, 5 above; -3 below it, -8 above
    data = CODEC.encode(vector(1, 5, 0, 3, -3, -8)).tobytes()
    assert data == block([0, 1, 3, 4, 5], [0, 1, 0, 2, 3], (0x4000, 0x4500, 0xC200, 0xC800))
    assert CODEC.decode(data, 6).tolist() == [2, 5, 0, 2, -3, -8]


def test_a_magnitude_equal_to_the_mean_is_not_above_it() -> None:
    data = CODEC.encode(vector(2, 2, -2)).tobytes()
    assert data == block([0, 1, 2], [0, 0, 2], (0x4000, 0, 0xC000, 0))


def test_the_64_largest_are_kept() -> None:
    x = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    largest = np.argsort(-np.abs(x), kind="stable")[:64]
    assert sorted(decoded(CODEC.encode(x).tobytes())) == sorted(largest.tolist())


def test_the_mean_is_over_the_kept_ones_alone() -> None:
    x = np.full(4096, 0.5, np.float32)
    x[100:132], x[200:232] = 1, 3
    values = decoded(CODEC.encode(x).tobytes())
    assert values == {**dict.fromkeys(range(100, 132), 1.0), **dict.fromkeys(range(200, 232), 3.0)}


def test_zeros_stay_zeros() -> None:
    assert CODEC.encode(np.zeros(5000, np.float32)).tobytes() == bytes(240)
    x = np.zeros(4096, np.float32)
    x[::100] = 1e-3
    y = CODEC.decode(CODEC.encode(x), 4096)
    assert not y[x == 0].any()
    assert np.allclose(y, x, rtol=1e-3)


def test_sums_are_sequential_and_rounded_to_fp32_first() -> None:
    """56 elements add up to a tie of fp32, beside one of fp16, unless the 28 tiny ones among them come first."""
    low = np.float32(2 + 2.0**-10)
    large = [float(low), float(np.nextafter(low, np.float32(3)))] * 14
    x = vector(*large, *[2.0**-49] * 28, *[2.0**15] * 8)
    assert struct.unpack("<4e", CODEC.encode(x).tobytes()[-8:]) == (1.0, 2.0**15, 0.0, 0.0)
    assert struct.unpack("<4e", CODEC.encode(x[::-1]).tobytes()[-8:]) == (1 + 2.0**-10, 2.0**15, 0.0, 0.0)
    # Rounded to fp16 at once, the first would be above the tie too.
    assert np.float16(sum(large) / 56) == 1 + 2.0**-10


def test_subnormal_means_keep_their_sign() -> None:
    data = CODEC.encode(vector(2.0**-24, -(2.0**-30))).tobytes()
    assert struct.unpack("<4H", data[-8:]) == (0, 1, MINUS_ZERO, 0)
    assert CODEC.decode(data, 2).view(np.uint32).tolist() == [int(vector(2.0**-24).view(np.uint32)[0]), 1 << 31]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65505.0, -65520.0, 3e38])
def test_what_cannot_be_held_is_not_encoded(value: float) -> None:
    x = np.ones(9000, np.float32)
    x[8999] = value
    with pytest.raises(
        NonFiniteUpdateError, match=r"sparse: expected magnitudes up to 65504, found (nan|inf|65505|65520|3)"
    ):
        CODEC.encode(x)


def test_the_largest_magnitude_is_held() -> None:
    assert CODEC.decode(CODEC.encode(vector(65504, -65504)), 2).tolist() == [65504, -65504]


def test_codes_choose_from_the_codebook() -> None:
    data = block([3, 4, 5, 4095], [1, 3, 2, 0], (0x4200, ONE, MINUS_ONE, 0xC000))
    assert decoded(data) == {3: 1.0, 4: -2.0, 5: -1.0, 4095: 3.0}


def test_a_block_may_use_64_places_or_one() -> None:
    assert decoded(block(list(range(4032, 4096)))) == dict.fromkeys(range(4032, 4096), 1.0)
    assert decoded(block([77])) == {77: 1.0}


MALFORMED = {
    "descending": (
        block([4, 3]),
        "expected indices that ascend and then repeat the last one, found 3 after 4 in place 1",
    ),
    "ascending-again": (block([4, 4, 5]), "expected indices that ascend and then repeat the last one, found 5 after 4"),
    "unused-code": (block([4], [0, 3]), "expected code 0 in unused places, found 3"),
    "last-unused-code": (block([4], [0] * 63 + [1]), "expected code 0 in unused places, found 1"),
    "negative-0": (
        block([4], book=(MINUS_ONE, ONE, 0, 0)),
        "codes 0 and 1 positive, 2 and 3 negative, found bits bc00 for code 0",
    ),
    "negative-zero-1": (block([4], book=(0, MINUS_ZERO, 0, 0)), "found bits 8000 for code 1"),
    "positive-2": (block([4], book=(0, 0, ONE, 0)), "found bits 3c00 for code 2"),
    "positive-subnormal-3": (block([4], book=(0, 0, 0, 1)), "found bits 0001 for code 3"),
}
NON_FINITE = {"infinity": 0x7C00, "minus-infinity": 0xFC00, "nan": 0x7E00, "negative-nan": 0xFE01}


@pytest.mark.parametrize(("data", "found"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_block_is_refused(data: bytes, found: str) -> None:
    good = block([1, 2, 3])
    with pytest.raises(MalformedPayloadError, match=re.escape(found)) as caught:
        CODEC.decode(good + data + good, 3 * 4096)
    assert str(caught.value).startswith("sparse: block 1 of the chunk: expected ")


@pytest.mark.parametrize("code", range(4))
@pytest.mark.parametrize("bits", NON_FINITE.values(), ids=NON_FINITE)
def test_a_codebook_that_is_not_finite_is_refused(code: int, bits: int) -> None:
    book = [0, 0, 0, 0]
    book[code] = bits
    with pytest.raises(
        NonFiniteUpdateError,
        match=f"block 1 of the chunk: expected finite values in the codebook, found bits {bits:04x}",
    ):
        CODEC.decode(block([1]) + block([1], book=book), 8192)


@pytest.mark.parametrize("real", [1, 10, 63, 64, 65, 4095])
def test_an_index_behind_the_last_element_is_refused(real: int) -> None:
    assert decoded(block([real - 1]), real) == {real - 1: 1.0}
    with pytest.raises(
        MalformedPayloadError, match=f"block 0 of the chunk: expected indices below its {real} elements"
    ):
        CODEC.decode(block([real]), real)


def test_negative_zeros_of_absent_codes_are_what_encode_writes_for_tiny_means() -> None:
    assert decoded(block([1], [2], (0, 0, MINUS_ZERO, MINUS_ZERO))) == {}


def test_error_on_normal_data() -> None:
    """What is kept is kept well: four values for the tail of a normal distribution."""
    x = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)
    y = CODEC.decode(CODEC.encode(x), x.size)
    there = y != 0
    assert there.sum() == 16 * 64
    assert float(np.mean((y - x)[there] ** 2)) < 0.01 * float(np.mean(x[there] ** 2))
    assert float(np.mean((y - x) ** 2)) < 0.9
