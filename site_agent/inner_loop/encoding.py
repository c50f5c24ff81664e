# SPDX-License-Identifier: Apache-2.0
"""From theta and local parameters to a payload in one pass: strips on threads, no full-size temporaries."""

from typing import NamedTuple

import numpy as np

from federation.chunk_pool import in_order
from federation.chunks import ChunkGrid, Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.codecs.payload import chunk_span, payload_bytes
from federation.kernels import api as kernels
from federation.merkle import PieceHasher
from federation.strips import bytes_of, longest_strip, strips_of
from site_agent.inner_loop.parameters import LocalFragment


class Feedback(NamedTuple):
    """Error feedback of one encoding.

    Attributes:
        adopted: e, f32[num_elements]; not changed.
        beta: its damping.
        candidate: memory f32[num_elements] for e_new = x - decode(Q(x)), where x = beta e + (theta - local).
    """

    adopted: Float32Vector
    beta: float
    candidate: Float32Vector


def encode_fragment(
    codec: Codec, theta: Float32Vector, local: LocalFragment, feedback: Feedback | None, num_threads: int
) -> tuple[ByteVector, str]:
    """Payload and digest of theta - local, f32[num_elements]; the same bytes for any number of threads.

    Raises:
        NonFiniteUpdateError: a value is NaN or infinite, or the codec cannot hold it.
    """
    payload = np.empty(payload_bytes(codec, theta.size), np.uint8)
    grid, hasher = ChunkGrid(theta.size), PieceHasher()

    def work(index: int) -> ByteVector:
        start, stop = grid.bounds(index)
        scratch = np.empty((3, longest_strip(start, stop)), np.float32)
        for strip in strips_of(start, stop):
            _encode_strip(codec, theta, local, feedback, strip, payload[bytes_of(codec, strip)], scratch)
        offset, length = chunk_span(codec, grid, index)
        return payload[offset : offset + length]

    for part in in_order(work, grid.num_chunks, min(num_threads, grid.num_chunks)):
        hasher.update(part.data)
    return payload, hasher.hexdigest()


def _encode_strip(
    codec: Codec,
    theta: Float32Vector,
    local: LocalFragment,
    feedback: Feedback | None,
    strip: slice,
    out: ByteVector,
    scratch: Float32Vector,
) -> None:
    gathered, x, decoded = scratch[:, : strip.stop - strip.start]
    values = local.strip(strip, gathered)
    if feedback is None:
        kernels.difference(theta[strip], values, x)
        kernels.encode_into(codec, x, out)
        return
    kernels.difference_with_feedback(theta[strip], values, feedback.adopted[strip], feedback.beta, x)
    kernels.encode_into(codec, x, out)
    kernels.decode_into(codec, out, decoded)
    kernels.subtract(x, decoded, feedback.candidate[strip])
