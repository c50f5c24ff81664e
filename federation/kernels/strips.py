# SPDX-License-Identifier: Apache-2.0
"""Strips, the cache-sized parts of a chunk, and the arithmetic of the update path on them, one operation a call.

Every function gives the bits of its numpy reference; errors are raised by the reference itself,
and `out` holds anything then. No function allocates more than a few blocks, all may run on many threads at once. The
first call compiles, or loads what was compiled before. Vectors may be longer than a strip, up to a chunk.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from federation.chunks import CHUNK_ELEMENTS, Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.kernels.dispatch import codec_kernels, elementwise
from federation.pseudo_gradient import Lanes

STRIP_ELEMENTS: Final = 32_768
"""Elements worked on at a time: scratch of this size stays in a core's cache; a multiple of every codec's block."""


def strips_of(start: int, stop: int) -> Iterator[slice]:
    """A chunk's bounds, as elements of its fragment, in strips of `STRIP_ELEMENTS`; the last is shorter."""
    for first in range(start, stop, STRIP_ELEMENTS):
        yield slice(first, min(first + STRIP_ELEMENTS, stop))


def encode_into(codec: Codec, x: Float32Vector, out: ByteVector) -> None:
    """The codec's bytes of f32[n] into u8[num_blocks * bytes_per_block], n up to 2^20. Raises NonFiniteUpdateError."""
    kernels = codec_kernels(codec.name)
    if kernels is None or not 1 <= x.size <= CHUNK_ELEMENTS:
        out[:] = codec.encode(x)
        return
    expected = codec.num_blocks(x.size) * codec.bytes_per_block
    if out.size != expected:
        raise ValueError(f"{codec.name}: expected room for {expected} bytes, found {out.size}")
    if kernels.encode(x, out) != 0:
        codec.encode(x)
        raise AssertionError(f"{codec.name}: the compiled encoder refused what the reference encodes")


def decode_into(codec: Codec, raw: ByteVector, out: Float32Vector) -> None:
    """The values that bytes stand for into f32[n], n up to 2^20. Raises MalformedPayloadError, NonFiniteUpdateError."""
    kernels = codec_kernels(codec.name)
    expected = codec.num_blocks(out.size) * codec.bytes_per_block
    if kernels is None or raw.size != expected or not 1 <= out.size <= CHUNK_ELEMENTS:
        out[:] = codec.decode(raw, out.size)
        return
    if kernels.decode(raw, out) != 0:
        codec.decode(raw, out.size)
        raise AssertionError(f"{codec.name}: the compiled decoder refused what the reference decodes")


def difference(theta: Float32Vector, local: Float32Vector, out: Float32Vector) -> None:
    """out = theta - local; `out` may be either."""
    # One operation: numpy's own loop has nothing to gain.
    np.subtract(theta, local, out=out)


def difference_with_feedback(
    theta: Float32Vector, local: Float32Vector, e: Float32Vector, beta: float, out: Float32Vector
) -> None:
    """out = beta e + (theta - local), each operation rounded; fastest where `out` is none of them."""
    elementwise().difference_with_feedback(theta, local, e, np.float32(beta), out)


def subtract(x: Float32Vector, y: Float32Vector, out: Float32Vector) -> None:
    """out = x - y; `out` may be either."""
    np.subtract(x, y, out=out)


def add_scaled(g: Float32Vector, weight: float, y: Float32Vector) -> None:
    """g += weight y: the product is rounded, then the sum."""
    elementwise().add_scaled(g, np.float32(weight), y)


def outer_step_into(
    m: Float32Vector,
    r: Float32Vector,
    g: Float32Vector,
    lr: float,
    mu: float,
    m_out: Float32Vector,
    u_out: Float32Vector,
) -> None:
    """`federation.outer_optimizer.outer_step` into m_out and u_out, fastest where they are none of the others."""
    if mu == 0:
        elementwise().plain_step(r, g, np.float32(lr), u_out)
        m_out[:] = m
        return
    elementwise().momentum_step(m, r, g, np.float32(lr), np.float32(mu), m_out, u_out)


def merge_into(theta: Float32Vector, local: Float32Vector, alpha: float, out: Float32Vector) -> None:
    """out = theta + alpha (local - theta), three roundings; `out` may be `local`."""
    elementwise().merge(theta, local, np.float32(alpha), out)


def dot_add(x: Float32Vector, y: Float32Vector, lanes: Lanes) -> None:
    """Adds x_i y_i to lane i mod 1024, ascending; a chunk's strips come in order, whole rows but the last."""
    elementwise().dot_add(x, y, lanes)
