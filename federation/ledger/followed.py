# SPDX-License-Identifier: Apache-2.0
"""A ledger that another process writes, as somebody follows it who only reads.

Leaves are believed once a checkpoint signed with the ledger's key covers them and has the root of our own tree. Where
they are damaged, the intact ones before them are shown, and `fault` says what is wrong: a view of a broken ledger must
not be blank. Of leaves that are all there but have another root than their checkpoint none is taken in, so that a
repaired log is followed again; but at the first look, where they are all that there is to show: those are given up for
the right ones once these are there. Nothing here is evidence; `federation verify` is.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from federation import notes
from federation.durable.api import FileSystem
from federation.errors import FederationError, ObjectNotFoundError
from federation.ledger.cosignatures import WitnessKeys
from federation.ledger.frames import scan_records
from federation.ledger.segments import LEAVES_PER_SEGMENT, MAX_SEGMENT_BYTES, segment_name
from federation.merkle import Tree, leaf_hash

_CACHED_SEGMENTS: Final = 8
_MAX_NOTES_READ: Final = 16 * 1024 * 1024
"""Bytes of cosigned notes in one look; the next one goes on from there."""


class FollowedLog:
    """The leaves, the tree and the newest checkpoint of a log directory, as of the last `refresh`."""

    def __init__(self, fs: FileSystem, base: str, *, origin: str, public: bytes, witness_publics: WitnessKeys) -> None:
        """Reads nothing yet.

        Args:
            origin, public: of the log, as the roster names them.
            witness_publics: keys under which cosignatures count.
        """
        self._fs, self._base = fs, base
        self._origin, self._public = origin, public
        self._tree = Tree()
        self._notes = _FollowedNotes(fs, f"{base}/cosigned.seg", witness_publics)
        self._cache: OrderedDict[int, tuple[bytes, ...]] = OrderedDict()
        self.note = b""
        """The newest signed checkpoint that agrees with the leaves, b"" before the first."""

        self.fault = ""
        """What is wrong with the log, "" while nothing is."""

        self.num_restarts = 0
        """How often `refresh` gave all leaves anew: those before, of the first look, were not the ledger's."""

        self._doubted: object = None
        """What the files were like when the leaves that we hold had another root than their checkpoint."""

    @property
    def size(self) -> int:
        """Leaves read so far."""
        return self._tree.size

    @property
    def tree(self) -> Tree:
        """The Merkle tree, for proofs. MUST NOT be appended to."""
        return self._tree

    @property
    def num_cosigned_bytes(self) -> int:
        """How far the cosigned notes were read: another figure, perhaps another answer of `witnessed`."""
        return self._notes.num_bytes

    def witnessed(self) -> dict[str, int]:
        """Per witness name the largest size that it cosigned, under the keys in force."""
        return self._notes.verified(self._tree)

    def refresh(self) -> list[bytes]:
        """Looks for what is new. Returns the exact bytes of the leaves that follow those of the last call, or of all
        leaves where `num_restarts` has grown.

        Never raises for what is in the files: that is what `fault` is for. A damaged leaf is looked at again by the
        next call, so that a repaired log is followed again.
        """
        try:
            self._notes.refresh()
            note = self._fs.read(f"{self._base}/checkpoint", max_bytes=notes.MAX_NOTE_BYTES)
            if note == self.note and not self.fault:
                return []
            checkpoint = notes.open_checkpoint(note, self._origin, self._public)
        except ObjectNotFoundError:  # a ledger that nobody has begun has none
            return self._failed("its checkpoint is gone") if self.note else []
        except FederationError as error:
            return self._failed(str(error))
        added = self._read(checkpoint) if self._doubted is None else self._read_anew(checkpoint)
        if not self.fault:
            self.note = note
        return added

    def leaf_bytes(self, index: int) -> bytes:
        """The exact bytes of one leaf that was read before.

        Raises:
            IndexError: no such leaf.
            ObjectNotFoundError: it is not on the disk any more.
        """
        if not 0 <= index < self.size:
            raise IndexError(f"leaf: expected 0 to {self.size - 1}, found {index}")
        segment, position = divmod(index, LEAVES_PER_SEGMENT)
        records = self._cache.get(segment, ())
        if position >= len(records):
            records = self._records(segment)
        if position >= len(records) or leaf_hash(records[position]) != self._tree.leaf(index):
            raise ObjectNotFoundError(f"leaf {index}: expected it as it was read before, found it changed or gone")
        self._cache[segment] = records
        self._cache.move_to_end(segment)
        while len(self._cache) > _CACHED_SEGMENTS:
            self._cache.popitem(last=False)
        return records[position]

    def _read(self, checkpoint: notes.Checkpoint) -> list[bytes]:
        """Takes in leaves up to a checkpoint's size and compares the root."""
        if checkpoint.size < self.size:
            return self._failed(f"a checkpoint of {checkpoint.size} leaves follows one of {self.size}: tail cut")
        added: list[bytes] = []
        first = self.size
        for data in self._leaves_up_to(checkpoint.size):
            self._tree.append(leaf_hash(data))
            added.append(data)
        if self.size < checkpoint.size:
            self._failed(f"leaf {self.size} of {checkpoint.size} is missing or damaged")
        elif self._tree.root() != checkpoint.root:
            self._failed(f"the {self.size} leaves do not have the root of their checkpoint")
            if first:
                self._tree.cut(first)
                return []
            self._doubted = self._files(checkpoint)
        else:
            self.fault = ""
        return added

    def _read_anew(self, checkpoint: notes.Checkpoint) -> list[bytes]:
        """Whether what we hold has been repaired; nothing where the files are as they were."""
        files = self._files(checkpoint)
        if files == self._doubted:
            return []
        doubted, self._tree = self._tree, Tree()
        leaves = list(self._leaves_up_to(checkpoint.size))
        for data in leaves:
            self._tree.append(leaf_hash(data))
        if self.size < checkpoint.size or self._tree.root() != checkpoint.root:
            self._tree, self._doubted = doubted, files
            return []
        self._doubted, self.fault, self.num_restarts = None, "", self.num_restarts + 1
        self._cache.clear()
        return leaves

    def _files(self, checkpoint: notes.Checkpoint) -> object:
        names = [segment_name(number) for number in range(-(-checkpoint.size // LEAVES_PER_SEGMENT))]
        paths = [f"{self._base}/segments/{name}" for name in names]
        # object(): where nobody can tell whether a file has changed it counts as changed
        return checkpoint, [self._fs.fingerprint(path) or object() for path in paths if self._fs.exists(path)]

    def _leaves_up_to(self, size: int) -> Iterator[bytes]:
        start = self.size
        for segment in range(start // LEAVES_PER_SEGMENT, -(-size // LEAVES_PER_SEGMENT)):
            first = segment * LEAVES_PER_SEGMENT
            records = self._records(segment)
            yield from records[max(0, start - first) : min(LEAVES_PER_SEGMENT, size - first)]
            if len(records) < min(LEAVES_PER_SEGMENT, size - first):
                return

    def _records(self, segment: int) -> tuple[bytes, ...]:
        try:
            content = self._fs.read(f"{self._base}/segments/{segment_name(segment)}", max_bytes=MAX_SEGMENT_BYTES)
        except FederationError:
            return ()
        return scan_records(content).records

    def _failed(self, fault: str) -> list[bytes]:
        self.fault = f"ledger: {fault}"
        return []


class _FollowedNotes:
    """The cosigned notes of a log, read on from where the last look ended; each witness's newest one is verified."""

    def __init__(self, fs: FileSystem, path: str, keys: WitnessKeys) -> None:
        self._fs, self._path, self._keys = fs, path, keys
        self.num_bytes = 0
        self._newest: dict[str, tuple[int, bytes]] = {}

    def refresh(self) -> None:
        """Learns what was added. Raises FederationError: the file is none of notes."""
        try:
            if self._fs.size(self._path) < self.num_bytes:  # replaced
                self.num_bytes, self._newest = 0, {}
            content = self._fs.read_range(self._path, self.num_bytes, _MAX_NOTES_READ)
        except ObjectNotFoundError:
            return
        batches = scan_records(content)
        self.num_bytes += batches.num_bytes
        for batch in batches.records:
            for note in scan_records(batch).records:
                self._learn(note)

    def verified(self, tree: Tree) -> dict[str, int]:
        """Per witness the size that it cosigned last, where its key and our tree agree."""
        sizes = {}
        for name, public in self._keys().items():
            size, note = self._newest.get(name, (0, b""))
            if 0 < size <= tree.size and self._holds(name, public, note, tree):
                sizes[name] = size
        return sizes

    def _learn(self, note: bytes) -> None:
        size = notes.peek_checkpoint(note).size
        for name in notes.cosigners(note):
            if size > self._newest.get(name, (0, b""))[0]:
                self._newest[name] = (size, note)

    def _holds(self, name: str, public: bytes, note: bytes, tree: Tree) -> bool:
        checkpoint = notes.peek_checkpoint(note)
        try:
            notes.verify_cosignature(note, name, public)
        except FederationError:
            return False
        return checkpoint.root == tree.root(checkpoint.size)
