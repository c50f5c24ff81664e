# SPDX-License-Identifier: Apache-2.0
"""The executable's state directory as numbered versions, so that training checkpoints can name one.

A version is never changed: a window trains on a copy, which becomes the next version when the window is over. A
training checkpoint names a version with size and SHA-256 of each file; so parameters, error feedback, position and the
executable's own state are one atomic training checkpoint. Cost per window: the state is read and written once for the
copy and read once for the digests; on disk lie at most four versions (those that the two training checkpoints on disk
and the one being written name, and the working copy). Plain copies, not hard links: an executable that changes a file
in place, as many do, would change every version that shares it.
"""

import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from federation.durable.disk import TEMPORARY_PREFIX
from federation.durable.real import RealFileSystem
from federation.errors import CorruptObjectError
from site_agent.trainer.command_process import CommandFailedError

MAX_STATE_FILES: Final = 10_000
MAX_NAME_CHARS: Final = 500
NAMED_AT_ONCE: Final = 3
"""Training checkpoints that may count at a time: two on disk, one being written."""

_PIECE_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class StateVersion:
    """A version of the state directory; number 0 is the empty one.

    Attributes:
        files: size in bytes and SHA-256 by path below the directory.
    """

    number: int = 0
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return {"number": self.number, "files": {name: list(entry) for name, entry in self.files.items()}}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "StateVersion":
        """What `to_json` wrote; it is guarded by a training checkpoint's digest."""
        return cls(number=raw["number"], files={name: (size, sha) for name, (size, sha) in raw["files"].items()})


class StateVersions:
    """Versions in one directory of a run's.

    Args:
        fs: the run's directory.
        base: where versions lie in it.
        max_bytes: of one version.
    """

    def __init__(self, fs: RealFileSystem, base: str, max_bytes: int) -> None:
        self._fs, self._base, self._max_bytes = fs, base, max_bytes
        self._named: deque[frozenset[int]] = deque(maxlen=NAMED_AT_ONCE)

    def copy_out(self, version: StateVersion, target: str) -> None:
        """Makes `target` a directory with the files of a version; not durable, it is scratch.

        Raises:
            CorruptObjectError: a file is missing or not what it was.
        """
        self._fs.mkdir(target)
        for name, (size, sha256) in version.files.items():
            self._copy(f"{self._base}/{version.number}/{name}", f"{target}/{name}", size, sha256)

    def adopt(self, source: str) -> StateVersion:
        """Makes what lies in `source` the next version, durably; `source` is gone then.

        Raises:
            CommandFailedError: links, devices, odd names, or too much.
        """
        sizes = dict(_plain_files(self._fs.real_path(source), self._max_bytes))
        number = max(self._numbers(), default=0) + 1
        files = {name: (size, self._sha256(f"{source}/{name}", size)) for name, size in sorted(sizes.items())}
        self._fs.publish_tree(source, f"{self._base}/{number}")
        return StateVersion(number=number, files=files)

    def named(self, *versions: StateVersion) -> None:
        """A training checkpoint that names these versions is being written; what no other one names is removed."""
        numbers = frozenset(version.number for version in versions)
        if not self._named or self._named[-1] != numbers:
            self._named.append(numbers)
        if len(self._named) == NAMED_AT_ONCE:
            self._keep(frozenset().union(*self._named))

    def drop_above(self, *versions: StateVersion) -> None:
        """Removes what was made after the training checkpoint that training goes on from."""
        newest = max((version.number for version in versions), default=0)
        for number in self._numbers():
            if number > newest:
                self._fs.remove_tree(f"{self._base}/{number}")

    def _keep(self, kept: frozenset[int]) -> None:
        for number in self._numbers():
            if number not in kept:
                self._fs.remove_tree(f"{self._base}/{number}")

    def _numbers(self) -> list[int]:
        return sorted(int(name) for name in self._fs.list(self._base) if name.isascii() and name.isdigit())

    def _pieces(self, path: str, size: int) -> Iterator[bytes]:
        for offset in range(0, size, _PIECE_BYTES):
            yield self._fs.read_range(path, offset, min(_PIECE_BYTES, size - offset))

    def _sha256(self, path: str, size: int) -> str:
        digest = hashlib.sha256()
        for piece in self._pieces(path, size):
            digest.update(piece)
        return digest.hexdigest()

    def _copy(self, source: str, target: str, size: int, sha256: str) -> None:
        digest, offset = hashlib.sha256(), 0
        if self._fs.size(source) != size:
            raise _damaged(source, f"{size} bytes", f"{self._fs.size(source)}")
        file = self._fs.random_writer(target, size)
        try:
            for piece in self._pieces(source, size):
                digest.update(piece)
                file.write_at(offset, piece)
                offset += len(piece)
        finally:
            file.close()
        if digest.hexdigest() != sha256:
            raise _damaged(source, "the digest in the training checkpoint", "another")


def _plain_files(root: Path, max_bytes: int) -> Iterator[tuple[str, int]]:
    """Path below `root` and size of every file; anything but plain files and directories is refused."""
    num_files, num_bytes, waiting = 0, 0, [""]
    while waiting:
        directory = waiting.pop()
        with os.scandir(root / directory) as entries:
            for entry in entries:
                name = f"{directory}/{entry.name}" if directory else entry.name
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(name)
                    continue
                num_files, num_bytes = num_files + 1, num_bytes + found.st_size
                _check(name, found, num_files, num_bytes, max_bytes)
                yield name, found.st_size


def _check(name: str, found: os.stat_result, num_files: int, num_bytes: int, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _refused("plain files and directories", "a link, device, pipe or socket")
    if len(name) > MAX_NAME_CHARS or not name.isprintable() or f"/{TEMPORARY_PREFIX}" in f"/{name}":
        raise _refused(
            f"printable names of at most {MAX_NAME_CHARS} characters, none with {TEMPORARY_PREFIX}", "another"
        )
    if num_files > MAX_STATE_FILES or num_bytes > max_bytes:
        raise _refused(f"at most {MAX_STATE_FILES} files and {max_bytes} bytes", "more")


def _refused(expected: str, found: str) -> CommandFailedError:
    return CommandFailedError(
        f"state directory: expected {expected}, found {found}",
        advice="The executable must keep only what it needs to go on, and no links; see docs/trainers.",
    )


def _damaged(path: str, expected: str, found: str) -> CorruptObjectError:
    return CorruptObjectError(
        f"{path}: expected {expected}, found {found}",
        advice="Remove the run's training checkpoints to rejoin it from its last commit, with a new optimizer state.",
    )
