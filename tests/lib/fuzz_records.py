# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets of files that outlive a process: framed records (ledger, journals) and the log of a partial blob."""

import struct
import zlib
from collections.abc import Iterator

from fuzz_target import Target, check_refusal
from mutations import Sample

from federation.blobs.piece_log import (
    RECORD_BYTES,
    begin_record,
    checkpoint_record,
    compact_log,
    piece_record,
    read_log,
)
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import CorruptObjectError
from federation.ledger.frames import HEADER_BYTES, FramedFile, encode_record, scan_records

_DIGEST = "ab" * 32
_PATH = "frames/file"


def record_targets() -> Iterator[Target]:
    """Framed files and piece logs."""
    batches = [(b"one",), (b"two", b"three" * 9), (b"\0" * 5, b"x")]
    framed = [encode_record(b"".join(map(encode_record, batch))) for batch in batches]
    yield Target(
        name="frames",
        feed=_feed_frames,
        samples=[Sample(0, b"".join(framed)), Sample(0, framed[1] * 2), Sample(1, framed[1]), Sample(1, framed[2])],
        repair=repair_frames,
        allocated_bytes=lambda size: 32_768 + 64 * size,
    )
    pieces = {0: bytes(32), 5: bytes(range(32)), 2**40: b"\xff" * 32}
    log = begin_record(_DIGEST, 3 << 20) + piece_record(0, bytes(32)) + checkpoint_record(1) + piece_record(2, _LEAF)
    yield Target(
        name="piece-log",
        feed=_feed_piece_log,
        samples=[Sample(0, log), Sample(0, compact_log(_DIGEST, 6 << 20, pieces))],
        repair=repair_piece_log,
        allocated_bytes=lambda size: 32_768 + 64 * size,
    )


_LEAF = bytes(range(100, 132))


def repair_frames(data: bytes) -> bytes:
    """Right checksums wherever a length leads, in batches and in their members."""
    return _repair(data, depth=2)


def _repair(data: bytes, depth: int) -> bytes:
    repaired, offset = bytearray(data), 0
    while depth and offset + HEADER_BYTES <= len(repaired):
        (length,) = struct.unpack_from(">I", repaired, offset)
        start = offset + HEADER_BYTES
        if not 0 < length <= len(repaired) - start:
            break
        repaired[start : start + length] = _repair(bytes(repaired[start : start + length]), depth - 1)
        struct.pack_into(">I", repaired, offset + 4, zlib.crc32(repaired[start : start + length]))
        offset = start + length
    return bytes(repaired)


def repair_piece_log(data: bytes) -> bytes:
    """Right checksums of all whole records."""
    repaired = bytearray(data)
    for start in range(0, len(data) - RECORD_BYTES + 1, RECORD_BYTES):
        stop = start + RECORD_BYTES - 4
        struct.pack_into(">I", repaired, stop, zlib.crc32(repaired[start:stop]))
    return bytes(repaired)


def _feed_frames(variant: int, data: bytes) -> bool:
    scan = scan_records(data)
    assert b"".join(map(encode_record, scan.records)) == data[: scan.num_bytes]
    assert scan.intact == (scan.num_bytes == len(data))
    return scan.intact if variant == 0 else _open_file(data)


def _open_file(data: bytes) -> bool:
    fs = SimulatedFileSystem()
    fs.write(_PATH, data)
    try:
        records = FramedFile(fs, _PATH).records
    except CorruptObjectError as error:
        check_refusal(error)
        return False
    again = FramedFile(fs, _PATH, writable=False)
    assert again.records == records, "reading again gives others"
    assert all(records), "an empty record"
    return True


def _feed_piece_log(_: int, data: bytes) -> bool:
    log = read_log(data)
    if log is None:
        return False
    assert not set(log.durable) & set(log.doubtful)
    assert len(log.durable) + len(log.doubtful) <= log.num_pieces_logged <= len(data) // RECORD_BYTES
    assert all(len(leaf) == 32 for leaf in (*log.durable.values(), *log.doubtful.values()))
    if log.durable or log.doubtful:
        compacted = compact_log(log.digest, log.num_bytes, dict(log.durable))
        again = read_log(compacted)
        assert again is not None
        assert again.durable == log.durable
        assert again.whole
    return True
