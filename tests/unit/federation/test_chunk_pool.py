# SPDX-License-Identifier: Apache-2.0
"""Chunks on threads: results in order, a bounded number of them waiting, errors in their place."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from federation.chunk_pool import _abandon, in_order, num_threads_here, on_chunks
from federation.chunks import CHUNK_ELEMENTS

PATIENCE = 20.0


class Gates:
    """Work that waits to be let through, chunk by chunk."""

    def __init__(self, num_chunks: int) -> None:
        self.begun = [threading.Event() for _ in range(num_chunks)]
        self.open = [threading.Event() for _ in range(num_chunks)]
        self.ended: list[int] = []

    def work(self, index: int) -> int:
        self.begun[index].set()
        assert self.open[index].wait(PATIENCE)
        self.ended.append(index)
        return index

    def let(self, *indices: int) -> None:
        for index in indices:
            self.open[index].set()

    def wait_for(self, *indices: int) -> None:
        for index in indices:
            assert self.begun[index].wait(PATIENCE)


class Consumer(threading.Thread):
    """Takes results on a thread of its own, so that a test can look at what happens meanwhile."""

    def __init__(self, results: Iterator[int]) -> None:
        super().__init__()
        self.taken: list[int] = []
        self.error: Exception | None = None
        self._results = results
        self.start()

    def run(self) -> None:
        try:
            self.taken.extend(self._results)
        except Exception as error:
            self.error = error


@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
@pytest.mark.parametrize("num_chunks", [0, 1, 2, 7, 100])
def test_results_come_in_order(num_chunks: int, num_threads: int) -> None:
    assert list(in_order(lambda i: i * i, num_chunks, num_threads)) == [i * i for i in range(num_chunks)]


def test_results_come_in_order_whatever_ends_first() -> None:
    gates = Gates(3)
    consumer = Consumer(in_order(gates.work, 3, 3))
    gates.wait_for(0, 1, 2)
    gates.let(2, 1, 0)
    consumer.join(PATIENCE)
    assert consumer.taken == [0, 1, 2]


def test_one_thread_works_inline_and_only_on_what_is_asked_for() -> None:
    threads, results = [], in_order(lambda i: threads.append(threading.current_thread()) or i, 5, 1)
    assert threads == []
    assert next(results) == 0
    assert threads == [threading.current_thread()]


def test_several_threads_work_at_the_same_time() -> None:
    barrier = threading.Barrier(3, timeout=PATIENCE)
    assert len(list(in_order(lambda _: barrier.wait(), 3, 3))) == 3


def test_results_that_nobody_takes_are_bounded() -> None:
    begun: list[int] = []
    results = in_order(lambda i: begun.append(i) or i, 100, 2)
    assert next(results) == 0
    # Four were handed out, and no fifth before the second one is asked for.
    assert next(results) == 1
    assert max(begun) <= 4
    assert list(results) == list(range(2, 100))


@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_first_error_is_raised_in_its_place(num_threads: int) -> None:
    begun: list[int] = []

    def work(index: int) -> int:
        begun.append(index)
        if index >= 3:
            raise ValueError(f"chunk {index}")
        return index

    results = in_order(work, 100, num_threads)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="chunk 3"):
        next(results)
    assert max(begun) <= 7


def test_after_an_error_nothing_runs_any_more() -> None:
    gates = Gates(4)

    def work(index: int) -> int:
        result = gates.work(index)
        if index == 0:
            raise ValueError("chunk 0")
        return result

    consumer = Consumer(in_order(work, 4, 2))
    gates.wait_for(0, 1)
    gates.let(0)
    # Chunk 1 is still at work, so the error waits for it; 2 may have begun when 0 ended.
    assert consumer.is_alive()
    gates.let(1, 2, 3)
    consumer.join(PATIENCE)
    assert isinstance(consumer.error, ValueError)
    assert 1 in gates.ended


def test_a_closed_iterator_leaves_nothing_running() -> None:
    gates = Gates(8)
    gates.let(0)
    results = in_order(gates.work, 8, 2)
    assert next(results) == 0
    gates.wait_for(1)
    closer = threading.Thread(target=results.close)  # type: ignore[attr-defined]
    closer.start()
    gates.let(1, 2, 3)
    closer.join(PATIENCE)
    assert not closer.is_alive()
    assert {0, 1} <= set(gates.ended)
    assert [index for index, begun in enumerate(gates.begun) if begun.is_set()] == sorted(gates.ended)
    assert not gates.begun[4].is_set()


def test_what_has_not_begun_is_cancelled_before_anything_is_waited_for() -> None:
    gates, cancelled = Gates(2), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = deque([pool.submit(gates.work, 0), pool.submit(gates.work, 1)])
        waiting[1].add_done_callback(lambda _: cancelled.set())
        gates.wait_for(0)
        abandoning = threading.Thread(target=_abandon, args=(waiting,))
        abandoning.start()
        assert cancelled.wait(PATIENCE)
        assert abandoning.is_alive()
        gates.let(0)
        abandoning.join(PATIENCE)
    assert gates.ended == [0]


def test_work_may_ask_for_chunks_itself() -> None:
    def work(index: int) -> list[int]:
        return list(in_order(lambda i: 10 * index + i, 3, 2))

    assert list(in_order(work, 6, 2)) == [[10 * i, 10 * i + 1, 10 * i + 2] for i in range(6)]


def test_every_chunk_is_worked_on_once_and_on_threads() -> None:
    size = 2 * CHUNK_ELEMENTS + 77
    counts, together = np.zeros(size, np.int8), threading.Barrier(2, timeout=PATIENCE)

    def work(chunk: slice) -> None:
        if chunk.start in (0, CHUNK_ELEMENTS):
            together.wait()
        counts[chunk] += 1

    on_chunks(size, 2, work)
    assert (counts == 1).all()


def test_a_forked_child_has_threads_of_its_own() -> None:
    assert list(in_order(abs, 4, 2)) == [0, 1, 2, 3]
    child = os.fork()
    if child == 0:
        # Nothing but an exit code may leave the child of a test.
        os._exit(0 if list(in_order(abs, 4, 2)) == [0, 1, 2, 3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_are_the_processors_of_this_process() -> None:
    assert num_threads_here() == len(os.sched_getaffinity(0)) >= 1
