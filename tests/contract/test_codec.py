# SPDX-License-Identifier: Apache-2.0
"""What every codec promises."""

import numpy as np
import pytest

from federation.chunks import CHUNK_ELEMENTS
from federation.codecs.api import Codec
from federation.codecs.registry import codec_names, get_codec
from federation.errors import MalformedPayloadError, NonFiniteUpdateError
from federation.golden import inputs


@pytest.fixture(params=codec_names())
def codec(request: pytest.FixtureRequest) -> Codec:
    return get_codec(request.param)


def test_a_chunk_is_whole_blocks(codec: Codec) -> None:
    assert CHUNK_ELEMENTS % codec.block_elements == 0


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 4096])
def test_sizes_are_a_function_of_the_number_of_elements(codec: Codec, size: int) -> None:
    data = codec.encode(inputs.usual(1, size))
    assert (data.dtype, data.ndim, data.size) == (np.uint8, 1, codec.num_blocks(size) * codec.bytes_per_block)
    decoded = codec.decode(data, size)
    assert (decoded.dtype, decoded.shape) == (np.float32, (size,))


def test_encoding_is_deterministic_and_leaves_its_input(codec: Codec) -> None:
    x = inputs.usual(1, 1000)
    before = x.tobytes()
    assert codec.encode(x).tobytes() == codec.encode(x.copy()).tobytes()
    assert x.tobytes() == before


def test_a_strided_input_encodes_as_its_values(codec: Codec) -> None:
    x = inputs.usual(1, 2000)
    assert codec.encode(x[::2]).tobytes() == codec.encode(x[::2].copy()).tobytes()


def test_results_are_the_callers(codec: Codec) -> None:
    x = inputs.usual(1, 256)
    data = codec.encode(x)
    decoded = codec.decode(data, 256)
    stored = data.tobytes()
    decoded[:] = 0
    assert data.tobytes() == stored
    data[:] = 0
    assert x.any()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, np.uint8)])
def test_every_kind_of_bytes_is_decoded(codec: Codec, kind: object) -> None:
    data = codec.encode(inputs.usual(1, 300)).tobytes()
    assert codec.decode(kind(data), 300).tobytes() == codec.decode(data, 300).tobytes()  # type: ignore[operator]


def test_bytes_at_odd_addresses_are_decoded(codec: Codec) -> None:
    data = codec.encode(inputs.usual(1, 300)).tobytes()
    shifted = memoryview(b"\0" + data)[1:]
    assert codec.decode(shifted, 300).tobytes() == codec.decode(data, 300).tobytes()


def test_subnormals_are_kept_or_rounded_never_refused(codec: Codec) -> None:
    x = inputs.tiny(1, 500)
    decoded = codec.decode(codec.encode(x), 500)
    assert np.isfinite(decoded).all()
    assert np.abs(decoded - x).max() <= np.abs(x).max()


@pytest.mark.parametrize("size", [0, CHUNK_ELEMENTS + 1])
def test_more_than_a_chunk_or_nothing_is_a_bug(codec: Codec, size: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to"):
        codec.encode(np.zeros(size, np.float32))
    with pytest.raises(ValueError, match="expected 1 to"):
        codec.decode(b"", size)


def test_another_dtype_is_a_bug(codec: Codec) -> None:
    with pytest.raises(TypeError, match="float32"):
        codec.encode(np.zeros(5))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 130, 299])
def test_non_finite_values_are_refused(codec: Codec, value: float, where: int) -> None:
    x = np.ones(300, np.float32)
    x[where] = value
    with pytest.raises(NonFiniteUpdateError, match="found"):
        codec.encode(x)


@pytest.mark.parametrize("change", [-1, 1])
def test_another_length_is_refused(codec: Codec, change: int) -> None:
    data = codec.encode(np.ones(300, np.float32)).tobytes() + b"\0"
    with pytest.raises(MalformedPayloadError, match="bytes for 300 elements"):
        codec.decode(data[: len(data) - 1 + change], 300)
