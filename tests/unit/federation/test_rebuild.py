# SPDX-License-Identifier: Apache-2.0
"""State from ledger and payloads: whatever is lost or damaged comes back with the same bits, or is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from federation import leaves as lv
from federation.aggregate import commit_round, initial_state
from federation.blobs.store import BlobStore
from federation.chunks import fragment_digest
from federation.codecs.payload import encode_vector
from federation.codecs.registry import get_codec
from federation.durable.real import RealFileSystem
from federation.errors import CorruptObjectError, DigestMismatchError, ObjectNotFoundError
from federation.golden import inputs
from federation.manifest import Manifest
from federation.rebuild import CommitRecord, commit_chain, rebuild
from federation.rounds import Federation, fold
from federation.state.memory_store import MemoryStateStore
from federation.testing.manifests import manifest_of, plan_of, table_of

SIZE = 300
THETA = inputs.usual(1, SIZE)


@pytest.fixture
def agreed() -> Manifest:
    plan = plan_of({"alpha": 4}, theta_digests=[fragment_digest(THETA)])
    return manifest_of(plan, [table_of([("w", (SIZE,))])], momentum=0.9, up="int4", down="int8")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(RealFileSystem(tmp_path))


@pytest.fixture
def store(agreed: Manifest) -> MemoryStateStore:
    found = MemoryStateStore()
    initial_state(found, "run-1", agreed, [THETA])
    return found


@pytest.fixture
def chain(store: MemoryStateStore, blobs: BlobStore, agreed: Manifest) -> list[CommitRecord]:
    """Three commits; round 1 was abandoned."""
    records: list[CommitRecord] = []
    for number in (0, 2, 3):
        base = records[-1].version if records else 0
        payload = blobs.put(encode_vector(get_codec("int4"), inputs.usual(50 + number, SIZE)))
        sealed = (lv.SealedUpdate(site="alpha", weight=1.0, update_digest="22" * 32, payload_digest=payload),)
        result = commit_round(blobs, store, "run-1", agreed, number, 0, base, sealed)
        records.append(
            CommitRecord(
                round=number,
                base_version=base,
                sealed=sealed,
                blob_digest=result.blob_digest,
                digests=result.state_digests,
            )
        )
    return records


def contents(store: MemoryStateStore, version: int) -> bytes:
    reader = store.open("run-1", 0, version)
    assert reader is not None
    return b"".join(array.tobytes() for array in reader.read_chunk(0))


def damage(store: MemoryStateStore, version: int, part: int) -> None:
    reader = store.open("run-1", 0, version)
    assert reader is not None
    arrays = list(reader.read_chunk(0))
    arrays[part].view(np.uint32)[7] ^= 1
    with store.create("run-1", 0, version, SIZE) as writer:
        writer.write_chunk(0, *arrays)
        writer.commit()


def test_nothing_is_repeated_when_all_is_there(
    store: MemoryStateStore, blobs: BlobStore, agreed: Manifest, chain: list[CommitRecord]
) -> None:
    assert rebuild(store, blobs, "run-1", agreed, 0, chain) == 0
    assert rebuild(store, blobs, "run-1", agreed, 0, []) == 0


@pytest.mark.parametrize(("lost", "repeated"), [([4], 1), ([3, 4], 2), ([1, 3, 4], 3), ([1, 3], 0)])
def test_lost_versions_come_back_to_the_bit(
    store: MemoryStateStore,
    blobs: BlobStore,
    agreed: Manifest,
    chain: list[CommitRecord],
    lost: list[int],
    repeated: int,
) -> None:
    before = contents(store, 4)
    for version in lost:
        store.delete("run-1", 0, version)
    assert rebuild(store, blobs, "run-1", agreed, 0, chain) == repeated
    assert contents(store, 4) == before


@pytest.mark.parametrize("part", [0, 1, 2], ids=["theta", "momentum", "residual"])
def test_a_flipped_bit_is_found_and_repaired(
    store: MemoryStateStore, blobs: BlobStore, agreed: Manifest, chain: list[CommitRecord], part: int
) -> None:
    before = contents(store, 4)
    damage(store, 4, part)
    assert rebuild(store, blobs, "run-1", agreed, 0, chain) == 1
    assert contents(store, 4) == before


def test_a_version_whose_momentum_is_not_recorded_is_not_trusted(
    store: MemoryStateStore, blobs: BlobStore, agreed: Manifest, chain: list[CommitRecord]
) -> None:
    before = contents(store, 4)
    damage(store, 4, 1)
    last = replace(chain[-1], digests=replace(chain[-1].digests, momentum="", residual=""))
    assert rebuild(store, blobs, "run-1", agreed, 0, [*chain[:-1], last]) == 1
    assert contents(store, 4) == before


def test_without_version_zero_nothing_can_begin(blobs: BlobStore, agreed: Manifest, chain: list[CommitRecord]) -> None:
    with pytest.raises(ObjectNotFoundError, match="expected version 0"):
        rebuild(MemoryStateStore(), blobs, "run-1", agreed, 0, chain)


def test_a_lost_payload_is_named(
    store: MemoryStateStore, blobs: BlobStore, agreed: Manifest, chain: list[CommitRecord]
) -> None:
    store.delete("run-1", 0, 4)
    blobs.delete(chain[-1].sealed[0].payload_digest)
    with pytest.raises(ObjectNotFoundError):
        rebuild(store, blobs, "run-1", agreed, 0, chain)


def test_a_damaged_payload_is_named(
    store: MemoryStateStore, blobs: BlobStore, agreed: Manifest, chain: list[CommitRecord], tmp_path: Path
) -> None:
    store.delete("run-1", 0, 4)
    path = tmp_path / blobs.path(chain[-1].sealed[0].payload_digest)
    data = bytearray(path.read_bytes())
    data[9] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptObjectError):
        rebuild(store, blobs, "run-1", agreed, 0, chain)


@pytest.mark.parametrize("name", ["theta", "momentum", "residual", "blob"])
def test_other_bits_than_recorded_are_not_kept(
    store: MemoryStateStore, blobs: BlobStore, agreed: Manifest, chain: list[CommitRecord], name: str
) -> None:
    store.delete("run-1", 0, 4)
    last = chain[-1]
    wrong = (
        replace(last, blob_digest="ab" * 32)
        if name == "blob"
        else replace(last, digests=replace(last.digests, **{name: "ab" * 32}))
    )
    with pytest.raises(DigestMismatchError, match=f"round 3: expected {name} abababababab"):
        rebuild(store, blobs, "run-1", agreed, 0, [*chain[:-1], wrong])
    assert store.versions("run-1", 0) == [0, 1, 3]


def ledger_of(agreed: Manifest, chain: list[CommitRecord]) -> Federation:
    """The leaves that such a chain has, with round 1 abandoned and the last commit's momentum not recorded yet."""
    start = {"run": "run-1", "operator": "op", "command": ""}
    bodies: list[lv.Body] = [
        lv.RunCreatedV1(manifest_digest="33" * 32, plan=agreed.plan, **start),
        lv.RunApprovedV1(**start),
        lv.RunStartedV1(**start),
    ]
    by_round = {record.round: record for record in chain}
    base = CommitRecord(
        round=-1,
        base_version=0,
        sealed=(),
        blob_digest="",
        digests=replace(chain[0].digests, theta=fragment_digest(THETA)),
    )
    for number in range(4):
        bodies.append(
            lv.RoundOpenedV1(
                run="run-1",
                round=number,
                fragment=0,
                base_version=base.version,
                base_digest=base.digests.theta,
                lr_position=0,
                invitations=(lv.Invitation(site="alpha", allocation="a1", num_steps=4),),
                sentence="",
            )
        )
        if number not in by_round:
            bodies.append(lv.RoundAbandonedV1(run="run-1", round=number, reason=lv.Reason.OPERATOR, sentence=""))
            continue
        base = by_round[number]
        bodies += commit_leaves(base)
    return fold([lv.Leaf(at_us=0, body=body) for body in bodies[:-1]])


def commit_leaves(record: CommitRecord) -> list[lv.Body]:
    committed = lv.RoundCommittedV1(
        run="run-1",
        round=record.round,
        fragment=0,
        version=record.version,
        theta_digest=record.digests.theta,
        blob_digest=record.blob_digest,
        blob_bytes=1,
        aggregate_norm=1.0,
        contributions=(),
        numerics_version=1,
    )
    recorded = lv.StateRecordedV1(
        run="run-1",
        round=record.round,
        fragment=0,
        momentum_digest=record.digests.momentum,
        residual_digest=record.digests.residual,
    )
    return [lv.RoundSealedV1(run="run-1", round=record.round, updates=record.sealed, sentence=""), committed, recorded]


def test_the_chain_is_what_the_ledger_says(agreed: Manifest, chain: list[CommitRecord]) -> None:
    last = replace(chain[-1], digests=replace(chain[-1].digests, momentum="", residual=""))
    found = commit_chain(ledger_of(agreed, chain).runs["run-1"], 0)
    assert found == (*chain[:-1], last)
    assert [record.base_version for record in found] == [0, 1, 3]
