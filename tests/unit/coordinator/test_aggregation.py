# SPDX-License-Identifier: Apache-2.0
"""Carrying out `Aggregate` and `RecordState`: what is computed when, what is checked again, and from which copy."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save

from coordinator import aggregation as module
from coordinator.aggregation import Aggregation
from coordinator.inputs import RoundAggregated, StateDigested
from federation import aggregate, wire
from federation import leaves as lv
from federation.blobs.store import BlobStore
from federation.chunks import fragment_digest
from federation.codecs.payload import encode_vector
from federation.codecs.registry import get_codec
from federation.durable.real import RealFileSystem
from federation.errors import CorruptObjectError, NumericsMismatchError
from federation.golden import inputs
from federation.manifest import Manifest
from federation.rounds import Federation, Run, apply
from federation.state import background
from federation.state.tiered_store import TieredStateStore
from federation.testing.manifests import manifest_of, plan_of, table_of

SIZE, RUN = 300, "run-1"
THETA = inputs.usual(1, SIZE)
WAIT_SECONDS = 30


class Bench:
    """A run of one site and one fragment whose rounds are sealed, and aggregated by the real thing."""

    def __init__(self, root: Path) -> None:
        self.fs = RealFileSystem(root)
        self.blobs, self.states = BlobStore(self.fs), TieredStateStore(self.fs)
        plan = plan_of({"alpha": 4}, theta_digests=[fragment_digest(THETA)], num_rounds=99)
        manifest = manifest_of(plan, [table_of([("w", (SIZE,))])], momentum=0.9, up="int4", down="int4")
        theta = self.blobs.put(save({"w": THETA}))
        self.manifest: Manifest = replace(manifest, theta_blob=theta, snapshot_every_rounds=3)
        self.state = Federation()
        digest = self.blobs.put(wire.manifest_to_bytes(self.manifest))
        self.leaf(lv.RunCreatedV1(run=RUN, manifest_digest=digest, plan=plan, operator="o", command="c"))
        self.leaf(lv.RunApprovedV1(run=RUN, operator="o", command="a"))
        self.leaf(lv.RunStartedV1(run=RUN, operator="o", command="s"))
        self.aggregation = self.start()

    def start(self, *, in_background: bool = False, on_recorded: Callable[[], None] = lambda: None) -> Aggregation:
        """A coordinator process."""
        self.aggregation = Aggregation(
            blobs=self.blobs, states=self.states, in_background=in_background, on_recorded=on_recorded, num_threads=2
        )
        return self.aggregation

    @property
    def run(self) -> Run:
        return self.state.runs[RUN]

    def leaf(self, body: lv.Body) -> None:
        self.state = apply(self.state, lv.Leaf(at_us=1, body=body))

    def seal(self) -> int:
        """Opens and seals a round; returns its number."""
        number, base = self.run.next_round, self.run.heads()[0]
        payload = self.blobs.put(encode_vector(get_codec("int4"), inputs.usual(50 + number, SIZE)))
        sealed = (lv.SealedUpdate(site="alpha", weight=1.0, update_digest="22" * 32, payload_digest=payload),)
        invited = (lv.Invitation(site="alpha", allocation="a1", num_steps=4),)
        numbers = {"run": RUN, "round": number, "sentence": ""}
        opened = {"fragment": 0, "base_version": base.number, "base_digest": base.theta_digest, "lr_position": 0}
        self.leaf(lv.RoundOpenedV1(**numbers, **opened, invitations=invited))  # type: ignore[arg-type]
        self.leaf(lv.RoundSealedV1(**numbers, updates=sealed))  # type: ignore[arg-type]
        return number

    def aggregate(self, number: int) -> RoundAggregated:
        """Computes the commit, and appends its leaf."""
        found = self.aggregation.aggregate(self.run, self.manifest, number)
        fields = {name: getattr(found, name) for name in ("run", "round", "theta_digest", "blob_digest", "blob_bytes")}
        fields |= {"aggregate_norm": 1.0, "contributions": (), "numerics_version": 1}
        self.leaf(lv.RoundCommittedV1(**fields, fragment=0, version=number + 1))
        self.aggregation.prune(self.run)
        return found

    def record(self, number: int) -> StateDigested | None:
        """Asks for the digests, and appends their leaf."""
        found = self.aggregation.record(self.run, self.manifest, number, 0)
        if found is not None:
            digests = {"momentum_digest": found.momentum_digest, "residual_digest": found.residual_digest}
            self.leaf(lv.StateRecordedV1(run=RUN, round=number, fragment=0, **digests))
            self.aggregation.prune(self.run)
        return found

    def commit(self, count: int) -> None:
        for _ in range(count):
            number = self.seal()
            self.aggregate(number)
            self.record(number)

    def digests_of(self, version: int) -> list[str]:
        reader = self.states.open(RUN, 0, version)
        assert reader is not None
        return [fragment_digest(array) for array in reader.read_chunk(0)]

    def damage(self, tier: str, version: int) -> None:
        """Flips one bit of a stored theta."""
        name = ".mapped" if tier == "mapped" else ""
        base = self.fs.root / "state" / name / RUN / "0" / str(version)
        path = base / ("theta.f32" if tier == "mapped" else "theta/c/0")
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        with path.open("r+b") as file:
            file.write(data)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    found.aggregation.ensure(found.run, found.manifest, 0, 0)
    yield found
    found.aggregation.close()
    found.states.close()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Digests of even the smallest fragment are left for later, and are not begun before this event."""
    event, real = threading.Event(), aggregate.state_digests

    def digests(*arguments: Any, **options: Any) -> Any:
        assert event.wait(WAIT_SECONDS)
        return real(*arguments, **options)

    monkeypatch.setattr(module, "SMALL_ELEMENTS", 0)
    monkeypatch.setattr(module, "state_digests", digests)
    yield event
    event.set()


