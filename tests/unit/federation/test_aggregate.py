# SPDX-License-Identifier: Apache-2.0
"""A commit: bits against the reference, digests, evidence figures, refusal of damaged bases and payloads."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from federation import reference
from federation.aggregate import (
    commit_round,
    first_digests,
    initial_state,
    is_intact,
    replay_commit,
)
from federation.blobs.store import BlobStore
from federation.chunks import CHUNK_ELEMENTS, fragment_digest, zero_digest
from federation.codecs.payload import encode_vector
from federation.codecs.registry import codec_names, get_codec
from federation.commit_pass import weighted_sum
from federation.durable import failpoints
from federation.durable.real import RealFileSystem
from federation.errors import (
    CorruptObjectError,
    DigestMismatchError,
    MalformedPayloadError,
    ObjectNotFoundError,
)
from federation.golden import inputs
from federation.leaves import SealedUpdate
from federation.manifest import Manifest
from federation.outer_optimizer import apply_downlink
from federation.state.api import StateDigests, StateStore
from federation.state.memory_store import MemoryStateStore
from federation.testing.manifests import manifest_of, plan_of, table_of
from federation.weights import round_weights

SITES = ("alpha", "beta", "gamma")
SIZE = 700


def manifest(size: int = SIZE, *, codec: str = "int4", momentum: float = 0.9) -> Manifest:
    plan = plan_of(dict.fromkeys(SITES, 4), theta_digests=[fragment_digest(inputs.usual(1, size))])
    return manifest_of(plan, [table_of([("w", (size,))])], momentum=momentum, up=codec, down=codec)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(RealFileSystem(tmp_path))


@pytest.fixture
def store() -> MemoryStateStore:
    return MemoryStateStore()


def begin(store: StateStore, agreed: Manifest) -> None:
    initial_state(store, "run-1", agreed, [inputs.usual(1, agreed.fragments[0].num_elements)])


def seal(blobs: BlobStore, agreed: Manifest, seed: int = 10, sites: Sequence[str] = SITES) -> tuple[SealedUpdate, ...]:
    size, weights = agreed.fragments[0].num_elements, round_weights([(s, i + 1) for i, s in enumerate(sites)], "tokens")
    updates = []
    for index, (site, weight) in enumerate(zip(sites, weights, strict=True)):
        payload = encode_vector(get_codec(agreed.codecs.up), inputs.usual(seed + index, size))
        updates.append(
            SealedUpdate(site=site, weight=weight, update_digest="22" * 32, payload_digest=blobs.put(payload))
        )
    return tuple(updates)


def state_of(store: StateStore, version: int) -> tuple[np.ndarray, ...]:
    reader = store.open("run-1", 0, version)
    assert reader is not None
    parts = [reader.read_chunk(i) for i in range(reader.grid.num_chunks)]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def expected_commit(
    agreed: Manifest, blobs: BlobStore, sealed: Sequence[SealedUpdate], base: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bytes]:
    """The same commit with the reference's own codecs and arithmetic, whole vectors at a time."""
    theta, m, r = base
    deltas = {u.site: reference.decode(agreed.codecs.up, blobs.read(u.payload_digest), theta.size) for u in sealed}
    g = reference.weighted_sum(deltas, {u.site: u.weight for u in sealed})
    m, s = reference.outer_step(m, g, agreed.outer.lr, agreed.outer.momentum)
    u = s + r
    blob = reference.encode(agreed.codecs.down, u)
    applied = reference.decode(agreed.codecs.down, blob, u.size)
    return theta - applied, m, u - applied, blob


@pytest.mark.parametrize("codec", codec_names())
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_three_commits_equal_the_reference_to_the_bit(
    store: MemoryStateStore, blobs: BlobStore, codec: str, momentum: float
) -> None:
    agreed = manifest(codec=codec, momentum=momentum)
    begin(store, agreed)
    for number in range(3):
        sealed = seal(blobs, agreed, 10 * number)
        theta, m, r, blob = expected_commit(agreed, blobs, sealed, state_of(store, number))
        result = commit_round(blobs, store, "run-1", agreed, number, 0, number, sealed)
        assert [a.tobytes() for a in state_of(store, number + 1)] == [a.tobytes() for a in (theta, m, r)]
        assert blobs.read(result.blob_digest) == blob
        assert result.blob_bytes == len(blob)
        assert result.theta_digest == fragment_digest(theta)
        assert result.momentum_digest == fragment_digest(m)
        assert result.residual_digest == fragment_digest(r)


