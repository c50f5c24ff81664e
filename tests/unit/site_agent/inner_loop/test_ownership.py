# SPDX-License-Identifier: Apache-2.0
"""Every chunk has one owner; elements come from a rank that holds them, once, and go back to all who do."""

import pytest

from federation.chunks import CHUNK_ELEMENTS
from site_agent.inner_loop.ownership import inward, merged, outward, owned, owners_in_order
from site_agent.inner_loop.team import PIECE_BYTES, Transfer

SIZES = [1, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1, 5 * CHUNK_ELEMENTS - 7]


def parts_of(num_elements: int, fragment: int, size: int) -> list[slice]:
    return [owned(num_elements, fragment, rank, size) for rank in range(size)]


@pytest.mark.parametrize("num_elements", SIZES)
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("fragment", [0, 1, 5])
def test_owners_share_a_fragment_in_whole_chunks(num_elements: int, size: int, fragment: int) -> None:
    order, at = owners_in_order(num_elements, fragment, size), 0
    parts = parts_of(num_elements, fragment, size)
    for rank in order:
        assert parts[rank].start == at
        assert at % CHUNK_ELEMENTS == 0
        at = parts[rank].stop
    assert at == num_elements
    counts = [-(-(part.stop - part.start) // CHUNK_ELEMENTS) for part in parts]
    assert max(counts) - min(counts) <= 1


def test_small_fragments_have_different_owners() -> None:
    assert {owners_in_order(10, fragment, 4)[0] for fragment in range(4)} == {0, 1, 2, 3}


def test_an_owner_takes_from_itself_and_gives_to_every_replica() -> None:
    size, num_elements = 2, 2 * CHUNK_ELEMENTS
    parts = parts_of(num_elements, 0, size)
    everything = [[(0, num_elements)]] * size
    assert all(move.source == move.target for move in inward(everything, parts))
    assert covered(inward(everything, parts)) == list(range(0, num_elements, CHUNK_ELEMENTS))
    targets = {(move.source, move.target) for move in outward(everything, parts)}
    assert targets == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_what_nobody_holds_is_said() -> None:
    parts = parts_of(10, 0, 2)
    with pytest.raises(ValueError, match=r"elements \(4, 6\)"):
        inward([[(0, 4)], [(6, 10)]], parts)


def test_pieces_are_bounded_and_listed_alike_everywhere() -> None:
    num_elements = 20 * CHUNK_ELEMENTS
    parts = parts_of(num_elements, 0, 3)
    held = [[(0, num_elements // 2)], [(num_elements // 2, num_elements)], [(5, 6)]]
    moves = inward(held, parts)
    assert all(0 < 4 * (move.stop - move.start) <= PIECE_BYTES for move in moves)
    assert sum(move.stop - move.start for move in moves) == num_elements
    assert outward(held, parts) == outward([list(h) for h in held], parts)


def test_intervals_that_touch_are_one() -> None:
    assert merged([(5, 7), (0, 2), (2, 4), (6, 9)]) == [(0, 4), (5, 9)]


def covered(moves: list[Transfer]) -> list[int]:
    return sorted({start for m in moves for start in range(m.start, m.stop, CHUNK_ELEMENTS)})
