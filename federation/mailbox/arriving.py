# SPDX-License-Identifier: Apache-2.0
"""What a peer is bringing into one mailbox: its unfinished blobs, and the room that it may take up."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from federation.blobs.partial import PART_SUFFIX, PIECES_SUFFIX, PartialBlob, discard_partial
from federation.durable.api import FileSystem
from federation.errors import ObjectNotFoundError, OverloadedError, ProtocolError
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.layout import BLOBS, IN, PARTIAL

MAX_OPEN_BLOBS: Final = 16
"""Unfinished blobs of one peer that are kept open."""

Vouch: TypeAlias = Callable[[str, str, tuple[int, ...]], None]
"""(path, digest, fingerprint): this process has hashed the bytes of the file that gets this path as it wrote them."""

RETRY_SECONDS: Final = 5.0
"""When a peer that was refused for lack of room may try again."""


@dataclass(frozen=True, kw_only=True)
class MailboxLimits:
    """What one peer may leave in in/.

    Attributes:
        max_pending_bytes: messages, blobs and unfinished blobs together; beyond it OverloadedError.
        max_pending_files: the same, counted; beyond it OverloadedError.
        max_blob_bytes: one blob; beyond it LimitExceededError.
    """

    max_pending_bytes: int = 2 * DEFAULT_LIMITS.max_blob_bytes
    max_pending_files: int = 20_000
    max_blob_bytes: int = DEFAULT_LIMITS.max_blob_bytes


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What lies here."""

    num_bytes: int
    num_files: int


