# SPDX-License-Identifier: Apache-2.0
"""Work on chunks, spread over threads, with results in ascending order."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Final, TypeVar

from federation.chunks import ChunkGrid

T = TypeVar("T")

_RESULTS_PER_THREAD: Final = 2


class _Here(threading.local):
    """What this thread is."""

    is_pooled = False


_HERE: Final = _Here()


def num_threads_here() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def in_order(work: Callable[[int], T], num_chunks: int, num_threads: int) -> Generator[T, None, None]:
    """work(0), work(1), ... computed on threads, in order; at most two results a thread wait to be taken.

    Work begins when the first result is asked for. The first error is raised in its place; what has not begun by then,
    or when the iterator is closed, never begins, and nothing runs any more afterwards: its memory may be reused.
    One thread: no thread at all. The same where work itself asks for chunks, since it must not wait for its own pool.
    """
    if num_threads <= 1 or _HERE.is_pooled:
        yield from map(work, range(num_chunks))
        return
    pool, waiting = _pool(num_threads), deque[Future[T]]()
    try:
        for index in range(num_chunks):
            waiting.append(pool.submit(work, index))
            if len(waiting) >= _RESULTS_PER_THREAD * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        _abandon(waiting)


def on_chunks(num_elements: int, num_threads: int, work: Callable[[slice], None]) -> None:
    """work(elements) for every chunk of a fragment, on threads; nothing for a part of it that is empty."""
    if not num_elements:
        return
    grid = ChunkGrid(num_elements)
    for _ in in_order(lambda i: work(slice(*grid.bounds(i))), grid.num_chunks, min(num_threads, grid.num_chunks)):
        pass


def _abandon(waiting: deque[Future[T]]) -> None:
    # All are cancelled before any is waited for: a free thread would begin the next one meanwhile.
    running = [future for future in waiting if not future.cancel()]
    for future in running:
        future.exception()


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    """The one pool of that many threads, for all who ask in this process."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="chunks", initializer=_enter_pool)


def _enter_pool() -> None:
    _HERE.is_pooled = True


# A child process has none of its parent's threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
