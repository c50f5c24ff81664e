# SPDX-License-Identifier: Apache-2.0
"""Payloads built field by field, right or wrong: accepted exactly by the format's rules, with exactly its values.

The rules are written here a second time, element by element.
"""

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.codecs.registry import get_codec
from federation.errors import MalformedPayloadError, NonFinitePayloadError
from federation.kernels.api import decode_into

BLOCK, SPARSE_BLOCK, MAX_SCALE = 128, 4096, 0x7B80
GOOD_SCALES, BAD_SCALES = (0, 1, 0x80, 0x3F80, MAX_SCALE), (MAX_SCALE + 1, 0x7F80, 0x8000, 0xFFFF)
FP16 = (0x0000, 0x0001, 0x3C00, 0x7BFF, 0x7C00, 0x7E00)
rarely = st.integers(0, 14).map(lambda n: n == 14)
scales = rarely.flatmap(lambda bad: st.sampled_from(BAD_SCALES if bad else GOOD_SCALES))
examples = settings(max_examples=400, deadline=None)


def decoded(name: str, data: bytes, size: int) -> np.ndarray | type[Exception]:
    """What both decoders say: values, or the class of the error."""
    codec, out = get_codec(name), np.empty(size, np.float32)
    try:
        values = codec.decode(data, size)
    except (MalformedPayloadError, NonFinitePayloadError) as error:
        with pytest.raises(type(error)):
            decode_into(codec, np.frombuffer(data, np.uint8), out)
        return type(error)
    decode_into(codec, np.frombuffer(data, np.uint8), out)
    assert out.tobytes() == values.tobytes()
    return values


def check(found: np.ndarray | type[Exception], expected: Sequence[float] | type[Exception]) -> None:
    if isinstance(expected, type) or isinstance(found, type):
        assert found is expected
    else:
        assert found.tobytes() == np.array(expected, np.float32).tobytes()


def scale_value(bits: int) -> np.float32:
    return np.frombuffer(struct.pack("<I", bits << 16), "<f4")[0]


@st.composite
def scaled_blocks(draw: st.DrawFn, bits: int) -> tuple[int, list[tuple[int, list[int]]]]:
    """Elements, and per block a scale and 128 integers of so many bits."""
    smallest, size = -(1 << (bits - 1)), draw(st.integers(1, 3 * BLOCK))
    blocks = []
    for start in range(0, size, BLOCK):
        scale, raw = draw(scales), draw(st.binary(min_size=BLOCK, max_size=BLOCK))
        q = [max(byte % (1 << bits) + smallest, smallest + 1) for byte in raw]
        if scale == 0 and not draw(rarely):
            q = [0] * BLOCK
        if not draw(rarely):
            q[size - start :] = [0] * len(q[size - start :])
        if draw(rarely):
            q[draw(st.integers(0, BLOCK - 1))] = smallest
        blocks.append((scale, q))
    return size, blocks


def scaled_values(size: int, blocks: list[tuple[int, list[int]]], largest: int) -> list[float] | type[Exception]:
    values: list[float] = []
    for scale, q in blocks:
        if scale > MAX_SCALE or min(q) < -largest or (scale == 0 and any(q)):
            return MalformedPayloadError
        values += [np.float32(n) * scale_value(scale) for n in q]
    return MalformedPayloadError if any(values[size:]) else values[:size]


@examples
@given(scaled_blocks(8))
def test_int8(case: tuple[int, list[tuple[int, list[int]]]]) -> None:
    data = b"".join(struct.pack("<H128b", scale, *q) for scale, q in case[1])
    check(decoded("int8", data, case[0]), scaled_values(*case, largest=127))


def nibbles(q: Sequence[int]) -> bytes:
    return bytes((low & 15) | (high & 15) << 4 for low, high in zip(q[0::2], q[1::2], strict=True))


@examples
@given(scaled_blocks(4))
def test_int4(case: tuple[int, list[tuple[int, list[int]]]]) -> None:
    data = b"".join(struct.pack("<H", scale) + nibbles(q) for scale, q in case[1])
    check(decoded("int4", data, case[0]), scaled_values(*case, largest=7))


@st.composite
def places(draw: st.DrawFn, count: int, real: int) -> tuple[list[int], int]:
    """Indices of a block and how many of them are used; now and then one is out of order or of range."""
    used = sorted(draw(st.sets(st.integers(0, real - 1), min_size=1, max_size=min(count, real, 40))))
    index = used + [used[-1]] * (count - len(used))
    if draw(rarely):
        index[draw(st.integers(0, count - 1))] = draw(st.integers(0, SPARSE_BLOCK - 1))
    return index, len(used)


def used_places(index: list[int], real: int) -> int:
    """How many places are used, 0 if the indices break the rules."""
    used = 1
    while used < len(index) and index[used] > index[used - 1]:
        used += 1
    in_order = all(place == index[used - 1] for place in index[used:])
    return used if in_order and max(index) < real else 0


def packed(index: list[int]) -> bytes:
    pairs = (a | b << 12 for a, b in zip(index[0::2], index[1::2], strict=True))
    return b"".join(pair.to_bytes(3, "little") for pair in pairs)


