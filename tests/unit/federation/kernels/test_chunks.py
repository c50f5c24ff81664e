# SPDX-License-Identifier: Apache-2.0
"""Whole chunks in one compiled call give the bits and the errors of numpy, for every codec and parts of strips."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from federation import outer_optimizer, pseudo_gradient
from federation.chunk_pool import in_order
from federation.codecs.api import Codec
from federation.codecs.registry import codec_names, downlink_names, get_codec, uplink_names
from federation.commit_pass import weighted_sum
from federation.errors import FederationError, MalformedPayloadError, NonFiniteUpdateError
from federation.golden import inputs
from federation.kernels import api, chunks, dispatch, spans

SIZES = (1, 127, 129, 1023, 1025, 4096, 5000, spans._STRIP, spans._STRIP + 1, 3 * spans._STRIP + 4097 + 77)
BETA, ALPHA = 0.95, 0.3
NUM_SITES = 3


@pytest.fixture(params=codec_names())
def codec(request: pytest.FixtureRequest) -> Codec:
    assert dispatch.codec_numbers(request.param) is not None
    return get_codec(request.param)


@pytest.fixture(params=["compiled", "strips"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "strips":
        monkeypatch.setattr(chunks, "codec_numbers", lambda name: None)
    return str(request.param)


def room(codec: Codec, size: int) -> np.ndarray:
    return np.full(codec.num_blocks(size) * codec.bytes_per_block, 0xAA, np.uint8)


def vectors(seed: int, size: int, count: int) -> list[np.ndarray]:
    """Of neighbouring magnitudes, so that every operation rounds."""
    found = [inputs.usual(10 * seed + i, size) for i in range(count)]
    for vector in found:
        vector.flags.writeable = False
    return found


@pytest.mark.parametrize("size", SIZES)
def test_encoding_is_the_reference(codec: Codec, size: int, path: str) -> None:
    theta, local, e = vectors(size, size, 3)
    out, e_out = room(codec, size), np.empty(size, np.float32)
    api.encode_difference(codec, theta, local, out)
    assert out.tobytes() == codec.encode(np.subtract(theta, local)).tobytes()
    api.encode_difference_with_feedback(codec, theta, local, e, BETA, out, e_out)
    x = np.add(np.multiply(np.float32(BETA), e), np.subtract(theta, local))
    assert out.tobytes() == codec.encode(x).tobytes()
    assert e_out.tobytes() == np.subtract(x, codec.decode(out, size)).tobytes()


@pytest.mark.parametrize("size", SIZES)
def test_applying_is_the_reference(codec: Codec, size: int, path: str) -> None:
    theta, local, x = vectors(size, size, 3)
    raw = codec.encode(x)
    expected = np.subtract(theta, codec.decode(raw, size))
    merged = pseudo_gradient.merge(expected, local, ALPHA)
    raw.flags.writeable = False
    theta_out, local_out = np.empty((2, size), np.float32)
    api.apply_to(codec, raw, theta, theta_out)
    assert theta_out.tobytes() == expected.tobytes()
    theta_out.fill(np.nan)
    api.apply_and_merge(codec, raw, theta, local, ALPHA, theta_out, local_out)
    assert (theta_out.tobytes(), local_out.tobytes()) == (expected.tobytes(), merged.tobytes())
    for same in (lambda vector: vector, lambda vector: vector[:]):
        theta_out, local_out = theta.copy(), local.copy()
        api.apply_to(codec, raw, theta_out, same(theta_out))
        assert theta_out.tobytes() == expected.tobytes()
        theta_out[:] = theta
        api.apply_and_merge(codec, raw, theta_out, local_out, ALPHA, same(theta_out), same(local_out))
        assert (theta_out.tobytes(), local_out.tobytes()) == (expected.tobytes(), merged.tobytes())


@pytest.mark.parametrize("size", SIZES)
def test_measuring_is_the_reference(codec: Codec, size: int, path: str) -> None:
    raw, lanes = codec.encode(inputs.usual(size, size)), api.new_lanes()
    api.measure(codec, raw, size, lanes)
    decoded = codec.decode(raw, size)
    assert api.fold_lanes(lanes) == pseudo_gradient.fixed_order_dot(decoded, decoded) > 0
    # On what the lanes hold already.
    again, expected = lanes.copy(), lanes.copy()
    api.measure(codec, raw, size, again)
    pseudo_gradient.add_to_lanes(decoded, decoded, expected)
    assert again.tobytes() == expected.tobytes()


Outcome = tuple[bytes, ...]


class Commit:
    """A chunk's commit, its memory guarded on both sides."""

    def __init__(self, up: str, down: str, size: int, mu: float, num_sites: int = NUM_SITES) -> None:
        self.up, self.down, self.size, self.mu, self.lr = get_codec(up), get_codec(down), size, mu, 0.7
        self.raws = [self.up.encode(x) for x in vectors(size + 1, size, num_sites)]
        self.weights = np.linspace(0.2, 0.5, num_sites).astype(np.float32)
        self.old = tuple(vectors(size, size, 3))
        self.guarded = np.full((3, size + 32), 7.0, np.float32)
        self.new = tuple(self.guarded[:, 16:-16])
        self.blob, self.sums = room(self.down, size), api.CommitSums(num_sites)

    def compiled(self, max_held: int = 16) -> Outcome:
        parts = (self.up, self.down, self.raws, self.weights, self.old, self.lr, self.mu, self.new, self.blob)
        assert api.commit(*parts, self.sums, max_held)  # type: ignore[arg-type]
        assert (self.guarded[:, :16] == 7).all()
        assert (self.guarded[:, -16:] == 7).all()
        squares, dots, square = self.sums.folded()
        sums = np.array([*squares, *dots, square]).tobytes()
        return (*(part.tobytes() for part in self.new), self.blob.tobytes(), sums)

    def reference(self) -> Outcome:
        decoded = [self.up.decode(raw, self.size) for raw in self.raws]
        g = weighted_sum(zip(self.weights.tolist(), decoded, strict=True), self.size)
        m, u = outer_optimizer.outer_step(self.old[1], self.old[2], g, self.lr, self.mu)
        blob = self.down.encode(u)
        theta, r = outer_optimizer.apply_blob(self.old[0], u, self.down.decode(blob, self.size))
        dot = pseudo_gradient.fixed_order_dot
        sums = np.array([*(dot(x, x) for x in decoded), *(dot(x, g) for x in decoded), dot(g, g)])
        return theta.tobytes(), m.tobytes(), r.tobytes(), blob.tobytes(), sums.tobytes()


