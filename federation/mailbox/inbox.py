# SPDX-License-Identifier: Apache-2.0
"""The receiving half of a mailbox: verifies what couriers brought, in any order, twice, partly; delivers in sequence.

A file in in/ becomes a message in this order:

1. Its name is a message's, and its number is not done yet.
2. It is no larger than an envelope may be.
3. Its bytes are the ones that its name speaks of.
4. The envelope is signed by the peer's key, and by no other.
5. It is a message of this protocol.
6. Header: this consortium, from the peer, to us, with the number of its name, not too many blobs.
7. Epoch: not an older one beyond the last number that its successor named; one message for each number.

What fails is removed and reported, and counts for nothing: the genuine message is brought again. What fails at 3, or
cannot be read, is first left alone: `federation.mailbox.not_yet`. A message that passed and has expired, or whose blobs
do not come, is refused and counts as received.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from federation import dsse
from federation.blobs.store import BlobStore
from federation.durable.api import FileSystem
from federation.errors import (
    DigestMismatchError,
    FederationError,
    InvalidTransition,
    LimitExceededError,
    ObjectNotFoundError,
    ProtocolError,
    StorageError,
    StorageUnavailableError,
)
from federation.ids import is_digest
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.layout import (
    ACK,
    BLOBS,
    IN,
    MessageName,
    is_carriers_own,
    is_named_by,
    parse_message_name,
)
from federation.mailbox.not_yet import Leftovers, Mark, NotYet, remove_anything
from federation.mailbox.outbox import MAX_BLOBS_PER_MESSAGE, Address
from federation.mailbox.state import StateFile
from federation.messages import Acknowledgement, Header, Message
from federation.wire import message_from_bytes

WINDOW: Final = 16_384
"""Messages beyond `received_through` that are looked at; the rest waits in in/."""

MAX_HELD_BYTES: Final = 64 * 1024 * 1024
"""Bytes of verified messages kept in memory."""

MAX_REJECTED: Final = 1000
"""Reports kept until somebody takes them."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """A verified message that is not done yet. `ready`: all its blobs are durable in the store."""

    sequence: int
    message: Message
    raw: bytes
    ready: bool


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """Something in in/ that was not accepted, for the security log.

    Attributes:
        error: name of the error's class, one of `federation.errors`; "" for what was refused by its owner.
    """

    name: str
    reason: str
    error: str = ""


class Inbox:
    """`in/` of one mailbox."""

    def __init__(
        self,
        fs: FileSystem,
        base: str,
        blobs: BlobStore,
        address: Address,
        state: StateFile,
        max_blob_wait_seconds: int,
    ) -> None:
        self._fs = fs
        self._in = f"{base}/{IN}"
        self._blobs = blobs
        self._address = address
        self._state = state
        self._max_blob_wait_us = max_blob_wait_seconds * 1_000_000
        self._held: dict[int, Received] = {}
        self._names: dict[int, str] = {}
        self._done_names: dict[int, str] = {}
        self._held_bytes = 0
        self._last_ack = b""
        self._not_yet = NotYet(fs, self._max_blob_wait_us)
        self._leftovers = Leftovers(fs, self._max_blob_wait_us)
        self.rejected: list[Rejected] = []

    def collect(self, peer_public: bytes, now_us: int) -> list[Received]:
        """See `Mailbox.collect`."""
        self._take_ack(peer_public, now_us)
        unwanted = self._take_messages(peer_public, now_us)
        for sequence in sorted(self._held):
            self._settle(sequence, now_us)
        self._leftovers.sweep(unwanted + self._unwanted_blobs(), now_us)
        return list(self._deliverable())

    def done(self, sequence: int) -> None:
        """See `Mailbox.done`."""
        if self._state.now.is_done(sequence):
            return
        held = self._held.get(sequence)
        if held is None or not held.ready:
            what = "unknown" if held is None else "waiting for its blobs"
            raise InvalidTransition(f"message {sequence} of {self._address.peer}", what, "done")
        self._finish(sequence)

    def refuse(self, sequence: int, reason: str) -> None:
        """See `Mailbox.refuse`."""
        if self._state.now.is_done(sequence):
            return
        if sequence not in self._held:
            raise InvalidTransition(f"message {sequence} of {self._address.peer}", "unknown", "refused")
        self._report(self._names[sequence], reason)
        self._finish(sequence)

    def pending_blobs(self) -> tuple[str, ...]:
        """Blobs that verified messages wait for, each once, in the order of the messages."""
        missing = (d for _, held in sorted(self._held.items()) if not held.ready for d in self._missing(held))
        return tuple(dict.fromkeys(missing))

    def _deliverable(self) -> Iterator[Received]:
        sequence = self._state.now.received_through + 1
        while sequence in self._held or self._state.now.is_done(sequence):
            if sequence in self._held:
                yield self._held[sequence]
            sequence += 1

    def _take_messages(self, peer_public: bytes, now_us: int) -> list[str]:
        """Takes what is new; returns the paths of what nobody waits for."""
        unwanted: list[str] = []
        for name in self._fs.list(self._in):
            if name in (ACK, BLOBS):
                continue
            parsed = parse_message_name(name)  # 1
            if parsed is None:
                if is_carriers_own(name):
                    unwanted.append(f"{self._in}/{name}")
                else:
                    self._reject(name, ProtocolError("not the name of a message"))
            elif self._is_wanted(name, parsed.sequence):
                self._take_message(name, parsed, peer_public, now_us)
            elif self._state.durable.is_done(parsed.sequence):
                unwanted.append(f"{self._in}/{name}")
        return unwanted

    def _unwanted_blobs(self) -> list[str]:
        """Paths of the blobs that no message waits for now; one may have come before its message, so it is kept."""
        wanted = set(self.pending_blobs())
        unwanted: list[str] = []
        for name in self._fs.list(f"{self._in}/{BLOBS}"):
            if not is_digest(name) and not is_carriers_own(name):
                self._reject(f"{BLOBS}/{name}", ProtocolError("not the name of a blob"))
            elif name not in wanted:
                unwanted.append(f"{self._in}/{BLOBS}/{name}")
        return unwanted

    def _is_wanted(self, name: str, sequence: int) -> bool:
        state = self._state.now
        if state.is_done(sequence):  # in/ mirrors the peer's out/: what is done stays until the peer withdraws it
            if self._done_names.get(sequence, name) != name:
                self._reject(name, ProtocolError(f"a second message {sequence} after {self._done_names[sequence]}"))
            return False
        if self._names.get(sequence) == name or sequence > state.received_through + WINDOW:
            return False
        return self._held_bytes <= MAX_HELD_BYTES or self._is_needed_next(sequence)

    def _is_needed_next(self, sequence: int) -> bool:
        """Whether nothing can be delivered before this message: then it is read however much is held beyond it."""
        first = self._state.now.received_through + 1
        while self._state.now.is_done(first):
            first += 1
        return sequence == first

    def _take_message(self, name: str, parsed: MessageName, peer_public: bytes, now_us: int) -> None:
        try:
            raw = self._read(name, now_us, lambda found: is_named_by(parsed, found))
            if raw is None:
                return
            message = self._open(raw, peer_public)
            self._check_header(message.header, parsed.sequence)
            self._check_epoch(message.header, parsed.sequence)
            self._check_single(name, message.header)
        except (FederationError, OSError) as error:
            self._reject(name, error)
            return
        self._hold(name, raw, message)

    def _read(self, name: str, now_us: int, is_whole: Callable[[bytes], bool]) -> bytes | None:
        """The file's bytes; None if it is not there, or not whole yet.

        Raises:
            LimitExceededError: it is too long.
            DigestMismatchError: it did not become whole in time.
            StorageError: it is no file, or could not be read in time.
        """
        path = f"{self._in}/{name}"
        try:
            mark = self._not_yet.look(path, now_us)
            if mark is None:
                return None
            raw = self._fs.read(path, max_bytes=DEFAULT_LIMITS.max_envelope_bytes)  # 2
        except ObjectNotFoundError:
            if self._fs.exists(path):
                raise StorageError("expected a regular file, found another kind") from None
            return None
        except StorageUnavailableError:
            if self._not_yet.fails(path, now_us):
                raise
            return None
        if not is_whole(raw):  # 3
            if self._not_yet.differs(path, mark, now_us):
                raise DigestMismatchError("incomplete, or other bytes than its name speaks of")
            return None
        self._not_yet.forget(path)
        return raw

    def _open(self, raw: bytes, peer_public: bytes) -> Message:
        return message_from_bytes(dsse.open_envelope(raw, dsse.MESSAGE_TYPE, peer_public))  # 4, 5

    def _check_header(self, header: Header, sequence: int) -> None:  # 6
        address = self._address
        expected = (address.consortium, address.peer, address.me, sequence)
        found = (header.consortium, header.sender, header.recipient, header.sequence)
        if found != expected:
            raise ProtocolError(f"header: expected {expected}, found {found!r:.300}")
        if len(header.blobs) > MAX_BLOBS_PER_MESSAGE:
            raise LimitExceededError(f"header: expected {MAX_BLOBS_PER_MESSAGE} blobs, found {len(header.blobs)}")

    def _check_epoch(self, header: Header, sequence: int) -> None:  # 7
        state = self._state.now
        if header.epoch < state.peer_epoch:
            if sequence > state.peer_previous_last:
                last = state.peer_previous_last
                raise ProtocolError(f"epoch {header.epoch}: expected to end at {last}, found message {sequence}")
            return
        last = header.previous_epoch_last
        if header.epoch == state.peer_epoch and last != state.peer_previous_last:
            raise ProtocolError(f"epoch {header.epoch}: expected to follow {state.peer_previous_last}, found {last}")
        if header.epoch < 1 or last < state.peer_previous_last or (sequence and sequence <= last):
            raise ProtocolError(f"epoch {header.epoch}: expected a number beyond {last}, found {sequence}")
        if header.epoch > state.peer_epoch:
            self._adopt_epoch(header)

    def _adopt_epoch(self, header: Header) -> None:
        """The peer has a new epoch: what older ones signed beyond its beginning is void, unless it is done."""
        last = header.previous_epoch_last
        self._state.now = replace(self._state.now, peer_epoch=header.epoch, peer_previous_last=last)
        for sequence in [s for s, held in self._held.items() if s > last and held.message.header.epoch < header.epoch]:
            name = self._names[sequence]
            self._release(sequence)
            self._reject(
                name, ProtocolError(f"signed by an epoch before {header.epoch}, beyond its last message {last}")
            )

    def _check_single(self, name: str, header: Header) -> None:
        if header.sequence in self._held:
            first = self._names[header.sequence]
            raise ProtocolError(f"expected one message {header.sequence}, found {name} after {first}")

    def _hold(self, name: str, raw: bytes, message: Message) -> None:
        sequence = message.header.sequence
        self._held[sequence] = Received(sequence=sequence, message=message, raw=raw, ready=not message.header.blobs)
        self._names[sequence] = name
        self._held_bytes += len(raw)
        self._peer_has(name, message.header.received_through)

    def _release(self, sequence: int) -> None:
        held = self._held.pop(sequence)
        del self._names[sequence]
        self._held_bytes -= len(held.raw)

    def _finish(self, sequence: int) -> None:
        self._done_names[sequence] = self._names[sequence]
        if len(self._done_names) > WINDOW:
            del self._done_names[next(iter(self._done_names))]
        self._release(sequence)
        self._state.now = self._state.now.with_done(sequence)

    def _take_ack(self, peer_public: bytes, now_us: int) -> None:
        if not self._fs.exists(f"{self._in}/{ACK}"):
            return
        try:
            # Its name says nothing about its bytes: one whose signature does not hold may be incomplete.
            raw = self._read(ACK, now_us, lambda found: found == self._last_ack or self._opens(found, peer_public))
            if raw is None or raw == self._last_ack:
                return
            message = self._open(raw, peer_public)
            self._check_header(message.header, 0)
            if not isinstance(message.body, Acknowledgement) or message.header.epoch < self._state.now.peer_epoch:
                raise ProtocolError("expected an acknowledgement of the peer's present epoch, found something else")
            self._check_epoch(message.header, 0)
        except (FederationError, OSError) as error:
            self._reject(ACK, error)
            return
        self._last_ack = raw
        self._peer_has(ACK, message.header.received_through)

    def _opens(self, raw: bytes, peer_public: bytes) -> bool:
        try:
            self._open(raw, peer_public)
        except FederationError:
            return False
        return True

    def _peer_has(self, name: str, received_through: int) -> None:
        state = self._state.now
        if received_through >= state.next_sequence:
            last = state.next_sequence - 1
            self._report(name, f"acknowledges message {received_through}, the last one posted is {last}")
        elif received_through > state.peer_received_through:
            self._state.now = replace(state, peer_received_through=received_through)

    def _settle(self, sequence: int, now_us: int) -> None:
        """Refuses an expired message; otherwise takes over its blobs as far as they are there."""
        held = self._held[sequence]
        expires_at_us = held.message.header.expires_at_us
        if expires_at_us and now_us > expires_at_us:
            self.refuse(sequence, f"expired at {expires_at_us} us, it is {now_us} us")
        elif not held.ready:
            missing = [digest for digest in self._missing(held) if not self._import(digest, now_us)]
            if missing:
                self._wait_for(sequence, missing[0], now_us)
            else:
                self._held[sequence] = replace(held, ready=True)

    def _missing(self, held: Received) -> list[str]:
        return [digest for digest in held.message.header.blobs if not self._blobs.has(digest)]

    def _wait_for(self, sequence: int, digest: str, now_us: int) -> None:
        since = self._state.now.waiting_since_us.get(sequence)
        if since is None:
            waiting = {**self._state.now.waiting_since_us, sequence: now_us}
            self._state.now = replace(self._state.now, waiting_since_us=waiting)
        elif now_us - since > self._max_blob_wait_us:
            self.refuse(sequence, f"blob {digest} did not come within {self._max_blob_wait_us // 1_000_000} seconds")

    def _import(self, digest: str, now_us: int) -> bool:
        """Takes a blob over if its file is complete. A file seen incomplete is read again only when it has changed."""
        path = f"{self._in}/{BLOBS}/{digest}"
        try:
            mark = self._not_yet.look(path, now_us)
            if mark is None or not self._import_or_reject(digest, path, mark, now_us):
                return False
        except ObjectNotFoundError:
            return False
        except StorageUnavailableError:  # its message has a bound of its own
            return False
        self._not_yet.forget(path)
        return True

    def _import_or_reject(self, digest: str, path: str, mark: Mark, now_us: int) -> bool:
        try:
            self._blobs.import_file(path, digest)
        except (DigestMismatchError, LimitExceededError) as error:
            if self._not_yet.differs(path, mark, now_us):
                self._reject(f"{BLOBS}/{digest}", error)
            return False
        return True

    def _reject(self, name: str, error: Exception) -> None:
        self._report(name, str(error), type(error).__name__)
        remove_anything(self._fs, f"{self._in}/{name}")

    def _report(self, name: str, reason: str, error: str = "") -> None:
        if len(self.rejected) < MAX_REJECTED:
            self.rejected.append(Rejected(name=name, reason=reason, error=error))
