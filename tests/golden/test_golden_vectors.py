# SPDX-License-Identifier: Apache-2.0
"""The shipped golden vectors: this machine reproduces them, with and without wide vector instructions."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation import commit_pass
from federation.codecs import sparse, top_k
from federation.codecs.api import ByteVector, Codec
from federation.codecs.bf16 import Bf16Codec
from federation.codecs.int4 import Int4Codec
from federation.codecs.registry import codec_names, downlink_names, get_codec, uplink_names
from federation.error_feedback import encode_with_feedback
from federation.errors import NumericsMismatchError
from federation.golden import check_golden_vectors, chunk_cases, vectors
from federation.golden.case import KINDS, joined
from federation.golden.cases import golden_cases
from federation.golden.inputs import integers
from federation.kernels import api as kernels
from federation.kernels import spans
from federation.outer_optimizer import apply_blob, apply_downlink, outer_step
from federation.pseudo_gradient import add_to_lanes, fixed_order_dot, merge, new_lanes, pseudo_gradient


def test_this_machine_reproduces_every_case() -> None:
    assert check_golden_vectors() == len(golden_cases())


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="names x86 features")
def test_bits_do_not_depend_on_vector_instructions() -> None:
    features = "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V3 X86_V4"
    expect_a_match(NPY_DISABLE_CPU_FEATURES=features)


def test_bits_do_not_depend_on_a_compiler() -> None:
    expect_a_match(NUMBA_DISABLE_JIT="1")


def expect_a_match(**settings: str) -> None:
    """Of all vectors in a process of its own with these settings in its environment."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "federation.golden.check"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{len(golden_cases())} golden vectors match\n"), done.stderr


def test_the_integers_are_splitmix64() -> None:
    # First outputs of the reference implementation for seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert integers(1234567, 4).tolist() == expected


def _fused_outer_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def fused(m: np.ndarray, r: np.ndarray, g: np.ndarray, lr: float, mu: float) -> tuple[np.ndarray, np.ndarray]:
        m_new = (np.float64(np.float32(mu)) * m + g).astype(np.float32)
        return m_new, np.float32(lr) * (g + np.float32(mu) * m_new) + r

    monkeypatch.setattr("federation.golden.cases.outer_step", fused)


