# SPDX-License-Identifier: Apache-2.0
"""Compiled codecs give the bytes, the values and the errors of their numpy references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.chunk_pool import in_order
from federation.codecs.api import Codec
from federation.codecs.packing import pack_indices
from federation.codecs.registry import codec_names, get_codec
from federation.errors import FederationError
from federation.golden import inputs
from federation.kernels import api, strips
from federation.kernels.dispatch import codec_kernels

SIZES = (1, 2, 63, 64, 65, 127, 128, 129, 257, 4095, 4096, 4097, 3 * 4096 + 77)
SPECIAL = np.array(
    [0x0, 0x80000000, 0x1, 0x80000001, 0x7FFFFF, 0x800000, 0x3F800000, 0x477FE000, 0x7B800000], np.uint32
)
REFUSED = np.array(
    [0x477FE001, 0x7B800001, 0x7F7F7FFF, 0x7F7F8000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001], np.uint32
)


@pytest.fixture(params=codec_names())
def codec(request: pytest.FixtureRequest) -> Codec:
    assert codec_kernels(request.param) is not None
    return get_codec(request.param)


def outcome(work: object) -> object:
    try:
        return work()  # type: ignore[operator]
    except FederationError as error:
        return type(error), str(error)


def check_encode(codec: Codec, x: np.ndarray) -> None:
    out = np.full(codec.num_blocks(x.size) * codec.bytes_per_block, 0xAA, np.uint8)

    def compiled() -> bytes:
        api.encode_into(codec, x, out)
        return out.tobytes()

    found, expected = outcome(compiled), outcome(lambda: codec.encode(x).tobytes())
    assert found == expected
    if isinstance(expected, bytes):
        check_decode(codec, out, x.size)


def check_decode(codec: Codec, raw: np.ndarray, size: int) -> None:
    guarded = np.full(size + 32, 7.0, np.float32)

    def compiled() -> bytes:
        api.decode_into(codec, raw, guarded[16:-16])
        return guarded[16:-16].tobytes()

    assert outcome(compiled) == outcome(lambda: codec.decode(raw, size).tobytes())
    assert (guarded[:16] == 7).all()
    assert (guarded[-16:] == 7).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [inputs.usual, inputs.wide, inputs.tiny, inputs.halves])
def test_usual_and_unusual_inputs(codec: Codec, kind: object, size: int) -> None:
    check_encode(codec, kind(size, size))  # type: ignore[operator]


@pytest.mark.parametrize("size", [1, 130, 4096, 5000])
@pytest.mark.parametrize("seed", range(6))
def test_special_values_side_by_side(codec: Codec, size: int, seed: int) -> None:
    chosen = np.random.default_rng(seed).integers(0, len(SPECIAL) - (seed % 3), size)
    check_encode(codec, SPECIAL[chosen].view(np.float32))


@pytest.mark.parametrize("bits", REFUSED)
@pytest.mark.parametrize("where", [0, 4095, 4096, 4999])
def test_what_may_be_refused_is_refused_alike(codec: Codec, bits: int, where: int) -> None:
    x = inputs.usual(1, 5000)
    x.view(np.uint32)[where] = bits
    check_encode(codec, x)
    check_encode(codec, -x)


@pytest.mark.parametrize("distinct", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [40, 300, 4096, 9000])
def test_ties_are_broken_alike(codec: Codec, distinct: int, size: int) -> None:
    check_encode(codec, np.round(inputs.usual(size, size) * distinct / 2).astype(np.float32))


@pytest.mark.parametrize("used", [0, 1, 2, 63, 64, 65, 255, 256, 257])
def test_blocks_of_mostly_zeros(codec: Codec, used: int) -> None:
    x = np.zeros(2 * 4096 + 300, np.float32)
    x[4096 + np.random.default_rng(used).permutation(4096)[:used]] = inputs.usual(used, used)
    x[::3] *= -1
    check_encode(codec, x)


def test_every_bf16_scale_and_every_rounding_boundary(codec: Codec) -> None:
    # Magnitudes whose quotients lie at, just below and just above each tie of the rounding to a scale.
    bits = (np.arange(0, 0x7B80, 7, dtype=np.uint32) << np.uint32(16))[:, None] + np.arange(0x7FF0, 0x8011, 8)
    for part in np.array_split(bits.astype(np.uint32).reshape(-1), 8):
        x = np.repeat(part.view(np.float32), 128)[: 1 << 20]
        check_encode(codec, x)


BITS = st.one_of(
    st.integers(0, 0x7B800000),
    st.sampled_from(SPECIAL.tolist()),
    st.integers(0x3A000000, 0x3A000100),
    st.integers(0x33000000, 0x477FE000),
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(codec_names()), size=st.sampled_from((1, 3, 64, 128, 200, 4096, 4200)))
def test_any_bits(data: st.DataObject, name: str, size: int) -> None:
    few = data.draw(st.lists(st.tuples(BITS, st.booleans()), min_size=1, max_size=40))
    values = np.array([bits | sign << 31 for bits, sign in few], np.uint32)
    seed = data.draw(st.integers(0, 2**32 - 1))
    chosen = np.random.default_rng(seed).integers(0, len(values), size)
    check_encode(get_codec(name), values[chosen].view(np.float32))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), name=st.sampled_from(codec_names()), size=st.sampled_from((1, 63, 127, 128, 129, 4096, 4160)))
def test_changed_bytes_have_the_same_fate(data: st.DataObject, name: str, size: int) -> None:
    codec = get_codec(name)
    raw = codec.encode(inputs.usual(3, size))
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=3)):
        raw[place % raw.size] = byte
    check_decode(codec, raw, size)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(codec_names()), size=st.integers(1, 9000))
def test_random_bytes_have_the_same_fate(seed: int, name: str, size: int) -> None:
    codec = get_codec(name)
    raw = np.random.default_rng(seed).integers(0, 256, codec.num_blocks(size) * codec.bytes_per_block, np.uint8)
    check_decode(codec, raw, size)


@pytest.mark.parametrize("bits", [0x0000, 0x0001, 0x007F, 0x0080, 0x3F80, 0x7B80, 0x7B81, 0x7F80, 0x8000, 0xFFFF])
@pytest.mark.parametrize("size", [4096, 5000])
def test_any_first_two_bytes_have_the_same_fate(codec: Codec, bits: int, size: int) -> None:
    # In most codecs they are a block's scale.
    for x in (inputs.usual(3, size), np.zeros(size, np.float32)):
        raw = codec.encode(x)
        raw[0], raw[1] = bits & 0xFF, bits >> 8
        check_decode(codec, raw, size)


@pytest.mark.parametrize(
    "bits", [0x0000, 0x0001, 0x03FF, 0x0400, 0x7BFF, 0x7C00, 0x7C01, 0x8000, 0x8001, 0xFBFF, 0xFC00]
)
@pytest.mark.parametrize("code", range(4))
def test_any_value_of_a_codebook_has_the_same_fate(bits: int, code: int) -> None:
    codec, size = get_codec("sparse"), 4096 + 100
    for block in range(2):
        raw = codec.encode(inputs.usual(3, size)).reshape(2, -1)
        raw[block, 112 + 2 * code : 114 + 2 * code] = bits & 0xFF, bits >> 8
        check_decode(codec, raw.reshape(-1), size)


@pytest.mark.parametrize(("name", "first"), [("sparse", 0), ("sparse-down", 2)])
@pytest.mark.parametrize("index", [0, 98, 99, 100, 101, 4095])
def test_an_index_behind_the_last_element_is_refused(name: str, first: int, index: int) -> None:
    codec, x = get_codec(name), np.zeros(4096 + 100, np.float32)
    x[-1] = 1
    raw = codec.encode(x).reshape(2, -1)
    kept = {"sparse": 64, "sparse-down": 256}[name]
    raw[1, first : first + 3 * kept // 2] = pack_indices(np.full((1, kept), index))[0]
    check_decode(codec, raw.reshape(-1), x.size)
    status = codec_kernels(name).decode(raw.reshape(-1), np.empty(x.size, np.float32))  # type: ignore[union-attr]
    assert (status != 0) == (index >= 100)


@pytest.mark.parametrize(
    ("name", "at", "byte"), [("sparse", 111, 0xC0), ("sparse", 96, 0x40), ("sparse-down", 513, 0x10)]
)
def test_a_value_in_an_unused_place_is_refused(name: str, at: int, byte: int) -> None:
    codec, x = get_codec(name), np.zeros(4096, np.float32)
    x[[5, 7, 9]] = 1, 2, 3
    raw = codec.encode(x)
    raw[at] |= byte
    check_decode(codec, raw, x.size)
    assert codec_kernels(name).decode(raw, np.empty_like(x)) != 0  # type: ignore[union-attr]


def test_read_only_and_unaligned_bytes(codec: Codec) -> None:
    x = inputs.usual(5, 4096 + 300)
    x.flags.writeable = False
    data = codec.encode(x).tobytes()
    raw = np.frombuffer(b"\0" + data, np.uint8)[1:]
    check_decode(codec, raw, x.size)
    room = np.zeros(len(data) + 1, np.uint8)
    api.encode_into(codec, x, room[1:])
    assert room.tobytes() == b"\0" + data


@pytest.mark.parametrize("change", [-1, 1])
def test_another_length_has_the_references_error(codec: Codec, change: int) -> None:
    raw = np.zeros(codec.num_blocks(300) * codec.bytes_per_block + change, np.uint8)
    check_decode(codec, raw, 300)
    with pytest.raises(ValueError):
        api.encode_into(codec, inputs.usual(1, 300), raw)


@pytest.mark.parametrize("size", [0, (1 << 20) + 1])
def test_more_than_a_chunk_or_nothing_is_a_bug(codec: Codec, size: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to"):
        api.encode_into(codec, np.zeros(size, np.float32), np.zeros(0, np.uint8))
    with pytest.raises(ValueError, match="expected 1 to"):
        api.decode_into(codec, np.zeros(0, np.uint8), np.zeros(size, np.float32))


@pytest.mark.parametrize("strip", [4096, 8192, 3 * 4096, api.STRIP_ELEMENTS, 1 << 20])
def test_strips_of_any_size_give_the_bytes_of_the_chunk(codec: Codec, strip: int) -> None:
    x = inputs.usual(9, 70_000)
    expected = codec.encode(x)
    out, back = np.zeros_like(expected), np.zeros_like(x)
    for start in range(0, x.size, strip):
        part = x[start : start + strip]
        first = start // codec.block_elements * codec.bytes_per_block
        stored = out[first : first + codec.num_blocks(part.size) * codec.bytes_per_block]
        api.encode_into(codec, part, stored)
        api.decode_into(codec, stored, back[start : start + strip])
    assert out.tobytes() == expected.tobytes()
    assert back.tobytes() == codec.decode(expected, x.size).tobytes()


@pytest.mark.parametrize("num_threads", [2, 5])
def test_threads_do_not_disturb_each_other(codec: Codec, num_threads: int) -> None:
    strip, num_strips = 8192, 24
    x = inputs.usual(11, strip * num_strips)
    expected = codec.encode(x)
    out, back = np.zeros_like(expected), np.zeros_like(x)

    def work(index: int) -> None:
        stored = out.reshape(num_strips, -1)[index]
        api.encode_into(codec, x.reshape(num_strips, -1)[index], stored)
        api.decode_into(codec, stored, back.reshape(num_strips, -1)[index])

    assert len(list(in_order(work, num_strips, num_threads))) == num_strips
    assert out.tobytes() == expected.tobytes()
    assert back.tobytes() == codec.decode(expected, x.size).tobytes()


def test_a_kernel_that_refuses_too_much_is_a_bug(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def encode(self, x: object, out: object) -> int:
            return 1

        decode = encode

    monkeypatch.setattr(strips, "codec_kernels", lambda name: Refusing())
    x = inputs.usual(1, 300)
    raw = codec.encode(x)
    with pytest.raises(AssertionError, match="encoder refused"):
        api.encode_into(codec, x, raw)
    with pytest.raises(AssertionError, match="decoder refused"):
        api.decode_into(codec, raw, x)


def test_a_codec_without_kernels_is_done_in_numpy() -> None:
    class Other(type(get_codec("int4"))):  # type: ignore[misc]
        name = "other"

    codec, x = Other(), inputs.usual(1, 300)
    out, back = np.zeros(codec.num_blocks(300) * codec.bytes_per_block, np.uint8), np.zeros(300, np.float32)
    api.encode_into(codec, x, out)
    assert out.tobytes() == codec.encode(x).tobytes()
    api.decode_into(codec, out, back)
    assert back.tobytes() == codec.decode(out, 300).tobytes()
