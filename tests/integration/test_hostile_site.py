# SPDX-License-Identifier: Apache-2.0
"""A site with valid keys that means harm, and junk from people without keys: the round goes on without them."""

import logging
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_site import BOX, EVIL, HostileSite, HostileWorld
from majority_world import MajorityWorld, files_of
from simulator.checks import check
from simulator.settings import CONSORTIUM, OPERATOR, RUN, Setting

from federation import dsse, signing, wire
from federation.blobs.store import BlobStore
from federation.durable.real import RealFileSystem
from federation.leaves import (
    EvaluationRecordedV1,
    LanguageScore,
    Outcome,
    Reason,
    RoundCommittedV1,
    RoundSealedV1,
    TaskScore,
    TasksEvaluatedV1,
)
from federation.ledger.log import Ledger
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.layout import message_name
from federation.mailbox.mailbox import Mailbox
from federation.merkle import blob_digest
from federation.messages import (
    AllocationReport,
    AllocationState,
    Command,
    CommandKind,
    Cosignature,
    Evaluation,
    EvaluationOffer,
    Header,
    LedgerTail,
    ManifestAnswer,
    Message,
    ParticipationReport,
    Phase,
    RoundDeclined,
    TaskEvaluation,
    Telemetry,
    Update,
    UpdateOffer,
)
from federation.rounds import Round, RunState
from federation.v1 import update_pb2
from federation.wire.convert import to_proto

MAX_STEPS = 9000
OTHER = "ab" * 32
Change = Callable[[Update], Update]


def begun() -> MajorityWorld:
    """Two rounds to go, the first of them open."""
    world = MajorityWorld(setting=Setting(patient=False, codec="fp32"))
    while not (world.coordinator and world.state_of_run() and world.run_now.open_rounds):
        world.step()
    return world


def finished(world: MajorityWorld) -> MajorityWorld:
    """Runs to the end; every round must have been committed by the two honest sites at least."""
    world.run(MAX_STEPS)
    run = world.run_now
    assert run.state is RunState.COMPLETED, run.pause
    assert [r.commit is not None for r in run.rounds.values()] == [True] * world.setting.num_rounds
    for found in run.rounds.values():
        assert {"site-a", "site-b"} <= {u.site for u in found.sealed}
    return world


def sealed_of(world: MajorityWorld) -> set[str]:
    """Every site that any seal lists."""
    return {update.site for seal in world.bodies(RoundSealedV1) for update in seal.updates}


# --- one bad update ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda u: replace(u, round=u.round + 7), Reason.WRONG_ROUND),
        (lambda u: replace(u, round=2**64 - 1), Reason.WRONG_ROUND),
        (lambda u: replace(u, manifest_digest=OTHER), Reason.WRONG_MANIFEST),
        (lambda u: replace(u, consortium="evil"), Reason.WRONG_MANIFEST),
        (lambda u: replace(u, base_digest=OTHER), Reason.STALE_BASE),
        (lambda u: replace(u, fragment=1), Reason.WRONG_FRAGMENT),
        (lambda u: replace(u, fragment=2**64 - 1), Reason.WRONG_FRAGMENT),
        (lambda u: replace(u, payload_bytes=u.payload_bytes - 1), Reason.WRONG_LENGTH),
        (lambda u: replace(u, codec="$(reboot)"), Reason.WRONG_CODEC),
        (lambda u: replace(u, num_steps=10**9), Reason.WRONG_STEPS),
        (lambda u: replace(u, weight_tokens=2**64 - 1), Reason.WRONG_TOKENS),
        (lambda u: replace(u, new_tokens=10**9), Reason.WRONG_TOKENS),
        (lambda u: replace(u, allocation="a0"), Reason.WRONG_ALLOCATION),
    ],
)
def test_an_update_for_something_else_is_rejected_and_the_rounds_go_on(change: Change, reason: Reason) -> None:
    def deed(site: HostileSite, found: Round) -> None:
        payload = site.payload(found)
        site.offer(change(site.descriptor(found, payload)), payload)

    world = finished(HostileWorld(deed=deed))
    first = world.verdicts(EVIL)[0]
    assert (first.outcome, first.reason) == (Outcome.REJECTED, reason)
    assert first.sentence.isprintable()
    assert EVIL not in sealed_of(world)


