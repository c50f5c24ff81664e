# SPDX-License-Identifier: Apache-2.0
"""bf16: the upper halves of fp32 values, rounded half to even (`federation.codecs.bf16`)."""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector
from federation.kernels.compiled import FLOATS_IN, FLOATS_OUT, HALVES_IN, HALVES_OUT, NOTHING, compiled
from federation.kernels.magnitudes import INFINITY_BITS, largest_bits

Halves: TypeAlias = npt.NDArray[np.uint16]
"""u16[n]: bf16 bits."""

_ROUNDED_TO_INFINITY: Final = 0x7F7F8000
"""The smallest fp32 bits that bf16 rounds to infinity."""


@compiled(NOTHING, FLOATS_IN, HALVES_OUT)
def _round(x: Float32Vector, out: Halves) -> None:
    bits = x.view(np.uint32)
    for i in range(bits.size):
        kept_is_odd = (bits[i] >> np.uint32(16)) & np.uint32(1)
        out[i] = np.uint16(np.uint32(bits[i] + np.uint32(0x7FFF) + kept_is_odd) >> np.uint32(16))


@compiled(NOTHING, HALVES_IN, FLOATS_OUT)
def _widen(halves: Halves, out: Float32Vector) -> None:
    bits = out.view(np.uint32)
    for i in range(bits.size):
        bits[i] = np.uint32(halves[i]) << np.uint32(16)


class Bf16Kernels:
    """`Bf16Codec` of f32[n] and u8[2 n]."""

    def encode(self, x: Float32Vector, out: ByteVector) -> int:
        if largest_bits(x) >= _ROUNDED_TO_INFINITY:
            return 1
        halves = out.view(np.uint16)
        if halves.flags.aligned:
            _round(x, halves)
        else:
            rounded = np.empty(x.size, np.uint16)
            _round(x, rounded)
            halves[:] = rounded
        return 0

    def decode(self, raw: ByteVector, out: Float32Vector) -> int:
        halves = raw.view(np.uint16)
        _widen(halves if halves.flags.aligned else halves.copy(), out)
        return int(largest_bits(out) >= INFINITY_BITS)


BF16: Final = Bf16Kernels()
