# SPDX-License-Identifier: Apache-2.0
"""bf16: the upper halves of fp32 values, rounded half to even (`federation.codecs.bf16`)."""

from typing import Final

import numpy as np

from federation.kernels.blocks import BlockKernels, Blocks, Stored
from federation.kernels.compiled import BLOCKS_IN, BLOCKS_OUT, COUNT, STATUS, STORED_IN, STORED_OUT, compiled

_ABS: Final = np.uint32(0x7FFFFFFF)
_ROUNDED_TO_INFINITY: Final = 0x7F7F8000
"""The smallest fp32 bits that bf16 rounds to infinity."""

_INFINITY: Final = 0x7F80
_ABS_HALF: Final = np.uint16(0x7FFF)


@compiled(STATUS, BLOCKS_IN, STORED_OUT)
def _encode_bf16(x_BE: Blocks, stored_BS: Stored) -> int:
    bits, stored, largest = x_BE.reshape(x_BE.size).view(np.uint32), stored_BS.reshape(stored_BS.size), np.uint32(0)
    for i in range(bits.size):
        magnitude = np.uint32(bits[i] & _ABS)
        largest = magnitude if magnitude > largest else largest
        kept_is_odd = (bits[i] >> np.uint32(16)) & np.uint32(1)
        half = np.uint16(np.uint32(bits[i] + np.uint32(0x7FFF) + kept_is_odd) >> np.uint32(16))
        stored[2 * i], stored[2 * i + 1] = np.uint8(half & np.uint16(0xFF)), np.uint8(half >> np.uint16(8))
    return 1 if largest >= _ROUNDED_TO_INFINITY else 0


@compiled(STATUS, STORED_IN, BLOCKS_OUT, COUNT)
def _decode_bf16(stored_BS: Stored, out_BE: Blocks, num_real: int) -> int:
    stored, bits = stored_BS.reshape(stored_BS.size), out_BE.reshape(out_BE.size).view(np.uint32)
    largest = np.uint32(0)
    for i in range(bits.size):
        half = np.uint32(stored[2 * i]) | (np.uint32(stored[2 * i + 1]) << np.uint32(8))
        magnitude = np.uint32(half & np.uint32(_ABS_HALF))
        largest = magnitude if magnitude > largest else largest
        bits[i] = half << np.uint32(16)
    return 1 if largest >= _INFINITY else 0


BF16: Final = BlockKernels(block_elements=1, bytes_per_block=2, encode_blocks=_encode_bf16, decode_blocks=_decode_bf16)
