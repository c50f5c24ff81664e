# SPDX-License-Identifier: Apache-2.0
"""The backlog of pieces: each carried once, blobs in their order, calls as long as the link is good for."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.merkle import BLOB_PIECE_BYTES as PIECE
from federation.rpc.transfers import (
    FIRST_PIECES,
    MAX_PIECES_PER_CALL,
    QUICK_SECONDS,
    Backlog,
    Portion,
    Span,
)


def span(digest: str, first: int, last: int) -> Span:
    return Span(digest=digest, num_bytes=0, first=first, last=last)


def taken(backlog: Backlog) -> Span:
    return asyncio.run(backlog.take())


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 300), min_size=1),
    st.lists(st.sampled_from(["quick", "slow", "again"]), max_size=60),
)
def test_every_piece_is_carried_exactly_once(sizes: dict[str, int], fates: list[str]) -> None:
    backlog, carried = Backlog(), {digest: list[int]() for digest in sizes}
    for digest, size in sizes.items():
        backlog.add([span(digest, 0, size - 1)])
    fate = iter(fates)
    ended = []
    while backlog.waiting:
        found = taken(backlog)
        assert 1 <= found.last - found.first + 1 <= MAX_PIECES_PER_CALL
        match next(fate, "quick"):
            case "again":
                backlog.again(found)
            case word:
                carried[found.digest] += range(found.first, found.last + 1)
                if backlog.done(found, 0.0 if word == "quick" else 100 * QUICK_SECONDS):
                    ended.append(found.digest)
    assert {digest: sorted(pieces) for digest, pieces in carried.items()} == {
        digest: list(range(size)) for digest, size in sizes.items()
    }
    assert sorted(ended) == sorted(sizes)
    assert backlog.idle
    assert not any(digest in backlog for digest in sizes)


def test_a_blob_waits_for_those_of_earlier_messages() -> None:
    """Else a later one could take up the room without which the earlier one never arrives."""
    backlog = Backlog()
    backlog.add([span("first", 0, 2)])
    backlog.add([span("second", 0, 0)])
    backlog.again(asyncio.run(backlog.take(1)))
    assert [asyncio.run(backlog.take(1)).digest for _ in range(4)] == ["first", "first", "first", "second"]


def test_a_call_goes_on_with_pieces_of_its_blob_alone() -> None:
    """Two calls share what is left piece by piece: neither ends long before the other."""
    backlog = Backlog()
    backlog.add([span("a", 0, 0), span("a", 4, 5)])
    backlog.add([span("b", 0, 0)])
    first = asyncio.run(backlog.take(1))
    assert (backlog.more("b", 1), backlog.more("a", 1), backlog.more("a", 1)) == (
        None,
        span("a", 4, 4),
        span("a", 5, 5),
    )
    assert backlog.more("a", 4) is None
    assert [backlog.done(found, 0.0) for found in (first, span("a", 4, 4), span("a", 5, 5))] == [False, False, True]
    assert backlog.more("b", 4) == span("b", 0, 0)


@pytest.mark.parametrize(
    ("seconds", "pieces"), [(QUICK_SECONDS - 1, 2 * FIRST_PIECES), (2 * QUICK_SECONDS, FIRST_PIECES)]
)
def test_calls_grow_while_they_are_quick(seconds: float, pieces: int) -> None:
    backlog = Backlog()
    backlog.add([span("a", 0, 1000)])
    backlog.done(taken(backlog), seconds)
    found = taken(backlog)
    assert found.last - found.first + 1 == pieces


def test_calls_shrink_when_they_are_slow() -> None:
    backlog = Backlog()
    backlog.add([span("a", 0, 10_000)])
    for _ in range(10):
        backlog.done(taken(backlog), 0.0)
    assert backlog.num_pieces == MAX_PIECES_PER_CALL
    backlog.done(taken(backlog), 4 * QUICK_SECONDS)
    assert backlog.num_pieces == MAX_PIECES_PER_CALL // 2
    backlog.again(taken(backlog))
    assert backlog.num_pieces == MAX_PIECES_PER_CALL // 8


@pytest.mark.parametrize(
    ("num_pieces", "seconds", "expected"),
    [(64, 0.0, 2), (64, 6.0, 2), (64, 9.0, 1), (64, 600.0, 1), (2, 0.1, 2), (1, 0.001, 1)],
)
def test_a_message_carries_what_a_quarter_of_a_second_did(num_pieces: int, seconds: float, expected: int) -> None:
    portion = Portion()
    portion.carried(num_pieces, seconds)
    assert portion.num_pieces == expected


def test_a_call_of_few_pieces_says_nothing() -> None:
    portion = Portion()
    portion.carried(64, 0.1)
    portion.carried(1, 5.0)
    assert portion.num_pieces == 2


def test_a_message_that_is_refused_is_followed_by_one_of_one_piece() -> None:
    backlog = Backlog()
    backlog.add([span("a", 0, 9)])
    backlog.portion.carried(64, 0.1)
    backlog.again(taken(backlog))
    assert backlog.portion.num_pieces == 1


@pytest.mark.parametrize(("first", "last", "num_bytes"), [(0, 3, 4 * PIECE), (2, 4, 2 * PIECE + 5), (4, 4, 5)])
def test_the_length_of_a_span(first: int, last: int, num_bytes: int) -> None:
    found = Span(digest="a", num_bytes=4 * PIECE + 5, first=first, last=last)
    assert (found.num_pieces, found.span_bytes) == (last - first + 1, num_bytes)


def test_who_takes_waits_for_work() -> None:
    async def wait() -> Span:
        backlog = Backlog()
        asyncio.get_running_loop().call_soon(backlog.add, [span("a", 0, 0)])
        return await asyncio.wait_for(backlog.take(), 10)

    assert asyncio.run(wait()).digest == "a"
