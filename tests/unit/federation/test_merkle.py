# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree against the published Certificate Transparency vectors and RFC 6962's own recursive definition."""

import hashlib
from collections.abc import Sequence

import pytest

from federation.errors import DigestMismatchError
from federation.merkle import (
    BLOB_PIECE_BYTES,
    EMPTY_ROOT,
    Frontier,
    PieceHasher,
    Tree,
    blob_digest,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The reference tree of the certificate-transparency project: eight leaves, and the roots of all their prefixes.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (index, size) -> path from the leaf upwards.
CT_INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
# (old size, new size) -> proof.
CT_CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 7): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}
MAX_SIZE = 33


@pytest.fixture(scope="module")
def ct_tree() -> Tree:
    return Tree([leaf_hash(data) for data in CT_LEAVES])


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree([leaf_hash(b"%d" % number) for number in range(MAX_SIZE)])


def mth(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word: slow, and obviously right."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def as_bytes(proof: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in proof]


def test_ct_roots(ct_tree: Tree) -> None:
    assert [ct_tree.root(size).hex() for size in range(9)] == CT_ROOTS
    assert bytes.fromhex(CT_ROOTS[0]) == EMPTY_ROOT
    assert Tree().root() == EMPTY_ROOT


@pytest.mark.parametrize(("index", "size"), CT_INCLUSION)
def test_ct_inclusion(ct_tree: Tree, index: int, size: int) -> None:
    proof = as_bytes(CT_INCLUSION[index, size])
    assert ct_tree.inclusion_proof(index, size) == proof
    verify_inclusion(leaf_hash(CT_LEAVES[index]), index, size, proof, bytes.fromhex(CT_ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), CT_CONSISTENCY)
def test_ct_consistency(ct_tree: Tree, old: int, new: int) -> None:
    proof = as_bytes(CT_CONSISTENCY[old, new])
    assert ct_tree.consistency_proof(old, new) == proof
    verify_consistency(old, new, bytes.fromhex(CT_ROOTS[old]), bytes.fromhex(CT_ROOTS[new]), proof)


def test_roots_of_all_sizes_are_the_definition(tree: Tree) -> None:
    leaves = [tree.leaf(index) for index in range(tree.size)]
    assert [tree.root(size) for size in range(tree.size + 1)] == [mth(leaves[:size]) for size in range(tree.size + 1)]


def test_every_inclusion_proof_verifies_and_no_other_does(tree: Tree) -> None:
    for size in range(1, MAX_SIZE + 1):
        root = tree.root(size)
        for index in range(size):
            proof = tree.inclusion_proof(index, size)
            verify_inclusion(tree.leaf(index), index, size, proof, root)
            for other in {0, index + 1, size - 1} - {index}:
                with pytest.raises(DigestMismatchError, match="inclusion proof"):
                    verify_inclusion(tree.leaf(index), other, size, proof, root)
            with pytest.raises(DigestMismatchError, match="inclusion proof"):
                verify_inclusion(tree.leaf(index), index, size, [*proof, root], root)
            for cut in range(len(proof)):
                with pytest.raises(DigestMismatchError, match="inclusion proof"):
                    verify_inclusion(tree.leaf(index), index, size, proof[:cut], root)


def test_every_consistency_proof_verifies_and_no_other_does(tree: Tree) -> None:
    for new in range(MAX_SIZE + 1):
        for old in range(new + 1):
            proof = tree.consistency_proof(old, new)
            verify_consistency(old, new, tree.root(old), tree.root(new), proof)
            wrong = [[*proof, tree.root(new)], *(proof[:cut] for cut in range(len(proof)))]
            wrong += [[*proof[:i], leaf_hash(b"forged"), *proof[i + 1 :]] for i in range(len(proof))]
            for forged in wrong:
                with pytest.raises(DigestMismatchError, match="consistency proof"):
                    verify_consistency(old, new, tree.root(old), tree.root(new), forged)


def test_another_history_is_not_consistent(tree: Tree) -> None:
    for old in range(MAX_SIZE + 1):
        for new in range(old, MAX_SIZE + 1):
            proof = tree.consistency_proof(old, new)
            with pytest.raises(DigestMismatchError, match=r"consistency proof: (old|new) root"):
                verify_consistency(old, new, leaf_hash(b"forged"), tree.root(new), proof)
            if 0 < old < new or new == 0:
                with pytest.raises(DigestMismatchError, match="consistency proof"):
                    verify_consistency(old, new, tree.root(old), leaf_hash(b"forged"), proof)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (4, 3), (0, 0)])
