# SPDX-License-Identifier: Apache-2.0
"""Payloads: the codec's bytes of a whole fragment, chunk after chunk, without headers.

Where a chunk's bytes lie follows from the codec and the number of elements alone, so a payload can be written, read and
checked in streams.
"""

from collections.abc import Iterator

import numpy as np

from federation.chunks import CHUNK_ELEMENTS, ChunkGrid, Float32Vector, check_vector
from federation.codecs.api import BytesLike, ByteVector, Codec
from federation.errors import MalformedPayloadError


def payload_bytes(codec: Codec, num_elements: int) -> int:
    """Size in bytes of the payload of a fragment."""
    return codec.num_blocks(num_elements) * codec.bytes_per_block


def chunk_span(codec: Codec, grid: ChunkGrid, index: int) -> tuple[int, int]:
    """Offset and length in bytes of a chunk inside the payload."""
    span = bytes_of(codec, slice(*grid.bounds(index)))
    return span.start, span.stop - span.start


def bytes_of(codec: Codec, elements: slice) -> slice:
    """Where the blocks of some elements lie in the payload of their fragment; the first one begins a block."""
    first = elements.start // codec.block_elements * codec.bytes_per_block
    return slice(first, first + payload_bytes(codec, elements.stop - elements.start))


def encode_chunks(codec: Codec, vector: Float32Vector) -> Iterator[ByteVector]:
    """The payload of f32[n], chunk by chunk. Raises NonFiniteUpdateError."""
    check_vector(vector, "vector")
    for start in range(0, vector.size, CHUNK_ELEMENTS):
        yield codec.encode(vector[start : start + CHUNK_ELEMENTS])


def encode_vector(codec: Codec, vector: Float32Vector) -> bytes:
    """The whole payload of f32[n]. Raises NonFiniteUpdateError."""
    return b"".join(part.data for part in encode_chunks(codec, vector))


def decode_chunk(codec: Codec, grid: ChunkGrid, index: int, data: BytesLike) -> Float32Vector:
    """The real elements of a chunk (f32[2^20], fewer in the last one; not padded) from its bytes `chunk_span`.

    Raises:
        MalformedPayloadError: a bound of the format is broken.
        NonFiniteUpdateError: the bytes stand for NaN or infinity.
    """
    return codec.decode(data, grid.num_real(index))


def decode_chunks(codec: Codec, num_elements: int, data: BytesLike) -> Iterator[Float32Vector]:
    """The real elements of a whole payload, chunk by chunk. Raises as `decode_chunk`."""
    raw = np.frombuffer(data, np.uint8)
    if raw.size != payload_bytes(codec, num_elements):
        raise MalformedPayloadError(
            f"{codec.name}: expected {payload_bytes(codec, num_elements)} bytes for {num_elements} elements, "
            f"found {raw.size}"
        )
    grid = ChunkGrid(num_elements)
    for index in range(grid.num_chunks):
        offset, length = chunk_span(codec, grid, index)
        yield decode_chunk(codec, grid, index, raw[offset : offset + length])


def decode_vector(codec: Codec, num_elements: int, data: BytesLike) -> Float32Vector:
    """The whole vector f32[num_elements] of a payload. Raises as `decode_chunk`."""
    return np.concatenate(list(decode_chunks(codec, num_elements, data)))
