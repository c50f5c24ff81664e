# SPDX-License-Identifier: Apache-2.0
"""sparse-down: the 256 largest of 4096 elements of a commit as int4; the rest stays in the coordinator's residual.

A block of 514 bytes: a bf16 scale (2 bytes), 256 ascending 12-bit indices (384 bytes), 256 two's complement nibbles in
[-7, 7], the low one first (128 bytes). Scale and nibbles follow int4's rules. Unused places (see `top_k`) have 0.
Four sites that send 64 elements of a block each fill it at most.
"""

from typing import ClassVar, Final

import numpy as np

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.codecs.packing import pack_indices, pack_nibbles, unpack_indices, unpack_nibbles
from federation.codecs.scaled_int import SCALE_BYTES, check_scaled, dequantise, load_scales, quantise, store_scales
from federation.codecs.top_k import BLOCK_ELEMENTS, largest_of, scatter, used_places
from federation.errors import MalformedPayloadError

NUM_KEPT: Final = 256
"""Elements that a block keeps at most."""

LARGEST: Final = 7
"""Largest integer that is stored."""

_INDICES_END: Final = SCALE_BYTES + NUM_KEPT * 12 // 8


class SparseDownCodec(Codec):
    """A 32nd of fp32's bytes (0.1255 bytes per element)."""

    name: ClassVar[str] = "sparse-down"
    block_elements: ClassVar[int] = BLOCK_ELEMENTS
    bytes_per_block: ClassVar[int] = _INDICES_END + NUM_KEPT // 2

    def _encode(self, x: Float32Vector) -> ByteVector:
        x_BE = self.whole_blocks(x)
        # Quantising only what is kept needs the block's largest magnitude, which is kept; NaN is the largest of all.
        index_BK, used_BK = largest_of(x_BE, NUM_KEPT)
        kept_BK = np.where(used_BK, np.take_along_axis(x_BE, index_BK, axis=1), np.float32(0))
        bits_B, q_BK = quantise(self.name, kept_BK, LARGEST)
        stored = np.empty((len(x_BE), self.bytes_per_block), np.uint8)
        stored[:, :SCALE_BYTES] = store_scales(bits_B)
        stored[:, SCALE_BYTES:_INDICES_END] = pack_indices(index_BK)
        stored[:, _INDICES_END:] = pack_nibbles(q_BK)
        return stored.reshape(-1)

    def _decode(self, raw: ByteVector, num_elements: int) -> Float32Vector:
        stored = raw.reshape(-1, self.bytes_per_block)
        index_BK = unpack_indices(stored[:, SCALE_BYTES:_INDICES_END])
        used_BK = used_places(self.name, index_BK, num_elements)
        bits_B, q_BK = load_scales(stored[:, :SCALE_BYTES]), unpack_nibbles(stored[:, _INDICES_END:])
        check_scaled(self.name, bits_B, q_BK, LARGEST)
        if q_BK[~used_BK].any():
            block = int(np.argmax((~used_BK & (q_BK != 0)).any(axis=1)))
            found = q_BK[block][~used_BK[block]]
            raise MalformedPayloadError(
                f"{self.name}: block {block} of the chunk: expected 0 in unused places, found {found[found != 0][0]}"
            )
        return scatter(dequantise(bits_B, q_BK), index_BK, used_BK, num_elements)
