# SPDX-License-Identifier: Apache-2.0
"""int4: blocks of 66 bytes, a bf16 scale and 128 two's complement nibbles in [-7, 7], the low nibble first."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from federation.codecs.api import ByteVector
from federation.codecs.scaled_int import BLOCK_ELEMENTS, SCALE_BYTES, ScaledIntCodec


class Int4Codec(ScaledIntCodec):
    """An eighth of fp32's bytes (4.125 bits per element)."""

    name: ClassVar[str] = "int4"
    bytes_per_block: ClassVar[int] = SCALE_BYTES + BLOCK_ELEMENTS // 2
    largest: ClassVar[int] = 7

    def _pack(self, q: npt.NDArray[np.int8]) -> ByteVector:
        nibbles = q.view(np.uint8) & np.uint8(0x0F)
        return nibbles[:, 0::2] | (nibbles[:, 1::2] << np.uint8(4))

    def _unpack(self, body: ByteVector) -> npt.NDArray[np.int8]:
        q = np.empty((body.shape[0], BLOCK_ELEMENTS), np.int8)
        signed = body.view(np.int8)
        # An arithmetic shift right extends the sign of the upper nibble; the lower one is shifted up first.
        np.right_shift(np.left_shift(signed, np.int8(4)), np.int8(4), out=q[:, 0::2])
        np.right_shift(signed, np.int8(4), out=q[:, 1::2])
        return q
