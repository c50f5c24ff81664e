# SPDX-License-Identifier: Apache-2.0
"""theta as every holder has it: the base minus the decoded commit blob, checked by digest."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from federation.chunk_pool import in_order, num_threads_here
from federation.chunks import ChunkGrid, Float32Vector, check_vector, chunk_hash
from federation.codecs.api import BytesLike, ByteVector, Codec
from federation.codecs.payload import bytes_of, payload_bytes
from federation.codecs.registry import get_codec
from federation.errors import DigestMismatchError, MalformedPayloadError
from federation.ids import short
from federation.kernels import api as kernels
from federation.manifest import Manifest
from federation.merkle import root_of

ApplyChunk: TypeAlias = Callable[[slice, ByteVector], None]
"""Takes a chunk's elements of the old theta and the bytes of its update to the new theta, on some thread."""


def apply_commit(
    manifest: Manifest, fragment: int, theta: Float32Vector, blob: BytesLike, expected: str
) -> Float32Vector:
    """theta <- theta - decode(blob), a new f32[num_elements], one rounding per element, on all processors.

    Args:
        expected: digest of the new theta, as the commit leaf records it.

    Raises:
        MalformedPayloadError: the blob breaks its format.
        NonFiniteUpdateError: the blob stands for NaN or infinity.
        DigestMismatchError: the result has another digest.
    """
    result = np.empty_like(check_vector(theta, "theta"))
    found = apply_blob_into(get_codec(manifest.codecs.down), theta, blob, result, num_threads=num_threads_here())
    if found != expected:
        raise DigestMismatchError(f"fragment {fragment}: expected theta {short(expected)}, found {short(found)}")
    return result


def apply_blob_into(
    codec: Codec,
    theta: Float32Vector,
    blob: BytesLike,
    out: Float32Vector,
    *,
    num_threads: int,
    with_digest: bool = True,
    apply: ApplyChunk | None = None,
) -> str:
    """out <- theta - decode(blob), f32[num_elements], chunk by chunk; `out` may be `theta` itself.

    Args:
        apply: what does this and more for a chunk.

    Returns:
        The digest of the new fragment, "" without `with_digest`.

    Raises:
        MalformedPayloadError, NonFiniteUpdateError: as `apply_commit`; `out` may be changed in part.
    """
    raw, grid = _whole_blob(codec, theta.size, blob), ChunkGrid(theta.size)

    def work(index: int) -> bytes:
        where = slice(*grid.bounds(index))
        if apply is None:
            kernels.apply_to(codec, raw[bytes_of(codec, where)], theta[where], out[where])
        else:
            apply(where, raw[bytes_of(codec, where)])
        return chunk_hash(out[where]) if with_digest else b""

    hashes = list(in_order(work, grid.num_chunks, min(num_threads, grid.num_chunks)))
    return root_of(hashes).hex() if with_digest else ""


def digest_on_threads(vector: Float32Vector, num_threads: int) -> str:
    """The digest of a whole fragment f32[n], its chunks hashed on threads."""
    grid = ChunkGrid(check_vector(vector, "fragment").size)
    work = lambda index: chunk_hash(vector[slice(*grid.bounds(index))])  # noqa: E731
    return root_of(in_order(work, grid.num_chunks, min(num_threads, grid.num_chunks))).hex()


def _whole_blob(codec: Codec, num_elements: int, blob: BytesLike) -> ByteVector:
    raw = np.frombuffer(blob, np.uint8)
    expected = payload_bytes(codec, num_elements)
    if raw.size != expected:
        raise MalformedPayloadError(
            f"{codec.name}: expected {expected} bytes for {num_elements} elements, found {raw.size}"
        )
    return raw
