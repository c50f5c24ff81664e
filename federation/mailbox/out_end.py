# SPDX-License-Identifier: Apache-2.0
"""The end of a mailbox that offers: what is in out/, as a network courier sees it. See `federation.mailbox.ends`."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from federation.blobs.partial import num_pieces_of
from federation.durable.api import FileSystem
from federation.errors import LimitExceededError, ObjectNotFoundError, ProtocolError, RolledBackError
from federation.ids import is_digest
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.layout import (
    ACK,
    BLOBS,
    OUT,
    STAGED_SUFFIX,
    STATE,
    MessageName,
    parse_message_name,
)
from federation.mailbox.outbox import blobs_named_by
from federation.mailbox.state import read_state
from federation.merkle import BLOB_PIECE_BYTES

_MAX_PIECES: Final = num_pieces_of(DEFAULT_LIMITS.max_blob_bytes)


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
        checked_name(name)
        try:
            return self._fs.read(f"{self._out}/{name}", max_bytes=DEFAULT_LIMITS.max_envelope_bytes)
        except ObjectNotFoundError:
            return None

    def read_pieces(self, digest: str, first: int, num_pieces: int = 1) -> bytes:
        """Pieces of an offered blob, 1 MiB each but for the last one. Raises ObjectNotFoundError, ProtocolError."""
        check_digest(digest)
        if 0 <= first < _MAX_PIECES:
            path = f"{self._out}/{BLOBS}/{digest}"
            data = self._fs.read_range(path, first * BLOB_PIECE_BYTES, num_pieces * BLOB_PIECE_BYTES)
            if num_pieces_of(len(data)) == num_pieces:
                return data
        raise ObjectNotFoundError(f"blob {digest}: expected a piece {first + num_pieces - 1}, found none")

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


def checked_name(name: str) -> MessageName:
    """A message's file name, taken apart. Raises ProtocolError if it is none."""
    parsed = parse_message_name(name)
    if parsed is None:
        raise ProtocolError(f"message: expected <12 digits>-<16 hexadecimal characters>.msg, found {name!r:.80}")
    return parsed


def check_digest(digest: str) -> None:
    """Raises ProtocolError if this is no blob's digest."""
    if not is_digest(digest):
        raise ProtocolError(f"blob: expected a digest of 64 lower-case hexadecimal characters, found {digest!r:.80}")
