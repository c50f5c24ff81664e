# SPDX-License-Identifier: Apache-2.0
"""A site's own copy of the ledger: it grows only by what continues it, and refuses every other history.

The order in which a `LedgerTail` is accepted (nothing is kept before the last check has passed):

1. The checkpoint is a note of this ledger, signed with the ledger's key.
2. The tail begins at or before our end, and its checkpoint covers exactly its leaves.
3. Leaves that we hold already are the same.
4. Every leaf is one that this release knows.
5. Our tree, continued by the new leaves, has the checkpoint's root: which proves consistency, since we hold all leaves.
6. Every cosigned note of a size that we hold has our root; cosignatures are counted under the roster's keys.
7. Leaves, fsync, checkpoint, cosigned notes.

What is not here: the envelope's signature (the mailbox), what leaves mean (`federation.rounds`).
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import notes
from federation.durable.api import FileSystem
from federation.errors import LedgerForkError, ProtocolError
from federation.leaves import Leaf
from federation.ledger.cosignatures import Finding, WitnessKeys, log_signed_only
from federation.ledger.frames import encode_record, scan_records
from federation.ledger.store import StoredLog
from federation.merkle import Tree, leaf_hash
from federation.messages import LedgerTail
from federation.wire import leaf_from_bytes

MAX_FORK_FILES: Final = 16
"""Pieces of evidence that are kept; the first ones prove as much as the later ones."""

MAX_COSIGNED_NOTES: Final = 1024
"""Further notes in one tail; an honest coordinator sends at most one per witness."""


class LedgerCopy(StoredLog):
    """The ledger as one site has verified and kept it."""

    def __init__(
        self,
        fs: FileSystem,
        base: str,
        origin: str,
        ledger_public: bytes,
        witness_publics: WitnessKeys,
    ) -> None:
        """Opens the copy, or begins an empty one.

        Raises:
            CorruptObjectError: see `StoredLog`.
        """
        super().__init__(fs, base, origin=origin, public=ledger_public, witness_publics=witness_publics, writable=True)

    @property
    def forked(self) -> bool:
        """Whether evidence of a second history is kept. It stays until a person has dealt with it."""
        return bool(self._fs.list(self._forks))

    def accept(self, tail: LedgerTail) -> list[Leaf]:
        """Verifies a tail in the order of the module's list, keeps it durably, returns the leaves that were new.

        Raises:
            ProtocolError, LimitExceededError: the tail is malformed or leaves a gap.
            UnknownLeafError: a leaf of another release; nothing was kept.
            BadSignatureError: the ledger's key did not sign a note.
            LedgerForkError: the ledger's key signed another history; both notes are kept as evidence.
            DiskFullError: no space; nothing was kept.
        """
        checkpoint = notes.open_checkpoint(tail.checkpoint, self.origin, self._public)  # 1
        self._check_contiguous(tail, checkpoint)  # 2
        try:
            return self._accept(tail, checkpoint)
        except LedgerForkError as error:
            path = self._keep_evidence(tail)
            raise LedgerForkError(f"{error}; both notes are kept in {path}", advice=error.advice) from error

    def cosign(self, key: Ed25519PrivateKey, name: str, now_s: int) -> bytes:
        """The newest checkpoint with this witness's cosignature alone: what the site tells the coordinator.

        The checkpoint was verified against our own tree and is durable. The site counts its own word at once.

        Raises:
            ProtocolError: there is no checkpoint with leaves yet.
            LedgerForkError: a second history is known; a witness says no more.
        """
        if not self.size:
            raise ProtocolError("cosign: expected a checkpoint with leaves, found an empty copy")
        if self.forked:
            raise LedgerForkError(f"cosign: expected one history, found evidence of another in {self._forks}")
        note = notes.cosign(log_signed_only(self._note, self.origin), name, key, now_s)
        self._cosigned.add((self._cosigned.check(note, self._tree),))
        return note

    def fork_evidence(self) -> list[tuple[bytes, bytes]]:
        """Pairs of our signed note and the other one, of every fork that was seen."""
        pairs = []
        for file_name in self._fs.list(self._forks):
            records = scan_records(self._fs.read(f"{self._forks}/{file_name}")).records
            pairs.append((records[0], records[1]))
        return pairs

    def _check_contiguous(self, tail: LedgerTail, checkpoint: notes.Checkpoint) -> None:
        end = tail.first_index + len(tail.leaves)
        if not 0 <= tail.first_index <= self.size:
            raise ProtocolError(
                f"ledger tail: expected to begin at leaf {self.size} or below, found {tail.first_index}"
            )
        if checkpoint.size != end:
            raise ProtocolError(f"ledger tail: expected a checkpoint of size {end}, found {checkpoint.size}")
        if len(tail.cosigned) > MAX_COSIGNED_NOTES:
            raise ProtocolError(f"ledger tail: expected {MAX_COSIGNED_NOTES} notes at most, found {len(tail.cosigned)}")

    def _accept(self, tail: LedgerTail, checkpoint: notes.Checkpoint) -> list[Leaf]:
        if checkpoint.size <= self.size and self._tree.root(checkpoint.size) != checkpoint.root:  # 5, needs no leaves
            raise _fork(f"root at size {checkpoint.size}", self._tree.root(checkpoint.size), checkpoint.root)
        num_known = min(self.size - tail.first_index, len(tail.leaves))
        for index, data in enumerate(tail.leaves[:num_known], start=tail.first_index):  # 3
            if leaf_hash(data) != self._tree.leaf(index):
                raise self._other_leaf(index, data, checkpoint)
        added = tail.leaves[num_known:]
        leaves = [leaf_from_bytes(data) for data in added]  # 4
        findings: list[Finding] = []

        def verified(tree: Tree) -> bytes:
            if tree.root(checkpoint.size) != checkpoint.root:  # 5
                raise _fork(f"root at size {checkpoint.size}", tree.root(checkpoint.size), checkpoint.root)
            findings.extend(self._check_notes((tail.checkpoint, *tail.cosigned), tree))  # 6
            return log_signed_only(tail.checkpoint, self.origin)

        if added or not self._note:  # 7
            self._grow(added, verified)
        else:
            verified(self._tree)
        self._cosigned.add(findings)
        return leaves

    def _other_leaf(self, index: int, data: bytes, checkpoint: notes.Checkpoint) -> ProtocolError | LedgerForkError:
        if checkpoint.size <= self.size:  # its checkpoint is ours, so these leaves are not even theirs
            return ProtocolError(f"ledger tail: expected the leaves of its checkpoint, found another leaf {index}")
        return _fork(f"leaf {index}", self._tree.leaf(index), leaf_hash(data))

    def _check_notes(self, found: Sequence[bytes], tree: Tree) -> list[Finding]:
        """Findings of all notes of sizes that the tree has; others say nothing that could be checked yet."""
        return [self._cosigned.check(n, tree) for n in found if notes.peek_checkpoint(n).size <= tree.size]

    @property
    def _forks(self) -> str:
        return f"{self._base}/forks"

    def _keep_evidence(self, tail: LedgerTail) -> str:
        """Writes our newest note, every note of the tail, and its leaves, as records of one file.

        Our leaves stay where they are: together with them both notes can be checked by anybody.
        """
        theirs = self._disagreeing(tail)
        path = f"{self._forks}/{hashlib.sha256(theirs).hexdigest()[:16]}.records"
        if len(self._fs.list(self._forks)) < MAX_FORK_FILES:
            records = (self._note or theirs, theirs, *tail.leaves)
            self._fs.create(path, b"".join(encode_record(record) for record in records if record))
        return path

    def _disagreeing(self, tail: LedgerTail) -> bytes:
        """The note of the tail that contradicts us: a cosigned one with another root, else its checkpoint."""
        for note in tail.cosigned:
            checkpoint = notes.peek_checkpoint(note)
            if checkpoint.size <= self.size and checkpoint.root != self._tree.root(checkpoint.size):
                return note
        return tail.checkpoint


def _fork(what: str, ours: bytes, theirs: bytes) -> LedgerForkError:
    return LedgerForkError(
        f"ledger: expected {what} to be {ours.hex()[:12]}, found {theirs.hex()[:12]}",
        advice="The coordinator shows two histories. Do not train; show the evidence to the consortium.",
    )
