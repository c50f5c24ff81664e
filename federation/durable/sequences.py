# SPDX-License-Identifier: Apache-2.0
"""The order of single steps that makes each operation of `FileSystem` durable; the same for every backend.

Content is fsynced before its name appears, and a name's directory is fsynced before an operation returns. Finding
something in place proves nothing after a killed process (the page cache outlives it, a power loss would not spare it),
so the paths that find a file or directory already there fsync it as well.
"""

from collections.abc import Iterable

from federation.durable.api import Appender, BlobWriter, FileSystem, RandomWriter
from federation.durable.disk import (
    TEMPORARY_PREFIX,
    Disk,
    OpenFile,
    OpenRandomFile,
    checked,
    checked_directory,
    joined,
    parent_of,
)
from federation.errors import ObjectNotFoundError, StorageError

COPY_PIECE_BYTES = 1024 * 1024
_DEFAULT_MODE = 0o644


class SequencedFileSystem(FileSystem):
    """A `FileSystem` on top of a `Disk`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        # Directories whose own names this process knows to be durable, up to the root.
        self._durable_directories: set[str] = set()

    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        return self._disk.read(checked(path), max_bytes)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError(f"{path}: expected offset and length from 0, found {offset} and {length}")
        return self._disk.read_range(checked(path), offset, length)

    def size(self, path: str) -> int:
        return self._disk.size(checked(path))

    def exists(self, path: str) -> bool:
        return self._disk.exists(checked_directory(path))

    def list(self, path: str) -> list[str]:
        names = self._disk.scan(checked_directory(path))
        return [name for name, _ in names if not name.startswith(TEMPORARY_PREFIX)]

    def write(self, path: str, data: bytes | bytearray | memoryview) -> None:
        temporary = self._write_temporary(checked(path), data, _DEFAULT_MODE)
        self._publish(temporary, path)

    def place(self, path: str, data: bytes) -> None:
        temporary = self._write_temporary(checked(path), data, _DEFAULT_MODE, sync=False)
        if not self._disk.rename(temporary, path):
            self._disk.unlink(temporary)
            raise StorageError(f"{path}: expected the device of its directory, found another one")

    def stage(self, path: str, data: bytes) -> None:
        self._ensure_directory(parent_of(checked(path)))
        self._disk.unlink(path)  # torn, of a crash before
        file = self._disk.create_file(path, _DEFAULT_MODE)
        try:
            file.write(data)
            file.sync()
            file.close()
        except StorageError:
            self._disk.unlink(path)
            raise
        finally:
            file.close()
        self._disk.sync_directory(parent_of(path))

    def create(self, path: str, data: bytes, *, mode: int = _DEFAULT_MODE) -> bool:
        if self._disk.exists(checked(path)):
            self._sync_name(path)
            return False
        temporary = self._write_temporary(path, data, mode)
        try:
            created = self._link_or_reserve(temporary, path, mode)
        finally:
            self._disk.unlink(temporary)
        self._disk.sync_directory(parent_of(path))
        return created

    def writer(self) -> BlobWriter:
        self._ensure_directory("")
        temporary = self._disk.temporary_name()
        return _TemporaryWriter(self, temporary, self._disk.create_file(temporary, _DEFAULT_MODE))

    def appender(self, path: str) -> Appender:
        """Opens (or makes) an append-only file; what it holds is durable when this returns."""
        self._ensure_directory(parent_of(checked(path)))
        file = self._disk.open_file(path)
        file.sync()
        self._disk.sync_directory(parent_of(path))
        return _FileAppender(file)

    def random_writer(self, path: str, num_bytes: int) -> RandomWriter:
        if num_bytes < 0:
            raise ValueError(f"{path}: expected a length from 0, found {num_bytes}")
        self._ensure_directory(parent_of(checked(path)))
        file = self._disk.open_random_file(path, num_bytes)
        file.sync()
        self._disk.sync_directory(parent_of(path))
        return _FixedLengthWriter(file, path, num_bytes)

    def truncate(self, path: str, length: int) -> None:
        size = self._disk.size(checked(path))
        if not 0 <= length <= size:
            raise ValueError(f"{path}: expected a length from 0 to {size}, found {length}")
        self._disk.truncate(path, length)
        self._disk.sync_file(path)

    def link(self, source: str, target: str, *, sync_name: bool = True) -> None:
        self._disk.sync_file(checked(source))
        self._ensure_directory(parent_of(checked(target)))
        if not self._disk.exists(target):
            try:
                if not self._disk.link(source, target):
                    self._copy(source, target)
            except FileExistsError:
                pass  # somebody else was first, and an existing target stays
        if sync_name:
            self._disk.sync_directory(parent_of(target))

    def rename(self, source: str, target: str, *, sync_names: bool = True) -> None:
        self._ensure_directory(parent_of(checked(target)))
        if not self._disk.rename(checked(source), target):
            raise StorageError(f"{source}: expected the device of {target}, found another one")
        if source != target and self._disk.exists(source):
            self._disk.unlink(source)  # two names of one file: POSIX then renames nothing (rename(2))
        self._forget(source)
        self._forget(target)
        if sync_names:
            self._sync_parents(source, target)

    def remove(self, path: str) -> None:
        self._disk.unlink(checked(path))

    def mkdir(self, path: str) -> bool:
        self._ensure_directory(parent_of(checked(path)))
        new = self._disk.make_directory(path)
        self._disk.sync_directory(parent_of(path))
        self._durable_directories.add(path)
        return new

    def publish_tree(self, source: str, target: str) -> None:
        if self._disk.exists(checked(target)):
            raise StorageError(f"{target}: expected nothing there, found a file or directory")
        if not self._disk.exists(checked(source)):
            raise ObjectNotFoundError(f"{source}: expected a directory, found nothing")
        self._sync_tree(source)
        self.rename(source, target)

    def remove_tree(self, path: str) -> None:
        if not self._disk.exists(checked(path)):
            return
        # Renamed out of sight first: a crash in the middle must not leave half a directory under its name.
        doomed = joined(parent_of(path), self._disk.temporary_name())
        self._disk.rename(path, doomed)
        self._disk.sync_directory(parent_of(path))
        self._forget(path)
        self._remove_all(doomed)

    def free_bytes(self) -> int:
        return self._disk.free_bytes()

    def sync_paths(self, paths: Iterable[str]) -> None:
        """fsyncs existing files and their names. Raises ObjectNotFoundError."""
        directories: dict[str, None] = {}
        for path in paths:
            self._disk.sync_file(checked(path))
            directories[parent_of(path)] = None
        for directory in directories:
            self._ensure_directory(directory)
            self._disk.sync_directory(directory)

    def remove_temporaries(self, path: str) -> int:
        """Removes what killed processes left unfinished in one directory; returns how many names.

        Only for the process that owns the directory: a temporary of a living one looks the same.
        """
        found = [(n, d) for n, d in self._disk.scan(checked_directory(path)) if n.startswith(TEMPORARY_PREFIX)]
        for name, is_directory in found:
            if is_directory:
                self._remove_all(joined(path, name))
            else:
                self._disk.unlink(joined(path, name))
        return len(found)

    def _ensure_directory(self, path: str) -> None:
        if path in self._durable_directories:
            return
        if path == "":
            self._disk.make_root()
        else:
            parent = parent_of(path)
            self._ensure_directory(parent)
            self._disk.make_directory(path)
            self._disk.sync_directory(parent)
        self._durable_directories.add(path)

    def _forget(self, path: str) -> None:
        below = path + "/"
        known = tuple(self._durable_directories)  # other threads may add to it
        self._durable_directories.difference_update(d for d in known if d == path or d.startswith(below))

    def _write_temporary(self, path: str, data: bytes | bytearray | memoryview, mode: int, *, sync: bool = True) -> str:
        """Writes and, with `sync`, fsyncs a temporary beside `path`; returns its path."""
        directory = parent_of(path)
        temporary = joined(directory, self._disk.temporary_name())
        self._ensure_directory(directory)
        try:
            file = self._disk.create_file(temporary, mode)
        except ObjectNotFoundError:  # another process removed a directory that we had seen
            self._durable_directories.clear()
            self._ensure_directory(directory)
            file = self._disk.create_file(temporary, mode)
        try:
            file.write(data)
            if sync:
                file.sync()
            file.close()  # before it gets its name: this may be where a file system tells that it has failed
        except StorageError:
            self._disk.unlink(temporary)
            raise
        finally:
            file.close()
        return temporary

    def _publish(self, temporary: str, target: str) -> None:
        self._ensure_directory(parent_of(target))
        if self._disk.rename(temporary, target):
            self._disk.sync_directory(parent_of(target))
            return
        copy = self._copied_beside(temporary, target)
        self._disk.rename(copy, target)
        self._disk.unlink(temporary)
        self._disk.sync_directory(parent_of(target))

    def _link_or_reserve(self, temporary: str, path: str, mode: int) -> bool:
        try:
            if not self._disk.link(temporary, path):
                # Without hard links, an empty file wins the name; a crash here leaves it empty.
                self._disk.create_file(path, mode).close()
                self._disk.rename(temporary, path)
        except FileExistsError:
            return False
        return True

    def _copy(self, source: str, target: str) -> None:
        self._disk.rename(self._copied_beside(source, target), target)

    def _copied_beside(self, source: str, target: str) -> str:
        """Copies `source` to a fsynced temporary beside `target`; returns its path."""
        temporary = joined(parent_of(target), self._disk.temporary_name())
        file = self._disk.create_file(temporary, _DEFAULT_MODE)
        try:
            offset = 0
            while piece := self._disk.read_range(source, offset, COPY_PIECE_BYTES):
                file.write(piece)
                offset += len(piece)
            file.sync()
            file.close()
        except StorageError:
            self._disk.unlink(temporary)
            raise
        finally:
            file.close()
        return temporary

    def _sync_name(self, path: str) -> None:
        self._ensure_directory(parent_of(path))
        self._disk.sync_directory(parent_of(path))

    def _sync_parents(self, source: str, target: str) -> None:
        # The new name first: if a crash comes between, both names are there rather than none.
        self._disk.sync_directory(parent_of(target))
        if parent_of(source) != parent_of(target):
            self._disk.sync_directory(parent_of(source))

    def _sync_tree(self, path: str) -> None:
        for name, is_directory in self._disk.scan(path):
            child = joined(path, name)
            if is_directory:
                self._sync_tree(child)
            else:
                self._disk.sync_file(child)
        self._disk.sync_directory(path)

    def _remove_all(self, path: str) -> None:
        for name, is_directory in self._disk.scan(path):
            child = joined(path, name)
            if is_directory:
                self._remove_all(child)
            else:
                self._disk.unlink(child)
        self._disk.remove_directory(path)


class _TemporaryWriter(BlobWriter):
    """A temporary in the root directory, until it is published or discarded."""

    def __init__(self, files: SequencedFileSystem, temporary: str, file: OpenFile) -> None:
        self._files = files
        self._temporary = temporary
        self._file: OpenFile | None = file

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._file is None:
            raise ValueError("writer: expected one that is open, found it published or discarded")
        self._file.write(data)

    def publish(self, path: str) -> None:
        if self._file is None:
            raise ValueError("writer: expected one that is open, found it published or discarded")
        checked(path)
        self._file.sync()
        self._file.close()
        self._files._publish(self._temporary, path)
        self._file = None

    def discard(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        self._files._disk.unlink(self._temporary)


class _FileAppender(Appender):
    """An append-only file of a `Disk`."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file

    def append(self, data: bytes) -> None:
        self._file.write(data)

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class _FixedLengthWriter(RandomWriter):
    """A file of a `Disk` that is written within its length only."""

    def __init__(self, file: OpenRandomFile, path: str, num_bytes: int) -> None:
        self._file = file
        self._path = path
        self._num_bytes = num_bytes

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        end = offset + memoryview(data).nbytes
        if offset < 0 or end > self._num_bytes:
            raise ValueError(f"{self._path}: expected to stay in 0 to {self._num_bytes}, found {offset} to {end}")
        self._file.write_at(offset, data)

    def begin_sync(self, offset: int, length: int) -> None:
        self._file.begin_sync(offset, length)

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()
