# SPDX-License-Identifier: Apache-2.0
"""The coordinator's ledger: the one place where leaves come into being."""

from collections.abc import Sequence
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import notes, signing
from federation.durable.api import FileSystem
from federation.errors import BadSignatureError, ObjectNotFoundError, UsageError
from federation.leaves import Leaf
from federation.ledger.cosignatures import WitnessKeys, no_witnesses
from federation.ledger.store import StoredLog
from federation.merkle import EMPTY_ROOT, Tree
from federation.messages import LedgerTail
from federation.wire import leaf_to_bytes

TAIL_BYTES = 2 * 1024 * 1024
"""Leaf bytes in one `LedgerTail`: below the limit of an envelope, with room for notes and a roster document."""


class Ledger(StoredLog):
    """An append-only Merkle log with signed checkpoints. One process writes it; others open it without the key."""

    _key: Ed25519PrivateKey | None = None

    @classmethod
    def create(
        cls,
        fs: FileSystem,
        base: str,
        origin: str,
        key: Ed25519PrivateKey,
        witness_publics: WitnessKeys = no_witnesses,
    ) -> Self:
        """Makes an empty ledger, with a signed checkpoint of size 0.

        Raises:
            UsageError: there is a ledger already.
        """
        note = _sign(origin, key, 0, EMPTY_ROOT)
        if not fs.create(f"{base}/checkpoint", note):
            raise UsageError(f"{base}: expected no ledger, found one", advice="Open it, or choose another directory.")
        return cls.open(fs, base, origin, key, signing.public_bytes(key), witness_publics)

    @classmethod
    def open(
        cls,
        fs: FileSystem,
        base: str,
        origin: str,
        key: Ed25519PrivateKey | None,
        public: bytes,
        witness_publics: WitnessKeys = no_witnesses,
    ) -> Self:
        """Replays and verifies a ledger; without `key` it is read-only and no file is touched.

        Raises:
            ObjectNotFoundError: there is no ledger.
            CorruptObjectError: see `StoredLog`.
            UsageError: `key` is not the private key of `public`.
        """
        if key is not None and signing.public_bytes(key) != public:
            raise UsageError(f"{base}: expected the ledger's private key, found one of another public key")
        if not fs.exists(f"{base}/checkpoint"):
            raise ObjectNotFoundError(f"{base}: expected a ledger, found no checkpoint")
        ledger = cls(fs, base, origin=origin, public=public, witness_publics=witness_publics, writable=key is not None)
        ledger._key = key
        return ledger

    def append(self, leaves: Sequence[Leaf]) -> int:
        """Appends leaves under one signed checkpoint: all of them or, after a crash, none.

        Returns:
            The index of the first one; it and its checkpoint are durable.

        Raises:
            ProtocolError, LimitExceededError: a leaf cannot be written.
            DiskFullError: no space; nothing was appended.
            UsageError: the ledger was opened without its key.
        """
        first, encoded = self.size, [leaf_to_bytes(leaf) for leaf in leaves]
        if encoded:
            self._grow(encoded, self._signed)
        return first

    def cosign(self, note: bytes) -> tuple[str, ...]:
        """Keeps what witnesses say in a cosigned checkpoint of this ledger, durably.

        Returns:
            Names of the witnesses that said more than before; () if all was known or comes from unknown witnesses.

        Raises:
            ProtocolError, LimitExceededError: no checkpoint note of this ledger.
            BadSignatureError: the ledger did not sign it, or no new cosignature in it holds and one fails.
            LedgerForkError: this ledger's key signed another root at that size.
            CorruptObjectError: this ledger's key signed a larger size: the tail is gone.
        """
        finding = self._cosigned.check(note, self._tree)
        if finding.bad and not finding.good:
            raise BadSignatureError(f"checkpoint of size {finding.size}: cosignature of {finding.bad[0]} does not hold")
        self._cosigned.add((finding,))
        return finding.good

    def tail(self, first_index: int, *, max_bytes: int = TAIL_BYTES, roster: bytes = b"") -> LedgerTail:
        """Leaves from `first_index` on with a checkpoint that covers exactly them, and all newest cosigned notes.

        What does not fit into `max_bytes` of leaves is left to the next tail; at least one leaf is taken.

        Raises:
            UsageError: there are fewer leaves than `first_index`: the reader has seen a longer ledger than this one;
                or the tail must be cut short and there is no key to sign a checkpoint for it.
        """
        if not 0 <= first_index <= self.size:
            raise UsageError(f"ledger tail: expected an index up to {self.size}, found {first_index}")
        leaves = self._leaves_within(first_index, max_bytes)
        stop = first_index + len(leaves)
        cosigned = tuple(n for n in self.notes_since(0) if notes.peek_checkpoint(n).size < stop)
        return LedgerTail(
            first_index=first_index,
            leaves=tuple(leaves),
            checkpoint=self.checkpoint_at(stop),
            cosigned=cosigned,
            roster=roster,
        )

    def checkpoint_at(self, size: int) -> bytes:
        """A signed note for this or a smaller size. Raises UsageError if it must be signed and there is no key."""
        if size == self.size:
            return self.checkpoint()
        return _sign(self.origin, self._writing_key(), size, self._tree.root(size))

    def _leaves_within(self, first_index: int, max_bytes: int) -> list[bytes]:
        """As many leaves as fit, but one at least if there is one."""
        leaves: list[bytes] = []
        room = max_bytes
        for index in range(first_index, self.size):
            data = self.leaf_bytes(index)
            room -= len(data)
            if leaves and room < 0:
                break
            leaves.append(data)
        return leaves

    def _signed(self, tree: Tree) -> bytes:
        return _sign(self.origin, self._writing_key(), tree.size, tree.root())

    def _writing_key(self) -> Ed25519PrivateKey:
        if self._key is None:
            raise UsageError(f"{self._base}: expected a ledger opened with its key, found one opened for reading")
        return self._key


def _sign(origin: str, key: Ed25519PrivateKey, size: int, root: bytes) -> bytes:
    return notes.sign_checkpoint(notes.Checkpoint(origin=origin, size=size, root=root), origin, key)
