# SPDX-License-Identifier: Apache-2.0
"""Where an export goes: a directory or a file that appears under its name when all of it is durable, or not at all."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.durable import BlobWriter
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, DiskFullError, StorageError, UsageError

COLUMNS_FILE: Final = "columns.json"
"""In every directory that this package writes; a directory without it is not one that may be replaced."""

_BUFFER_BYTES: Final = 1024**2


class Output:
    """A file being written, as libraries like it; text is encoded as UTF-8."""

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer
        self._buffer = bytearray()
        self._position = 0
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview | str) -> int:
        """Appends bytes, or text. Raises DiskFullError."""
        raw = data.encode() if isinstance(data, str) else bytes(data)
        self._buffer += raw
        self._position += len(raw)
        if len(self._buffer) >= _BUFFER_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Hands what is buffered to the operating system. Raises DiskFullError."""
        waiting, self._buffer = self._buffer, bytearray()
        self._writer.write(waiting)

    def tell(self) -> int:
        """Bytes so far."""
        return self._position

    def close(self) -> None:
        """For libraries; the file is complete when its `with` block is left."""
        self.flush()

    def readable(self) -> bool:
        """It is not."""
        return False

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is not."""
        return False


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A directory being made. `path`: its name until then, within `fs`."""

    fs: RealFileSystem
    path: str

    @contextmanager
    def file(self, name: str) -> Iterator[Output]:
        """A new file in it, complete when the block is left."""
        with _written(self.fs, f"{self.path}/{name}") as output:
            yield output


@contextmanager
def _written(fs: RealFileSystem, path: str) -> Iterator[Output]:
    with fs.writer() as writer:
        output = Output(writer)
        yield output
        output.flush()
        writer.publish(path)


@contextmanager
def new_file(out: Path, overwrite: bool) -> Iterator[Output]:
    """A file that appears when the block is left without an exception.

    Raises:
        UsageError: see `check`.
        DiskFullError, StorageError: it cannot be written; what was there before is still there.
    """
    with _explained(out):
        fs = RealFileSystem(out.resolve().parent)
        with _written(fs, out.name) as output:
            yield output
            check(out, overwrite, is_file=True)


@contextmanager
def new_directory(out: Path, overwrite: bool) -> Iterator[Folder]:
    """A directory that appears when the block is left without an exception, in place of an older one if asked to.

    Raises:
        UsageError: see `check`.
        DiskFullError, StorageError: it cannot be written; what was there before is still there.
    """
    with _explained(out), ExitStack() as failed:
        fs = RealFileSystem(out.resolve().parent)
        folder = Folder(fs=fs, path=fs.scratch_name())
        failed.callback(fs.remove_tree, folder.path)
        yield folder
        check(out, overwrite, is_file=False)
        _put_in_place(fs, folder.path, out.name)
        failed.pop_all()


def _put_in_place(fs: RealFileSystem, made: str, name: str) -> None:
    if not fs.exists(name):
        fs.publish_tree(made, name)
        return
    before = fs.scratch_name()
    fs.rename(name, before)
    try:
        fs.publish_tree(made, name)
    except StorageError:
        fs.rename(before, name)
        raise
    fs.remove_tree(before)


def check(out: Path, overwrite: bool, *, is_file: bool) -> None:
    """Whether an export may appear there. Replaced are only files, and directories that are nothing but an export.

    Raises:
        UsageError: something is there that is not to be replaced, or nothing can be.
    """
    kind = "file" if is_file else "directory"
    _check_parent(out)
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise UsageError(
            f"{out}: expected a new {kind}, found something of that name",
            advice="Choose another --out, or say --overwrite to replace an earlier export.",
        )
    if is_file != (out.is_file() and not out.is_symlink()) or not (is_file or _is_export(out)):
        raise UsageError(
            f"{out}: expected an earlier export as a {kind} to overwrite, found something else",
            advice="Only what an export wrote is replaced. Choose another --out, or remove it yourself.",
        )


def _check_parent(out: Path) -> None:
    parent = out.resolve().parent
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"{out}: expected a directory that you may write to, found {parent}",
            advice="Choose another --out.",
        )


def _is_export(directory: Path) -> bool:
    if not directory.is_dir() or directory.is_symlink() or not (directory / COLUMNS_FILE).is_file():
        return False
    return all(entry.is_file() and _is_ours(entry.name) for entry in directory.iterdir())


def _is_ours(name: str) -> bool:
    return name == COLUMNS_FILE or ".tfevents." in name or name.endswith((".parquet", ".csv", ".jsonl"))


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Errors of the file system in the words of who asked: they name files that are gone by now."""
    try:
        yield
    except ConfigError:
        raise
    except DiskFullError as error:
        raise DiskFullError(
            f"{out}: expected room for the export, found none left on its file system",
            advice="Nothing was written. Free space, or choose an --out on another file system.",
        ) from error
    except StorageError as error:
        raise StorageError(f"{out}: expected to write there, found: {error}", advice="Nothing was written.") from error
