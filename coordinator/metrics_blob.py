# SPDX-License-Identifier: Apache-2.0
"""What an export of metrics travels in: the ledger's exact leaves and the sites' telemetry, compressed, as one blob.

The coordinator copies bytes and understands none of them: a thousand rounds of twenty sites cost it a second beside its
work, and who asked makes the tables. Leaves come as they stand in the ledger, so that their Merkle root can be compared
with the ledger's signed checkpoint.

A zlib stream of records: one byte (H, L, T, P or E), a length (u32, big-endian), and so many bytes. H comes first: a
JSON object. L is one leaf, in order. T is a site's id, a line break, and whole lines of its telemetry; P the same of
what it was heard to do in each round (`coordinator.phases`). E comes last.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from federation.errors import LimitExceededError, MalformedPayloadError
from federation.ids import is_slug

FORMAT: Final = "hpc-federation metrics 1"
MAX_BLOB_BYTES: Final = 1024**3
MAX_BYTES: Final = 8 * 1024**3
"""Of all records of a blob."""

MAX_RECORD_BYTES: Final = 16 * 1024**2
HEADER, LEAF, TELEMETRY, PHASES, END = b"H", b"L", b"T", b"P", b"E"

_HEAD: Final = struct.Struct(">cI")
_READ_BYTES: Final = 1024**2
_LEVEL: Final = 3


class Sink(Protocol):
    """Takes bytes, like `federation.blobs.store.BlobSink`."""

    def write(self, data: bytes) -> None:
        """Appends them."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record. `kind`: HEADER, LEAF, TELEMETRY, PHASES or END."""

    kind: bytes
    data: bytes


def write_blob(
    sink: Sink,
    header: dict[str, Any],
    leaves: Iterable[bytes],
    telemetry: Iterable[tuple[str, bytes]],
    phases: Iterable[tuple[str, bytes]] = (),
) -> None:
    """Writes all records.

    Args:
        header: what else the reader may want to know; whoever asked should be in it, so that no two blobs are equal.
        telemetry, phases: site and whole lines.

    Raises:
        DiskFullError, LimitExceededError: as the sink does.
    """
    compressor = zlib.compressobj(_LEVEL)

    def put(kind: bytes, data: bytes) -> None:
        packed = compressor.compress(_HEAD.pack(kind, len(data)) + data)
        if packed:
            sink.write(packed)

    put(HEADER, json.dumps({"format": FORMAT, **header}).encode())
    for leaf in leaves:
        put(LEAF, leaf)
    for kind, found in ((TELEMETRY, telemetry), (PHASES, phases)):
        for site, lines in found:
            put(kind, f"{site}\n".encode() + lines)
    put(END, b"")
    sink.write(compressor.flush())


def read_blob(read_range: Callable[[int, int], bytes]) -> Iterator[Record]:
    """The records of a blob, the header first and without the end's.

    Args:
        read_range: gives at most so many bytes from an offset, b"" at the blob's end.

    Raises:
        MalformedPayloadError: it is no such blob, or of a later release, or ends too early.
        LimitExceededError: it or a record is longer than can be.
    """
    records = _records(_inflated(read_range))
    first = next(records, None)
    if first is None or first.kind != HEADER or _format_of(first.data) != FORMAT:
        raise MalformedPayloadError(
            f"export: expected {FORMAT!r}, found something else",
            advice="Coordinator and operator have to run releases that know the same format; update the older one.",
        )
    yield first
    for record in records:
        if record.kind == END:
            return
        yield record
    raise MalformedPayloadError("export: expected a record that ends it, found the end of the blob")


def site_and_lines(record: Record) -> tuple[str, bytes]:
    """What a record of telemetry or phases holds. Raises MalformedPayloadError."""
    site, _, lines = record.data.partition(b"\n")
    text = site.decode(errors="replace")
    if not is_slug(text):
        raise MalformedPayloadError(f"export: expected telemetry of a site, found {text!r:.80}")
    return text, lines


def _format_of(data: bytes) -> object:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return header.get("format") if isinstance(header, dict) else None


def _inflated(read_range: Callable[[int, int], bytes]) -> Iterator[bytes]:
    """The decompressed stream in pieces of bounded size."""
    inflater, offset, total = zlib.decompressobj(), 0, 0
    while not inflater.eof:
        packed = inflater.unconsumed_tail
        if not packed:
            packed = read_range(offset, _READ_BYTES)
            offset += len(packed)
        try:
            piece = inflater.decompress(packed, _READ_BYTES)
        except zlib.error as error:
            raise MalformedPayloadError(f"export: expected a zlib stream, found {error}") from error
        total += len(piece)
        if total > MAX_BYTES:
            raise LimitExceededError(f"export: expected at most {MAX_BYTES} bytes, found more")
        if piece:
            yield piece
        elif not packed:
            raise MalformedPayloadError("export: expected more bytes, found the end of the blob")


def _records(pieces: Iterator[bytes]) -> Iterator[Record]:
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        start = 0
        while (record := _record_at(buffer, start)) is not None:
            yield record
            start += _HEAD.size + len(record.data)
        del buffer[:start]


def _record_at(buffer: bytearray, start: int) -> Record | None:
    """The record that starts there, None while it is not all there."""
    if len(buffer) < start + _HEAD.size:
        return None
    kind, length = _HEAD.unpack_from(buffer, start)
    if length > MAX_RECORD_BYTES or kind not in (HEADER, LEAF, TELEMETRY, PHASES, END):
        raise LimitExceededError(f"export: expected records of {MAX_RECORD_BYTES} bytes, found {length} of {kind!r}")
    begin = start + _HEAD.size
    return Record(kind=kind, data=bytes(buffer[begin : begin + length])) if len(buffer) >= begin + length else None