def absurd(scale: bytes) -> Callable[[bytes], bytes]:
    """The first block's scale (bf16, little-endian) replaced."""
    return lambda payload: scale + payload[2:]


@pytest.mark.parametrize(
    ("codec", "spoil", "reason"),
    [
        ("fp32", lambda p: p[:8] + struct.pack("<f", np.nan) + p[12:], Reason.NON_FINITE),
        ("fp32", lambda p: p[:8] + struct.pack("<f", -np.inf) + p[12:], Reason.NON_FINITE),
        ("bf16", lambda p: p[:8] + b"\xc0\x7f" + p[10:], Reason.NON_FINITE),
        ("fp32", lambda p: p[:8] + struct.pack("<f", 3e38) + p[12:], Reason.NORM_TOO_LARGE),
        ("int4", absurd(b"\x00\x50"), Reason.NORM_TOO_LARGE),
        ("int8", absurd(b"\x00\x50"), Reason.NORM_TOO_LARGE),
        ("int4", absurd(b"\x7f\x7f"), Reason.MALFORMED_PAYLOAD),
        ("int4", absurd(b"\x80\x7f"), Reason.MALFORMED_PAYLOAD),
        ("int8", absurd(b"\xc0\x7f"), Reason.MALFORMED_PAYLOAD),
        ("int8", absurd(b"\x80\xbf"), Reason.MALFORMED_PAYLOAD),
        ("int4", lambda p: p[:2] + b"\x88" + p[3:], Reason.MALFORMED_PAYLOAD),
    ],
)
def test_a_poisoned_payload_is_rejected(codec: str, spoil: Callable[[bytes], bytes], reason: Reason) -> None:
    def deed(site: HostileSite, found: Round) -> None:
        payload = spoil(site.payload(found))
        site.offer(site.descriptor(found, payload), payload)

    world = finished(HostileWorld(deed=deed, setting=Setting(patient=False, codec=codec, num_rounds=1)))
    assert [(v.outcome, v.reason) for v in world.verdicts(EVIL)] == [(Outcome.REJECTED, reason)]
    assert EVIL not in sealed_of(world)


@pytest.mark.parametrize(
    ("cut", "reason"), [(lambda p: p[:-4], Reason.MALFORMED_PAYLOAD), (lambda p: p + b"\0", Reason.MALFORMED_PAYLOAD)]
)
def test_a_payload_of_another_length_than_it_claims(cut: Callable[[bytes], bytes], reason: Reason) -> None:
    def deed(site: HostileSite, found: Round) -> None:
        payload = site.payload(found)
        spoilt = cut(payload)
        claim = replace(site.descriptor(found, spoilt), payload_bytes=len(payload))
        site.offer(claim, spoilt)

    world = finished(HostileWorld(deed=deed))
    assert {(v.outcome, v.reason) for v in world.verdicts(EVIL)} == {(Outcome.REJECTED, reason)}


def test_an_update_of_a_run_that_the_site_is_not_in_or_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    def deed(site: HostileSite, found: Round) -> None:
        for run in ("private", "nowhere"):
            payload = site.payload(found)
            site.offer(replace(site.descriptor(found, payload), run=run), payload)
        payload = site.payload(found)
        site.offer(site.descriptor(found, payload), payload)

    world = HostileWorld(deed=deed)
    members = tuple(m for m in world.manifest.plan.members if m.site != EVIL)
    plan = replace(world.manifest.plan, members=members)
    blobs = BlobStore(world.operator_fs)
    digest = blobs.put(wire.manifest_to_bytes(replace(world.manifest, run="private", plan=plan)))
    given = (digest, world.manifest.theta_blob)
    body = Command(id="c9", kind=CommandKind.RUN_CREATE, subject="private", manifest_digest=digest, blobs=given)
    world.operator.post(body, blobs=given)
    finished(world)
    assert world.replies["c9"].ok
    assert all(v.run == RUN and v.outcome is Outcome.ADMITTED for v in world.verdicts(EVIL))
    assert "nowhere" in caplog.text