@st.composite
def sparse_blocks(draw: st.DrawFn) -> tuple[int, list[tuple[list[int], list[int], list[int]]]]:
    """Elements, and per block 64 indices, 64 codes and the codebook's bits."""
    size, blocks = draw(st.integers(1, 2 * SPARSE_BLOCK + 100)), []
    for start in range(0, size, SPARSE_BLOCK):
        index, used = draw(places(64, min(size - start, SPARSE_BLOCK)))
        codes = [byte & 3 for byte in draw(st.binary(min_size=64, max_size=64))]
        if not draw(rarely):
            codes[used:] = [0] * (64 - used)
        magnitudes = draw(st.lists(st.sampled_from(FP16[:4]), min_size=4, max_size=4))
        book = [bits | (0x8000 if code > 1 and bits else 0) for code, bits in enumerate(magnitudes)]
        if draw(rarely):
            book[draw(st.integers(0, 3))] = draw(st.sampled_from(FP16)) | draw(st.sampled_from([0, 0x8000]))
        blocks.append((index, codes, book))
    return size, blocks


@examples
@given(sparse_blocks())
def test_sparse(case: tuple[int, list[tuple[list[int], list[int], list[int]]]]) -> None:
    size, blocks = case
    data, values = b"", [0.0] * size
    wrong: set[type[Exception]] = set()
    for number, (index, codes, book) in enumerate(blocks):
        start = number * SPARSE_BLOCK
        fours = zip(*(codes[i::4] for i in range(4)), strict=True)
        data += packed(index) + bytes(a | b << 2 | c << 4 | d << 6 for a, b, c, d in fours) + struct.pack("<4H", *book)
        used = used_places(index, min(size - start, SPARSE_BLOCK))
        signs_fit = all(
            (bits >> 15 == 0) if code < 2 else (bits >> 15 == 1 or bits == 0) for code, bits in enumerate(book)
        )
        if not used or any(codes[used:]) or not signs_fit:
            wrong.add(MalformedPayloadError)
        if any(bits & 0x7C00 == 0x7C00 for bits in book):
            wrong.add(NonFinitePayloadError)
        for place, code in zip(index[:used], codes[:used], strict=True):
            values[start + place] = float(np.array([book[code]], np.uint16).view(np.float16)[0])
    found = decoded("sparse", data, size)
    # Of two defects either may be named.
    assert not wrong or found in wrong
    if not wrong:
        check(found, values)


@st.composite
def sparse_down_blocks(draw: st.DrawFn) -> tuple[int, list[tuple[int, list[int], list[int]]]]:
    """Elements, and per block a scale, 256 indices and 256 integers."""
    size, blocks = draw(st.integers(1, 2 * SPARSE_BLOCK + 100)), []
    for start in range(0, size, SPARSE_BLOCK):
        index, used = draw(places(256, min(size - start, SPARSE_BLOCK)))
        scale = draw(scales)
        q = [max(byte % 16 - 8, -7) for byte in draw(st.binary(min_size=256, max_size=256))]
        if scale == 0 and not draw(rarely):
            q = [0] * 256
        if not draw(rarely):
            q[used:] = [0] * (256 - used)
        if draw(rarely):
            q[draw(st.integers(0, 255))] = -8
        blocks.append((scale, index, q))
    return size, blocks


@examples
@given(sparse_down_blocks())
def test_sparse_down(case: tuple[int, list[tuple[int, list[int], list[int]]]]) -> None:
    size, blocks = case
    data, values, wrong = b"", [0.0] * size, False
    for number, (scale, index, q) in enumerate(blocks):
        start = number * SPARSE_BLOCK
        data += struct.pack("<H", scale) + packed(index) + nibbles(q)
        used = used_places(index, min(size - start, SPARSE_BLOCK))
        wrong |= not used or any(q[used:]) or scale > MAX_SCALE or min(q) < -7 or (scale == 0 and any(q))
        for place, n in zip(index[:used], q[:used], strict=True):
            values[start + place] = 0.0 if wrong else np.float32(n) * scale_value(scale)
    check(decoded("sparse-down", data, size), MalformedPayloadError if wrong else values)


@examples
@given(st.lists(st.sampled_from(FP16) | st.integers(0, 0xFFFF), min_size=1, max_size=20))
def test_bf16(halves: list[int]) -> None:
    data = struct.pack(f"<{len(halves)}H", *halves)
    finite = all(bits & 0x7F80 != 0x7F80 for bits in halves)
    check(decoded("bf16", data, len(halves)), list(map(scale_value, halves)) if finite else NonFinitePayloadError)


@examples
@given(st.lists(st.integers(0, 2**32 - 1) | st.just(0x7F800000), min_size=1, max_size=20))
def test_fp32(words: list[int]) -> None:
    data = struct.pack(f"<{len(words)}I", *words)
    finite = all(bits & 0x7F800000 != 0x7F800000 for bits in words)
    values = np.frombuffer(data, "<f4").tolist()
    check(decoded("fp32", data, len(words)), values if finite else NonFinitePayloadError)
