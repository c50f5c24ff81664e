# SPDX-License-Identifier: Apache-2.0
"""fp32: the elements as they are, little-endian, 4 bytes each. NaN and infinity are refused on both sides."""

from typing import ClassVar

import numpy as np

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.errors import NonFinitePayloadError, NonFiniteUpdateError


class Fp32Codec(Codec):
    """No compression: the reference that the others are measured against."""

    name: ClassVar[str] = "fp32"
    block_elements: ClassVar[int] = 1
    bytes_per_block: ClassVar[int] = 4

    def _encode(self, x: Float32Vector) -> ByteVector:
        _check_finite(x, NonFiniteUpdateError)
        return np.array(x, dtype="<f4").view(np.uint8)

    def _decode(self, raw: ByteVector, num_elements: int) -> Float32Vector:
        values = np.empty(num_elements, "<f4")
        values.view(np.uint8)[:] = raw
        _check_finite(values, NonFinitePayloadError)
        return values.astype(np.float32, copy=False)


def _check_finite(x: Float32Vector, error: type[NonFiniteUpdateError]) -> None:
    finite = np.isfinite(x)
    if not finite.all():
        where = int(np.argmin(finite))
        raise error(f"fp32: expected finite values, found {x[where]} at element {where} of the chunk")