# --- two answers ------------------------------------------------------------------------------------------------------


def second_digest(site: HostileSite, found: Round) -> list[str]:
    first = site.payload(found)
    second = bytes(len(first))
    return [site.offer(site.descriptor(found, p), p) for p in (first, second)]


def second_weight(site: HostileSite, found: Round) -> list[str]:
    payload = site.payload(found)
    update = site.descriptor(found, payload)
    return [site.offer(replace(update, weight_tokens=n), payload) for n in (update.weight_tokens, 1)]


@pytest.mark.parametrize("lie", [second_digest, second_weight])
def test_of_two_answers_the_first_stands_and_both_are_kept(lie: Callable[..., list[str]]) -> None:
    kept: dict[int, list[str]] = {}

    def deed(site: HostileSite, found: Round) -> None:
        kept[found.number] = lie(site, found)

    world = finished(HostileWorld(deed=deed))
    assert world.coordinator is not None
    expected = [(Outcome.ADMITTED, Reason.NONE), (Outcome.EQUIVOCATION, Reason.SECOND_DIGEST)]
    for number, evidence in kept.items():
        found = [v for v in world.verdicts(EVIL) if v.round == number]
        assert [(v.outcome, v.reason) for v in found] == expected
        assert [v.update_digest for v in found] == evidence
        signed = [world.coordinator.blobs.read(digest) for digest in evidence]
        public = world.keys.public(f"site/{EVIL}/update")
        updates = [wire.update_from_bytes(dsse.open_envelope(raw, dsse.UPDATE_TYPE, public)) for raw in signed]
        assert updates[0] != updates[1]
        assert updates[0].round == updates[1].round == number
        listed = next(u for u in world.run_now.rounds[number].sealed if u.site == EVIL)
        assert listed.update_digest == evidence[0]
    check(world)


# --- many messages ----------------------------------------------------------------------------------------------------


def flood_of_updates(site: HostileSite, found: Round) -> None:
    payload = site.payload(found)
    update = site.descriptor(found, payload)
    for number in range(150):
        other = blob_digest(b"%d" % number)
        site.offer(replace(update, round=number + 5, payload_digest=other), None)
        site.offer(replace(update, base_digest=other, payload_digest=other), None)


def flood_of_evaluations(site: HostileSite, found: Round) -> None:
    for number in range(150):
        evaluate(site, Evaluation(run=RUN, site=EVIL, request=number, num_commits=0, versions=(0,), scores=()))
        evaluate(site, Evaluation(run=RUN, site=EVIL, request=0, num_commits=number, versions=(0,), scores=()))


def flood_of_answers(site: HostileSite, found: Round) -> None:
    digest = site.federation.runs[RUN].manifest_digest
    for number in range(300):
        accepted, reason = bool(number % 2), (Reason.NONE, Reason.POLICY, Reason.BUDGET)[number % 3]
        site.post(ManifestAnswer(run=RUN, manifest_digest=digest, accepted=accepted, reason=reason, sentence="x"))
        site.post(RoundDeclined(run=RUN, round=number, reason=reason, sentence="x"))


def evaluate(site: HostileSite, evaluation: Evaluation) -> None:
    payload = wire.evaluation_to_bytes(evaluation)
    site.post(EvaluationOffer(signed_evaluation=dsse.sign_envelope(dsse.EVALUATION_TYPE, payload, site.update_key)))


@pytest.mark.parametrize(
    ("flood", "most"),
    [
        (flood_of_updates, 2 * DEFAULT_LIMITS.max_verdicts_per_site_and_round),
        (flood_of_evaluations, 1),
        (flood_of_answers, 20),
    ],
)
def test_hundreds_of_messages_cause_a_bounded_number_of_leaves_and_blobs(
    flood: Callable[[HostileSite, Round], None], most: int
) -> None:
    def deed(site: HostileSite, found: Round) -> None:
        if found.number == 0:
            flood(site, found)

    world, quiet = finished(HostileWorld(deed=deed)), finished(HostileWorld())
    assert world.coordinator is not None
    assert quiet.coordinator is not None
    # The quiet site causes a `missed` verdict instead in each of the two rounds.
    assert world.coordinator.ledger.size <= quiet.coordinator.ledger.size + most
    num_blobs = [len(list(w.coordinator.blobs.digests())) for w in (world, quiet) if w.coordinator]
    assert num_blobs[0] <= num_blobs[1] + most


