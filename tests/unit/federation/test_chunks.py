# SPDX-License-Identifier: Apache-2.0
"""Chunk bounds, padding, and the digest of a fragment."""

import hashlib

import numpy as np
import pytest

from federation import merkle
from federation.chunks import (
    CHUNK_BYTES,
    CHUNK_ELEMENTS,
    ChunkGrid,
    FragmentHasher,
    fragment_digest,
    pad_chunk,
    zero_digest,
)


def ramp(n: int) -> np.ndarray:
    return (np.arange(n, dtype=np.int64) % 1013 - 500).astype(np.float32)


@pytest.mark.parametrize(
    ("num_elements", "bounds"),
    [
        (1, [(0, 1)]),
        (CHUNK_ELEMENTS, [(0, CHUNK_ELEMENTS)]),
        (CHUNK_ELEMENTS + 1, [(0, CHUNK_ELEMENTS), (CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1)]),
    ],
)
def test_bounds_cover_every_element_once(num_elements: int, bounds: list[tuple[int, int]]) -> None:
    grid = ChunkGrid(num_elements)
    assert [grid.bounds(i) for i in range(grid.num_chunks)] == bounds


@pytest.mark.parametrize("index", [-1, 2])
def test_a_chunk_outside_the_grid_is_a_bug(index: int) -> None:
    with pytest.raises(IndexError, match="expected 0 to 1"):
        ChunkGrid(CHUNK_ELEMENTS + 1).bounds(index)


def test_an_empty_fragment_is_a_bug() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ChunkGrid(0)


def test_padding_is_zeros_behind_the_real_elements() -> None:
    vector = ramp(CHUNK_ELEMENTS + 3)
    last = ChunkGrid(vector.size).padded(vector, 1)
    assert last.size == CHUNK_ELEMENTS
    assert last[:3].tolist() == vector[-3:].tolist()
    assert not last[3:].view(np.uint32).any()
    with pytest.raises(ValueError, match="expected"):
        ChunkGrid(5).padded(vector, 0)
    with pytest.raises(ValueError, match="at most"):
        pad_chunk(vector)


def test_digest_is_the_rfc_6962_root_over_padded_little_endian_chunks() -> None:
    vector = ramp(2 * CHUNK_ELEMENTS + 7)
    grid = ChunkGrid(vector.size)
    leaves = [hashlib.sha256(b"\0" + grid.padded(vector, i).astype("<f4").tobytes()).digest() for i in range(3)]
    first_two = hashlib.sha256(b"\1" + leaves[0] + leaves[1]).digest()
    assert fragment_digest(vector) == hashlib.sha256(b"\1" + first_two + leaves[2]).hexdigest()


def test_digest_of_one_chunk_is_its_leaf_hash() -> None:
    vector = ramp(10)
    padded = vector.tobytes() + bytes(CHUNK_BYTES - 40)
    assert fragment_digest(vector) == merkle.leaf_hash(padded).hex()


def test_digest_does_not_depend_on_padding_being_given() -> None:
    vector = ramp(100)
    hasher = FragmentHasher()
    hasher.update(pad_chunk(vector))
    assert hasher.hexdigest() == fragment_digest(vector)


@pytest.mark.parametrize("num_elements", [1, CHUNK_ELEMENTS, 2 * CHUNK_ELEMENTS + 1])
def test_memoised_zeros_have_the_digest_of_their_bytes(num_elements: int) -> None:
    tree = merkle.Tree()
    for _ in range(ChunkGrid(num_elements).num_chunks):
        tree.append(merkle.leaf_hash(bytes(CHUNK_BYTES)))
    assert zero_digest(num_elements) == tree.root().hex()
    assert fragment_digest(np.zeros(num_elements, np.float32)) == tree.root().hex()


def test_negative_zero_is_not_zero() -> None:
    assert fragment_digest(np.array([-0.0], np.float32)) != zero_digest(1)


def test_one_changed_bit_changes_the_digest() -> None:
    vector = ramp(50)
    before = fragment_digest(vector)
    vector.view(np.uint32)[49] ^= 1
    assert fragment_digest(vector) != before


def test_digest_of_a_strided_view_is_that_of_its_values() -> None:
    vector = ramp(200)
    assert fragment_digest(vector[::2]) == fragment_digest(vector[::2].copy())


def test_only_the_last_chunk_may_be_short() -> None:
    hasher = FragmentHasher()
    hasher.update(ramp(5))
    with pytest.raises(ValueError, match="fewer only in the last"):
        hasher.update(ramp(5))
    with pytest.raises(ValueError, match="fewer only in the last"):
        FragmentHasher().update(ramp(0))


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((2, 2), np.float32), [1.0]])
def test_other_dtypes_and_shapes_are_bugs(wrong: object) -> None:
    with pytest.raises(TypeError, match="expected a flat float32 vector"):
        FragmentHasher().update(wrong)  # type: ignore[arg-type]
