# SPDX-License-Identifier: Apache-2.0
"""The last committed theta of each fragment: version 0 from a file, every later one by applying commit blobs.

Theta is defined by the published blobs. The digest that a commit leaf names is compared after every commit, or after
every n-th of a fragment (a site's choice), and always at a chain's end. In place of a long chain a snapshot of theta
may be given, which nobody has checked before it is loaded here.
"""

import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from federation.chunk_pool import num_threads_here
from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector
from federation.codecs.registry import get_codec
from federation.durable.real import forget_pages
from federation.errors import ConfigError, DigestMismatchError, FederationError, ObjectNotFoundError
from federation.fragments import scatter
from federation.ids import short
from federation.initial_model import parse_tensors, to_fragments
from federation.manifest import Manifest
from federation.published import apply_blob_into, digest_on_threads
from site_agent.inner_loop.seam import Float32Array
from site_agent.inner_loop.spares import SpareVectors
from site_agent.jobs import ChainLink

_DIVERGED: Final = -1
"""In place of the version of a vector that is none: a pass over it was broken off, or gave another digest."""

Theta0 = Callable[[], list[Float32Vector]]
"""Reads version 0 of every fragment."""

ApplyAndMerge: TypeAlias = Callable[[slice, ByteVector, Float32Vector, Float32Vector], None]
"""For these elements, from their bytes and theta (whole) to the new theta (whole) and to whatever follows from it."""


