# SPDX-License-Identifier: Apache-2.0
"""(theta, m, r) as memory-mapped files, for the versions that are worked on: read without a copy.

Layout: `<base>/<run>/<fragment>/<version>/{theta,momentum,residual}.f32`, the real elements as little-endian fp32.
Nothing is ever fsynced: a version survives the end of its process, and a power loss may tear it, which digests tell.

The files of a deleted version are kept, mapped as they are, and written again as the next one: so the kernel neither
allocates nor zeroes nor maps pages for each commit. They stay as they are while anybody holds an array of them.

What is written is computed in memory of the store's, one chunk for each thread, that stays in the processor's cache.
"""

import threading
import weakref
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from federation.chunks import CHUNK_ELEMENTS, Float32Vector
from federation.durable.real import RealFileSystem, ScratchFile
from federation.errors import CorruptObjectError
from federation.state.api import STATE_BYTES, StateChunk, StateReader, StateStore, StateWriter

NUM_SETS: Final = 3
"""Of files of one fragment at the same time: the current version, the one before, and the next one."""

_ITEM_BYTES: Final = 4
_SUFFIX: Final = ".f32"
_Fragment: TypeAlias = tuple[str, int]
_Key: TypeAlias = tuple[str, int, int]


@dataclass(kw_only=True, eq=False)
class _Files:
    """Three mapped files of one directory, and who holds arrays of them.

    Attributes:
        is_zero: nothing but zeros was ever written to them.
    """

    path: str
    num_elements: int
    files: tuple[ScratchFile, ...]
    is_zero: bool
    lent: list[weakref.ref[npt.NDArray[np.float32]]] = field(default_factory=list)

    @classmethod
    def at(cls, fs: RealFileSystem, path: str, num_elements: int) -> "_Files":
        """Maps the files of an existing directory, made or given this length where they differ."""
        num_bytes = num_elements * _ITEM_BYTES
        files = tuple(fs.scratch_file(f"{path}/{name}{_SUFFIX}", num_bytes) for name in StateChunk._fields)
        return cls(path=path, num_elements=num_elements, files=files, is_zero=all(file.is_new for file in files))

    def write(self, start: int, chunk: StateChunk) -> None:
        """Writes consecutive elements from `start` on; any thread."""
        for file, part in zip(self.files, chunk, strict=True):
            # New files read as zeros, and take no memory as long as nothing is written.
            if not self.is_zero or part.view(np.uint32).any():
                file.write_at(start * _ITEM_BYTES, part.data)

    def close(self) -> None:
        """Releases the descriptors."""
        for file in self.files:
            file.close()

    def arrays(self) -> StateChunk:
        """f32[num_elements] each, read-only; while one of them, or a view of it, lives, `is_lent`."""
        arrays = [np.frombuffer(file.memory, "<f4") for file in self.files]
        self.lent = [ref for ref in self.lent if ref() is not None] + [weakref.ref(array) for array in arrays]
        return StateChunk(*arrays)

    @property
    def is_lent(self) -> bool:
        """Whether somebody holds an array of these files."""
        return any(ref() is not None for ref in self.lent)


