# SPDX-License-Identifier: Apache-2.0
"""int4: blocks of 66 bytes, a bf16 scale and 128 two's complement nibbles in [-7, 7], the low nibble first."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from federation.codecs.api import ByteVector
from federation.codecs.packing import pack_nibbles, unpack_nibbles
from federation.codecs.scaled_int import BLOCK_ELEMENTS, SCALE_BYTES, ScaledIntCodec


class Int4Codec(ScaledIntCodec):
    """An eighth of fp32's bytes (4.125 bits per element)."""

    name: ClassVar[str] = "int4"
    bytes_per_block: ClassVar[int] = SCALE_BYTES + BLOCK_ELEMENTS // 2
    largest: ClassVar[int] = 7

    def _pack(self, q: npt.NDArray[np.int8]) -> ByteVector:
        return pack_nibbles(q)

    def _unpack(self, body: ByteVector) -> npt.NDArray[np.int8]:
        return unpack_nibbles(body)
