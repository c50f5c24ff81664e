# SPDX-License-Identifier: Apache-2.0
"""A small file that is looked at again and again: read when it has changed, otherwise only its fingerprint is taken."""

from collections.abc import Callable
from typing import Generic, TypeVar

from federation.durable.api import FileSystem
from federation.errors import FederationError, ObjectNotFoundError

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """What a file says, as of the last time that it could be read.

    Attributes:
        value: what was read last.
    """

    def __init__(self, fs: FileSystem, path: str, read: Callable[[], T], value: T) -> None:
        """Takes `value` for what the file says now; `look` tells of what comes after."""
        self.value = value
        self._fs, self._path, self._read = fs, path, read
        self._seen = self._fingerprint()

    @classmethod
    def unread(cls, fs: FileSystem, path: str, read: Callable[[], T], default: T) -> "WatchedFile[T]":
        """One that is read by the first `look`; until it can be, `default`."""
        found = cls(fs, path, read, default)
        found._seen = ()
        return found

    def look(self) -> bool:
        """Reads the file if it has changed since the last look; returns whether it was read.

        Raises:
            FederationError: it cannot be read; `value` stays, and the same content is not read again.
        """
        seen = self._fingerprint()
        if seen == self._seen:
            return False
        self._seen = seen  # before reading: a change meanwhile is met by the next look
        self.value = self._read()
        return True

    def _fingerprint(self) -> tuple[int, ...] | None:
        try:
            return self._fs.fingerprint(self._path)
        except ObjectNotFoundError:
            return None
        except FederationError:
            return (-1,)
