# SPDX-License-Identifier: Apache-2.0
"""How fast a site may send: what went out is owed, and paid back at the limit's rate before the next piece goes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

CREDIT_SECONDS: Final = 0.05
"""So much may be saved up: what a sleep overshoots is made good, and no burst is worth mentioning."""

LOOK_SECONDS: Final = 0.5
"""Longest sleep of one who waits: then a limit that was changed counts."""


class UploadPace:
    """A token bucket over all streams of one courier. One event loop uses it; `limit` may be set from any thread.

    Attributes:
        limit: bytes per second; 0 for none.
    """

    def __init__(
        self,
        limit: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Takes the limit, and for tests a clock (seconds) with a sleep that fits it."""
        self.limit = limit
        self._clock, self._sleep = clock, sleep
        self._owed_bytes = 0.0
        self._at = clock()

    def owe(self, num_bytes: int) -> None:
        """These bytes are sent now."""
        self._pay()
        self._owed_bytes += num_bytes

    def seconds(self) -> float:
        """How long the next piece has to wait."""
        self._pay()
        return self._owed_bytes / self.limit if self.limit and self._owed_bytes >= 1 else 0.0

    async def turn(self, num_bytes: int) -> None:
        """Returns when a piece of so many bytes may go; it is owed then."""
        while (seconds := self.seconds()) > 0:
            await self._sleep(min(seconds, LOOK_SECONDS))
        self.owe(num_bytes)

    def _pay(self) -> None:
        # The debt is kept in bytes, so that a new limit counts for what is owed already.
        now, limit = self._clock(), self.limit
        paid = self._owed_bytes - (now - self._at) * limit
        self._owed_bytes = max(paid, -CREDIT_SECONDS * limit) if limit else 0.0
        self._at = now