@pytest.mark.parametrize(("up", "down"), list(itertools.product(uplink_names(), downlink_names())))
def test_a_commit_is_the_reference_for_every_pair_of_codecs(up: str, down: str) -> None:
    for mu in (0.0, 0.9):
        commit = Commit(up, down, spans._STRIP + 4097, mu)
        assert commit.compiled() == commit.reference()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("num_sites", [1, 3, 17])
def test_a_commit_of_any_size_and_any_number_of_sites_is_the_reference(size: int, num_sites: int) -> None:
    commit = Commit("int8", "int4", size, 0.9, num_sites)
    expected = commit.reference()
    assert commit.compiled() == expected
    commit.sums.clear()
    assert commit.compiled(max_held=2) == expected


def test_a_whole_chunk_in_many_rows_is_the_reference(codec: Codec) -> None:
    commit = Commit(codec.name, codec.name, 300_001, 0.9, 2)
    assert commit.compiled() == commit.reference()


def test_sums_that_start_from_negative_zero() -> None:
    """0 + w D is +0.0 where w D is -0.0."""
    commit = Commit("fp32", "fp32", 3, 0.0, 1)
    commit.raws = [np.array([-0.0, 1, -0.0], np.float32).view(np.uint8)]
    commit.old = tuple(np.full((3, 3), -0.0, np.float32))
    assert commit.compiled() == commit.reference()


def test_threads_do_not_disturb_each_other() -> None:
    commits = [Commit("int4", "int4", 3 * spans._STRIP + 500 + i, 0.9) for i in range(12)]
    found = list(in_order(lambda index: commits[index].compiled(), len(commits), 3))
    assert found == [commit.reference() for commit in commits]


