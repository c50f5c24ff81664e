# SPDX-License-Identifier: Apache-2.0
"""Error feedback: what is kept is what was not sent."""

import numpy as np
import pytest

from federation.chunks import CHUNK_ELEMENTS
from federation.codecs.payload import decode_vector, encode_vector
from federation.codecs.registry import codec_names, get_codec
from federation.error_feedback import encode_with_feedback
from federation.errors import NonFiniteUpdateError
from federation.golden import inputs


@pytest.mark.parametrize("name", codec_names())
def test_sent_and_kept_make_the_input(name: str) -> None:
    codec, delta, e = get_codec(name), inputs.usual(1, 500), inputs.usual(2, 500)
    payload, e_new = encode_with_feedback(codec, delta, e, 0.95)
    x = np.add(np.multiply(np.float32(0.95), e), delta)
    assert payload == encode_vector(codec, x)
    assert e_new.tobytes() == np.subtract(x, decode_vector(codec, 500, payload)).tobytes()


def test_inputs_stay_as_they_are() -> None:
    delta, e = inputs.usual(1, 300), inputs.usual(2, 300)
    before = delta.tobytes(), e.tobytes()
    encode_with_feedback(get_codec("int4"), delta, e, 0.95)
    assert (delta.tobytes(), e.tobytes()) == before


def test_the_same_input_gives_the_same_bytes() -> None:
    delta, e = inputs.usual(1, 3000), inputs.usual(2, 3000)
    first = encode_with_feedback(get_codec("int4"), delta, e, 0.95)
    second = encode_with_feedback(get_codec("int4"), delta.copy(), e.copy(), 0.95)
    assert first[0] == second[0]
    assert first[1].tobytes() == second[1].tobytes()


def test_chunks_are_encoded_on_their_own() -> None:
    delta, e = inputs.usual(1, CHUNK_ELEMENTS + 200), inputs.usual(2, CHUNK_ELEMENTS + 200)
    payload, e_new = encode_with_feedback(get_codec("int4"), delta, e, 0.5)
    head = encode_with_feedback(get_codec("int4"), delta[:CHUNK_ELEMENTS], e[:CHUNK_ELEMENTS], 0.5)
    tail = encode_with_feedback(get_codec("int4"), delta[CHUNK_ELEMENTS:], e[CHUNK_ELEMENTS:], 0.5)
    assert payload == head[0] + tail[0]
    assert e_new.tobytes() == head[1].tobytes() + tail[1].tobytes()


def test_what_was_dropped_is_sent_later() -> None:
    # 1 is below half a step beside 7 * 3, so int4 drops it; with beta 1 it adds up until it is sent.
    codec, delta = get_codec("int4"), np.array([21, 1], np.float32)
    e, sent = np.zeros(2, np.float32), np.zeros(2, np.float32)
    for _ in range(3):
        payload, e = encode_with_feedback(codec, delta, e, 1.0)
        sent += decode_vector(codec, 2, payload)
    assert sent.tolist() == [63, 3]
    assert e.tolist() == [0, 0]


def test_other_lengths_are_bugs() -> None:
    with pytest.raises(ValueError, match="expected 3 elements, found 2"):
        encode_with_feedback(get_codec("fp32"), np.zeros(3, np.float32), np.zeros(2, np.float32), 0.95)


def test_non_finite_pseudo_gradients_are_refused() -> None:
    delta = np.array([1, np.nan], np.float32)
    with pytest.raises(NonFiniteUpdateError):
        encode_with_feedback(get_codec("int4"), delta, np.zeros(2, np.float32), 0.95)
