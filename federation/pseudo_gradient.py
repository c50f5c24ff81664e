# SPDX-License-Identifier: Apache-2.0
"""Pseudo-gradients, the merge of a commit into local parameters, and norms (explicit fp32 and fp64 operations).

Every operation here is one correctly rounded IEEE operation per element: no FMA, no `lerp`, no library's reduction
order. So the bits are the same on every machine.
"""

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector, check_vector


def pseudo_gradient(theta: Float32Vector, local: Float32Vector) -> Float32Vector:
    """Delta = theta - local, f32[n]: the last committed parameters minus the local ones, this sign always."""
    return np.subtract(check_vector(theta, "theta"), check_vector(local, "local"))


def merge(theta: Float32Vector, local: Float32Vector, alpha: float) -> Float32Vector:
    """theta + alpha (local - theta), f32[n]: what a site goes on with after a commit (arXiv 2501.18512, eq. 3).

    Three rounded operations whatever alpha is, so alpha = 1 need not give `local` to the bit.
    """
    result = np.subtract(check_vector(local, "local"), check_vector(theta, "theta"))
    np.multiply(np.float32(alpha), result, out=result)
    return np.add(theta, result, out=result)


def fixed_order_dot(x: Float32Vector, y: Float32Vector) -> float:
    """Sum of x_i y_i in fp64 over f32[n], in one fixed order.

    The products are exact in fp64. They are zero-padded to a power of two and folded by halves (element i plus element
    i + n/2) until one is left; more padding changes nothing.
    """
    if x.size != y.size:
        raise ValueError(f"dot: expected equal lengths, found {x.size} and {y.size}")
    width = 1 << max(x.size - 1, 0).bit_length()
    products = np.zeros(width, np.float64)
    np.multiply(x, y, out=products[: x.size], dtype=np.float64)
    return _fold_by_halves(products)


def _fold_by_halves(terms: npt.NDArray[np.float64]) -> float:
    width = terms.size
    while width > 1:
        width //= 2
        np.add(terms[:width], terms[width : 2 * width], out=terms[:width])
    return float(terms[0])
