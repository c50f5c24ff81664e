# SPDX-License-Identifier: Apache-2.0
"""A sealed round's commit: g, outer step, blob and new state, streamed chunk by chunk over threads.

The bits are a function of (base, sealed list, manifest) alone: doing it again gives the same digests. Memory is a few
strips and one chunk of blob a thread, whatever the size of the model and the number of sites.

Per element, in fp32, every operation rounded on its own: g = 0 + w_1 D_1 + w_2 D_2 + ... in ascending site id, starting
from zeros; then `federation.outer_optimizer`. Norms and cosines: `fixed_order_dot` per chunk, added in chunk order.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from federation.chunk_pool import in_order
from federation.chunks import Float32Vector, FragmentHasher, chunk_hash, zero_digest
from federation.codecs.payload import chunk_span, decode_chunk, payload_bytes
from federation.codecs.registry import get_codec
from federation.commit_pass import ChunkResult, CommitPass, PayloadSource
from federation.durable import failpoint
from federation.errors import CorruptObjectError, DigestMismatchError, MalformedPayloadError, ObjectNotFoundError
from federation.ids import short
from federation.leaves import Contribution, SealedUpdate
from federation.manifest import NUMERICS_VERSION, Manifest
from federation.merkle import BLOB_PIECE_BYTES, Frontier, leaf_hash, root_of
from federation.state.api import StateDigests, StateReader, StateStore, StateWriter


class Elements(Protocol):
    """A fragment's elements, read where they are needed: an array, or a file."""

    def __getitem__(self, part: slice, /) -> Float32Vector:
        """f32[n] of a slice with start and stop."""


ThetaSource: TypeAlias = Sequence[Float32Vector] | Mapping[int, Elements]
"""theta_0 by fragment."""


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
        momentum_digest, residual_digest: "" where the commit was told to leave them for later.
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


def initial_state(
    store: StateStore,
    run: str,
    manifest: Manifest,
    theta0: ThetaSource,
) -> None:
    """Writes version 0 of every fragment: (theta_0, 0, 0). Memory: one chunk.

    Args:
        theta0: f32[num_elements] by fragment, asked for one chunk at a time.

    Raises:
        DigestMismatchError: a fragment is not the one whose digest the manifest states; nothing of it was written.
    """
    for fragment, expected in enumerate(manifest.plan.theta_digests):
        with store.create(run, fragment, 0, manifest.fragments[fragment].num_elements) as writer:
            found = _write_initial(writer, theta0[fragment])
            if found != expected:
                raise DigestMismatchError(
                    f"theta_0, fragment {fragment}: expected digest {short(expected)}, found {short(found)}",
                    advice="These are not the initial parameters that the run's manifest names.",
                )
            writer.commit()


def _write_initial(writer: StateWriter, theta: Elements) -> str:
    """All chunks of a version 0; returns the digest of theta."""
    hasher = FragmentHasher()
    for index in range(writer.grid.num_chunks):
        start, stop = writer.grid.bounds(index)
        chunk = writer.reserve(index)
        chunk.theta[:] = theta[start:stop]
        chunk.momentum.fill(0.0)
        chunk.residual.fill(0.0)
        hasher.update(chunk.theta)
        writer.filled(index)
    return hasher.hexdigest()


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
    digest_state: bool = True,
    num_threads: int = 1,
) -> CommitResult:
    """Aggregates a sealed round, writes version `round_number + 1` of its fragment and the commit blob.

    Args:
        sealed: the seal's list, ascending by site.
        expected: digests of the base version as the ledger has them; checked while streaming.
        durable: whether the new version is fsynced (every `snapshot_every_rounds`); the blob always is.
        digest_state: whether the digests of m and r are computed too; `state_digests` gives them later.

    Raises:
        ObjectNotFoundError: the base version or a payload is not there.
        CorruptObjectError: the base version or a payload is not what the ledger says; nothing was committed.
        MalformedPayloadError, NonFiniteUpdateError: a payload breaks its format, which admission does not let pass.
    """
    _check_seal(sealed, manifest)
    base = _open_base(store, run, fragment, base_version)
    _check_payloads(blobs, sealed, payload_bytes(get_codec(manifest.codecs.up), base.grid.num_elements), num_threads)
    figures = _Figures.of(sealed)
    with store.create(run, fragment, round_number + 1, base.grid.num_elements) as writer, blobs.writer() as sink:
        commit = CommitPass(
            blobs=blobs,
            manifest=manifest,
            base=base,
            writer=writer,
            sealed=sealed,
            digest_base=expected is not None,
            digest_state=digest_state,
        )
        with closing(in_order(commit.chunk, base.grid.num_chunks, num_threads)) as chunks:
            for chunk in chunks:
                sink.write(chunk.blob.data)
                figures.add(chunk)
                failpoint("coordinator.mid-aggregation")
        if expected is not None:
            _check(figures.old.digests(), expected, f"run {run}, fragment {fragment}, version {base_version}")
        blob_digest = sink.finish()
        writer.commit(durable=durable)
    return figures.result(blob_digest, payload_bytes(get_codec(manifest.codecs.down), base.grid.num_elements))


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


def state_digests(
    store: StateStore, run: str, fragment: int, version: int, num_threads: int = 1, *, with_theta: bool = True
) -> StateDigests:
    """The three digests of a stored version; "" in theta's place where it is not asked for.

    Raises:
        ObjectNotFoundError: it is not there.
        CorruptObjectError: it cannot be read.
    """
    reader = _open_base(store, run, fragment, version)
    roots, first = _Roots(), 0 if with_theta else 1

    def hashes(index: int) -> tuple[bytes, ...]:
        return tuple(map(chunk_hash, reader.view_chunk(index)[first:]))

    with closing(in_order(hashes, reader.grid.num_chunks, num_threads)) as chunks:
        for leaves in chunks:
            roots.add(leaves, first)
    return roots.digests()


