# SPDX-License-Identifier: Apache-2.0
"""Where chunks lie in a payload, and that a payload is its chunks' bytes in a row."""

import numpy as np
import pytest

from federation.chunks import CHUNK_ELEMENTS, ChunkGrid
from federation.codecs.payload import (
    chunk_span,
    decode_chunk,
    decode_chunks,
    decode_vector,
    encode_vector,
    payload_bytes,
)
from federation.codecs.registry import SPARSE, codec_names, downlink_names, get_codec, uplink_names
from federation.errors import MalformedPayloadError, UnsupportedCodecError
from federation.golden import inputs

EVERY = pytest.mark.parametrize("name", codec_names())


def test_names_of_this_release() -> None:
    dense = ("fp32", "bf16", "int8", "int4")
    assert codec_names() == (*dense, "sparse-down", "sparse")
    assert (uplink_names(), downlink_names()) == ((*dense, "sparse"), (*dense, "sparse-down"))
    assert set(codec_names()) == {*dense, *SPARSE}
    assert [get_codec(name).name for name in codec_names()] == list(codec_names())


def test_names_come_with_most_bytes_first() -> None:
    sizes = [get_codec(name).bytes_per_block / get_codec(name).block_elements for name in codec_names()]
    assert sizes == sorted(sizes, reverse=True)


def test_an_unknown_codec_is_named_beside_the_known() -> None:
    with pytest.raises(
        UnsupportedCodecError, match="expected one of fp32, bf16, int8, int4, sparse-down, sparse, found 'fp4'"
    ):
        get_codec("fp4")


@pytest.mark.parametrize(
    ("name", "num_bytes"),
    [
        ("fp32", 4 * 1001),
        ("bf16", 2 * 1001),
        ("int8", 8 * 130),
        ("int4", 8 * 66),
        ("sparse", 120),
        ("sparse-down", 514),
    ],
)
def test_payload_sizes(name: str, num_bytes: int) -> None:
    assert payload_bytes(get_codec(name), 1001) == num_bytes
    assert len(encode_vector(get_codec(name), np.ones(1001, np.float32))) == num_bytes


@pytest.mark.parametrize(("name", "per_element"), [("int4", 0.52), ("sparse", 0.0293), ("sparse-down", 0.1256)])
def test_bytes_per_parameter_of_a_large_model(name: str, per_element: float) -> None:
    assert payload_bytes(get_codec(name), 124_439_808) <= per_element * 124_439_808


@EVERY
def test_spans_are_contiguous_and_end_with_the_payload(name: str) -> None:
    codec, grid = get_codec(name), ChunkGrid(3 * CHUNK_ELEMENTS + 130)
    end = 0
    for index in range(grid.num_chunks):
        offset, length = chunk_span(codec, grid, index)
        assert offset == end
        end = offset + length
    assert end == payload_bytes(codec, grid.num_elements)


@EVERY
def test_a_chunk_decodes_from_its_span_alone(name: str) -> None:
    codec, x = get_codec(name), inputs.usual(1, CHUNK_ELEMENTS + 1000)
    payload, grid = encode_vector(codec, x), ChunkGrid(x.size)
    whole = decode_vector(codec, x.size, payload)
    for index in range(grid.num_chunks):
        offset, length = chunk_span(codec, grid, index)
        start, stop = grid.bounds(index)
        part = decode_chunk(codec, grid, index, payload[offset : offset + length])
        assert part.tobytes() == whole[start:stop].tobytes()


@EVERY
@pytest.mark.parametrize("change", [-1, 1])
def test_another_length_is_refused(name: str, change: int) -> None:
    codec = get_codec(name)
    payload = encode_vector(codec, np.ones(300, np.float32)) + b"\0"
    data = payload[: len(payload) - 1 + change]
    with pytest.raises(MalformedPayloadError, match="bytes for 300 elements"):
        list(decode_chunks(codec, 300, data))
