# SPDX-License-Identifier: Apache-2.0
"""The last committed theta of each fragment: version 0 from a file, every later one by applying commit blobs.

Theta is defined by the published blobs, so each application is checked against the digest that the commit leaf names.
In place of a long chain a snapshot of theta may be given, which nobody has checked before it is loaded here.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from federation.chunks import Float32Vector, fragment_digest
from federation.codecs.registry import get_codec
from federation.errors import ConfigError, DigestMismatchError, FederationError, ObjectNotFoundError
from federation.fragments import scatter
from federation.ids import short
from federation.initial_model import parse_tensors, to_fragments
from federation.manifest import Manifest
from federation.outer_optimizer import apply_downlink
from site_agent.inner_loop.seam import Float32Array
from site_agent.jobs import ChainLink

Theta0 = Callable[[], list[Float32Vector]]
"""Reads version 0 of every fragment."""


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
        _expect(fragment_digest(vector), digest, f"theta_0, fragment {p}")
    return vectors


class SnapshotRefusedError(DigestMismatchError):
    """A snapshot is not the version that the ledger names. The chain of commits must be fetched after all."""


class GlobalModel:
    """Fragment vectors in memory at some version each.

    Attributes:
        theta: f32[num_elements] of each fragment; never changed in place.
        versions: number of the commit that made it (round + 1), 0 for theta_0.
        digests: fragment digest of each.
    """

    def __init__(self, manifest: Manifest, theta0: Theta0) -> None:
        self._codec = get_codec(manifest.codecs.down)
        self._tables = manifest.fragments
        self._digests0 = manifest.plan.theta_digests
        self._theta0 = theta0
        self.theta: list[Float32Vector] = theta0()
        self.versions = [0] * len(self.theta)
        self.digests = list(self._digests0)

    def restore(self, theta: Sequence[Float32Vector], versions: Sequence[int], digests: Sequence[str]) -> None:
        """Takes over what a training checkpoint holds."""
        self.theta, self.versions, self.digests = list(theta), list(versions), list(digests)

    def advance(self, fragment: int, link: ChainLink) -> None:
        """Applies one commit: theta <- theta - decode(blob), fp32.

        Raises:
            DigestMismatchError: the result is not what the commit says: this copy has diverged. Nothing was changed.
            StorageError: the blob is missing or damaged.
        """
        blob = _read_blob(link)
        theta = apply_downlink(self._codec, self.theta[fragment], blob)
        digest = fragment_digest(theta)
        _expect(digest, link.theta_digest, f"fragment {fragment} after commit {link.version}")
        self.theta[fragment], self.versions[fragment], self.digests[fragment] = theta, link.version, digest

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
        for link in links:
            self.advance(fragment, link)

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
        theta = _read_snapshot(link, self._tables[fragment].num_elements)
        digest = fragment_digest(theta)
        if digest != link.theta_digest:
            raise SnapshotRefusedError(
                f"fragment {fragment}: expected a snapshot of version {link.version} with digest "
                f"{short(link.theta_digest)}, found {short(digest)}",
                advice="The coordinator sent it, or this disk damaged it. The commits are fetched one by one instead.",
            )
        self.theta[fragment], self.versions[fragment], self.digests[fragment] = theta, link.version, digest

    def _reset(self, fragment: int) -> None:
        self.theta[fragment] = self._theta0()[fragment]
        self.versions[fragment], self.digests[fragment] = 0, self._digests0[fragment]


def heads(chains: Sequence[Sequence[ChainLink]]) -> tuple[int, ...]:
    """The version at the end of each chain."""
    return tuple(chain[-1].version if chain else 0 for chain in chains)


def with_aliases(parameters: Mapping[str, Float32Array], manifest: Manifest) -> dict[str, Float32Array]:
    """The parameters and, under their other names, those that share storage."""
    return {**parameters, **{alias.name: parameters[alias.of] for alias in manifest.aliases}}


def _read_blob(link: ChainLink) -> bytes:
    try:
        return Path(link.blob_path).read_bytes()
    except OSError as error:
        raise ObjectNotFoundError(
            f"commit {link.version}: expected its blob at {link.blob_path}, found: {error.strerror}"
        ) from error


def _read_snapshot(link: ChainLink, num_elements: int) -> Float32Vector:
    try:
        data = np.fromfile(link.snapshot_path, dtype="<f4", count=num_elements + 1)
    except OSError as error:
        raise ObjectNotFoundError(
            f"version {link.version}: expected its snapshot at {link.snapshot_path}, found: {error.strerror}"
        ) from error
    if data.size != num_elements:
        raise SnapshotRefusedError(f"version {link.version}: expected {num_elements} elements, found {data.size}")
    return data.astype(np.float32, copy=False)


def _expect(found: str, expected: str, what: str) -> None:
    if found != expected:
        raise DigestMismatchError(f"{what}: expected digest {short(expected)}, found {short(found)}")
