# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Triton kernels of int4 and int8 (their arguments are traced, not typed).

Every operation is the reference's: one correctly rounded fp32 operation at a time, subnormals kept. So the caller
switches the fusion of multiply-add off when it launches (`federation.codecs_device.launch`), division asks for IEEE
rounding, and bf16 is rounded by integer arithmetic. Nothing here indexes by what it read.

A program works on BLOCKS blocks. Stored blocks have an even number of bytes, so they are written and read as 16-bit
words: the scale, then PER_WORD integers of BITS bits in each. Suffixes: _B blocks, _E elements, _W words, _P per word.
"""

import triton
import triton.language as tl

BLOCK = tl.constexpr(128)
"""Elements of a block: `federation.codecs.scaled_int.BLOCK_ELEMENTS`."""

MAX_MAGNITUDE_BITS = tl.constexpr(0x7B800000)
"""fp32 bits of `federation.codecs.scaled_int.MAX_MAGNITUDE`; as integers, magnitudes ascend with their bits."""

ROUNDER = tl.constexpr(12582912.0)
"""1.5 * 2^23. Its unit in the last place is 1, so adding it rounds |v| <= 2^22 half to even; the sum's lowest bits are
the integer in two's complement, and subtracting it again gives the integer, +0.0 for zero."""


