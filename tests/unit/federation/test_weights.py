# SPDX-License-Identifier: Apache-2.0
"""Weights: quotients of integers, rounded once to fp32."""

from fractions import Fraction

import numpy as np
import pytest

from federation.errors import ConfigError
from federation.weights import round_weights


def test_uniform_ignores_tokens() -> None:
    assert round_weights([("a", 1), ("b", 10**12), ("c", 0)], "uniform") == (float(np.float32(1 / 3)),) * 3


def test_tokens_give_shares() -> None:
    assert round_weights([("a", 3), ("b", 1)], "tokens") == (0.75, 0.25)


def test_a_weight_is_an_fp32_value() -> None:
    for weight in round_weights([("a", 1), ("b", 2)], "tokens"):
        assert weight == float(np.float32(weight))


def test_sums_beyond_doubles_do_not_shift_a_quotient() -> None:
    tokens = [("a", 2**60 + 1), ("b", 2**61 + 3), ("c", 5)]
    total = sum(n for _, n in tokens)
    expected = tuple(float(np.float32(float(Fraction(n, total)))) for _, n in tokens)
    assert round_weights(tokens, "tokens") == expected


@pytest.mark.parametrize(
    ("tokens", "weighting", "message"),
    [
        ([("a", 1)], "by-mood", "expected one of uniform, tokens"),
        ([("b", 1), ("a", 1)], "uniform", "ascending"),
        ([("a", 1), ("a", 1)], "tokens", "each once"),
        ([("a", 0), ("b", 1)], "tokens", "at least 1 token"),
        ([("a", -5), ("b", 10)], "tokens", "at least 1 token"),
    ],
)
def test_what_has_no_weights(tokens: list[tuple[str, int]], weighting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        round_weights(tokens, weighting)


def test_nobody_has_no_weight() -> None:
    assert round_weights([], "uniform") == ()
    assert round_weights([], "tokens") == ()