def test_the_recorded_digests_are_those_of_the_new_version(bench: Bench) -> None:
    number = bench.seal()
    aggregated = bench.aggregate(number)
    recorded = bench.record(number)
    assert recorded is not None
    found = [aggregated.theta_digest, recorded.momentum_digest, recorded.residual_digest]
    assert found == bench.digests_of(1)


def test_a_machine_that_computes_other_bits_commits_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ() -> None:
        raise NumericsMismatchError("other bits")

    monkeypatch.setattr(module, "require_golden_vectors", differ)
    number = bench.seal()
    with pytest.raises(NumericsMismatchError):
        bench.aggregate(number)
    assert bench.states.versions(RUN, 0) == [0]


def test_nobody_waits_for_the_digests_of_momentum_and_residual(bench: Bench, held: threading.Event) -> None:
    told = threading.Event()
    bench.start(in_background=True, on_recorded=told.set)
    number = bench.seal()
    aggregated = bench.aggregate(number)
    assert bench.record(number) is None
    assert bench.record(number) is None
    assert not told.is_set()
    held.set()
    assert told.wait(WAIT_SECONDS)
    recorded = bench.record(number)
    assert recorded is not None
    found = [aggregated.theta_digest, recorded.momentum_digest, recorded.residual_digest]
    assert found == bench.digests_of(1)


def test_digests_that_could_not_be_computed_are_computed_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, held: threading.Event
) -> None:
    held.set()
    told = threading.Event()
    bench.start(in_background=True, on_recorded=told.set)

    def damaged(*arguments: object, **options: object) -> None:
        raise CorruptObjectError("damaged")

    monkeypatch.setattr(module, "state_digests", damaged)
    number = bench.seal()
    bench.aggregate(number)
    assert told.wait(WAIT_SECONDS)
    recorded = bench.record(number)
    assert recorded is not None
    assert [recorded.momentum_digest, recorded.residual_digest] == bench.digests_of(1)[1:]


def test_a_restart_before_the_record_computes_the_same(bench: Bench, held: threading.Event) -> None:
    bench.start(in_background=True)
    number = bench.seal()
    bench.aggregate(number)
    bench.start(in_background=True)  # the process before never recorded it
    recorded = bench.record(number)
    assert recorded is not None
    assert [recorded.momentum_digest, recorded.residual_digest] == bench.digests_of(1)[1:]


class Sites:
    """What a network says of how long no site was served; ends waiting for so many looks."""

    def __init__(self) -> None:
        self.idle_seconds, self._num_looks, self._changed = 0.0, 0, threading.Condition()

    def look(self) -> float:
        with self._changed:
            self._num_looks += 1
            self._changed.notify_all()
        return self.idle_seconds

    def wait_for_looks(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._num_looks >= count, WAIT_SECONDS)


def serving(bench: Bench, monkeypatch: pytest.MonkeyPatch, told: threading.Event) -> Sites:
    """A network that serves sites all the time, and digests that wait for it without end."""
    sites = Sites()
    bench.start(in_background=True, on_recorded=told.set).courtesy.idle_seconds = sites.look
    monkeypatch.setattr(background, "MAX_DELAY_SECONDS", 10 * WAIT_SECONDS)
    monkeypatch.setattr(background, "QUIET_SECONDS", 0.01)
    return sites


