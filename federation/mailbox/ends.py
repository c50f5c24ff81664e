# SPDX-License-Identifier: Apache-2.0
"""The two ends of a mailbox as a network courier sees them: `OutEnd` offers what is in out/, `InEnd` fills in/.

What `federation.mailbox.carrier` does between two directories of one machine, these do with a network in between: the
same files, the same order (blobs, messages, acknowledgement), and the same lack of any key. Both ends work on files
only; the process that owns the mailbox reads and writes the same files at the same time.
"""

import hashlib
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import TypeAlias

from federation.blobs.partial import num_pieces_of, partial_digests
from federation.durable.api import FileSystem
from federation.errors import (
    LimitExceededError,
    ObjectNotFoundError,
    ProtocolError,
    RolledBackError,
    StorageError,
)
from federation.ids import is_digest
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.arriving import ArrivingBlobs, MailboxLimits, Room, Vouch
from federation.mailbox.inbox import WINDOW
from federation.mailbox.layout import (
    ACK,
    BLOBS,
    IN,
    PARTIAL,
    STATE,
    is_named_by,
    parse_message_name,
)
from federation.mailbox.out_end import Offered, OutEnd, check_digest, checked_name
from federation.mailbox.state import read_state

__all__ = ["InEnd", "MailboxLimits", "Offered", "OutEnd", "Ranges", "Vouch"]

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Ascending ranges of numbers, first and last of each included."""


class InEnd:
    """`in/` of one mailbox, to be filled by a courier. Threads may share it; ONE for each mailbox in one process.

    Blobs grow in partial/ beside it, and appear in in/blobs when they are complete and have their digest.
    """

    def __init__(
        self, fs: FileSystem, base: str, limits: MailboxLimits | None = None, vouch: Vouch | None = None
    ) -> None:
        """Takes what a blob is told to that this end has verified and put into in/blobs: `BlobStore.vouch`."""
        self._fs = fs
        self._in = f"{base}/{IN}"
        self._partial = f"{base}/{PARTIAL}"
        self._state = f"{base}/{STATE}"
        self._limits = limits or MailboxLimits()
        self._room = Room(fs, base, self._limits)
        self._arriving = ArrivingBlobs(fs, base, self._room, vouch)
        self._newest_offer = 0
        self._last_brought = b""

    def have(self) -> Ranges:
        """Numbers of the messages that lie in in/."""
        return _ranges(self._sequences())

    def received_through(self) -> int:
        """Up to which all of the peer's messages were acted upon or refused. Raises CorruptObjectError."""
        return read_state(self._fs, self._state).received_through

    def acknowledgement_digest(self) -> bytes:
        """SHA-256 (32 bytes) of the acknowledgement that lies here; b"" if there is none.

        One that was brought and then rejected counts until another one lies here, and is not asked for again.
        """
        try:
            slot = self._fs.read(f"{self._in}/{ACK}", max_bytes=DEFAULT_LIMITS.max_envelope_bytes)
        except (StorageError, LimitExceededError):
            return self._last_brought
        return hashlib.sha256(slot).digest()

    def accept(self, name: str, data: bytes) -> bool:
        """Puts a message into in/; returns False if it is there already or was received before.

        Two messages with one number may both come in: the mailbox judges them by their signatures.

        Raises:
            ProtocolError: no message's name, not the bytes it speaks of, or a number beyond the window.
            LimitExceededError: larger than a message may be.
            OverloadedError: the peer has left too much here already.
        """
        parsed = checked_name(name)
        _check_message_size(name, data)
        if not is_named_by(parsed, data):
            raise ProtocolError(f"{name}: expected the bytes that this name speaks of, found {len(data)} others")
        received = self.received_through()
        if parsed.sequence <= received or self._has_message(name, data):
            return False
        if parsed.sequence > received + WINDOW:
            raise ProtocolError(f"{name}: expected a number up to {received + WINDOW}, found {parsed.sequence}")
        self._room.take(len(data))
        # Not durable: the peer offers it until it was acted upon, and its name tells whether it is whole.
        self._fs.place(f"{self._in}/{name}", data)
        return True

    def acknowledge(self, data: bytes) -> bool:
        """Puts the peer's acknowledgement into its slot; returns whether it is news. b"" changes nothing.

        Raises:
            LimitExceededError: larger than a message may be.
        """
        _check_message_size(ACK, data)
        digest = hashlib.sha256(data).digest()
        if not data or digest == self.acknowledgement_digest():
            return False
        self._fs.place(f"{self._in}/{ACK}", data)
        self._last_brought = digest
        return True

    def withdraw(self, first_offered: int, blob_digests: Collection[str], *, next_sequence: int = 0) -> None:
        """Removes what the peer no longer offers: received messages below `first_offered`, other blobs.

        A message that was not received here stays, whatever the peer says: an honest one deletes only what was. With
        `next_sequence` (as in the same offer), an offer older than one seen before changes nothing: a call that was
        delayed on its way must not take away a blob that was announced after it.
        """
        if next_sequence:
            if next_sequence < self._newest_offer:
                return
            self._newest_offer = next_sequence
        first_kept = min(first_offered, self.received_through() + 1)
        parsed = ((parse_message_name(name), name) for name in self._fs.list(self._in))
        gone = [name for found, name in parsed if found is not None and found.sequence < first_kept]
        offered = frozenset(blob_digests)
        blobs = filter(is_digest, self._fs.list(f"{self._in}/{BLOBS}"))
        gone += [f"{BLOBS}/{digest}" for digest in blobs if digest not in offered]
        for name in gone:
            with suppress(StorageError):  # no file: the mailbox deals with it
                self._fs.remove(f"{self._in}/{name}")
        partial = [digest for digest in partial_digests(self._fs, self._partial) if digest not in offered]
        for digest in partial:
            self._arriving.discard_idle(digest)
        if gone or partial:
            self._room.recount()

    def missing_blobs(self, offered: Iterable[tuple[str, int]]) -> list[str]:
        """Digests of offered blobs (digest, size in bytes) that are not complete here, in the order given.

        Raises:
            ProtocolError: one is no digest.
        """
        missing: list[str] = []
        for digest, num_bytes in offered:
            check_digest(digest)
            if not self._arriving.is_complete(digest, num_bytes):
                missing.append(digest)
        return missing

    def pieces_missing(self, digest: str, num_bytes: int) -> Ranges:
        """Indices of pieces that are not durable here; () if the blob is complete. What has arrived is fsynced first.

        Raises:
            ProtocolError: no digest, or not the size that was announced when the transfer began.
            LimitExceededError: larger than a blob may be.
            OverloadedError: no room to begin it.
            DigestMismatchError: all pieces are there and do not have the digest; all were thrown away.
        """
        self._check_blob(digest, num_bytes)
        if self._arriving.is_complete(digest, num_bytes):
            return ()
        if num_bytes and not self._arriving.is_begun(digest):
            self._room.check(num_bytes)
            return ((0, num_pieces_of(num_bytes) - 1),)
        with self._arriving.leased(digest, num_bytes) as partial:
            if partial is None:
                return ()
            partial.checkpoint()
            if partial.arrived:
                self._arriving.publish(partial)
            return tuple(partial.missing())

    def pieces_absent(self, digest: str, num_bytes: int) -> Ranges:
        """Indices of pieces that have not arrived, as `pieces_missing`, but nothing is fsynced for the answer."""
        self._check_blob(digest, num_bytes)
        if self._arriving.is_complete(digest, num_bytes):
            return ()
        if not self._arriving.is_begun(digest):
            return ((0, num_pieces_of(num_bytes) - 1),) if num_bytes else ()
        with self._arriving.leased(digest, num_bytes) as partial:
            return tuple(partial.absent()) if partial is not None else ()

    def put_pieces(self, digest: str, num_bytes: int, first: int, data: bytes | memoryview) -> bool:
        """Stores a piece, or several that follow each other; returns whether the blob is complete in in/blobs, durably.

        Raises:
            ProtocolError, LimitExceededError, OverloadedError: as `pieces_missing`; or not these pieces' length.
            DigestMismatchError: all pieces are there and do not have the digest; all were thrown away.
            DiskFullError: no space; what was not written yet is not here.
        """
        self._check_blob(digest, num_bytes)
        if self._arriving.is_complete(digest, num_bytes):
            return True
        with self._arriving.leased(digest, num_bytes) as partial:
            if partial is None:
                return True
            partial.put(first, data)
            if partial.arrived:
                self._arriving.publish(partial)
            return partial.arrived

    def flush(self) -> None:
        """Makes all pieces received so far durable, and known after a restart. Raises DiskFullError."""
        self._arriving.checkpoint()

    def close(self) -> None:
        """`flush`, then releases all files that no call is using. The end can be used again."""
        self._arriving.checkpoint()
        self._arriving.close_idle()

    def pending_bytes(self) -> int:
        """Bytes of messages, blobs and unfinished blobs (these in full) that the peer has left here.

        Perhaps with some that the mailbox has taken away since; nothing is refused before that is looked at.
        """
        return self._room.num_bytes

    def check_not_rolled_back(self, peer_first_offered: int) -> None:
        """Raises RolledBackError if the peer has withdrawn messages, as received, that this mailbox has never seen."""
        state = read_state(self._fs, self._state)
        expected = state.received_through + 1
        lying = self._sequences() if peer_first_offered > expected else frozenset()
        while expected < peer_first_offered and (expected in lying or state.is_done(expected)):
            expected += 1
        if expected < peer_first_offered:
            raise RolledBackError(
                f"{self._in}: expected the peer to offer message {expected}, found messages from {peer_first_offered}",
                advice="This mailbox was restored from an old backup: the peer has deleted what was received since.",
            )

    def _sequences(self) -> frozenset[int]:
        parsed = map(parse_message_name, self._fs.list(self._in))
        return frozenset(name.sequence for name in parsed if name is not None)

    def _has_message(self, name: str, data: bytes) -> bool:
        """Whether it lies here whole; a careless courier may have left the beginning of it."""
        try:
            return self._fs.size(f"{self._in}/{name}") == len(data) and self._fs.read(f"{self._in}/{name}") == data
        except ObjectNotFoundError:
            return False

    def _check_blob(self, digest: str, num_bytes: int) -> None:
        check_digest(digest)
        most = min(self._limits.max_blob_bytes, self._limits.max_pending_bytes)
        if not 0 <= num_bytes <= most:
            raise LimitExceededError(f"blob {digest}: expected 0 to {most} bytes, found {num_bytes}")


def _ranges(numbers: Iterable[int]) -> Ranges:
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def _check_message_size(name: str, data: bytes) -> None:
    if len(data) > DEFAULT_LIMITS.max_envelope_bytes:
        raise LimitExceededError(
            f"{name}: expected {DEFAULT_LIMITS.max_envelope_bytes} bytes at most, found {len(data)}"
        )
