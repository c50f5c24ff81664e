# SPDX-License-Identifier: Apache-2.0
"""The durable operations that everything else is made of, with their promises after a crash.

Two backends keep them: `federation.durable.real.RealFileSystem` (POSIX) and
`federation.durable.simulated.SimulatedFileSystem` (in memory; a crash loses what was not fsynced). One contract suite
runs on both. Paths are relative to the file system's root, with "/" between parts.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Self


class BlobWriter(ABC):
    """A file being written that nobody sees until `publish`. Closing without it leaves nothing behind."""

    @abstractmethod
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends bytes."""

    @abstractmethod
    def publish(self, path: str) -> None:
        """fsync, rename to `path` (replacing it), fsync the directory: durable when this returns."""

    @abstractmethod
    def discard(self) -> None:
        """Removes the temporary file. Does nothing after `publish`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class Appender(ABC):
    """An append-only file."""

    @abstractmethod
    def append(self, data: bytes) -> None:
        """Adds bytes at the end; not durable before `sync`."""

    @abstractmethod
    def sync(self) -> None:
        """fsync: everything appended so far is durable when this returns."""

    @abstractmethod
    def close(self) -> None:
        """Releases the file without syncing."""


class RandomWriter(ABC):
    """A file of fixed length that is written at any place, in any order. Threads may share it."""

    @abstractmethod
    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Writes all of `data` from `offset`; not durable before `sync`.

        Raises:
            ValueError: it would reach beyond the file's length.
            DiskFullError: no space; a part may be written.
        """

    def begin_sync(self, offset: int, length: int) -> None:
        """Begins to bring these bytes to the disk and returns at once: a `sync` that follows has less to wait for."""
        return

    @abstractmethod
    def sync(self) -> None:
        """fsync: every `write_at` that had returned before is durable when this returns. Others go on meanwhile."""

    @abstractmethod
    def close(self) -> None:
        """Releases the file without syncing; may be called twice. No `write_at` or `sync` may be under way."""


class FileSystem(ABC):
    """Durable files below one root directory.

    A failed fsync ends the process (nothing that follows could be believed). A full disk raises `DiskFullError` and
    leaves nothing half-written under a final name.
    """

    @abstractmethod
    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """The whole file.

        Raises:
            ObjectNotFoundError: there is none.
            LimitExceededError: it is longer than `max_bytes`.
        """

    @abstractmethod
    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; fewer at the end of the file."""

    def map_file(self, path: str) -> memoryview | None:
        """The whole file as read-only memory that the page cache holds, None where files cannot be mapped.

        Who maps a file relies on nobody cutting it: a page that is gone ends the process.

        Raises:
            ObjectNotFoundError: there is none.
        """
        return None

    def forget_pages(self, path: str) -> None:
        """Says that a file will hardly be read again soon, so that its memory can take the next one; a hint.

        Nothing is lost: what is not on the disk yet stays in memory. Does nothing if the file is gone.
        """
        return

    @abstractmethod
    def size(self, path: str) -> int:
        """Size in bytes. Raises ObjectNotFoundError."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether a file or directory is there."""

    @abstractmethod
    def list(self, path: str) -> list[str]:
        """Names of files and directories in a directory, sorted; [] if it does not exist; temporaries are left out."""

    @abstractmethod
    def write(self, path: str, data: bytes | bytearray | memoryview) -> None:
        """Replaces a whole file atomically: temp, fsync, rename, fsync dir. Makes missing directories."""

    @abstractmethod
    def place(self, path: str, data: bytes) -> None:
        """Like `write` for whoever reads it now, without any fsync: after a crash it may be there, old, torn or gone.

        For what is checked when it is read, and made or brought again where it is missing.
        """

    @abstractmethod
    def stage(self, path: str, data: bytes) -> None:
        """Makes a new file in place, durable when this returns, for the price of one fsync.

        A crash before may leave a torn one: for names that nobody but their writer looks for.
        """

    def fingerprint(self, path: str) -> tuple[int, ...] | None:
        """Changes whenever somebody replaces or writes this file, not when it is renamed; None where nobody can tell.

        Raises:
            ObjectNotFoundError: there is none.
        """
        return None

    @abstractmethod
    def create(self, path: str, data: bytes, *, mode: int = 0o644) -> bool:
        """Like `write`, but only if nothing is there (O_EXCL); returns whether this call created it."""

    @abstractmethod
    def writer(self) -> BlobWriter:
        """A temporary file to be published under a name that is known later."""

    @abstractmethod
    def appender(self, path: str) -> Appender:
        """Opens (or makes, durably) an append-only file."""

    @abstractmethod
    def random_writer(self, path: str, num_bytes: int) -> RandomWriter:
        """Opens (or makes, durably) a file of `num_bytes`; what it holds is durable when this returns.

        A new one reads as zeros and takes no space yet; a file of another length is cut or extended with zeros.
        """

    @abstractmethod
    def truncate(self, path: str, length: int) -> None:
        """Cuts an append-only file to `length` bytes and fsyncs it."""

    @abstractmethod
    def link(self, source: str, target: str, *, sync_name: bool = True) -> None:
        """Makes `target` a second name of `source` (hard link, else a copy), durably. An existing target stays.

        Without `sync_name` the new name is durable only after `sync_paths`.
        """

    @abstractmethod
    def rename(self, source: str, target: str, *, sync_names: bool = True) -> None:
        """Renames a file or directory atomically and fsyncs both parents.

        Without `sync_names` it may have the one name or the other after a crash.
        """

    @abstractmethod
    def remove(self, path: str) -> None:
        """Removes a file; does nothing if it is gone. Durable after the next fsync of the directory."""

    @abstractmethod
    def mkdir(self, path: str) -> bool:
        """Makes a directory and its parents; returns whether the last one is new (an atomic claim)."""

    @abstractmethod
    def publish_tree(self, source: str, target: str) -> None:
        """fsyncs all below `source`, renames it to `target` (which must not exist), fsyncs both parents."""

    @abstractmethod
    def remove_tree(self, path: str) -> None:
        """Removes a directory and all below it; does nothing if it is gone."""

    @abstractmethod
    def free_bytes(self) -> int:
        """Bytes that this user may still write."""

    @abstractmethod
    def sync_paths(self, paths: Iterable[str]) -> None:
        """fsyncs existing files (written by others) so that what follows may rely on them."""
