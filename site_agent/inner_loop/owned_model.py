# SPDX-License-Identifier: Apache-2.0
"""The committed theta of a job of several ranks: each holds the chunks that it owns, the digest is of all of them.

Commit blobs, snapshots and theta_0 lie on a file system that every rank sees; a rank reads its own part of them. What
one rank cannot do fails on all of them with the same error, so that all of them take the same way out.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from federation.chunk_pool import in_order, num_threads_here
from federation.chunks import ChunkGrid, Float32Vector, chunk_hash
from federation.codecs.api import ByteVector, Codec
from federation.codecs.payload import bytes_of, payload_bytes
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, MalformedPayloadError, StorageError
from federation.manifest import Manifest
from federation.merkle import root_of
from federation.published import apply_blob_into
from federation.tensor_file import TensorFile, ThetaFile
from site_agent.inner_loop.committed_model import DIVERGED, CommittedModel, Theta0, expect_digest
from site_agent.inner_loop.global_model import read_blob, read_snapshot
from site_agent.inner_loop.ownership import owned, owners_in_order
from site_agent.inner_loop.team import Team
from site_agent.jobs import ChainLink

_HASH_BYTES = 32


class OwnedModel(CommittedModel):
    """Owned parts of fragment vectors in memory at some version each. Methods that compute are collective.

    Attributes:
        theta: f32[n] of each fragment's owned part, perhaps empty.
    """

    def __init__(
        self, manifest: Manifest, theta0: Theta0, team: Team, *, num_threads: int = 0, check_every: int = 1
    ) -> None:
        self._team = team
        super().__init__(manifest, theta0, num_threads=num_threads, check_every=check_every)

    def part(self, fragment: int) -> slice:
        """Elements of a fragment that this rank owns."""
        return owned(self._tables[fragment].num_elements, fragment, self._team.rank, self._team.size)

    def _version_at_hand(self, fragment: int) -> int:
        # Where a commit was applied in place and failed, the old version is gone: on one rank perhaps, on others not.
        found = self._team.gathered(str(self.versions[fragment]).encode())
        return self.versions[fragment] if len(set(found)) == 1 else DIVERGED

    def _blob(self, fragment: int, link: ChainLink) -> ByteVector:
        return self._team.agree(lambda: self._part_of_blob(fragment, link))

    def _part_of_blob(self, fragment: int, link: ChainLink) -> ByteVector:
        blob, size = read_blob(link), self._tables[fragment].num_elements
        if blob.size != payload_bytes(self._codec, size):
            raise MalformedPayloadError(
                f"{self._codec.name}: expected {payload_bytes(self._codec, size)} bytes for {size} elements, "
                f"found {blob.size}"
            )
        return blob[bytes_of_part(self._codec, self.part(fragment))]

    def _apply_blob(
        self,
        theta: Float32Vector,
        blob: ByteVector,
        new: Float32Vector,
        *,
        apply: Callable[[slice, ByteVector], None] | None = None,
    ) -> None:
        def work() -> None:
            if theta.size:
                threads = self.num_threads
                apply_blob_into(self._codec, theta, blob, new, num_threads=threads, with_digest=False, apply=apply)

        self._team.agree(work)

    def _apply_checked(self, fragment: int, theta: Float32Vector, blob: ByteVector, new: Float32Vector) -> str:
        self._apply_blob(theta, blob, new)
        return self._digest(fragment, new)

    def _digest(self, fragment: int, vector: Float32Vector) -> str:
        return digest_of_parts(self._team, fragment, self._tables[fragment].num_elements, vector, self.num_threads)

    def _snapshot(self, fragment: int, link: ChainLink) -> Float32Vector:
        part, size = self.part(fragment), self._tables[fragment].num_elements
        return self._team.agree(lambda: read_snapshot(link, size, part))


def bytes_of_part(codec: Codec, part: slice) -> slice:
    """Where the blocks of an owned part lie in the payload; nowhere if it is empty."""
    return bytes_of(codec, part) if part.stop > part.start else slice(0, 0)


def digest_of_parts(team: Team, fragment: int, num_elements: int, part: Float32Vector, num_threads: int) -> str:
    """The digest of a whole fragment of which each rank gives the part it owns. Collective."""
    hashes = b"".join(_chunk_hashes(part, num_threads))
    found = team.gathered(hashes)
    whole = b"".join(found[rank] for rank in owners_in_order(num_elements, fragment, team.size))
    return root_of(whole[i : i + _HASH_BYTES] for i in range(0, len(whole), _HASH_BYTES)).hex()


def _chunk_hashes(part: Float32Vector, num_threads: int) -> list[bytes]:
    if not part.size:
        return []
    grid = ChunkGrid(part.size)
    return list(
        in_order(lambda i: chunk_hash(part[slice(*grid.bounds(i))]), grid.num_chunks, min(num_threads, grid.num_chunks))
    )


def read_owned_theta0(path: Path, manifest: Manifest, team: Team) -> list[Float32Vector]:
    """The owned part of version 0 of each fragment from a safetensors file, checked against the manifest. Collective.

    Raises:
        ConfigError: the file cannot be read, or names and shapes differ from the fragment table.
        DigestMismatchError: a fragment is not the one that the sites agreed on.
    """
    vectors = team.agree(lambda: _read_parts(path, manifest, team))
    for p, (vector, digest) in enumerate(zip(vectors, manifest.plan.theta_digests, strict=True)):
        size = manifest.fragments[p].num_elements
        found = digest_of_parts(team, p, size, vector, num_threads_here())
        expect_digest(found, digest, f"theta_0, fragment {p}")
    return vectors


def _read_parts(path: Path, manifest: Manifest, team: Team) -> list[Float32Vector]:
    fs, name = RealFileSystem(path.parent), path.name
    try:
        file = TensorFile.open(lambda start, n: fs.read_range(name, start, n), fs.size(name), str(path))
        file.check_table(manifest.fragments)
        theta = ThetaFile(file, manifest.fragments)
        return [_part(theta, p, t.num_elements, team) for p, t in enumerate(manifest.fragments)]
    except StorageError as error:
        raise ConfigError(f"{path}: expected theta_0, found: {error}") from error


def _part(theta: ThetaFile, fragment: int, num_elements: int, team: Team) -> Float32Vector:
    part = owned(num_elements, fragment, team.rank, team.size)
    return theta[fragment][part] if part.stop > part.start else np.empty(0, np.float32)
