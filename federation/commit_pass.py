# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of one commit on one chunk: from payloads and base to new state, blob bytes and figures.

A chunk is worked through in strips that stay in a core's cache: every vector of the base is read once and every vector
of the new version written once, whatever the number of sites. Threads may do different chunks at the same time. The
order of all operations on an element, and of all sums, is the same for any number of threads.

One compiled call does a chunk where there is one (`federation.kernels.api.commit`). What is written here strip by strip
is its definition, runs where nothing is compiled, and says what is wrong where compiled code refuses.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from federation.chunks import ChunkGrid, Float32Vector, chunk_hash
from federation.codecs.api import ByteVector, Codec
from federation.codecs.payload import bytes_of, chunk_span, payload_bytes
from federation.codecs.registry import get_codec
from federation.kernels import api as kernels
from federation.kernels import strips
from federation.kernels.api import CommitSums
from federation.leaves import SealedUpdate
from federation.manifest import Manifest
from federation.state.api import StateChunk, StateReader, StateWriter

_MAX_HELD_PARTS: Final = 16
"""Decoded strips kept between the two passes over a strip; with more sites they are decoded twice.

A thread needs half a MiB for them in compiled code, whose strips are shorter, and 2 MiB without.
"""


class PayloadSource(Protocol):
    """The part of a `BlobStore` that reads payloads."""

    def size(self, digest: str) -> int:
        """Bytes of a blob."""

    def is_known_intact(self, digest: str) -> bool:
        """Whether this process has hashed the blob, and its file is the same since."""

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
    """What the work on one strip after the other needs."""

    def __init__(self, num_sites: int) -> None:
        num_held = num_sites if num_sites <= _MAX_HELD_PARTS else 1
        self.parts = np.empty((num_held, strips.STRIP_ELEMENTS), np.float32)
        self.g, self.u, self.decoded = np.empty((3, strips.STRIP_ELEMENTS), np.float32)


@dataclass(frozen=True, kw_only=True)
class ChunkCommit:
    """A commit's arithmetic, for one chunk after the other.

    Attributes:
        up, down: codecs of payloads and blob.
        weights: f32[sites], in the order of the payloads.
        lr, mu: of the outer step.
    """

    up: Codec
    down: Codec
    weights: Float32Vector
    lr: float
    mu: float

    def compute(
        self, payloads: Sequence[ByteVector], base: StateChunk, new: StateChunk, blob: ByteVector, sums: CommitSums
    ) -> None:
        """Fills the new state, its blob, and sums that are clear, from the payloads of all sites.

        Raises:
            MalformedPayloadError, NonFiniteUpdateError: a payload breaks its format, or the blob's codec is too narrow.
        """
        up, down, lr, mu = self.up, self.down, self.lr, self.mu
        if kernels.commit(up, down, payloads, self.weights, base, lr, mu, new, blob, sums, _MAX_HELD_PARTS):
            return
        sums.clear()
        scratch = _Scratch(len(payloads))
        for strip in strips.strips_of(0, base.theta.size):
            raws, old, target = [raw[bytes_of(up, strip)] for raw in payloads], _part(base, strip), _part(new, strip)
            self._step(scratch, raws, old, target, blob[bytes_of(down, strip)], sums)
        if kernels.can_commit(up, down):
            raise AssertionError(f"{up.name}, {down.name}: the compiled commit refused what strips take")

    def _step(
        self,
        s: _Scratch,
        raws: list[ByteVector],
        old: StateChunk,
        new: StateChunk,
        blob: ByteVector,
        sums: CommitSums,
    ) -> None:
        """One strip: aggregate, outer step, downlink, and what the downlink's bytes make of theta and r."""
        size = old.theta.size
        g, u, decoded = s.g[:size], s.u[:size], s.decoded[:size]
        self._aggregate(s, raws, g, sums)
        kernels.outer_step_into(old.momentum, old.residual, g, self.lr, self.mu, new.momentum, u)
        kernels.encode_into(self.down, u, blob)
        kernels.decode_into(self.down, blob, decoded)
        _apply(old.theta, u, decoded, new)

    def _aggregate(self, s: _Scratch, raws: list[ByteVector], g: Float32Vector, sums: CommitSums) -> None:
        """The weighted sum, and the sums for norms and cosines."""
        weighted_sum(zip(self.weights.tolist(), self._parts(s, raws, g.size), strict=True), g.size, g)
        held = len(raws) <= _MAX_HELD_PARTS
        parts: Iterable[Float32Vector] = s.parts[:, : g.size] if held else self._parts(s, raws, g.size)
        for part, squares, dots in zip(parts, sums.squares_KL, sums.dots_KL, strict=True):
            kernels.dot_add(part, part, squares)
            kernels.dot_add(part, g, dots)
        kernels.dot_add(g, g, sums.square)

    def _parts(self, s: _Scratch, raws: list[ByteVector], size: int) -> Iterator[Float32Vector]:
        """Every site's decoded strip, ascending; where they are not all held, one overwrites the other."""
        for site, raw in enumerate(raws):
            part = s.parts[site % len(s.parts), :size]
            kernels.decode_into(self.up, raw, part)
            yield part


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
    _free: list[CommitSums] = field(default_factory=list)

    def __post_init__(self) -> None:
        codecs, outer = self.manifest.codecs, self.manifest.outer
        self._arithmetic = ChunkCommit(
            up=get_codec(codecs.up),
            down=get_codec(codecs.down),
            weights=np.array([update.weight for update in self.sealed], np.float32),
            lr=outer.lr,
            mu=outer.momentum,
        )
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
        blob = np.empty(payload_bytes(self._arithmetic.down, num_real), np.uint8)
        with self._sums() as sums:
            self._arithmetic.compute(payloads, base, new, blob, sums)
            squares, dots, square = sums.folded()
        result = ChunkResult(
            blob=blob,
            squares=squares,
            dots=dots,
            square=square,
            new=tuple(map(chunk_hash, new if self.digest_state else new[:1])),
            old=tuple(map(chunk_hash, base)) if self.digest_base else (),
        )
        self.writer.filled(index)
        return result

    def _payload(self, site: int, index: int) -> ByteVector:
        """A chunk's bytes of one site's payload."""
        (offset, length), mapped = chunk_span(self._arithmetic.up, self.grid, index), self._mapped[site]
        if mapped is not None:
            return np.frombuffer(mapped, np.uint8)[offset : offset + length]
        return np.frombuffer(self.blobs.read_range(self.sealed[site].payload_digest, offset, length), np.uint8)

    @contextmanager
    def _sums(self) -> Iterator[CommitSums]:
        try:
            found = self._free.pop()
            found.clear()
        except IndexError:
            found = CommitSums(len(self.sealed))
        yield found
        self._free.append(found)


def _apply(theta: Float32Vector, u: Float32Vector, decoded: Float32Vector, new: StateChunk) -> None:
    """`federation.outer_optimizer.apply_blob` into the new version."""
    kernels.subtract(theta, decoded, new.theta)
    kernels.subtract(u, decoded, new.residual)


def _part(chunk: StateChunk, strip: slice) -> StateChunk:
    return StateChunk(chunk.theta[strip], chunk.momentum[strip], chunk.residual[strip])
