# SPDX-License-Identifier: Apache-2.0
"""A payload of a whole chunk with one defect in its last block is refused before more than a chunk is allocated."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from federation.chunks import CHUNK_BYTES, CHUNK_ELEMENTS
from federation.codecs.api import ByteVector, Codec
from federation.codecs.registry import codec_names, get_codec
from federation.errors import MalformedPayloadError, NonFinitePayloadError, TrustError
from federation.golden import inputs
from federation.kernels.api import decode_into

MASKS = CHUNK_ELEMENTS + 65_536
"""Beside the chunk: one truth value an element, and small change."""


@pytest.fixture(scope="module", params=codec_names())
def codec(request: pytest.FixtureRequest) -> Codec:
    return get_codec(request.param)


@pytest.fixture(scope="module")
def payload(codec: Codec) -> ByteVector:
    return codec.encode(inputs.usual(1, CHUNK_ELEMENTS))


@contextmanager
def allocating_at_most(num_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= num_bytes


def spoiled(codec: Codec, payload: ByteVector) -> ByteVector:
    """NaN, infinity, an absurd scale or an infinite codebook in the last block."""
    spoiled = payload.copy()
    if codec.name == "sparse-down":
        spoiled[-codec.bytes_per_block + 1] = 0xFF
    elif codec.block_elements == 1 or codec.name == "sparse":
        spoiled[-2:] = 0xFF
    else:
        spoiled[-codec.bytes_per_block : -codec.bytes_per_block + 2] = 0xFF
    return spoiled


def test_a_defect_in_the_last_block(codec: Codec, payload: ByteVector) -> None:
    data, out = spoiled(codec, payload), np.empty(CHUNK_ELEMENTS, np.float32)
    decode_into(codec, payload, out)  # compiles
    for decode in (lambda: codec.decode(data, CHUNK_ELEMENTS), lambda: decode_into(codec, data, out)):
        with (
            allocating_at_most(CHUNK_BYTES + MASKS),
            pytest.raises((MalformedPayloadError, NonFinitePayloadError), match=r"expected .*found") as refused,
        ):
            decode()
        assert isinstance(refused.value, TrustError)


@pytest.mark.parametrize("change", [-1, 1, 10**6])
def test_another_length(codec: Codec, payload: ByteVector, change: int) -> None:
    data = np.resize(payload, payload.size + change) if change > 0 else payload[:change]
    with allocating_at_most(65_536), pytest.raises(MalformedPayloadError, match=r"expected .*found"):
        codec.decode(data, CHUNK_ELEMENTS)


def test_the_compiled_decoder_allocates_nothing_of_note(codec: Codec, payload: ByteVector) -> None:
    out = np.empty(CHUNK_ELEMENTS, np.float32)
    decode_into(codec, payload, out)
    with allocating_at_most(65_536):
        decode_into(codec, payload, out)
