# SPDX-License-Identifier: Apache-2.0
"""fp32: the bits as they are, finite ones only."""

import numpy as np
import pytest

from federation.codecs.fp32 import Fp32Codec
from federation.errors import NonFiniteUpdateError


def test_stored_little_endian_to_the_bit() -> None:
    x = np.array([1.0, -0.0, 2.0**-149], np.float32)
    data = Fp32Codec().encode(x).tobytes()
    assert data == bytes.fromhex("0000803f 00000080 01000000")
    assert Fp32Codec().decode(data, 3).tobytes() == x.tobytes()


@pytest.mark.parametrize("bits", ["0000807f", "000080ff", "0000c07f", "0100807f"])
def test_what_is_not_finite_is_not_decoded(bits: str) -> None:
    with pytest.raises(NonFiniteUpdateError, match="element 1"):
        Fp32Codec().decode(bytes.fromhex("0000803f" + bits), 2)
