# SPDX-License-Identifier: Apache-2.0
"""Commits applied in strips on threads: the bits and the digest of the whole-vector calculation."""

import numpy as np
import pytest

from federation.chunks import CHUNK_ELEMENTS, Float32Vector, fragment_digest
from federation.codecs.api import ByteVector
from federation.codecs.payload import decode_vector, encode_vector
from federation.codecs.registry import codec_names, get_codec
from federation.errors import DigestMismatchError, MalformedPayloadError
from federation.fragments import build_fragments
from federation.kernels import api as kernels
from federation.outer_optimizer import apply_downlink
from federation.published import apply_blob_into, apply_commit, digest_on_threads
from federation.testing.manifests import manifest_of, plan_of

SIZE = 2 * CHUNK_ELEMENTS + 3 * kernels.STRIP_ELEMENTS + 77


@pytest.fixture(scope="module")
def theta() -> Float32Vector:
    return np.random.default_rng(1).standard_normal(SIZE, np.float32)


@pytest.mark.parametrize("name", codec_names())
@pytest.mark.parametrize("num_threads", [1, 3])
def test_any_number_of_threads_gives_the_bits_of_whole_vectors(
    name: str, num_threads: int, theta: Float32Vector
) -> None:
    codec = get_codec(name)
    blob = encode_vector(codec, np.roll(theta, 5))
    expected = apply_downlink(codec, theta, blob)
    out = np.full_like(theta, np.nan)
    assert apply_blob_into(codec, theta, blob, out, num_threads=num_threads) == fragment_digest(expected)
    assert np.array_equal(out, expected)
    in_place = theta.copy()
    assert apply_blob_into(codec, in_place, blob, in_place, num_threads=num_threads, with_digest=False) == ""
    assert np.array_equal(in_place, expected)


@pytest.mark.parametrize("name", codec_names())
def test_a_chunk_is_worked_on_by_whoever_the_caller_names(name: str, theta: Float32Vector) -> None:
    codec, out = get_codec(name), np.full_like(theta, np.nan)
    blob = encode_vector(codec, np.roll(theta, 5))

    def apply(chunk: slice, raw: ByteVector) -> None:
        out[chunk] = codec.decode(raw, chunk.stop - chunk.start)

    assert apply_blob_into(codec, theta, blob, out, num_threads=2, apply=apply) == fragment_digest(out)
    assert np.array_equal(out, decode_vector(codec, SIZE, blob))


def test_a_digest_is_the_same_on_threads(theta: Float32Vector) -> None:
    assert digest_on_threads(theta, 3) == fragment_digest(theta)
    assert digest_on_threads(theta[:5], 3) == fragment_digest(theta[:5])


def test_a_commit_that_does_not_give_its_digest_is_refused() -> None:
    theta = np.ones(40, np.float32)
    manifest = manifest_of(plan_of({"a": 1}), build_fragments([("w", (40,))], 1), down="int8")
    blob = encode_vector(get_codec("int8"), theta)
    expected = theta - get_codec("int8").decode(blob, 40)
    digest = fragment_digest(expected)
    assert np.array_equal(apply_commit(manifest, 0, theta, blob, digest), expected)
    with pytest.raises(DigestMismatchError, match="fragment 0: expected theta 0000"):
        apply_commit(manifest, 0, theta, blob, "00" * 32)
    for wrong in (blob[:-1], blob + b"\0", b""):
        with pytest.raises(
            MalformedPayloadError, match=rf"int8: expected 130 bytes for 40 elements, found {len(wrong)}"
        ):
            apply_commit(manifest, 0, theta, wrong, digest)
