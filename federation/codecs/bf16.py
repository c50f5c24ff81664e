# SPDX-License-Identifier: Apache-2.0
"""bf16: the upper half of an fp32 value, rounded half to even, little-endian, 2 bytes each; subnormals are kept."""

from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.errors import NonFinitePayloadError, NonFiniteUpdateError

_EXPONENT: Final = np.uint16(0x7F80)
"""All exponent bits of a bf16 value: infinity or NaN."""


def round_to_bf16(x: Float32Vector) -> npt.NDArray[np.uint16]:
    """The bf16 bits u16[n] nearest to finite f32[n], half to even; what lies above the largest becomes infinity."""
    bits = x.view(np.uint32)
    # Adding just under half of the dropped part, and one more where the kept part is odd, carries exactly when due.
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def bf16_to_fp32(bits: npt.NDArray[np.uint16]) -> Float32Vector:
    """The fp32 values that bf16 bits stand for, exactly."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


class Bf16Codec(Codec):
    """Half of the bytes of fp32, no blocks."""

    name: ClassVar[str] = "bf16"
    block_elements: ClassVar[int] = 1
    bytes_per_block: ClassVar[int] = 2

    def _encode(self, x: Float32Vector) -> ByteVector:
        # Rounding could turn NaN bits into something else, so the input is looked at before its rounded bits.
        if not np.isfinite(x).all():
            raise NonFiniteUpdateError("bf16: expected finite values, found NaN or infinity")
        bits = round_to_bf16(np.ascontiguousarray(x))
        _check_finite(bits, NonFiniteUpdateError)
        return bits.astype("<u2", copy=False).view(np.uint8)

    def _decode(self, raw: ByteVector, num_elements: int) -> Float32Vector:
        bits = np.empty(num_elements, "<u2")
        bits.view(np.uint8)[:] = raw
        _check_finite(bits, NonFinitePayloadError)
        return bf16_to_fp32(bits)


def _check_finite(bits: npt.NDArray[np.uint16], error: type[NonFiniteUpdateError]) -> None:
    finite = (bits & _EXPONENT) != _EXPONENT
    if not finite.all():
        where = int(np.argmin(finite))
        raise error(f"bf16: expected finite values, found bits {int(bits[where]):04x} at element {where} of the chunk")
