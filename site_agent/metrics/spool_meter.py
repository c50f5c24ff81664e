# SPDX-License-Identifier: Apache-2.0
"""How much lies in the spool, found out a few entries at a time: on a parallel file system each one is a question."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ENTRIES_PER_LOOK: Final = 500


class SpoolMeter:
    """Walks through one directory again and again; a look does a bounded part of a walk."""

    def __init__(self, directory: Path) -> None:
        """Looks at nothing yet."""
        self._directory = directory
        self._walk: Iterator[int] | None = None
        self._sum = 0
        self._whole: int | None = None

    def look(self, max_entries: int = ENTRIES_PER_LOOK) -> int | None:
        """Bytes of all files as of the last walk that was finished; None before the first."""
        if self._walk is None:
            self._walk, self._sum = _sizes(self._directory), 0
        for _ in range(max_entries):
            size = next(self._walk, None)
            if size is None:
                self._walk, self._whole = None, self._sum
                break
            self._sum += size
        return self._whole


def _sizes(directory: Path) -> Iterator[int]:
    """Bytes of each entry, 0 for a directory; a file of several names counts once. What has gone meanwhile is 0."""
    seen: set[int] = set()
    left = [os.fspath(directory)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            yield _size(entry, seen, left)


def _size(entry: os.DirEntry[str], seen: set[int], left: list[str]) -> int:
    try:
        if entry.is_dir(follow_symlinks=False):
            left.append(entry.path)
            return 0
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if status.st_nlink > 1:
        if status.st_ino in seen:
            return 0
        seen.add(status.st_ino)
    return status.st_size
