# SPDX-License-Identifier: Apache-2.0
"""The last committed theta of each fragment: version 0 from a file, every later one by applying commit blobs.

Theta is defined by the published blobs. The digest that a commit leaf names is compared after every commit, or after
every n-th of a fragment (a site's choice), and always at a chain's end. In place of a long chain a snapshot of theta
may be given, which nobody has checked before it is loaded here.

Who holds whole vectors (`global_model`) and who holds a part of each (`owned_model`) go from version to version alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from federation.chunk_pool import num_threads_here
from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector
from federation.codecs.registry import get_codec
from federation.durable.real import forget_pages
from federation.errors import DigestMismatchError, FederationError
from federation.ids import short
from federation.manifest import Manifest
from site_agent.inner_loop.spares import SpareVectors
from site_agent.jobs import ChainLink

DIVERGED: Final = -1
"""In place of the version of a vector that is none: a pass over it was broken off, or gave another digest."""

Theta0 = Callable[[], list[Float32Vector]]
"""Reads version 0 of every fragment."""

ApplyAndMerge: TypeAlias = Callable[[slice, ByteVector, Float32Vector, Float32Vector], None]
"""For these elements, from their bytes and theta to the new theta and to whatever follows from it."""


class SnapshotRefusedError(DigestMismatchError):
    """A snapshot is not the version that the ledger names. The chain of commits must be fetched after all."""


class CommittedModel(ABC):
    """Fragment vectors in memory at some version each.

    Attributes:
        theta: of each fragment what this process holds. Whoever keeps one says so to `spares`, else it may be
            overwritten.
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
            at_hand = self._version_at_hand(fragment)
            if at_hand in on_the_way:
                ahead = chain[on_the_way.index(at_hand) :]
                if all(link.blob_path for link in ahead):
                    self._apply(fragment, ahead)
                    return
        except FederationError:
            pass  # The copy in memory or in a checkpoint may be at fault: the chain from its start decides.
        self._apply(fragment, chain[self._restart(fragment, chain) :])

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
        self.versions[fragment] = DIVERGED  # until `_replace`
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

    # --- by what this process holds of a fragment -----------------------------------------------------------------

    def _version_at_hand(self, fragment: int) -> int:
        """The version that can be gone on from, `DIVERGED` if there is none."""
        return self.versions[fragment]

    @abstractmethod
    def _blob(self, fragment: int, link: ChainLink) -> ByteVector:
        """The bytes of a commit."""

    @abstractmethod
    def _apply_checked(self, fragment: int, theta: Float32Vector, blob: ByteVector, new: Float32Vector) -> str:
        """new <- theta - decode(blob); the fragment's digest."""

    @abstractmethod
    def _apply_blob(
        self,
        theta: Float32Vector,
        blob: ByteVector,
        new: Float32Vector,
        *,
        apply: Callable[[slice, ByteVector], None] | None = None,
    ) -> None:
        """new <- theta - decode(blob), or what `apply` does with each chunk."""

    @abstractmethod
    def _snapshot(self, fragment: int, link: ChainLink) -> Float32Vector:
        """A snapshot as it was given."""

    @abstractmethod
    def _digest(self, fragment: int, vector: Float32Vector) -> str:
        """The digest of a fragment."""


def expect_digest(found: str, expected: str, what: str) -> None:
    """Raises DigestMismatchError where they differ."""
    if found != expected:
        raise DigestMismatchError(f"{what}: expected digest {short(expected)}, found {short(found)}")
