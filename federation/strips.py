# SPDX-License-Identifier: Apache-2.0
"""Strips: the cache-sized parts that a chunk is worked on in, and where their bytes lie in a payload."""

from collections.abc import Callable, Iterator

from federation.chunk_pool import in_order
from federation.chunks import ChunkGrid
from federation.codecs.api import Codec
from federation.codecs.payload import payload_bytes
from federation.kernels import strips as kernels


def strips_of(start: int, stop: int) -> Iterator[slice]:
    """A chunk's bounds, as elements of its fragment, in strips of `STRIP_ELEMENTS`; the last is shorter."""
    for first in range(start, stop, kernels.STRIP_ELEMENTS):
        yield slice(first, min(first + kernels.STRIP_ELEMENTS, stop))


def longest_strip(start: int, stop: int) -> int:
    """Elements of the longest strip: what scratch memory must hold."""
    return min(kernels.STRIP_ELEMENTS, stop - start)


def bytes_of(codec: Codec, strip: slice) -> slice:
    """Where a strip's blocks lie in the payload of its fragment; strips begin at whole blocks."""
    first = strip.start // codec.block_elements * codec.bytes_per_block
    return slice(first, first + payload_bytes(codec, strip.stop - strip.start))


def on_chunks(num_elements: int, num_threads: int, work: Callable[[slice], None]) -> None:
    """work(elements) for every chunk of a fragment, on threads."""
    grid = ChunkGrid(num_elements)
    for _ in in_order(lambda i: work(slice(*grid.bounds(i))), grid.num_chunks, min(num_threads, grid.num_chunks)):
        pass
