# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of one commit on one chunk: from payloads and base to new state, blob bytes and figures.

A chunk is worked through in strips that stay in a core's cache: every vector of the base is read once and every vector
of the new version written once, whatever the number of sites. Threads may do different chunks at the same time. The
order of all operations on an element, and of all sums, is the same for any number of threads.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from federation.chunks import ChunkGrid, Float32Vector, chunk_hash
from federation.codecs.api import ByteVector
from federation.codecs.payload import chunk_span, payload_bytes
from federation.codecs.registry import get_codec
from federation.kernels import api as kernels
from federation.leaves import SealedUpdate
from federation.manifest import Manifest
from federation.state.api import StateChunk, StateReader, StateWriter
from federation.strips import bytes_of, strips_of

_MAX_HELD_PARTS: Final = 16
"""Decoded strips kept between the two passes over a strip (2 MiB); with more sites they are decoded twice."""


class PayloadSource(Protocol):
    """The part of a `BlobStore` that reads payloads."""

    def size(self, digest: str) -> int:
        """Bytes of a blob."""

    def verify(self, digest: str) -> None:
        """Raises CorruptObjectError if the stored bytes have another digest."""

    def map(self, digest: str) -> memoryview | None:
        """The blob's bytes as mapped memory, None where files cannot be mapped."""

    def read_range(self, digest: str, offset: int, length: int) -> bytes:
        """Some bytes of a blob."""


def weighted_sum(
    parts: Iterable[tuple[float, Float32Vector]], num_elements: int, out: Float32Vector | None = None
) -> Float32Vector:
    """g = 0 + w_1 D_1 + w_2 D_2 + ..., f32[num_elements], in the order given; each product and sum rounded to fp32.

    Returns `out`, if one is given.
    """
    g = np.empty(num_elements, np.float32) if out is None else out
    g.fill(0.0)
    for weight, part in parts:
        kernels.add_scaled(g, weight, part)
    return g


@dataclass(frozen=True, kw_only=True)
class ChunkResult:
    """What one chunk adds to a commit.

    Attributes:
        blob: its bytes in the commit blob.
        squares, dots: |D_i|^2 and <D_i, g> by site.
        square: |g|^2.
        new: leaf hashes of theta, and of m and r where they were asked for.
        old: leaf hashes of the base's theta, m, r, where they were asked for.
    """

    blob: ByteVector
    squares: tuple[float, ...]
    dots: tuple[float, ...]
    square: float
    new: tuple[bytes, ...]
    old: tuple[bytes, ...]


class _Scratch:
    """One thread's memory: a few strips, and the lanes of the sums over one chunk."""

    def __init__(self, num_sites: int) -> None:
        num_held = num_sites if num_sites <= _MAX_HELD_PARTS else 1
        self.parts = np.empty((num_held, kernels.STRIP_ELEMENTS), np.float32)
        self.g, self.u, self.decoded = np.empty((3, kernels.STRIP_ELEMENTS), np.float32)
        self.squares = [kernels.new_lanes() for _ in range(num_sites)]
        self.dots = [kernels.new_lanes() for _ in range(num_sites)]
        self.square = kernels.new_lanes()

    def begin_chunk(self) -> None:
        for lanes in (*self.squares, *self.dots, self.square):
            lanes.fill(0.0)


