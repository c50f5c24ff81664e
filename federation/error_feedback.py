# SPDX-License-Identifier: Apache-2.0
"""Error feedback: what a codec drops in one round is added, damped, in the next (arXiv 2508.15706, algorithm 1)."""

import numpy as np

from federation.chunks import CHUNK_ELEMENTS, Float32Vector, check_vector
from federation.codecs.api import ByteVector, Codec


def encode_with_feedback(
    codec: Codec, delta: Float32Vector, e: Float32Vector, beta: float
) -> tuple[bytes, Float32Vector]:
    """Encodes x = beta e + delta; returns the payload and the candidate e_new = x - decode(payload), f32[n].

    The caller adopts e_new only when a commit lists this payload's digest, and keeps `e` otherwise. Neither input is
    changed.

    Args:
        delta: pseudo-gradient f32[n].
        e: the buffer adopted last, f32[n]; zeros at first.
        beta: damping, rounded once to fp32.

    Raises:
        NonFiniteUpdateError: x holds NaN, infinity or a magnitude that the codec cannot hold.
    """
    if check_vector(delta, "delta").size != check_vector(e, "e").size:
        raise ValueError(f"error feedback: expected {delta.size} elements, found {e.size}")
    payload: list[ByteVector] = []
    e_new = np.empty_like(delta)
    for start in range(0, delta.size, CHUNK_ELEMENTS):
        part = slice(start, start + CHUNK_ELEMENTS)
        x = np.multiply(np.float32(beta), e[part])
        np.add(x, delta[part], out=x)
        data = codec.encode(x)
        np.subtract(x, codec.decode(data, x.size), out=e_new[part])
        payload.append(data)
    return b"".join(data.data for data in payload), e_new