def test_evidence_of_what_causes_no_leaf_is_not_kept() -> None:
    offered: list[str] = []

    def deed(site: HostileSite, found: Round) -> None:
        update = site.descriptor(found, site.payload(found))
        offered.extend(site.offer(replace(update, round=n + 5), None) for n in range(20))

    world = finished(HostileWorld(deed=deed))
    assert world.coordinator is not None
    kept = [digest for digest in offered if world.coordinator.blobs.has(digest)]
    assert sorted(kept) == sorted(v.update_digest for v in world.verdicts(EVIL) if v.update_digest)


# --- messages that would take a careless coordinator down -------------------------------------------------------------


@pytest.mark.parametrize("digest", [blob_digest(b"never sent"), ""])
def test_an_update_without_its_payload_causes_no_leaf(digest: str, caplog: pytest.LogCaptureFixture) -> None:
    def deed(site: HostileSite, found: Round) -> None:
        site.offer(replace(site.descriptor(found, site.payload(found)), payload_digest=digest), None)

    world = finished(HostileWorld(deed=deed))
    assert {v.outcome for v in world.verdicts(EVIL)} == {Outcome.MISSED}
    assert "without its payload" in caplog.text


SCORE = LanguageScore(language="de", bits_per_byte=1.0, num_bytes=1)


@pytest.mark.parametrize(
    "scores",
    [
        (replace(SCORE, language="x" * (wire.documents.MAX_EVALUATION_BYTES - 60)),),
        (replace(SCORE, language="$(reboot)"),),
        (replace(SCORE, bits_per_byte=float("nan")),),
        (replace(SCORE, bits_per_byte=-1.0),),
        (SCORE, SCORE),
    ],
)
def test_scores_that_no_leaf_may_hold(scores: tuple[LanguageScore, ...]) -> None:
    def deed(site: HostileSite, found: Round) -> None:
        evaluate(site, Evaluation(run=RUN, site=EVIL, request=0, num_commits=0, versions=(0,), scores=scores))

    world = finished(HostileWorld(deed=deed))
    assert EVIL not in {body.site for body in world.bodies(EvaluationRecordedV1)}
    assert {"site-a", "site-b"} <= {body.site for body in world.bodies(EvaluationRecordedV1)}


def test_valid_scores_are_recorded_once() -> None:
    def deed(site: HostileSite, found: Round) -> None:
        for _ in range(3):
            evaluate(site, Evaluation(run=RUN, site=EVIL, request=0, num_commits=0, versions=(0,), scores=(SCORE,)))

    world = finished(HostileWorld(deed=deed))
    assert [b.num_commits for b in world.bodies(EvaluationRecordedV1) if b.site == EVIL] == [0]


TASK = TaskScore(task="quiz", language="de", task_version="1", metric="acc", num_items=9, score=0.5, low=0.2, high=0.8)


def score_tasks(site: HostileSite, *scores: TaskScore) -> None:
    """Offers scores of tasks, whatever they are."""
    found = TaskEvaluation(run=RUN, site=EVIL, request=0, num_commits=0, versions=(0,), scores=scores)
    payload = update_pb2.TaskEvaluation()
    to_proto(found, payload)  # also what our own writer would refuse for its size
    data = payload.SerializeToString(deterministic=True)
    site.post(EvaluationOffer(signed_evaluation=dsse.sign_envelope(dsse.TASKS_TYPE, data, site.update_key)))


def test_only_task_scores_that_a_leaf_may_hold_are_recorded_and_once(caplog: pytest.LogCaptureFixture) -> None:
    def deed(site: HostileSite, found: Round) -> None:
        for bad in (
            replace(TASK, score=float("nan")),
            replace(TASK, low=0.9),
            replace(TASK, num_items=0),
            replace(TASK, language="$(reboot)"),
            replace(TASK, task="x" * 3_000_000),
        ):
            score_tasks(site, bad)
        for _ in range(3):
            score_tasks(site, TASK)

    world = finished(HostileWorld(deed=deed))
    assert [(b.site, b.num_commits, b.scores) for b in world.bodies(TasksEvaluatedV1)] == [(EVIL, 0, (TASK,))]
    for reason in (
        "finite numbers",
        "low <= score <= high",
        "items, found 0",
        "language of its form",
        "at most 1048576 bytes",
    ):
        assert reason in caplog.text
    assert "reboot" not in caplog.text