class MappedStateStore(StateStore):
    """Versions below a directory of a real file system that this process alone uses. Threads may share it."""

    def __init__(self, fs: RealFileSystem, base: str = "state/.mapped") -> None:
        self._fs = fs
        self._base = base
        self._lock = threading.RLock()
        self._known: dict[_Key, _Files] = {}
        self._spare: dict[_Fragment, list[_Files]] = {}
        self._cleaned: set[_Fragment] = set()
        self._chunks: list[StateChunk] = []

    def create(self, run: str, fragment: int, version: int, num_elements: int) -> StateWriter:
        with self._lock:
            self._clean(run, fragment)
            path = self._temporary(run, fragment)
            files = self._take((run, fragment), num_elements)
            if files is not None:
                self._move(files, path)
            else:
                self._fs.mkdir(path)
                files = self._made(path, num_elements)
            return _MappedWriter(self, (run, fragment, version), files)

    def open(self, run: str, fragment: int, version: int) -> StateReader | None:
        with self._lock:
            self._clean(run, fragment)
            files = self._find((run, fragment, version))
            return None if files is None else _MappedReader(files.arrays())

    def delete(self, run: str, fragment: int, version: int) -> None:
        with self._lock:
            files = self._known.pop((run, fragment, version), None)
            if files is not None:
                self._move(files, self._temporary(run, fragment))
                self._keep(files, (run, fragment))
            else:
                self._fs.remove_tree(self._path((run, fragment, version)))

    def versions(self, run: str, fragment: int) -> list[int]:
        names = self._fs.list(f"{self._base}/{run}/{fragment}")
        return sorted(int(name) for name in names if name.isdecimal())

    def bytes_wanted(self, run: str, fragment: int, num_elements: int) -> int:
        with self._lock:
            spare = self._spare.get((run, fragment), [])
            num_missing = NUM_SETS - len(self.versions(run, fragment)) - len(spare)
            at_least = 0 if any(not files.is_lent for files in spare) else 1
        return max(num_missing, at_least) * STATE_BYTES * num_elements

    def begin_sync(self, run: str, fragment: int, version: int) -> None:
        with self._lock:
            found = self._known.get((run, fragment, version))
            files, held = (found.files, found.arrays()) if found is not None else ((), None)
        for file in files:  # outside the lock: it waits where the disk cannot follow
            file.begin_sync()
        del held  # until here nobody takes these files for another version

    def close(self) -> None:
        """Gives up the files that were kept for the next version."""
        with self._lock:
            for spare in self._spare.values():
                while spare:
                    self._remove(spare.pop())

    # -- for writers -------------------------------------------------------------------------------------------------

    def publish(self, key: _Key, files: _Files) -> None:
        """Gives written files the name of their version."""
        with self._lock:
            self.delete(*key)
            self._move(files, self._path(key))
            self._known[key] = files

    def borrow(self) -> StateChunk:
        """Memory of a whole chunk, of unknown content."""
        with self._lock:
            return self._chunks.pop() if self._chunks else StateChunk(*np.empty((3, CHUNK_ELEMENTS), np.float32))

    def take_back(self, memory: StateChunk) -> None:
        """The memory is free again."""
        with self._lock:
            self._chunks.append(memory)

    def give_back(self, key: _Key, files: _Files) -> None:
        """Files that will not become a version."""
        with self._lock:
            self._keep(files, key[:2])

    # ----------------------------------------------------------------------------------------------------------------

    def _find(self, key: _Key) -> _Files | None:
        path = self._path(key)
        if key not in self._known and self._fs.exists(path):
            sizes = [self._size(f"{path}/{name}{_SUFFIX}") for name in StateChunk._fields]
            if not sizes[0] or sizes[0] % _ITEM_BYTES or len(set(sizes)) > 1:
                raise CorruptObjectError(
                    f"{path}: expected three files of the same length, found {sizes} bytes",
                    advice="It is a cache of ledger and blobs: remove it, and it is rebuilt.",
                )
            self._known[key] = _Files.at(self._fs, path, sizes[0] // _ITEM_BYTES)
        return self._known.get(key)

    def _size(self, path: str) -> int:
        return self._fs.size(path) if self._fs.exists(path) else 0

    def _made(self, path: str, num_elements: int) -> _Files:
        try:
            return _Files.at(self._fs, path, num_elements)
        except BaseException:
            self._fs.remove_tree(path)
            raise

    def _keep(self, files: _Files, fragment: _Fragment) -> None:
        """For a version to come: one set of files that is free, and one that somebody still reads."""
        spare = self._spare.setdefault(fragment, [])
        if any(other.is_lent == files.is_lent for other in spare):
            self._remove(files)
        else:
            spare.append(files)

    def _take(self, fragment: _Fragment, num_elements: int) -> _Files | None:
        """Kept files of this length that nobody reads any more; those of another length are removed."""
        spare = self._spare.setdefault(fragment, [])
        for files in [other for other in spare if other.num_elements != num_elements]:
            spare.remove(files)
            self._remove(files)
        free = next((number for number, other in enumerate(spare) if not other.is_lent), None)
        return None if free is None else spare.pop(free)

    def _remove(self, files: _Files) -> None:
        files.close()
        self._fs.remove_tree(files.path)

    def _move(self, files: _Files, path: str) -> None:
        self._fs.move_scratch(files.path, path)
        files.path = path

    def _clean(self, run: str, fragment: int) -> None:
        """Removes what an earlier process left unfinished or spare."""
        if (run, fragment) not in self._cleaned:
            self._fs.remove_temporaries(f"{self._base}/{run}/{fragment}")
            self._cleaned.add((run, fragment))

    def _path(self, key: _Key) -> str:
        run, fragment, version = key
        return f"{self._base}/{run}/{fragment}/{version}"

    def _temporary(self, run: str, fragment: int) -> str:
        return f"{self._base}/{run}/{fragment}/{self._fs.scratch_name()}"


class _MappedWriter(StateWriter):
    """Hands out memory for chunks, and writes them to the files as they are filled."""

    def __init__(self, store: MappedStateStore, key: _Key, files: _Files) -> None:
        super().__init__(files.num_elements)
        self._store = store
        self._key = key
        self._files: _Files | None = files

    def reserve(self, index: int) -> StateChunk:
        num_real, memory = self.grid.num_real(index), self._store.borrow()
        with self._lock:
            self._reserved[index] = memory
        return StateChunk(*(array[:num_real] for array in memory))

    def filled(self, index: int) -> None:
        with self._lock:
            memory = self._reserved.pop(index)
        num_real = self.grid.num_real(index)
        self._write(index, StateChunk(*(array[:num_real] for array in memory)))
        self._store.take_back(memory)
        with self._lock:
            self._next += 1

    def _write(self, index: int, chunk: StateChunk) -> None:
        assert self._files is not None  # neither committed nor discarded
        self._files.write(self.grid.bounds(index)[0], chunk)

    def _commit(self, *, durable: bool) -> None:
        files = self._released()
        assert files is not None  # one commit
        self._store.publish(self._key, files)

    def discard(self) -> None:
        files = self._released()
        if files is not None:
            self._store.give_back(self._key, files)

    def _released(self) -> _Files | None:
        files, self._files = self._files, None
        if files is not None:
            files.is_zero = False
        self._reserved.clear()
        return files


class _MappedReader(StateReader):
    """Read-only arrays over the mapped files."""

    def __init__(self, arrays: StateChunk) -> None:
        super().__init__(arrays.theta.size)
        self._arrays = arrays

    def view_chunk(self, index: int) -> StateChunk:
        start, stop = self.grid.bounds(index)
        return StateChunk(*(array[start:stop] for array in self._arrays))

    def read_chunk(self, index: int) -> StateChunk:
        return StateChunk(*(_copied(part) for part in self.view_chunk(index)))


def _copied(part: Float32Vector) -> Float32Vector:
    return part.copy()