def test_an_index_outside_proves_nothing(index: int, size: int) -> None:
    with pytest.raises(DigestMismatchError, match="index below size"):
        verify_inclusion(leaf_hash(b""), index, size, [], leaf_hash(b""))


@pytest.mark.parametrize(("old", "new"), [(-1, 3), (4, 3)])
def test_sizes_out_of_order_prove_nothing(old: int, new: int) -> None:
    with pytest.raises(DigestMismatchError, match="old size <= new size"):
        verify_consistency(old, new, EMPTY_ROOT, EMPTY_ROOT, [])


def test_a_caller_outside_the_tree_is_a_bug(tree: Tree) -> None:
    for call in (
        lambda: tree.root(MAX_SIZE + 1),
        lambda: tree.root(-1),
        lambda: tree.leaf(MAX_SIZE),
        lambda: tree.leaf(-1),
        lambda: tree.inclusion_proof(3, 3),
        lambda: tree.inclusion_proof(-1, 3),
        lambda: tree.inclusion_proof(0, MAX_SIZE + 1),
        lambda: tree.consistency_proof(4, 3),
        lambda: tree.consistency_proof(-1, 3),
        lambda: tree.consistency_proof(0, MAX_SIZE + 1),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()


def test_a_root_costs_a_logarithm_of_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    big = Tree([leaf_hash(b"%d" % number) for number in range(5000)])
    count = [0]

    def counted(left: bytes, right: bytes) -> bytes:
        count[0] += 1
        return node_hash(left, right)

    monkeypatch.setattr("federation.merkle.node_hash", counted)
    big.root(4095)
    big.inclusion_proof(1234, 4999)
    big.consistency_proof(1234, 4999)
    assert count[0] < 100


def test_frontier_is_the_tree_in_less_memory(tree: Tree) -> None:
    frontier = Frontier()
    for size in range(MAX_SIZE):
        assert (frontier.size, frontier.root()) == (size, tree.root(size))
        frontier.append(tree.leaf(size))


def test_the_root_of_leaf_hashes_is_the_trees(tree: Tree) -> None:
    leaves = [tree.leaf(index) for index in range(tree.size)]
    for size in range(tree.size + 1):
        assert root_of(leaves[:size]) == tree.root(size)


@pytest.mark.parametrize("num_bytes", [0, 1, 3, 4, 5, 8, 11, 12, 13, 40])
@pytest.mark.parametrize("step", [1, 3, 4, 7, 100])
def test_piece_hasher_is_the_root_over_pieces(num_bytes: int, step: int) -> None:
    data = bytes(range(num_bytes))
    hasher = PieceHasher(4)
    for start in range(0, num_bytes, step):
        hasher.digest()  # asking in between changes nothing
        hasher.update(memoryview(data)[start : start + step])
    expected = mth([leaf_hash(data[i : i + 4]) for i in range(0, num_bytes, 4)])
    assert hasher.digest() == expected
    assert hasher.hexdigest() == expected.hex()


def test_piece_hasher_takes_typed_memory() -> None:
    data = memoryview(bytes(range(16)))
    hasher, typed = PieceHasher(5), PieceHasher(5)
    hasher.update(data)
    typed.update(data.cast("I"))
    assert typed.hexdigest() == hasher.hexdigest()


def test_piece_bytes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="piece_bytes: expected at least 1"):
        PieceHasher(0)


def test_blob_digest() -> None:
    assert blob_digest(b"") == EMPTY_ROOT.hex()
    assert blob_digest(b"abc") == hashlib.sha256(b"\x00abc").hexdigest()
    data = bytes(BLOB_PIECE_BYTES) + b"tail"
    assert blob_digest(data) == node_hash(leaf_hash(bytes(1024 * 1024)), leaf_hash(b"tail")).hex()
