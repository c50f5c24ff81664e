# SPDX-License-Identifier: Apache-2.0
"""Kernels of codecs in blocks: whole blocks where they lie, the last one, where it is not whole, through a copy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector

Blocks: TypeAlias = npt.NDArray[np.float32]
"""f32[blocks, elements of a block]."""

Stored: TypeAlias = npt.NDArray[np.uint8]
"""u8[blocks, bytes of a block]."""


@dataclass(frozen=True, kw_only=True)
class BlockKernels:
    """The two kernels of a codec for any number of elements.

    Attributes:
        block_elements, bytes_per_block: the codec's.
        encode_blocks: of whole blocks; returns a status.
        decode_blocks: of blocks that have so many real elements each; returns a status.
    """

    block_elements: int
    bytes_per_block: int
    encode_blocks: Callable[[Blocks, Stored], int]
    decode_blocks: Callable[[Stored, Blocks, int], int]

    def encode(self, x: Float32Vector, out: ByteVector) -> int:
        """f32[n] into u8[blocks * bytes_per_block]."""
        stored_BS, whole = out.reshape(-1, self.bytes_per_block), x.size // self.block_elements
        end = whole * self.block_elements
        status = self.encode_blocks(x[:end].reshape(whole, self.block_elements), stored_BS[:whole])
        if status != 0 or x.size == end:
            return status
        last_E = np.zeros((1, self.block_elements), np.float32)
        last_E[0, : x.size - end] = x[end:]
        return self.encode_blocks(last_E, stored_BS[whole:])

    def decode(self, raw: ByteVector, out: Float32Vector) -> int:
        """u8[blocks * bytes_per_block] into f32[n], which holds anything where the bytes are refused."""
        stored_BS, whole = raw.reshape(-1, self.bytes_per_block), out.size // self.block_elements
        end = whole * self.block_elements
        body_BE = out[:end].reshape(whole, self.block_elements)
        status = self.decode_blocks(stored_BS[:whole], body_BE, self.block_elements)
        if status != 0 or out.size == end:
            return status
        last_E = np.empty((1, self.block_elements), np.float32)
        status = self.decode_blocks(stored_BS[whole:], last_E, out.size - end)
        out[end:] = last_E[0, : out.size - end]
        return status
