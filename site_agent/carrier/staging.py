# SPDX-License-Identifier: Apache-2.0
"""Where a carrier over ssh lets files come in, and how they get from there into in/: only whole, under their own names.

The programs that bring them may be led astray by a hostile server, so they write into a directory that nobody else
looks at, and what they leave there is checked by name, kind, size and digest before it becomes anything.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from federation.durable.real import RealFileSystem
from federation.errors import ObjectNotFoundError, StorageError
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.layout import ACK, BLOBS, CARRIER, IN, is_named_by, parse_message_name
from federation.mailbox.not_yet import remove_anything
from federation.merkle import BLOB_PIECE_BYTES, PieceHasher


class Staging:
    """`carrier/` of one mailbox at the coordinator, in front of its `in/`.

    Attributes:
        path: the real directory, for the programs.
    """

    def __init__(self, fs: RealFileSystem, base: str) -> None:
        self._fs = fs
        self._in = f"{base}/{IN}"
        self._staged: Final = f"{base}/{CARRIER}"
        fs.mkdir(self._staged)
        self.path: Path = fs.real_path(self._staged)

    def take_blob(self, digest: str, num_bytes: int) -> bool:
        """Puts a blob that has come in full into in/blobs; one that is wrong is thrown away. Returns whether it was."""
        staged = f"{self._staged}/{digest}"
        found = self._size(staged)
        if found is None or found < num_bytes:
            return False  # the next call goes on from there
        if found != num_bytes or self._digest(staged) != digest:
            remove_anything(self._fs, staged)
            return False
        self._fs.sync_paths([staged])
        self._fs.rename(staged, f"{self._in}/{BLOBS}/{digest}")
        return True

    def take_message(self, name: str) -> bool:
        """Puts a message that has come in full into in/."""
        parsed = parse_message_name(name)
        return parsed is not None and self._take_small(name, lambda raw: is_named_by(parsed, raw))

    def take_acknowledgement(self) -> bool:
        """Puts the slot into in/ if it has changed."""
        return self._take_small(ACK, lambda raw: bool(raw) and raw != self._present())

    def forget_all_but(self, digests: set[str]) -> None:
        """Removes what has been withdrawn, or is nothing that this carrier asked for."""
        for name in self._fs.list(self._staged):
            if name not in digests and not name.startswith("."):
                remove_anything(self._fs, f"{self._staged}/{name}")

    def _take_small(self, name: str, is_right: Callable[[bytes], bool]) -> bool:
        staged = f"{self._staged}/{name}"
        if self._size(staged) is None:
            return False
        try:
            raw = self._fs.read(staged, max_bytes=DEFAULT_LIMITS.max_envelope_bytes)
            if not is_right(raw):
                return False
            self._fs.write(f"{self._in}/{name}", raw)
        finally:
            remove_anything(self._fs, staged)
        return True

    def _present(self) -> bytes:
        try:
            return self._fs.read(f"{self._in}/{ACK}", max_bytes=DEFAULT_LIMITS.max_envelope_bytes)
        except StorageError:
            return b""

    def _size(self, path: str) -> int | None:
        try:
            return self._fs.size(path)
        except ObjectNotFoundError:
            return None

    def _digest(self, path: str) -> str:
        hasher, offset = PieceHasher(BLOB_PIECE_BYTES), 0
        while piece := self._fs.read_range(path, offset, BLOB_PIECE_BYTES):
            hasher.update(piece)
            offset += len(piece)
        return hasher.hexdigest()
