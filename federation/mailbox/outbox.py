# SPDX-License-Identifier: Apache-2.0
"""The sending half of a mailbox: numbers, signs, offers, and deletes what the peer has received."""

from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import dsse
from federation.blobs.store import BlobStore
from federation.durable.api import FileSystem
from federation.errors import CorruptObjectError, FederationError, LimitExceededError, ObjectNotFoundError, UsageError
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.layout import (
    ACK,
    BLOBS,
    MAX_SEQUENCE,
    OUT,
    STAGED_SUFFIX,
    is_named_by,
    message_name,
    parse_message_name,
)
from federation.mailbox.state import StateFile
from federation.messages import Acknowledgement, Header, Message, MessageBody
from federation.signing import public_bytes
from federation.wire import message_from_bytes, message_to_bytes

MAX_BLOBS_PER_MESSAGE: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Address:
    """Whose mailbox it is, with whom, and with which key it signs."""

    consortium: str
    me: str
    peer: str
    key: Ed25519PrivateKey


@dataclass(frozen=True, kw_only=True)
class _Offered:
    """One message in out/: its file name and the blobs it names."""

    name: str
    blobs: tuple[str, ...]


def blobs_named_by(raw: bytes) -> tuple[str, ...]:
    """Digests in the header of a message of our own. Raises ProtocolError, LimitExceededError."""
    return message_from_bytes(dsse.peek_payload(raw, dsse.MESSAGE_TYPE)).header.blobs


