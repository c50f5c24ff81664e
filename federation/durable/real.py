# SPDX-License-Identifier: Apache-2.0
"""Durable files on a POSIX file system: one root directory, and the process ends when an fsync fails.

After a failed fsync the kernel may have dropped the dirty pages and marked them clean: a second fsync would succeed
without the data. Nothing that this process believes about its files can be trusted, so it exits; a restart reads what
is really there. Only regular files are opened, and links are not followed at the last part of a path: a courier may
have put anything into a mailbox.
"""

import errno
import mmap
import os
import secrets
import stat
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final

from federation.durable.disk import TEMPORARY_PREFIX, Disk, OpenFile, OpenRandomFile, checked
from federation.durable.posix import PosixFile, PosixRandomFile, fsync, regular, reopening, translated
from federation.durable.sequences import SequencedFileSystem
from federation.errors import LimitExceededError, ObjectNotFoundError, StorageError

_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP)
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class RealFileSystem(SequencedFileSystem):
    """Durable files below a directory, which is made at the first write."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links
        super().__init__(PosixDisk(str(self.root)))

    def real_path(self, path: str) -> Path:
        """Where a path of this file system is, for libraries that insist on opening files themselves."""
        return self.root / path

    def fingerprint(self, path: str) -> tuple[int, ...] | None:
        with translated(path):
            found = os.lstat(self.real_path(checked(path)))
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def map_file(self, path: str) -> memoryview | None:
        with translated(path):
            descriptor = regular(os.open(self.real_path(checked(path)), _READ_FLAGS), path)
        try:
            size = os.fstat(descriptor).st_size
            return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else b"")
        finally:
            os.close(descriptor)

    def forget_pages(self, path: str) -> None:
        forget_pages(self.real_path(checked(path)))

    # -- caches, checked by whoever reads them: written in place by this process alone, durable never ----------------

    def scratch_file(self, path: str, num_bytes: int) -> "ScratchFile":
        """A file of this length to write and to read as memory, made if it is missing; its directory must exist.

        Its blocks are allocated here, so that no later write finds the disk full. It is never fsynced: after a crash
        it may hold anything.

        Raises:
            ValueError: no bytes cannot be mapped.
            DiskFullError: too little space.
        """
        if num_bytes < 1:
            raise ValueError(f"{path}: expected at least 1 byte, found {num_bytes}")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with translated(path, num_bytes=num_bytes):
            descriptor = regular(os.open(self.real_path(checked(path)), flags, 0o644), path)
            try:
                found = os.fstat(descriptor).st_size
                if found != num_bytes:
                    os.ftruncate(descriptor, num_bytes)
                os.posix_fallocate(descriptor, 0, num_bytes)
                memory = mmap.mmap(descriptor, num_bytes, access=mmap.ACCESS_READ)
            except BaseException:
                os.close(descriptor)
                raise
        return ScratchFile(PosixRandomFile(descriptor, path), memory, is_new=found == 0)

    def scratch_name(self) -> str:
        """A fresh name that is never listed, and that `remove_temporaries` removes after a crash."""
        return self._disk.temporary_name()

    def move_scratch(self, source: str, target: str) -> None:
        """Renames a directory without any fsync: after a crash either name, or none, may be there.

        Raises:
            ObjectNotFoundError: there is no `source`.
            StorageError: something is at `target`.
        """
        with translated(source):
            self.real_path(checked(source)).rename(self.real_path(checked(target)))


class ScratchFile:
    """A file that one process writes and reads again; see `RealFileSystem.scratch_file`.

    Writing goes through the descriptor, not through the mapping: the kernel has to take each page that was written
    through a mapping away from all processors again, one by one, before it may write it to the disk.

    Attributes:
        memory: what the file holds, read-only.
        is_new: it did not exist before, so that it reads as zeros.
    """

    def __init__(self, file: PosixRandomFile, memory: mmap.mmap, *, is_new: bool) -> None:
        self._file = file
        self.memory: Final = memory
        self.is_new: Final = is_new
        self._closing = weakref.finalize(self, file.close)

    def write_at(self, offset: int, data: memoryview) -> None:
        """Writes bytes; any thread. Raises StorageError."""
        self._file.write_at(offset, data)

    def begin_sync(self) -> None:
        """Lets what was written go to the disk from now on, and promises nothing; see `OpenRandomFile`."""
        self._file.begin_sync(0, len(self.memory))

    def close(self) -> None:
        """Releases the descriptor; the memory stays as long as somebody holds it."""
        self._closing()


def write_out(path: Path) -> None:
    """Puts what a library has written on the disk and gives its memory back, for what is written next.

    Its name becomes durable elsewhere. Ends the process if the disk fails, like any fsync.
    """
    descriptor = os.open(path, _READ_FLAGS)
    try:
        fsync(descriptor, str(path))
    finally:
        os.close(descriptor)
    forget_pages(path)


def forget_pages(path: str | Path) -> None:
    """Gives the page cache's memory of a file back, as far as it is on the disk and nobody maps it; a hint.

    What is written next then goes into memory that is warm, where a cache that only grows takes a new page for each
    one written: on virtual machines the host has to be asked for those, which costs ten times the copy.
    """
    if not hasattr(os, "posix_fadvise"):  # macOS
        return
    with suppress(OSError):
        descriptor = os.open(path, _READ_FLAGS)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


class PosixDisk(Disk):
    """Single steps on a POSIX file system."""

    def __init__(self, root: str) -> None:
        self._root = root

    def temporary_name(self) -> str:
        return f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"

    def make_root(self) -> None:
        missing = []
        path = Path(self._root)
        while not path.exists():
            missing.append(path)
            path = path.parent
        with translated(self._root):
            for directory in reversed(missing):
                directory.mkdir(exist_ok=True)
                _sync_directory(str(directory.parent))

    def make_directory(self, path: str) -> bool:
        with translated(path):
            try:
                Path(self._at(path)).mkdir()
            except FileExistsError:
                if Path(self._at(path)).is_dir():
                    return False
                raise StorageError(f"{path}: expected a directory, found a file") from None
        return True

    def create_file(self, path: str, mode: int) -> OpenFile:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with translated(path):
            return PosixFile(os.open(self._at(path), flags, mode), path, is_new=True)

    def open_file(self, path: str) -> OpenFile:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with translated(path):
            return PosixFile(regular(os.open(self._at(path), flags, 0o644), path), path)

    def open_random_file(self, path: str, num_bytes: int) -> OpenRandomFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with translated(path, num_bytes=num_bytes):
            descriptor = regular(os.open(self._at(path), flags, 0o644), path)
            try:
                if os.fstat(descriptor).st_size != num_bytes:
                    os.ftruncate(descriptor, num_bytes)
            except OSError:
                os.close(descriptor)
                raise
        return PosixRandomFile(descriptor, path)

    def truncate(self, path: str, length: int) -> None:
        with translated(path):
            os.truncate(self._at(path), length)

    def rename(self, source: str, target: str) -> bool:
        with translated(source):
            try:
                if not self._is_directory(target):
                    Path(self._at(source)).rename(self._at(target))
                    return True
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                return False
        raise StorageError(f"{target}: expected no directory in the way of {source}, found one")

    def link(self, source: str, target: str) -> bool:
        with translated(source):
            try:
                os.link(self._at(source), self._at(target), follow_symlinks=False)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return False
        return True

    def unlink(self, path: str) -> None:
        with translated(path):
            try:
                Path(self._at(path)).unlink()
            except (FileNotFoundError, NotADirectoryError):
                return

    def remove_directory(self, path: str) -> None:
        with translated(path):
            try:
                Path(self._at(path)).rmdir()
            except FileNotFoundError:
                return

    def sync_file(self, path: str) -> None:
        descriptor = self._open(path)
        try:
            fsync(descriptor, path)
        finally:
            os.close(descriptor)

    def sync_directory(self, path: str) -> None:
        with translated(path):
            _sync_directory(self._at(path))

    def read(self, path: str, max_bytes: int | None) -> bytes:
        return reopening(lambda: self._read_once(path, max_bytes))

    def _read_once(self, path: str, max_bytes: int | None) -> bytes:
        with translated(path), open(self._open(path), "rb", buffering=0) as file:
            data = file.readall() if max_bytes is None else _read_at_most(file.fileno(), max_bytes + 1)
        if max_bytes is not None and len(data) > max_bytes:
            raise LimitExceededError(f"{path}: expected at most {max_bytes} bytes, found more")
        return data

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        return reopening(lambda: self._read_range_once(path, offset, length))

    def _read_range_once(self, path: str, offset: int, length: int) -> bytes:
        descriptor = self._open(path)
        try:
            with translated(path):
                os.lseek(descriptor, offset, os.SEEK_SET)
                return _read_at_most(descriptor, length)
        finally:
            os.close(descriptor)

    def size(self, path: str) -> int:
        with translated(path):
            found = os.lstat(self._at(path))
        if not stat.S_ISREG(found.st_mode):
            raise ObjectNotFoundError(f"{path}: expected a regular file, found another kind")
        return found.st_size

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._at(path))

    def scan(self, path: str) -> list[tuple[str, bool]]:
        try:
            with translated(path), os.scandir(self._at(path)) as entries:
                return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except ObjectNotFoundError:
            return []

    def free_bytes(self) -> int:
        path = Path(self._root)
        while not path.exists():
            path = path.parent
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _is_directory(self, path: str) -> bool:
        try:
            return stat.S_ISDIR(os.lstat(self._at(path)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _open(self, path: str) -> int:
        with translated(path):
            return regular(os.open(self._at(path), _READ_FLAGS), path)


def _read_at_most(descriptor: int, length: int) -> bytes:
    pieces: list[bytes] = []
    while length > 0 and (piece := os.read(descriptor, min(length, 16 * 1024 * 1024))):
        pieces.append(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _sync_directory(real_path: str) -> None:
    descriptor = os.open(real_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(descriptor, real_path)
    finally:
        os.close(descriptor)
