# SPDX-License-Identifier: Apache-2.0
"""What a mailbox remembers over restarts: numbers only, in one small file that is replaced atomically."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from federation.durable.api import FileSystem
from federation.errors import CorruptObjectError, ObjectNotFoundError

_MAX_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class MailboxState:
    """Counters of both directions.

    Attributes:
        epoch: own epoch that last opened the mailbox, 0 before the first.
        previous_epoch_last: last sequence posted before that epoch.
        next_sequence: number of the next message, as far as it was written here; files in out/ may be ahead.
        peer_received_through: what the peer has acknowledged.
        received_through: highest sequence of the peer up to which all is acted upon or refused.
        done: sequences beyond it that are.
        peer_epoch, peer_previous_last: the peer's newest epoch seen, and the last sequence before it.
        waiting_since_us: when a message was first seen without all its blobs.
    """

    epoch: int = 0
    previous_epoch_last: int = 0
    next_sequence: int = 1
    peer_received_through: int = 0
    received_through: int = 0
    done: frozenset[int] = frozenset()
    peer_epoch: int = 0
    peer_previous_last: int = 0
    waiting_since_us: Mapping[int, int] = field(default_factory=dict)

    def is_done(self, sequence: int) -> bool:
        """Whether this message of the peer was acted upon or refused."""
        return sequence <= self.received_through or sequence in self.done

    def with_done(self, sequence: int) -> "MailboxState":
        """Marks a message of the peer; `received_through` moves over everything contiguous."""
        if self.is_done(sequence):
            return self
        done, through = set(self.done) | {sequence}, self.received_through
        while through + 1 in done:
            through += 1
            done.remove(through)
        waiting = {number: since for number, since in self.waiting_since_us.items() if number != sequence}
        return replace(self, received_through=through, done=frozenset(done), waiting_since_us=waiting)


class StateFile:
    """The state as it is now, and as it is on disk."""

    def __init__(self, fs: FileSystem, path: str) -> None:
        """Reads the file, which need not exist.

        Raises:
            CorruptObjectError: it cannot be read as a mailbox state.
        """
        self._fs = fs
        self._path = path
        self.now = read_state(fs, path)
        if fs.exists(path):
            fs.sync_paths([path])  # a killed process may have left it in the page cache only
        self.durable = self.now
        """What is on disk; only this may be told to the peer."""

    def flush(self) -> None:
        """Makes the state durable if it has changed. Raises DiskFullError."""
        if self.now != self.durable:
            self._fs.write(self._path, _encode(self.now))
            self.durable = self.now


def read_state(fs: FileSystem, path: str) -> MailboxState:
    """The state on disk, for who does not own the mailbox; as at the beginning if there is none yet.

    Raises:
        CorruptObjectError: it cannot be read as a mailbox state.
    """
    try:
        data = fs.read(path, max_bytes=_MAX_BYTES)
    except ObjectNotFoundError:
        return MailboxState()
    return _decode(path, data)


def _encode(state: MailboxState) -> bytes:
    document = {**asdict(state), "done": _ranges(state.done), "format": 1}
    return json.dumps(document, sort_keys=True).encode()


def _ranges(numbers: frozenset[int]) -> list[list[int]]:
    """First and last of each contiguous run: behind one message that waits, thousands may be done."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def _decode(path: str, data: bytes) -> MailboxState:
    try:
        document: dict[str, Any] = json.loads(data)
        if document.pop("format") != 1 or set(document) != {f.name for f in fields(MailboxState)}:
            raise ValueError("another format")
        document["done"] = frozenset(n for first, last in document["done"] for n in range(first, last + 1))
        waiting = document["waiting_since_us"].items()
        document["waiting_since_us"] = {int(number): int(since) for number, since in waiting}
        return MailboxState(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObjectError(
            f"{path}: expected a mailbox state, found {len(data)} bytes that are none ({error})",
            advice="Restore the file from a backup; without it messages could be numbered twice.",
        ) from error
