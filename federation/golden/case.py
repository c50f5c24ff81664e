# SPDX-License-Identifier: Apache-2.0
"""What a golden case is, and the kinds of inputs that cases take."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from federation.chunks import Float32Vector, little_endian_bytes
from federation.golden import inputs

Case: TypeAlias = Callable[[], bytes]
"""Computes bytes that must be the same on every machine."""

Source: TypeAlias = Callable[[int, int], Float32Vector]
"""A kind of inputs: f32[count] from a seed and a count."""

KINDS: Final[Mapping[str, Source]] = {
    "usual": inputs.usual,
    "wide": inputs.wide,
    "tiny": inputs.tiny,
    "halves": inputs.halves,
    "few": inputs.few,
}


def joined(*vectors: Float32Vector) -> bytes:
    """The vectors' bytes in a row."""
    return b"".join(little_endian_bytes(vector) for vector in vectors)
