# SPDX-License-Identifier: Apache-2.0
"""One side of a data set's documents as one long text of bytes, each document with a line end behind it.

A plain text file is mapped into memory and never copied: held-out lines are skipped by a list of segments, about 1% of
the file's size. What must be decoded (.gz, .zst, jsonl) is decoded once, into a cache beside the run's files in the
spool, and mapped from there: a job that is started again, and every rank on the machine, shares those pages, and memory
stays what the page cache can spare. Without a cache directory (baselines, studies) it is decoded into memory. Nobody
may cut a mapped file while a job runs.
"""

import mmap
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from federation.durable.api import FileSystem
from federation.text_split import Split, split_of
from site_agent.data_sets import DataFormat, DataSet, EmptyDataError, where
from site_agent.trainer.data_documents import decoded, documents, files_of, opened

Bytes = NDArray[np.uint8]
Segments = NDArray[np.int64]

_CACHE: Final = "data"
_CACHE_VERSION: Final = 1
_FLUSH_BYTES: Final = 4 * 1024 * 1024
_LINE_END: Final = np.frombuffer(b"\n", np.uint8)
_NOWHERE: Final = -1
"""Begin of a segment that is not in the file: the line end that its last line lacks."""


class Text(Protocol):
    """Bytes that need not be in memory."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read(self, offset: int, length: int) -> Bytes:
        """uint8[length] from `offset`; all of it is there."""


@dataclass(frozen=True, kw_only=True)
class WholeText:
    """An array, in memory or mapped."""

    data: Bytes

    @property
    def size(self) -> int:
        """Number of bytes."""
        return int(self.data.size)

    def read(self, offset: int, length: int) -> Bytes:
        """uint8[length] from `offset`."""
        return self.data[offset : offset + length]


@dataclass(frozen=True, kw_only=True)
class JoinedText:
    """Texts one after the other. `starts`: where each begins, and behind them the whole size."""

    parts: Sequence[Text]
    starts: Sequence[int]

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.starts[-1]

    def read(self, offset: int, length: int) -> Bytes:
        """uint8[length] from `offset`."""
        number = bisect_right(self.starts, offset) - 1
        found: list[Bytes] = []
        while length:
            begin = offset - self.starts[number]
            count = min(length, self.starts[number + 1] - offset)
            found.append(self.parts[number].read(begin, count))
            offset, length, number = offset + count, length - count, number + 1
        return found[0] if len(found) == 1 else np.concatenate([_LINE_END[:0], *found])


@dataclass(frozen=True, kw_only=True)
class SegmentedText:
    """Segments of a mapped file, joined. `segments`: int64[2, m], where each begins in the text and in the file."""

    data: Bytes
    segments: Segments
    size: int

    def read(self, offset: int, length: int) -> Bytes:
        """uint8[length] from `offset`."""
        starts, begins = self.segments
        number = int(np.searchsorted(starts, offset, side="right")) - 1
        found: list[Bytes] = []
        while length:
            inside = offset - int(starts[number])
            end = int(starts[number + 1]) if number + 1 < starts.size else self.size
            count = min(length, end - offset)
            source, begin = (_LINE_END, 0) if begins[number] == _NOWHERE else (self.data, int(begins[number]) + inside)
            found.append(source[begin : begin + count])
            offset, length, number = offset + count, length - count, number + 1
        return found[0] if len(found) == 1 else np.concatenate([_LINE_END[:0], *found])


def joined(parts: Iterable[Text]) -> Text:
    """Texts one after the other; empty ones are left out."""
    kept = [part for part in parts if part.size]
    if len(kept) == 1:
        return kept[0]
    return JoinedText(parts=kept, starts=(0, *accumulate(part.size for part in kept)))


@dataclass(kw_only=True)
class DataCache:
    """Decoded data and line segments in the spool, named by a digest of what they were made of: no file names.

    A changed file (path, size or time of change) is decoded anew. Ranks may build the same file at the same time: each
    writes its own and the last one stays, with the same bytes.
    """

    fs: FileSystem
    used: set[str] = field(default_factory=set)

    def bytes(self, key: str, make: Iterable[bytes]) -> Bytes:
        """The bytes that `make` gives, from the cache if they are there.

        Raises:
            DiskFullError: no space for them.
        """
        name = f"{sha256(f'{_CACHE_VERSION}/{key}'.encode()).hexdigest()}.bin"
        self.used.add(name)
        path = f"{_CACHE}/{name}"
        if not self.fs.exists(path):
            with self.fs.writer() as writer:
                for piece in make:
                    writer.write(piece)
                writer.publish(path)
        size = self.fs.size(path)
        mapped = self.fs.map_file(path) if size else memoryview(b"")
        return np.frombuffer(self.fs.read(path) if mapped is None else mapped, np.uint8)

    def prune(self) -> None:
        """Removes what was made of data that are no more as they were."""
        for name in self.fs.list(_CACHE):
            if name not in self.used:
                self.fs.remove(f"{_CACHE}/{name}")


def text_of(data: DataSet, split: Split, cache: DataCache | None, files: Sequence[Path] = ()) -> Text:
    """One side of a text or jsonl data set.

    Args:
        files: in place of those that `data.path` names.

    Raises:
        DataError: see `site_agent.data_sets`.
    """
    paths = tuple(files) or files_of(data)
    text = joined(_file_text(data, path, split, cache) for path in paths)
    if not text.size:
        raise _empty(data, split, paths)
    return text


def first_bytes(data: DataSet, split: Split, max_bytes: int, files: Sequence[Path] = ()) -> Bytes:
    """At most the first `max_bytes` of one side, in memory; no more of the files is read than that takes.

    Raises:
        DataError: see `site_agent.data_sets`.
    """
    found = bytearray()
    paths = tuple(files) or files_of(data)
    for path in paths:
        for piece in _side(data, path, split):
            found += piece
            if len(found) >= max_bytes:
                return np.frombuffer(bytes(found[:max_bytes]), np.uint8)
    if not found:
        raise _empty(data, split, paths)
    return np.frombuffer(bytes(found), np.uint8)


def _empty(data: DataSet, split: Split, paths: Sequence[Path]) -> EmptyDataError:
    """Of several files some may be empty."""
    if len(paths) == 1:
        return EmptyDataError(f"{where(data.name, paths[0])}: expected {split} documents, found none in this file")
    return EmptyDataError(f"{where(data.name)}: expected {split} documents, found none in {len(paths)} files")


def _file_text(data: DataSet, path: Path, split: Split, cache: DataCache | None) -> Text:
    if data.format is DataFormat.TEXT and path.suffix == ".txt":
        return _mapped_text(data, path, split, cache)
    pieces = _gathered(_side(data, path, split))
    if cache is None:
        return WholeText(data=np.frombuffer(b"".join(pieces), np.uint8))
    return WholeText(data=cache.bytes(_key(data, path, split), pieces))


def _key(data: DataSet, path: Path, split: Split) -> str:
    with opened(data.name, path):  # what is missing is complained about as everywhere
        stat = path.stat()
    field_name = data.text_field if data.format is DataFormat.JSONL else ""
    return f"{path}/{stat.st_size}/{stat.st_mtime_ns}/{data.format}/{field_name}/{split}"


def _side(data: DataSet, path: Path, split: Split) -> Iterator[bytes]:
    return (encoded + b"\n" for text, encoded in documents(data, path) if split_of(text) is split)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces."""
    ready = bytearray()
    for piece in pieces:
        ready += piece
        if len(ready) >= _FLUSH_BYTES:
            yield bytes(ready)
            ready.clear()
    yield bytes(ready)