def test_chunks_are_streamed_to_the_same_bits(store: MemoryStateStore, blobs: BlobStore) -> None:
    agreed = manifest(CHUNK_ELEMENTS + 300)
    begin(store, agreed)
    sealed = seal(blobs, agreed)
    theta, m, r, blob = expected_commit(agreed, blobs, sealed, state_of(store, 0))
    result = commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed)
    assert [a.tobytes() for a in state_of(store, 1)] == [a.tobytes() for a in (theta, m, r)]
    assert blobs.read(result.blob_digest) == blob


def test_a_repeated_commit_gives_the_same_result(store: MemoryStateStore, blobs: BlobStore) -> None:
    agreed = manifest()
    begin(store, agreed)
    sealed = seal(blobs, agreed)
    first = commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed)
    assert commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed) == first


def test_many_sites_are_decoded_twice_to_the_same_bits(
    store: MemoryStateStore, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreed = manifest()
    begin(store, agreed)
    sealed = seal(blobs, agreed)
    first = commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed)
    monkeypatch.setattr("federation.commit_pass._MAX_HELD_PARTS", 2)
    assert commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed) == first


def test_norms_and_cosines(store: MemoryStateStore, blobs: BlobStore) -> None:
    agreed = manifest(4, codec="fp32")
    begin(store, agreed)
    vectors: Mapping[str, list[float]] = {"alpha": [3, 4, 0, 0], "beta": [-3, -4, 0, 0], "gamma": [0, 0, 0, 0]}
    weights = {"alpha": 0.5, "beta": 0.25, "gamma": 0.25}
    sealed = [
        SealedUpdate(
            site=site,
            weight=weights[site],
            update_digest="",
            payload_digest=blobs.put(np.array(vectors[site], np.float32).tobytes()),
        )
        for site in SITES
    ]
    result = commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed)
    assert result.aggregate_norm == 1.25
    assert [(c.site, c.norm, c.cosine) for c in result.contributions] == [
        ("alpha", 5.0, 1.0),
        ("beta", 5.0, -1.0),
        ("gamma", 0.0, 0.0),
    ]


def test_norms_are_added_over_chunks(store: MemoryStateStore, blobs: BlobStore) -> None:
    size = CHUNK_ELEMENTS + 5
    agreed = manifest(size, codec="fp32")
    begin(store, agreed)
    ones = blobs.put(np.ones(size, np.float32).tobytes())
    sealed = [SealedUpdate(site="alpha", weight=1.0, update_digest="", payload_digest=ones)]
    result = commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed)
    assert result.aggregate_norm == math.sqrt(size)
    assert result.contributions[0].norm == math.sqrt(size)
    assert result.contributions[0].cosine == pytest.approx(1.0, abs=1e-15)


def test_the_weighted_sum_starts_from_zero() -> None:
    # Starting from the first product would keep its negative zero.
    assert weighted_sum([(1.0, np.array([-0.0], np.float32))], 1).tobytes() == bytes(4)


@pytest.mark.parametrize("sites", [[], ["beta", "alpha"], ["alpha", "alpha"]])
def test_a_seal_out_of_order_is_a_bug(store: MemoryStateStore, blobs: BlobStore, sites: list[str]) -> None:
    agreed = manifest()
    begin(store, agreed)
    by_site = {update.site: update for update in seal(blobs, agreed)}
    with pytest.raises(ValueError, match="each once and ascending"):
        commit_round(blobs, store, "run-1", agreed, 0, 0, 0, [by_site[site] for site in sites])


def test_another_numerics_version_is_not_computed(store: MemoryStateStore, blobs: BlobStore) -> None:
    agreed = manifest()
    begin(store, agreed)
    with pytest.raises(ValueError, match="numerics_version"):
        commit_round(blobs, store, "run-1", replace(agreed, numerics_version=2), 0, 0, 0, seal(blobs, agreed))


def test_a_missing_base_is_named(store: MemoryStateStore, blobs: BlobStore) -> None:
    agreed = manifest()
    with pytest.raises(ObjectNotFoundError, match="expected version 0"):
        commit_round(blobs, store, "run-1", agreed, 0, 0, 0, seal(blobs, agreed))


@pytest.mark.parametrize("name", ["theta", "momentum", "residual"])
def test_a_base_of_another_digest_commits_nothing(store: MemoryStateStore, blobs: BlobStore, name: str) -> None:
    agreed = manifest()
    begin(store, agreed)
    sealed = seal(blobs, agreed)
    blobs_before = list(blobs.digests())
    expected = replace(first_digests(agreed, 0), **{name: "ab" * 32})
    with pytest.raises(CorruptObjectError, match=f"expected {name} of digest abababababab"):
        commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed, expected=expected)
    assert store.versions("run-1", 0) == [0]
    assert list(blobs.digests()) == blobs_before


