# SPDX-License-Identifier: Apache-2.0
"""(theta, m, r) as three sharded zarr v3 arrays per version, readable by any zarr implementation.

Layout: `<base>/<run>/<fragment>/<version>/{theta,momentum,residual}`, one zarr chunk per chunk of the fragment and 8
chunks in a shard file. A version is written into a temporary directory, a whole shard at a time (96 MiB of memory), and
published by one rename.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from federation.chunks import CHUNK_ELEMENTS, ChunkGrid
from federation.durable.real import RealFileSystem, write_out
from federation.errors import CorruptObjectError, DiskFullError, StorageError
from federation.state.api import STATE_BYTES, StateChunk, StateReader, StateStore, StateWriter

CHUNKS_PER_SHARD: Final = 8
FORMAT_VERSION: Final = 1
_TEMPORARY: Final = ".tmp-"


class ZarrStateStore(StateStore):
    """Versions below a directory of a real file system."""

    def __init__(self, fs: RealFileSystem, base: str = "state") -> None:
        self._fs = fs
        self._base = base

    def create(self, run: str, fragment: int, version: int, num_elements: int) -> StateWriter:
        target = self._path(run, fragment, version)
        # The same name each time, so that what a crash left behind is found and removed here.
        temporary = f"{self._base}/{run}/{fragment}/{_TEMPORARY}{version}"
        self._fs.remove_tree(temporary)
        self._fs.mkdir(temporary)
        attributes = _attributes(run, fragment, version, num_elements)
        return _ZarrWriter(self._fs, temporary, target, attributes)

    def open(self, run: str, fragment: int, version: int) -> StateReader | None:
        path = self._path(run, fragment, version)
        if not self._fs.exists(path):
            return None
        with _damage_found(path):
            group = zarr.open_group(LocalStore(self._fs.real_path(path), read_only=True), mode="r", zarr_format=3)
            num_elements = int(group.attrs["num_elements"])
            if dict(group.attrs) != _attributes(run, fragment, version, num_elements):
                raise CorruptObjectError(f"{path}: expected version {version}, found attributes {dict(group.attrs)}")
            arrays = [group[name] for name in StateChunk._fields]
            if any(array.shape != (num_elements,) or array.dtype != np.dtype("<f4") for array in arrays):
                raise CorruptObjectError(f"{path}: expected three float32 arrays of {num_elements} elements")
            return _ZarrReader(path, num_elements, arrays)

    def delete(self, run: str, fragment: int, version: int) -> None:
        self._fs.remove_tree(self._path(run, fragment, version))

    def versions(self, run: str, fragment: int) -> list[int]:
        names = self._fs.list(f"{self._base}/{run}/{fragment}")
        return sorted(int(name) for name in names if name.isdecimal())

    def bytes_wanted(self, run: str, fragment: int, num_elements: int) -> int:
        """For the next version, written while the newest one is kept, and for that one too if there is only theta_0."""
        num_stored = ChunkGrid(num_elements).num_chunks * CHUNK_ELEMENTS  # zarr fills the last chunk up
        has_newest = any(self.versions(run, fragment))
        return (1 if has_newest else 2) * STATE_BYTES * num_stored

    def _path(self, run: str, fragment: int, version: int) -> str:
        return f"{self._base}/{run}/{fragment}/{version}"


class _ZarrWriter(StateWriter):
    """Buffers one shard per array and writes it whole, since zarr would rewrite a shard for each chunk of it."""

    def __init__(self, fs: RealFileSystem, temporary: str, target: str, attributes: dict[str, Any]) -> None:
        super().__init__(attributes["num_elements"])
        self._fs = fs
        self._temporary = temporary
        self._target = target
        shard_chunks = min(CHUNKS_PER_SHARD, self.grid.num_chunks)
        self._shard_elements = shard_chunks * CHUNK_ELEMENTS
        self._buffer = np.empty((3, min(self._shard_elements, self.grid.num_elements)), np.float32)
        self._arrays = self._create_arrays(fs.real_path(temporary), attributes)

    def _create_arrays(self, path: Path, attributes: dict[str, Any]) -> list[Any]:
        with _full_disk_found(self._temporary):
            group = zarr.create_group(LocalStore(path), zarr_format=3, attributes=attributes)
            return [
                group.create_array(
                    name,
                    shape=(self.grid.num_elements,),
                    dtype="<f4",
                    chunks=(CHUNK_ELEMENTS,),
                    shards=(self._shard_elements,),
                    # CRC-32C tells a torn chunk from a whole one. Trained parameters do not compress, and chunks of
                    # zeros are not stored.
                    compressors=[Crc32cCodec()],
                    fill_value=0.0,
                )
                for name in StateChunk._fields
            ]

    def _write(self, index: int, chunk: StateChunk) -> None:
        start, stop = self.grid.bounds(index)
        offset = start % self._shard_elements
        for row, part in zip(self._buffer, chunk, strict=True):
            row[offset : offset + part.size] = part
        if stop == self.grid.num_elements or stop % self._shard_elements == 0:
            self._flush(start - offset, stop)

    def _flush(self, start: int, stop: int) -> None:
        # The page cache holds one shard at a time of a copy that nobody is about to read, not all of it.
        for name, array, row in zip(StateChunk._fields, self._arrays, self._buffer, strict=True):
            with _full_disk_found(self._temporary):
                array[start:stop] = row[: stop - start]
            shard = self._fs.real_path(f"{self._temporary}/{name}/c/{start // self._shard_elements}")
            if shard.exists():  # zeros are not stored
                write_out(shard)

    def _commit(self, *, durable: bool) -> None:
        # A version of this number may be there after a crash between its publication and its leaf.
        self._fs.remove_tree(self._target)
        if durable:
            self._fs.publish_tree(self._temporary, self._target)
        else:
            self._fs.rename(self._temporary, self._target)

    def discard(self) -> None:
        self._fs.remove_tree(self._temporary)


class _ZarrReader(StateReader):
    """Three open arrays."""

    def __init__(self, path: str, num_elements: int, arrays: list[Any]) -> None:
        super().__init__(num_elements)
        self._path = path
        self._arrays = arrays

    def read_chunk(self, index: int) -> StateChunk:
        start, stop = self.grid.bounds(index)
        with _damage_found(self._path):
            return StateChunk(*(np.array(array[start:stop], np.float32) for array in self._arrays))


def _attributes(run: str, fragment: int, version: int, num_elements: int) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "run": run,
        "fragment": fragment,
        "version": version,
        "num_elements": num_elements,
    }


@contextmanager
def _damage_found(path: str) -> Iterator[None]:
    """Whatever zarr raises on damaged files is damage: it has no common base class for that."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise CorruptObjectError(
            f"{path}: expected a readable version, found: {type(error).__name__}: {error}",
            advice="It is a cache of ledger and blobs: remove it, and it is rebuilt.",
        ) from error


@contextmanager
def _full_disk_found(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"{path}: expected room for a new version, found none left ({error.strerror})",
                advice="Free space on this file system, or raise the quota; nothing became visible.",
            ) from error
        raise StorageError(f"{path}: expected to write a new version, found: {error.strerror}") from error
