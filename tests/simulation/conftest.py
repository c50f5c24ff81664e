# SPDX-License-Identifier: Apache-2.0
"""Everybody in a simulated federation lives in one process: what one has verified or hashed, the next need not."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytest

from federation import aggregate, chunks, commit_pass, published, signing
from federation.chunks import Float32Vector

NUM_REMEMBERED = 20_000


@pytest.fixture(scope="session", autouse=True)
def remembered() -> Iterator[None]:
    """Signatures that verified, and hashes of small chunks by their bytes; a third of a schedule's time."""

    @lru_cache(maxsize=NUM_REMEMBERED)
    def hash_of(content: bytes) -> bytes:
        return chunks.chunk_hash(np.frombuffer(content, np.float32))

    def chunk_hash(chunk: Float32Vector) -> bytes:
        return hash_of(chunk.tobytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signing, "verify", lru_cache(maxsize=NUM_REMEMBERED)(signing.verify))
        for module in (aggregate, commit_pass, published):
            patch.setattr(module, "chunk_hash", chunk_hash)
        yield
