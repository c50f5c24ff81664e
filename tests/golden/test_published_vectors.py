# SPDX-License-Identifier: Apache-2.0
"""Small vectors that others published or that can be done by hand."""

import numpy as np
import pytest

from federation.chunks import CHUNK_ELEMENTS
from federation.codecs.payload import encode_vector
from federation.codecs.registry import codec_names, get_codec
from federation.commit_pass import weighted_sum
from federation.error_feedback import encode_with_feedback
from federation.golden import inputs
from federation.outer_optimizer import apply_blob, outer_step
from federation.pseudo_gradient import merge, pseudo_gradient
from federation.weights import round_weights


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_nesterov_in_pytorchs_convention() -> None:
    theta, m, zero = vector(1), vector(0), vector(0)
    thetas, buffers = [], []
    for _ in range(4):
        m, u = outer_step(m, zero, vector(0.5), 0.7, 0.9)
        theta, _ = apply_blob(theta, u, u)
        thetas.append(float(theta[0]))
        buffers.append(float(m[0]))
    assert thetas == pytest.approx([0.335, -0.6135, -1.81715, -3.250435], abs=1e-6)
    assert buffers == pytest.approx([0.5, 0.95, 1.355, 1.7195], abs=1e-6)


def test_weights_three_to_one_cancel() -> None:
    weights = round_weights([("a", 3), ("b", 1)], "tokens")
    assert weighted_sum(zip(weights, [vector(1), vector(-3)], strict=True), 1).tolist() == [0]


def test_one_of_five_sites() -> None:
    weights = round_weights([(f"s{i}", 1) for i in range(5)], "uniform")
    parts = [vector(10), *[vector(0)] * 4]
    assert weighted_sum(zip(weights, parts, strict=True), 1).tolist() == [2]


@pytest.mark.parametrize(
    ("name", "bound"), [("fp32", 0.0), ("bf16", 3e-5), ("int8", 8e-4)], ids=["fp32", "bf16", "int8"]
)
def test_mean_square_error_on_unit_normal_data(name: str, bound: float) -> None:
    x = np.random.default_rng(1).standard_normal(1 << 16).astype(np.float32)
    codec = get_codec(name)
    error = codec.decode(codec.encode(x), x.size).astype(np.float64) - x
    assert float(np.mean(error**2)) <= bound


@pytest.mark.parametrize("name", codec_names())
def test_bytes_do_not_depend_on_the_chunking(name: str) -> None:
    codec, x = get_codec(name), inputs.usual(5, CHUNK_ELEMENTS + 384)
    whole = encode_vector(codec, x)
    for size in (max(128, codec.block_elements), 5 * 4096, CHUNK_ELEMENTS // 2):
        # A block at a time would be slow over a whole chunk; the ends tell enough.
        starts = [*range(0, 5 * size, size), *range(x.size // size * size - size, x.size, size)]
        for start in (s for s in starts if s < x.size):
            begin = start // codec.block_elements * codec.bytes_per_block
            part = codec.encode(x[start : start + size]).tobytes()
            assert whole[begin : begin + len(part)] == part


def runs_of_32(*values: float) -> np.ndarray:
    """Each value 32 times in a row: half of what a block of `sparse` keeps."""
    return np.repeat(np.array(values, np.float32), 32)


def test_sparse_mean_of_two_sites() -> None:
    """A sends {0: 4}, B sends {0: 2, 1: -6}: the mean counts a coordinate that was not sent as zero."""
    codec = get_codec("sparse")
    sent = [vector(4, 0), vector(2, -6)]
    received = [codec.decode(codec.encode(delta), 2) for delta in sent]
    weights = round_weights([("a", 1), ("b", 1)], "uniform")
    assert weighted_sum(zip(weights, received, strict=True), 2).tolist() == [3, -3]


def test_sparse_feedback_sends_later_what_was_dropped() -> None:
    """The published case [4, -3, 2, 1] with two kept of four, as 64 kept of 128."""
    codec = get_codec("sparse")
    delta = runs_of_32(4, -3, 2, 1)
    payload, e = encode_with_feedback(codec, delta, np.zeros_like(delta), 0.95)
    assert codec.decode(payload, 128).tolist() == runs_of_32(4, -3, 0, 0).tolist()
    assert e.tolist() == runs_of_32(0, 0, 2, 1).tolist()
    payload, e = encode_with_feedback(codec, runs_of_32(0, 0, 2, 1), e, 0.95)
    # 3.9 and 1.95 in fp16
    assert codec.decode(payload, 128).tolist() == runs_of_32(0, 0, 3.900390625, 1.9501953125).tolist()
    assert np.abs(e).max() < 0.002


def test_torchfts_streaming_case() -> None:
    """Two one-element fragments, inner step -2, outer SGD of lr 2, one fragment every 3 steps, tau = 0 = alpha."""
    base, local, seen = [vector(1.0), vector(1.0)], [vector(1.0), vector(1.0)], [1.0]
    zero, codec = vector(0), get_codec("fp32")
    for step in range(1, 16):
        local = [np.add(part, np.float32(-2)) for part in local]
        if step % 3 == 0:
            p = (step // 3 - 1) % 2
            payload, _ = encode_with_feedback(codec, pseudo_gradient(base[p], local[p]), zero, 0.0)
            g = codec.decode(np.frombuffer(payload, np.uint8), 1)
            _, u = outer_step(zero, zero, g, 2.0, 0.0)
            base[p], _ = apply_blob(base[p], u, u)
            local[p] = merge(base[p], local[p], 0.0)
        seen.append(float(local[0][0]))
    assert seen == [1, -1, -3, -11, -13, -15, -17, -19, -21, -35, -37, -39, -41, -43, -45, -59]
