# SPDX-License-Identifier: Apache-2.0
"""The digest of a blob that threads fill in memory, each piece hashed as soon as its last byte is there."""

import threading

from federation.merkle import BLOB_PIECE_BYTES, leaf_hash, root_of


class PieceHashes:
    """Hashes of the pieces of memory that is filled part by part, in any order. Threads may share it."""

    def __init__(self, data: memoryview, piece_bytes: int = BLOB_PIECE_BYTES) -> None:
        """
        Args:
            data: flat bytes, to be filled once.
        """
        self._data, self._piece_bytes = data, piece_bytes
        num_pieces = -(-len(data) // piece_bytes)
        self._missing = [min(piece_bytes, len(data) - i * piece_bytes) for i in range(num_pieces)]
        self._hashes = [b""] * num_pieces
        self._lock = threading.Lock()

    def filled(self, start: int, stop: int) -> None:
        """These bytes stay as they are now. Whoever completes a piece hashes it, while it is still in a cache."""
        for index in self._completed(start, stop):
            first = index * self._piece_bytes
            self._hashes[index] = leaf_hash(self._data[first : first + self._piece_bytes])

    def hexdigest(self) -> str:
        """What `merkle.blob_digest` gives for all of them, in lower-case hexadecimal."""
        assert not any(self._missing), "every byte is filled before the digest is asked for"
        return root_of(self._hashes).hex()

    def _completed(self, start: int, stop: int) -> list[int]:
        completed, size = [], self._piece_bytes
        with self._lock:
            for index in range(start // size, -(-stop // size)):
                self._missing[index] -= min(stop, (index + 1) * size) - max(start, index * size)
                if not self._missing[index]:
                    completed.append(index)
        return completed
