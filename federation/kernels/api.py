# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the update path on strips of at most a chunk, into memory that the caller owns.

Every function gives the bits of its numpy reference; errors are raised by the reference itself.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector, Codec

Lanes: TypeAlias = npt.NDArray[np.float64]
"""f64[1024]: partial sums of a dot product, see `dot_add`."""

STRIP_ELEMENTS: Final = 32_768
"""Elements worked on at a time: scratch of this size stays in a core's cache; a multiple of every codec's block."""

NUM_LANES: Final = 1024


def encode_into(codec: Codec, x: Float32Vector, out: ByteVector) -> None:
    """The codec's bytes of f32[n] into u8[num_blocks * bytes_per_block]. Raises NonFiniteUpdateError."""
    out[:] = codec.encode(x)


def decode_into(codec: Codec, raw: ByteVector, out: Float32Vector) -> None:
    """The values that bytes stand for into f32[n]. Raises MalformedPayloadError, NonFiniteUpdateError."""
    out[:] = codec.decode(raw, out.size)


def difference(theta: Float32Vector, local: Float32Vector, out: Float32Vector) -> None:
    """out = theta - local."""
    np.subtract(theta, local, out=out)


def difference_with_feedback(
    theta: Float32Vector, local: Float32Vector, e: Float32Vector, beta: float, out: Float32Vector
) -> None:
    """out = beta e + (theta - local), each operation rounded."""
    np.add(np.multiply(np.float32(beta), e), np.subtract(theta, local), out=out)


def subtract(x: Float32Vector, y: Float32Vector, out: Float32Vector) -> None:
    """out = x - y."""
    np.subtract(x, y, out=out)


def add_scaled(g: Float32Vector, weight: float, y: Float32Vector) -> None:
    """g += weight y: the product is rounded, then the sum."""
    np.add(g, np.multiply(np.float32(weight), y), out=g)


def outer_step_into(
    m: Float32Vector,
    r: Float32Vector,
    g: Float32Vector,
    lr: float,
    mu: float,
    m_out: Float32Vector,
    u_out: Float32Vector,
) -> None:
    """`federation.outer_optimizer.outer_step` into m_out and u_out."""
    from federation.outer_optimizer import outer_step

    m_out[:], u_out[:] = outer_step(m, r, g, lr, mu)


def merge_into(theta: Float32Vector, local: Float32Vector, alpha: float, out: Float32Vector) -> None:
    """out = theta + alpha (local - theta), three roundings; `out` may be `local`."""
    from federation.pseudo_gradient import merge

    out[:] = merge(theta, local, alpha)


def new_lanes() -> Lanes:
    """Lanes of a sum that is empty."""
    return np.zeros(NUM_LANES, np.float64)


def dot_add(x: Float32Vector, y: Float32Vector, lanes: Lanes) -> None:
    """Adds x_i y_i to lane i mod 1024, ascending; a chunk's strips come in order, whole rows but the last."""
    whole = x.size // NUM_LANES * NUM_LANES
    products = np.multiply(x, y, dtype=np.float64)
    for row in products[:whole].reshape(-1, NUM_LANES):
        np.add(lanes, row, out=lanes)
    lanes[: x.size - whole] += products[whole:]


def fold_lanes(lanes: Lanes) -> float:
    """The sum of the lanes, folded by halves."""
    width = NUM_LANES
    while width > 1:
        width //= 2
        lanes[:width] += lanes[width : 2 * width]
    return float(lanes[0])
