# SPDX-License-Identifier: Apache-2.0
"""A coordinator that lies with its own keys: the agent starts nothing, cosigns nothing, keeps evidence."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from one_site import CONSORTIUM, OTHER, RUN, SITE, small_manifest
from suspect_site import SuspectSite

from federation import leaves as lv
from federation import notes, signing, wire
from federation.errors import InvalidTransition
from federation.leaves import Reason
from federation.manifest import Alias, Manifest
from federation.messages import EvaluationOffer, ManifestAnswer, RoundDeclined, UpdateOffer
from federation.rounds import apply
from federation.v1 import leaves_pb2, manifest_pb2
from site_agent import answers, layout

# --- manifests --------------------------------------------------------------------------------------------------------

TEXTS = ("$(touch owned)", "two\nlines", "../../owned", "#SBATCH --wrap=owned")
PLACES = {"state", "spool", "keys", "rosters", "root", "site.toml", "policy.toml"}


def string_fields(message: Any, path: str = "") -> Iterator[tuple[str, Callable[[str], None]]]:
    """Every string that a protobuf message carries, and how to change it."""
    for field, value in message.ListFields():
        where = f"{path}.{field.name}".lstrip(".")
        items = list(value) if field.is_repeated else [value]
        for index, item in enumerate(items):
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                yield from string_fields(item, f"{where}[{index}]" if field.is_repeated else where)
            elif field.type == FieldDescriptor.TYPE_STRING:
                yield where, lambda text, name=field.name: setattr(message, name, text)


def hostile_manifests() -> dict[str, tuple[bytes, Manifest]]:
    """Per run id: bytes of a manifest, and the honest one whose plan the ledger states."""
    found: dict[str, tuple[bytes, Manifest]] = {}
    good = replace(small_manifest(), aliases=(small_alias(),))
    names = [name for name, _ in string_fields(parsed(good))]
    assert len(names) >= 10, names
    for index, name in enumerate(names):
        for number, text in enumerate(TEXTS):
            run = f"run-{index}-{number}"
            manifest = replace(good, run=run)
            proto = parsed(manifest)
            dict(string_fields(proto))[name](text)
            found[run] = (proto.SerializeToString(deterministic=True), manifest)
    numbers = {"huge": {"num_inner_steps": 10**9}, "zero": {"num_fragments": 0}, "many": {"num_rounds": 2**63}}
    for run, change in numbers.items():
        manifest = replace(good, run=run, plan=replace(good.plan, **change))  # type: ignore[arg-type]
        found[run] = (wire.manifest_to_bytes(manifest), manifest)
    return found


def small_alias() -> Alias:
    """So that names of aliases are among what can be hostile."""
    return Alias(name="tied.weight", of="model.weight")


def parsed(manifest: Manifest) -> Any:
    proto = manifest_pb2.Manifest()
    proto.ParseFromString(wire.manifest_to_bytes(manifest))
    return proto


def test_hostile_manifests_are_declined_over_a_signature_and_leave_no_trace() -> None:
    site = SuspectSite()
    hostile = hostile_manifests()
    for run, (data, manifest) in hostile.items():
        site.coordinator.create(manifest, data=data, run=run)
    site.until(lambda: len(site.coordinator.of(ManifestAnswer)) == len(hostile))
    for run in hostile:
        site.coordinator.append(
            lv.RunApprovedV1(run=run, operator="olga", command=f"a{run}"),
            lv.RunStartedV1(run=run, operator="olga", command=f"s{run}"),
            lv.SiteAnsweredV1(
                run=run,
                site=SITE,
                manifest_digest=site.coordinator.federation.runs[run].manifest_digest,
                accepted=True,
                reason=Reason.NONE,
            ),
        )
    site.witness()
    site.steps(5)
    told = {answer.run: answer for answer in site.coordinator.of(ManifestAnswer)}  # the mailbox checked signatures
    assert told.keys() == hostile.keys()
    for run, answer in told.items():
        assert (answer.accepted, answer.reason) == (False, Reason.MANIFEST_INVALID), run
        assert answer.sentence.isprintable()
    assert not site.launcher.jobs
    assert not site.agent.state.allocations
    assert site.agent.fault == ""
    found = list(site.paths())
    assert {path.split("/")[0] for path in found} <= PLACES
    assert not any(text in path for path in found for text in ("owned", "lines", "SBATCH"))
    assert site.fs.list("spool/allocations") == []


def test_the_same_manifest_without_the_lie_is_accepted() -> None:
    site = SuspectSite()
    site.coordinator.create(replace(small_manifest(), aliases=(small_alias(),)))
    (answer,) = site.until(lambda: site.coordinator.of(ManifestAnswer))
    assert answer.accepted


@pytest.mark.parametrize("text", TEXTS)
def test_a_ledger_that_names_a_run_by_no_id_is_not_followed(text: str) -> None:
    site = SuspectSite().started()
    created = lv.RunCreatedV1(
        run="other", manifest_digest="aa" * 32, plan=small_manifest().plan, operator="olga", command="c"
    )
    proto = leaves_pb2.Leaf()
    proto.ParseFromString(wire.leaf_to_bytes(site.leaf(created)))
    proto.run_created_v1.run = text
    before = site.deeds()
    site.force_bytes(proto.SerializeToString(deterministic=True))
    site.until(lambda: site.agent.fault)
    site.coordinator.tell()
    site.steps(10)
    assert site.deeds() == before
    assert {path.split("/")[0] for path in site.paths()} <= PLACES


# --- another history --------------------------------------------------------------------------------------------------


def another_history(site: SuspectSite) -> None:
    leaves = site.coordinator.ledger.leaves()
    other = replace(leaves[-1], at_us=leaves[-1].at_us + 1)
    site.say(site.other_history([*leaves[:-1], other]).tail(0))


def a_changed_leaf(site: SuspectSite) -> None:
    size = site.coordinator.ledger.size
    site.coordinator.append(lv.SiteDrainedV1(site=OTHER, operator="olga", command="d"), tell=False)
    tail = site.coordinator.ledger.tail(size)
    other = wire.leaf_to_bytes(site.leaf(lv.SiteDrainedV1(site=SITE, operator="olga", command="d")))
    site.say(replace(tail, leaves=(other,)))


def a_rolled_back_ledger(site: SuspectSite) -> None:
    """A backup of the coordinator was restored, and something else happened since."""
    leaves = site.coordinator.ledger.leaves()
    ledger = site.other_history(leaves[:2])
    site.say(ledger.tail(0))
    ledger.append([site.leaf(lv.RunAbortedV1(run=RUN, operator="olga", command="x"))])
    site.say(ledger.tail(2))


def a_cosigned_lie(site: SuspectSite) -> None:
    """Another site was shown, and cosigned, another history."""
    leaves = site.coordinator.ledger.leaves()
    other = site.other_history([*leaves[:-1], replace(leaves[-1], at_us=7)])
    name = notes.witness_name(CONSORTIUM, OTHER)
    note = notes.cosign(other.checkpoint(), name, site.consortium.key(f"site/{OTHER}/witness"), 1_700_000_000)
    size = site.coordinator.ledger.size
    site.coordinator.append(lv.SiteDrainedV1(site=OTHER, operator="olga", command="d"), tell=False)
    site.say(replace(site.coordinator.ledger.tail(size), cosigned=(note,)))


@pytest.mark.parametrize("lie", [another_history, a_changed_leaf, a_rolled_back_ledger, a_cosigned_lie])
def test_two_histories_are_a_fault_for_good_and_the_evidence_is_kept(lie: Callable[[SuspectSite], None]) -> None:
    site = SuspectSite().started()
    before = site.deeds()
    lie(site)
    site.until(lambda: site.agent.fault)
    told = site.num_cosignatures()
    for _ in range(2):
        evidence = site.agent.copy.fork_evidence()
        assert evidence
        origin, public = site.coordinator.ledger.origin, site.consortium.public("ledger")
        for pair in evidence:
            for note in pair:
                notes.open_checkpoint(note, origin, public)  # both are signed: anybody can check them
        site.coordinator.open(site.coordinator.run.next_round)
        site.witness()
        site.steps(10)
        assert site.deeds() == before
        assert site.num_cosignatures() == told
        site.start_agent()
        assert site.agent.fault


def test_an_older_checkpoint_of_the_same_history_is_no_fault() -> None:
    site = SuspectSite().started()
    site.say(site.other_history(site.coordinator.ledger.leaves()[:2]).tail(0))
    site.steps(5)
    assert site.agent.fault == ""
    assert site.agent.copy.size == site.coordinator.ledger.size


def test_a_checkpoint_of_another_key_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    site = SuspectSite().started()
    ledger = site.coordinator.ledger
    opened = site.leaf(lv.SiteDrainedV1(site=OTHER, operator="olga", command="d"))
    honest = ledger.size
    stranger = type(ledger).create(type(site.fs)(4), "ledger", ledger.origin, signing.generate_key())
    stranger.append([*ledger.leaves(), opened])
    before, told = site.deeds(), site.num_cosignatures()
    site.say(stranger.tail(honest))
    site.steps(10)
    assert (site.deeds(), site.num_cosignatures(), site.agent.copy.size) == (before, told, honest)
    assert "expected a signature by" in caplog.text
    assert not site.agent.copy.forked
    site.coordinator.open(0)  # what the ledger's own key signs still counts
    site.until(lambda: site.agent.state.signed)


def test_a_site_that_cosigned_more_than_its_restored_copy_has_notices_another_history() -> None:
    site = SuspectSite().started()
    leaves = site.coordinator.ledger.leaves()
    for path in [p for p in site.paths() if p.startswith(f"{layout.LEDGER}/")]:
        if path.count("/") > 2 or path.endswith(("checkpoint", ".seg")):
            site.fs.remove(path) if not site.fs.list(path) else None
    site.start_agent()
    assert site.agent.copy.size == 0
    other = site.other_history([*leaves[:-1], replace(leaves[-1], at_us=7)])
    before, told = site.deeds(), site.num_cosignatures()
    site.say(other.tail(0))
    site.until(lambda: site.agent.fault)
    site.steps(10)
    assert (site.deeds(), site.num_cosignatures()) == (before, told)


# --- commits that may not be used -------------------------------------------------------------------------------------


def payload_of(site: SuspectSite, number: int) -> str:
    """Digest of what this site signed for a round."""
    site.until(lambda: any(key[1] == number for key in site.agent.state.signed))
    return next(u.payload_digest for key, u in site.agent.state.signed.items() if key[1] == number)


def test_a_commit_whose_blob_is_another_one_is_never_handed_to_a_job() -> None:
    site = SuspectSite().started()
    site.coordinator.open(0)
    site.coordinator.commit(0, payload_of(site, 0))
    digest = site.coordinator.run.versions[0][-1].blob_digest
    out = f"mailbox/{SITE}/out/blobs/{digest}"
    honest = site.coordinator.fs.read(out)
    site.coordinator.fs.write(out, b"another blob altogether")
    site.witness()
    site.coordinator.open(1)
    site.steps(20)
    assert not site.agent.blobs.has(digest)
    assert site.fs.list(layout.run_paths(RUN).outcomes) == []
    assert {number for _, number in site.agent.state.issued} == {0}
    assert site.agent.fault == ""
    site.coordinator.fs.write(out, honest)
    site.until(lambda: (RUN, 1) in site.agent.state.issued, 2000)


def test_no_outcome_is_used_beyond_the_witness_rule() -> None:
    site = SuspectSite().started()
    for number in (0, 1):
        site.coordinator.open(number)
        site.coordinator.commit(number, payload_of(site, number))
    site.coordinator.open(2)
    site.steps(20)
    # L = 1: with the other witness silent since the start, the second commit's base may not be used.
    assert {number for _, number in site.agent.state.issued} == {0, 1}
    assert site.fs.list(layout.run_paths(RUN).outcomes) == ["0.json"]
    assert site.agent.last_status is not None
    assert site.agent.last_status.waits_for_witnesses
    site.witness()
    site.until(lambda: (RUN, 2) in site.agent.state.issued)


def test_cosignatures_of_strangers_and_of_this_site_alone_do_not_count() -> None:
    site = SuspectSite()
    site.coordinator.create()
    site.coordinator.append(
        lv.RunApprovedV1(run=RUN, operator="olga", command="c2"),
        lv.RunStartedV1(run=RUN, operator="olga", command="c3"),
    )
    site.until(site.ready)
    site.coordinator.open(0)
    name, key = notes.witness_name(CONSORTIUM, OTHER), signing.generate_key()
    note = notes.cosign(site.coordinator.ledger.checkpoint(), name, key, 1_700_000_000)
    tail = site.coordinator.ledger.tail(site.coordinator.ledger.size)
    site.say(replace(tail, checkpoint=note))
    site.steps(20)
    assert not site.agent.state.issued
    site.witness()
    site.until(lambda: site.agent.state.issued)


# --- leaves that nobody honest writes ---------------------------------------------------------------------------------


def opened(site: SuspectSite, **changes: Any) -> lv.RoundOpenedV1:
    run = site.coordinator.run
    base = run.versions[0][-1]
    honest = lv.RoundOpenedV1(
        run=RUN,
        round=run.next_round,
        fragment=0,
        base_version=base.number,
        base_digest=base.theta_digest,
        lr_position=0,
        invitations=(lv.Invitation(site=SITE, allocation="a1", num_steps=4),),
        sentence="",
    )
    return replace(honest, **changes)


def invited(**changes: Any) -> tuple[lv.Invitation, ...]:
    return (replace(lv.Invitation(site=SITE, allocation="a1", num_steps=4), **changes),)


@pytest.mark.parametrize(
    "changes",
    [
        {"fragment": 2**64 - 1},
        {"fragment": 1},
        {"base_version": 7},
        {"base_digest": "ab" * 32},
        {"invitations": invited(num_steps=10**9)},
        {"invitations": invited(num_steps=0)},
        {"invitations": invited(allocation="a99")},
        {"invitations": invited(allocation="nothing")},
        {"invitations": ()},
    ],
)
def test_a_round_that_does_not_fit_the_manifest_is_not_trained(changes: dict[str, Any]) -> None:
    site = SuspectSite().started()
    site.force(opened(site, **changes))
    site.steps(20)
    assert not site.agent.state.issued
    assert site.agent.copy.size == site.coordinator.ledger.size


def committed(**changes: Any) -> list[lv.Body]:
    sealed = lv.RoundSealedV1(run=RUN, round=0, updates=(), sentence="")
    commit = lv.RoundCommittedV1(
        run=RUN,
        round=0,
        fragment=0,
        version=1,
        theta_digest="ab" * 32,
        blob_digest="cd" * 32,
        blob_bytes=1,
        aggregate_norm=1.0,
        contributions=(),
        numerics_version=1,
    )
    return [sealed, replace(commit, **changes)]


@pytest.mark.parametrize(
    "lie",
    [
        lambda site: [opened(site), *committed(fragment=7)],
        lambda site: [opened(site), *committed(version=9)],
        lambda site: [opened(site), *committed(version=0)],
        lambda site: [opened(site, fragment=3), *committed(fragment=3)],
        lambda site: [lv.RunRevertedV1(run=RUN, to_round=-5, operator="olga", command="r")],
        lambda site: [opened(site), opened(site)],
        lambda site: [lv.RoundSealedV1(run="nowhere", round=0, updates=(), sentence="")],
        lambda site: [lv.RunStartedV1(run=RUN, operator="olga", command="again")],
        lambda site: [lv.RosterInstalledV1(version=9, digest="ab" * 32, sites=())] * 2,
    ],
)
def test_leaves_that_contradict_the_ones_before_are_a_fault_and_no_crash(lie: Callable[..., list[lv.Body]]) -> None:
    site = SuspectSite().started()
    before, told = site.deeds(), site.num_cosignatures()
    site.force(*lie(site))
    site.until(lambda: site.agent.fault)
    site.start_agent()
    site.coordinator.tell()
    site.steps(10)
    assert site.agent.fault
    assert (site.deeds(), site.num_cosignatures()) == (before, told)


@pytest.mark.parametrize("versions", [(), (0, 0, 0), (5,), (2**64 - 1,)])
def test_a_request_for_a_model_that_is_none_is_not_evaluated(versions: tuple[int, ...]) -> None:
    site = SuspectSite().started()
    before = site.deeds()[3]
    site.force(lv.EvaluationRequestedV1(run=RUN, request=1, versions=versions, operator="olga", command="e"))
    site.steps(20)
    assert site.agent.fault == ""
    assert site.deeds()[3] == before


# --- I8: a site that refuses stays out --------------------------------------------------------------------------------


def fits(site: SuspectSite, body: lv.Body) -> bool:
    """Whether the ledger still folds with this leaf, so that the site goes on following it."""
    try:
        apply(site.coordinator.federation, site.leaf(body))
    except InvalidTransition:
        return False
    return True


def whims(site: SuspectSite, generator: random.Random) -> Iterator[lv.Body]:
    """Whatever a coordinator could write to get a site in; some of it fits."""
    digest = site.coordinator.run.manifest_digest
    for count in range(40):
        run = site.coordinator.run
        command = {"operator": "olga", "command": f"w{count}"}
        number = generator.randrange(max(run.next_round, 1))
        options: list[lv.Body] = [
            lv.SiteAnsweredV1(run=RUN, site=SITE, manifest_digest=digest, accepted=True, reason=Reason.NONE),
            lv.RunPausedV1(run=RUN, reason=Reason.OPERATOR, sentence="", **command),
            lv.RunResumedV1(run=RUN, **command),
            lv.RoundAbandonedV1(run=RUN, round=number, reason=Reason.OPERATOR, sentence=""),
            lv.RunRevertedV1(run=RUN, to_round=-1, **command),
            lv.EvaluationRequestedV1(run=RUN, request=len(run.requests) + 1, versions=(0,), **command),
            lv.SiteDrainedV1(site=SITE, **command),
            lv.SiteResumedV1(site=SITE, **command),
            opened(site, invitations=invited(allocation=f"a{generator.randrange(1, 4)}")),
            opened(site),
            lv.SiteInvitedV1(run=RUN, round=number, invitation=invited()[0]),
            lv.SiteAnsweredV1(run=RUN, site=OTHER, manifest_digest=digest, accepted=True, reason=Reason.NONE),
            lv.RunCompletedV1(run=RUN) if count > 35 else opened(site),
        ]
        yield generator.choice(options)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("by", ["operator", "policy"])
def test_i8_a_site_that_refuses_stays_out_whatever_the_coordinator_says(seed: int, by: str) -> None:
    generator = random.Random(seed)
    site = SuspectSite()
    if by == "operator":
        answers.refuse(site.fs, RUN)
        site.coordinator.create()
    else:
        foreign = replace(small_manifest(), trainer=replace(small_manifest().trainer, name="miner"))
        site.coordinator.create(foreign)
    site.coordinator.start()
    count = 0
    for body in whims(site, generator):
        if fits(site, body):
            site.coordinator.append(body)
            site.witness()
            site.step()
            count += 1
    assert count >= 10
    site.steps(10)
    assert not site.launcher.jobs
    assert not site.agent.state.allocations
    assert not site.coordinator.of(UpdateOffer) + site.coordinator.of(EvaluationOffer)
    assert not any(answer.accepted for answer in site.coordinator.of(ManifestAnswer))
    assert site.coordinator.of(ManifestAnswer)
    assert all(declined.reason is Reason.POLICY for declined in site.coordinator.of(RoundDeclined))
    assert site.fs.list("spool/allocations") == []
