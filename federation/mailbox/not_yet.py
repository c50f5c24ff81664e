# SPDX-License-Identifier: Apache-2.0
"""Files in in/ that are not what their names say, or cannot be read: not yet, until a bound.

Carriers write straight to the final name, allocate a file before they fill it, stop in the middle and go on an hour
later; a network file system shows a name before the bytes behind it. So what does not match is left alone as long as
it changes, and for a while after: taking it away would take it out of the hands of whoever is writing it.
"""

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from federation.durable.api import FileSystem
from federation.errors import StorageError

STALLED_US: Final = 60 * 1_000_000
"""What has not changed for so long is not being written any more."""

_REST_DIVISOR: Final = 8
"""A file that grows is read again after an eighth of the time that it has been growing: else a blob that takes an hour
to come would be read in full at every look.
"""

Mark: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A file that did not match. `mark` is what it looked like then, and has looked like since `since_us`."""

    mark: Mark
    first_us: int
    since_us: int
    rests_until_us: int


class NotYet:
    """Remembers which files did not match, so that only those are read again for which it can help.

    In memory alone: a restart begins every wait anew.
    """

    def __init__(self, fs: FileSystem, max_wait_us: int) -> None:
        """`max_wait_us` bounds the wait for a file that changes all the time and never matches."""
        self._fs = fs
        self._max_wait_us = max_wait_us
        self._seen: dict[str, _Seen] = {}

    def look(self, path: str, now_us: int) -> Mark | None:
        """What the file looks like, if reading it can help; None for not now.

        Raises:
            ObjectNotFoundError: it is gone.
            StorageUnavailableError: nobody can tell now.
        """
        mark = self._mark(path)
        seen = self._seen.get(path)
        if seen is None:
            return mark
        if mark != seen.mark:
            return mark if now_us >= seen.rests_until_us else None
        return mark if self._is_over(seen, now_us) else None

    def differs(self, path: str, mark: Mark, now_us: int) -> bool:
        """Says that the file, as it was looked at, did not match; returns whether its time is over."""
        seen = self._seen.get(path)
        if seen is None:
            self._seen[path] = _Seen(mark=mark, first_us=now_us, since_us=now_us, rests_until_us=now_us)
            return False
        if self._is_over(seen, now_us) and (mark == seen.mark or now_us - seen.first_us > self._max_wait_us):
            del self._seen[path]
            return True
        if mark != seen.mark:
            rest = (now_us - seen.first_us) // _REST_DIVISOR
            self._seen[path] = replace(seen, mark=mark, since_us=now_us, rests_until_us=now_us + rest)
        return False

    def fails(self, path: str, now_us: int) -> bool:
        """Says that the file could not be read; returns whether its time is over."""
        seen = self._seen.get(path)
        first_us = seen.first_us if seen is not None else now_us
        self._seen[path] = _Seen(mark=(), first_us=first_us, since_us=now_us, rests_until_us=now_us)
        return now_us - first_us > self._max_wait_us

    def forget(self, path: str) -> None:
        """Says that the file is all right, or gone."""
        self._seen.pop(path, None)

    def _is_over(self, seen: _Seen, now_us: int) -> bool:
        return now_us - seen.since_us >= STALLED_US or now_us - seen.first_us > self._max_wait_us

    def _mark(self, path: str) -> Mark:
        return self._fs.fingerprint(path) or (self._fs.size(path),)


class Leftovers:
    """Files that nobody waits for: a carrier's own unfinished ones, and what a carrier that deletes nothing leaves.

    They stay for a while, since the same name may be at work right now, and since a carrier brings what is missing.
    """

    def __init__(self, fs: FileSystem, keep_us: int) -> None:
        self._fs = fs
        self._keep_us = keep_us
        self._since_us: dict[str, int] = {}

    def sweep(self, paths: list[str], now_us: int) -> int:
        """Removes those of `paths` that have been given at every sweep for long enough; returns how many."""
        self._since_us = {path: self._since_us.get(path, now_us) for path in paths}
        old = [path for path, since in self._since_us.items() if now_us - since > self._keep_us]
        for path in old:
            remove_anything(self._fs, path)
            del self._since_us[path]
        return len(old)


def remove_anything(fs: FileSystem, path: str) -> None:
    """Removes a file, or a directory that no courier of ours has put there; what cannot be removed now stays."""
    try:
        fs.remove(path)
    except (StorageError, OSError) as error:
        if isinstance(error, StorageError) and error.retryable:
            return
        fs.remove_tree(path)
