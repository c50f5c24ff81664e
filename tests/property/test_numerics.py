# SPDX-License-Identifier: Apache-2.0
"""Codecs, outer step and merge against exact rationals and against the reference, on any fp32 bits."""

from fractions import Fraction
from math import prod, sqrt

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from federation import reference
from federation.codecs.payload import decode_vector, encode_vector
from federation.codecs.registry import SPARSE, codec_names, get_codec
from federation.codecs.scaled_int import ScaledIntCodec
from federation.error_feedback import encode_with_feedback
from federation.errors import MalformedPayloadError, NonFiniteUpdateError
from federation.fragments import build_fragments, check_table, flatten, scatter
from federation.outer_optimizer import apply_blob, outer_step
from federation.pseudo_gradient import fixed_order_dot, merge
from federation.testing import exact_fp32 as exact
from federation.weights import round_weights


def floats_from(fields: st.SearchStrategy[int]) -> st.SearchStrategy[float]:
    """fp32 values of any sign and mantissa with these exponent fields."""
    bits = st.builds(
        lambda sign, field, mantissa: sign << 31 | field << 23 | mantissa,
        st.integers(0, 1),
        fields,
        st.one_of(st.integers(0, 2**23 - 1), st.sampled_from([0, 2**22, 2**23 - 1, 2**15, 3 * 2**15])),
    )
    return bits.map(lambda b: float(np.array([b], np.uint32).view(np.float32)[0]))


ANY = floats_from(st.integers(0, 246))
"""Every finite magnitude below 2^120, subnormals and both zeros among them."""
NEAR_ONE = floats_from(st.integers(100, 140))
ALIKE = floats_from(st.integers(124, 128))
SUBNORMAL = floats_from(st.integers(0, 8))
VALUES = st.one_of(st.lists(s, min_size=1, max_size=140) for s in (ANY, NEAR_ONE, ALIKE, SUBNORMAL))
NAMES = st.sampled_from(codec_names())
INTS = st.sampled_from([name for name in codec_names() if name.startswith("int")])
LIMITS = {"sparse": 65504.0}
"""Largest magnitude where it is not 2^120."""
BETAS = st.sampled_from([0.0, 0.5, 0.95, 1.0])


def vector(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


def within(x: np.ndarray, limit: float) -> np.ndarray:
    return np.minimum(np.maximum(x, np.float32(-limit)), np.float32(limit))


def exactly(x: np.ndarray) -> list[Fraction]:
    return [Fraction(float(v)) for v in x]


@given(INTS, VALUES)
def test_int_codecs_are_the_exact_formula(name: str, values: list[float]) -> None:
    codec = get_codec(name)
    assert isinstance(codec, ScaledIntCodec)
    decoded = codec.decode(codec.encode(vector(values)), len(values))
    expected: list[Fraction] = []
    for start in range(0, len(values), 128):
        block = [Fraction(v) for v in values[start : start + 128]]
        scale, integers = exact.quantize_block(block, codec.largest)
        expected += [exact.multiply(scale, Fraction(q)) for q in integers]
    assert exactly(decoded) == expected


@given(VALUES)
def test_bf16_is_the_nearest_value_and_fp32_is_the_value(values: list[float]) -> None:
    codec = get_codec("bf16")
    decoded = codec.decode(codec.encode(vector(values)), len(values))
    assert exactly(decoded) == [exact.round_half_even(Fraction(v), exact.BF16_FRACTION_BITS) for v in values]
    codec = get_codec("fp32")
    assert codec.decode(codec.encode(vector(values)), len(values)).tobytes() == vector(values).tobytes()


@given(NAMES, VALUES)
def test_bytes_are_the_references(name: str, values: list[float]) -> None:
    x = within(vector(values), LIMITS.get(name, 2.0**120))
    payload = encode_vector(get_codec(name), x)
    assert payload == reference.encode(name, x)
    assert (
        decode_vector(get_codec(name), x.size, payload).tobytes() == reference.decode(name, payload, x.size).tobytes()
    )


@given(NAMES, st.integers(1, 300), st.data())
def test_any_bytes_decode_to_finite_values_or_are_refused(name: str, size: int, data: st.DataObject) -> None:
    codec = get_codec(name)
    raw = data.draw(st.binary(max_size=codec.num_blocks(size) * codec.bytes_per_block + 2))
    try:
        decoded = codec.decode(raw, size)
    except (MalformedPayloadError, NonFiniteUpdateError):
        return
    assert decoded.shape == (size,)
    assert np.isfinite(decoded).all()


def drawn(seed: int, size: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(size).astype(np.float32) * np.float32(10.0 ** rng.integers(-9, 4))
    if kind == "few":
        x[rng.random(size) < 0.98] = -0.0
    if kind == "ties":
        x = np.rint(np.clip(x, -3, 3))
    return x


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SPARSE),
    st.integers(0, 2**32),
    st.one_of(st.integers(1, 300), st.integers(4000, 9000)),
    st.sampled_from(["normal", "few", "ties"]),
)
def test_sparse_codecs_keep_the_largest_elements(name: str, seed: int, size: int, kind: str) -> None:
    """Byte for byte the reference's; and what is dropped in a block is not larger than what is kept."""
    codec, x = get_codec(name), drawn(seed, size, kind)
    payload = codec.encode(x).tobytes()
    assert payload == reference.encode(name, x)
    decoded = codec.decode(payload, size)
    assert decoded.tobytes() == reference.decode(name, payload, size).tobytes()
    most = {"sparse": 64, "sparse-down": 256}[name]
    for start in range(0, size, 4096):
        block, there = np.abs(x[start : start + 4096]), decoded[start : start + 4096] != 0
        assert there.sum() <= most
        assert not there[block == 0].any()
        assert (block >= np.sort(block)[::-1][:most].min())[there].all()