def outcome(work: Callable[[], object]) -> object:
    try:
        return work()
    except FederationError as error:
        return type(error), str(error)


@pytest.mark.parametrize("where", [0, spans._STRIP - 1, spans._STRIP + 5000])
def test_what_cannot_be_encoded_has_the_references_error(codec: Codec, where: int, path: str) -> None:
    size = spans._STRIP + 5001
    theta, local, e = (part.copy() for part in vectors(1, size, 3))
    theta[where] = np.inf
    out, e_out = room(codec, size), np.empty(size, np.float32)
    with pytest.raises(NonFiniteUpdateError):
        api.encode_difference(codec, theta, local, out)
    with pytest.raises(NonFiniteUpdateError):
        api.encode_difference_with_feedback(codec, theta, local, e, BETA, out, e_out)


@pytest.mark.parametrize("seed", range(30))
def test_hostile_bytes_have_the_fate_that_the_reference_has_for_them(codec: Codec, seed: int) -> None:
    rng, size = np.random.default_rng(seed), spans._STRIP + 4096 + 100
    theta, local, x = vectors(seed, size, 3)
    raw = rng.integers(0, 256, room(codec, size).size, np.uint8) if seed % 3 == 0 else codec.encode(x)
    raw[rng.integers(0, raw.size, seed % 4)] = rng.integers(0, 256, seed % 4)
    expected = outcome(lambda: codec.decode(raw, size).tobytes())
    passed = isinstance(expected, bytes)
    theta_out, local_out, lanes = np.empty(size, np.float32), np.empty(size, np.float32), api.new_lanes()
    for work in (
        lambda: api.apply_to(codec, raw, theta, theta_out),
        lambda: api.apply_and_merge(codec, raw, theta, local, ALPHA, theta_out, local_out),
        lambda: api.measure(codec, raw, size, lanes),
    ):
        assert outcome(work) == (None if passed else expected)


@pytest.mark.parametrize(("up", "down"), [("int4", "int4"), ("sparse", "sparse-down"), ("fp32", "bf16")])
def test_a_commit_of_hostile_bytes_is_not_done(up: str, down: str) -> None:
    for site, max_held in itertools.product(range(NUM_SITES), (1, 16)):
        commit = Commit(up, down, 9000, 0.0)
        commit.raws[site][-commit.up.bytes_per_block :] = 0xFF
        parts = (commit.up, commit.down, commit.raws, commit.weights, commit.old, 0.7, 0.0, commit.new, commit.blob)
        assert not api.commit(*parts, commit.sums, max_held)  # type: ignore[arg-type]


def test_a_step_that_no_downlink_holds_is_not_done() -> None:
    commit = Commit("fp32", "int4", 9000, 0.0)
    commit.raws[1] = np.full(9000, 3e38, np.float32).view(np.uint8)
    parts = (commit.up, commit.down, commit.raws, commit.weights, commit.old, 0.7, 0.0, commit.new, commit.blob)
    assert not api.commit(*parts, commit.sums, 16)  # type: ignore[arg-type]