def _flushed_subnormals(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Bf16Codec._decode

    def flushed(self: Bf16Codec, raw: np.ndarray, num_elements: int) -> np.ndarray:
        values = original(self, raw, num_elements)
        return np.where(np.abs(values) < 2.0**-126, np.float32(0), values)

    monkeypatch.setattr(Bf16Codec, "_decode", flushed)


def _ties_away_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def rint(x: np.ndarray, out: np.ndarray) -> np.ndarray:
        return np.copysign(np.floor(np.abs(x) + np.float32(0.5)), x, out=out)

    monkeypatch.setattr("federation.codecs.scaled_int.np.rint", rint)


def _swapped_nibbles(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Int4Codec._pack
    monkeypatch.setattr(
        Int4Codec, "_pack", lambda self, q: (original(self, q) << np.uint8(4)) | (original(self, q) >> np.uint8(4))
    )


def _higher_index_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def largest_of(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        index, used = top_k.largest_of(np.ascontiguousarray(x[:, ::-1]), k)
        return (4095 - index)[:, ::-1], used[:, ::-1]

    monkeypatch.setattr(sparse, "largest_of", largest_of)


def _other_order_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "_sequential_sum", lambda x: x.sum(axis=1))


def _fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_scaled(g: np.ndarray, weight: float, y: np.ndarray) -> None:
        g[:] = np.float64(np.float32(weight)) * y + g

    monkeypatch.setattr(kernels, "add_scaled", add_scaled)


def _fused_feedback(monkeypatch: pytest.MonkeyPatch) -> None:
    right = spans.encode_difference_with_feedback

    def fused(
        numbers: spans.CodecNumbers,
        theta: np.ndarray,
        local: np.ndarray,
        e: np.ndarray,
        beta: np.float32,
        out: ByteVector,
        e_out: np.ndarray,
    ) -> int:
        x = (np.float64(beta) * e + np.subtract(theta, local)).astype(np.float32)
        return right(numbers, x, np.zeros_like(x), np.zeros_like(x), beta, out, e_out)

    monkeypatch.setattr(spans, "encode_difference_with_feedback", fused)


def _refusing_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "commit", lambda *arguments: 1)


def _approximate_division_in_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    original = kernels.encode_into

    def encode_into(codec: Codec, x: np.ndarray, out: np.ndarray) -> None:
        original(codec, x * np.float32(1 + 2.0**-20), out)

    monkeypatch.setattr(kernels, "encode_into", encode_into)


@pytest.mark.parametrize(
    ("break_it", "case"),
    [
        (_fused_outer_step, "outer-step-momentum"),
        (_flushed_subnormals, "codec-bf16-tiny"),
        (_ties_away_from_zero, "codec-int4-halves"),
        (_swapped_nibbles, "codec-int4-usual"),
        (_higher_index_first, "codec-sparse-halves"),
        (_other_order_of_sums, "codec-sparse-order"),
        (_fused_kernel, "kernel-arithmetic"),
        (_fused_feedback, "kernel-job-fp32-usual"),
        (_refusing_too_much, "kernel-commit-bf16-halves"),
        (_approximate_division_in_a_kernel, "kernel-int4-halves"),
    ],
)
def test_a_machine_that_computes_otherwise_is_found(
    monkeypatch: pytest.MonkeyPatch, break_it: Callable[[pytest.MonkeyPatch], None], case: str
) -> None:
    break_it(monkeypatch)
    with pytest.raises(NumericsMismatchError, match=case):
        check_golden_vectors()


def test_kernels_have_the_results_of_their_reference() -> None:
    cases = vectors.load_vectors()
    for name in codec_names():
        for kind in ("usual", "wide", "tiny", "halves", "few"):
            assert cases[f"kernel-{name}-{kind}"] == cases[f"codec-{name}-{kind}"]
    assert cases["kernel-sparse-order"] == cases["codec-sparse-order"]


@pytest.mark.parametrize("kind", chunk_cases.JOB_KINDS)
@pytest.mark.parametrize("name", codec_names())
def test_a_jobs_steps_have_the_results_of_their_reference(name: str, kind: str) -> None:
    codec, (theta, local, e) = get_codec(name), chunk_cases.job_inputs(KINDS[kind])
    delta = pseudo_gradient(theta, local)
    payload, (with_feedback, e_new) = codec.encode(delta), encode_with_feedback(codec, delta, e, chunk_cases.BETA)
    decoded, applied = codec.decode(payload, theta.size), apply_downlink(codec, theta, payload)
    merged = merge(applied, local, chunk_cases.ALPHA)
    expected = payload.tobytes() + with_feedback + joined(e_new, applied, applied, merged)
    expected += chunk_cases.sums_bytes(lanes_of(decoded, decoded), fixed_order_dot(decoded, decoded))
    assert vectors.load_vectors()[f"kernel-job-{name}-{kind}"] == vectors.summary(expected)


def lanes_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    lanes = new_lanes()
    add_to_lanes(x, y, lanes)
    return lanes


@pytest.mark.parametrize("kind", chunk_cases.COMMIT_KINDS)
@pytest.mark.parametrize("name", chunk_cases.COMMITS)
def test_a_commit_has_the_result_of_its_reference(name: str, kind: str) -> None:
    setting = chunk_cases.COMMITS[name]
    up, down = get_codec(setting.up), get_codec(setting.down)
    payloads, weights, base = chunk_cases.commit_inputs(setting, KINDS[kind])
    decoded, g = [up.decode(payload, base.theta.size) for payload in payloads], np.zeros_like(base.theta)
    for weight, part in zip(weights, decoded, strict=True):
        g = np.add(g, np.multiply(np.float32(weight), part))
    m, u = outer_step(base.momentum, base.residual, g, chunk_cases.LR, setting.mu)
    blob = down.encode(u)
    theta, r = apply_blob(base.theta, u, down.decode(blob, u.size))
    pairs = [*((part, part) for part in decoded), *((part, g) for part in decoded), (g, g)]
    lanes, sums = np.concatenate([lanes_of(*pair) for pair in pairs]), [fixed_order_dot(*pair) for pair in pairs]
    expected = blob.tobytes() + joined(theta, m, r) + chunk_cases.sums_bytes(lanes, *sums)
    assert vectors.load_vectors()[f"kernel-commit-{name}-{kind}"] == vectors.summary(expected)


def test_every_codec_is_in_a_commit() -> None:
    commits = chunk_cases.COMMITS.values()
    assert {setting.up for setting in commits} == set(uplink_names())
    assert {setting.down for setting in commits} == set(downlink_names())
    assert max(setting.num_sites for setting in commits) > commit_pass._MAX_HELD_PARTS


OUTPUTS = {
    "encode_difference": (3,),
    "encode_difference_with_feedback": (5, 6),
    "apply_to": (3,),
    "apply_and_merge": (5, 6),
    "measure": (3,),
    "commit": tuple(range(11, 18)),
}
"""Where each function of whole chunks takes what it writes to."""


@pytest.mark.parametrize(("name", "output"), [(name, output) for name in OUTPUTS for output in OUTPUTS[name]])
def test_every_output_of_compiled_code_is_looked_at(monkeypatch: pytest.MonkeyPatch, name: str, output: int) -> None:
    right = getattr(spans, name)

    def wrong(*arguments: Any) -> int:
        status: int = right(*arguments)
        arguments[output].reshape(-1).view(np.uint8)[-1] ^= 1
        return status

    monkeypatch.setattr(spans, name, wrong)
    cases, case = chunk_cases.chunk_cases(), "kernel-commit-int4" if name == "commit" else "kernel-job-int4"
    expected = {name: stored for name, stored in vectors.load_vectors().items() if name in cases}
    with pytest.raises(NumericsMismatchError, match=case):
        check_golden_vectors(cases, expected)


def test_a_missing_or_extra_case_is_a_mismatch() -> None:
    expected = vectors.load_vectors()
    cases = golden_cases()
    cases.pop("merge")
    with pytest.raises(NumericsMismatchError, match="merge"):
        check_golden_vectors(cases, expected)


def test_writing_gives_what_is_shipped(tmp_path: Path) -> None:
    vectors.write_vectors(tmp_path)
    assert json.loads((tmp_path / vectors.VECTORS).read_text())["cases"] == vectors.load_vectors()


def test_vectors_of_another_numerics_version_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "DIRECTORY", tmp_path)
    with pytest.raises(NumericsMismatchError, match="found nothing"):
        vectors.load_vectors()
    (tmp_path / vectors.VECTORS).write_text(json.dumps({"numerics_version": 0, "cases": {}}))
    with pytest.raises(NumericsMismatchError, match="expected numerics version 1, found 0"):
        vectors.load_vectors()
