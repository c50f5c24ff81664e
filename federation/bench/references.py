# SPDX-License-Identifier: Apache-2.0
"""What any exchange is measured against in the same run: copying memory, and making bytes durable."""

import os
import time
from pathlib import Path
from typing import Final

import numpy as np

from federation.bench.figures import Samples
from federation.chunk_pool import in_order, num_threads_here
from federation.chunks import ChunkGrid, Float32Vector
from federation.durable.real import RealFileSystem

NUM_SAMPLES: Final = 5
_PIECE_BYTES: Final = 1024 * 1024


def copy_seconds(source: Float32Vector, target: Float32Vector, num_samples: int = NUM_SAMPLES) -> Samples:
    """Copies f32[n] to f32[n] on all cores, chunk by chunk; the first time does not count."""
    grid = ChunkGrid(source.size)

    def copy(index: int) -> None:
        part = slice(*grid.bounds(index))
        np.copyto(target[part], source[part])

    def once() -> float:
        began = time.perf_counter()
        for _ in in_order(copy, grid.num_chunks, num_threads_here()):
            pass
        return time.perf_counter() - began

    return Samples.of([once() for _ in range(num_samples + 1)][1:])


def copy_model_seconds(num_elements: int) -> Samples:
    """Copies so many fp32 elements."""
    return copy_seconds(np.ones(num_elements, np.float32), np.zeros(num_elements, np.float32))


def write_seconds(directory: Path, num_bytes: int, num_samples: int = NUM_SAMPLES) -> Samples:
    """One process writes so many random bytes to one file and fsyncs it; the first time does not count."""
    fs, piece = RealFileSystem(directory), memoryview(os.urandom(_PIECE_BYTES))

    def once() -> float:
        began = time.perf_counter()
        with fs.writer() as writer:
            for at in range(0, num_bytes, _PIECE_BYTES):
                writer.write(piece[: num_bytes - at])
            writer.publish("written")
        seconds = time.perf_counter() - began
        fs.remove("written")
        return seconds

    return Samples.of([once() for _ in range(num_samples + 1)][1:])
