# SPDX-License-Identifier: Apache-2.0
"""One agent over real files, a real ledger and real mailboxes, with a tiny job process; the coordinator is the test."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from one_site import CONSORTIUM, OTHER, RUN, SITE, OneSite, small_manifest
from tiny_job import payload_of

from federation import dsse, notes, wire
from federation import leaves as lv
from federation.durable.real import RealFileSystem
from federation.errors import CorruptObjectError
from federation.leaves import Reason
from federation.merkle import blob_digest
from federation.messages import (
    AllocationState,
    Cosignature,
    EvaluationOffer,
    ManifestAnswer,
    RoundDeclined,
    SiteFacts,
    SiteStatus,
    UpdateOffer,
)
from site_agent import answers, layout
from site_agent.jobs import OutcomeFile, OutcomeKind, read_record
from site_agent.policy import PerDay, Policy

pytestmark = pytest.mark.processes


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OneSite]:
    world = OneSite(RealFileSystem(tmp_path / "coordinator"), RealFileSystem(tmp_path / "site"), tmp_path / "site")
    yield world
    for run in world.agent.state.allocations.values():
        for allocation in run:
            world.launcher.cancel(allocation.handle, force=True)


def updates(world: OneSite) -> list[Any]:
    public = world.consortium.public(f"site/{SITE}/update")
    offers = world.coordinator.of(UpdateOffer)
    return [wire.update_from_bytes(dsse.open_envelope(o.signed_update, dsse.UPDATE_TYPE, public)) for o in offers]


def ready(world: OneSite) -> bool:
    reports = world.coordinator.of(SiteStatus)
    return bool(reports) and any(a.state is AllocationState.READY for a in reports[-1].allocations)


def test_a_whole_run(world: OneSite) -> None:
    digest = world.coordinator.create()
    (answer,) = world.until(lambda: world.coordinator.of(ManifestAnswer))
    assert (answer.accepted, answer.manifest_digest) == (True, digest)
    world.coordinator.start()
    world.until(lambda: ready(world))
    for number in range(3):
        world.coordinator.open(number)
        world.until(lambda number=number: len(updates(world)) == number + 1)
        update = updates(world)[-1]
        assert (update.round, update.consortium, update.allocation) == (number, CONSORTIUM, "a1")
        assert update.payload_digest == blob_digest(payload_of(number))
        assert world.coordinator.blobs.read(update.payload_digest) == payload_of(number)
        world.coordinator.commit(number, update.payload_digest)
        world.coordinator.cosign_as(OTHER)
        world.coordinator.tell()
        path = layout.run_paths(RUN).outcome(number)
        world.until(lambda path=path: world.fs.exists(path))
        outcome = read_record(world.fs, path, OutcomeFile)
        assert outcome is not None
        assert (outcome.kind, outcome.version) == (OutcomeKind.COMMITTED, number + 1)
        assert outcome.listed_payload_digest == update.payload_digest
        assert Path(outcome.blob_path).read_bytes() == f"blob of round {number}".encode()
    world.coordinator.append(lv.RunCompletedV1(run=RUN))
    world.until(lambda: len(world.coordinator.of(EvaluationOffer)) == 2)  # version 0 and the end
    world.until(lambda: world.agent.state.allocations[RUN][-1].end)
    assert [a.end.reason for a in world.agent.state.allocations[RUN] if a.end] == ["stopped"]
    payload = blob_digest(payload_of(0))
    world.until(lambda: not world.agent.blobs.has(payload))  # witnessed, so dropped


def test_the_report_says_how_long_messages_travel(world: OneSite) -> None:
    world.coordinator.create()
    world.until(lambda: world.coordinator.of(SiteStatus))
    first = world.coordinator.of(SiteStatus)[0]
    assert (first.measured_round_trip_seconds, first.declared_round_trip_seconds) == (0, 0), "nothing was timed yet"
    world.until(lambda: world.agent.round_trips.usual_seconds > 0)
    measured = world.agent.round_trips.usual_seconds
    world.now += 60.0  # the next heartbeat
    world.until(lambda: world.coordinator.of(SiteStatus)[-1].measured_round_trip_seconds >= measured)


def test_facts_go_with_reports_and_are_no_reason_for_one(world: OneSite) -> None:
    world.coordinator.create()
    world.until(lambda: world.coordinator.of(ManifestAnswer))
    world.steps(5)
    sent = world.coordinator.of(SiteStatus)
    assert sent[-1].facts is not None
    assert (sent[-1].facts.courier, sent[-1].facts.may_start) == ("spool", True)
    world.agent.executor.facts = lambda report, now_us: SiteFacts(waiting_seconds=now_us // 1000)
    world.steps(20)
    assert len(world.coordinator.of(SiteStatus)) == len(sent)
    world.now += 60.0  # the next heartbeat
    world.until(lambda: len(world.coordinator.of(SiteStatus)) > len(sent))
    assert world.coordinator.of(SiteStatus)[-1].facts.waiting_seconds > 0


def test_facts_that_cannot_go_out_hold_up_no_report(world: OneSite, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(report: SiteStatus, now_us: int) -> SiteFacts:
        raise CorruptObjectError("nothing to see")

    world.coordinator.create()
    for facts, why in ((lambda *_: SiteFacts(torch="of my own"), "SiteFacts.torch"), (refuse, "nothing to see")):
        world.agent.executor.facts, known = facts, len(world.coordinator.of(SiteStatus))
        world.now += 60.0
        world.until(lambda known=known: len(world.coordinator.of(SiteStatus)) > known)
        assert world.coordinator.of(SiteStatus)[-1].facts is None
        assert any(why in record.getMessage() for record in caplog.records)
    assert not any("of my own" in record.getMessage() for record in caplog.records)


def test_the_report_says_what_the_site_declares(tmp_path: Path) -> None:
    coordinator, site = RealFileSystem(tmp_path / "coordinator"), RealFileSystem(tmp_path / "site")
    world = OneSite(coordinator, site, tmp_path / "site", settings={"round_trip_seconds": 1799.5})
    world.coordinator.create()
    world.until(lambda: world.coordinator.of(SiteStatus))
    assert world.coordinator.of(SiteStatus)[-1].declared_round_trip_seconds == 1800


def test_the_ledger_is_cosigned(world: OneSite) -> None:
    world.coordinator.create()
    world.until(lambda: world.coordinator.of(Cosignature))
    name = notes.witness_name(CONSORTIUM, SITE)
    cosignature = world.coordinator.of(Cosignature)[-1]
    public = world.consortium.public(f"site/{SITE}/witness")
    assert notes.verify_cosignature(cosignature.note, name, public) == int(world.now)
    assert notes.peek_checkpoint(cosignature.note).size == world.coordinator.ledger.size


def test_a_round_waits_for_a_quorum_of_witnesses(world: OneSite) -> None:
    world.coordinator.create()
    approved = lv.RunApprovedV1(run=RUN, operator="olga", command="c2")
    world.coordinator.append(approved, lv.RunStartedV1(run=RUN, operator="olga", command="c3"))
    world.until(lambda: ready(world))
    world.coordinator.open(0)
    world.until(lambda: world.coordinator.of(SiteStatus)[-1].waits_for_witnesses)
    world.steps(20)
    assert not world.agent.state.issued
    world.coordinator.cosign_as(OTHER)
    world.coordinator.tell()
    world.until(lambda: updates(world))


def hostile(name: str) -> Any:
    good = small_manifest()
    text = "$(touch owned)\n#SBATCH --wrap='rm -rf /'\n../../x"
    return {
        "a huge H": replace(good, plan=replace(good.plan, num_inner_steps=10**9)),
        "a command as trainer": replace(good, trainer=replace(good.trainer, name=text)),
        "a path as trainer": replace(good, trainer=replace(good.trainer, name="../../bin/sh")),
        "a codec with newlines": replace(good, codecs=replace(good.codecs, up=text)),
        "a path as parameter": replace(
            good, fragments=(replace(good.fragments[0], entries=(replace(good.fragments[0].entries[0], name=text),)),)
        ),
        "no initial model": replace(good, theta_blob=""),
        "another consortium": replace(good, consortium="evil"),
        "an unknown trainer": replace(good, trainer=replace(good.trainer, name="miner")),
    }[name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a huge H", Reason.MANIFEST_INVALID),
        ("a command as trainer", Reason.MANIFEST_INVALID),
        ("a path as trainer", Reason.MANIFEST_INVALID),
        ("a codec with newlines", Reason.MANIFEST_INVALID),
        ("a path as parameter", Reason.MANIFEST_INVALID),
        ("no initial model", Reason.MANIFEST_INVALID),
        ("another consortium", Reason.POLICY),
        ("an unknown trainer", Reason.UNKNOWN_TRAINER),
    ],
)
def test_a_hostile_manifest_is_declined_and_nothing_starts(world: OneSite, name: str, reason: Reason) -> None:
    world.coordinator.create(hostile(name))
    world.coordinator.start()
    (answer,) = world.until(lambda: world.coordinator.of(ManifestAnswer))
    assert (answer.accepted, answer.reason) == (False, reason)
    assert answer.sentence.isprintable()
    world.coordinator.open(0)
    (declined,) = world.until(lambda: world.coordinator.of(RoundDeclined))
    assert declined.reason is Reason.POLICY
    world.steps(5)
    assert not world.agent.state.allocations
    assert world.fs.list("spool/allocations") == []


@pytest.mark.parametrize("data", [b"junk", b"\x00" * 100])
def test_a_manifest_that_is_none_is_declined(world: OneSite, data: bytes) -> None:
    world.coordinator.create(data=data)
    (answer,) = world.until(lambda: world.coordinator.of(ManifestAnswer))
    assert (answer.accepted, answer.reason) == (False, Reason.MANIFEST_INVALID)


def test_a_manifest_that_says_something_else_than_the_ledger_is_declined(world: OneSite) -> None:
    manifest = small_manifest()
    other = replace(manifest, plan=replace(manifest.plan, num_rounds=2))
    world.coordinator.create(manifest, data=wire.manifest_to_bytes(other))
    (answer,) = world.until(lambda: world.coordinator.of(ManifestAnswer))
    assert (answer.accepted, answer.reason) == (False, Reason.MANIFEST_INVALID)


def test_refuse_wins_and_stops_a_running_job(world: OneSite) -> None:
    world.coordinator.create()
    world.coordinator.start()
    world.until(lambda: ready(world))
    answers.refuse(world.fs, RUN)
    world.until(lambda: len(world.coordinator.of(ManifestAnswer)) == 2)
    assert not world.coordinator.of(ManifestAnswer)[-1].accepted
    world.until(lambda: world.agent.state.allocations[RUN][-1].end)
    world.coordinator.open(0)
    world.until(lambda: world.coordinator.of(RoundDeclined))
    world.steps(10)
    assert len(world.agent.state.allocations[RUN]) == 1
    assert not updates(world)


def test_ask_waits_for_accept(tmp_path: Path) -> None:
    policy = Policy(unlisted="ask", trainers={"reference": "ab" * 32}, per_day=PerDay(gpu_hours=1.0, bytes=10**9))
    world = OneSite(RealFileSystem(tmp_path / "c"), RealFileSystem(tmp_path / "s"), tmp_path / "s", policy=policy)
    digest = world.coordinator.create()
    world.until(lambda: world.agent.blobs.has(digest))
    world.steps(5)
    assert not world.coordinator.of(ManifestAnswer)
    assert answers.accept(world.fs, RUN).waits_for_operator
    (answer,) = world.until(lambda: world.coordinator.of(ManifestAnswer))
    assert answer.accepted


def test_a_killed_agent_adopts_its_running_job(world: OneSite) -> None:
    world.coordinator.create()
    world.coordinator.start()
    world.until(lambda: ready(world))
    world.start_agent(new_epoch=True)
    world.coordinator.open(0)
    world.until(lambda: updates(world))
    assert [a.number for a in world.agent.state.allocations[RUN]] == [1]
    assert world.agent.state.epoch == 2


def test_a_killed_job_is_followed_by_another_one_that_finishes_the_round(world: OneSite) -> None:
    world.coordinator.create()
    world.coordinator.start()
    world.until(lambda: ready(world))
    pid = int(world.agent.state.allocations[RUN][-1].handle.split(":")[-2])
    os.kill(pid, signal.SIGKILL)
    world.until(lambda: world.agent.state.allocations[RUN][0].end)
    world.coordinator.open(0)
    world.now += 10  # past the back-off
    world.until(lambda: updates(world))
    assert updates(world)[0].allocation == "a2"


def test_wanted_blobs_are_asked_for(world: OneSite) -> None:
    manifest = small_manifest(theta_blob="11" * 32)  # nobody has it, so no job can start
    data = wire.manifest_to_bytes(manifest)
    digest = world.coordinator.blobs.put(data)
    world.coordinator.append(
        lv.RunCreatedV1(run=RUN, manifest_digest=digest, plan=manifest.plan, operator="olga", command="c1")
    )
    world.until(lambda: world.coordinator.of(SiteStatus) and world.coordinator.of(SiteStatus)[-1].blobs_wanted)
    assert world.coordinator.of(SiteStatus)[-1].blobs_wanted == (digest,)
    world.coordinator.mailbox.post(world.coordinator.ledger.tail(1), blobs=(digest,))
    world.until(lambda: world.coordinator.of(ManifestAnswer))
    world.until(lambda: world.coordinator.of(SiteStatus)[-1].blobs_wanted == (manifest.theta_blob,))
    world.coordinator.start()
    world.steps(10)
    assert not world.agent.state.allocations


def test_another_history_is_refused_and_stops_all_new_work(world: OneSite) -> None:
    world.coordinator.create()
    world.coordinator.start()
    world.until(lambda: ready(world))
    other = type(world.coordinator)(RealFileSystem(world.root.parent / "c3"), world.consortium)
    other.create(small_manifest(alpha=0.5))
    other.start()
    other.open(0)
    world.coordinator.mailbox.post(other.ledger.tail(0))
    world.until(lambda: world.agent.fault)
    before = len(world.coordinator.of(Cosignature))
    world.coordinator.open(0)
    world.steps(20)
    assert not world.agent.state.issued
    assert len(world.coordinator.of(Cosignature)) == before
    assert world.agent.copy.forked
    world.start_agent()
    assert world.agent.fault


def test_a_leaf_that_does_not_fit_stops_all_new_work_also_after_a_restart(world: OneSite) -> None:
    world.coordinator.create()
    world.coordinator.start()
    world.until(lambda: ready(world))
    size = world.agent.federation.size
    twice = lv.RunStartedV1(run=RUN, operator="olga", command="c9")
    first = world.coordinator.ledger.append([lv.Leaf(at_us=1, body=twice), lv.Leaf(at_us=1, body=twice)])
    world.coordinator.mailbox.post(world.coordinator.ledger.tail(first))
    world.until(lambda: world.agent.fault)
    world.coordinator.open(0)
    world.until(lambda: world.agent.copy.size == world.coordinator.ledger.size)
    assert world.agent.federation.size == size
    world.start_agent()
    world.steps(3)
    assert "does not fit" in world.agent.fault
    assert world.agent.federation.size == size
    assert all(c.size <= size for c in world.coordinator.of(Cosignature))


def test_a_message_that_is_no_ledger_changes_nothing(world: OneSite) -> None:
    world.coordinator.mailbox.post(SiteStatus(ledger_size=10**9))
    world.coordinator.create()
    world.until(lambda: world.coordinator.of(ManifestAnswer))
    assert not world.agent.fault
