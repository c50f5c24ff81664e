# SPDX-License-Identifier: Apache-2.0
"""Strips of a chunk: each element and each byte of a payload belongs to one of them."""

import pytest

from federation.chunks import CHUNK_ELEMENTS
from federation.codecs.payload import bytes_of
from federation.codecs.registry import codec_names, get_codec
from federation.kernels.strips import STRIP_ELEMENTS, strips_of


@pytest.mark.parametrize("name", codec_names())
def test_strips_cover_a_chunk_and_its_bytes_once(name: str) -> None:
    codec, start, stop = get_codec(name), CHUNK_ELEMENTS, CHUNK_ELEMENTS + 2 * STRIP_ELEMENTS + 9
    strips = list(strips_of(start, stop))
    assert [strip.start for strip in strips] == [start, *(strip.stop for strip in strips[:-1])]
    assert strips[-1].stop == stop
    spans = [bytes_of(codec, strip) for strip in strips]
    assert [span.start for span in spans[1:]] == [span.stop for span in spans[:-1]]
    assert spans[-1].stop == codec.num_blocks(stop) * codec.bytes_per_block