def test_reports_and_bodies_that_a_site_should_not_send(caplog: pytest.LogCaptureFixture) -> None:
    def deed(site: HostileSite, found: Round) -> None:
        job = AllocationReport(run=RUN, allocation="foo", state=AllocationState.READY, seconds_left=-(2**63))
        part = ParticipationReport(run=RUN, round=2**64 - 1, phase=Phase.TRAINING, step=2**64 - 1, loss=float("nan"))
        for seconds in (float("nan"), float("inf"), -1e300):
            site.report(allocations=(replace(job, seconds_per_step=seconds),), participations=(part,))
        site.report(ledger_size=2**63, applied=("\n" * 1000,), blobs_wanted=(OTHER,) * 1000)
        site.post(Telemetry(run=RUN, allocation="a1", lines=("x\n" * 3_000_000,)))
        site.post(LedgerTail(first_index=0, leaves=(b"x",), checkpoint=b"x"))
        site.post(Command(id="c", kind=CommandKind.RUN_ABORT, subject=RUN))
        for note in (b"\xff\xfe", b"", site.copy.checkpoint().replace(b"\n", b"\n\n")):
            site.post(Cosignature(size=1, root=OTHER, note=note))
        for junk in (b"", b"junk"):
            site.post(UpdateOffer(signed_update=junk))
            site.post(EvaluationOffer(signed_evaluation=junk))
        site.post(RoundDeclined(run=RUN, round=2**64 - 1, reason=Reason.NONE, sentence=""))
        site.post(RoundDeclined(run="nowhere", round=0, reason=Reason.NONE, sentence=""))
        site.post(ManifestAnswer(run=RUN, manifest_digest="", accepted=False, reason=Reason.NONE, sentence=""))

    world = finished(HostileWorld(deed=deed))
    assert "is nothing that a site sends" in caplog.text
    assert {v.outcome for v in world.verdicts(EVIL)} <= {Outcome.MISSED}


def test_a_message_whose_blobs_never_come_holds_up_nobody() -> None:
    def deed(site: HostileSite, found: Round) -> None:
        payload = site.payload(found)
        site.offer(site.descriptor(found, payload), payload)
        site.machine.fs.remove(f"{BOX}/out/blobs/{blob_digest(payload)}")
        site.report()

    world = finished(HostileWorld(deed=deed))
    assert {v.outcome for v in world.verdicts(EVIL)} == {Outcome.MISSED}


# --- false names and foreign keys -------------------------------------------------------------------------------------


def other_key(site: HostileSite, update: Update, payload: bytes) -> None:
    site.offer(update, payload, key=signing.generate_key())


def key_of_another_site(site: HostileSite, update: Update, payload: bytes) -> None:
    site.offer(update, payload, key=site.world.keys.key("site/site-a/update"))


def name_of_another_site(site: HostileSite, update: Update, payload: bytes) -> None:
    site.offer(replace(update, site="site-a"), payload)


def changed_on_the_way(site: HostileSite, update: Update, payload: bytes) -> None:
    """The right key's name on bytes that it never signed; without the change they would be admitted."""
    payload_of = wire.update_to_bytes
    signed = dsse.sign_envelope(dsse.UPDATE_TYPE, payload_of(update), site.update_key)
    changed = signed.replace(payload_of(update), payload_of(replace(update, allocation="a2")))
    assert changed != signed
    site.post(UpdateOffer(signed_update=changed), (site.blobs.put(payload),))


def another_type(site: HostileSite, update: Update, payload: bytes) -> None:
    signed = dsse.sign_envelope(dsse.EVALUATION_TYPE, wire.update_to_bytes(update), site.update_key)
    site.post(UpdateOffer(signed_update=signed), (site.blobs.put(payload),))


