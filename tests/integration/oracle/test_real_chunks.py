# SPDX-License-Identifier: Apache-2.0
"""Fragments of several chunks of 2^20 elements, and digests and norms against a second calculation."""

import hashlib
from functools import partial
from typing import Any

import numpy as np
import pytest

from federation import reference as ref
from federation.chunks import CHUNK_ELEMENTS
from federation.testing.manifests import inner_settings

INNER = inner_settings(lr=0.02)


def rfc6962_root(pieces: list[bytes]) -> bytes:
    if len(pieces) == 1:
        return hashlib.sha256(b"\0" + pieces[0]).digest()
    split = 1 << (len(pieces) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + rfc6962_root(pieces[:split]) + rfc6962_root(pieces[split:])).digest()


def digest_of(vector: ref.Vector) -> str:
    padded = np.zeros(-(-vector.size // CHUNK_ELEMENTS) * CHUNK_ELEMENTS, "<f4")
    padded[: vector.size] = vector
    return rfc6962_root([chunk.tobytes() for chunk in padded.reshape(-1, CHUNK_ELEMENTS)]).hex()


def blob_digest_of(data: bytes) -> str:
    return rfc6962_root([data[i : i + 2**20] for i in range(0, len(data), 2**20)]).hex()


def test_three_chunks_equal_the_oracle(lab: Any) -> None:
    trainer = partial(lab.trainer, width=32, num_layers=1, num_inputs=66_000)
    plan = {"steps": {"a": 1, "b": 1}, "num_rounds": 2, "weighting": "tokens"}
    setting = lab.setting(
        plan, trainer, up="int4", down="int8", momentum=0.9, feedback_beta=0.95, alpha=0.5, inner=INNER
    )
    assert setting[0].fragments[0].num_elements > 2 * CHUNK_ELEMENTS
    assert lab.compare(*setting) == []


def test_digests_norms_and_cosines_of_a_commit(lab: Any) -> None:
    trainer = partial(lab.trainer, width=32, num_layers=1, num_inputs=33_000)
    plan = {"steps": {"a": 1, "b": 1}, "num_rounds": 1, "weighting": "tokens"}
    federation = lab.federate(*lab.setting(plan, trainer, up="bf16", down="int4", momentum=0.9, inner=INNER))
    (result,), (commit,) = federation.results, federation.commits
    assert commit.theta_digest == digest_of(result.theta)
    assert commit.momentum_digest == digest_of(result.momentum)
    assert commit.residual_digest == digest_of(result.residual)
    assert (commit.blob_digest, commit.blob_bytes) == (blob_digest_of(result.blob), len(result.blob))
    deltas = {site: ref.decode("bf16", data, result.theta.size) for site, data in result.payloads.items()}
    g = ref.weighted_sum(deltas, result.weights).astype(np.float64)
    assert commit.aggregate_norm == pytest.approx(np.linalg.norm(g), rel=1e-12)
    for contribution in commit.contributions:
        delta = deltas[contribution.site].astype(np.float64)
        norm = np.linalg.norm(delta)
        assert contribution.norm == pytest.approx(norm, rel=1e-12)
        assert contribution.cosine == pytest.approx(delta @ g / norm / np.linalg.norm(g), rel=1e-9)
