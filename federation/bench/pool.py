# SPDX-License-Identifier: Apache-2.0
"""Encoded blocks of noise, from which replaying jobs make payloads of any size."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from federation.chunks import CHUNK_ELEMENTS
from federation.codecs.registry import get_codec
from federation.durable.real import RealFileSystem

POOL_CHUNKS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Where they lie.

    Attributes:
        blocks: file of whole blocks.
        block_bytes: of one.
        tail: file with the block that ends a payload, None where the last block is whole.
    """

    blocks: Path
    block_bytes: int
    tail: Path | None


def write_pool(directory: Path, codec_name: str, num_elements: int, scale: float) -> Pool:
    """Encodes a few chunks of noise for payloads of `num_elements` (one fragment)."""
    codec, fs = get_codec(codec_name), RealFileSystem(directory)
    rng = np.random.default_rng(1)
    elements = min(POOL_CHUNKS * CHUNK_ELEMENTS, num_elements) // codec.block_elements * codec.block_elements
    noise = rng.standard_normal(max(elements, codec.block_elements), np.float32) * np.float32(scale)
    parts = [codec.encode(noise[at : at + CHUNK_ELEMENTS]).tobytes() for at in range(0, noise.size, CHUNK_ELEMENTS)]
    fs.write("blocks", b"".join(parts))
    rest = num_elements % codec.block_elements
    if rest:
        fs.write("tail", codec.encode(noise[:rest]).tobytes())
    tail = directory / "tail" if rest else None
    return Pool(blocks=directory / "blocks", block_bytes=codec.bytes_per_block, tail=tail)
