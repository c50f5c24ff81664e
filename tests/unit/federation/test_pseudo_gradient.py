# SPDX-License-Identifier: Apache-2.0
"""Sign of the pseudo-gradient, the merge, and the fixed-order dot product."""

import math
from fractions import Fraction

import numpy as np
import pytest

from federation.chunks import CHUNK_ELEMENTS
from federation.golden import inputs
from federation.pseudo_gradient import (
    NUM_LANES,
    add_to_lanes,
    fixed_order_dot,
    fold_lanes,
    merge,
    new_lanes,
    pseudo_gradient,
)


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_pseudo_gradient_is_theta_minus_local() -> None:
    assert pseudo_gradient(vector(3, 1), vector(1, 4)).tolist() == [2, -3]


def test_merge_goes_from_theta_towards_local() -> None:
    theta, local = vector(2, -2), vector(6, 2)
    assert merge(theta, local, 0.0).tolist() == [2, -2]
    assert merge(theta, local, 0.25).tolist() == [3, -1]
    assert merge(theta, local, 1.0).tolist() == [6, 2]
    assert (theta.tolist(), local.tolist()) == ([2, -2], [6, 2])


def test_merge_with_alpha_one_is_not_always_local() -> None:
    # The formula is three rounded operations; whoever short-cuts alpha = 1 computes other bits.
    assert merge(vector(1), vector(2.0**-30), 1.0).tolist() == [0]


def test_merge_rounds_alpha_once_to_fp32() -> None:
    assert merge(vector(0), vector(1), 0.1)[0] == np.float32(0.1)


@pytest.mark.parametrize("call", [pseudo_gradient, lambda x, y: merge(x, y, 0.5)])
def test_doubles_are_refused(call: object) -> None:
    with pytest.raises(TypeError, match="float32"):
        call(vector(1), np.array([1.0]))  # type: ignore[operator]


def fold(lanes: list[float]) -> float:
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [lanes[i] + lanes[i + half] for i in range(half)]
    return lanes[0]


@pytest.mark.parametrize("size", [1, 2, 3, 64, 1023, 1024, 1025, 5000])
def test_dot_adds_in_lanes_and_folds_by_halves(size: int) -> None:
    x, y = inputs.usual(1, size), inputs.usual(2, size)
    lanes = [0.0] * 1024
    for i in range(size):
        lanes[i % 1024] += float(x[i]) * float(y[i])
    assert fixed_order_dot(x, y) == fold(lanes)


def test_sums_of_chunks_are_added_in_their_order() -> None:
    x, y = inputs.usual(1, 2 * CHUNK_ELEMENTS + 3000), inputs.usual(2, 2 * CHUNK_ELEMENTS + 3000)
    parts = [slice(start, start + CHUNK_ELEMENTS) for start in range(0, x.size, CHUNK_ELEMENTS)]
    total = 0.0
    for part in parts:
        total += fixed_order_dot(x[part], y[part])
    assert fixed_order_dot(x, y) == total


@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_parts_of_whole_rows_give_the_dot_of_the_chunk(rows: int) -> None:
    x, y, lanes = inputs.wide(1, 30_011), inputs.wide(2, 30_011), new_lanes()
    for start in range(0, x.size, rows * NUM_LANES):
        part = slice(start, start + rows * NUM_LANES)
        add_to_lanes(x[part], y[part], lanes)
    assert fold_lanes(lanes) == fixed_order_dot(x, y)
    # Folding leaves the lanes as they are.
    assert fold_lanes(lanes) == fixed_order_dot(x, y)


def test_nothing_but_negative_zeros_is_positive_zero() -> None:
    x = vector(-0.0, 0.0)
    assert math.copysign(1, fixed_order_dot(x, vector(1, -1))) == 1


def test_dot_of_nothing_is_zero() -> None:
    assert fixed_order_dot(vector(), vector()) == 0.0


def test_more_padding_changes_nothing() -> None:
    x = inputs.usual(3, 700)
    padded = np.zeros(4096, np.float32)
    padded[:700] = x
    assert fixed_order_dot(x, x) == fixed_order_dot(padded, padded)


def test_dot_is_close_to_the_exact_sum() -> None:
    x = inputs.usual(4, 3000)
    exact = sum(Fraction(float(v)) ** 2 for v in x)
    assert math.isclose(fixed_order_dot(x, x), float(exact), rel_tol=1e-15)


def test_dot_of_large_fp32_values_is_finite() -> None:
    x = vector(3e38, 3e38)
    assert fixed_order_dot(x, x) == pytest.approx(1.8e77)


def test_dot_refuses_other_lengths() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        fixed_order_dot(vector(1), vector(1, 2))
