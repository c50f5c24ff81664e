# SPDX-License-Identifier: Apache-2.0
"""From theta and local parameters to a payload in one pass: chunks on threads, no full-size temporaries."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from federation.chunk_pool import in_order
from federation.chunks import ChunkGrid, Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.codecs.payload import bytes_of, chunk_span
from federation.kernels import api as kernels
from federation.piece_hashes import PieceHashes
from site_agent.inner_loop.parameters import LocalFragment, Run

Sink: TypeAlias = Callable[[memoryview], None]
"""Takes a payload's bytes, part by part, in order."""


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
    codec: Codec,
    theta: Float32Vector,
    local: LocalFragment,
    payload: ByteVector,
    *,
    feedback: Feedback | None,
    num_threads: int,
    sink: Sink,
) -> str:
    """Fills a payload with theta - local, f32[num_elements]; the same bytes for any number of threads.

    Args:
        sink: gets each part as soon as it and those before it are done, while others are still being encoded.

    Returns:
        The payload's digest.

    Raises:
        NonFiniteUpdateError: a value is NaN or infinite, or the codec cannot hold it.
    """
    grid, hashes = ChunkGrid(theta.size), PieceHashes(payload.data)

    def work(index: int) -> memoryview:
        for run in local.runs(slice(*grid.bounds(index)), codec.block_elements):
            _encode_run(codec, theta[run.where], run, feedback, payload[bytes_of(codec, run.where)])
        offset, length = chunk_span(codec, grid, index)
        hashes.filled(offset, offset + length)
        return payload[offset : offset + length].data

    for part in in_order(work, grid.num_chunks, min(num_threads, grid.num_chunks)):
        sink(part)
    return hashes.hexdigest()


def _encode_run(codec: Codec, theta: Float32Vector, run: Run, feedback: Feedback | None, out: ByteVector) -> None:
    if feedback is None:
        kernels.encode_difference(codec, theta, run.values, out)
        return
    e, candidate = feedback.adopted[run.where], feedback.candidate[run.where]
    kernels.encode_difference_with_feedback(codec, theta, run.values, e, feedback.beta, out, candidate)
