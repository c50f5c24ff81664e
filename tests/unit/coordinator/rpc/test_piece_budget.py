# SPDX-License-Identifier: Apache-2.0
"""Places for pieces: never more than the budget, whoever stalls, and everybody's turn comes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from coordinator.rpc.piece_budget import PieceBudget

PATIENCE = 20.0
NEVER = 3600.0


def budget(moving: int, parked: int = 0, *, per_peer: int = 100, patience_seconds: float = NEVER) -> PieceBudget:
    return PieceBudget(
        num_moving=moving,
        num_parked=parked,
        num_per_peer=per_peer,
        patience_seconds=patience_seconds,
    )


class Holder:
    """A call that holds one place until it is told to let go."""

    def __init__(self, pieces: PieceBudget, peer: str) -> None:
        self.peer = peer
        self.holds, self._go = False, asyncio.Event()
        self.task = asyncio.create_task(self._hold(pieces))

    async def _hold(self, pieces: PieceBudget) -> None:
        async with pieces.place(self.peer):
            self.holds = True
            try:
                await self._go.wait()
            finally:
                self.holds = False

    async def leave(self) -> None:
        self._go.set()
        await self.task


async def settled() -> None:
    """Lets everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scene()

    asyncio.run(bounded())


def test_no_more_pieces_are_held_than_the_budget_has_places() -> None:
    async def scene() -> None:
        pieces = budget(3)
        calls = [Holder(pieces, f"site/{number}") for number in range(16)]
        most = 0
        while any(not call.task.done() for call in calls):
            await settled()
            holding = [call for call in calls if call.holds]
            assert pieces.num_held == len(holding)
            most = max(most, len(holding))
            await holding[0].leave()
        assert most == 3
        assert pieces.num_held == 0

    run(scene)


def test_a_piece_that_waits_for_its_peer_gives_its_place_to_another_one() -> None:
    async def scene() -> None:
        pieces = budget(1, 1, patience_seconds=0.01)
        stalled = Holder(pieces, "site/slow")
        await settled()
        for number in range(5):
            call = Holder(pieces, f"site/{number}")
            await until(lambda call=call: call.holds)  # type: ignore[misc]
            await call.leave()
        assert stalled.holds
        await stalled.leave()
        assert pieces.num_held == 0

    run(scene)


def test_parked_pieces_count() -> None:
    async def scene() -> None:
        pieces = budget(2, 3, patience_seconds=0.01)
        calls = [Holder(pieces, f"site/{number}") for number in range(16)]
        await until(lambda: pieces.num_held == 5)
        await asyncio.sleep(0.05)  # longer than anybody's patience
        assert sum(call.holds for call in calls) == 5
        while any(not call.task.done() for call in calls):
            await until(lambda: any(call.holds for call in calls))
            assert pieces.num_held <= 5
            await next(call for call in calls if call.holds).leave()

    run(scene)


def test_one_that_is_overdue_is_parked_when_there_is_room_again() -> None:
    async def scene() -> None:
        pieces = budget(2, 1, patience_seconds=0.01)
        calls = [Holder(pieces, f"site/{number}") for number in range(4)]
        await until(lambda: sum(call.holds for call in calls) == 3)
        await asyncio.sleep(0.05)
        await calls[0].leave()  # the parked one
        await until(lambda: calls[3].holds)
        assert [call.holds for call in calls] == [False, True, True, True]
        for call in calls[1:]:
            await call.leave()

    run(scene)


def test_a_peer_with_many_calls_gets_no_more_than_its_share() -> None:
    async def scene() -> None:
        pieces = budget(4, per_peer=2)
        greedy = [Holder(pieces, "site/greedy") for _ in range(10)]
        await settled()
        assert sum(call.holds for call in greedy) == 2
        other = Holder(pieces, "site/other")
        await settled()
        assert other.holds
        for call in (other, *greedy):
            await call.leave()
        assert pieces.num_held == 0

    run(scene)


def test_the_next_place_goes_to_a_peer_that_holds_least_then_to_who_waits_longest() -> None:
    async def scene() -> None:
        pieces = budget(2)
        first = [Holder(pieces, "site/a"), Holder(pieces, "site/a")]
        await settled()
        queue = [Holder(pieces, peer) for peer in ("site/a", "site/b", "site/b", "site/c")]
        await settled()
        assert not any(call.holds for call in queue)
        await first[0].leave()  # a holds another place
        await settled()
        assert [call.holds for call in queue] == [False, True, False, False]
        await first[1].leave()  # now a and c hold nothing, and a came first
        await settled()
        assert [call.holds for call in queue] == [True, True, False, False]
        await queue[0].leave()  # the second call of b came before that of c
        await settled()
        assert [call.holds for call in queue] == [False, True, False, True]
        for call in queue[1:]:
            await call.leave()

    run(scene)


@pytest.mark.parametrize("granted", [False, True])
def test_a_call_that_ends_while_it_waits_takes_no_place(granted: bool) -> None:
    async def scene() -> None:
        pieces = budget(1)
        first, second, third = (Holder(pieces, f"site/{number}") for number in range(3))
        await settled()
        if granted:  # in the moment between the grant and the call's next step
            first._go.set()
            await asyncio.sleep(0)
        second.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second.task
        await first.leave()
        await settled()
        assert third.holds
        assert pieces.num_held == 1
        await third.leave()

    run(scene)


def test_a_call_that_fails_leaves_its_place() -> None:
    async def scene() -> None:
        pieces = budget(1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with pieces.place("site/a"):
                    raise ZeroDivisionError
        assert pieces.num_held == 0

    run(scene)
