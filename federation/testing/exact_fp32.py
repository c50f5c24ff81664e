# SPDX-License-Identifier: Apache-2.0
"""fp32 and bf16 arithmetic in exact rationals: slow, obvious, and sharing nothing with numpy. For tests."""

from fractions import Fraction

FP32_FRACTION_BITS = 23
BF16_FRACTION_BITS = 7
_MIN_EXPONENT = -126


def round_half_even(value: Fraction, fraction_bits: int = FP32_FRACTION_BITS) -> Fraction:
    """The value nearest to a rational in a binary format with fp32's exponents; ties to even; no overflow."""
    if not value:
        return value
    magnitude = abs(value)
    exponent = _MIN_EXPONENT
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - fraction_bits)
    # round() of a Fraction is half to even.
    return round(value / unit) * unit


def add(x: Fraction, y: Fraction) -> Fraction:
    """fp32 addition."""
    return round_half_even(x + y)


def subtract(x: Fraction, y: Fraction) -> Fraction:
    """fp32 subtraction."""
    return round_half_even(x - y)


def multiply(x: Fraction, y: Fraction) -> Fraction:
    """fp32 multiplication."""
    return round_half_even(x * y)


def divide(x: Fraction, y: Fraction) -> Fraction:
    """fp32 division."""
    return round_half_even(x / y)


def quantize_block(values: list[Fraction], largest: int) -> tuple[Fraction, list[int]]:
    """Scale and integers of one block of the int8 (largest = 127) or int4 (7) codec."""
    scale = round_half_even(divide(max(abs(v) for v in values), Fraction(largest)), BF16_FRACTION_BITS)
    if not scale:
        return scale, [0] * len(values)
    return scale, [max(-largest, min(largest, round(divide(v, scale)))) for v in values]
