# SPDX-License-Identifier: Apache-2.0
"""The golden cases: each computes bytes that must be the same on every machine."""

import struct
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import numpy as np

from federation.aggregate import weighted_sum
from federation.chunks import CHUNK_ELEMENTS, Float32Vector, fragment_digest, little_endian_bytes
from federation.codecs.api import Codec
from federation.codecs.payload import decode_vector, encode_vector
from federation.codecs.registry import codec_names, get_codec
from federation.error_feedback import encode_with_feedback
from federation.golden import inputs
from federation.outer_optimizer import apply_blob, apply_downlink, outer_step
from federation.pseudo_gradient import fixed_order_dot, merge, pseudo_gradient
from federation.weights import TOKENS, UNIFORM, round_weights

Case: TypeAlias = Callable[[], bytes]

_ELEMENTS: Final = 11 * 128 + 57
"""Eleven whole blocks and a part of one."""

_KINDS: Final[Mapping[str, Callable[[int, int], Float32Vector]]] = {
    "usual": inputs.usual,
    "wide": inputs.wide,
    "tiny": inputs.tiny,
    "halves": inputs.halves,
}


def golden_cases() -> dict[str, Case]:
    """Every case by name."""
    cases: dict[str, Case] = {
        "inputs": _inputs,
        "weights": _weights,
        "weighted-sum": _weighted_sum,
        "merge": _merge,
        "fixed-order-dot": _fixed_order_dot,
        "fragment-digest": _fragment_digest,
        "outer-step-momentum": lambda: _outer_steps(mu=0.9),
        "outer-step-plain": lambda: _outer_steps(mu=0.0),
    }
    for name in codec_names():
        codec = get_codec(name)
        for kind, source in _KINDS.items():
            cases[f"codec-{name}-{kind}"] = _codec_case(codec, source)
        cases[f"error-feedback-{name}"] = _feedback_case(codec)
        cases[f"commits-{name}"] = _commits_case(codec)
    return cases


def _bytes(*vectors: Float32Vector) -> bytes:
    return b"".join(little_endian_bytes(vector) for vector in vectors)


def _inputs() -> bytes:
    return _bytes(*(source(seed, _ELEMENTS) for seed, source in enumerate(_KINDS.values())))


def _codec_case(codec: Codec, source: Callable[[int, int], Float32Vector]) -> Case:
    def case() -> bytes:
        payload = encode_vector(codec, source(7, _ELEMENTS))
        return payload + _bytes(decode_vector(codec, _ELEMENTS, payload))

    return case


def _feedback_case(codec: Codec) -> Case:
    def case() -> bytes:
        e, out = np.zeros(_ELEMENTS, np.float32), b""
        for seed in range(4):
            payload, e = encode_with_feedback(codec, inputs.usual(seed, _ELEMENTS), e, 0.95)
            out += payload
        return out + _bytes(e)

    return case


def _commits_case(codec: Codec) -> Case:
    """Five commits of three sites with Nesterov momentum and a residual on the way down."""

    def case() -> bytes:
        theta = inputs.usual(1, _ELEMENTS)
        held, m, r = theta, np.zeros_like(theta), np.zeros_like(theta)
        weights = round_weights((("a", 3), ("b", 5), ("c", 6)), TOKENS)
        for commit in range(5):
            deltas = [
                pseudo_gradient(theta, merge(theta, inputs.usual(100 * commit + site, _ELEMENTS), 0.3))
                for site in range(3)
            ]
            received = [decode_vector(codec, _ELEMENTS, encode_vector(codec, delta)) for delta in deltas]
            g = weighted_sum(zip(weights, received, strict=True), _ELEMENTS)
            m, u = outer_step(m, r, g, 0.6, 0.9)
            blob = encode_vector(codec, u)
            theta, r = apply_blob(theta, u, decode_vector(codec, _ELEMENTS, blob))
            held = apply_downlink(codec, held, blob)
        return _bytes(theta, m, r, held)

    return case


def _weights() -> bytes:
    out = b""
    for n in range(1, 34):
        tokens = [(f"s{i:02}", int(count >> np.uint64(20))) for i, count in enumerate(inputs.integers(n, n))]
        for weighting in (UNIFORM, TOKENS):
            out += b"".join(struct.pack("<d", weight) for weight in round_weights(tokens, weighting))
    return out


def _weighted_sum() -> bytes:
    parts = [inputs.usual(seed, _ELEMENTS) for seed in range(5)]
    weights = round_weights([(f"s{i}", 10 + 7 * i) for i in range(5)], TOKENS)
    return _bytes(weighted_sum(zip(weights, parts, strict=True), _ELEMENTS))


def _merge() -> bytes:
    pairs = [(source(1, _ELEMENTS), source(2, _ELEMENTS)) for source in _KINDS.values()]
    return _bytes(*(merge(theta, local, alpha) for theta, local in pairs for alpha in (0.0, 0.25, 0.7, 1.0)))


def _fixed_order_dot() -> bytes:
    sizes = (1, 2, 3, 127, 128, 1000, _ELEMENTS)
    dots = [fixed_order_dot(inputs.usual(1, n), inputs.usual(2, n)) for n in sizes]
    dots += [fixed_order_dot(source(3, _ELEMENTS), source(3, _ELEMENTS)) for source in _KINDS.values()]
    return struct.pack(f"<{len(dots)}d", *dots)


def _fragment_digest() -> bytes:
    vector = np.zeros(2 * CHUNK_ELEMENTS + 5, np.float32)
    vector[:_ELEMENTS] = inputs.usual(1, _ELEMENTS)
    vector[-5:] = inputs.usual(2, 5)
    return bytes.fromhex(fragment_digest(vector) + fragment_digest(vector[:1]))


def _outer_steps(*, mu: float) -> bytes:
    m = r = np.zeros(_ELEMENTS, np.float32)
    steps = []
    for seed, source in enumerate((inputs.usual, inputs.tiny, inputs.halves, inputs.usual)):
        m, u = outer_step(m, r, source(seed, _ELEMENTS), 0.7, mu)
        r = np.multiply(u, np.float32(0.125))
        steps += [m, u]
    return _bytes(*steps)
