# SPDX-License-Identifier: Apache-2.0
"""The ledger's leaves in segment files of 256: exact bytes, length, checksum. It knows no hashes and no signatures.

What lies beyond the newest checkpoint was never promised to anybody. Opening for writing cuts it, so a batch of leaves
is in the ledger as a whole or not at all; below the checkpoint nothing may be missing or damaged.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from federation.durable.api import Appender, FileSystem
from federation.errors import CorruptObjectError, StorageError
from federation.ledger.frames import Scan, append_or_cut, encode_record, scan_records
from federation.limits import DEFAULT_LIMITS

LEAVES_PER_SEGMENT: Final = 256
"""As many as one full tile of C2SP's tiled logs has hashes."""

_CACHED_SEGMENTS: Final = 4
MAX_SEGMENT_BYTES: Final = LEAVES_PER_SEGMENT * (DEFAULT_LIMITS.max_leaf_bytes + 8)
"""Longest segment file."""


class Segments:
    """Leaves by index, in `<base>/000000.seg` and so on. The newest segments are kept in memory."""

    def __init__(self, fs: FileSystem, base: str) -> None:
        """Opens an empty or existing directory without reading it; `load` reads."""
        self._fs = fs
        self._base = base
        self._size = 0
        self._tail: list[bytes] = []
        self._tail_bytes = 0
        self._cache: OrderedDict[int, tuple[bytes, ...]] = OrderedDict()
        self._appender: Appender | None = None

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def load(self, size: int, *, writable: bool) -> Iterator[bytes]:
        """Yields the first `size` leaves, each segment read once; where `writable`, cuts what lies beyond them.

        The iterator MUST be exhausted before anything else is called.

        Raises:
            CorruptObjectError: a leaf below `size` is missing or damaged; names leaf and file.
        """
        self._size, self._tail, self._tail_bytes = size, [], 0
        self._cache.clear()
        for segment in range(_segments_for(size)):
            scan = self._scan(segment)
            expected = min(LEAVES_PER_SEGMENT, size - segment * LEAVES_PER_SEGMENT)
            self._check(segment, scan, expected)
            records = scan.records[:expected]
            if expected < LEAVES_PER_SEGMENT:
                self._tail, self._tail_bytes = list(records), scan.ends[expected - 1]
            else:
                self._remember(segment, records)
            yield from records
        if writable:
            self._cut()

    def leaf(self, index: int) -> bytes:
        """The exact bytes of one leaf. Raises IndexError beyond `size`, CorruptObjectError where the disk changed."""
        if not 0 <= index < self._size:
            raise IndexError(f"leaf: expected 0 to {self._size - 1}, found {index}")
        segment, position = divmod(index, LEAVES_PER_SEGMENT)
        if segment == self._size // LEAVES_PER_SEGMENT:
            return self._tail[position]
        return self._segment(segment)[position]

    def path_of(self, index: int) -> str:
        """The file that holds a leaf."""
        return self._path(index // LEAVES_PER_SEGMENT)

    def append(self, leaves: Sequence[bytes]) -> None:
        """Adds leaves; they are durable when this returns, with one fsync per segment file touched.

        Raises:
            DiskFullError: no space; nothing was added.
        """
        before = self._size
        try:
            for start in _pieces(self._size, len(leaves)):
                self._append_piece(leaves[start - before : start - before + LEAVES_PER_SEGMENT - len(self._tail)])
        except StorageError:
            self.truncate(before)
            raise

    def truncate(self, size: int) -> None:
        """Takes back leaves from `size` on, durably. Only for leaves that no checkpoint covers."""
        if size < self._size:
            self.close()
            for _ in self.load(size, writable=True):
                pass

    def close(self) -> None:
        """Releases the file."""
        if self._appender is not None:
            self._appender.close()
            self._appender = None

    def _append_piece(self, leaves: Sequence[bytes]) -> None:
        """Adds leaves that fit into the segment that is being filled."""
        segment = self._size // LEAVES_PER_SEGMENT
        if self._appender is None:
            self._appender = self._fs.appender(self._path(segment))
        framed = b"".join(map(encode_record, leaves))
        append_or_cut(self._fs, self._path(segment), self._appender, framed, self._tail_bytes)
        self._tail.extend(leaves)
        self._tail_bytes += len(framed)
        self._size += len(leaves)
        if len(self._tail) == LEAVES_PER_SEGMENT:
            self._remember(segment, tuple(self._tail))
            self._tail, self._tail_bytes = [], 0
            self.close()

    def _cut(self) -> None:
        """Removes what lies beyond `size`: a torn or unpromised tail, and later files."""
        segment = self._size // LEAVES_PER_SEGMENT
        for name in self._fs.list(self._base):
            if name > segment_name(segment):
                self._fs.remove(f"{self._base}/{name}")
        path = self._path(segment)
        if self._fs.exists(path) and self._fs.size(path) > self._tail_bytes:
            self._fs.truncate(path, self._tail_bytes)

    def _segment(self, segment: int) -> tuple[bytes, ...]:
        """All leaves of a full segment, from memory or disk."""
        if segment not in self._cache:
            scan = self._scan(segment)
            self._check(segment, scan, LEAVES_PER_SEGMENT)
            self._remember(segment, scan.records)
        self._cache.move_to_end(segment)
        return self._cache[segment]

    def _remember(self, segment: int, records: tuple[bytes, ...]) -> None:
        self._cache[segment] = records
        while len(self._cache) > _CACHED_SEGMENTS:
            self._cache.popitem(last=False)

    def _scan(self, segment: int) -> Scan:
        path = self._path(segment)
        return scan_records(self._fs.read(path, max_bytes=MAX_SEGMENT_BYTES) if self._fs.exists(path) else b"")

    def _check(self, segment: int, scan: Scan, expected: int) -> None:
        """Raises CorruptObjectError if fewer than `expected` leaves are intact."""
        found = len(scan.records)
        if found < expected:
            raise CorruptObjectError(
                f"leaf {segment * LEAVES_PER_SEGMENT + found} in {self._path(segment)}: expected it under a checkpoint,"
                f" found it {'missing' if scan.intact else 'damaged'}",
                advice="Restore the ledger from a backup that is newer than the last cosigned checkpoint.",
            )

    def _path(self, segment: int) -> str:
        return f"{self._base}/{segment_name(segment)}"


def segment_name(segment: int) -> str:
    """File of a segment."""
    return f"{segment:06d}.seg"


def _segments_for(size: int) -> int:
    return -(-size // LEAVES_PER_SEGMENT)


def _pieces(size: int, count: int) -> Iterator[int]:
    """Starts of the runs of leaves size .. size + count that lie in one segment each."""
    start = size
    while start < size + count:
        yield start
        start = (start // LEAVES_PER_SEGMENT + 1) * LEAVES_PER_SEGMENT
