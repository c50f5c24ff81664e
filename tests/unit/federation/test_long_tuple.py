# SPDX-License-Identifier: Apache-2.0
"""A `LongTuple` is a tuple in everything but its speed."""

import pytest

from federation.long_tuple import BLOCK, LongTuple

LENGTHS = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 5)


def grown(length: int) -> LongTuple[int]:
    found: LongTuple[int] = LongTuple()
    for item in range(length):
        found = found.plus(item)
    return found


@pytest.mark.parametrize("length", LENGTHS)
def test_it_holds_what_a_tuple_holds(length: int) -> None:
    found, expected = grown(length), tuple(range(length))
    assert tuple(found) == expected
    assert len(found) == length
    assert [found[index] for index in range(-length, length)] == [expected[index] for index in range(-length, length)]
    assert found[-10:] == expected[-10:]
    assert list(reversed(found)) == list(reversed(expected))
    assert bool(found) == bool(expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_there_is_nothing_beyond_its_ends(length: int) -> None:
    for index in (length, -length - 1):
        with pytest.raises(IndexError, match="expected one of"):
            grown(length)[index]


@pytest.mark.parametrize("length", LENGTHS)
def test_two_can_continue_one_that_never_changes(length: int) -> None:
    found = grown(length)
    first, second = found.plus(-1), found.plus(-2)
    assert (first[-1], second[-1], len(found)) == (-1, -2, length)
    assert first != second
    assert found == grown(length)
    assert hash(found) == hash(grown(length))
    assert first != (*found, -1), "a tuple is another type"
