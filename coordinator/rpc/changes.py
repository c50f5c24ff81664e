# SPDX-License-Identifier: Apache-2.0
"""Something changed: wakes everybody on the event loop who waits for it."""

import asyncio


class Changes:
    """Each `announce` wakes all who wait; who begins to wait later waits for the next one."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def announce(self) -> None:
        """On the loop's own thread."""
        self._next.set()
        self._next = asyncio.Event()

    def subscribe(self) -> asyncio.Event:
        """Set by the next change. Taken before looking, so that no change falls between look and wait."""
        return self._next


async def wait_until(event: asyncio.Event, seconds: float) -> None:
    """Waits for the event, or for as long."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return