@dataclass(kw_only=True)
class CommitPass:
    """A commit of one fragment, chunk by chunk.

    Attributes:
        digest_base: hash the base's chunks too.
        digest_state: hash m and r of the new version too, not only theta.
    """

    blobs: PayloadSource
    manifest: Manifest
    base: StateReader
    writer: StateWriter
    sealed: Sequence[SealedUpdate]
    digest_base: bool
    digest_state: bool
    _free: list[_Scratch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._up, self._down = get_codec(self.manifest.codecs.up), get_codec(self.manifest.codecs.down)
        self._weights = [update.weight for update in self.sealed]
        self._mapped = [self.blobs.map(update.payload_digest) for update in self.sealed]

    @property
    def grid(self) -> ChunkGrid:
        """Of the fragment."""
        return self.base.grid

    def chunk(self, index: int) -> ChunkResult:
        """Computes a chunk and writes its new state. Any thread, any order, each chunk once.

        Raises:
            MalformedPayloadError, NonFiniteUpdateError: a payload breaks its format.
            CorruptObjectError: the base cannot be read.
        """
        num_real, payloads = self.grid.num_real(index), [self._payload(site, index) for site in range(len(self.sealed))]
        base, new = self.base.view_chunk(index), self.writer.reserve(index)
        blob = np.empty(payload_bytes(self._down, num_real), np.uint8)
        with self._scratch() as scratch:
            for strip in strips_of(0, num_real):
                raws = [payload[bytes_of(self._up, strip)] for payload in payloads]
                old, target = _part(base, strip), _part(new, strip)
                self._step(scratch, raws, old, target, blob[bytes_of(self._down, strip)])
            result = ChunkResult(
                blob=blob,
                squares=tuple(map(kernels.fold_lanes, scratch.squares)),
                dots=tuple(map(kernels.fold_lanes, scratch.dots)),
                square=kernels.fold_lanes(scratch.square),
                new=tuple(map(chunk_hash, new if self.digest_state else new[:1])),
                old=tuple(map(chunk_hash, base)) if self.digest_base else (),
            )
        self.writer.filled(index)
        return result

    def _step(self, s: _Scratch, raws: list[ByteVector], old: StateChunk, new: StateChunk, blob: ByteVector) -> None:
        """One strip: aggregate, outer step, downlink, and what the downlink's bytes make of theta and r."""
        outer, size = self.manifest.outer, old.theta.size
        g, u, decoded = s.g[:size], s.u[:size], s.decoded[:size]
        self._aggregate(s, raws, g)
        kernels.outer_step_into(old.momentum, old.residual, g, outer.lr, outer.momentum, new.momentum, u)
        kernels.encode_into(self._down, u, blob)
        kernels.decode_into(self._down, blob, decoded)
        _apply(old.theta, u, decoded, new)

    def _aggregate(self, s: _Scratch, raws: list[ByteVector], g: Float32Vector) -> None:
        """The weighted sum, and the sums for norms and cosines."""
        weighted_sum(zip(self._weights, self._parts(s, raws, g.size), strict=True), g.size, g)
        held = len(raws) <= _MAX_HELD_PARTS
        parts: Iterable[Float32Vector] = s.parts[:, : g.size] if held else self._parts(s, raws, g.size)
        for part, squares, dots in zip(parts, s.squares, s.dots, strict=True):
            kernels.dot_add(part, part, squares)
            kernels.dot_add(part, g, dots)
        kernels.dot_add(g, g, s.square)

    def _parts(self, s: _Scratch, raws: list[ByteVector], size: int) -> Iterator[Float32Vector]:
        """Every site's decoded strip, ascending; where they are not all held, one overwrites the other."""
        for site, raw in enumerate(raws):
            part = s.parts[site % len(s.parts), :size]
            kernels.decode_into(self._up, raw, part)
            yield part

    def _payload(self, site: int, index: int) -> ByteVector:
        """A chunk's bytes of one site's payload."""
        (offset, length), mapped = chunk_span(self._up, self.grid, index), self._mapped[site]
        if mapped is not None:
            return np.frombuffer(mapped, np.uint8)[offset : offset + length]
        return np.frombuffer(self.blobs.read_range(self.sealed[site].payload_digest, offset, length), np.uint8)

    @contextmanager
    def _scratch(self) -> Iterator[_Scratch]:
        try:
            found = self._free.pop()
        except IndexError:
            found = _Scratch(len(self.sealed))
        found.begin_chunk()
        yield found
        self._free.append(found)


def _apply(theta: Float32Vector, u: Float32Vector, decoded: Float32Vector, new: StateChunk) -> None:
    """`federation.outer_optimizer.apply_blob` into the new version."""
    kernels.subtract(theta, decoded, new.theta)
    kernels.subtract(u, decoded, new.residual)


def _part(chunk: StateChunk, strip: slice) -> StateChunk:
    return StateChunk(chunk.theta[strip], chunk.momentum[strip], chunk.residual[strip])