# --- plain text -------------------------------------------------------------------------------------------------------


def _mapped_text(data: DataSet, path: Path, split: Split, cache: DataCache | None) -> Text:
    with opened(data.name, path) as file:
        if not path.stat().st_size:
            return WholeText(data=_LINE_END[:0])
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if cache is None:
        packed = np.frombuffer(b"".join(_segments(data, path, split)), np.int64)
    else:
        packed = cache.bytes(f"segments/{_key(data, path, split)}", _segments(data, path, split)).view(np.int64)
    segments, (length,) = packed[:-1].reshape(2, -1), packed[-1:]
    return SegmentedText(data=np.frombuffer(mapped, np.uint8), segments=segments, size=int(length))


def _segments(data: DataSet, path: Path, split: Split) -> Iterator[bytes]:
    """int64[2m + 1]: begins in the text, begins in the file, and the text's length."""
    starts, begins = array("q"), array("q")
    length = end = position = 0
    with opened(data.name, path) as file:
        for number, raw in enumerate(file, start=1):
            line = raw.rstrip(b"\r\n")
            if line and split_of(decoded(line, f"{where(data.name, path)}: line {number}")) is split:
                for begin, count in _parts(raw, line, position):
                    if begin != end or begin == _NOWHERE or not starts:
                        starts.append(length)
                        begins.append(begin)
                    length, end = length + count, begin + count
            position += len(raw)
    yield from (starts.tobytes(), begins.tobytes(), array("q", [length]).tobytes())


def _parts(raw: bytes, line: bytes, position: int) -> Iterator[tuple[int, int]]:
    """Where in the file a line and one line end behind it are: begin and number of bytes of each part."""
    yield position, len(line)
    yield (position + len(raw) - 1 if raw.endswith(b"\n") else _NOWHERE), 1
