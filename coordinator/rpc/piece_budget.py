# SPDX-License-Identifier: Apache-2.0
"""How many messages with pieces of blobs all calls together have in memory, whatever the number of peers.

A call takes a place before it asks gRPC for the next message or reads one from disk, and leaves it when its pieces are
written or sent. Between two messages it holds nothing. There are two rooms of places:

- *moving*: messages that come or go. Who waits longest, of the peers that hold least, gets the next place.
- *parked*: a message that has been moving for longer than `PATIENCE_SECONDS` waits for its peer, not for us. It is
  parked and its place given to another one, so that peers on slow lines do not hold up those on fast ones.

Where the parked room is full too, a message stays where it is until its call ends: each wait for a peer has its limit.
One peer has a few places of all, so it takes many peers that stall on purpose to slow down the others.

One event loop uses it; nothing here is locked.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

NUM_MOVING: Final = 8
NUM_PARKED: Final = 8
NUM_PER_PEER: Final = 4
"""In both rooms together: two calls up and two down, as this release makes them."""

PATIENCE_SECONDS: Final = 0.1
"""A round trip between continents."""


@dataclass(kw_only=True, eq=False)
class _Place:
    """Room for one message. `parked`: it does not count as moving; `overdue`: it should not."""

    peer: str
    parked: bool = False
    overdue: bool = False


class PieceBudget:
    """Places for messages of up to `MAX_PIECES_PER_MESSAGE` pieces."""

    def __init__(
        self,
        *,
        num_moving: int = NUM_MOVING,
        num_parked: int = NUM_PARKED,
        num_per_peer: int = NUM_PER_PEER,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._num_moving, self._num_parked, self._num_per_peer = num_moving, num_parked, num_per_peer
        self._patience_seconds = patience_seconds
        self._places: dict[_Place, None] = {}
        self._held: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[_Place]]] = deque()

    @property
    def num_held(self) -> int:
        """Places that are taken, parked ones included."""
        return len(self._places)

    @asynccontextmanager
    async def place(self, peer: str) -> AsyncIterator[None]:
        """Waits for a place, and holds it."""
        place = await self._taken(peer)
        timer = asyncio.get_running_loop().call_later(self._patience_seconds, self._tire, place)
        try:
            yield
        finally:
            timer.cancel()
            self._leave(place)

    async def _taken(self, peer: str) -> _Place:
        granted: asyncio.Future[_Place] = asyncio.get_running_loop().create_future()
        self._waiting.append((peer, granted))
        self._grant()
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._waiting.remove((peer, granted))
            else:
                self._leave(granted.result())
            raise

    def _tire(self, place: _Place) -> None:
        place.overdue = True
        self._park()
        self._grant()

    def _leave(self, place: _Place) -> None:
        del self._places[place]
        self._held[place.peer] -= 1
        if not self._held[place.peer]:
            del self._held[place.peer]
        self._park()
        self._grant()

    def _park(self) -> None:
        """Parks the oldest messages that are overdue, as many as there is room for."""
        room = self._num_parked - sum(place.parked for place in self._places)
        for place in [one for one in self._places if one.overdue and not one.parked][: max(0, room)]:
            place.parked = True

    def _grant(self) -> None:
        """Gives the places that are free."""
        free = self._num_moving - sum(not place.parked for place in self._places)
        while free > 0 and (following := self._following()) is not None:
            self._waiting.remove(following)
            peer, granted = following
            place = _Place(peer=peer)
            self._places[place] = None
            self._held[peer] += 1
            granted.set_result(place)
            free -= 1

    def _following(self) -> "tuple[str, asyncio.Future[_Place]] | None":
        """Who has waited longest, of those whose peers hold least; None if nobody may have a place."""
        allowed = [one for one in self._waiting if self._held[one[0]] < self._num_per_peer and not one[1].done()]
        return min(allowed, key=lambda one: self._held[one[0]], default=None)
