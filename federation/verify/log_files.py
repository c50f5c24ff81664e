# SPDX-License-Identifier: Apache-2.0
"""The ledger's files as they lie there, read so that a coordinator may append meanwhile.

Order of reading: cosigned notes, then the checkpoint, then leaves. Each was written before the one read ahead of it
could speak of it, so a running coordinator can only have more than what we compare, never less.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from federation import notes
from federation.errors import FederationError, ObjectNotFoundError, StorageError
from federation.ledger.frames import HEADER_BYTES, Scan, scan_records
from federation.ledger.segments import LEAVES_PER_SEGMENT
from federation.limits import DEFAULT_LIMITS
from federation.merkle import Tree, leaf_hash
from federation.verify.files import ReadOnlyFileSystem
from federation.verify.report import NOWHERE, Check, Findings, Place

LEDGER = "ledger"
CHECKPOINT = f"{LEDGER}/checkpoint"
SEGMENTS = f"{LEDGER}/segments"
COSIGNED = f"{LEDGER}/cosigned.seg"

_MAX_SEGMENT_BYTES = LEAVES_PER_SEGMENT * (DEFAULT_LIMITS.max_leaf_bytes + HEADER_BYTES)
_MAX_COSIGNED_BYTES = 1024**3
_INTERRUPTED = "an interrupted write leaves this too, and a coordinator that is started once cuts it"


@dataclass(frozen=True, kw_only=True)
class LogFiles:
    """What was read before the leaves.

    Attributes:
        note: the newest checkpoint, b"" if it cannot be read as one.
        size: leaves that it promises; -1 if it cannot be read.
        cosigned: stored notes with cosignatures, in their order.
    """

    note: bytes
    size: int
    root: bytes
    cosigned: tuple[bytes, ...]


def read_log_files(fs: ReadOnlyFileSystem, findings: Findings) -> LogFiles:
    """Cosigned notes and checkpoint, nothing of them verified yet."""
    cosigned = _cosigned(fs, findings)
    try:
        note = fs.read(CHECKPOINT, max_bytes=notes.MAX_NOTE_BYTES)
        checkpoint = notes.peek_checkpoint(note)
    except FederationError as error:
        findings.differ(Check.CHECKPOINT, NOWHERE, CHECKPOINT, "a signed checkpoint", error)
        return LogFiles(note=b"", size=-1, root=b"", cosigned=cosigned)
    return LogFiles(note=note, size=checkpoint.size, root=checkpoint.root, cosigned=cosigned)


def _cosigned(fs: ReadOnlyFileSystem, findings: Findings) -> tuple[bytes, ...]:
    try:
        scan = scan_records(fs.read(COSIGNED, max_bytes=_MAX_COSIGNED_BYTES))
        # The file grows while a coordinator runs; what is damaged stays so.
        scan = scan if scan.intact else scan_records(fs.read(COSIGNED, max_bytes=_MAX_COSIGNED_BYTES))
    except ObjectNotFoundError:
        return ()
    except FederationError as error:
        findings.differ(Check.COSIGNATURES, NOWHERE, COSIGNED, "a readable file", error)
        return ()
    batches = [scan_records(batch) for batch in scan.records]
    if not scan.intact or not all(batch.intact for batch in batches):
        found = f"{len(scan.records)}, then damage at byte {scan.num_bytes} ({_INTERRUPTED})"
        findings.differ(Check.COSIGNATURES, NOWHERE, COSIGNED, "whole batches of notes", found)
    return tuple(record for batch in batches for record in batch.records)


class LeafFiles:
    """The leaves under the checkpoint. `tree` covers those that `first_pass` could read."""

    def __init__(self, fs: ReadOnlyFileSystem, findings: Findings, size: int) -> None:
        self._fs = fs
        self._findings = findings
        self._promised = size
        self.tree = Tree()

    @property
    def size(self) -> int:
        """Leaves that could be read."""
        return self.tree.size

    def first_pass(self) -> Iterator[tuple[int, bytes]]:
        """Every leaf with its index, up to the checkpoint or the first damage. MUST be exhausted before `leaves`."""
        for index, data in self._read(self._promised):
            self.tree.append(leaf_hash(data))
            yield index, data
        self._check_end()

    def leaves(self) -> Iterator[tuple[int, bytes]]:
        """The same leaves again; ends with a difference if one has changed since."""
        for index, data in self._read(self.size):
            if leaf_hash(data) != self.tree.leaf(index):
                self._findings.differ(
                    Check.LEDGER, Place(leaf=index), _path(index), "the bytes read before", "others: it was changed"
                )
                return
            yield index, data

    def _read(self, size: int) -> Iterator[tuple[int, bytes]]:
        index = 0
        while size < 0 or index < size:
            records = self._segment(index).records[:LEAVES_PER_SEGMENT]
            for data in records[: size - index] if size >= 0 else records:
                yield index, data
                index += 1
            if len(records) < LEAVES_PER_SEGMENT:
                return

    def _segment(self, index: int) -> Scan:
        try:
            return scan_records(self._fs.read(_path(index), max_bytes=_MAX_SEGMENT_BYTES))
        except ObjectNotFoundError:
            return Scan(records=(), ends=(), intact=True)
        except FederationError as error:
            self._findings.differ(Check.LEDGER, Place(leaf=index), _path(index), "a readable segment", error)
            return Scan(records=(), ends=(), intact=False)

    def _check_end(self) -> None:
        """What lies behind the last leaf that was read."""
        place, path = Place(leaf=self.size), _path(self.size)
        scan = self._segment(self.size)
        here = self.size % LEAVES_PER_SEGMENT
        damaged = len(scan.records) <= here and not scan.intact
        if self.size < self._promised or (self._promised < 0 and damaged):
            found = "a damaged record" if damaged else "nothing: the tail is cut"
            self._findings.differ(Check.LEDGER, place, path, f"leaf {self.size} under the checkpoint", found)
        elif scan.records[here:] or not scan.intact:
            self._findings.note(f"{path}: records beyond the checkpoint, which promises nothing about them")
        if self.size:
            self._findings.agree(Check.LEDGER, self.size)


def has_ledger(fs: ReadOnlyFileSystem) -> bool:
    """Whether there is anything of a ledger at all."""
    try:
        return fs.exists(CHECKPOINT) or bool(fs.list(SEGMENTS))
    except StorageError:
        return False


def _path(index: int) -> str:
    return f"{SEGMENTS}/{index // LEAVES_PER_SEGMENT:06d}.seg"
