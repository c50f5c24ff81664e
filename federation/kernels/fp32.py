# SPDX-License-Identifier: Apache-2.0
"""fp32: a copy between memory that is looked at for what is not finite (`federation.codecs.fp32`)."""

from typing import Final

import numpy as np

from federation.kernels.blocks import BlockKernels, Blocks, Stored
from federation.kernels.compiled import BLOCKS_IN, BLOCKS_OUT, COUNT, STATUS, STORED_IN, STORED_OUT, compiled

_ABS: Final = np.uint32(0x7FFFFFFF)
_INFINITY: Final = 0x7F800000
"""Infinity as fp32 bits; every NaN is above it."""


@compiled(STATUS, BLOCKS_IN, STORED_OUT)
def _encode_fp32(x_BE: Blocks, stored_BS: Stored) -> int:
    x, stored, largest = x_BE.reshape(x_BE.size), stored_BS.reshape(stored_BS.size), np.uint32(0)
    data, bits = x.view(np.uint8), x.view(np.uint32)
    for i in range(data.size):
        stored[i] = data[i]
    for i in range(bits.size):
        magnitude = np.uint32(bits[i] & _ABS)
        largest = magnitude if magnitude > largest else largest
    return 1 if largest >= _INFINITY else 0


@compiled(STATUS, STORED_IN, BLOCKS_OUT, COUNT)
def _decode_fp32(stored_BS: Stored, out_BE: Blocks, num_real: int) -> int:
    stored, out, largest = stored_BS.reshape(stored_BS.size), out_BE.reshape(out_BE.size), np.uint32(0)
    data, bits = out.view(np.uint8), out.view(np.uint32)
    for i in range(data.size):
        data[i] = stored[i]
    for i in range(bits.size):
        magnitude = np.uint32(bits[i] & _ABS)
        largest = magnitude if magnitude > largest else largest
    return 1 if largest >= _INFINITY else 0


FP32: Final = BlockKernels(block_elements=1, bytes_per_block=4, encode_blocks=_encode_fp32, decode_blocks=_decode_fp32)
