# SPDX-License-Identifier: Apache-2.0
"""Lines per site in a bounded store: two files each, the older one is dropped. Nothing is fsynced.

For what sites report beside the ledger: losing some of it is no loss of evidence. One process appends, others follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.durable import FileSystem
from federation.errors import ObjectNotFoundError

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
_MARK_BYTES: Final = 1024
"""So much is compared of what stands before the place where reading goes on. Each line has its time: no two files have
the same bytes at one place."""

_SUFFIX: Final = ".jsonl"


def paths(directory: str, site: str) -> tuple[str, str]:
    """A site's newer file and its older one."""
    return f"{directory}/{site}{_SUFFIX}", f"{directory}/{site}.1{_SUFFIX}"


def sites_of(fs: FileSystem, directory: str) -> list[str]:
    """Sites with lines, ascending."""
    return sorted({name.partition(".")[0] for name in fs.list(directory) if name.endswith(_SUFFIX)})


@dataclass(frozen=True)
class BoundedLines:
    """Appends lines to a site's newer file; one that would grow too long becomes the older one."""

    fs: FileSystem
    directory: str
    max_file_bytes: int = MAX_FILE_BYTES

    def add(self, site: str, lines: Sequence[str]) -> None:
        """Keeps some lines; a newline inside one becomes a space."""
        path, older = paths(self.directory, site)
        data = "".join(line.replace("\n", " ") + "\n" for line in lines).encode()
        if not data:
            return
        size = self._size(path)
        if size and size + len(data) > self.max_file_bytes:
            self.fs.rename(path, older, sync_names=False)
        elif size and self.fs.read_range(path, size - 1, 1) != b"\n":  # somebody ended in the middle of a line
            data = b"\n" + data
        appender = self.fs.appender(path)
        try:
            appender.append(data)
        finally:
            appender.close()

    def _size(self, path: str) -> int:
        try:
            return self.fs.size(path)
        except ObjectNotFoundError:
            return 0


@dataclass(frozen=True)
class _Place:
    """How far a file was read: its first line is `head`, and `mark` is what stands right before `offset`."""

    head: bytes = b""
    mark: bytes = b""
    offset: int = 0

    def after(self, lines: bytes) -> "_Place":
        """The place behind some more whole lines."""
        mark = (self.mark + lines[-_MARK_BYTES:])[-_MARK_BYTES:]
        return _Place(self.head or _first_line(lines), mark, self.offset + len(lines))


class Tail:
    """Follows one site's lines: each call returns what is new since the last one, also over a change of files.

    Nothing is returned twice. Lost are lines of files that came and went between two calls, and what was written
    between a cut of the newer file and the next call.
    """

    def __init__(self, fs: FileSystem, directory: str, site: str) -> None:
        self._fs = fs
        self._newer, self._older = paths(directory, site)
        # Of the file that was read last, and of the one before it.
        self._last, self._before = _Place(), _Place()

    def new(self) -> list[bytes]:
        """Lines that came since the last call, oldest first; one that is still being written comes with a later one."""
        lines = self._rest(self._newer, self._last)
        if lines is None:
            lines = self._changed()
        else:
            self._last = self._last.after(lines)
        return lines.split(b"\n")[:-1]

    def _changed(self) -> bytes:
        """What is new where the newer file is not the one that was read last."""
        found = self._from(self._newer, 0)  # first: if the files change now, the older one is what was just read
        here = _Place().after(found)
        rest = self._rest(self._older, self._last)
        if rest is not None:
            self._last = self._last.after(rest)
            if found:
                self._last, self._before = here, self._last
            return rest + found
        if found and here.head == self._last.head:  # it was cut: what is left was returned
            self._last = here
            return b""
        more = self._rest(self._older, here)
        if more is not None:
            self._last = here.after(more)
            return found + more
        return self._anew(found, here)

    def _anew(self, found: bytes, here: _Place) -> bytes:
        """What is new where the file that was read last is neither of the two."""
        rest = self._rest(self._older, self._before)
        if rest is None:
            self._before, rest = _Place(), self._from(self._older, 0)
        self._before = self._before.after(rest)
        if found:
            self._last = here
        return rest + found

    def _rest(self, path: str, place: _Place) -> bytes | None:
        """Whole lines behind a place; None if it is not a place of that file."""
        if not place.offset:
            return None
        lines = self._from(path, place.offset - len(place.mark))
        return lines[len(place.mark) :] if lines.startswith(place.mark) else None

    def _from(self, path: str, offset: int) -> bytes:
        """Whole lines from an offset on, by one read: all are of one file."""
        try:
            data = self._fs.read_range(path, offset, 2 * MAX_FILE_BYTES)
        except ObjectNotFoundError:
            return b""
        return data[: data.rfind(b"\n") + 1]


def _first_line(lines: bytes) -> bytes:
    return lines[: lines.find(b"\n") + 1]