@pytest.mark.parametrize(
    "lie", [other_key, key_of_another_site, name_of_another_site, changed_on_the_way, another_type]
)
def test_a_good_envelope_around_a_false_update_causes_no_leaf(
    lie: Callable[[HostileSite, Update, bytes], None], caplog: pytest.LogCaptureFixture
) -> None:
    def deed(site: HostileSite, found: Round) -> None:
        payload = site.payload(found)
        lie(site, site.descriptor(found, payload), payload)

    world = finished(HostileWorld(deed=deed))
    assert {v.outcome for v in world.verdicts(EVIL)} == {Outcome.MISSED}
    assert len(world.verdicts("site-a")) == world.setting.num_rounds
    assert any(r.name == "federation.security" and r.levelno == logging.WARNING for r in caplog.records)


# --- junk in a mailbox ------------------------------------------------------------------------------------------------

IN = f"mailbox/{EVIL}/in"


def signed_message(world: MajorityWorld, sequence: int, *, key: Any, **header: Any) -> bytes:
    """A message as site-c would send it, but for what is said."""
    fixed = {"consortium": CONSORTIUM, "sender": EVIL, "recipient": "coordinator", "received_through": 0, "epoch": 1}
    body = RoundDeclined(run=RUN, round=0, reason=Reason.NONE, sentence="")
    message = Message(header=Header(**{**fixed, "sequence": sequence, **header}), body=body)
    return dsse.sign_envelope(dsse.MESSAGE_TYPE, wire.message_to_bytes(message), key)


def junk(world: MajorityWorld) -> dict[str, bytes]:
    """Names and contents of files that nobody honest put there."""
    stranger, own = signing.generate_key(), world.keys.key(f"site/{EVIL}/update")
    false = [
        signed_message(world, 900, key=stranger),
        signed_message(world, 901, key=world.keys.key("site/site-a/update")),
        signed_message(world, 902, key=own, sender="site-a"),
        signed_message(world, 903, key=own, recipient="site-a"),
        signed_message(world, 904, key=own, consortium="evil"),
        signed_message(world, 950, key=own),  # another number than its name's
        signed_message(world, 906, key=own).replace(RUN.encode(), b"run-2"),  # changed after it was signed
        b"",
        b"unsigned",
        bytes(DEFAULT_LIMITS.max_envelope_bytes + 1),
    ]
    named = {message_name(900 + index, raw): raw for index, raw in enumerate(false)}
    strange = ("x", "-rf", "$(reboot)", "000000000000-0000000000000000.msg", "000000000001-00.msg", "a\nb", "notes")
    return named | dict.fromkeys(strange, b"junk") | {"ack": b"junk"}


STALLED_SECONDS = 61
"""What has not changed for a minute is not on its way any more."""


def test_junk_in_a_mailbox_is_logged_and_removed_and_the_ledger_does_not_grow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = begun()
    assert world.coordinator is not None
    while world.coordinator.step(world.now):
        pass
    before = world.coordinator.ledger.size
    thrown = junk(world)
    for name, data in thrown.items():
        world.fs.write(f"{IN}/{name}", data)
    world.coordinator.step(world.now)
    assert set(world.fs.list(IN)) & set(thrown) == {"ack"}, "it may still be on its way"
    world.now += STALLED_SECONDS
    world.coordinator.step(world.now)
    assert world.coordinator.ledger.size == before
    assert not set(world.fs.list(IN)) & set(thrown)
    told = [r.getMessage() for r in caplog.records if r.name == "federation.security"]
    assert len(told) == len(thrown)
    assert all(line.startswith(f"{EVIL}: ") for line in told)
    world.run(50)
    for name, data in thrown.items():
        world.fs.write(f"{IN}/{name}", data)
    finished(world)
    assert {v.outcome for v in world.verdicts(EVIL)} == {Outcome.ADMITTED}


def test_junk_in_an_agents_spool_is_removed_and_does_not_stop_it() -> None:
    world = begun()
    machine = world.machines[2]
    thrown = junk(world)
    for name, data in thrown.items():
        machine.fs.write(f"{BOX}/in/{name}", data)
    assert machine.agent is not None
    machine.agent.tick(world.now)
    world.now += STALLED_SECONDS
    machine.agent.tick(world.now)
    assert not set(machine.fs.list(f"{BOX}/in")) & set(thrown)
    assert machine.agent.fault == ""
    finished(world)


