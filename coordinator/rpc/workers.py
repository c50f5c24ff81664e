# SPDX-License-Identifier: Apache-2.0
"""Threads for file operations. One peer has a share of them, so that no peer's slow disk work holds up the others'."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

NUM_WORKERS: Final = 8
WORKERS_PER_PEER: Final = 2
MAX_TURNSTILES: Final = 4096


class Workers:
    """Runs blocking functions off the event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(NUM_WORKERS, thread_name_prefix="network-files")
        self._turnstiles: dict[str, asyncio.Semaphore] = {}

    async def run(self, peer: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function for a peer, when it is the peer's turn."""
        async with self._turnstile(peer):
            call = asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*args, **kwargs))
            call.add_done_callback(lambda done: done.cancelled() or done.exception())  # a caller may be cut off
            return await asyncio.shield(call)  # and file operations end all the same

    def close(self) -> None:
        """Waits for what is running."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _turnstile(self, peer: str) -> asyncio.Semaphore:
        if peer not in self._turnstiles and len(self._turnstiles) >= MAX_TURNSTILES:
            for idle in [name for name, found in self._turnstiles.items() if not found.locked()]:
                del self._turnstiles[idle]
        return self._turnstiles.setdefault(peer, asyncio.Semaphore(WORKERS_PER_PEER))
