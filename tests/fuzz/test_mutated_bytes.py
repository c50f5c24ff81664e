# SPDX-License-Identifier: Apache-2.0
"""A million damaged inputs for every decoder: refused with a reason, or decoded to finite values; quickly.

`FEDERATION_FUZZ_PAYLOADS` sets another number per decoder. Where everything must run the inputs are the same each time;
elsewhere they are new in each run, and a failure shows the input that caused it.
"""

import os
import time
import tracemalloc
from functools import cache

import pytest
from fuzz_targets import Target, all_targets
from mutations import Mutator, Sample

NUM_PAYLOADS = int(os.environ.get("FEDERATION_FUZZ_PAYLOADS", "1000000"))
NUM_PARTS = 4
BATCH = 5_000
BATCH_CPU_SECONDS = 30.0
"""Some hundred times what a batch takes."""

NUM_TRACED = 1_000
RUN = "repeatable" if os.environ.get("FEDERATION_REQUIRE_ALL") == "1" else os.urandom(4).hex()

targets = cache(all_targets)
each_target = pytest.mark.parametrize("name", targets())


def mutator(target: Target, part: object) -> Mutator:
    return Mutator(target.samples, f"{target.name}-{part}-{RUN}", target.repair)


def feed(target: Target, sample: Sample) -> bool:
    try:
        return target.feed(sample.variant, sample.data)
    except BaseException as error:
        raise AssertionError(f"{target.name}, variant {sample.variant}: {sample.data.hex()}") from error


@each_target
def test_the_samples_are_accepted(name: str) -> None:
    assert all(feed(targets()[name], sample) for sample in targets()[name].samples)


@each_target
@pytest.mark.parametrize("part", range(NUM_PARTS))
@pytest.mark.timeout(900)  # a busy machine
def test_damaged_bytes(name: str, part: int) -> None:
    target, accepted, count = targets()[name], 0, -(-NUM_PAYLOADS // NUM_PARTS)
    draw = mutator(target, part)
    for start in range(0, count, BATCH):
        began = time.thread_time()
        for _ in range(min(BATCH, count - start)):
            accepted += feed(target, draw.next())
        assert time.thread_time() - began <= BATCH_CPU_SECONDS
    # Else one side of the decoder was hardly seen.
    assert 0.05 * count < accepted < 0.95 * count


@each_target
def test_memory_is_bounded_by_the_input(name: str) -> None:
    target = targets()[name]
    draw = mutator(target, "memory")
    samples = [draw.next() for _ in range(NUM_TRACED)]
    for sample in samples[:50]:  # what is cached once is no part of a call
        feed(target, sample)
    tracemalloc.start()
    try:
        for sample in samples:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            feed(target, sample)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before <= target.allocated_bytes(len(sample.data)), sample
    finally:
        tracemalloc.stop()
