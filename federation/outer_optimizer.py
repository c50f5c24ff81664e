# SPDX-License-Identifier: Apache-2.0
"""The outer optimizer's step on one chunk or vector, as explicit fp32 operations.

SGD with Nesterov momentum in PyTorch's convention (DiLoCo, arXiv 2311.08105, section 2), with a residual r on the way
down: the published blob defines the new parameters, what it could not hold is kept for the next commit.
"""

import numpy as np

from federation.chunks import Float32Vector, check_vector
from federation.codecs.api import BytesLike, Codec
from federation.codecs.payload import decode_chunks


def outer_step(
    momentum: Float32Vector, residual: Float32Vector, g: Float32Vector, lr: float, mu: float
) -> tuple[Float32Vector, Float32Vector]:
    """The new momentum m and the step u that the blob has to carry, both f32[n].

    m <- mu m + g; s = lr (g + mu m) with the new m; u = s + residual. With mu = 0: s = lr g, and m stays as it is
    (zero). `lr` and `mu` are rounded once to fp32; every operation is rounded on its own.
    """
    check_vector(momentum, "momentum")
    check_vector(residual, "residual")
    rate = np.float32(lr)
    if mu == 0:
        return momentum.copy(), np.add(np.multiply(rate, check_vector(g, "g")), residual)
    factor = np.float32(mu)
    m_new = np.multiply(factor, momentum)
    np.add(m_new, check_vector(g, "g"), out=m_new)
    u = np.multiply(factor, m_new)
    np.add(g, u, out=u)
    np.multiply(rate, u, out=u)
    return m_new, np.add(u, residual, out=u)


def apply_blob(theta: Float32Vector, u: Float32Vector, decoded: Float32Vector) -> tuple[Float32Vector, Float32Vector]:
    """The new theta = theta - decoded and the new residual r = u - decoded, both f32[n]."""
    return np.subtract(check_vector(theta, "theta"), decoded), np.subtract(check_vector(u, "u"), decoded)


def apply_downlink(codec: Codec, theta: Float32Vector, blob: BytesLike) -> Float32Vector:
    """The new theta f32[n] of every holder: theta - decode(blob), from the bytes of a whole commit blob.

    Raises:
        MalformedPayloadError: a bound of the format is broken.
        NonFiniteUpdateError: the bytes stand for NaN or infinity.
    """
    theta_new, start = np.empty_like(check_vector(theta, "theta")), 0
    for decoded in decode_chunks(codec, theta.size, blob):
        part = slice(start, start + decoded.size)
        np.subtract(theta[part], decoded, out=theta_new[part])
        start = part.stop
    return theta_new
