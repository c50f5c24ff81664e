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


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 4095, 4096, 4097])
def test_sizes_are_a_function_of_the_number_of_elements(codec: Codec, size: int) -> None:
    data = codec.encode(inputs.usual(1, size))
    assert (data.dtype, data.ndim, data.size) == (np.uint8, 1, codec.num_blocks(size) * codec.bytes_per_block)
    decoded = codec.decode(data, size)
    assert (decoded.dtype, decoded.shape) == (np.float32, (size,))


def test_encoding_is_deterministic_and_leaves_its_input(codec: Codec) -> None:
    x = inputs.usual(1, 5000)
    before = x.tobytes()
    assert codec.encode(x).tobytes() == codec.encode(x.copy()).tobytes()
    assert x.tobytes() == before


def test_a_strided_input_encodes_as_its_values(codec: Codec) -> None:
    x = inputs.usual(1, 10_000)
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


def test_whole_blocks_encode_alone_as_in_company(codec: Codec) -> None:
    x, block = inputs.usual(1, 3 * 4096 + 100), max(128, codec.block_elements)
    parts = [codec.encode(x[start : start + block]).tobytes() for start in range(0, x.size, block)]
    assert b"".join(parts) == codec.encode(x).tobytes()


def test_values_behind_the_last_element_have_no_part(codec: Codec) -> None:
    """A vector is encoded as if zeros followed, and only its own elements come back."""
    x = inputs.usual(3, 4096)
    x[4000:] = 0
    data = codec.encode(x[:4000]).tobytes()
    assert data == codec.encode(x).tobytes()[: len(data)]
    assert codec.decode(data, 4000).tobytes() == codec.decode(codec.encode(x), 4096)[:4000].tobytes()


def test_zeros_stay_zeros(codec: Codec) -> None:
    """A parameter that nobody moved is not moved by the codec."""
    x = inputs.usual(1, 9000)
    x[inputs.integers(2, 9000) % 50 != 0] = 0
    assert not codec.decode(codec.encode(x), 9000)[x == 0].any()
    assert not codec.decode(codec.encode(np.zeros(9000, np.float32)), 9000).any()


KEPT = {"fp32": 1.0, "bf16": 0.99999, "int8": 0.9999, "int4": 0.98, "sparse-down": 0.31, "sparse": 0.11}
"""Share of unit normal data's energy that is not lost; the 64 largest of 4096 hold 0.1195 of it, 256 hold 0.325."""


def test_little_is_lost_of_normal_data(codec: Codec) -> None:
    x = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)
    error = codec.decode(codec.encode(x), x.size).astype(np.float64) - x
    assert 1 - np.mean(error**2) / np.mean(x.astype(np.float64) ** 2) >= KEPT[codec.name]


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
@pytest.mark.parametrize("where", [0, 130, 4999])
def test_non_finite_values_are_refused(codec: Codec, value: float, where: int) -> None:
    x = np.ones(5000, np.float32)
    x[where] = value
    with pytest.raises(NonFiniteUpdateError, match="found"):
        codec.encode(x)


@pytest.mark.parametrize("change", [-1, 1])
def test_another_length_is_refused(codec: Codec, change: int) -> None:
    data = codec.encode(np.ones(300, np.float32)).tobytes() + b"\0"
    with pytest.raises(MalformedPayloadError, match=f"{codec.name}: expected .* bytes for 300 elements, found "):
        codec.decode(data[: len(data) - 1 + change], 300)


@pytest.mark.parametrize("change", [-1, 1])
def test_another_number_of_blocks_is_refused(codec: Codec, change: int) -> None:
    data = codec.encode(inputs.usual(1, 3 * codec.block_elements)).tobytes()
    expected = f"expected {len(data) + change * codec.bytes_per_block} bytes .* found {len(data)}"
    with pytest.raises(MalformedPayloadError, match=expected):
        codec.decode(data, (3 + change) * codec.block_elements)


def test_bytes_of_another_codec_are_refused_by_their_length(codec: Codec) -> None:
    data = codec.encode(inputs.usual(1, 5000)).tobytes()
    for other in (get_codec(name) for name in codec_names()):
        if other is not codec:
            with pytest.raises(MalformedPayloadError, match=f"{other.name}: expected"):
                other.decode(data, 5000)
