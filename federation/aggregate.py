# SPDX-License-Identifier: Apache-2.0
"""A sealed round's commit: g, outer step, blob and new state, streamed chunk by chunk.

The bits are a function of (base, sealed list, manifest) alone: doing it again gives the same digests. Memory is a few
chunks, whatever the size of the model and the number of sites.

Per chunk, in fp32, every operation rounded on its own: g = 0 + w_1 D_1 + w_2 D_2 + ... in ascending site id, starting
from zeros; then `federation.outer_optimizer`. Norms and cosines: `fixed_order_dot` per chunk, added in chunk order.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from federation.chunks import ChunkGrid, Float32Vector, FragmentHasher, zero_digest
from federation.codecs.payload import chunk_span, decode_chunk, payload_bytes
from federation.codecs.registry import get_codec
from federation.durable import failpoint
from federation.errors import CorruptObjectError, DigestMismatchError, MalformedPayloadError, ObjectNotFoundError
from federation.ids import short
from federation.leaves import Contribution, SealedUpdate
from federation.manifest import NUMERICS_VERSION, Manifest
from federation.outer_optimizer import apply_blob, outer_step
from federation.pseudo_gradient import fixed_order_dot
from federation.state.api import StateChunk, StateDigests, StateReader, StateStore

_MAX_HELD_PARTS: Final = 16
"""Decoded chunks kept between the two passes over a chunk (64 MiB); with more sites they are decoded twice."""


class PayloadSource(Protocol):
    """The part of a `BlobStore` that reads payloads."""

    def size(self, digest: str) -> int:
        """Bytes of a blob."""

    def verify(self, digest: str) -> None:
        """Raises CorruptObjectError if the stored bytes have another digest."""

    def read_range(self, digest: str, offset: int, length: int) -> bytes:
        """Some bytes of a blob."""


class Sink(Protocol):
    """A blob being written."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends bytes."""

    def finish(self, expected: str | None = None) -> str:
        """Makes it durable and returns its digest."""


class Blobs(PayloadSource, Protocol):
    """The part of a `BlobStore` that a commit needs."""

    def writer(self) -> AbstractContextManager[Sink]:
        """Begins a blob; leaving the block without `finish` discards it."""


@dataclass(frozen=True, kw_only=True)
class CommitResult:
    """What the commit leaf and the `state recorded` leaf say.

    Attributes:
        aggregate_norm: Euclidean norm of g.
        contributions: norm of each site's decoded pseudo-gradient and its cosine to g (0 where one of them is zero).
    """

    theta_digest: str
    momentum_digest: str
    residual_digest: str
    blob_digest: str
    blob_bytes: int
    aggregate_norm: float
    contributions: tuple[Contribution, ...]

    @property
    def state_digests(self) -> StateDigests:
        """Digests of the version that this commit wrote."""
        return StateDigests(theta=self.theta_digest, momentum=self.momentum_digest, residual=self.residual_digest)


def weighted_sum(parts: Iterable[tuple[float, Float32Vector]], num_elements: int) -> Float32Vector:
    """g = 0 + w_1 D_1 + w_2 D_2 + ..., f32[num_elements], in the order given; each product and sum rounded to fp32."""
    g, scaled = np.zeros(num_elements, np.float32), np.empty(num_elements, np.float32)
    for weight, part in parts:
        np.multiply(np.float32(weight), part, out=scaled)
        np.add(g, scaled, out=g)
    return g


def initial_state(
    store: StateStore,
    run: str,
    manifest: Manifest,
    theta0: Sequence[Float32Vector] | Mapping[int, Float32Vector],
) -> None:
    """Writes version 0 of every fragment: (theta_0, 0, 0).

    Args:
        theta0: vector f32[num_elements] by fragment; asked for one at a time.

    Raises:
        DigestMismatchError: a fragment is not the one whose digest the manifest states; nothing of it was written.
    """
    for fragment, expected in enumerate(manifest.plan.theta_digests):
        theta, hashers = theta0[fragment], _Hashers()
        with store.create(run, fragment, 0, manifest.fragments[fragment].num_elements) as writer:
            for index in range(writer.grid.num_chunks):
                start, stop = writer.grid.bounds(index)
                part = theta[start:stop]
                zeros = np.zeros_like(part)
                writer.write_chunk(index, part, zeros, zeros)
                hashers.theta.update(part)
            if hashers.theta.hexdigest() != expected:
                raise DigestMismatchError(
                    f"theta_0, fragment {fragment}: expected digest {short(expected)}, "
                    f"found {short(hashers.theta.hexdigest())}",
                    advice="These are not the initial parameters that the run's manifest names.",
                )
            writer.commit()


