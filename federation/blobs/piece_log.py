# SPDX-License-Identifier: Apache-2.0
"""The sidecar of an unfinished blob: which pieces have arrived, with their hashes, and which of them are durable.

An append-only file of records of one length, each with a CRC-32 (big-endian; kind u8, value u64, hash 32 bytes, CRC):

    1 begin       value = bytes of the blob, hash = its digest; the first record and no other
    2 piece       value = index of the piece, hash = its leaf hash; written after the piece itself
    3 checkpoint  value = how many piece records from the first one are covered; written after an fsync of the pieces

A piece under a checkpoint is durable and never read again. The pieces beyond the last one survive the kill of a
process but perhaps no power loss: whoever opens the file again compares them with their hashes.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_FIELDS: Final = struct.Struct(">BQ32s")
RECORD_BYTES: Final = _FIELDS.size + 4
"""Length of every record."""

_BEGIN, _PIECE, _CHECKPOINT = 1, 2, 3
_NO_HASH: Final = bytes(32)


@dataclass(frozen=True, kw_only=True)
class PieceLog:
    """What a sidecar says.

    Attributes:
        digest, num_bytes: of the blob.
        durable: leaf hash by index of the pieces under a checkpoint.
        doubtful: the same of pieces beyond it, which need to be compared.
        num_pieces_logged: piece records, what a further checkpoint counts on from.
        whole: whether the file ends with its last good record.
    """

    digest: str
    num_bytes: int
    durable: Mapping[int, bytes]
    doubtful: Mapping[int, bytes]
    num_pieces_logged: int
    whole: bool


def begin_record(digest: str, num_bytes: int) -> bytes:
    """The first record."""
    return _record(_BEGIN, num_bytes, bytes.fromhex(digest))


def piece_record(piece: int, leaf: bytes) -> bytes:
    """A piece has arrived, with this leaf hash."""
    return _record(_PIECE, piece, leaf)


def checkpoint_record(num_pieces: int) -> bytes:
    """The first `num_pieces` piece records speak of durable pieces."""
    return _record(_CHECKPOINT, num_pieces, _NO_HASH)


def max_log_bytes(num_pieces: int) -> int:
    """No sidecar of a blob is longer: each piece arrives once, and a checkpoint covers one piece at least."""
    return RECORD_BYTES * (2 * num_pieces + 2)


def compact_log(digest: str, num_bytes: int, pieces: Mapping[int, bytes]) -> bytes:
    """A whole sidecar that says these pieces (index, leaf hash) are durable."""
    records = [begin_record(digest, num_bytes)]
    records += [piece_record(piece, leaf) for piece, leaf in pieces.items()]
    if pieces:
        records.append(checkpoint_record(len(pieces)))
    return b"".join(records)


def read_log(data: bytes) -> PieceLog | None:
    """Reads a sidecar up to its first record that is not whole; None if it does not even begin."""
    records = _good_records(data)
    if not records or records[0][0] != _BEGIN:
        return None
    pieces: list[tuple[int, bytes]] = []
    covered = 0
    for kind, value, leaf in records[1:]:
        if kind == _PIECE:
            pieces.append((value, leaf))
        elif kind == _CHECKPOINT:
            covered = max(covered, min(value, len(pieces)))
    durable = dict(pieces[:covered])
    return PieceLog(
        digest=records[0][2].hex(),
        num_bytes=records[0][1],
        durable=durable,
        doubtful={piece: leaf for piece, leaf in pieces[covered:] if piece not in durable},
        num_pieces_logged=len(pieces),
        whole=len(records) * RECORD_BYTES == len(data),
    )


def _good_records(data: bytes) -> list[tuple[int, int, bytes]]:
    found: list[tuple[int, int, bytes]] = []
    for start in range(0, len(data) - RECORD_BYTES + 1, RECORD_BYTES):
        fields = data[start : start + _FIELDS.size]
        if zlib.crc32(fields).to_bytes(4, "big") != data[start + _FIELDS.size : start + RECORD_BYTES]:
            break
        found.append(_FIELDS.unpack(fields))
    return found


def _record(kind: int, value: int, leaf: bytes) -> bytes:
    fields = _FIELDS.pack(kind, value, leaf)
    return fields + zlib.crc32(fields).to_bytes(4, "big")
