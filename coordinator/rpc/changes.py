# SPDX-License-Identifier: Apache-2.0
"""Something changed: wakes everybody on the event loop who waits for it."""

import asyncio


class Changes:
    """Each `announce` wakes all who wait for it; who begins to wait later waits for the next one."""

    def __init__(self) -> None:
        self._next: dict[str, asyncio.Event] = {}

    def announce(self, peer: str = "") -> None:
        """Something changed for everybody, or for one peer alone. On the loop's own thread."""
        found = [self._next.pop(peer, None)] if peer else list(self._next.values())
        if not peer:
            self._next.clear()
        for event in found:
            if event is not None:
                event.set()

    def subscribe(self, peer: str = "") -> asyncio.Event:
        """Set by the next change for everybody, or for this peer.

        Taken before looking, so that no change falls between look and wait.
        """
        return self._next.setdefault(peer, asyncio.Event())


async def wait_until(event: asyncio.Event, seconds: float) -> None:
    """Waits for the event, or for as long."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return
