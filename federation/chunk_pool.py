# SPDX-License-Identifier: Apache-2.0
"""Work on chunks, spread over threads, with results in ascending order."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")


def num_threads_here() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def in_order(work: Callable[[int], T], num_chunks: int, num_threads: int) -> Iterator[T]:
    """work(0), work(1), ... computed on threads, in order; at most two results a thread wait to be taken.

    The first error is raised in its place; what has not begun by then never begins. One thread: no thread at all.
    """
    if num_threads <= 1:
        yield from map(work, range(num_chunks))
        return
    pool, waiting = _pool(num_threads), deque[Future[T]]()
    try:
        for index in range(num_chunks):
            waiting.append(pool.submit(work, index))
            if len(waiting) >= 2 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        _abandon(waiting)


def _abandon(waiting: deque[Future[T]]) -> None:
    """Nothing of this work runs any more when this returns: its memory may be reused."""
    for future in waiting:
        if not future.cancel():
            future.exception()


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="chunks")
