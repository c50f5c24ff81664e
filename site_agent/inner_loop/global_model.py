# SPDX-License-Identifier: Apache-2.0
"""The committed theta of a process that holds whole fragments, and the files that theta comes from."""

import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from federation.chunk_pool import num_threads_here
from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector
from federation.errors import ConfigError, ObjectNotFoundError
from federation.fragments import scatter
from federation.initial_model import parse_tensors, to_fragments
from federation.manifest import Manifest
from federation.published import apply_blob_into, digest_on_threads
from site_agent.inner_loop.committed_model import CommittedModel, SnapshotRefusedError, expect_digest
from site_agent.inner_loop.seam import Float32Array
from site_agent.jobs import ChainLink


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


class GlobalModel(CommittedModel):
    """Whole fragment vectors, f32[num_elements] each, at some version each."""

    def parameters(self) -> dict[str, Float32Array]:
        """Whole parameters by canonical name, views."""
        views: dict[str, Float32Array] = {}
        for table, vector in zip(self._tables, self.theta, strict=True):
            views.update(scatter(table, vector))
        return views

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
