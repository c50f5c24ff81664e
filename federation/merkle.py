# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of RFC 6962, section 2.1 (SHA-256): the ledger's history, and the digests of blobs and fragments.

Indices and sizes count leaves. Hashes are 32 raw bytes; digests in the domain are their lower-case hexadecimal form.
"""

import hashlib
from collections.abc import Iterable, Sequence
from hmac import compare_digest
from typing import Final

from federation.errors import DigestMismatchError

BLOB_PIECE_BYTES: Final = 1024 * 1024
"""Leaf size of a blob's digest; the courier's chunk too."""

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of a tree without leaves."""

_LEAF_PREFIX: Final = b"\x00"
_NODE_PREFIX: Final = b"\x01"


def leaf_hash(data: bytes | bytearray | memoryview) -> bytes:
    """SHA-256(0x00 || data)."""
    digest = hashlib.sha256(_LEAF_PREFIX)
    digest.update(data)
    return digest.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(_NODE_PREFIX + left + right).digest()


class Tree:
    """An append-only tree that keeps the hash of every complete subtree.

    So the root, an inclusion proof and a consistency proof at any size up to the present one cost O(log n).
    """

    def __init__(self, leaf_hashes: Sequence[bytes] = ()) -> None:
        # _levels[k][i] covers leaves [i * 2^k, (i + 1) * 2^k); only complete subtrees are kept.
        self._levels: list[list[bytes]] = [[]]
        for value in leaf_hashes:
            self.append(value)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Adds the hash of a leaf (see `leaf_hash`)."""
        level = 0
        self._levels[0].append(leaf)
        while len(self._levels[level]) % 2 == 0:
            left, right = self._levels[level][-2:]
            level += 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(node_hash(left, right))

    def cut(self, size: int) -> None:
        """Forgets the leaves from `size` on. Raises ValueError: there are fewer."""
        self._check_size(size)
        for height, level in enumerate(self._levels):
            del level[size >> height :]

    def leaf(self, index: int) -> bytes:
        """The hash of one leaf. Raises ValueError outside the tree."""
        self._check_size(index + 1, at_least=1)
        return self._levels[0][index]

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves (default: all). Raises ValueError outside the tree."""
        size = self.size if size is None else size
        self._check_size(size)
        return self._range_hash(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """PATH(index, D[size]) of RFC 6962, section 2.1.1: siblings from the leaf upwards.

        Raises:
            ValueError: not 0 <= index < size <= the tree's size.
        """
        size = self.size if size is None else size
        self._check_size(size)
        if not 0 <= index < size:
            raise ValueError(f"index: expected 0 to {size - 1}, found {index}")
        proof: list[bytes] = []
        start, stop = 0, size
        while stop - start > 1:
            middle = start + _split(stop - start)
            if index < middle:
                proof.append(self._range_hash(middle, stop))
                stop = middle
            else:
                proof.append(self._range_hash(start, middle))
                start = middle
        return proof[::-1]

    def consistency_proof(self, old_size: int, new_size: int | None = None) -> list[bytes]:
        """PROOF(old_size, D[new_size]) of RFC 6962, section 2.1.2; empty for old_size 0 and for equal sizes.

        Raises:
            ValueError: not 0 <= old_size <= new_size <= the tree's size.
        """
        new_size = self.size if new_size is None else new_size
        self._check_size(new_size)
        if not 0 <= old_size <= new_size:
            raise ValueError(f"old_size: expected 0 to {new_size}, found {old_size}")
        if old_size in (0, new_size):
            return []
        proof: list[bytes] = []
        start, stop = 0, new_size
        while old_size != stop:
            middle = start + _split(stop - start)
            if old_size <= middle:
                proof.append(self._range_hash(middle, stop))
                stop = middle
            else:
                proof.append(self._range_hash(start, middle))
                start = middle
        if start:  # else the old tree is this whole subtree, and its root is known to the verifier
            proof.append(self._range_hash(start, stop))
        return proof[::-1]

    def _check_size(self, size: int, at_least: int = 0) -> None:
        if not at_least <= size <= self.size:
            raise ValueError(f"size: expected {at_least} to {self.size}, found {size}")

    def _range_hash(self, start: int, stop: int) -> bytes:
        """MTH(D[start:stop]); `start` is a multiple of the largest power of two below the width."""
        width = stop - start
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            return self._levels[level][start >> level]
        middle = start + _split(width)
        return node_hash(self._range_hash(start, middle), self._range_hash(middle, stop))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Checks that `leaf` is number `index` of the tree with `size` leaves and `root` (RFC 9162, section 2.1.3.2).

    Raises:
        DigestMismatchError: it is not, or the proof has another length than it must have.
    """
    if not 0 <= index < size:
        raise DigestMismatchError(f"inclusion proof: expected an index below size {size}, found {index}")
    position, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise DigestMismatchError(f"inclusion proof: expected fewer than {len(proof)} hashes for size {size}")
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise DigestMismatchError(f"inclusion proof: expected more than {len(proof)} hashes for size {size}")
    _expect(root, found, "inclusion proof: root")


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Checks that the new tree continues the old one (RFC 9162, section 2.1.4.2; an old size of 0 proves nothing).

    Raises:
        DigestMismatchError: it does not, or the proof has another length than it must have.
    """
    if not 0 <= old_size <= new_size:
        raise DigestMismatchError(f"consistency proof: expected old size <= new size, found {old_size} and {new_size}")
    if old_size in (0, new_size):
        if proof:
            raise DigestMismatchError(f"consistency proof: expected no hashes, found {len(proof)}")
        expected = EMPTY_ROOT if old_size == 0 else new_root
        _expect(expected, old_root, "consistency proof: old root")
        if new_size == 0:
            _expect(EMPTY_ROOT, new_root, "consistency proof: new root")
        return
    old_found, new_found = _roots_of_consistency(old_size, new_size, old_root, proof)
    _expect(old_root, old_found, "consistency proof: old root")
    _expect(new_root, new_found, "consistency proof: new root")


def _roots_of_consistency(old_size: int, new_size: int, old_root: bytes, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Both roots as the proof has them, for 0 < old_size < new_size."""
    # A complete old tree is itself the first node of the path, and the proof leaves it out.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        raise DigestMismatchError("consistency proof: expected at least one hash, found none")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise DigestMismatchError(f"consistency proof: expected fewer than {len(proof)} hashes")
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise DigestMismatchError(f"consistency proof: expected more than {len(proof)} hashes")
    return old, new


class Frontier:
    """The root of a growing tree in O(log n) memory, for those who need no proofs."""

    def __init__(self) -> None:
        self.size = 0
        # Complete subtrees from left to right, one for each set bit of `size`.
        self._subtrees: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Adds the hash of a leaf (see `leaf_hash`)."""
        self.size += 1
        carry = self.size
        while not carry & 1:
            leaf = node_hash(self._subtrees.pop(), leaf)
            carry >>= 1
        self._subtrees.append(leaf)

    def root(self) -> bytes:
        """The root over the leaves so far."""
        if not self._subtrees:
            return EMPTY_ROOT
        found = self._subtrees[-1]
        for left in reversed(self._subtrees[:-1]):
            found = node_hash(left, found)
        return found


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root of the tree with these leaf hashes (see `leaf_hash`), in O(log n) memory."""
    frontier = Frontier()
    for value in leaf_hashes:
        frontier.append(value)
    return frontier.root()


class PieceHasher:
    """Digest of a byte stream: the root whose leaf data are its consecutive pieces; the last one may be short.

    Raises:
        ValueError: `piece_bytes` is not 1 or more.
    """

    def __init__(self, piece_bytes: int = BLOB_PIECE_BYTES) -> None:
        if piece_bytes < 1:
            raise ValueError(f"piece_bytes: expected at least 1, found {piece_bytes}")
        self._piece_bytes = piece_bytes
        self._frontier = Frontier()
        self._piece = hashlib.sha256(_LEAF_PREFIX)
        self._filled_bytes = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Adds bytes (of an array: its C-contiguous memory)."""
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        while len(view):
            part = view[: self._piece_bytes - self._filled_bytes]
            self._piece.update(part)
            self._filled_bytes += len(part)
            view = view[len(part) :]
            if self._filled_bytes == self._piece_bytes:
                self._frontier.append(self._piece.digest())
                self._piece = hashlib.sha256(_LEAF_PREFIX)
                self._filled_bytes = 0

    def digest(self) -> bytes:
        """The root over the bytes so far; more may follow."""
        if not self._filled_bytes:
            return self._frontier.root()
        whole = Frontier()
        whole.size = self._frontier.size
        whole._subtrees = list(self._frontier._subtrees)
        whole.append(self._piece.digest())
        return whole.root()

    def hexdigest(self) -> str:
        """`digest` in lower-case hexadecimal."""
        return self.digest().hex()


def blob_digest(data: bytes | bytearray | memoryview) -> str:
    """Digest of a blob, in lower-case hexadecimal: RFC 6962 root over pieces of `BLOB_PIECE_BYTES`."""
    hasher = PieceHasher(BLOB_PIECE_BYTES)
    hasher.update(data)
    return hasher.hexdigest()


def _split(width: int) -> int:
    """The largest power of two below `width` (> 1)."""
    return 1 << ((width - 1).bit_length() - 1)


def _expect(expected: bytes, found: bytes, what: str) -> None:
    if not compare_digest(expected, found):
        raise DigestMismatchError(f"{what}: expected {expected.hex()}, found {found.hex()}")
