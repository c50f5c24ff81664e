# SPDX-License-Identifier: Apache-2.0
"""The audited directory, for reading only: nothing in it is made, changed, synced or removed."""

from pathlib import Path
from typing import NoReturn

from federation.durable.disk import OpenFile
from federation.durable.real import PosixDisk, RealFileSystem
from federation.errors import StorageError


class ReadOnlyFileSystem(RealFileSystem):
    """A `RealFileSystem` whose every step that could change the disk raises StorageError; syncing does nothing."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._disk = _ReadOnlyDisk(str(self.root))


class _ReadOnlyDisk(PosixDisk):
    def make_root(self) -> None:
        return None

    def make_directory(self, path: str) -> bool:
        _refuse(path)

    def create_file(self, path: str, mode: int) -> OpenFile:
        _refuse(path)

    def open_file(self, path: str) -> OpenFile:
        _refuse(path)

    def truncate(self, path: str, length: int) -> None:
        _refuse(path)

    def rename(self, source: str, target: str) -> bool:
        _refuse(target)

    def link(self, source: str, target: str) -> bool:
        _refuse(target)

    def unlink(self, path: str) -> None:
        _refuse(path)

    def remove_directory(self, path: str) -> None:
        _refuse(path)

    def sync_file(self, path: str) -> None:
        return None

    def sync_directory(self, path: str) -> None:
        return None


def _refuse(path: str) -> NoReturn:
    raise StorageError(f"{path}: expected nobody to change an audited directory, found an attempt")
