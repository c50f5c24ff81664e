# SPDX-License-Identifier: Apache-2.0
"""Open files of a POSIX file system, and what their errors mean."""

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from federation.durable.disk import OpenFile, OpenRandomFile
from federation.errors import DiskFullError, ObjectNotFoundError, StorageError, StorageUnavailableError

_T = TypeVar("_T")

EXIT_FSYNC_FAILED: Final = 74
"""EX_IOERR of sysexits.h."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_MISSING = (errno.ENOENT, errno.ENOTDIR)
# What network file systems (NFS, Lustre, FUSE) say while their server is away or has forgotten a handle.
_UNAVAILABLE = (
    errno.ESTALE,
    errno.EIO,
    errno.EAGAIN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
)
_MAX_STALE_TRIES: Final = 3
# Nothing can be waiting to be written there: a read-only mount, or a directory that this file system cannot fsync.
_NOTHING_TO_SYNC = (errno.EROFS, errno.EINVAL, errno.EOPNOTSUPP)
_PART_BYTES: Final = 8 * 1024 * 1024
"""Of a long file: while the next part is copied into the page cache, this one is on its way to the disk."""

_WRITE_BYTES: Final = 256 * 1024
"""Of one call. For a longer one the kernel takes longer runs of free memory: such as have lain idle, which a virtual
machine may have handed back to its host, so that copying into them takes ten times as long.
"""

_SYNC_FILE_RANGE_WRITE: Final = 2
_SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None)


class PosixFile(OpenFile):
    """A file descriptor open for appending."""

    def __init__(self, descriptor: int, path: str, *, is_new: bool = False) -> None:
        """`is_new`: the file is thrown away if it cannot be finished, so that a full disk ends no process."""
        self._descriptor = descriptor
        self._path = path
        self._is_new = is_new
        self._waiting_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        if view.format != "B" or view.ndim != 1:
            view = memoryview(view.tobytes())
        done = 0
        try:
            with translated(self._path, num_bytes=len(view)):
                while done < len(view):
                    written = os.write(self._descriptor, view[done : done + _WRITE_BYTES])
                    done += written
                    self._count(written)
        except StorageError:
            if done:
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - done)
            raise

    def sync(self) -> None:
        fsync(self._descriptor, self._path, is_new=self._is_new)
        self._waiting_bytes = 0

    def close(self) -> None:
        """Network file systems may tell only here that a write did not fit."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with translated(self._path):
                os.close(descriptor)

    def _count(self, written: int) -> None:
        self._waiting_bytes += written
        if self._waiting_bytes >= _PART_BYTES:
            end = os.fstat(self._descriptor).st_size
            begin_writeback(self._descriptor, end - self._waiting_bytes, self._waiting_bytes)
            self._waiting_bytes = 0


class PosixRandomFile(OpenRandomFile):
    """A file descriptor for pwrite, which threads may call at the same time."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._path = path

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        done = 0
        with translated(self._path, num_bytes=len(view)):
            while done < len(view):
                done += os.pwrite(self._descriptor, view[done : done + _WRITE_BYTES], offset + done)

    def begin_sync(self, offset: int, length: int) -> None:
        begin_writeback(self._descriptor, offset, length)

    def sync(self) -> None:
        fsync(self._descriptor, self._path)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def translated(path: str, *, num_bytes: int = 0) -> Iterator[None]:
    """Turns an OSError into one of our own; FileExistsError passes, because callers act upon it."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(
                f"{path}: expected room for {num_bytes} more bytes, found none left ({error.strerror})",
                advice="Free space on this file system, or raise the quota; nothing was half-written.",
            ) from error
        if error.errno in _MISSING:
            raise ObjectNotFoundError(f"{path}: expected a file or directory, found none") from error
        if error.errno in _UNAVAILABLE:
            raise StorageUnavailableError(
                f"{path}: expected to use it, found: {error.strerror}",
                advice="The file system does not answer as it should; it is tried again.",
            ) from error
        raise StorageError(f"{path}: expected to use it, found: {error.strerror}") from error


def reopening(action: Callable[[], _T]) -> _T:
    """Does something that opens a file by its name, again if its handle was stale: the name then gives a new one.

    Raises:
        StorageUnavailableError: it is stale every time.
    """
    for _ in range(_MAX_STALE_TRIES - 1):
        try:
            return action()
        except StorageUnavailableError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno != errno.ESTALE:
                raise
    return action()


def regular(descriptor: int, path: str) -> int:
    """The descriptor of a regular file; that of anything else is closed. Raises StorageError."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StorageError(f"{path}: expected a regular file, found another kind")
    return descriptor


def begin_writeback(descriptor: int, offset: int, length: int) -> None:
    """sync_file_range(2), which Python lacks: dirty pages go to the disk now instead of all at once at the fsync.

    A hint and no more: what it returns says nothing about durability, so that failures are left to the fsync.
    """
    if _SYNC_FILE_RANGE is not None:
        _SYNC_FILE_RANGE(descriptor, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)


def fsync(descriptor: int, path: str, *, is_new: bool = False) -> None:
    """fsync, or the end of this process: nothing that follows a failure could be believed.

    Raises:
        DiskFullError: a quota or disk is full, as a network file system may tell only now, and the file `is_new`: its
            writer throws it away, so that nothing needs to be believed.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _NOTHING_TO_SYNC:
            return
        if is_new and error.errno in _FULL:
            with translated(path):
                raise
        print(f"fsync of {path} failed ({error.strerror}): this process ends, a restart will replay.", file=sys.stderr)
        sys.stderr.flush()
        os._exit(EXIT_FSYNC_FAILED)