def read_theta0(path: Path, manifest: Manifest) -> list[Float32Vector]:
    """Version 0 of each fragment from a safetensors file, checked against the manifest.

    Raises:
        ConfigError: the file cannot be read, or names and shapes differ from the fragment table.
        DigestMismatchError: a fragment is not the one that the sites agreed on.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: expected theta_0, found: {error.strerror}") from error
    vectors = to_fragments(parse_tensors(data, str(path)), manifest.fragments, str(path))
    for p, (vector, digest) in enumerate(zip(vectors, manifest.plan.theta_digests, strict=True)):
        expect_digest(digest_on_threads(vector, num_threads_here()), digest, f"theta_0, fragment {p}")
    return vectors


class SnapshotRefusedError(DigestMismatchError):
    """A snapshot is not the version that the ledger names. The chain of commits must be fetched after all."""


class GlobalModel:
    """Fragment vectors in memory at some version each.

    Attributes:
        theta: f32[num_elements] of each fragment. Whoever keeps one says so to `spares`, else it may be overwritten.
        versions: number of the commit that made it (round + 1), 0 for theta_0.
        digests: fragment digest of each, as the commit says.
        spares: memory of vectors that no longer count.
        num_threads: that chunks are spread over.
    """

    def __init__(self, manifest: Manifest, theta0: Theta0, *, num_threads: int = 0, check_every: int = 1) -> None:
        """Begins at theta_0.

        Args:
            num_threads: 0 for every processor that this process may use.
            check_every: of so many commits of a fragment, one is compared with its digest.
        """
        self._codec = get_codec(manifest.codecs.down)
        self._tables = manifest.fragments
        self._digests0 = manifest.plan.theta_digests
        self._theta0, self._check_every = theta0, check_every
        self.num_threads = num_threads or num_threads_here()
        self.spares = SpareVectors()
        self.restore(theta0(), [0] * len(self._tables), self._digests0)

    def restore(self, theta: Sequence[Float32Vector], versions: Sequence[int], digests: Sequence[str]) -> None:
        """Takes over what a training checkpoint holds."""
        self.theta, self.versions, self.digests = list(theta), list(versions), list(digests)
        self._is_ours = [False] * len(self.theta)
        self._num_unchecked = [self._check_every] * len(self.theta)

    def is_check_due(self, fragment: int) -> bool:
        """Whether the next commit of a fragment is compared with its digest."""
        return self._num_unchecked[fragment] + 1 >= self._check_every

    def advance(self, fragment: int, link: ChainLink) -> None:
        """Applies one commit: theta <- theta - decode(blob), fp32, and compares the digest.

        Raises:
            DigestMismatchError: the result is not what the commit says: this copy has diverged, and `move_to` leads
                on from here.
            StorageError: the blob is missing or damaged; nothing was changed.
            MalformedPayloadError: the blob breaks its format; theta is lost.
        """
        blob, theta, new = self._blob(fragment, link), self.theta[fragment], self._target(fragment)
        digest = self._apply_checked(fragment, theta, blob, new)
        del blob  # what is mapped stays in memory
        forget_pages(link.blob_path)
        expect_digest(digest, link.theta_digest, f"fragment {fragment} after commit {link.version}")
        self._replace(fragment, new, link)
        self._num_unchecked[fragment] = 0

    def advance_unchecked(self, fragment: int, link: ChainLink, apply: ApplyAndMerge | None = None) -> None:
        """Applies one commit in a single pass over memory, in place where nobody keeps the old theta.

        Args:
            apply: called for each chunk in place of the plain arithmetic.

        Raises:
            StorageError: the blob is missing or damaged; nothing was changed.
            MalformedPayloadError: the blob breaks its format; theta is lost.
        """
        blob, theta, new = self._blob(fragment, link), self.theta[fragment], self._target(fragment)
        chunk = None if apply is None else lambda where, raw: apply(where, raw, theta, new)
        self._apply_blob(theta, blob, new, apply=chunk)
        del blob  # what is mapped stays in memory
        forget_pages(link.blob_path)
        self._replace(fragment, new, link)
        self._num_unchecked[fragment] += 1

    def move_to(self, fragment: int, chain: Sequence[ChainLink]) -> None:
        """Goes to the last version of a chain that starts at theta_0 or at a snapshot; from the version at hand if all
        that follows it has its blob.

        Raises:
            SnapshotRefusedError: the snapshot is another vector than the ledger's.
            DigestMismatchError, StorageError: as `advance`, after a second attempt from the chain's start.
        """
        on_the_way = [0, *(link.version for link in chain)]
        try:
            if self.versions[fragment] in on_the_way:
                ahead = chain[on_the_way.index(self.versions[fragment]) :]
                if all(link.blob_path for link in ahead):
                    self._apply(fragment, ahead)
                    return
        except FederationError:
            pass  # The copy in memory or in a checkpoint may be at fault: the chain from its start decides.
        self._apply(fragment, chain[self._restart(fragment, chain) :])

    def parameters(self) -> dict[str, Float32Array]:
        """Whole parameters by canonical name, views."""
        views: dict[str, Float32Array] = {}
        for table, vector in zip(self._tables, self.theta, strict=True):
            views.update(scatter(table, vector))
        return views

    def _apply(self, fragment: int, links: Sequence[ChainLink]) -> None:
        """The digest at the end holds for all of them."""
        for link in links[:-1]:
            self.advance_unchecked(fragment, link)
        for link in links[-1:]:
            self.advance(fragment, link)

    def _target(self, fragment: int) -> Float32Vector:
        """Where the next theta goes: into the same memory where nobody keeps the old one, which is no version then."""
        theta = self.theta[fragment]
        if not self._is_ours[fragment] or self.spares.is_lent:
            return self.spares.take(theta.size)
        self.versions[fragment] = _DIVERGED  # until `_replace`
        return theta

    def _replace(self, fragment: int, new: Float32Vector, link: ChainLink) -> None:
        old = self.theta[fragment]
        if self._is_ours[fragment] and old is not new:
            self.spares.give(old)
        self._set(fragment, new, link.version, link.theta_digest, is_ours=True)

    def _set(self, fragment: int, theta: Float32Vector, version: int, digest: str, *, is_ours: bool) -> None:
        self.theta[fragment], self.versions[fragment], self.digests[fragment] = theta, version, digest
        # A vector that somebody else gave is not ours to overwrite.
        self._is_ours[fragment] = is_ours

    def _restart(self, fragment: int, chain: Sequence[ChainLink]) -> int:
        """Takes the chain's newest snapshot, theta_0 if there is none; returns the index of the link that follows."""
        for index in reversed(range(len(chain))):
            if chain[index].snapshot_path:
                self._load(fragment, chain[index])
                return index + 1
        self._reset(fragment)
        return 0

    def _load(self, fragment: int, link: ChainLink) -> None:
        """Takes a snapshot, raw little-endian fp32, if it is what the ledger says. Nothing is changed otherwise."""
        theta = self._snapshot(fragment, link)
        digest = self._digest(fragment, theta)
        if digest != link.theta_digest:
            raise SnapshotRefusedError(
                f"fragment {fragment}: expected a snapshot of version {link.version} with digest "
                f"{short(link.theta_digest)}, found {short(digest)}",
                advice="The coordinator sent it, or this disk damaged it. The commits are fetched one by one instead.",
            )
        self._set(fragment, theta, link.version, digest, is_ours=False)

    def _reset(self, fragment: int) -> None:
        self._set(fragment, self._theta0()[fragment], 0, self._digests0[fragment], is_ours=False)

    # --- what a model of which this process holds a part does otherwise ------------------------------------------

    def _blob(self, fragment: int, link: ChainLink) -> ByteVector:
        return read_blob(link)

    def _apply_checked(self, fragment: int, theta: Float32Vector, blob: ByteVector, new: Float32Vector) -> str:
        return apply_blob_into(self._codec, theta, blob, new, num_threads=self.num_threads)

    def _apply_blob(
        self,
        theta: Float32Vector,
        blob: ByteVector,
        new: Float32Vector,
        *,
        apply: Callable[[slice, ByteVector], None] | None = None,
    ) -> None:
        apply_blob_into(self._codec, theta, blob, new, num_threads=self.num_threads, with_digest=False, apply=apply)

    def _snapshot(self, fragment: int, link: ChainLink) -> Float32Vector:
        return read_snapshot(link, self._tables[fragment].num_elements)

    def _digest(self, fragment: int, vector: Float32Vector) -> str:
        return digest_on_threads(vector, self.num_threads)


