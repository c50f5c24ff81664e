# SPDX-License-Identifier: Apache-2.0
"""The disk behind `SimulatedFileSystem`: single steps on files and directories in memory."""

from collections.abc import Callable, Iterator
from random import Random

from federation.durable.disk import TEMPORARY_PREFIX, Disk, OpenFile, OpenRandomFile, joined, parent_of
from federation.durable.simulated_nodes import Change, Node, SimulatedDirectory, SimulatedFile, survivors
from federation.errors import DiskFullError, LimitExceededError, ObjectNotFoundError, StorageError

ENDLESS_BYTES = 1 << 50


class SimulatedCrash(BaseException):
    """The machine stopped here. Not an Exception, so that no `except Exception` survives it."""


class SimulatedDisk(Disk):
    """Single steps in memory. `directories` finds a directory by its path without a walk."""

    def __init__(self, seed: int) -> None:
        self.hook: Callable[[str, str], None] | None = None
        self.operations = 0
        self.down = False
        self.room_bytes: int | None = None
        self.directories: dict[str, SimulatedDirectory] = {"": SimulatedDirectory()}
        self._seed = seed
        self._num_temporaries = 0
        self._num_changes = 0

    def after_power_loss(self) -> "SimulatedDisk":
        """The disk after a reboot; this one is down."""
        root = survivors(self.directories[""], self._pending_changes(), Random(self._seed))
        after = self._successor()
        after.directories = dict(_walk(root, ""))
        return after

    def after_kill(self) -> "SimulatedDisk":
        """The disk for the next process on the same machine; this one is down."""
        after = self._successor()
        after.directories = self.directories
        after._num_changes = self._num_changes
        return after

    def _successor(self) -> "SimulatedDisk":
        self.down = True
        after = SimulatedDisk(self._seed * 1_000_003 + self.operations + 1)
        after.room_bytes = self.room_bytes
        after._num_temporaries = self._num_temporaries
        return after

    def _pending_changes(self) -> list[Change]:
        changes = [c for directory in self.directories.values() for c in directory.pending if not c.done]
        return sorted(changes, key=lambda change: change.number)

    def write_unsynced(self, path: str, data: bytes) -> None:
        """Puts a file in place as another process would, without any fsync; missing directories are made."""
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            self.make_directory("/".join(parts[:depth]))
        self._begin("write", path)
        self._change(parent_of(path), [(path.rpartition("/")[2], SimulatedFile(data))])

    def temporary_name(self) -> str:
        self._num_temporaries += 1
        return f"{TEMPORARY_PREFIX}{self._num_temporaries}"

    def make_root(self) -> None:
        self._check_up()

    def make_directory(self, path: str) -> bool:
        self._begin("make-directory", path)
        if path in self.directories:
            return False
        directory, name = self._locate(path)
        if name in directory.names:
            raise StorageError(f"{path}: expected a directory, found a file")
        new = SimulatedDirectory()
        self._change(parent_of(path), [(name, new)])
        self.directories[path] = new
        return True

    def create_file(self, path: str, mode: int) -> OpenFile:
        self._begin("create-file", path)
        directory, name = self._locate(path)
        if name in directory.names:
            raise FileExistsError(path)
        file = SimulatedFile()
        self._change(parent_of(path), [(name, file)])
        return _OpenSimulatedFile(self, file, path)

    def open_file(self, path: str) -> OpenFile:
        directory, name = self._locate(path)
        node = directory.names.get(name)
        if node is None:
            return self.create_file(path, 0o644)
        if not isinstance(node, SimulatedFile):
            raise StorageError(f"{path}: expected a regular file, found another kind")
        return _OpenSimulatedFile(self, node, path)

    def open_random_file(self, path: str, num_bytes: int) -> OpenRandomFile:
        directory, name = self._locate(path)
        if name not in directory.names:
            self.create_file(path, 0o644)
        file = self._file(path)
        if len(file.content) != num_bytes:
            self._begin("truncate", path)
            file.resize(num_bytes)
        return _OpenSimulatedRandomFile(self, file, path)

    def truncate(self, path: str, length: int) -> None:
        self._begin("truncate", path)
        self._file(path).truncate(length)

    def rename(self, source: str, target: str) -> bool:
        self._begin("rename", source)
        source_directory, source_name = self._locate(source)
        target_directory, target_name = self._locate(target)
        node = source_directory.names.get(source_name)
        if node is None:
            raise ObjectNotFoundError(f"{source}: expected a file or directory, found none")
        replaced = target_directory.names.get(target_name)
        if replaced is node:
            return True
        if replaced is not None and (isinstance(node, SimulatedDirectory) or isinstance(replaced, SimulatedDirectory)):
            raise StorageError(f"{target}: expected no directory in the way of {source}, found one")
        if source_directory is target_directory:
            self._change(parent_of(source), [(source_name, None), (target_name, node)])
        else:
            added = self._change(parent_of(target), [(target_name, node)])
            self._change(parent_of(source), [(source_name, None)], after=added)
        if isinstance(node, SimulatedDirectory):
            self._move_directories(source, target)
        return True

    def link(self, source: str, target: str) -> bool:
        self._begin("link", source)
        file = self._file(source)
        directory, name = self._locate(target)
        if name in directory.names:
            raise FileExistsError(target)
        self._change(parent_of(target), [(name, file)])
        return True

    def unlink(self, path: str) -> None:
        self._begin("unlink", path)
        directory = self.directories.get(parent_of(path))
        name = path.rpartition("/")[2]
        if directory is None or name not in directory.names:
            return
        if isinstance(directory.names[name], SimulatedDirectory):
            raise StorageError(f"{path}: expected a file, found a directory")
        self._change(parent_of(path), [(name, None)])

    def remove_directory(self, path: str) -> None:
        self._begin("remove-directory", path)
        directory = self.directories.get(path)
        if directory is None:
            return
        if directory.names:
            raise StorageError(f"{path}: expected an empty directory, found {len(directory.names)} names in it")
        self._change(parent_of(path), [(path.rpartition("/")[2], None)])
        del self.directories[path]

    def sync_file(self, path: str) -> None:
        self._begin("sync-file", path)
        self._file(path).sync()

    def sync_directory(self, path: str) -> None:
        self._begin("sync-directory", path)
        directory = self.directories.get(path)
        if directory is None:
            raise ObjectNotFoundError(f"{path}: expected a directory, found none")
        directory.sync()

    def read(self, path: str, max_bytes: int | None) -> bytes:
        self._check_up()
        file = self._file(path)
        if max_bytes is not None and len(file.content) > max_bytes:
            raise LimitExceededError(f"{path}: expected at most {max_bytes} bytes, found more")
        return file.read()

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        self._check_up()
        return bytes(self._file(path).content[offset : offset + length])

    def size(self, path: str) -> int:
        self._check_up()
        return len(self._file(path).content)

    def exists(self, path: str) -> bool:
        self._check_up()
        if path in self.directories:
            return True
        directory = self.directories.get(parent_of(path))
        return directory is not None and path.rpartition("/")[2] in directory.names

    def scan(self, path: str) -> list[tuple[str, bool]]:
        self._check_up()
        directory = self.directories.get(path)
        if directory is None:
            return []
        return [(name, isinstance(node, SimulatedDirectory)) for name, node in sorted(directory.names.items())]

    def free_bytes(self) -> int:
        return ENDLESS_BYTES if self.room_bytes is None else self.room_bytes

    def take_room(self, path: str, num_bytes: int) -> None:
        """Counts bytes about to be written. Raises DiskFullError."""
        if self.room_bytes is None:
            return
        if num_bytes > self.room_bytes:
            raise DiskFullError(
                f"{path}: expected room for {num_bytes} more bytes, found {self.room_bytes}",
                advice="Free space on this file system, or raise the quota; nothing was half-written.",
            )
        self.room_bytes -= num_bytes

    def _check_up(self) -> None:
        if self.down:
            raise SimulatedCrash("this machine is down")

    def _begin(self, step: str, path: str) -> None:
        if self.down:
            raise SimulatedCrash("this machine is down")
        self.operations += 1
        if self.hook is not None:
            try:
                self.hook(step, path)
            except SimulatedCrash:
                self.down = True
                raise

    def _locate(self, path: str) -> tuple[SimulatedDirectory, str]:
        parent, _, name = path.rpartition("/")
        directory = self.directories.get(parent)
        if directory is None:
            raise ObjectNotFoundError(f"{path}: expected a file or directory, found none")
        return directory, name

    def _file(self, path: str) -> SimulatedFile:
        directory, name = self._locate(path)
        node = directory.names.get(name)
        if not isinstance(node, SimulatedFile):
            raise ObjectNotFoundError(f"{path}: expected a file or directory, found none")
        return node

    def _change(self, parent: str, steps: list[tuple[str, Node | None]], after: Change | None = None) -> Change:
        directory = self.directories[parent]
        self._num_changes += 1
        change = Change(self._num_changes, directory, steps, after)
        directory.add(change)
        return change

    def _move_directories(self, source: str, target: str) -> None:
        below = source + "/"
        moved = [path for path in self.directories if path == source or path.startswith(below)]
        for path in moved:
            self.directories[target + path[len(source) :]] = self.directories.pop(path)


