# SPDX-License-Identifier: Apache-2.0
"""What the courier's calls do, in plain data: both ends of each peer's mailbox, found by the certificate's id alone."""

import hashlib
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from federation.durable.api import FileSystem
from federation.errors import LimitExceededError, ProtocolError, ProtocolVersionError
from federation.ids import check_slug, is_digest
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.ends import InEnd, MailboxLimits, Offered, OutEnd, Ranges, Vouch
from federation.merkle import BLOB_PIECE_BYTES
from federation.rpc.channel import PROTOCOL_VERSIONS
from federation.rpc.pieces import MAX_PIECES_PER_MESSAGE, Data

MAX_REPLY_BYTES: Final = DEFAULT_LIMITS.max_envelope_bytes
"""Messages of one reply together; a single one may be as large."""

MAX_MESSAGES: Final = 4096
"""Messages in one call."""

MAX_RANGES: Final = 16_384
MAX_OFFERED_BLOBS: Final = 65_536
MAX_RANGES_IN_REPLY: Final = 4096
MAX_PIECES: Final = 64
"""Pieces of one GetBlob call."""

MAX_VERSIONS: Final = 64

Named = tuple[str, bytes]
"""File name and bytes of a message."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a caller of Pull has.

    Attributes:
        have: ascending ranges of sequences that lie in its in/.
        received_through: all up to here was acted upon.
        acknowledgement_digest: SHA-256 of the slot that it has, b"" for none.
        max_bytes: of messages in the answer; 0 leaves it to us.
    """

    have: Ranges
    received_through: int
    acknowledgement_digest: bytes
    max_bytes: int


@dataclass(frozen=True, kw_only=True)
class Brought:
    """An answer to Pull; `acknowledgement` is b"" if the caller has it."""

    messages: tuple[Named, ...]
    offered: Offered
    acknowledgement: bytes

    @property
    def is_news(self) -> bool:
        """Whether there is anything that the caller lacks."""
        return bool(self.messages or self.acknowledgement)


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a caller of Push offers, and the messages among it that it sends along."""

    messages: tuple[Named, ...]
    first_offered: int
    next_sequence: int
    acknowledgement: bytes
    blobs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """An answer to Push. `is_news`: something arrived that was not there before."""

    have: Ranges
    received_through: int
    blobs_missing: tuple[str, ...]
    is_news: bool


class PeerMailbox:
    """One peer's mailbox as the network sees it. Threads may share it."""

    def __init__(self, fs: FileSystem, peer: str, limits: MailboxLimits, vouch: Vouch | None = None) -> None:
        base = f"mailbox/{check_slug(peer, 'peer')}"
        self._out = OutEnd(fs, base)
        self._in = InEnd(fs, base, limits, vouch)

    def pull(self, wanted: Wanted) -> Brought:
        """What is offered, and as many of the messages that the caller lacks as fit.

        Raises:
            RolledBackError: the caller has received what we have not sent: this directory is an old backup.
        """
        self._out.check_not_rolled_back(wanted.received_through)
        offered = self._out.look()
        slot = offered.acknowledgement
        known = slot and hashlib.sha256(slot).digest() == wanted.acknowledgement_digest
        max_bytes = min(wanted.max_bytes or MAX_REPLY_BYTES, MAX_REPLY_BYTES)
        return Brought(
            messages=self._messages(lacking(offered, wanted), max_bytes),
            offered=offered,
            acknowledgement=b"" if known else slot,
        )

    def push(self, pushed: Pushed) -> Taken:
        """Takes messages and the slot in, and takes away what is no longer offered.

        Raises:
            RolledBackError: the caller has withdrawn, as received, what we know nothing of.
            ProtocolError, LimitExceededError, OverloadedError: see `InEnd`.
        """
        self._in.check_not_rolled_back(pushed.first_offered)
        digests = [digest for digest, _ in pushed.blobs]
        self._in.withdraw(pushed.first_offered, digests, next_sequence=pushed.next_sequence)
        arrived = [self._in.accept(name, data) for name, data in pushed.messages]
        acknowledged = self._in.acknowledge(pushed.acknowledgement)
        return Taken(
            have=self._in.have()[:MAX_RANGES],
            received_through=self._in.received_through(),
            blobs_missing=tuple(self._in.missing_blobs(pushed.blobs)),
            is_news=acknowledged or any(arrived),
        )

    def pieces_missing(self, digest: str, num_bytes: int) -> Ranges:
        """Pieces of a blob that are not durable here, the first ranges of them; () if it is complete."""
        return self._in.pieces_missing(digest, num_bytes)[:MAX_RANGES_IN_REPLY]

    def pieces_absent(self, digest: str, num_bytes: int) -> Ranges:
        """Pieces of a blob that are not here, durable or not, the first ranges of them; () if it is complete."""
        return self._in.pieces_absent(digest, num_bytes)[:MAX_RANGES_IN_REPLY]

    def put_pieces(self, digest: str, num_bytes: int, first: int, data: bytes | memoryview) -> bool:
        """See `InEnd.put_pieces`."""
        return self._in.put_pieces(digest, num_bytes, first, data)

    def read_pieces(self, digest: str, first: int, num_pieces: int = 1) -> bytes:
        """See `OutEnd.read_pieces`."""
        return self._out.read_pieces(digest, first, num_pieces)

    def close(self) -> None:
        """Makes what has arrived durable and releases all files."""
        self._in.close()

    def _messages(self, names: Iterable[str], max_bytes: int) -> tuple[Named, ...]:
        found: list[Named] = []
        room = max_bytes
        for name in names:
            data = self._out.read_message(name)
            if data is None:  # withdrawn since
                continue
            if found and (len(data) > room or len(found) == MAX_MESSAGES):
                break
            found.append((name, data))
            room -= len(data)
        return tuple(found)


