# SPDX-License-Identifier: Apache-2.0
"""Pieces hashed by whoever completes them give the digest of the whole."""

import random
import threading

import pytest

from federation.merkle import PieceHasher
from federation.piece_hashes import PieceHashes


def digest_of(data: bytes, piece_bytes: int) -> str:
    hasher = PieceHasher(piece_bytes)
    hasher.update(data)
    return hasher.hexdigest()


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 64, 1000])
@pytest.mark.parametrize("part", [1, 7, 16, 50, 2000])
def test_parts_in_any_order_give_the_digest_of_the_whole(size: int, part: int) -> None:
    dice, memory = random.Random(size * part), bytearray(size)
    hashes, parts = PieceHashes(memoryview(memory), 16), [(i, min(i + part, size)) for i in range(0, size, part)]
    dice.shuffle(parts)
    for start, stop in parts:
        memory[start:stop] = dice.randbytes(stop - start)
        hashes.filled(start, stop)
    assert hashes.hexdigest() == digest_of(bytes(memory), 16)


def test_threads_share_one() -> None:
    memory = bytearray(random.Random(1).randbytes(100_000))
    hashes, starts, lock = PieceHashes(memoryview(memory), 4096), list(range(0, len(memory), 1000)), threading.Lock()

    def fill() -> None:
        while True:
            with lock:
                if not starts:
                    return
                start = starts.pop()
            hashes.filled(start, start + 1000)

    threads = [threading.Thread(target=fill) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hashes.hexdigest() == digest_of(bytes(memory), 4096)


def test_a_digest_of_memory_that_is_not_filled_is_our_bug() -> None:
    hashes = PieceHashes(memoryview(bytearray(20)), 16)
    hashes.filled(0, 19)
    with pytest.raises(AssertionError, match="every byte is filled"):
        hashes.hexdigest()
