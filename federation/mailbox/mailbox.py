# SPDX-License-Identifier: Apache-2.0
"""One party's mailbox with one peer: signed messages in sequence, with the blobs they name.

Every posted message is acted upon at least once, in sequence, whatever couriers and crashes do; the actions must bear
repetition. The rule behind it: the peer hears only of what is durable here, and only the writer deletes.
"""

from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.blobs.store import BlobStore
from federation.durable.api import FileSystem
from federation.mailbox.inbox import Inbox, Received, Rejected
from federation.mailbox.layout import STATE
from federation.mailbox.outbox import Address, Outbox
from federation.mailbox.state import StateFile
from federation.messages import Header, MessageBody

__all__ = ["MAX_BLOB_WAIT_SECONDS", "Mailbox", "Received", "Rejected"]

MAX_BLOB_WAIT_SECONDS: Final = 24 * 3600
"""How long a message may wait for its blobs before it is refused."""


class Mailbox:
    """Files under `base`: out/, in/ (see `federation.mailbox.layout`) and state.json. One process at a time."""

    def __init__(
        self,
        fs: FileSystem,
        base: str,
        blobs: BlobStore,
        me: str,
        peer: str,
        consortium: str,
        key: Ed25519PrivateKey,
        epoch: int = 1,
        previous_epoch_last: int = 0,
        max_blob_wait_seconds: int = MAX_BLOB_WAIT_SECONDS,
    ) -> None:
        """Opens a mailbox, or begins an empty one.

        Args:
            fs: holds mailbox and blob store; blobs are linked between the two.
            epoch: of this party; a higher one than before makes void what a forgotten process may still sign.
            previous_epoch_last: last message of the epoch before, where this directory does not know of it.

        Raises:
            CorruptObjectError: our own files are damaged.
            UsageError: a later epoch has opened this mailbox.
        """
        address = Address(consortium=consortium, me=me, peer=peer, key=key)
        self.peer = peer
        self._state = StateFile(fs, f"{base}/{STATE}")
        self._outbox = Outbox(fs, base, blobs, address, self._state)
        self._outbox.begin_epoch(epoch, previous_epoch_last)
        self._inbox = Inbox(fs, base, blobs, address, self._state, max_blob_wait_seconds)

    @property
    def rejected(self) -> list[Rejected]:
        """What was not accepted since the caller last cleared this list; bounded. For the security log."""
        return self._inbox.rejected

    @property
    def received_through(self) -> int:
        """Highest sequence up to which all is acted upon or refused, durably: what the peer is told. Never falls."""
        return self._state.durable.received_through

    @property
    def peer_received_through(self) -> int:
        """Highest of our sequences up to which the peer says the same."""
        return self._state.now.peer_received_through

    @property
    def last_sequence(self) -> int:
        """Number of the newest message that was posted; 0 before the first."""
        return self._state.now.next_sequence - 1

    @property
    def outstanding(self) -> tuple[int, ...]:
        """Our messages that the peer has not acknowledged, ascending."""
        return self._outbox.outstanding

    def post(
        self,
        body: MessageBody,
        *,
        blobs: Iterable[str] = (),
        roster_version: int = 0,
        checkpoint: tuple[int, str] = (0, ""),
        expires_at_us: int = 0,
    ) -> int:
        """Signs a message and offers it to couriers; it and its blobs are durable when this returns.

        Args:
            blobs: digests, all in the blob store; the peer acknowledges only when it has them.
            roster_version, checkpoint: newest that we have seen (size, root digest).
            expires_at_us: microseconds since 1970 after which the peer's clock refuses it; 0 means never.

        Returns:
            Its sequence.

        Raises:
            ObjectNotFoundError: a blob is not in the store.
            ProtocolError, LimitExceededError: the message cannot be written.
            DiskFullError: no space; nothing was posted.
        """
        header = _header(roster_version, checkpoint, expires_at_us, tuple(dict.fromkeys(blobs)))
        return self._outbox.post(body, header)

    def collect(self, peer_public: bytes, now_us: int) -> list[Received]:
        """Messages of the peer that are not done, in sequence up to the first one that has not arrived.

        The caller acts upon those that are `ready`, each in its turn, then calls `done`. One that waits for its blobs
        does not hold up those behind it. Nothing that a peer or courier does raises; see `rejected`.

        Args:
            peer_public: the peer's raw Ed25519 public key in the roster in force.
            now_us: this party's clock.
        """
        return self._inbox.collect(peer_public, now_us)

    def done(self, sequence: int) -> None:
        """Marks a message as acted upon. Durable with the next `acknowledge` or `prune`; until then it may come again.

        Raises:
            InvalidTransition: it was not collected, or waits for its blobs.
        """
        self._inbox.done(sequence)

    def refuse(self, sequence: int, reason: str) -> None:
        """Marks a message as refused, whether its blobs are there or not; it counts as received and is reported.

        Raises:
            InvalidTransition: it was not collected.
        """
        self._inbox.refuse(sequence, reason)

    def acknowledge(self, *, roster_version: int = 0, checkpoint: tuple[int, str] = (0, "")) -> bool:
        """Makes what was done durable and tells the peer; returns whether there was news to tell.

        Raises:
            DiskFullError: no space; messages done since may come again.
        """
        return self._outbox.acknowledge(_header(roster_version, checkpoint, 0, ()))

    def prune(self) -> int:
        """Deletes own messages that the peer has received, and blobs that no other message needs. Returns how many."""
        return self._outbox.prune()

    def pending_blobs(self) -> tuple[str, ...]:
        """Digests that verified messages wait for."""
        return self._inbox.pending_blobs()


def _header(roster_version: int, checkpoint: tuple[int, str], expires_at_us: int, blobs: tuple[str, ...]) -> Header:
    """What the caller knows of a header; the outbox completes it."""
    return Header(
        consortium="",
        sender="",
        recipient="",
        sequence=0,
        received_through=0,
        epoch=0,
        roster_version=roster_version,
        checkpoint_size=checkpoint[0],
        checkpoint_root=checkpoint[1],
        expires_at_us=expires_at_us,
        blobs=blobs,
    )