class CourierDesk:
    """Mailboxes by peer, each opened once."""

    def __init__(self, fs: FileSystem, limits: MailboxLimits, vouch: Vouch | None = None) -> None:
        """Takes what is told of blobs that were verified as they came: `BlobStore.vouch`."""
        self._fs = fs
        self._limits = limits
        self._vouch = vouch
        self._lock = threading.Lock()
        self._mailboxes: dict[str, PeerMailbox] = {}

    def mailbox(self, peer: str) -> PeerMailbox:
        """The mailbox of a member; `peer` is its certificate's id, never anything that it sent."""
        with self._lock:
            if peer not in self._mailboxes:
                self._mailboxes[peer] = PeerMailbox(self._fs, peer, self._limits, self._vouch)
            return self._mailboxes[peer]

    def forget(self, peers: Collection[str]) -> None:
        """Releases the mailboxes of revoked peers: one that is readmitted begins with an empty one, at number 1."""
        with self._lock:
            for peer in self._mailboxes.keys() & set(peers):
                self._mailboxes.pop(peer).close()

    def close(self) -> None:
        """Closes all mailboxes."""
        with self._lock:
            for mailbox in self._mailboxes.values():
                mailbox.close()
            self._mailboxes.clear()


def lacking(offered: Offered, wanted: Wanted) -> list[str]:
    """File names of the offered messages that the caller lacks, ascending by sequence."""
    ranges = iter(wanted.have)
    first, last = next(ranges, (0, 0))
    names = []
    for sequence, name in offered.names.items():
        while last and last < sequence:
            first, last = next(ranges, (0, 0))
        if sequence > wanted.received_through and not (last and first <= sequence):
            names.append(name)
    return names


def common_version(theirs: Iterable[int]) -> int:
    """The highest protocol version that both ends speak. Raises ProtocolVersionError."""
    found = tuple(theirs)
    both = set(found[:MAX_VERSIONS]).intersection(PROTOCOL_VERSIONS)
    if not both:
        ours = ", ".join(map(str, PROTOCOL_VERSIONS))
        raise ProtocolVersionError(
            f"protocol version: expected {ours}, found {', '.join(map(str, found[:8])) or 'none'}",
            advice="One of the two ends has to be updated.",
        )
    return max(both)


def checked_ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges that a peer sent, if they are ascending, without overlap and not too many.

    Raises:
        ProtocolError, LimitExceededError: they are not.
    """
    found = tuple(pairs)
    check_count(len(found), MAX_RANGES, "ranges")
    end = 0
    for first, last in found:
        if not end < first <= last:
            raise ProtocolError(f"ranges: expected ascending ones from 1, found {first} to {last} after {end}")
        end = last
    return found


def checked_digest(digest: bytes) -> str:
    """A blob's digest in hexadecimal. Raises ProtocolError."""
    if not is_digest(digest.hex()):
        raise ProtocolError(f"blob: expected a digest of 32 bytes, found {len(digest)} bytes")
    return digest.hex()


def checked_pieces(first: int, count: int, per_message: int) -> Iterator[tuple[int, int]]:
    """Pieces that a peer asks for: of each message, the first and how many. Raises LimitExceededError."""
    if not 0 < count <= MAX_PIECES or first > DEFAULT_LIMITS.max_blob_bytes:
        raise LimitExceededError(f"GetBlob: expected 1 to {MAX_PIECES} pieces, found {count} from piece {first}")
    step, end = min(max(per_message, 1), MAX_PIECES_PER_MESSAGE), first + count
    return ((piece, min(step, end - piece)) for piece in range(first, end, step))


def checked_data(data: Data) -> Data:
    """What one message of PutBlob carries. Raises LimitExceededError."""
    if len(data) > MAX_PIECES_PER_MESSAGE * BLOB_PIECE_BYTES:
        found = f"{MAX_PIECES_PER_MESSAGE} pieces in a message at most, found {len(data)} bytes"
        raise LimitExceededError(f"PutBlob: expected {found}")
    return data


def check_count(found: int, limit: int, what: str) -> None:
    """Bounds a list that a peer sent. Raises LimitExceededError."""
    if found > limit:
        raise LimitExceededError(f"{what}: expected at most {limit}, found {found}")
