# SPDX-License-Identifier: Apache-2.0
"""A blob between two parties, as its receiver's disk shows it."""

import os
from dataclasses import dataclass

from federation.blobs.partial import num_pieces_of
from federation.blobs.piece_log import read_log
from federation.blobs.store import BlobStore
from federation.durable.real import RealFileSystem

PIECE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Travelling:
    """One blob on its way, as its receiver's disk shows it.

    Attributes:
        fs, mailbox: the receiver's directory, and its mailbox with the sender in there.
        store: base of the receiver's blob store.
    """

    fs: RealFileSystem
    mailbox: str
    store: str
    digest: str
    num_bytes: int

    @property
    def arrived(self) -> bool:
        """Whether the receiver has it, whole, and has taken it out of its mailbox."""
        return BlobStore(self.fs, self.store).has(self.digest)

    @property
    def bytes_missing(self) -> int:
        """What would have to be carried if everything stopped now; pieces count once they are written down."""
        if self.arrived or self.fs.exists(f"{self.mailbox}/in/blobs/{self.digest}"):
            return 0
        path = f"{self.mailbox}/partial/{self.digest}.pieces"
        log = read_log(self.fs.read(path)) if self.fs.exists(path) else None
        here = {*log.durable, *log.doubtful} if log else set()
        return sum(self._length_of(piece) for piece in range(num_pieces_of(self.num_bytes)) if piece not in here)

    def has(self, share: float) -> bool:
        """Whether so much of it is there."""
        return self.bytes_missing <= (1 - share) * self.num_bytes

    def read(self) -> bytes:
        """All of it, its digest checked. Raises CorruptObjectError."""
        return BlobStore(self.fs, self.store).read(self.digest)

    def _length_of(self, piece: int) -> int:
        return min(PIECE, self.num_bytes - piece * PIECE)


def noise(num_bytes: int) -> bytes:
    """Bytes that do not compress, others each time."""
    return os.urandom(num_bytes)
