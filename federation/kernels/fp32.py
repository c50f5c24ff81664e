# SPDX-License-Identifier: Apache-2.0
"""fp32: a copy between memory that is looked at for what is not finite (`federation.codecs.fp32`)."""

from typing import Final

import numpy as np

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector
from federation.kernels.magnitudes import INFINITY_BITS, largest_bits


class Fp32Kernels:
    """`Fp32Codec` of f32[n] and u8[4 n]."""

    def encode(self, x: Float32Vector, out: ByteVector) -> int:
        out[:] = x.view(np.uint8)
        return int(largest_bits(x) >= INFINITY_BITS)

    def decode(self, raw: ByteVector, out: Float32Vector) -> int:
        out.view(np.uint8)[:] = raw
        return int(largest_bits(out) >= INFINITY_BITS)


FP32: Final = Fp32Kernels()
