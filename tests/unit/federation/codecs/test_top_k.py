# SPDX-License-Identifier: Apache-2.0
"""Which elements of a block are kept, and which stored indices are believed."""

import re

import numpy as np
import pytest

from federation.codecs.top_k import BLOCK_ELEMENTS, largest_of, scatter, used_places
from federation.errors import MalformedPayloadError


def block(values: dict[int, float]) -> np.ndarray:
    x = np.zeros(BLOCK_ELEMENTS, np.float32)
    x[list(values)] = list(values.values())
    return x


def kept(x: np.ndarray, k: int) -> list[int]:
    index, used = largest_of(x[None, :], k)
    assert index.shape == used.shape == (1, k)
    return [int(i) for i in index[0][used[0]]]


def test_magnitudes_count_and_places_ascend() -> None:
    assert kept(block({7: -5.0, 3: 4.0, 4095: 3.0, 0: 2.0}), 3) == [3, 7, 4095]


def test_of_equal_magnitudes_the_lower_index_is_kept() -> None:
    assert kept(block({9: 1.0, 5: -1.0, 4000: 1.0, 8: 2.0, 6: -1.0}), 4) == [5, 6, 8, 9]
    assert kept(np.full(BLOCK_ELEMENTS, -0.5, np.float32), 64) == list(range(64))


def test_every_bit_of_a_magnitude_counts() -> None:
    one = np.float32(1)
    assert kept(block({1: float(one), 2: float(np.nextafter(one, np.float32(2)))}), 1) == [2]
    assert kept(block({1: 2.0**-149, 2: -(2.0**-148)}), 1) == [2]


def test_zeros_are_not_kept_and_their_places_repeat_the_last_index() -> None:
    index, used = largest_of(block({5: 1.0, 9: -(2.0**-149), 2: -0.0})[None, :], 4)
    assert index.tolist() == [[5, 9, 9, 9]]
    assert used.tolist() == [[True, True, False, False]]


def test_a_block_of_zeros_repeats_index_zero() -> None:
    index, used = largest_of(np.zeros((1, BLOCK_ELEMENTS), np.float32), 4)
    assert index.tolist() == [[0, 0, 0, 0]]
    assert not used.any()


def test_blocks_are_independent() -> None:
    x = np.stack([block({i: 1.0, 100 + i: 2.0}) for i in range(5)])
    index, _ = largest_of(x, 1)
    assert index[:, 0].tolist() == [100, 101, 102, 103, 104]


def test_it_is_the_order_of_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 10, (20, BLOCK_ELEMENTS)).astype(np.float32)
    index, used = largest_of(x, 256)
    expected = np.sort(np.argsort(-np.abs(x), axis=1, kind="stable")[:, :256], axis=1)
    assert used.all()
    assert np.array_equal(index, expected)


def stored(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.int64)


def test_an_index_above_the_one_before_is_used() -> None:
    used = used_places("sparse", stored([0, 1, 2, 2], [7, 7, 7, 7], [0, 0, 0, 0]), 3 * BLOCK_ELEMENTS)
    assert used.tolist() == [[True, True, True, False], [True, False, False, False], [True, False, False, False]]


@pytest.mark.parametrize(
    ("indices", "found"),
    [
        ([1, 0, 2, 3], "found 0 after 1 in place 1"),
        ([1, 2, 3, 2], "found 2 after 3 in place 3"),
        ([1, 1, 2, 2], "found 2 after 1 in place 2"),
        ([0, 0, 0, 4095], "found 4095 after 0 in place 3"),
        ([5, 6, 6, 5], "found 5 after 6 in place 3"),
    ],
)
def test_indices_out_of_order_are_refused(indices: list[int], found: str) -> None:
    expected = "x: block 1 of the chunk: expected indices that ascend and then repeat the last one, " + found
    with pytest.raises(MalformedPayloadError, match=re.escape(expected)):
        used_places("x", stored([0, 1, 2, 3], indices), 2 * BLOCK_ELEMENTS)


@pytest.mark.parametrize("real", [1, 63, 4095])
def test_an_index_behind_the_last_element_is_refused(real: int) -> None:
    whole = [0, 1, 2, 4095]
    used_places("x", stored(whole, [real - 1] * 4), BLOCK_ELEMENTS + real)
    with pytest.raises(
        MalformedPayloadError,
        match=f"x: block 1 of the chunk: expected indices below its {real} elements, found {real}",
    ):
        used_places("x", stored(whole, [real] * 4), BLOCK_ELEMENTS + real)


def test_unused_values_are_not_scattered() -> None:
    index, used = stored([0, 2, 2, 2], [1, 1, 1, 1]), np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
    x = scatter(np.arange(1, 9, dtype=np.float32).reshape(2, 4), index, used, BLOCK_ELEMENTS + 2)
    assert x.size == BLOCK_ELEMENTS + 2
    assert {int(i): float(x[i]) for i in np.flatnonzero(x)} == {0: 1.0, 2: 2.0, BLOCK_ELEMENTS + 1: 5.0}
