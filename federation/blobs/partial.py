# SPDX-License-Identifier: Apache-2.0
"""A blob on its way: pieces of 1 MiB in any order, from several threads, over kills and power losses.

`<dir>/<digest>.part` holds the bytes, `<dir>/<digest>.pieces` says which of them count (`federation.blobs.piece_log`).
Each piece is hashed once, when it comes; the digest of the whole follows from these hashes without reading anything
again. Memory: the hashes, and the pieces that the callers hold.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from federation.blobs.piece_log import (
    RECORD_BYTES,
    PieceLog,
    checkpoint_record,
    compact_log,
    max_log_bytes,
    piece_record,
    read_log,
)
from federation.durable.api import FileSystem
from federation.errors import (
    DigestMismatchError,
    LimitExceededError,
    ObjectNotFoundError,
    ProtocolError,
    StorageError,
)
from federation.ids import is_digest
from federation.merkle import BLOB_PIECE_BYTES, leaf_hash, root_of

CHECKPOINT_BYTES: Final = 64 * 1024 * 1024
"""So much may have arrived without an fsync."""

PART_SUFFIX: Final = ".part"
PIECES_SUFFIX: Final = ".pieces"

_HASH_BYTES: Final = 32
_MISSING, _COMING, _ARRIVED, _DURABLE = range(4)


def num_pieces_of(num_bytes: int) -> int:
    """Pieces of a blob; the last one may be short, an empty blob has none."""
    return -(-num_bytes // BLOB_PIECE_BYTES)


class PartialBlob:
    """One unfinished blob. Threads may share it; no two objects may be at work on the same files.

    Attributes:
        digest: what the blob must have in the end, 64 lower-case hexadecimal characters.
        num_bytes: its length as announced.
        num_pieces: pieces of `BLOB_PIECE_BYTES`, the last one perhaps shorter.
    """

    def __init__(self, fs: FileSystem, base_dir: str, digest: str, num_bytes: int) -> None:
        """Goes on where a process before has stopped, or begins.

        Raises:
            ProtocolError: no digest, no length, or another length than the one with which it was begun.
            DiskFullError: no space for the two files.
        """
        if not is_digest(digest) or num_bytes < 0:
            raise ProtocolError(f"blob: expected a digest and a length from 0, found {digest!r:.80} and {num_bytes}")
        self.digest = digest
        self.num_bytes = num_bytes
        self.num_pieces = num_pieces_of(num_bytes)
        self._fs = fs
        self._base_dir = base_dir
        self._part = f"{base_dir}/{digest}{PART_SUFFIX}"
        self._sidecar = f"{base_dir}/{digest}{PIECES_SUFFIX}"
        self._states = bytearray(self.num_pieces)
        self._leaves = bytearray(_HASH_BYTES * self.num_pieces)
        # `_lock` guards what a piece changes, and is never held over an fsync. Who takes both takes `_syncing` first.
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._unsynced: list[int] = []
        self._unsynced_bytes = 0
        self._num_logged = 0
        self._num_arrived = 0
        self._ended: str | None = None
        self._open()

    @property
    def arrived(self) -> bool:
        """Whether all pieces are here, durable or not."""
        return self._num_arrived == self.num_pieces

    @property
    def ended(self) -> bool:
        """Whether it was published, thrown away or closed: nothing more can be put."""
        return self._ended is not None

    def missing(self) -> list[tuple[int, int]]:
        """Ranges of pieces (first and last included, ascending) that are not durable: see `checkpoint`."""
        with self._lock:
            states = bytes(self._states)
        return list(_ranges_without(states, bytes([_DURABLE])))

    def absent(self) -> list[tuple[int, int]]:
        """Ranges of pieces that are not here, durable or not."""
        with self._lock:
            states = bytes(self._states)
        return list(_ranges_without(states, bytes([_ARRIVED, _DURABLE])))

    def put(self, first: int, data: bytes | bytearray | memoryview) -> None:
        """Takes a piece, or several that follow each other; durable after the next `checkpoint`.

        That comes by itself every 64 MiB. A piece that is here, or that another thread is just writing, stays as it is.

        Raises:
            ProtocolError: no pieces of this blob, or not their length.
            DiskFullError: no space; what was not written yet is not here.
            ObjectNotFoundError: this object was closed, or the pieces were thrown away.
        """
        view = memoryview(data).cast("B")
        due = False
        for pieces in self._claimed(self._checked_pieces(first, view.nbytes)):
            start = (pieces.start - first) * BLOB_PIECE_BYTES
            due = self._put(pieces, view[start : start + len(pieces) * BLOB_PIECE_BYTES]) or due
        if due:
            with self._syncing:
                self._checkpoint(CHECKPOINT_BYTES)

    def checkpoint(self) -> None:
        """Makes every piece that has arrived durable, and known as such after a restart. Raises DiskFullError."""
        with self._syncing:
            self._checkpoint(1)

    def publish(self, path: str, on_verified: Callable[[str], None] = lambda _: None) -> None:
        """Gives the complete blob its final name, durably. Does nothing if that has been done.

        Args:
            path: the final name.
            on_verified: called with the present name, when the bytes are durable and have the digest.

        Raises:
            ProtocolError: pieces are missing.
            DigestMismatchError: the pieces do not have the digest; all of them were thrown away.
            ObjectNotFoundError: this object was closed, or the pieces were thrown away.
        """
        with self._syncing:
            if self._ended == f"published as {path}":
                return
            self._check_going_on()
            if not self.arrived:
                found = f"{self._num_arrived} of {self.num_pieces}"
                raise ProtocolError(f"blob {self.digest}: expected all pieces to be here, found {found}")
            self._check_root()
            self._writer.sync()  # all that counts: the sidecar has done its work
            with self._lock:
                self._states[:] = bytes([_DURABLE]) * self.num_pieces
            self._end(f"published as {path}")
            on_verified(self._part)
            self._fs.rename(self._part, path)
            self._fs.remove(
                self._sidecar
            )  # if a crash leaves it, there is no part beside it: then it counts for nothing

    def discard(self) -> None:
        """Throws away what has arrived. No `put` may be under way."""
        with self._syncing:
            if self._ended is None:
                self._throw_away()

    def close(self) -> None:
        """Releases the files without syncing; a new object goes on from there. No `put` may be under way."""
        with self._syncing:
            if self._ended is None:
                self._end("closed")

    def _checked_pieces(self, first: int, num_bytes: int) -> range:
        """Which pieces these bytes are, from the first one on."""
        pieces = range(first, first + max(num_pieces_of(num_bytes), 1))
        if first < 0 or pieces[-1] >= self.num_pieces:
            found = first if first < 0 else pieces[-1]
            raise ProtocolError(f"blob {self.digest}: expected a piece below {self.num_pieces}, found {found}")
        expected = sum(map(self._length_of, pieces))
        if num_bytes != expected:
            named = f"piece {first}" if len(pieces) == 1 else f"pieces {first} to {pieces[-1]}"
            raise ProtocolError(f"blob {self.digest}: expected {expected} bytes in {named}, found {num_bytes}")
        return pieces

    def _length_of(self, piece: int) -> int:
        return min(BLOB_PIECE_BYTES, self.num_bytes - piece * BLOB_PIECE_BYTES)

    def _claimed(self, pieces: range) -> Iterator[range]:
        """Those of the pieces that are the caller's to write, as runs; each is claimed when it is asked for."""
        at = pieces.start
        while at < pieces.stop:
            run = self._claimed_run(range(at, pieces.stop))
            if run:
                yield run
            at = run.stop + 1  # that one is not missing

    def _claimed_run(self, pieces: range) -> range:
        """The missing pieces at the beginning, which are the caller's to write from now on."""
        with self._lock:
            run = range(pieces.start, next((piece for piece in pieces if self._states[piece] != _MISSING), pieces.stop))
            if run:
                self._check_going_on()
            self._states[run.start : run.stop] = bytes([_COMING]) * len(run)
        return run

    def _put(self, pieces: range, data: memoryview) -> bool:
        """Takes claimed pieces; returns whether a checkpoint is due."""
        offset = pieces.start * BLOB_PIECE_BYTES
        try:
            starts = range(0, data.nbytes, BLOB_PIECE_BYTES)
            leaves = [leaf_hash(data[start : start + BLOB_PIECE_BYTES]) for start in starts]
            self._writer.write_at(offset, data)
            self._writer.begin_sync(offset, data.nbytes)
            return self._arrive(pieces, leaves)
        except BaseException:
            with self._lock:
                self._states[pieces.start : pieces.stop] = bytes([_MISSING]) * len(pieces)
            raise

    def _arrive(self, pieces: range, leaves: Sequence[bytes]) -> bool:
        """Counts pieces whose bytes are written; returns whether a checkpoint is due."""
        with self._lock:
            self._log.append(b"".join(map(piece_record, pieces, leaves)))
            self._num_logged += len(pieces)
            self._unsynced += pieces
            for piece, leaf in zip(pieces, leaves, strict=True):
                self._unsynced_bytes += self._length_of(piece)
                self._take(piece, leaf, _ARRIVED)
            return self._unsynced_bytes >= CHECKPOINT_BYTES

    def _take(self, piece: int, leaf: bytes, state: int) -> None:
        self._leaves[piece * _HASH_BYTES : (piece + 1) * _HASH_BYTES] = leaf
        self._states[piece] = state
        self._num_arrived += 1

    def _checkpoint(self, at_least_bytes: int) -> None:
        """Unless less than so much has arrived since the last one. The caller holds `_syncing`."""
        with self._lock:
            if self._ended is not None or self._unsynced_bytes < at_least_bytes:
                return
            pieces, num_bytes, covered = self._unsynced, self._unsynced_bytes, self._num_logged
            self._unsynced, self._unsynced_bytes = [], 0
        try:
            self._writer.sync()
            with self._lock:
                self._log.append(checkpoint_record(covered))
            self._log.sync()
        except StorageError:
            with self._lock:
                self._unsynced, self._unsynced_bytes = pieces + self._unsynced, num_bytes + self._unsynced_bytes
            raise
        with self._lock:
            for piece in pieces:
                self._states[piece] = _DURABLE

    def _check_root(self) -> None:
        starts = range(0, len(self._leaves), _HASH_BYTES)
        found = root_of(bytes(self._leaves[start : start + _HASH_BYTES]) for start in starts).hex()
        if found != self.digest:
            self._throw_away()
            raise DigestMismatchError(f"blob: expected digest {self.digest}, found {found} once all pieces were here")

    def _check_going_on(self) -> None:
        if self._ended is not None:
            raise ObjectNotFoundError(f"blob {self.digest}: expected its transfer to go on, found it {self._ended}")

    def _end(self, how: str) -> None:
        with self._lock:
            self._ended = how
        self._writer.close()
        self._log.close()

    def _throw_away(self) -> None:
        self._end("thrown away")
        discard_partial(self._fs, self._base_dir, self.digest)

    def _open(self) -> None:
        log = self._read_sidecar()
        if log is None:
            self._begin()
        else:
            self._resume(log)

    def _read_sidecar(self) -> PieceLog | None:
        """What counts of an earlier attempt; None if there is none, or if its bytes are gone."""
        try:
            part_bytes = self._fs.size(self._part)
            begun = read_log(self._fs.read_range(self._sidecar, 0, RECORD_BYTES))
            if begun is None or begun.digest != self.digest or begun.num_bytes != part_bytes:
                return None
            if begun.num_bytes != self.num_bytes:
                raise ProtocolError(
                    f"blob {self.digest}: expected {begun.num_bytes} bytes as when it was begun, found {self.num_bytes}"
                )
            return read_log(self._fs.read(self._sidecar, max_bytes=max_log_bytes(self.num_pieces)))
        except (ObjectNotFoundError, LimitExceededError):
            return None

    def _begin(self) -> None:
        # A sidecar must never speak of bytes that are not there, and the part may be a published blob's second name.
        discard_partial(self._fs, self._base_dir, self.digest)
        self._writer = self._fs.random_writer(self._part, self.num_bytes)
        self._open_log(compact_log(self.digest, self.num_bytes, {}))

    def _resume(self, log: PieceLog) -> None:
        self._writer = self._fs.random_writer(self._part, self.num_bytes)  # fsyncs what a killed process left
        good = {**log.durable, **{piece: leaf for piece, leaf in log.doubtful.items() if self._holds(piece, leaf)}}
        for piece, leaf in good.items():
            self._take(piece, leaf, _DURABLE)
        same = log.whole and not log.doubtful
        self._num_logged = log.num_pieces_logged if same else len(good)
        self._open_log(None if same else compact_log(self.digest, self.num_bytes, good))

    def _open_log(self, content: bytes | None) -> None:
        try:
            if content is not None:
                self._fs.write(self._sidecar, content)
            self._log = self._fs.appender(self._sidecar)
        except StorageError:
            self._writer.close()
            raise

    def _holds(self, piece: int, leaf: bytes) -> bool:
        if not 0 <= piece < self.num_pieces:
            return False
        data = self._fs.read_range(self._part, piece * BLOB_PIECE_BYTES, self._length_of(piece))
        return leaf_hash(data) == leaf


def partial_digests(fs: FileSystem, base_dir: str) -> list[str]:
    """Digests of the blobs that are unfinished in a directory, ascending."""
    stems = {name.removesuffix(PART_SUFFIX).removesuffix(PIECES_SUFFIX) for name in fs.list(base_dir)}
    return sorted(stem for stem in stems if is_digest(stem))


def discard_partial(fs: FileSystem, base_dir: str, digest: str) -> None:
    """Throws away an unfinished blob that no `PartialBlob` is at work on; does nothing if there is none."""
    sidecar = f"{base_dir}/{digest}{PIECES_SUFFIX}"
    if fs.exists(sidecar):
        fs.truncate(sidecar, 0)  # durably: a removal may come back, and must not vouch for bytes that do not
        fs.remove(sidecar)
    fs.remove(f"{base_dir}/{digest}{PART_SUFFIX}")


def _ranges_without(states: bytes, without: bytes) -> Iterator[tuple[int, int]]:
    """First and last index of each run of other bytes than these."""
    for run in re.finditer(b"[^" + re.escape(without) + b"]+", states, re.DOTALL):
        yield run.start(), run.end() - 1
