# SPDX-License-Identifier: Apache-2.0
"""Snapshots for late joiners: the version's exact elements, for members only, one blob per fragment, never evidence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coordinator.aggregation import Aggregation
from coordinator.snapshots import SNAPSHOTS, Snapshots
from federation import leaves as lv
from federation import wire
from federation.aggregate import commit_round, initial_state
from federation.blobs.store import BlobStore
from federation.chunks import fragment_digest, little_endian_bytes
from federation.codecs.payload import encode_vector
from federation.codecs.registry import get_codec
from federation.durable.real import RealFileSystem
from federation.errors import CorruptObjectError
from federation.golden import inputs
from federation.manifest import Manifest
from federation.messages import Snapshot, SnapshotWanted
from federation.rounds import Federation, apply
from federation.state.memory_store import MemoryStateStore
from federation.testing.manifests import manifest_of, plan_of, table_of

SIZE, RUN = 300, "run-1"
THETA = inputs.usual(1, SIZE)


def usual(number: int) -> np.ndarray:
    """A round's pseudo-gradient."""
    return inputs.usual(50 + number, SIZE)


class Bench:
    """A run of one site and one fragment, with as many commits as asked for; fp32, so that payloads are vectors."""

    def __init__(self, root: Path) -> None:
        self.fs = RealFileSystem(root)
        self.blobs, self.states = BlobStore(self.fs), MemoryStateStore()
        plan = plan_of({"alpha": 4}, theta_digests=[fragment_digest(THETA)], num_rounds=99)
        self.manifest: Manifest = manifest_of(plan, [table_of([("w", (SIZE,))])], momentum=0.9)
        initial_state(self.states, RUN, self.manifest, [THETA])
        self.state, self.thetas = Federation(), {0: THETA}
        digest = self.blobs.put(wire.manifest_to_bytes(self.manifest))
        self.leaf(lv.RunCreatedV1(run=RUN, manifest_digest=digest, plan=plan, operator="o", command="c"))
        self.leaf(
            lv.RunApprovedV1(run=RUN, operator="o", command="a"), lv.RunStartedV1(run=RUN, operator="o", command="s")
        )
        self.snapshots = self.start()

    def start(self) -> Snapshots:
        """A coordinator process."""
        aggregation = Aggregation(blobs=self.blobs, states=self.states)
        return Snapshots(
            fs=self.fs,
            blobs=self.blobs,
            states=self.states,
            aggregation=aggregation,
            manifest_of=lambda run: self.manifest,
        )

    def leaf(self, *bodies: lv.Body) -> None:
        for body in bodies:
            self.state = apply(self.state, lv.Leaf(at_us=1, body=body))

    def commit(
        self, count: int = 1, vector: Callable[[int], np.ndarray] = lambda n: inputs.usual(50 + n, SIZE)
    ) -> None:
        """Rounds with one update each."""
        for _ in range(count):
            run = self.state.runs[RUN]
            number, base = run.next_round, run.heads()[0]
            payload = self.blobs.put(encode_vector(get_codec("fp32"), vector(number)))
            mine = {"update_digest": "22" * 32, "payload_digest": payload}
            sealed = (lv.SealedUpdate(site="alpha", weight=1.0, **mine),)
            result = commit_round(self.blobs, self.states, RUN, self.manifest, number, 0, base.number, sealed)
            invited = (lv.Invitation(site="alpha", allocation="a1", num_steps=4),)
            self.leaf(
                lv.RoundOpenedV1(
                    run=RUN,
                    round=number,
                    fragment=0,
                    base_version=base.number,
                    base_digest=base.theta_digest,
                    lr_position=0,
                    invitations=invited,
                    sentence="",
                ),
                lv.RoundSealedV1(run=RUN, round=number, updates=sealed, sentence=""),
                lv.RoundCommittedV1(
                    run=RUN,
                    round=number,
                    fragment=0,
                    version=number + 1,
                    theta_digest=result.theta_digest,
                    blob_digest=result.blob_digest,
                    blob_bytes=result.blob_bytes,
                    aggregate_norm=1.0,
                    contributions=(),
                    numerics_version=1,
                ),
                lv.StateRecordedV1(
                    run=RUN,
                    round=number,
                    fragment=0,
                    momentum_digest=result.momentum_digest,
                    residual_digest=result.residual_digest,
                ),
            )
            reader = self.states.open(RUN, 0, number + 1)
            assert reader is not None
            self.thetas[number + 1] = reader.read_chunk(0).theta

    def ask(self, version: int, *, site: str = "alpha", **changes: object) -> tuple[Snapshot, ...]:
        fields = {"run": RUN, "fragment": 0, "version": version, **changes}
        return self.snapshots.answer(self.state, site, [SnapshotWanted(**fields)])  # type: ignore[arg-type]

    def content(self, version: int) -> bytes:
        return bytes(little_endian_bytes(self.thetas[version]))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    found = Bench(tmp_path)
    found.commit(5)
    return found