def commit_round(
    blobs: Blobs,
    store: StateStore,
    run: str,
    manifest: Manifest,
    round_number: int,
    fragment: int,
    base_version: int,
    sealed: Sequence[SealedUpdate],
    *,
    expected: StateDigests | None = None,
    durable: bool = True,
) -> CommitResult:
    """Aggregates a sealed round, writes version `round_number + 1` of its fragment and the commit blob.

    Args:
        sealed: the seal's list, ascending by site.
        expected: digests of the base version as the ledger has them; checked while streaming.
        durable: whether the new version is fsynced (every `snapshot_every_rounds`); the blob always is.

    Raises:
        ObjectNotFoundError: the base version or a payload is not there.
        CorruptObjectError: the base version or a payload is not what the ledger says; nothing was committed.
        MalformedPayloadError, NonFiniteUpdateError: a payload breaks its format, which admission does not let pass.
    """
    commit = _Commit.begin(blobs, store, run, manifest, fragment, base_version, sealed)
    with store.create(run, fragment, round_number + 1, commit.grid.num_elements) as writer, blobs.writer() as sink:
        for index in range(commit.grid.num_chunks):
            state, data = commit.step(index)
            writer.write_chunk(index, *state)
            sink.write(data)
            failpoint("coordinator.mid-aggregation")
        if expected is not None:
            commit.old.check(expected, f"run {run}, fragment {fragment}, version {base_version}")
        blob_digest = sink.finish()
        writer.commit(durable=durable)
    return commit.result(blob_digest)


def replay_commit(
    store: StateStore,
    blobs: PayloadSource,
    run: str,
    manifest: Manifest,
    fragment: int,
    base_version: int,
    version: int,
    *,
    blob_digest: str,
    theta_digest: str,
) -> None:
    """Writes the theta of a version from its base and the commit blob alone, as every site has it.

    Momentum and residual cannot come from a blob: they are zeros in a version written here, which therefore belongs in
    a store that nobody commits on (an export's or a verifier's scratch).

    Raises:
        ObjectNotFoundError: the base version or the blob is not there.
        CorruptObjectError: the blob's bytes have another digest.
        DigestMismatchError: the result is not the theta that the ledger records; nothing was committed.
    """
    base = _open_base(store, run, fragment, base_version)
    codec, hasher = get_codec(manifest.codecs.down), FragmentHasher()
    blobs.verify(blob_digest)
    with store.create(run, fragment, version, base.grid.num_elements) as writer:
        for index in range(base.grid.num_chunks):
            data = blobs.read_range(blob_digest, *chunk_span(codec, base.grid, index))
            theta = np.subtract(base.read_chunk(index).theta, decode_chunk(codec, base.grid, index, data))
            zeros = np.zeros_like(theta)
            writer.write_chunk(index, theta, zeros, zeros)
            hasher.update(theta)
        if hasher.hexdigest() != theta_digest:
            raise DigestMismatchError(
                f"run {run}, fragment {fragment}, version {version}: expected theta {short(theta_digest)}, "
                f"found {short(hasher.hexdigest())}"
            )
        writer.commit()


def is_intact(
    store: StateStore, run: str, fragment: int, version: int, num_elements: int, expected: StateDigests
) -> bool:
    """Whether a version is there and has the digests that the ledger records ("" is not compared)."""
    hashers = _Hashers()
    try:
        reader = store.open(run, fragment, version)
        if reader is None or reader.grid.num_elements != num_elements:
            return False
        for index in range(reader.grid.num_chunks):
            hashers.update(reader.read_chunk(index))
        hashers.check(expected, "version")
    except CorruptObjectError:
        return False
    return True


def first_digests(manifest: Manifest, fragment: int) -> StateDigests:
    """Digests of version 0: theta_0 as the manifest states it, momentum and residual of zeros."""
    zeros = zero_digest(manifest.fragments[fragment].num_elements)
    return StateDigests(theta=manifest.plan.theta_digests[fragment], momentum=zeros, residual=zeros)


@dataclass
class _Hashers:
    """Fragment digests of theta, momentum and residual in the making."""

    theta: FragmentHasher = field(default_factory=FragmentHasher)
    momentum: FragmentHasher = field(default_factory=FragmentHasher)
    residual: FragmentHasher = field(default_factory=FragmentHasher)

    def update(self, chunk: StateChunk) -> None:
        self.theta.update(chunk.theta)
        self.momentum.update(chunk.momentum)
        self.residual.update(chunk.residual)

    def digests(self) -> StateDigests:
        return StateDigests(
            theta=self.theta.hexdigest(), momentum=self.momentum.hexdigest(), residual=self.residual.hexdigest()
        )

    def check(self, expected: StateDigests, what: str) -> None:
        found = self.digests()
        for name in ("theta", "momentum", "residual"):
            wanted, have = getattr(expected, name), getattr(found, name)
            if wanted and wanted != have:
                raise CorruptObjectError(
                    f"{what}: expected {name} of digest {short(wanted)}, found {short(have)}",
                    advice="The stored state is a cache: it can be rebuilt from the ledger and the blobs.",
                )