@settings(max_examples=300)
@given(NAMES, VALUES, st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_bytes_decode_to_finite_values_or_are_refused(
    name: str, values: list[float], changes: list[tuple[int, int]]
) -> None:
    codec = get_codec(name)
    raw = bytearray(codec.encode(within(vector(values), LIMITS.get(name, 2.0**120))).tobytes())
    for position, byte in changes:
        raw[position % len(raw)] = byte
    try:
        decoded = codec.decode(raw, len(values))
    except (MalformedPayloadError, NonFiniteUpdateError):
        return
    assert decoded.shape == (len(values),)
    assert np.isfinite(decoded).all()


@given(NAMES, VALUES, BETAS, st.integers(0, 2**32))
def test_feedback_loses_nothing_but_one_rounding(name: str, values: list[float], beta: float, seed: int) -> None:
    delta = vector(values)
    e = np.roll(delta, seed % delta.size)
    x = np.add(np.multiply(np.float32(beta), e), delta)
    try:
        payload, e_new = encode_with_feedback(get_codec(name), delta, e, beta)
    except NonFiniteUpdateError:
        assert not (np.abs(x) <= LIMITS.get(name, 2.0**120)).all()
        return
    assert payload == reference.encode(name, x)
    assert e_new.tobytes() == (x - reference.decode(name, payload, x.size)).tobytes()


@settings(max_examples=50)
@given(
    st.lists(st.tuples(NEAR_ONE, NEAR_ONE, NEAR_ONE), min_size=1, max_size=20),
    st.sampled_from([0.4, 0.7, 1.0]),
    st.sampled_from([0.0, 0.9, 0.95]),
)
def test_outer_step_is_the_exact_sequence_of_rounded_operations(
    rows: list[tuple[float, float, float]], lr: float, mu: float
) -> None:
    m, r, g = (vector(list(column)) for column in zip(*rows, strict=True))
    m_new, u = outer_step(m, r, g, lr, mu)
    rate, factor = Fraction(float(np.float32(lr))), Fraction(float(np.float32(mu)))
    for i, (m_i, r_i, g_i) in enumerate(zip(exactly(m), exactly(r), exactly(g), strict=True)):
        step, kept = exact.multiply(rate, g_i), m_i
        if mu:
            kept = exact.add(exact.multiply(factor, m_i), g_i)
            step = exact.multiply(rate, exact.add(g_i, exact.multiply(factor, kept)))
        assert Fraction(float(m_new[i])) == kept
        assert Fraction(float(u[i])) == exact.add(step, r_i)


@given(st.lists(st.tuples(NEAR_ONE, NEAR_ONE), min_size=1, max_size=20), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_merge_is_three_rounded_operations(rows: list[tuple[float, float]], alpha: float) -> None:
    theta, local = (vector(list(column)) for column in zip(*rows, strict=True))
    merged = merge(theta, local, alpha)
    factor = Fraction(float(np.float32(alpha)))
    for i, (t, p) in enumerate(zip(exactly(theta), exactly(local), strict=True)):
        assert Fraction(float(merged[i])) == exact.add(t, exact.multiply(factor, exact.subtract(p, t)))


@given(NAMES, st.lists(VALUES, min_size=1, max_size=4))
def test_theta_is_what_the_blobs_say(name: str, updates: list[list[float]]) -> None:
    """Whoever starts from theta_0 and subtracts the blobs one by one has the coordinator's theta, to the bit."""
    size = min(len(u) for u in updates)
    codec = get_codec(name)
    theta = held = m = r = np.zeros(size, np.float32)
    for values in updates:
        g = within(vector(values[:size]), 1e3)
        m, u = outer_step(m, r, g, 0.7, 0.9)
        blob = encode_vector(codec, u)
        theta, r = apply_blob(theta, u, decode_vector(codec, size, blob))
        held = np.subtract(held, reference.decode(name, blob, size))
    assert theta.tobytes() == held.tobytes()


@given(VALUES)
def test_dot_is_near_the_exact_sum_and_independent_of_padding(values: list[float]) -> None:
    x = within(vector(values), 1e15)
    found = fixed_order_dot(x, x)
    total = sum(v * v for v in exactly(x))
    assert abs(Fraction(found) - total) <= total * Fraction(x.size, 2**53)
    assert sqrt(found) >= 0
    assert found == fixed_order_dot(np.append(x, np.zeros(100, np.float32)), np.append(x, np.zeros(100, np.float32)))


@given(st.lists(st.integers(1, 2**62), min_size=1, max_size=40), st.sampled_from(["uniform", "tokens"]))
def test_weights_are_shares(tokens: list[int], weighting: str) -> None:
    weights = round_weights([(f"s{i:03}", n) for i, n in enumerate(tokens)], weighting)
    assert all(0 <= w <= 1 for w in weights)
    assert abs(sum(weights) - 1) < 1e-6
    shares = [Fraction(n, sum(tokens)) if weighting == "tokens" else Fraction(1, len(tokens)) for n in tokens]
    # The quotient is rounded to fp64 and then to fp32; near a tie the two roundings may differ from one.
    for weight, share in zip(weights, shares, strict=True):
        assert abs(Fraction(weight) - share) <= share * Fraction(1, 2**23)


PARAMETERS = st.lists(
    st.tuples(
        st.builds(
            "{}{}".format, st.sampled_from(["m.layers.0.", "m.layers.1.", "m.layers.10.", "h.3.", ""]), st.uuids()
        ),
        st.lists(st.integers(1, 5), max_size=3).map(tuple),
    ),
    min_size=4,
    max_size=30,
    unique_by=lambda parameter: parameter[0],
)


@given(PARAMETERS, st.randoms(use_true_random=False))
def test_fragments_hold_every_parameter_once(parameters: list[tuple[str, tuple[int, ...]]], random: object) -> None:
    anchors = [("m.layers.0.w", (2,)), ("m.layers.1.w", (3,)), ("m.layers.2.w", (1,))]
    everything = [*parameters, *anchors]
    tables = build_fragments(everything, 3)
    random.shuffle(everything)  # type: ignore[attr-defined]
    assert build_fragments(everything, 3) == tables
    check_table(tables, everything)
    assert sum(t.num_elements for t in tables) == sum(prod(shape) for _, shape in everything)
    values = {name: np.arange(prod(shape), dtype=np.float32).reshape(shape) for name, shape in everything}
    found = {name: view for t in tables for name, view in scatter(t, flatten(t, values.__getitem__)).items()}
    assert found.keys() == values.keys()
    assert all(np.array_equal(found[name], values[name]) for name in values)