def test_digests_give_way_to_sites_that_are_served(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, held: threading.Event
) -> None:
    held.set()
    told = threading.Event()
    sites = serving(bench, monkeypatch, told)
    bench.aggregate(bench.seal())
    sites.wait_for_looks(5)
    assert not told.is_set()
    sites.idle_seconds = 0.01
    assert told.wait(WAIT_SECONDS)


def test_digests_that_the_next_commit_waits_for_do_not_give_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, held: threading.Event
) -> None:
    held.set()
    told = threading.Event()
    sites = serving(bench, monkeypatch, told)
    number = bench.seal()
    bench.aggregate(number)
    sites.wait_for_looks(3)
    assert bench.record(number) is None
    bench.seal()
    bench.record(number)
    assert told.wait(WAIT_SECONDS)


def test_digests_give_way_only_so_long(bench: Bench, monkeypatch: pytest.MonkeyPatch, held: threading.Event) -> None:
    held.set()
    told = threading.Event()
    serving(bench, monkeypatch, told)
    monkeypatch.setattr(background, "MAX_DELAY_SECONDS", 0.05)
    bench.aggregate(bench.seal())
    assert told.wait(WAIT_SECONDS)


def expected_bases(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each commit from here on checks its base."""
    seen: list[bool] = []
    real = aggregate.commit_round

    def commit(*arguments: Any, **more: Any) -> Any:
        seen.append(more["expected"] is not None)
        return real(*arguments, **more)

    monkeypatch.setattr(module, "commit_round", commit)
    return seen


def test_a_base_is_checked_unless_this_process_made_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = expected_bases(bench, monkeypatch)
    bench.commit(3)
    assert seen == [True, False, False]
    bench.start()
    bench.commit(2)
    assert seen == [True, False, False, True, False]


def test_a_base_that_was_pruned_is_checked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.commit(6)
    seen = expected_bases(bench, monkeypatch)
    bench.leaf(lv.RunRevertedV1(run=RUN, to_round=2, operator="o", command="r"))
    bench.commit(1)
    assert bench.run.versions[0][-2].number == 3
    assert seen == [True, True], "the base is gone, and rebuilt from an older one"


def test_a_damaged_mapped_base_gives_way_to_the_durable_one(bench: Bench) -> None:
    bench.commit(3)
    bench.damage("mapped", 3)
    bench.start()
    assert bench.aggregation.ensure(bench.run, bench.manifest, 0, 3) == 0
    assert bench.digests_of(3)[0] == bench.run.heads()[0].theta_digest
    assert bench.states.mapped.versions(RUN, 0) == [2]


def test_with_both_copies_damaged_it_is_computed_again(bench: Bench) -> None:
    bench.commit(3)
    bench.damage("mapped", 3)
    bench.damage("durable", 3)
    bench.start()
    assert bench.aggregation.ensure(bench.run, bench.manifest, 0, 3) == 1
    assert bench.digests_of(3)[0] == bench.run.heads()[0].theta_digest


def test_after_a_power_loss_the_rounds_since_the_durable_version_are_computed_again(bench: Bench) -> None:
    bench.commit(5)
    head = bench.digests_of(5)
    bench.states.close()
    bench.fs.remove_tree("state/.mapped")
    bench.states = TieredStateStore(bench.fs)
    bench.start()
    assert bench.states.versions(RUN, 0) == [0, 3]
    assert bench.aggregation.ensure(bench.run, bench.manifest, 0, 5) == 2
    assert bench.digests_of(5) == head


def test_a_long_rebuild_keeps_few_versions(bench: Bench) -> None:
    bench.commit(5)
    bench.states.close()
    bench.fs.remove_tree("state")
    bench.states = TieredStateStore(bench.fs)
    bench.start()
    assert bench.aggregation.ensure(bench.run, bench.manifest, 0, 5) == 5
    assert bench.states.mapped.versions(RUN, 0) == [4, 5]
    assert bench.states.durable.versions(RUN, 0) == [0, 3]


def test_rebuilding_an_old_version_leaves_the_head_alone(bench: Bench) -> None:
    """A snapshot of an older version is made while rounds go on."""
    bench.commit(5)
    assert bench.aggregation.ensure(bench.run, bench.manifest, 0, 2) == 2
    assert {4, 5} <= set(bench.states.mapped.versions(RUN, 0))
    assert bench.digests_of(2)[0] == bench.run.versions[0][2].theta_digest


def test_the_tiers_keep_what_they_should(bench: Bench) -> None:
    bench.commit(7)
    assert bench.states.mapped.versions(RUN, 0) == [6, 7]
    assert bench.states.durable.versions(RUN, 0) == [0, 6]
