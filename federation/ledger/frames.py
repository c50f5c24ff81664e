# SPDX-License-Identifier: Apache-2.0
"""Records in an append-only file: u32 length, u32 CRC-32 (both big-endian), then the bytes.

An empty record is not allowed: its header would be eight zero bytes, which is what some file systems leave behind a
crash. The checksum finds accidents; forgery is found by whoever knows the digest of the content.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from federation.durable.api import Appender, FileSystem
from federation.errors import CorruptObjectError, LimitExceededError

_HEADER: Final = struct.Struct(">II")
HEADER_BYTES: Final = _HEADER.size

MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
"""Longest record that is written or believed."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a file holds.

    Attributes:
        records: the intact records from its start, in order.
        ends: offset in bytes behind each of them.
        intact: whether nothing follows the last one.
    """

    records: tuple[bytes, ...]
    ends: tuple[int, ...]
    intact: bool

    @property
    def num_bytes(self) -> int:
        """Length of the intact part."""
        return self.ends[-1] if self.ends else 0


def encode_record(data: bytes) -> bytes:
    """One record as it stands in the file.

    Raises:
        LimitExceededError: `data` is empty or longer than `MAX_RECORD_BYTES`.
    """
    if not 0 < len(data) <= MAX_RECORD_BYTES:
        raise LimitExceededError(f"record: expected 1 to {MAX_RECORD_BYTES} bytes, found {len(data)}")
    return _HEADER.pack(len(data), zlib.crc32(data)) + data


def scan_records(content: bytes) -> Scan:
    """Reads records up to the first one that is cut off or damaged."""
    records: list[bytes] = []
    ends: list[int] = []
    offset = 0
    while (record := _record_at(content, offset)) is not None:
        records.append(record)
        offset += HEADER_BYTES + len(record)
        ends.append(offset)
    return Scan(records=tuple(records), ends=tuple(ends), intact=offset == len(content))


def _record_at(content: bytes, offset: int) -> bytes | None:
    """The record that starts there; None if it is cut off or damaged."""
    if offset + HEADER_BYTES > len(content):
        return None
    length, checksum = _HEADER.unpack_from(content, offset)
    start = offset + HEADER_BYTES
    if length == 0 or start + length > len(content):
        return None
    data = content[start : start + length]
    return data if zlib.crc32(data) == checksum else None


class FramedFile:
    """An append-only file of records, written in batches; a batch is durable when `extend` returns, or not there.

    A batch is one framed record that holds its members' frames, and is synced before the next one is written. So a
    crash can spoil only the last batch, which is cut on opening; damage that an intact batch follows is refused.
    """

    def __init__(self, fs: FileSystem, path: str, *, writable: bool = True) -> None:
        """Reads the file, which need not exist.

        Raises:
            CorruptObjectError: a batch in front of others is damaged.
        """
        self._fs = fs
        self._path = path
        self._writable = writable
        self._appender: Appender | None = None
        content = fs.read(path) if fs.exists(path) else b""
        scan = scan_records(content)
        _check_only_tail_torn(path, content, scan)
        self.records = [record for batch in scan.records for record in _members(path, batch)]
        """All records, in order."""
        self._num_bytes = scan.num_bytes
        if writable and not scan.intact:
            fs.truncate(path, scan.num_bytes)

    def append(self, data: bytes) -> None:
        """Adds one record. See `extend`."""
        self.extend((data,))

    def extend(self, records: Iterable[bytes]) -> None:
        """Adds records with one fsync, all or none.

        Raises:
            LimitExceededError: a record is empty, or the batch is longer than `MAX_RECORD_BYTES`.
            DiskFullError: no space; the file is as before.
        """
        if not self._writable:
            raise ValueError(f"{self._path} was opened for reading")
        added = [bytes(data) for data in records]
        if not added:
            return
        framed = encode_record(b"".join(map(encode_record, added)))
        if self._appender is None:
            self._appender = self._fs.appender(self._path)
        append_or_cut(self._fs, self._path, self._appender, framed, self._num_bytes)
        self.records.extend(added)
        self._num_bytes += len(framed)

    def close(self) -> None:
        """Releases the file."""
        if self._appender is not None:
            self._appender.close()
            self._appender = None


def append_or_cut(fs: FileSystem, path: str, appender: Appender, framed: bytes, length: int) -> None:
    """Appends and syncs; if that fails (no space), cuts the file back to the `length` bytes it had.

    Raises:
        StorageError: what made it fail.
    """
    try:
        appender.append(framed)
        appender.sync()
    except Exception:
        fs.truncate(path, length)
        raise


def _check_only_tail_torn(path: str, content: bytes, scan: Scan) -> None:
    """Raises CorruptObjectError if an intact record follows the damaged one."""
    offset = scan.num_bytes
    if scan.intact or offset + HEADER_BYTES > len(content):
        return
    length, _ = _HEADER.unpack_from(content, offset)
    if length and _record_at(content, offset + HEADER_BYTES + length) is not None:
        raise CorruptObjectError(
            f"{path}: expected an intact record at byte {offset}, found a damaged one in front of others",
            advice="The disk or another program changed this file; restore it from a copy.",
        )


def _members(path: str, batch: bytes) -> tuple[bytes, ...]:
    scan = scan_records(batch)
    if not scan.intact:
        raise CorruptObjectError(f"{path}: expected a batch of whole records, found one with other bytes")
    return scan.records
