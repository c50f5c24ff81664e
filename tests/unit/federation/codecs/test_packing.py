# SPDX-License-Identifier: Apache-2.0
"""Integers of 12, 4 and 2 bits, byte by byte."""

import numpy as np
import pytest

from federation.codecs.packing import (
    pack_codes,
    pack_indices,
    pack_nibbles,
    unpack_codes,
    unpack_indices,
    unpack_nibbles,
)


def row(*values: int, dtype: type = np.int64) -> np.ndarray:
    return np.array([values], dtype)


def test_six_indices_are_nine_bytes() -> None:
    packed = pack_indices(row(0x123, 0xABC, 0, 4095, 4094, 1))
    assert packed.tobytes().hex() == "23c1ab" + "00f0ff" + "fe1f00"
    assert unpack_indices(packed).tolist() == [[0x123, 0xABC, 0, 4095, 4094, 1]]


@pytest.mark.parametrize("values", [(1,), (1, 2, 3)])
def test_an_odd_count_is_a_bug(values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"expected an even count, found {len(values)}"):
        pack_indices(row(*values))


@pytest.mark.parametrize(("values", "found"), [((1, 4096), "1 to 4096"), ((-1, 7), "-1 to 7")])
def test_an_index_of_more_than_12_bits_is_a_bug(values: tuple[int, ...], found: str) -> None:
    with pytest.raises(ValueError, match=f"expected 0 to 4095, found {found}"):
        pack_indices(row(*values))


def test_every_index_survives_in_both_places_of_a_pair() -> None:
    every = np.arange(4096)
    pairs = np.stack([every, every[::-1]], axis=1).reshape(2, -1)
    packed = pack_indices(pairs)
    assert packed.shape == (2, 4096 * 3 // 2)
    assert np.array_equal(unpack_indices(packed), pairs)


def test_four_codes_are_a_byte_the_first_in_its_lowest_bits() -> None:
    packed = pack_codes(row(1, 0, 2, 3, 3, 0, 0, 0, dtype=np.uint8))
    assert packed.tobytes() == bytes([0b11_10_00_01, 0b11])
    assert unpack_codes(packed).tolist() == [[1, 0, 2, 3, 3, 0, 0, 0]]


def test_every_byte_of_codes_and_nibbles_survives() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(2, 128)
    assert np.array_equal(pack_codes(unpack_codes(every)), every)
    assert np.array_equal(pack_nibbles(unpack_nibbles(every)), every)


def test_nibbles_are_twos_complement_low_one_first() -> None:
    packed = pack_nibbles(row(1, -7, 7, -8, dtype=np.int8))
    assert packed.tobytes().hex() == "9187"
    assert unpack_nibbles(packed).tolist() == [[1, -7, 7, -8]]
