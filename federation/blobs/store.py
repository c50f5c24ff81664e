# SPDX-License-Identifier: Apache-2.0
"""Immutable bytes named by their digest, in `base/ab/<digest>`; a blob that has its name is complete and durable.

A digest is `federation.merkle.blob_digest`: an RFC 6962 root over pieces of 1 MiB. Everything streams; no operation
but `put` and `read` holds more than a few pieces in memory.
"""

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from federation.durable import BlobWriter, FileSystem
from federation.errors import (
    CorruptObjectError,
    DigestMismatchError,
    LimitExceededError,
    ObjectNotFoundError,
)
from federation.ids import is_digest
from federation.limits import DEFAULT_LIMITS
from federation.merkle import BLOB_PIECE_BYTES, PieceHasher, blob_digest

_DIGEST_PREFIX_CHARS: Final = 2
_MAX_VOUCHED: Final = 4096


class BlobStore:
    """Blobs below one directory of a file system. Two stores on one directory do not disturb each other."""

    def __init__(self, fs: FileSystem, base: str = "blobs") -> None:
        self._fs = fs
        self._base = base
        # Blobs that this process has written or fsynced; a name alone proves nothing after a killed process.
        self._known_durable: set[str] = set()
        # Files that this process has hashed as it wrote them: digest and fingerprint by path.
        self._vouched: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._vouching = threading.Lock()
        # Blobs that this process has hashed, with the fingerprint that they had then.
        self._intact: dict[str, tuple[int, ...]] = {}

    def path(self, digest: str) -> str:
        """Where a blob lies or would lie, relative to the file system's root.

        Raises:
            DigestMismatchError: `digest` is not 64 lower-case hexadecimal characters.
        """
        if not is_digest(digest):
            raise DigestMismatchError(f"digest: expected 64 lower-case hexadecimal characters, found {digest!r:.80}")
        return f"{self._base}/{digest[:_DIGEST_PREFIX_CHARS]}/{digest}"

    def has(self, digest: str) -> bool:
        """Whether the blob is here and durable (its first sighting in this process costs an fsync)."""
        path = self.path(digest)
        if not self._fs.exists(path):
            self._known_durable.discard(digest)
            return False
        if digest not in self._known_durable:
            try:
                self._fs.sync_paths([path])
            except ObjectNotFoundError:  # removed by another process since
                return False
            self._known_durable.add(digest)
        return True

    def size(self, digest: str) -> int:
        """Size in bytes. Raises ObjectNotFoundError."""
        return self._fs.size(self.path(digest))

    def put(self, data: bytes) -> str:
        """Stores bytes durably and returns their digest. Raises DiskFullError."""
        digest = blob_digest(data)
        if not self.has(digest):
            with self._fs.writer() as writer:
                writer.write(data)
                self._publish(writer, digest)
        return digest

    def writer(self, *, max_bytes: int | None = None) -> "BlobSink":
        """A blob to be written piece by piece; with `max_bytes`, LimitExceededError beyond it."""
        return BlobSink(self, self._fs.writer(), max_bytes)

    def vouch(self, path: str, digest: str, written: tuple[int, ...]) -> None:
        """Says that this process has hashed a file as it wrote it, so that `import_file` need not read it again.

        From any thread. It counts for this very file only: whoever writes to it or puts another one in its place
        changes its fingerprint.

        Args:
            path: the name that the file gets now, or has.
            written: its `FileSystem.fingerprint` when it was complete.
        """
        with self._vouching:
            self._vouched[path] = (digest, written)
            while len(self._vouched) > _MAX_VOUCHED:
                del self._vouched[next(iter(self._vouched))]

    def _is_vouched_for(self, path: str, digest: str) -> bool:
        with self._vouching:
            vouched = self._vouched.pop(path, None)
        return vouched == (digest, self._fs.fingerprint(path))

    def import_file(self, path: str, digest: str, *, max_bytes: int = DEFAULT_LIMITS.max_blob_bytes) -> None:
        """Takes over a file of the same file system that another party wrote: verify, fsync, link.

        The file keeps its name too. Its writer must replace files, never change them in place.

        Raises:
            DigestMismatchError: its bytes have another digest (or are not all there yet).
            LimitExceededError: it is longer than `max_bytes`.
            ObjectNotFoundError: there is no such file.
        """
        target = self.path(digest)
        if self.has(digest):
            return
        num_bytes = self._fs.size(path)
        if num_bytes > max_bytes:
            raise LimitExceededError(f"{path}: expected at most {max_bytes} bytes, found {num_bytes}")
        found = digest if self._is_vouched_for(path, digest) else self._digest_of(path, max_bytes)
        if found != digest:
            raise DigestMismatchError(f"{path}: expected digest {digest}, found {found}")
        self._fs.link(path, target)  # fsyncs the content first: its writer may not have
        self._known_durable.add(digest)
        self._keep_fingerprint(digest)

    def read(self, digest: str, max_bytes: int | None = None) -> bytes:
        """The whole blob, verified.

        Raises:
            ObjectNotFoundError: it is not here.
            LimitExceededError: it is longer than `max_bytes`.
            CorruptObjectError: its bytes no longer have its digest.
        """
        data = self._fs.read(self.path(digest), max_bytes=max_bytes)
        self._expect(digest, blob_digest(data))
        return data

    def read_range(self, digest: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`, fewer at the blob's end. NOT verified: see `verify`."""
        return self._fs.read_range(self.path(digest), offset, length)

    def map(self, digest: str) -> memoryview | None:
        """The blob's bytes as mapped memory, None where files cannot be mapped. NOT verified: see `verify`."""
        return self._fs.map_file(self.path(digest))

    def is_known_intact(self, digest: str) -> bool:
        """Whether this process has hashed the blob, and nobody has touched its file since.

        What a disk does to it meanwhile is not seen: `verify` reads it again.
        """
        with self._vouching:
            known = self._intact.get(digest)
        return known is not None and self._fs.exists(self.path(digest)) and known == self._fingerprint(digest)

    def forget_pages(self, digest: str) -> None:
        """Says that a blob will hardly be read again soon: see `FileSystem.forget_pages`."""
        self._fs.forget_pages(self.path(digest))

    def verify(self, digest: str) -> None:
        """Reads the whole blob, piece by piece. Raises ObjectNotFoundError, CorruptObjectError."""
        self._expect(digest, self._digest_of(self.path(digest), None))

    def link_to(self, digest: str, target_path: str, *, sync_name: bool = True) -> None:
        """Gives a blob a second name on the same file system, durable as `FileSystem.link` says.

        Raises:
            ObjectNotFoundError: it is not here.
        """
        self._fs.link(self.path(digest), target_path, sync_name=sync_name)

    def delete(self, digest: str) -> None:
        """Removes a blob; does nothing if it is gone. After a power loss it may be there again."""
        self._known_durable.discard(digest)
        self._fs.remove(self.path(digest))

    def digests(self) -> Iterator[str]:
        """Every blob's digest, ascending; names that are no digests are passed over."""
        for prefix in self._fs.list(self._base):
            for name in self._fs.list(f"{self._base}/{prefix}"):
                if is_digest(name) and name.startswith(prefix):
                    yield name

    def _publish(self, writer: BlobWriter, digest: str) -> None:
        writer.publish(self.path(digest))
        self._known_durable.add(digest)
        self._keep_fingerprint(digest)

    def _keep_fingerprint(self, digest: str) -> None:
        found = self._fingerprint(digest)
        if found is not None:
            with self._vouching:
                self._intact[digest] = found
                while len(self._intact) > _MAX_VOUCHED:
                    del self._intact[next(iter(self._intact))]

    def _fingerprint(self, digest: str) -> tuple[int, ...] | None:
        return self._fs.fingerprint(self.path(digest))

    def _digest_of(self, path: str, max_bytes: int | None) -> str:
        hasher = PieceHasher(BLOB_PIECE_BYTES)
        offset = 0
        while piece := self._fs.read_range(path, offset, BLOB_PIECE_BYTES):
            hasher.update(piece)
            offset += len(piece)
            if max_bytes is not None and offset > max_bytes:  # it grows while it is read
                raise LimitExceededError(f"{path}: expected at most {max_bytes} bytes, found more")
        return hasher.hexdigest()

    def _expect(self, digest: str, found: str) -> None:
        if found != digest:
            raise CorruptObjectError(
                f"{self.path(digest)}: expected digest {digest}, found {found}",
                advice="Delete this blob; it is asked for again from whoever has it.",
            )


class BlobSink:
    """A blob being written. Nobody sees it before `finish`; leaving the `with` block without it discards it."""

    def __init__(self, store: BlobStore, writer: BlobWriter, max_bytes: int | None) -> None:
        self._store = store
        self._writer = writer
        self._max_bytes = max_bytes
        self._hasher = PieceHasher(BLOB_PIECE_BYTES)
        self.num_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends bytes. Raises DiskFullError, LimitExceededError; then nothing but `discard` makes sense."""
        view = memoryview(data)
        self.num_bytes += view.nbytes
        if self._max_bytes is not None and self.num_bytes > self._max_bytes:
            raise LimitExceededError(f"blob: expected at most {self._max_bytes} bytes, found more")
        self._hasher.update(data)
        self._writer.write(data)

    @property
    def digest(self) -> str:
        """Digest of the bytes so far; more may follow."""
        return self._hasher.hexdigest()

    def finish(self, expected: str | None = None) -> str:
        """Makes the blob durable under its digest and returns that.

        Raises:
            DigestMismatchError: the digest is not `expected`; nothing was stored.
        """
        digest = self._hasher.hexdigest()
        if expected is not None and digest != expected:
            self.discard()
            raise DigestMismatchError(f"blob: expected digest {expected}, found {digest}")
        if self._store.has(digest):
            self.discard()
        else:
            self._store._publish(self._writer, digest)
        return digest

    def discard(self) -> None:
        """Removes what was written; does nothing after `finish`."""
        self._writer.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()
