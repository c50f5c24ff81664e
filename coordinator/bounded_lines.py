# SPDX-License-Identifier: Apache-2.0
"""Lines per site in a bounded store: two files each, the older one is dropped. Nothing is fsynced.

For what sites report beside the ledger. One process appends, others may follow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from federation.durable import FileSystem
from federation.errors import ObjectNotFoundError

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
_SUFFIX: Final = ".jsonl"
_OLDER: Final = ".1.jsonl"


def paths(directory: str, site: str) -> tuple[str, str]:
    """A site's newer file and its older one."""
    return f"{directory}/{site}{_SUFFIX}", f"{directory}/{site}{_OLDER}"


@dataclass
class BoundedLines:
    """Appends lines to `<directory>/<site>.jsonl`."""

    fs: FileSystem
    directory: str
    max_file_bytes: int = MAX_FILE_BYTES
    _sizes: dict[str, int] = field(default_factory=dict)

    def add(self, site: str, lines: Sequence[str]) -> None:
        """Keeps some lines; a newline inside one becomes a space."""
        path = f"{self.directory}/{site}{_SUFFIX}"
        size = self._sizes.get(site)
        if size is None:
            size = self.fs.size(path) if self.fs.exists(path) else 0
        data = "".join(line.replace("\n", " ") + "\n" for line in lines).encode()
        if size + len(data) > self.max_file_bytes and size:
            self.fs.rename(path, f"{self.directory}/{site}{_OLDER}")
            size = 0
        appender = self.fs.appender(path)
        appender.append(data)
        appender.close()
        self._sizes[site] = size + len(data)


@dataclass
class FollowedLines:
    """Reads what another process appends, from the oldest line kept on."""

    fs: FileSystem
    directory: str
    _offsets: dict[str, int] = field(default_factory=dict)

    def sites(self) -> list[str]:
        """Sites with lines, ascending."""
        names = self.fs.list(self.directory)
        return [n.removesuffix(_SUFFIX) for n in names if n.endswith(_SUFFIX) and not n.endswith(_OLDER)]

    def new(self, site: str, max_bytes: int = 2 * MAX_FILE_BYTES) -> Iterator[str]:
        """Whole lines that the last call did not give; a line that is being written comes with a later call."""
        path = f"{self.directory}/{site}{_SUFFIX}"
        first = site not in self._offsets
        if first:
            yield from self._lines(f"{self.directory}/{site}{_OLDER}", 0, max_bytes)[0]
        offset = self._offsets.get(site, 0)
        if offset and self._size(path) < offset:  # begun anew: what we had not read yet is in the older file
            yield from self._lines(f"{self.directory}/{site}{_OLDER}", offset, max_bytes)[0]
            offset = 0
        lines, length = self._lines(path, offset, max_bytes)
        self._offsets[site] = offset + length
        yield from lines

    def _lines(self, path: str, offset: int, max_bytes: int) -> tuple[list[str], int]:
        try:
            data = self.fs.read_range(path, offset, max_bytes)
        except ObjectNotFoundError:
            return [], 0
        if len(data) == max_bytes and b"\n" not in data:  # no line of ours: it is skipped, or nothing would follow
            return [], len(data)
        whole = data[: data.rfind(b"\n") + 1]
        return whole.decode(errors="replace").split("\n")[:-1], len(whole)

    def _size(self, path: str) -> int:
        try:
            return self.fs.size(path)
        except ObjectNotFoundError:
            return 0
