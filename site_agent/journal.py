# SPDX-License-Identifier: Apache-2.0
"""The agent's private journal: what this site decided, on disk before it is acted upon.

An append-only framed file (type name, line end, JSON); one batch is one fsync, all or none. State is a fold over the
entries (`agent_state.fold`), so that a killed agent continues from its own intents. The journal is never sent to
anybody and is no evidence for others; its promise to this site is that no second digest is ever signed.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, get_args

from federation.durable.api import FileSystem
from federation.errors import CorruptObjectError
from federation.ledger.frames import HEADER_BYTES, FramedFile, scan_records
from site_agent import json_records
from site_agent.agent_state import AgentState, fold
from site_agent.entries import Entry

_TYPES: Final[Mapping[str, type[Any]]] = MappingProxyType({kind.__name__: kind for kind in get_args(Entry)})


class Journal:
    """The journal file and the state that it folds to."""

    def __init__(self, fs: FileSystem, path: str = "state/journal") -> None:
        """Reads and folds the whole file; a torn last batch, which was never acted upon, is cut off.

        Raises:
            CorruptObjectError: damage with whole records behind it: what was signed must not be forgotten.
        """
        if fs.exists(path):
            _check_only_torn(path, fs.read(path))
        self._file = FramedFile(fs, path)
        self.state = fold(_decode(record, path) for record in self._file.records)
        self._file.records.clear()  # folded; a long run's journal need not stay in memory

    def append(self, entries: Sequence[Entry]) -> AgentState:
        """Makes one batch durable and folds it: what it decides may be acted upon when this returns."""
        if entries:
            state = fold(entries, self.state)  # first, so that an impossible entry never reaches the disk
            self._file.extend(_encode(entry) for entry in entries)
            self._file.records.clear()
            self.state = state
        return self.state

    def close(self) -> None:
        """Releases the file."""
        self._file.close()


def read_state(fs: FileSystem, path: str) -> AgentState:
    """The state that the journal folds to, for commands beside a running agent; changes nothing on disk.

    Raises:
        CorruptObjectError: as for `Journal`.
    """
    return fold(_decode(record, path) for record in FramedFile(fs, path, writable=False).records)


def _encode(entry: Entry) -> bytes:
    return type(entry).__name__.encode() + b"\n" + json_records.encode(entry)


def _decode(record: bytes, path: str) -> Entry:
    name, _, data = record.partition(b"\n")
    kind = _TYPES.get(name.decode(errors="replace"))
    if kind is None:
        raise CorruptObjectError(
            f"{path}: expected entries that this release knows, found {name!r:.60}",
            advice="Run the release that wrote this journal, or a newer one.",
        )
    entry: Entry = json_records.decode(kind, data, path)
    return entry


def _check_only_torn(path: str, content: bytes) -> None:
    """Raises CorruptObjectError if a whole batch starts anywhere behind the first damaged byte.

    Stricter than the framing's own check, which trusts the damaged record's length: here nothing else (no checkpoint)
    would tell that the file was longer. A record inside a torn batch is no batch: what it holds is not made of records.
    """
    scan = scan_records(content)
    for offset in range(scan.num_bytes + 1, len(content) - HEADER_BYTES):
        batch = _record_at(content, offset)
        if batch and scan_records(batch).intact:
            raise CorruptObjectError(
                f"{path}: expected whole records, found damage at byte {scan.num_bytes} of {len(content)}",
                advice="Restore the state directory from a copy; with an older one this site could sign twice.",
            )


def _record_at(content: bytes, offset: int) -> bytes:
    """The content of the whole record that starts there, b"" if none does."""
    length, checksum = struct.unpack_from(">II", content, offset)
    start = offset + HEADER_BYTES
    if length > len(content) - start:
        return b""
    data = content[start : start + length]
    return data if zlib.crc32(data) == checksum else b""
