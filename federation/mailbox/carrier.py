# SPDX-License-Identifier: Apache-2.0
"""Moves a mailbox's files between two directories of one machine. It needs no key and no trust.

Blobs go first, so that a message finds its blobs; the acknowledgement goes last. Every file appears at its destination
atomically. What the source no longer offers is taken away at the destination: its writer has deleted it, which it does
only when the reader has received it.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from federation.durable.api import FileSystem
from federation.errors import ObjectNotFoundError, StorageError
from federation.ids import is_digest
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.layout import ACK, BLOBS, IN, OUT, parse_message_name

_PIECE_BYTES: Final = 1024 * 1024


def carry_both(a_fs: FileSystem, a_base: str, b_fs: FileSystem, b_base: str) -> int:
    """`carry` in both directions. Returns how many files were brought."""
    return carry(a_fs, a_base, b_fs, b_base) + carry(b_fs, b_base, a_fs, a_base)


def carry(src_fs: FileSystem, src_base: str, dst_fs: FileSystem, dst_base: str) -> int:
    """Brings what the destination's in/ lacks of the source's out/. Returns how many files were brought.

    Raises:
        DiskFullError: no space at the destination; call again.
    """
    route = _Route(src_fs, f"{src_base}/{OUT}", dst_fs, f"{dst_base}/{IN}")
    brought = route.mirror(BLOBS, is_digest, DEFAULT_LIMITS.max_blob_bytes)
    brought += route.mirror("", _is_message, DEFAULT_LIMITS.max_envelope_bytes)
    return brought + route.bring_slot(ACK)


def _is_message(name: str) -> bool:
    return parse_message_name(name) is not None


class _Route:
    """From one directory to another one."""

    def __init__(self, src_fs: FileSystem, src: str, dst_fs: FileSystem, dst: str) -> None:
        self._src_fs = src_fs
        self._src = src
        self._dst_fs = dst_fs
        self._dst = dst

    def mirror(self, folder: str, is_ours: Callable[[str], bool], max_bytes: int) -> int:
        """Makes a folder of immutable files the same at the destination. Names of other forms are left alone."""
        src, dst = (f"{base}/{folder}".rstrip("/") for base in (self._src, self._dst))
        # The destination is listed first: what it has and the later listing lacks was withdrawn, not just added.
        there = [name for name in self._dst_fs.list(dst) if is_ours(name)]
        offered = [name for name in self._src_fs.list(src) if is_ours(name)]
        present = set(there)
        brought = sum(self._bring(f"{src}/{name}", f"{dst}/{name}", name in present, max_bytes) for name in offered)
        for name in sorted(present.difference(offered)):
            with suppress(StorageError):  # no file: the reader deals with it
                self._dst_fs.remove(f"{dst}/{name}")
        return brought

    def bring_slot(self, name: str) -> int:
        """Copies a small file that is overwritten in place of its older contents."""
        data = self._slot(self._src_fs, f"{self._src}/{name}")
        if data is None or data == self._slot(self._dst_fs, f"{self._dst}/{name}"):
            return 0
        self._dst_fs.write(f"{self._dst}/{name}", data)
        return 1

    def _slot(self, fs: FileSystem, path: str) -> bytes | None:
        if not fs.exists(path) or fs.size(path) > DEFAULT_LIMITS.max_envelope_bytes:
            return None
        return fs.read(path, max_bytes=DEFAULT_LIMITS.max_envelope_bytes)

    def _bring(self, src: str, dst: str, present: bool, max_bytes: int) -> int:
        """Copies one file unless it is there in full; returns 1 if it did."""
        try:
            num_bytes = self._src_fs.size(src)
            if num_bytes > max_bytes or (present and self._dst_fs.size(dst) == num_bytes):
                return 0
            self._copy(src, dst)
        except ObjectNotFoundError:  # withdrawn, or taken in, since it was listed
            return 0
        return 1

    def _copy(self, src: str, dst: str) -> None:
        with self._dst_fs.writer() as writer:
            offset = 0
            while piece := self._src_fs.read_range(src, offset, _PIECE_BYTES):
                writer.write(piece)
                offset += len(piece)
            writer.publish(dst)
