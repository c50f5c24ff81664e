# SPDX-License-Identifier: Apache-2.0
"""Pseudo-gradients, the merge of a commit into local parameters, and norms (explicit fp32 and fp64 operations).

Every operation here is one correctly rounded IEEE operation per element: no FMA, no `lerp`, no library's reduction
order. So the bits are the same on every machine.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from federation.chunks import CHUNK_ELEMENTS, Float32Vector, check_vector

Lanes: TypeAlias = npt.NDArray[np.float64]
"""f64[1024]: the partial sums of a dot product over one chunk."""

NUM_LANES: Final = 1024


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

    The products are exact in fp64. Element i of a chunk goes to lane i mod 1024, each lane adds its products in
    ascending order, then the lanes are folded by halves (lane i plus lane i + width / 2) until one is left. The sums of
    chunks are added in their order. Zeros behind change nothing, and it does not matter in which parts of whole rows
    of 1024 a chunk is worked on.
    """
    if x.size != y.size:
        raise ValueError(f"dot: expected equal lengths, found {x.size} and {y.size}")
    total = 0.0
    for start in range(0, x.size, CHUNK_ELEMENTS):
        lanes, part = new_lanes(), slice(start, start + CHUNK_ELEMENTS)
        add_to_lanes(x[part], y[part], lanes)
        total += fold_lanes(lanes)
    return total


def new_lanes() -> Lanes:
    """The lanes of a sum that is empty."""
    return np.zeros(NUM_LANES, np.float64)


def add_to_lanes(x: Float32Vector, y: Float32Vector, lanes: Lanes) -> None:
    """Adds x_i y_i to lane i mod 1024, ascending; a chunk's parts come in order, all but the last in whole rows."""
    whole = x.size // NUM_LANES * NUM_LANES
    products = np.multiply(x, y, dtype=np.float64)
    for row in products[:whole].reshape(-1, NUM_LANES):
        np.add(lanes, row, out=lanes)
    lanes[: x.size - whole] += products[whole:]


def fold_lanes(lanes: Lanes) -> float:
    """The sum of the lanes, folded by halves; they are left as they are."""
    return fold_rows(lanes[np.newaxis])[0]


def fold_rows(lanes_KL: Lanes) -> tuple[float, ...]:
    """Of f64[k, 1024]: `fold_lanes` of every row."""
    folded, width = lanes_KL, lanes_KL.shape[1]
    while width > 1:
        width //= 2
        folded = np.add(folded[:, :width], folded[:, width:])
    return tuple(folded[:, 0].tolist())
