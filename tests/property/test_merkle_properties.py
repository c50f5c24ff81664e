# SPDX-License-Identifier: Apache-2.0
"""Trees of any size: proofs verify, tampered ones do not, and streams of any cut have one digest."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import DigestMismatchError
from federation.merkle import (
    Frontier,
    PieceHasher,
    Tree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

BIG = Tree([leaf_hash(b"%d" % number) for number in range(3000)])
SIZES = st.integers(1, BIG.size)


@given(size=SIZES, data=st.data())
def test_inclusion(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = BIG.inclusion_proof(index, size)
    verify_inclusion(BIG.leaf(index), index, size, proof, BIG.root(size))
    assert len(proof) <= (size - 1).bit_length()
    with pytest.raises(DigestMismatchError):
        verify_inclusion(leaf_hash(b"forged"), index, size, proof, BIG.root(size))


@given(sizes=st.tuples(SIZES, SIZES).map(sorted))
def test_consistency(sizes: list[int]) -> None:
    old, new = sizes
    verify_consistency(old, new, BIG.root(old), BIG.root(new), BIG.consistency_proof(old, new))


@given(size=st.integers(2, BIG.size), data=st.data())
def test_a_rewritten_leaf_cannot_be_hidden(size: int, data: st.DataObject) -> None:
    rewritten = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(rewritten + 1, size))
    leaves = [BIG.leaf(index) for index in range(size)]
    leaves[rewritten] = leaf_hash(b"another history")
    other = Tree(leaves)
    with pytest.raises(DigestMismatchError):
        verify_consistency(old, size, BIG.root(old), other.root(), other.consistency_proof(old, size))


@given(st.lists(st.binary(max_size=3), max_size=40))
def test_frontier_equals_tree(leaves: list[bytes]) -> None:
    frontier, tree = Frontier(), Tree()
    for data in leaves:
        frontier.append(leaf_hash(data))
        tree.append(leaf_hash(data))
    assert frontier.root() == tree.root()


@given(st.lists(st.binary(max_size=20), max_size=20), st.integers(1, 9))
@settings(max_examples=200)
def test_the_cut_of_a_stream_does_not_matter(parts: list[bytes], piece_bytes: int) -> None:
    cut, whole = PieceHasher(piece_bytes), PieceHasher(piece_bytes)
    for part in parts:
        cut.update(part)
    whole.update(b"".join(parts))
    assert cut.digest() == whole.digest()


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_a_leaf_is_never_a_node(left: bytes, right: bytes) -> None:
    assert leaf_hash(left + right) != node_hash(left, right)
