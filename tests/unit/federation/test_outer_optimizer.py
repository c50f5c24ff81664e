# SPDX-License-Identifier: Apache-2.0
"""The outer step: Nesterov in PyTorch's convention, the residual, and theta as every holder computes it."""

import numpy as np
import pytest

from federation.chunks import CHUNK_ELEMENTS
from federation.codecs.payload import decode_vector, encode_vector
from federation.codecs.registry import codec_names, get_codec
from federation.errors import MalformedPayloadError
from federation.golden import inputs
from federation.outer_optimizer import apply_blob, apply_downlink, outer_step


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_without_momentum_it_is_plain_sgd() -> None:
    m, u = outer_step(vector(0, 0), vector(1, 0), vector(2, -4), 0.5, 0.0)
    assert m.tolist() == [0, 0]
    assert u.tolist() == [2, -2]


def test_with_momentum_it_looks_ahead() -> None:
    m, u = outer_step(vector(4), vector(0), vector(2), 1.0, 0.5)
    assert m.tolist() == [4]  # 0.5 * 4 + 2
    assert u.tolist() == [4]  # 2 + 0.5 * 4


def test_inputs_stay_as_they_are() -> None:
    m, r, g = vector(1, 2), vector(3, 4), vector(5, 6)
    for mu in (0.0, 0.9):
        outer_step(m, r, g, 0.7, mu)
    assert (m.tolist(), r.tolist(), g.tolist()) == ([1, 2], [3, 4], [5, 6])


def test_every_operation_is_rounded_on_its_own() -> None:
    # 1.9 + (1 + 2^-23) * ... differs in the last place when multiply and add are fused.
    size = 5000
    m, r, g = inputs.usual(1, size), inputs.usual(2, size), inputs.usual(3, size)
    lr, mu = np.float32(0.7), np.float32(0.9)
    m_new, u = outer_step(m, r, g, 0.7, 0.9)
    first = (mu * m).astype(np.float32)
    second = (first + g).astype(np.float32)
    third = (mu * second).astype(np.float32)
    fourth = (g + third).astype(np.float32)
    fifth = (lr * fourth).astype(np.float32)
    assert m_new.tobytes() == second.tobytes()
    assert u.tobytes() == (fifth + r).astype(np.float32).tobytes()
    fused = (np.float64(mu) * m + g).astype(np.float32)
    assert fused.tobytes() != m_new.tobytes()


def test_a_blob_moves_theta_and_leaves_the_rest_as_residual() -> None:
    theta, r = apply_blob(vector(10, 1), vector(3.25, -1), vector(3, -1))
    assert theta.tolist() == [7, 2]
    assert r.tolist() == [0.25, 0]


@pytest.mark.parametrize("name", codec_names())
def test_holder_and_coordinator_have_the_same_theta(name: str) -> None:
    codec, theta, u = get_codec(name), inputs.usual(1, 777), inputs.usual(2, 777)
    blob = encode_vector(codec, u)
    theta_new, _ = apply_blob(theta, u, decode_vector(codec, 777, blob))
    assert apply_downlink(codec, theta, blob).tobytes() == theta_new.tobytes()


def test_a_blob_of_two_chunks_is_applied_to_both() -> None:
    size = CHUNK_ELEMENTS + 50
    theta, u = inputs.usual(1, size), inputs.usual(2, size)
    blob = encode_vector(get_codec("fp32"), u)
    assert apply_downlink(get_codec("fp32"), theta, blob).tobytes() == np.subtract(theta, u).tobytes()


def test_a_broken_blob_is_refused() -> None:
    with pytest.raises(MalformedPayloadError):
        apply_downlink(get_codec("int4"), vector(1, 2), b"\0" * 65)


def test_doubles_are_refused() -> None:
    with pytest.raises(TypeError, match="g: expected a flat float32"):
        outer_step(vector(1), vector(1), np.ones(1), 0.7, 0.9)