class Outbox:
    """`out/` of one mailbox."""

    def __init__(self, fs: FileSystem, base: str, blobs: BlobStore, address: Address, state: StateFile) -> None:
        """Finds again what is offered, and offers what a crash kept from it.

        Raises:
            CorruptObjectError: one of our own messages is damaged.
        """
        self._fs = fs
        self._out = f"{base}/{OUT}"
        self._blobs = blobs
        self._address = address
        self._state = state
        self._offered: dict[int, _Offered] = {}
        self._staged: set[str] = set()
        self._linked = set(fs.list(f"{self._out}/{BLOBS}"))
        for name in fs.list(self._out):
            self._find_again(name)
        self._offer_staged()
        self._acknowledged = self._read_own_ack()

    @property
    def outstanding(self) -> tuple[int, ...]:
        """Sequences that are offered and not acknowledged, ascending."""
        received = self._state.now.peer_received_through
        return tuple(sequence for sequence in sorted(self._offered) if sequence > received)

    def begin_epoch(self, epoch: int, previous_epoch_last: int) -> None:
        """Records who signs from now on, durably.

        Raises:
            UsageError: a later epoch has opened this mailbox.
        """
        state = self._state.now
        if epoch < state.epoch or epoch < 1:
            raise UsageError(
                f"mailbox with {self._address.peer}: expected epoch {max(state.epoch, 1)} or later, found {epoch}",
                advice="Another process has taken over this directory; stop this one.",
            )
        if epoch > state.epoch:
            last = max(previous_epoch_last, state.next_sequence - 1)
            self._state.now = replace(state, epoch=epoch, previous_epoch_last=last, next_sequence=last + 1)
            self._state.flush()

    def post(self, body: MessageBody, header: Header) -> int:
        """Signs and offers a message; `header` lacks what only the outbox knows. See `Mailbox.post`."""
        self._offer_staged()
        sequence = self._state.now.next_sequence
        raw = self._signed(body, self._completed(header, sequence))
        links = [f"{self._out}/{BLOBS}/{digest}" for digest in header.blobs]
        for digest, link in zip(header.blobs, links, strict=True):
            if not self._blobs.has(digest):
                raise ObjectNotFoundError(f"post: expected blob {digest} in the store, found none")
            self._blobs.link_to(digest, link, sync_name=False)
            self._linked.add(digest)
        # Durable under a name that no courier knows, and only then offered: else a power loss could take back a message
        # that a courier has seen, and its number would be used twice. The links first: where one fsync brings all
        # names to the disk, the others have nothing left to do.
        staged = message_name(sequence, raw) + STAGED_SUFFIX
        self._fs.stage(f"{self._out}/{staged}", raw)
        self._fs.sync_paths(links)
        self._register(sequence, staged, header.blobs)
        self._offer_staged()
        return sequence

    def acknowledge(self, header: Header) -> bool:
        """Makes the state durable and, if there is news for the peer, overwrites the slot. Returns whether it did."""
        self._state.flush()
        standing = (self._state.durable.epoch, self._state.durable.received_through)
        if standing == self._acknowledged:
            return False
        # The state is durable, and after a crash the slot is written anew.
        self._fs.place(f"{self._out}/{ACK}", self._signed(Acknowledgement(), self._completed(header, 0)))
        self._acknowledged = standing
        return True

    def prune(self) -> int:
        """Deletes messages that the peer has received and blobs that no message names. Returns how many files."""
        self._state.flush()  # the numbers used so far must outlive the files that show them
        received = [s for s in self._offered if s <= self._state.durable.peer_received_through]
        for sequence in sorted(received):
            self._fs.remove(f"{self._out}/{self._offered.pop(sequence).name}")
        needed = {digest for offered in self._offered.values() for digest in offered.blobs}
        unneeded = sorted(self._linked - needed)
        for digest in unneeded:
            self._fs.remove(f"{self._out}/{BLOBS}/{digest}")
        self._linked &= needed
        return len(received) + len(unneeded)

    def _completed(self, header: Header, sequence: int) -> Header:
        state = self._state.durable  # never tell the peer what a crash could take back: it deletes by it
        return replace(
            header,
            consortium=self._address.consortium,
            sender=self._address.me,
            recipient=self._address.peer,
            sequence=sequence,
            received_through=state.received_through,
            epoch=state.epoch,
            previous_epoch_last=state.previous_epoch_last,
        )

    def _signed(self, body: MessageBody, header: Header) -> bytes:
        if header.sequence > MAX_SEQUENCE or len(header.blobs) > MAX_BLOBS_PER_MESSAGE:
            raise LimitExceededError(f"post: expected {MAX_BLOBS_PER_MESSAGE} blobs at most, found {len(header.blobs)}")
        payload = message_to_bytes(Message(header=header, body=body))
        raw = dsse.sign_envelope(dsse.MESSAGE_TYPE, payload, self._address.key)
        if len(raw) > DEFAULT_LIMITS.max_envelope_bytes:
            raise LimitExceededError(
                f"post: expected a message of {DEFAULT_LIMITS.max_envelope_bytes} bytes at most, found {len(raw)}"
            )
        return raw

    def _register(self, sequence: int, name: str, blobs: tuple[str, ...]) -> None:
        if name.endswith(STAGED_SUFFIX):
            self._staged.add(name)
        self._offered[sequence] = _Offered(name=name.removesuffix(STAGED_SUFFIX), blobs=blobs)
        state = self._state.now
        self._state.now = replace(state, next_sequence=max(state.next_sequence, sequence + 1))

    def _offer_staged(self) -> None:
        for staged in sorted(self._staged):
            target = f"{self._out}/{staged.removesuffix(STAGED_SUFFIX)}"
            self._fs.rename(f"{self._out}/{staged}", target, sync_names=False)  # either name offers it after a crash
            self._staged.discard(staged)

    def _find_again(self, name: str) -> None:
        parsed = parse_message_name(name.removesuffix(STAGED_SUFFIX))
        if parsed is None:
            return
        raw = self._fs.read(f"{self._out}/{name}", max_bytes=DEFAULT_LIMITS.max_envelope_bytes)
        staged, whole = name.endswith(STAGED_SUFFIX), is_named_by(parsed, raw)
        try:
            if not whole and not staged:
                raise CorruptObjectError("its bytes are not the ones that its name speaks of")
            blobs = blobs_named_by(raw) if whole else ()
        except FederationError as error:
            raise CorruptObjectError(
                f"{self._out}/{name}: expected a message that we signed, found damage: {error}",
                advice="Restore the file from a backup; the peer waits for exactly this message.",
            ) from error
        if staged and not (whole and self._is_staged_again(name, blobs)):
            self._fs.remove(f"{self._out}/{name}")  # it was never posted: a crash came before that
        else:
            self._register(parsed.sequence, name, blobs)

    def _is_staged_again(self, name: str, digests: tuple[str, ...]) -> bool:
        """Makes durable what a crash interrupted; False if not all blobs of the message are here."""
        if not all(self._blobs.has(digest) for digest in digests):
            return False
        for digest in digests:
            self._blobs.link_to(digest, f"{self._out}/{BLOBS}/{digest}")
            self._linked.add(digest)
        self._fs.sync_paths([f"{self._out}/{name}"])
        return True

    def _read_own_ack(self) -> tuple[int, int] | None:
        """Epoch and number that the slot acknowledges; None if it must be written anew."""
        path = f"{self._out}/{ACK}"
        if not self._fs.exists(path):
            return None
        try:
            raw = self._fs.read(path, max_bytes=DEFAULT_LIMITS.max_envelope_bytes)
            # A crash may have torn it, perhaps just before the signature.
            payload = dsse.open_envelope(raw, dsse.MESSAGE_TYPE, public_bytes(self._address.key))
            header = message_from_bytes(payload).header
        except FederationError:
            return None
        self._fs.sync_paths([path])
        return header.epoch, header.received_through
