# SPDX-License-Identifier: Apache-2.0
"""The one event loop of a process that speaks gRPC as a client, in a thread of its own.

grpc.aio binds its machinery to a loop and keeps it for as long as any channel is alive; a loop for each courier or
command would leave closed ones behind. The thread is started by the first use and ends with the process.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

THREAD_NAME: Final = "network"

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def network_loop() -> asyncio.AbstractEventLoop:
    """The running loop."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name=THREAD_NAME, daemon=True).start()
        return _loop


def start(coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Runs a coroutine on the network's loop, beside the caller."""
    return asyncio.run_coroutine_threadsafe(coroutine, network_loop())


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the network's loop and waits for its result; Ctrl-C cancels it."""
    future = start(coroutine)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