def is_intact(
    store: StateStore,
    run: str,
    fragment: int,
    version: int,
    num_elements: int,
    expected: StateDigests,
    num_threads: int = 1,
) -> bool:
    """Whether a version is there and has the digests that the ledger records ("" is not compared)."""
    try:
        reader = store.open(run, fragment, version)
        if reader is None or reader.grid.num_elements != num_elements:
            return False
        _check(state_digests(store, run, fragment, version, num_threads), expected, "version")
    except (CorruptObjectError, ObjectNotFoundError):
        return False
    return True


def first_digests(manifest: Manifest, fragment: int) -> StateDigests:
    """Digests of version 0: theta_0 as the manifest states it, momentum and residual of zeros."""
    zeros = zero_digest(manifest.fragments[fragment].num_elements)
    return StateDigests(theta=manifest.plan.theta_digests[fragment], momentum=zeros, residual=zeros)


class _Roots:
    """Fragment digests of theta, momentum and residual in the making; of those of which leaf hashes come."""

    def __init__(self) -> None:
        self._roots = (Frontier(), Frontier(), Frontier())

    def add(self, leaves: Sequence[bytes], first: int = 0) -> None:
        """Leaf hashes of one chunk's theta, m, r, from the `first` of these on."""
        for root, leaf in zip(self._roots[first:], leaves, strict=False):
            root.append(leaf)

    def digests(self) -> StateDigests:
        theta, momentum, residual = (root.root().hex() if root.size else "" for root in self._roots)
        return StateDigests(theta=theta, momentum=momentum, residual=residual)


@dataclass(kw_only=True)
class _Figures:
    """Sums over a commit's chunks, in chunk order: |D_i|^2, <D_i, g> and |g|^2, and the digests."""

    sealed: Sequence[SealedUpdate]
    squares: list[float]
    dots: list[float]
    square: float = 0.0
    old: _Roots = field(default_factory=_Roots)
    new: _Roots = field(default_factory=_Roots)

    @classmethod
    def of(cls, sealed: Sequence[SealedUpdate]) -> "_Figures":
        return cls(sealed=sealed, squares=[0.0] * len(sealed), dots=[0.0] * len(sealed))

    def add(self, chunk: ChunkResult) -> None:
        for site in range(len(self.sealed)):
            self.squares[site] += chunk.squares[site]
            self.dots[site] += chunk.dots[site]
        self.square += chunk.square
        self.old.add(chunk.old)
        self.new.add(chunk.new)

    def result(self, blob_digest: str, blob_bytes: int) -> CommitResult:
        digests = self.new.digests()
        return CommitResult(
            theta_digest=digests.theta,
            momentum_digest=digests.momentum,
            residual_digest=digests.residual,
            blob_digest=blob_digest,
            blob_bytes=blob_bytes,
            aggregate_norm=math.sqrt(self.square),
            contributions=tuple(
                Contribution(site=update.site, norm=math.sqrt(square), cosine=_cosine(dot, square, self.square))
                for update, square, dot in zip(self.sealed, self.squares, self.dots, strict=True)
            ),
        )


def _check(found: StateDigests, expected: StateDigests, what: str) -> None:
    """Raises CorruptObjectError where a digest is not the one that the ledger records ("" is not compared)."""
    for name in ("theta", "momentum", "residual"):
        wanted, have = getattr(expected, name), getattr(found, name)
        if wanted and wanted != have:
            raise CorruptObjectError(
                f"{what}: expected {name} of digest {short(wanted)}, found {short(have)}",
                advice="The stored state is a cache: it can be rebuilt from the ledger and the blobs.",
            )


def _check_seal(sealed: Sequence[SealedUpdate], manifest: Manifest) -> None:
    sites = [update.site for update in sealed]
    if not sites or sites != sorted(set(sites)):
        raise ValueError(f"sealed: expected sites, each once and ascending, found {sites}")
    if manifest.numerics_version != NUMERICS_VERSION:
        raise ValueError(f"numerics_version: expected {NUMERICS_VERSION}, found {manifest.numerics_version}")


def _check_payloads(blobs: PayloadSource, sealed: Sequence[SealedUpdate], size: int, num_threads: int) -> None:
    """Every payload's length and digest, before the first of them counts; pieces are hashed on threads.

    What this process has hashed, as it came or at admission, it need not read again to know it.
    """
    for update in sealed:
        found = blobs.size(update.payload_digest)
        if found != size:
            raise MalformedPayloadError(f"payload of {update.site}: expected {size} bytes, found {found}")
        if blobs.is_known_intact(update.payload_digest):
            continue
        mapped = blobs.map(update.payload_digest)
        if mapped is None or _digest_of(mapped, num_threads) != update.payload_digest:
            blobs.verify(update.payload_digest)  # which says what is wrong


def _digest_of(data: memoryview, num_threads: int) -> str:
    """`federation.merkle.blob_digest` on threads."""

    def piece(index: int) -> bytes:
        return leaf_hash(data[index * BLOB_PIECE_BYTES : (index + 1) * BLOB_PIECE_BYTES])

    return root_of(in_order(piece, -(-len(data) // BLOB_PIECE_BYTES), num_threads)).hex()


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