def test_what_is_no_file_neither_blocks_nor_stops_a_mailbox(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    keys = {name: signing.generate_key() for name in ("a", "b")}
    blobs = BlobStore(fs)
    sender = Mailbox(fs, "sender", blobs, "a", "b", CONSORTIUM, keys["a"])
    digest = blobs.put(b"payload")
    sender.post(RoundDeclined(run=RUN, round=0, reason=Reason.NONE, sentence=""), blobs=(digest,))
    (name,) = [n for n in fs.list("sender/out") if n.endswith(".msg")]
    fs.write(f"receiver/in/{name}", fs.read(f"sender/out/{name}"))
    inbox = tmp_path / "receiver/in"
    (inbox / "blobs").mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"payload")
    os.mkfifo(inbox / "000000000002-0123456789abcdef.msg")
    (inbox / "000000000003-0123456789abcdef.msg").symlink_to(secret)
    (inbox / "000000000004-0123456789abcdef.msg").mkdir()
    (inbox / "000000000004-0123456789abcdef.msg/x").write_bytes(b"x")
    (inbox / "ack").mkdir()
    receiver = Mailbox(fs, "receiver", BlobStore(fs, "other"), "b", "a", CONSORTIUM, keys["b"])
    public = signing.public_bytes(keys["a"])

    def make_fifo(path: Path) -> None:
        os.mkfifo(path)

    def make_link(path: Path) -> None:
        path.symlink_to(secret)

    def make_directory(path: Path) -> None:
        path.mkdir()

    for make in (make_fifo, make_link, make_directory):
        make(inbox / "blobs" / digest)
        assert [r.ready for r in receiver.collect(public, 0)] == [False]
        (inbox / "blobs" / digest).rmdir() if make is make_directory else (inbox / "blobs" / digest).unlink()
    (inbox / "blobs" / digest).write_bytes(b"payload")
    assert [r.ready for r in receiver.collect(public, 10**9)] == [True]
    assert sorted(fs.list("receiver/in")) == [name, "blobs"]


def test_a_mailbox_without_end_is_bounded() -> None:
    """Numbers far ahead are not read; what is no message's name is removed."""
    world = begun()
    assert world.coordinator is not None
    for number in range(200):
        world.fs.write(f"{IN}/{message_name(10**9 + number, b'x')}", b"x")
        world.fs.write(f"{IN}/blobs/junk-{number}", b"x")
        world.fs.write(f"{IN}/blobs/{blob_digest(b'%d' % number)}", b"x")
    finished(world)
    left = [path for path in files_of(world.fs) if path.startswith(f"{IN}/")]
    assert len(left) < 20, left[:30]


def test_the_operators_word_needs_the_operators_key() -> None:
    """A site's key on a command in the operator's mailbox does nothing."""
    world = begun()
    body = Command(id="evil", kind=CommandKind.RUN_ABORT, subject=RUN)
    header = Header(
        consortium=CONSORTIUM, sender=OPERATOR, recipient="coordinator", sequence=4, received_through=0, epoch=1
    )
    payload = wire.message_to_bytes(Message(header=header, body=body))
    raw = dsse.sign_envelope(dsse.MESSAGE_TYPE, payload, world.keys.key(f"site/{EVIL}/update"))
    world.fs.write(f"mailbox/{OPERATOR}/in/{message_name(4, raw)}", raw)
    finished(world)
    assert len(world.bodies(RoundCommittedV1)) == world.setting.num_rounds


def test_a_ledger_of_such_a_run_opens_again() -> None:
    """What hostile sites caused is well-formed for everybody who reads it later."""
    world = finished(HostileWorld(deed=flood_of_updates))
    assert world.coordinator is not None
    fs = world.fs.crash()
    entry = world.coordinator.rosters.coordinator()
    again = Ledger.open(fs, "ledger", entry.ledger_origin, None, entry.ledger_public)
    assert again.root() == world.coordinator.ledger.root()
