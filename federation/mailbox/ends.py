# SPDX-License-Identifier: Apache-2.0
"""The two ends of a mailbox as a network courier sees them: `OutEnd` offers what is in out/, `InEnd` fills in/.

What `federation.mailbox.carrier` does between two directories of one machine, these do with a network in between: the
same files, the same order (blobs, messages, acknowledgement), and the same lack of any key. Both ends work on files
only; the process that owns the mailbox reads and writes the same files at the same time.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

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
    OUT,
    PARTIAL,
    STAGED_SUFFIX,
    STATE,
    MessageName,
    is_named_by,
    parse_message_name,
)
from federation.mailbox.outbox import blobs_named_by
from federation.mailbox.state import read_state
from federation.merkle import BLOB_PIECE_BYTES

_MAX_PIECES: Final = num_pieces_of(DEFAULT_LIMITS.max_blob_bytes)

__all__ = ["InEnd", "MailboxLimits", "Offered", "OutEnd", "Ranges", "Vouch"]

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Ascending ranges of numbers, first and last of each included."""


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What an out/ offers at one moment.

    Attributes:
        first_offered: lowest number that is not withdrawn, `next_sequence` if there is none.
        next_sequence: number that the next message will have.
        names: number of each message offered, ascending, and its file name.
        blobs: digest and size in bytes of each blob offered, in the order of the messages that name them: a peer with
            little room must not be filled with what later messages need.
        acknowledgement: content of the slot, b"" if it is empty.
    """

    first_offered: int
    next_sequence: int
    names: Mapping[int, str]
    blobs: tuple[tuple[str, int], ...]
    acknowledgement: bytes


class OutEnd:
    """`out/` of one mailbox, to be read by a courier. Threads may share it."""

    def __init__(self, fs: FileSystem, base: str) -> None:
        self._fs = fs
        self._out = f"{base}/{OUT}"
        self._state = f"{base}/{STATE}"
        self._blob_bytes: dict[str, int] = {}
        self._named: dict[str, tuple[str, ...]] = {}

    def look(self) -> Offered:
        """What is offered now. Raises CorruptObjectError if the mailbox's state cannot be read."""
        names, first_offered, next_sequence = self._numbers()
        # After the messages: so every blob of a message that is listed is listed, unless it is withdrawn just now.
        blobs = self._in_order(names.values(), self._blobs())
        try:
            acknowledgement = self._fs.read(f"{self._out}/{ACK}", max_bytes=DEFAULT_LIMITS.max_envelope_bytes)
        except ObjectNotFoundError:
            acknowledgement = b""
        return Offered(
            first_offered=first_offered,
            next_sequence=next_sequence,
            names=names,
            blobs=blobs,
            acknowledgement=acknowledgement,
        )

    def read_message(self, name: str) -> bytes | None:
        """The bytes of one message; None if it was withdrawn. Raises ProtocolError if it is no message's name."""
        _parsed(name)
        try:
            return self._fs.read(f"{self._out}/{name}", max_bytes=DEFAULT_LIMITS.max_envelope_bytes)
        except ObjectNotFoundError:
            return None

    def read_piece(self, digest: str, piece: int) -> bytes:
        """One piece of an offered blob, 1 MiB but for the last one. Raises ObjectNotFoundError, ProtocolError."""
        _check_digest(digest)
        if 0 <= piece < _MAX_PIECES:
            path = f"{self._out}/{BLOBS}/{digest}"
            data = self._fs.read_range(path, piece * BLOB_PIECE_BYTES, BLOB_PIECE_BYTES)
            if data:
                return data
        raise ObjectNotFoundError(f"blob {digest}: expected a piece {piece}, found none")

    def check_not_rolled_back(self, received_through: int) -> None:
        """Raises RolledBackError if the peer has received a number that this mailbox has not used yet."""
        _, _, next_sequence = self._numbers()
        if received_through >= next_sequence:
            raise RolledBackError(
                f"{self._out}: expected the peer to have received messages below {next_sequence}, "
                f"found that it has received {received_through}",
                advice="This mailbox was restored from an old backup: its next messages would carry used numbers.",
            )

    def _numbers(self) -> tuple[dict[int, str], int, int]:
        """The messages offered, the first number that is not withdrawn, and the next one, all as of one moment.

        The mailbox writes its state before it deletes messages, and not whenever it posts one. So the names count,
        and where there are none the state; a state that changed meanwhile does not fit the names in between.
        """
        before = read_state(self._fs, self._state).next_sequence
        while True:
            names, used = self._listed()
            after = read_state(self._fs, self._state).next_sequence
            if after == before:
                following = max(after, max(used, default=0) + 1)
                return names, min(used, default=following), following
            before = after

    def _listed(self) -> tuple[dict[int, str], set[int]]:
        """The messages offered, and all numbers in use: one that is only staged is offered soon, perhaps was before."""
        names: dict[int, str] = {}
        used: set[int] = set()
        for name in self._fs.list(self._out):
            found = parse_message_name(name.removesuffix(STAGED_SUFFIX))
            if found is not None:
                used.add(found.sequence)
                if not name.endswith(STAGED_SUFFIX):
                    names[found.sequence] = name
        return names, used

    def _in_order(self, names: Iterable[str], blobs: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        known = self._named  # a message never changes: it is read once
        self._named = {name: known[name] if name in known else self._named_by(name) for name in names}
        order = dict.fromkeys(digest for named in self._named.values() for digest in named if digest in blobs)
        return tuple((digest, blobs[digest]) for digest in (*order, *sorted(blobs.keys() - order.keys())))

    def _named_by(self, name: str) -> tuple[str, ...]:
        try:
            return blobs_named_by(self.read_message(name) or b"")
        except (ProtocolError, LimitExceededError):  # its reader says what is wrong with it
            return ()

    def _blobs(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for digest in filter(is_digest, self._fs.list(f"{self._out}/{BLOBS}")):
            with suppress(ObjectNotFoundError):  # withdrawn just now
                found[digest] = self._blob_bytes.get(digest) or self._fs.size(f"{self._out}/{BLOBS}/{digest}")
        self._blob_bytes = found  # a blob never changes: its size is asked for once
        return found


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
        parsed = _parsed(name)
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
            _check_digest(digest)
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

    def put_piece(self, digest: str, num_bytes: int, piece: int, data: bytes | memoryview) -> bool:
        """Stores one piece; returns whether the blob is complete in in/blobs now, durably. Pieces come in any order.

        Raises:
            ProtocolError, LimitExceededError, OverloadedError: as `pieces_missing`; or not this piece's length.
            DigestMismatchError: all pieces are there and do not have the digest; all were thrown away.
            DiskFullError: no space; the piece is not here.
        """
        self._check_blob(digest, num_bytes)
        if self._arriving.is_complete(digest, num_bytes):
            return True
        with self._arriving.leased(digest, num_bytes) as partial:
            if partial is None:
                return True
            partial.put(piece, data)
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
        _check_digest(digest)
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


def _parsed(name: str) -> MessageName:
    parsed = parse_message_name(name)
    if parsed is None:
        raise ProtocolError(f"message: expected <12 digits>-<16 hexadecimal characters>.msg, found {name!r:.80}")
    return parsed


def _check_digest(digest: str) -> None:
    if not is_digest(digest):
        raise ProtocolError(f"blob: expected a digest of 64 lower-case hexadecimal characters, found {digest!r:.80}")


def _check_message_size(name: str, data: bytes) -> None:
    if len(data) > DEFAULT_LIMITS.max_envelope_bytes:
        raise LimitExceededError(
            f"{name}: expected {DEFAULT_LIMITS.max_envelope_bytes} bytes at most, found {len(data)}"
        )
