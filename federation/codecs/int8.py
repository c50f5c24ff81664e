# SPDX-License-Identifier: Apache-2.0
"""int8: blocks of 130 bytes, a bf16 scale and 128 signed bytes in [-127, 127]."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from federation.codecs.api import ByteVector
from federation.codecs.scaled_int import BLOCK_ELEMENTS, SCALE_BYTES, ScaledIntCodec


class Int8Codec(ScaledIntCodec):
    """A quarter of fp32's bytes (8.125 bits per element)."""

    name: ClassVar[str] = "int8"
    bytes_per_block: ClassVar[int] = SCALE_BYTES + BLOCK_ELEMENTS
    largest: ClassVar[int] = 127

    def _pack(self, q: npt.NDArray[np.int8]) -> ByteVector:
        return q.view(np.uint8)

    def _unpack(self, body: ByteVector) -> npt.NDArray[np.int8]:
        return np.ascontiguousarray(body).view(np.int8)
