# SPDX-License-Identifier: Apache-2.0
"""Blobs that the ledger names: there, and of their digest. Each is read through once, whoever names it how often."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from federation.blobs.store import BlobStore
from federation.errors import CorruptObjectError, DigestMismatchError, ObjectNotFoundError, StorageError
from federation.ids import is_digest, short
from federation.merkle import PieceHasher
from federation.verify.files import ReadOnlyFileSystem
from federation.verify.report import Check, Findings, Place


class Presence(Enum):
    """What became of a blob."""

    INTACT = "intact"
    MISSING = "missing"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"


class Evidence:
    """The directory's blobs. It has the part of a `BlobStore` that `commit_round` needs, and stores nothing."""

    def __init__(self, fs: ReadOnlyFileSystem, findings: Findings) -> None:
        self._fs = fs
        self._store: Final = BlobStore(fs)
        self._findings = findings
        self._seen: dict[str, Presence] = {}
        self.num_bytes = 0

    @property
    def num_blobs(self) -> int:
        """Different blobs that were looked at."""
        return len(self._seen)

    def require(self, digest: str, place: Place, what: str) -> bool:
        """Whether the blob is intact; where it is not, that is a difference: it is never pruned."""
        return self._look(digest, place, what, required=True)

    def want(self, digest: str, place: Place, what: str) -> bool:
        """Whether the blob is intact; a missing one is a gap, since bulk data may have been pruned or withheld."""
        return self._look(digest, place, what, required=False)

    def holds(self, digest: str) -> bool:
        """Whether the blob is intact, without a word if it is not."""
        return is_digest(digest) and self._presence(digest) is Presence.INTACT

    def path(self, digest: str) -> str:
        """The blob's real path, for libraries that open files themselves."""
        return str(self._fs.real_path(self._store.path(digest)))

    def read(self, digest: str, max_bytes: int) -> bytes:
        """The whole blob, verified again. Raises as `BlobStore.read`."""
        return self._store.read(digest, max_bytes)

    def size(self, digest: str) -> int:
        """Bytes of a blob. Raises ObjectNotFoundError."""
        return self._store.size(digest)

    def is_known_intact(self, digest: str) -> bool:
        """An auditor takes nothing for granted."""
        return False

    def verify(self, digest: str) -> None:
        """Raises CorruptObjectError if the stored bytes have another digest."""
        self._store.verify(digest)

    def read_range(self, digest: str, offset: int, length: int) -> bytes:
        """Some bytes of a blob."""
        return self._store.read_range(digest, offset, length)

    def map(self, digest: str) -> memoryview | None:
        """The blob's bytes as mapped memory."""
        return self._store.map(digest)

    @contextmanager
    def writer(self) -> Iterator["HashSink"]:
        """A blob that is only hashed."""
        yield HashSink()

    def _look(self, digest: str, place: Place, what: str, *, required: bool) -> bool:
        if not is_digest(digest):
            self._findings.differ(Check.BLOBS, place, f"digest of the {what}", "64 hexadecimal characters", digest)
            return False
        first = digest not in self._seen
        presence = self._presence(digest)
        if first and presence is Presence.INTACT:
            self._findings.agree(Check.BLOBS)
        elif first:
            self._complain(presence, digest, place, what, required=required)
        return presence is Presence.INTACT

    def _complain(self, presence: Presence, digest: str, place: Place, what: str, *, required: bool) -> None:
        name = f"blob {digest} ({what})"
        if presence is Presence.DAMAGED:
            self._findings.differ(Check.BLOBS, place, name, "bytes of this digest", "other bytes")
        elif presence is Presence.MISSING and required:
            self._findings.differ(Check.BLOBS, place, name, "it in the directory", "nothing")
        else:
            self._findings.skip(Check.BLOBS, place, f"{name} is {presence.value}")

    def _presence(self, digest: str) -> Presence:
        if digest not in self._seen:
            self._seen[digest] = self._examined(digest)
        return self._seen[digest]

    def _examined(self, digest: str) -> Presence:
        try:
            self.num_bytes += self._store.size(digest)
            self._store.verify(digest)
        except ObjectNotFoundError:
            return Presence.MISSING
        except CorruptObjectError:
            return Presence.DAMAGED
        except StorageError:
            return Presence.UNREADABLE
        return Presence.INTACT


class HashSink:
    """Takes a commit blob's bytes and keeps nothing but their digest."""

    def __init__(self) -> None:
        self._hasher = PieceHasher()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends bytes."""
        self._hasher.update(data)

    def finish(self, expected: str | None = None) -> str:
        """The digest. Raises DigestMismatchError if it is not `expected`."""
        digest = self._hasher.hexdigest()
        if expected is not None and digest != expected:
            raise DigestMismatchError(f"blob: expected digest {short(expected)}, found {short(digest)}")
        return digest