def test_the_right_base_is_taken(store: MemoryStateStore, blobs: BlobStore) -> None:
    agreed = manifest()
    begin(store, agreed)
    expected = first_digests(agreed, 0)
    assert expected.momentum == expected.residual == zero_digest(SIZE)
    commit_round(blobs, store, "run-1", agreed, 0, 0, 0, seal(blobs, agreed), expected=expected)


def test_a_payload_that_rotted_is_not_aggregated(store: MemoryStateStore, blobs: BlobStore, tmp_path: Path) -> None:
    agreed = manifest()
    begin(store, agreed)
    sealed = seal(blobs, agreed)
    path = tmp_path / blobs.path(sealed[1].payload_digest)
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptObjectError):
        commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed)
    assert store.versions("run-1", 0) == [0]


def test_a_payload_of_another_length_is_not_aggregated(store: MemoryStateStore, blobs: BlobStore) -> None:
    agreed = manifest()
    begin(store, agreed)
    longer = encode_vector(get_codec("int4"), inputs.usual(1, SIZE)) + b"\0"
    sealed = [SealedUpdate(site="alpha", weight=1.0, update_digest="", payload_digest=blobs.put(longer))]
    with pytest.raises(MalformedPayloadError, match="payload of alpha: expected 396 bytes, found 397"):
        commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed)


def test_a_crash_in_the_middle_leaves_nothing_visible(store: MemoryStateStore, blobs: BlobStore) -> None:
    agreed = manifest()
    begin(store, agreed)
    sealed = seal(blobs, agreed)

    class SimulatedCrashError(Exception):
        pass

    def crash(name: str) -> None:
        assert name == "coordinator.mid-aggregation"
        raise SimulatedCrashError

    failpoints.install(crash)
    try:
        with pytest.raises(SimulatedCrashError):
            commit_round(blobs, store, "run-1", agreed, 0, 0, 0, sealed)
    finally:
        failpoints.uninstall()
    assert store.versions("run-1", 0) == [0]


def test_version_zero_has_the_manifests_theta_and_zeros(store: MemoryStateStore) -> None:
    agreed = manifest()
    begin(store, agreed)
    theta, m, r = state_of(store, 0)
    assert theta.tobytes() == inputs.usual(1, SIZE).tobytes()
    assert m.tobytes() == r.tobytes() == bytes(4 * SIZE)


def test_another_theta_zero_is_refused(store: MemoryStateStore) -> None:
    with pytest.raises(DigestMismatchError, match="theta_0, fragment 0"):
        initial_state(store, "run-1", manifest(), [inputs.usual(2, SIZE)])
    assert store.versions("run-1", 0) == []


def test_theta_follows_from_the_blob_alone(store: MemoryStateStore, blobs: BlobStore) -> None:
    agreed = manifest()
    begin(store, agreed)
    result = commit_round(blobs, store, "run-1", agreed, 0, 0, 0, seal(blobs, agreed))
    scratch = MemoryStateStore()
    begin(scratch, agreed)
    digests = {"blob_digest": result.blob_digest, "theta_digest": result.theta_digest}
    replay_commit(scratch, blobs, "run-1", agreed, 0, 0, 1, **digests)
    theta, m, r = state_of(scratch, 1)
    assert theta.tobytes() == state_of(store, 1)[0].tobytes()
    assert (
        theta.tobytes()
        == apply_downlink(get_codec("int4"), inputs.usual(1, SIZE), blobs.read(result.blob_digest)).tobytes()
    )
    assert not m.any()
    assert not r.any()


def test_a_replay_that_gives_another_theta_commits_nothing(store: MemoryStateStore, blobs: BlobStore) -> None:
    agreed = manifest()
    begin(store, agreed)
    result = commit_round(blobs, store, "run-1", agreed, 0, 0, 0, seal(blobs, agreed))
    scratch = MemoryStateStore()
    begin(scratch, agreed)
    digests = {"blob_digest": result.blob_digest, "theta_digest": "ab" * 32}
    with pytest.raises(DigestMismatchError, match="version 1: expected theta abababababab"):
        replay_commit(scratch, blobs, "run-1", agreed, 0, 0, 1, **digests)
    assert scratch.versions("run-1", 0) == [0]


def test_intact_means_there_and_of_the_recorded_digests(store: MemoryStateStore) -> None:
    agreed = manifest()
    digests = first_digests(agreed, 0)
    assert not is_intact(store, "run-1", 0, 0, SIZE, digests)
    begin(store, agreed)
    assert is_intact(store, "run-1", 0, 0, SIZE, digests)
    assert is_intact(store, "run-1", 0, 0, SIZE, StateDigests(theta=digests.theta))
    assert not is_intact(store, "run-1", 0, 0, SIZE, replace(digests, residual="ab" * 32))
    assert not is_intact(store, "run-1", 0, 0, SIZE + 1, digests)
