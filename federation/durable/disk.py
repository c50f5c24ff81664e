# SPDX-License-Identifier: Apache-2.0
"""The single steps that durable operations consist of: what a POSIX kernel offers, no more.

`federation.durable.sequences` puts them in an order that survives a crash; `PosixDisk` and `SimulatedDisk` carry them
out. So the simulated crash tests exercise the very order that runs on a real disk. Paths are relative to the root and
already checked; "" is the root itself.
"""

from abc import ABC, abstractmethod
from functools import lru_cache

TEMPORARY_PREFIX = ".tmp-"
"""Names that begin with this are unfinished or half removed, and never listed."""


@lru_cache(maxsize=65_536)
def checked(path: str) -> str:
    """Returns `path` if it stays below the root: parts joined by "/", none of them empty, "." or "..".

    Raises:
        ValueError: it does not. Names from peers must have been checked long before, so this is our own bug.
    """
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"path: expected names joined by '/', without '.' and '..', found {path!r:.200}")
    return path


def checked_directory(path: str) -> str:
    """Like `checked`, but "" is allowed and means the root."""
    return checked(path) if path else path


def parent_of(path: str) -> str:
    """The directory that holds `path`; "" for the root."""
    return path.rpartition("/")[0]


def joined(directory: str, name: str) -> str:
    """`name` inside `directory`, which may be "" for the root."""
    return f"{directory}/{name}" if directory else name


class OpenFile(ABC):
    """A file open for writing at its end."""

    @abstractmethod
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Adds all of `data`, or nothing of it. Raises DiskFullError."""

    @abstractmethod
    def sync(self) -> None:
        """fsync of the content. A failure ends the process."""

    @abstractmethod
    def close(self) -> None:
        """Releases the file; may be called twice."""


class OpenRandomFile(ABC):
    """A file open for writing at any place; it never grows."""

    @abstractmethod
    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Writes all of `data`, which ends within the file. Raises DiskFullError."""

    def begin_sync(self, offset: int, length: int) -> None:
        """Hands these bytes to the disk without waiting, where the system can."""
        return

    @abstractmethod
    def sync(self) -> None:
        """fsync of the content. A failure ends the process."""

    @abstractmethod
    def close(self) -> None:
        """Releases the file; may be called twice."""


class Disk(ABC):
    """Single steps; none of them is durable before the matching `sync_file` or `sync_directory`.

    A missing parent or file raises ObjectNotFoundError, a full disk DiskFullError, anything else StorageError.
    """

    @abstractmethod
    def temporary_name(self) -> str:
        """A fresh file name that begins with `TEMPORARY_PREFIX`."""

    @abstractmethod
    def make_root(self) -> None:
        """Makes the root directory, durably, if it is missing."""

    @abstractmethod
    def make_directory(self, path: str) -> bool:
        """One mkdir; returns False if the directory was there."""

    @abstractmethod
    def create_file(self, path: str, mode: int) -> OpenFile:
        """Opens a new, empty file. Raises FileExistsError."""

    @abstractmethod
    def open_file(self, path: str) -> OpenFile:
        """Opens a file for appending; makes it if it is missing."""

    @abstractmethod
    def open_random_file(self, path: str, num_bytes: int) -> OpenRandomFile:
        """Opens a file for writing anywhere; makes it if it is missing, and gives it this length."""

    @abstractmethod
    def truncate(self, path: str, length: int) -> None:
        """Cuts a file to `length` bytes."""

    @abstractmethod
    def rename(self, source: str, target: str) -> bool:
        """Atomic rename, replacing a file at `target`; returns False if the two lie on different devices."""

    @abstractmethod
    def link(self, source: str, target: str) -> bool:
        """Hard link; returns False if this file system cannot. Raises FileExistsError."""

    @abstractmethod
    def unlink(self, path: str) -> None:
        """Removes a file; does nothing if it is gone."""

    @abstractmethod
    def remove_directory(self, path: str) -> None:
        """Removes an empty directory; does nothing if it is gone."""

    @abstractmethod
    def sync_file(self, path: str) -> None:
        """fsync of a file's content."""

    @abstractmethod
    def sync_directory(self, path: str) -> None:
        """fsync of a directory: the names in it."""

    @abstractmethod
    def read(self, path: str, max_bytes: int | None) -> bytes:
        """The whole file. Raises LimitExceededError above `max_bytes`."""

    @abstractmethod
    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`."""

    @abstractmethod
    def size(self, path: str) -> int:
        """Bytes of a file."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether anything has this name."""

    @abstractmethod
    def scan(self, path: str) -> list[tuple[str, bool]]:
        """(name, whether it is a directory) of everything in a directory, temporaries too, sorted; [] if missing."""

    @abstractmethod
    def free_bytes(self) -> int:
        """Bytes that this user may still write."""
