# SPDX-License-Identifier: Apache-2.0
"""Compiled arithmetic between vectors gives the bits of numpy, which rounds each operation on its own."""

from collections.abc import Callable

import numpy as np
import pytest

from federation.golden import inputs
from federation.kernels import api
from federation.kernels.dispatch import elementwise
from federation.kernels.plain import PLAIN, Elementwise
from federation.outer_optimizer import outer_step
from federation.pseudo_gradient import fixed_order_dot, merge, pseudo_gradient

SIZES = (1, 7, 16, 1023, 1024, 1025, 5000, api.STRIP_ELEMENTS)
KINDS = (inputs.usual, inputs.wide, inputs.tiny, inputs.halves)
SPECIAL = np.array(
    [0x0, 0x80000000, 0x1, 0x80000001, 0x7FFFFF, 0x3F800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000], np.uint32
).view(np.float32)


def vectors(seed: int, size: int, count: int) -> list[np.ndarray]:
    kind = KINDS[seed % len(KINDS)]
    return [kind(10 * seed + i, size) for i in range(count)]


def test_what_runs_here_is_compiled() -> None:
    assert elementwise() is not PLAIN


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_every_function_is_its_reference(seed: int, size: int) -> None:
    a, b, c = vectors(seed, size, 3)
    out, other = np.empty(size, np.float32), np.empty(size, np.float32)
    api.difference(a, b, out)
    assert out.tobytes() == pseudo_gradient(a, b).tobytes()
    api.subtract(a, b, out)
    assert out.tobytes() == np.subtract(a, b).tobytes()
    api.difference_with_feedback(a, b, c, 0.95, out)
    assert out.tobytes() == np.add(np.multiply(np.float32(0.95), c), pseudo_gradient(a, b)).tobytes()
    out[:] = a
    api.add_scaled(out, 0.3, b)
    assert out.tobytes() == np.add(a, np.multiply(np.float32(0.3), b)).tobytes()
    api.merge_into(a, b, 0.7, out)
    assert out.tobytes() == merge(a, b, 0.7).tobytes()
    for mu in (0.9, 0.0):
        api.outer_step_into(a, b, c, 0.7, mu, out, other)
        m, u = outer_step(a, b, c, 0.7, mu)
        assert (out.tobytes(), other.tobytes()) == (m.tobytes(), u.tobytes())


@pytest.mark.parametrize("size", SIZES)
def test_results_may_replace_an_operand(size: int) -> None:
    a, b, c = vectors(0, size, 3)
    local = b.copy()
    api.merge_into(a, local, 0.7, local)
    assert local.tobytes() == merge(a, b, 0.7).tobytes()
    # Another view of the same memory is not the same object.
    local = b.copy()
    api.merge_into(a, local, 0.7, local[:])
    assert local.tobytes() == merge(a, b, 0.7).tobytes()
    m, r = a.copy(), b.copy()
    api.outer_step_into(m, r, c, 0.7, 0.9, m, r)
    assert (m.tobytes(), r.tobytes()) == tuple(part.tobytes() for part in outer_step(a, b, c, 0.7, 0.9))
    e = c.copy()
    api.difference_with_feedback(a, b, e, 0.95, e)
    assert e.tobytes() == np.add(np.multiply(np.float32(0.95), c), np.subtract(a, b)).tobytes()


def calls(kernels: Elementwise) -> list[Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]]:
    def feedback(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        kernels.difference_with_feedback(x, y, z, np.float32(0.95), out)
        return out

    def add(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        out = x.copy()
        kernels.add_scaled(out, np.float32(0.3), y)
        return out

    def step(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        m, u = np.empty_like(x), np.empty_like(x)
        kernels.momentum_step(x, y, z, np.float32(0.7), np.float32(0.9), m, u)
        return np.concatenate([m, u])

    def plain(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        kernels.plain_step(x, y, np.float32(0.7), out)
        return out

    def merged(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        kernels.merge(x, y, np.float32(0.25), out)
        return out

    return [feedback, add, step, plain, merged]


@pytest.mark.parametrize("which", range(5))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_special_values_in_every_combination(which: int) -> None:
    x, y, z = (part.reshape(-1) for part in np.meshgrid(SPECIAL, SPECIAL, SPECIAL))
    x, y, z = (np.ascontiguousarray(part) for part in (x, y, z))
    found, expected = calls(elementwise())[which](x, y, z), calls(PLAIN)[which](x, y, z)
    # Which NaN comes out of infinity minus infinity is not arithmetic; all others agree to the bit.
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert found[~np.isnan(found)].tobytes() == expected[~np.isnan(expected)].tobytes()


@pytest.mark.parametrize("which", range(5))
def test_a_nan_stays_where_it_is(which: int) -> None:
    x, y, z = vectors(0, 5000, 3)
    y[1234] = np.nan
    assert calls(elementwise())[which](x, y, z).tobytes() == calls(PLAIN)[which](x, y, z).tobytes()


def fused(a: float, b: float, c: float) -> np.float32:
    """a b + c rounded once: the product of two fp32 values is exact in fp64, and so is this sum."""
    return np.float32(float(np.float32(a)) * float(np.float32(b)) + float(np.float32(c)))


def test_products_are_rounded_before_they_are_added() -> None:
    # weight = y = 1 + 2^-12: the product 1 + 2^-11 + 2^-24 loses its last term, unless it is fused with the sum.
    value = np.float32(1 + 2.0**-12)
    for size in (1, 3, 64, 1000):
        y, x = np.full(size, value), np.full(size, -np.float32(1 + 2.0**-11))
        assert fused(value, value, x[0]) != 0
        g, out, other = x.copy(), np.empty(size, np.float32), np.empty(size, np.float32)
        api.add_scaled(g, float(value), y)
        assert not g.any()
        api.difference_with_feedback(x, np.zeros_like(x), y, float(value), out)
        assert not out.any()
        api.outer_step_into(y, x, x, float(value), float(value), out, other)
        assert not out.any()
        api.outer_step_into(y, x, y, float(value), 0.0, out, other)
        assert not other.any()
        api.merge_into(x, np.add(x, y), float(value), out)
        assert np.subtract(np.add(x, y), x)[0] == value
        assert not out.any()
        api.merge_into(x, g := np.add(x, y), float(value), g)
        assert not g.any()


@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 40_000, 1 << 20])
@pytest.mark.parametrize("strip", [1024, 4096, api.STRIP_ELEMENTS, 1 << 20])
def test_dot_in_strips_of_any_size_is_the_reference(size: int, strip: int) -> None:
    x, y, lanes = inputs.wide(1, size), inputs.wide(2, size), api.new_lanes()
    for start in range(0, size, strip):
        api.dot_add(x[start : start + strip], y[start : start + strip], lanes)
    assert api.fold_lanes(lanes) == fixed_order_dot(x, y)


def test_another_layout_is_a_bug() -> None:
    x = inputs.usual(1, 100)
    with pytest.raises(TypeError):
        api.add_scaled(np.zeros(50, np.float32), 1.0, x[::2])