@pytest.mark.parametrize("version", [4, 5])
def test_a_snapshot_is_the_version_to_the_bit(bench: Bench, version: int) -> None:
    (found,) = bench.ask(version)
    assert (found.run, found.fragment, found.version) == (RUN, 0, version)
    assert bench.blobs.read(found.blob_digest) == bench.content(version)
    assert bench.ask(version) == (found,)


def test_an_old_version_is_answered_with_the_oldest_that_is_kept(bench: Bench) -> None:
    (found,) = bench.ask(1)
    assert found.version == 4
    assert bench.blobs.read(found.blob_digest) == bench.content(4)


@pytest.mark.parametrize(
    "changes",
    [{"site": "beta"}, {"version": 0}, {"version": 9}, {"fragment": 1}, {"run": "run-2"}],
    ids=["no member", "theta_0", "no such version", "no such fragment", "no such run"],
)
def test_nothing_else_is_answered(bench: Bench, changes: dict[str, object]) -> None:
    assert bench.ask(**{"version": 5, **changes}) == ()  # type: ignore[arg-type]


def test_a_reverted_version_is_not_given(bench: Bench) -> None:
    bench.leaf(lv.RunRevertedV1(run=RUN, to_round=2, operator="o", command="r"))
    assert bench.ask(5) == ()
    assert bench.ask(3)[0].version == 3


def test_what_the_store_has_lost_is_computed_again(bench: Bench) -> None:
    for version in (2, 3, 4, 5):
        bench.states.delete(RUN, 0, version)
    (found,) = bench.ask(5)
    assert bench.blobs.read(found.blob_digest) == bench.content(5)


def test_what_the_store_has_wrong_is_computed_again(bench: Bench) -> None:
    with bench.states.create(RUN, 0, 5, SIZE) as writer:
        writer.write_chunk(0, THETA, THETA, THETA)
        writer.commit()
    (found,) = bench.ask(5)
    assert bench.blobs.read(found.blob_digest) == bench.content(5)


def test_where_none_can_be_made_the_site_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> str:
        raise CorruptObjectError("evidence is gone")

    monkeypatch.setattr(bench.states, "open", damaged)
    monkeypatch.setattr(Aggregation, "ensure", damaged)
    assert bench.ask(5) == (Snapshot(run=RUN, fragment=0, version=5, blob_digest=""),)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_newer_one_replaces_the_older(bench: Bench, restarted: bool) -> None:
    (older,) = bench.ask(5)
    bench.commit()
    if restarted:
        bench.snapshots = bench.start()
    bench.blobs.link_to(older.blob_digest, "out/blob")
    (newer,) = bench.ask(6)
    assert not bench.blobs.has(older.blob_digest)
    assert bench.blobs.has(newer.blob_digest)
    assert bench.fs.read("out/blob") == bench.content(5), "a mailbox's link keeps it"
    assert bench.fs.list(f"{SNAPSHOTS}/{RUN}") == ["0.json"]


def test_a_payload_with_the_bytes_of_a_snapshot_is_not_dropped_with_it(bench: Bench) -> None:
    (older,) = bench.ask(5)
    bench.commit(vector=lambda _: bench.thetas[5])
    bench.ask(6)
    assert bench.blobs.has(older.blob_digest), "it is evidence now"


def test_a_blob_that_is_gone_is_made_again(bench: Bench) -> None:
    (first,) = bench.ask(5)
    bench.blobs.delete(first.blob_digest)
    assert bench.ask(5) == (first,)
    assert bench.blobs.has(first.blob_digest)


def test_a_damaged_record_is_none(bench: Bench) -> None:
    bench.fs.write(f"{SNAPSHOTS}/{RUN}/0.json", b"{")
    assert bench.start().answer(bench.state, "alpha", [SnapshotWanted(run=RUN, fragment=0, version=5)])
