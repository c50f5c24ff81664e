# SPDX-License-Identifier: Apache-2.0
"""Sign of the pseudo-gradient, the merge, and the fixed-order dot product."""

import math
from fractions import Fraction

import numpy as np
import pytest

from federation.golden import inputs
from federation.pseudo_gradient import fixed_order_dot, merge, pseudo_gradient


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


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000])
def test_dot_folds_by_halves(size: int) -> None:
    x, y = inputs.usual(1, size), inputs.usual(2, size)
    terms = [float(a) * float(b) for a, b in zip(x, y, strict=True)]
    terms += [0.0] * ((1 << (size - 1).bit_length()) - size)
    while len(terms) > 1:
        half = len(terms) // 2
        terms = [terms[i] + terms[i + half] for i in range(half)]
    assert fixed_order_dot(x, y) == terms[0]


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