def heads(chains: Sequence[Sequence[ChainLink]]) -> tuple[int, ...]:
    """The version at the end of each chain."""
    return tuple(chain[-1].version if chain else 0 for chain in chains)


def with_aliases(parameters: Mapping[str, Float32Array], manifest: Manifest) -> dict[str, Float32Array]:
    """The parameters and, under their other names, those that share storage."""
    return {**parameters, **{alias.name: parameters[alias.of] for alias in manifest.aliases}}


def read_blob(link: ChainLink) -> ByteVector:
    """A commit's blob, in memory that the page cache holds. Raises ObjectNotFoundError."""
    # Mapped, not copied: an agent's blobs are complete, and removed, never cut.
    try:
        with open(link.blob_path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            return np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"", np.uint8)
    except OSError as error:
        raise ObjectNotFoundError(
            f"commit {link.version}: expected its blob at {link.blob_path}, found: {error.strerror}"
        ) from error


def read_snapshot(link: ChainLink, num_elements: int, part: slice | None = None) -> Float32Vector:
    """A snapshot of a fragment, or some elements of it.

    Raises:
        ObjectNotFoundError: there is no such file.
        SnapshotRefusedError: it has another length than the fragment.
    """
    part = part or slice(0, num_elements)
    try:
        data = np.fromfile(link.snapshot_path, dtype="<f4", count=part.stop - part.start, offset=4 * part.start)
        num_bytes = Path(link.snapshot_path).stat().st_size
    except OSError as error:
        raise ObjectNotFoundError(
            f"version {link.version}: expected its snapshot at {link.snapshot_path}, found: {error.strerror}"
        ) from error
    if num_bytes != 4 * num_elements:
        raise SnapshotRefusedError(f"version {link.version}: expected {num_elements} elements, found {num_bytes / 4}")
    return data.astype(np.float32, copy=False)


def expect_digest(found: str, expected: str, what: str) -> None:
    """Raises DigestMismatchError where they differ."""
    if found != expected:
        raise DigestMismatchError(f"{what}: expected digest {short(expected)}, found {short(found)}")