@triton.jit
def encode_kernel(
    theta,
    local,
    feedback,
    beta,
    words,
    feedback_out,
    status,
    num_elements,
    LARGEST: tl.constexpr,
    BITS: tl.constexpr,
    HAS_FEEDBACK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Blocks of x = theta - local, or of beta * feedback + (theta - local), and what they drop.

    Args:
        theta, local, feedback: f32[num_elements].
        words: i16[num_blocks * words of a block]: the payload.
        feedback_out: f32[num_elements]: x - decode(payload).
        status: i32[1]: set to 1 where a magnitude is above the format's, or NaN; the outputs are void then.
    """
    block_B = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    element_BE = block_B[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    real_BE = element_BE < num_elements
    x_BE = _load_x(theta, local, feedback, beta, element_BE, real_BE, HAS_FEEDBACK)

    # NaN has the largest bits of all.
    magnitude_B = tl.max(x_BE.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=1)
    tl.store(status + block_B * 0, 1, mask=magnitude_B > MAX_MAGNITUDE_BITS)
    scale_bits_B, scale_B, rounded_BE = _quantise(x_BE, magnitude_B, LARGEST, BLOCKS)

    stored_B = block_B < tl.cdiv(num_elements, BLOCK)
    word_of_B = words + block_B * (BLOCK * BITS // 16 + 1)
    tl.store(word_of_B, scale_bits_B.to(tl.int16), mask=stored_B)
    _store_integers(word_of_B + 1, stored_B, rounded_BE.to(tl.int32, bitcast=True), BITS, BLOCKS)
    if HAS_FEEDBACK:
        decoded_BE = (rounded_BE - ROUNDER) * scale_B[:, None]
        tl.store(feedback_out + element_BE, x_BE - decoded_BE, mask=real_BE)


@triton.jit
def _load_x(theta, local, feedback, beta, element_BE, real_BE, HAS_FEEDBACK: tl.constexpr):
    """What is encoded, f32[BLOCKS, BLOCK]; +0.0 where an element is not real."""
    theta_BE = tl.load(theta + element_BE, mask=real_BE, other=0.0)
    x_BE = theta_BE - tl.load(local + element_BE, mask=real_BE, other=0.0)
    if HAS_FEEDBACK:
        x_BE = beta * tl.load(feedback + element_BE, mask=real_BE, other=0.0) + x_BE
    return x_BE


@triton.jit
def _quantise(x_BE, magnitude_B, LARGEST: tl.constexpr, BLOCKS: tl.constexpr):
    """bf16 bits of the scales i32[BLOCKS], the scales, and ROUNDER + the integers of x / scale f32[BLOCKS, BLOCK]."""
    scale_bits_B = _round_to_bf16(tl.div_rn(magnitude_B.to(tl.float32, bitcast=True), LARGEST * 1.0))
    scale_B = (scale_bits_B << 16).to(tl.float32, bitcast=True)
    divisor_B = tl.where(scale_bits_B == 0, float("inf"), scale_B)
    v_BE = tl.div_rn(x_BE, tl.broadcast_to(divisor_B[:, None], (BLOCKS, BLOCK)))
    # Clipping at an integer before rounding or after it is the same.
    return scale_bits_B, scale_B, tl.minimum(tl.maximum(v_BE, -LARGEST * 1.0), LARGEST * 1.0) + ROUNDER


@triton.jit
def _round_to_bf16(x_B):
    """bf16 bits i32 of x >= 0, half to even: `federation.codecs.bf16.round_to_bf16`."""
    bits_B = x_B.to(tl.int32, bitcast=True)
    return (bits_B + 0x7FFF + ((bits_B >> 16) & 1)) >> 16


@triton.jit
def _store_integers(word_of_B, stored_B, integer_BE, BITS: tl.constexpr, BLOCKS: tl.constexpr):
    """The lowest bits of integers i32[BLOCKS, BLOCK], as blocks whose first words lie at word_of_B."""
    PER_WORD: tl.constexpr = 16 // BITS
    WORDS: tl.constexpr = BLOCK // PER_WORD
    field_BWP = tl.reshape(integer_BE & ((1 << BITS) - 1), (BLOCKS, WORDS, PER_WORD))
    word_BW = tl.sum(field_BWP << (tl.arange(0, PER_WORD) * BITS)[None, None, :], axis=2)
    tl.store(word_of_B[:, None] + tl.arange(0, WORDS)[None, :], word_BW.to(tl.int16), mask=stored_B[:, None])


@triton.jit
def _load_integers(word_of_B, stored_B, BITS: tl.constexpr, BLOCKS: tl.constexpr):
    """Sign-extended integers i32[BLOCKS, BLOCK] of blocks whose first words lie at word_of_B."""
    PER_WORD: tl.constexpr = 16 // BITS
    WORDS: tl.constexpr = BLOCK // PER_WORD
    SIGN: tl.constexpr = 1 << (BITS - 1)
    word_BW = tl.load(word_of_B[:, None] + tl.arange(0, WORDS)[None, :], mask=stored_B[:, None], other=0)
    field_BWP = word_BW.to(tl.int32)[:, :, None] >> (tl.arange(0, PER_WORD) * BITS)[None, None, :]
    field_BE = tl.reshape(field_BWP & ((1 << BITS) - 1), (BLOCKS, BLOCK))
    return (field_BE ^ SIGN) - SIGN


@triton.jit
def apply_kernel(
    words,
    theta,
    theta_out,
    local,
    alpha,
    status,
    num_elements,
    LARGEST: tl.constexpr,
    BITS: tl.constexpr,
    HAS_LOCAL: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """theta_out = theta - decode(payload), and with a local model local = theta_out + alpha * (local - theta_out).

    Args:
        words: i16[num_blocks * words of a block]: the payload. Not trusted.
        theta, theta_out: f32[num_elements]; may be the same.
        local: f32[num_elements], changed in place.
        status: i32[1]: set to 1 where the payload breaks a bound of its format; the outputs are void then.
    """
    block_B = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    stored_B = block_B < tl.cdiv(num_elements, BLOCK)
    word_of_B = words + block_B * (BLOCK * BITS // 16 + 1)
    scale_bits_B = tl.load(word_of_B, mask=stored_B, other=0).to(tl.int32) & 0xFFFF
    q_BE = _load_integers(word_of_B + 1, stored_B, BITS, BLOCKS)

    element_BE = block_B[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    real_BE = element_BE < num_elements
    # A sign bit lies above all bits of scales that are allowed.
    broken_BE = (q_BE < -LARGEST) | ((q_BE != 0) & ((scale_bits_B[:, None] == 0) | (element_BE >= num_elements)))
    broken_B = (tl.max(broken_BE.to(tl.int32), axis=1) != 0) | (scale_bits_B > (MAX_MAGNITUDE_BITS >> 16))
    tl.store(status + block_B * 0, 1, mask=broken_B)

    scale_B = (scale_bits_B << 16).to(tl.float32, bitcast=True)
    theta_BE = tl.load(theta + element_BE, mask=real_BE, other=0.0) - q_BE.to(tl.float32) * scale_B[:, None]
    tl.store(theta_out + element_BE, theta_BE, mask=real_BE)
    if HAS_LOCAL:
        local_BE = tl.load(local + element_BE, mask=real_BE, other=0.0)
        tl.store(local + element_BE, theta_BE + alpha * (local_BE - theta_BE), mask=real_BE)