class Room:
    """How much a peer has left in one mailbox. Threads may share it."""

    def __init__(self, fs: FileSystem, base: str, limits: MailboxLimits) -> None:
        self._fs = fs
        self._directories = (f"{base}/{IN}", f"{base}/{IN}/{BLOBS}", f"{base}/{PARTIAL}")
        self._limits = limits
        self._lock = threading.Lock()
        self._held: _Held | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes that the peer has left, unfinished blobs in full; perhaps some that were taken away since."""
        with self._lock:
            self._held = self._held or self._count()
            return self._held.num_bytes

    def take(self, num_bytes: int) -> None:
        """Counts one more file. Raises OverloadedError if there is no room for it."""
        with self._lock:
            held = self._expect_room(num_bytes)
            self._held = _Held(num_bytes=held.num_bytes + num_bytes, num_files=held.num_files + 1)

    def check(self, num_bytes: int) -> None:
        """Raises OverloadedError if there is no room for one more file of this size."""
        with self._lock:
            self._held = self._expect_room(num_bytes)

    def recount(self) -> None:
        """Says that files were taken away."""
        with self._lock:
            self._held = None

    def _expect_room(self, num_bytes: int) -> _Held:
        # What was counted as it came can only have become less: it is looked at again before anything is refused.
        held = self._held or self._count()
        if not self._fits(held, num_bytes):
            held = self._count()
        if not self._fits(held, num_bytes):
            limits = self._limits
            raise OverloadedError(
                f"{self._directories[0]}: expected {limits.max_pending_bytes} bytes in {limits.max_pending_files} "
                f"files at most, found {held.num_bytes} in {held.num_files} and {num_bytes} bytes more",
                advice="They go when they have been acted upon; the same call is then worth another try.",
                retry_after_seconds=RETRY_SECONDS,
            )
        return held

    def _fits(self, held: _Held, num_bytes: int) -> bool:
        fits = held.num_bytes + num_bytes <= self._limits.max_pending_bytes
        return fits and held.num_files < self._limits.max_pending_files

    def _count(self) -> _Held:
        sizes: list[int] = []
        for directory in self._directories:
            for name in self._fs.list(directory):
                if not name.endswith(PIECES_SUFFIX):
                    with suppress(ObjectNotFoundError):  # a directory, or gone since
                        sizes.append(self._fs.size(f"{directory}/{name}"))
        return _Held(num_bytes=sum(sizes), num_files=len(sizes))


@dataclass
class _Lease:
    """An open unfinished blob, and how many calls use it now."""

    partial: PartialBlob
    num_users: int = 0


class ArrivingBlobs:
    """Unfinished blobs of one mailbox: opened once, shared by calls, closed when others are wanted."""

    def __init__(self, fs: FileSystem, base: str, room: Room, vouch: Vouch | None = None) -> None:
        self._fs = fs
        self._partial = f"{base}/{PARTIAL}"
        self._blobs = f"{base}/{IN}/{BLOBS}"
        self._room = room
        self._vouch = vouch
        self._lock = threading.Lock()
        # In the order of their last use: the one used longest ago is closed first.
        self._open: dict[str, _Lease] = {}

    def is_complete(self, digest: str, num_bytes: int) -> bool:
        """Whether the blob lies in in/blobs with this size."""
        try:
            return self._fs.size(f"{self._blobs}/{digest}") == num_bytes
        except ObjectNotFoundError:
            return False

    def is_begun(self, digest: str) -> bool:
        """Whether pieces of it may be here."""
        return self._fs.exists(f"{self._partial}/{digest}{PART_SUFFIX}")

    @contextmanager
    def leased(self, digest: str, num_bytes: int) -> Iterator[PartialBlob | None]:
        """The unfinished blob for one call; None if it is complete meanwhile.

        Raises:
            ProtocolError: another size than the one with which it was begun.
            OverloadedError: no room to begin it.
        """
        with self._lock:
            lease = self._open.pop(digest, None)
            if lease is None and not self.is_complete(digest, num_bytes):
                lease = self._opened(digest, num_bytes)
            if lease is not None:
                self._open[digest] = lease
                lease.num_users += 1
        if lease is None:
            yield None
            return
        try:
            begun = lease.partial.num_bytes
            if begun != num_bytes:
                raise ProtocolError(f"blob {digest}: expected {begun} bytes as when it was begun, found {num_bytes}")
            yield lease.partial
        finally:
            with self._lock:
                lease.num_users -= 1
                if lease.partial.ended and self._open.get(digest) is lease:
                    del self._open[digest]

    def publish(self, partial: PartialBlob) -> None:
        """Puts a complete blob into in/blobs. Raises DigestMismatchError."""
        path = f"{self._blobs}/{partial.digest}"
        partial.publish(path, lambda part: self._vouch_for(path, partial.digest, part))

    def _vouch_for(self, path: str, digest: str, part: str) -> None:
        """Before the name appears: whoever waits for it may look at any moment."""
        written = self._fs.fingerprint(part) if self._vouch is not None else None
        if self._vouch is not None and written is not None:
            self._vouch(path, digest, written)

    def discard_idle(self, digest: str) -> None:
        """Throws an unfinished blob away, unless a call is just bringing it: then it is offered again."""
        with self._lock:
            lease = self._open.get(digest)
            if lease is None:
                discard_partial(self._fs, self._partial, digest)
            elif not lease.num_users:
                del self._open[digest]
                lease.partial.discard()

    def checkpoint(self) -> None:
        """Makes all pieces that have arrived durable. Raises DiskFullError."""
        with self._lock:
            leases = list(self._open.values())
        for lease in leases:
            lease.partial.checkpoint()

    def close_idle(self) -> None:
        """Releases the files that no call is using."""
        with self._lock:
            for digest in [digest for digest, lease in self._open.items() if not lease.num_users]:
                self._open.pop(digest).partial.close()

    def _opened(self, digest: str, num_bytes: int) -> _Lease:
        if not self.is_begun(digest):
            self._room.take(num_bytes)
        if len(self._open) >= MAX_OPEN_BLOBS:
            idle = next((known for known, lease in self._open.items() if not lease.num_users), None)
            if idle is None:
                raise OverloadedError(f"blob {digest}: expected {MAX_OPEN_BLOBS} blobs at most at the same time")
            self._open[idle].partial.checkpoint()
            self._open.pop(idle).partial.close()
        return _Lease(PartialBlob(self._fs, self._partial, digest, num_bytes))