@dataclass(kw_only=True)
class _Commit:
    """One commit in the making. `squares` and `dots` hold |D_i|^2 and <D_i, g> so far, `square` |g|^2."""

    blobs: PayloadSource
    manifest: Manifest
    base: StateReader
    sealed: Sequence[SealedUpdate]
    squares: list[float]
    dots: list[float]
    square: float = 0.0
    old: _Hashers = field(default_factory=_Hashers)
    new: _Hashers = field(default_factory=_Hashers)

    @classmethod
    def begin(
        cls,
        blobs: PayloadSource,
        store: StateStore,
        run: str,
        manifest: Manifest,
        fragment: int,
        base_version: int,
        sealed: Sequence[SealedUpdate],
    ) -> "_Commit":
        """Opens the base and verifies every payload's bytes before the first of them counts."""
        sites = [update.site for update in sealed]
        if not sites or sites != sorted(set(sites)):
            raise ValueError(f"sealed: expected sites, each once and ascending, found {sites}")
        if manifest.numerics_version != NUMERICS_VERSION:
            raise ValueError(f"numerics_version: expected {NUMERICS_VERSION}, found {manifest.numerics_version}")
        base = _open_base(store, run, fragment, base_version)
        size = payload_bytes(get_codec(manifest.codecs.up), base.grid.num_elements)
        for update in sealed:
            found = blobs.size(update.payload_digest)
            if found != size:
                raise MalformedPayloadError(f"payload of {update.site}: expected {size} bytes, found {found}")
            blobs.verify(update.payload_digest)
        zeros = [0.0] * len(sealed)
        return cls(blobs=blobs, manifest=manifest, base=base, sealed=sealed, squares=zeros, dots=list(zeros))

    @property
    def grid(self) -> ChunkGrid:
        return self.base.grid

    def step(self, index: int) -> tuple[StateChunk, memoryview]:
        """The new state of one chunk and its bytes in the blob."""
        base, outer, codec = self.base.read_chunk(index), self.manifest.outer, get_codec(self.manifest.codecs.down)
        self.old.update(base)
        g = self._aggregate(index)
        momentum, u = outer_step(base.momentum, base.residual, g, outer.lr, outer.momentum)
        data = codec.encode(u)
        theta, residual = apply_blob(base.theta, u, codec.decode(data, u.size))
        state = StateChunk(theta, momentum, residual)
        self.new.update(state)
        return state, data.data

    def _aggregate(self, index: int) -> Float32Vector:
        held = list(self._parts(index)) if len(self.sealed) <= _MAX_HELD_PARTS else None
        weights = [update.weight for update in self.sealed]
        g = weighted_sum(zip(weights, held or self._parts(index), strict=True), self.grid.num_real(index))
        for site, part in enumerate(held or self._parts(index)):
            self.squares[site] += fixed_order_dot(part, part)
            self.dots[site] += fixed_order_dot(part, g)
        self.square += fixed_order_dot(g, g)
        return g

    def _parts(self, index: int) -> Iterator[Float32Vector]:
        codec = get_codec(self.manifest.codecs.up)
        span = chunk_span(codec, self.grid, index)
        for update in self.sealed:
            yield decode_chunk(codec, self.grid, index, self.blobs.read_range(update.payload_digest, *span))

    def result(self, blob_digest: str) -> CommitResult:
        digests = self.new.digests()
        return CommitResult(
            theta_digest=digests.theta,
            momentum_digest=digests.momentum,
            residual_digest=digests.residual,
            blob_digest=blob_digest,
            blob_bytes=payload_bytes(get_codec(self.manifest.codecs.down), self.grid.num_elements),
            aggregate_norm=math.sqrt(self.square),
            contributions=tuple(
                Contribution(site=update.site, norm=math.sqrt(square), cosine=_cosine(dot, square, self.square))
                for update, square, dot in zip(self.sealed, self.squares, self.dots, strict=True)
            ),
        )


def _cosine(dot: float, square: float, other_square: float) -> float:
    product = math.sqrt(square) * math.sqrt(other_square)
    # Rounding may leave a parallel vector a last place above 1.
    return max(-1.0, min(1.0, dot / product)) if product else 0.0


def _open_base(store: StateStore, run: str, fragment: int, version: int) -> StateReader:
    base = store.open(run, fragment, version)
    if base is None:
        raise ObjectNotFoundError(
            f"run {run}, fragment {fragment}: expected version {version} in the state store, found none",
            advice="It can be rebuilt from the ledger and the blobs.",
        )
    return base
