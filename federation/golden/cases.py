# SPDX-License-Identifier: Apache-2.0
"""The golden cases: each computes bytes that must be the same on every machine."""

import struct
from collections.abc import Mapping
from typing import Final

import numpy as np

from federation.chunks import CHUNK_ELEMENTS, fragment_digest
from federation.codecs.api import Codec
from federation.codecs.payload import decode_vector, encode_vector, payload_bytes
from federation.codecs.registry import codec_names, get_codec
from federation.commit_pass import weighted_sum
from federation.error_feedback import encode_with_feedback
from federation.golden import inputs
from federation.golden.case import KINDS, Case, Source, joined
from federation.golden.chunk_cases import chunk_cases
from federation.kernels import api as kernels
from federation.outer_optimizer import apply_blob, apply_downlink, outer_step
from federation.pseudo_gradient import fixed_order_dot, merge, pseudo_gradient
from federation.weights import TOKENS, UNIFORM, round_weights

_ELEMENTS: Final = 11 * 128 + 57
"""Eleven whole blocks and a part of one; see `_size` for codecs with large blocks."""

_OTHER_KINDS: Final[Mapping[str, Mapping[str, Source]]] = {
    "sparse": {"wide": inputs.half_range, "order": inputs.order_matters}
}
"""By codec: more inputs, and others in place of what it cannot hold."""


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
        "kernel-arithmetic": _kernel_arithmetic,
        **chunk_cases(),
    }
    for name in codec_names():
        codec = get_codec(name)
        for kind, source in {**KINDS, **_OTHER_KINDS.get(name, {})}.items():
            cases[f"codec-{name}-{kind}"] = _codec_case(codec, source)
            cases[f"kernel-{name}-{kind}"] = _kernel_case(codec, source)
        cases[f"error-feedback-{name}"] = _feedback_case(codec)
        cases[f"commits-{name}"] = _commits_case(codec)
    return cases


def _inputs() -> bytes:
    return joined(*(source(seed, _ELEMENTS) for seed, source in enumerate((*KINDS.values(), inputs.half_range))))


def _size(codec: Codec) -> int:
    """Whole blocks and a part of one."""
    return max(_ELEMENTS, 2 * codec.block_elements + 57)


def _codec_case(codec: Codec, source: Source) -> Case:
    def case() -> bytes:
        payload = encode_vector(codec, source(7, _size(codec)))
        return payload + joined(decode_vector(codec, _size(codec), payload))

    return case


def _kernel_case(codec: Codec, source: Source) -> Case:
    """`_codec_case` by what does the work in a run: compiled code where there is a compiler."""

    def case() -> bytes:
        decoded = np.empty(_size(codec), np.float32)
        payload = np.empty(payload_bytes(codec, decoded.size), np.uint8)
        kernels.encode_into(codec, source(7, decoded.size), payload)
        kernels.decode_into(codec, payload, decoded)
        return payload.tobytes() + joined(decoded)

    return case


def _feedback_case(codec: Codec) -> Case:
    def case() -> bytes:
        e, out = np.zeros(_size(codec), np.float32), b""
        for seed in range(4):
            payload, e = encode_with_feedback(codec, inputs.usual(seed, e.size), e, 0.95)
            out += payload
        return out + joined(e)

    return case


def _commits_case(codec: Codec) -> Case:
    """Five commits of three sites with Nesterov momentum and a residual on the way down."""

    def case() -> bytes:
        size = _size(codec)
        theta = inputs.usual(1, size)
        held, m, r = theta, np.zeros_like(theta), np.zeros_like(theta)
        weights = round_weights((("a", 3), ("b", 5), ("c", 6)), TOKENS)
        for commit in range(5):
            deltas = [
                pseudo_gradient(theta, merge(theta, inputs.usual(100 * commit + site, size), 0.3)) for site in range(3)
            ]
            received = [decode_vector(codec, size, encode_vector(codec, delta)) for delta in deltas]
            g = weighted_sum(zip(weights, received, strict=True), size)
            m, u = outer_step(m, r, g, 0.6, 0.9)
            blob = encode_vector(codec, u)
            theta, r = apply_blob(theta, u, decode_vector(codec, size, blob))
            held = apply_downlink(codec, held, blob)
        return joined(theta, m, r, held)

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
    return joined(weighted_sum(zip(weights, parts, strict=True), _ELEMENTS))


def _merge() -> bytes:
    pairs = [(source(1, _ELEMENTS), source(2, _ELEMENTS)) for source in KINDS.values()]
    return joined(*(merge(theta, local, alpha) for theta, local in pairs for alpha in (0.0, 0.25, 0.7, 1.0)))


def _fixed_order_dot() -> bytes:
    sizes = (1, 2, 3, 127, 128, 1000, _ELEMENTS)
    dots = [fixed_order_dot(inputs.usual(1, n), inputs.usual(2, n)) for n in sizes]
    dots += [fixed_order_dot(source(3, _ELEMENTS), source(3, _ELEMENTS)) for source in KINDS.values()]
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
    return joined(*steps)


def _kernel_arithmetic() -> bytes:
    """Every kernel between vectors, on inputs whose sums, products and quotients need rounding."""
    x, y, z = (source(seed, _ELEMENTS) for seed, source in enumerate((inputs.usual, inputs.halves, inputs.usual)))
    outs = [np.zeros(_ELEMENTS, np.float32) for _ in range(9)]
    kernels.difference(x, y, outs[0])
    kernels.difference_with_feedback(x, y, z, 0.95, outs[1])
    kernels.subtract(z, x, outs[2])
    kernels.add_scaled(outs[2], 0.3, y)
    kernels.outer_step_into(x, y, z, 0.7, 0.9, outs[3], outs[4])
    kernels.merge_into(x, z, 0.3, outs[5])
    kernels.outer_step_into(x, y, z, 0.7, 0.0, outs[6], outs[7])
    outs[8][:] = z
    kernels.merge_into(x, outs[8], 0.3, outs[8])
    lanes = kernels.new_lanes()
    kernels.dot_add(x, z, lanes)
    return joined(*outs) + struct.pack("<d", kernels.fold_lanes(lanes))