def test_compiled_code_that_refuses_too_much_is_a_bug(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Callable[..., int]:
            return lambda *arguments: 1

    monkeypatch.setattr(chunks, "span_kernels", Refusing)
    theta, local, e = vectors(1, 300, 3)
    raw, out, other, lanes = codec.encode(e), np.empty(300, np.float32), np.empty(300, np.float32), api.new_lanes()
    for work in (
        lambda: api.encode_difference(codec, theta, local, raw.copy()),
        lambda: api.encode_difference_with_feedback(codec, theta, local, e, BETA, raw.copy(), out),
        lambda: api.apply_to(codec, raw, theta, out),
        lambda: api.apply_and_merge(codec, raw, theta, local, ALPHA, out, other),
        lambda: api.measure(codec, raw, 300, lanes),
    ):
        with pytest.raises(AssertionError, match="refused what the reference takes"):
            work()


def test_other_sizes_are_bugs(codec: Codec) -> None:
    theta, local, e = vectors(1, 300, 3)
    raw, short, out, lanes = codec.encode(e), local[:299], np.empty(300, np.float32), api.new_lanes()
    for work in (
        lambda: api.encode_difference(codec, theta, short, raw),
        lambda: api.encode_difference(codec, theta, local, raw[:-1]),
        lambda: api.encode_difference(codec, theta[:0], local[:0], raw[:0]),
        lambda: api.encode_difference_with_feedback(codec, theta, local, short, BETA, raw, out),
        lambda: api.encode_difference_with_feedback(codec, theta, local, e, BETA, raw, out[1:]),
        lambda: api.apply_to(codec, raw[:-1], theta, out),
        lambda: api.apply_to(codec, raw, theta, out[1:]),
        lambda: api.apply_and_merge(codec, raw, theta, short, ALPHA, out, out),
        lambda: api.measure(codec, raw, 1, lanes) if codec.num_blocks(1) != codec.num_blocks(300) else _wrong(),
        lambda: api.measure(codec, raw, 300, lanes[1:]),
        lambda: api.measure(codec, raw, (1 << 20) + 1, lanes),
    ):
        with pytest.raises(ValueError, match="expected"):
            work()


def _wrong() -> None:
    raise ValueError("expected")


@pytest.mark.parametrize("change", ["raws", "weights", "sums", "blob", "old", "new", "raw", "none"])
def test_other_sizes_of_a_commit_are_bugs(change: str) -> None:
    commit = Commit("int4", "int4", 300, 0.9)
    raws, weights, old, new, blob, sums = commit.raws, commit.weights, commit.old, commit.new, commit.blob, commit.sums
    changed = {
        "raws": lambda: (raws[1:], weights, old, new, blob, sums),
        "weights": lambda: (raws, weights[1:], old, new, blob, sums),
        "sums": lambda: (raws, weights, old, new, blob, api.CommitSums(2)),
        "blob": lambda: (raws, weights, old, new, blob[1:], sums),
        "old": lambda: (raws, weights, (*old[:2], old[2][1:]), new, blob, sums),
        "new": lambda: (raws, weights, old, (*new[:2], new[2][1:]), blob, sums),
        "raw": lambda: ([raws[0], raws[1][1:], raws[2]], weights, old, new, blob, sums),
        "none": lambda: ([], weights[:0], old, new, blob, api.CommitSums(0)),
    }
    raws, weights, old, new, blob, sums = changed[change]()
    with pytest.raises(ValueError, match="expected"):
        api.commit(commit.up, commit.down, raws, weights, old, 0.7, 0.9, new, blob, sums, 16)


@pytest.mark.parametrize("raw", [np.zeros(66, np.int8), np.zeros((66, 2), np.uint8)[:, 0]])
def test_payloads_of_another_kind_are_bugs(raw: np.ndarray) -> None:
    """They are read by address: nothing else would notice."""
    commit = Commit("int4", "int4", 128, 0.9, 1)
    parts = (commit.up, commit.down, [raw], commit.weights, commit.old, 0.7, 0.9, commit.new, commit.blob)
    with pytest.raises(TypeError, match="contiguous bytes"):
        api.commit(*parts, commit.sums, 16)  # type: ignore[arg-type]


def test_a_second_process_compiles_nothing() -> None:
    program = """
from federation.codecs.registry import get_codec
from federation.kernels import spans, dispatch
from numba.core.dispatcher import Dispatcher
assert dispatch.codec_numbers("int4")
kernels = [value for value in vars(spans).values() if isinstance(value, Dispatcher) and value.signatures]
print(len(kernels), sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels))
"""
    for _ in range(2):
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.split() == ["6", "0"]


@pytest.mark.parametrize("name", sorted(set(codec_names()) - {"fp32", "bf16"}))  # to which every bit is a value's
def test_an_error_of_the_format_is_malformed(name: str, path: str) -> None:
    codec, size = get_codec(name), 5000
    raw = np.full(room(codec, size).size, 0xFF, np.uint8)
    with pytest.raises(MalformedPayloadError):
        api.apply_to(codec, raw, inputs.usual(1, size), np.empty(size, np.float32))
