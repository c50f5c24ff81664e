# SPDX-License-Identifier: Apache-2.0
"""What the ledger and a site's copy of it have in common: leaves, tree, newest checkpoint, cosignatures; on disk.

Order on disk: leaves, fsync, then the checkpoint that covers them. So the checkpoint never promises what is not there,
and what lies beyond it was promised to nobody and is cut when the log is opened for writing.
"""

from collections.abc import Callable, Mapping, Sequence

from federation import notes
from federation.durable.api import FileSystem
from federation.errors import BadSignatureError, CorruptObjectError, ProtocolError
from federation.leaves import Leaf
from federation.ledger.cosignatures import Cosignatures, WitnessKeys
from federation.ledger.segments import Segments
from federation.merkle import Tree, leaf_hash
from federation.wire import leaf_from_bytes

MakeNote = Callable[[Tree], bytes]
"""Gives the signed note for a tree that has grown, or raises to refuse the growth."""


class StoredLog:
    """The log as this machine has it. `Ledger` and `LedgerCopy` add how it may grow.

    Files under `base`: segments/*.seg, checkpoint (the newest signed note), cosigned.seg (notes with cosignatures).
    """

    def __init__(
        self,
        fs: FileSystem,
        base: str,
        *,
        origin: str,
        public: bytes,
        witness_publics: WitnessKeys,
        writable: bool,
    ) -> None:
        """Reads and verifies everything that is there; an empty directory is an empty log.

        Raises:
            CorruptObjectError: a leaf under the checkpoint is missing or damaged, the root differs, the checkpoint's
                signature fails, or a cosigned note speaks of a larger or another tree.
        """
        self.origin = origin
        self._public = public
        self._fs = fs
        self._base = base
        self._note = b""
        self._tree = Tree()
        self._segments = Segments(fs, f"{base}/segments")
        self._load(writable)
        self._cosigned = Cosignatures(
            fs,
            f"{base}/cosigned.seg",
            origin=origin,
            public=public,
            witness_publics=witness_publics,
            writable=writable,
        )
        self._cosigned.check_stored(self._tree)

    @property
    def size(self) -> int:
        """Number of leaves, all of them under the newest checkpoint and durable."""
        return self._tree.size

    @property
    def tree(self) -> Tree:
        """The Merkle tree, for proofs. MUST NOT be appended to."""
        return self._tree

    @property
    def witnessed(self) -> dict[str, int]:
        """Per witness name (as in notes) the largest size that it cosigned, under the keys of the roster in force."""
        return self._cosigned.witnessed()

    @property
    def num_cosigned(self) -> int:
        """Grows whenever a witness has said more than before: a sign that peers may lack a cosignature."""
        return self._cosigned.num_notes

    def root(self, size: int | None = None) -> str:
        """Root of the first `size` leaves (default: all), as hexadecimal digest. Raises ValueError beyond `size`."""
        return self._tree.root(size).hex()

    def leaf_bytes(self, index: int) -> bytes:
        """The exact bytes of one leaf. Raises IndexError, CorruptObjectError."""
        return self._segments.leaf(index)

    def leaves(self, start: int = 0, stop: int | None = None) -> list[Leaf]:
        """Leaves `start` to `stop` (default: the end), decoded.

        Raises:
            UnknownLeafError: a leaf of a type that this release does not know.
        """
        end = self.size if stop is None else stop
        return [leaf_from_bytes(self.leaf_bytes(index)) for index in range(start, end)]

    def checkpoint(self) -> bytes:
        """The newest signed note with the cosignatures held for its size; b"" if there never was a checkpoint."""
        cosigned = self._cosigned.notes_since(self.size) if self.size else ()
        return notes.merge_notes(self._note, cosigned[-1]) if cosigned else self._note

    def notes_since(self, size: int) -> tuple[bytes, ...]:
        """Each witness's newest cosigned note, of checkpoints of at least `size` leaves; merged, smallest first.

        A late cosignature of a smaller size is news too, so a peer that holds leaves up to `n` does not hold all notes
        up to `n`; where that matters ask from 0: there is at most one note per witness.
        """
        return self._cosigned.notes_since(size)

    def close(self) -> None:
        """Releases the files."""
        self._segments.close()
        self._cosigned.close()

    def _grow(self, leaves: Sequence[bytes], make_note: MakeNote) -> None:
        """Adds leaves and the checkpoint that covers them; durable when this returns.

        Raises:
            DiskFullError: no space; nothing was added.
            Anything that `make_note` raises; nothing was added.
        """
        before = self.size
        for leaf in leaves:
            self._tree.append(leaf_hash(leaf))
        try:
            note = make_note(self._tree)
            self._segments.append(leaves)
            self._fs.write(self._checkpoint_path, note)
        except Exception:
            self._take_back(before)
            raise
        self._note = note

    def _take_back(self, size: int) -> None:
        """Forgets leaves that did not come under a checkpoint."""
        self._tree = Tree([self._tree.leaf(index) for index in range(size)])
        self._segments.truncate(size)

    @property
    def _checkpoint_path(self) -> str:
        return f"{self._base}/checkpoint"

    def _load(self, writable: bool) -> None:
        """Replays the leaves under the stored checkpoint and compares the root."""
        size, root = 0, self._tree.root()
        if self._fs.exists(self._checkpoint_path):
            self._note = self._fs.read(self._checkpoint_path, max_bytes=notes.MAX_NOTE_BYTES)
            checkpoint = self._open_own(self._note)
            size, root = checkpoint.size, checkpoint.root
        for leaf in self._segments.load(size, writable=writable):
            self._tree.append(leaf_hash(leaf))
        if self._tree.root() != root:
            raise CorruptObjectError(
                f"{self._base}: expected root {root.hex()[:12]} over {size} leaves as in its checkpoint, found"
                f" {self._tree.root().hex()[:12]}",
                advice="The leaves were changed. Restore the ledger from a backup or from a site's copy.",
            )
        if writable and self._note:
            self._make_durable(size)

    def _make_durable(self, size: int) -> None:
        """A killed process may have left what we just read in the page cache only; others will rely on it now."""
        newest = [self._segments.path_of(size - 1)] if size else []
        self._fs.sync_paths([*newest, self._checkpoint_path])

    def _open_own(self, note: bytes) -> notes.Checkpoint:
        try:
            return notes.open_checkpoint(note, self.origin, self._public)
        except (ProtocolError, BadSignatureError) as error:
            raise CorruptObjectError(
                f"{self._checkpoint_path}: expected a checkpoint of {self.origin} under its key, found: {error}",
                advice="Restore the file, or open the ledger with the origin and key that the roster names.",
            ) from error


def by_site(consortium: str, witnessed: Mapping[str, int]) -> dict[str, int]:
    """`StoredLog.witnessed` by site id, as `federation.witnesses` takes it; names of other forms are left out."""
    prefix = notes.witness_name(consortium, "")
    return {name.removeprefix(prefix): size for name, size in witnessed.items() if name.startswith(prefix)}