class _OpenSimulatedFile(OpenFile):
    """A file open for appending; keeps writing to its inode whatever becomes of the name."""

    def __init__(self, disk: SimulatedDisk, file: SimulatedFile, path: str) -> None:
        self._disk = disk
        self._file = file
        self._path = path

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._disk._begin("write", self._path)
        num_bytes = data.nbytes if isinstance(data, memoryview) else len(data)
        self._disk.take_room(self._path, num_bytes)
        self._file.append(data)

    def sync(self) -> None:
        self._disk._begin("sync-file", self._path)
        self._file.sync()

    def close(self) -> None:
        """Nothing is held open."""


class _OpenSimulatedRandomFile(OpenRandomFile):
    """A file open for writing anywhere; keeps writing to its inode whatever becomes of the name."""

    def __init__(self, disk: SimulatedDisk, file: SimulatedFile, path: str) -> None:
        self._disk = disk
        self._file = file
        self._path = path

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._disk._begin("write", self._path)
        view = memoryview(data).cast("B")
        self._disk.take_room(self._path, len(view))
        self._file.overwrite(offset, view)

    def sync(self) -> None:
        self._disk._begin("sync-file", self._path)
        self._file.sync()

    def close(self) -> None:
        """Nothing is held open."""


def _walk(directory: SimulatedDirectory, path: str) -> Iterator[tuple[str, SimulatedDirectory]]:
    """Every directory from here down, with its path."""
    yield path, directory
    for name, child in directory.names.items():
        if isinstance(child, SimulatedDirectory):
            yield from _walk(child, joined(path, name))
