# SPDX-License-Identifier: Apache-2.0
"""Revocations, invites and ordered ends of rounds: what the decider answers, and what the consequences say before."""

from collections.abc import Callable

import pytest
from decider_world import SITES, World, key_of, kinds

from coordinator.consequences import of_abort, of_revocation
from coordinator.inputs import AnswerReceived, DeclineReceived, EvaluationReceived
from federation import leaves as lv
from federation.errors import InvalidTransition, UsageError
from federation.leaves import Outcome, PartyKind, Reason
from federation.messages import CommandKind, Evaluation, ManifestAnswer, RoundDeclined
from federation.rounds import RoundState, RunState, apply

TOKEN = "7" * 64
HOUR_US = 3600 * 1_000_000


def started(**changes: object) -> World:
    """Round 0 is open for all three sites."""
    world = World(**changes)
    world.ready()
    world.tick()
    return world


def revoke(world: World, site: str = "gamma", command_id: str = "") -> list[lv.Body]:
    return world.command(CommandKind.SITE_REVOKE, subject=site, command_id=command_id)


# --- revocation -------------------------------------------------------------------------------------------------------


def test_a_revocation_ends_the_open_participation_and_the_round_goes_on_with_the_rest() -> None:
    world = started()
    revoked, verdict = revoke(world)
    assert isinstance(revoked, lv.SiteRevokedV1)
    assert (revoked.site, revoked.key_digest, revoked.operator) == ("gamma", key_of("gamma"), "olga")
    assert isinstance(verdict, lv.VerdictV1)
    assert (verdict.site, verdict.outcome, verdict.reason) == ("gamma", Outcome.REJECTED, Reason.REVOKED)
    assert verdict.update_digest == verdict.payload_digest == ""
    world.update("alpha")
    world.update("beta")
    (sealed,) = world.tick()
    assert isinstance(sealed, lv.RoundSealedV1)
    assert [update.site for update in sealed.updates] == ["alpha", "beta"]
    assert "2 of 2 sites" in sealed.sentence
    assert "100.0% of planned tokens" in sealed.sentence
    assert kinds(world.commit(0)) == ["RoundCommittedV1"]


def test_an_update_that_was_admitted_stays_in_the_round() -> None:
    world = started()
    world.update("gamma")
    assert kinds(revoke(world)) == ["SiteRevokedV1"]
    world.update("alpha")
    world.update("beta")
    (sealed,) = world.tick()
    assert isinstance(sealed, lv.RoundSealedV1)
    assert [update.site for update in sealed.updates] == list(SITES)
    assert "3 of 3 sites" in sealed.sentence


def test_a_round_that_loses_its_quorum_is_abandoned() -> None:
    world = started()
    world.update("alpha")
    revoke(world, "beta")
    revoke(world, "gamma")
    bodies = world.tick()
    assert kinds(bodies) == ["RoundAbandonedV1"]
    assert isinstance(bodies[0], lv.RoundAbandonedV1)
    assert bodies[0].reason is Reason.NO_QUORUM
    assert "1 of 1 sites (alpha), 2 needed" in bodies[0].sentence
    assert world.tick(600) == [], "nothing opens without a quorum"


def test_a_sealed_round_is_committed_with_what_was_sealed() -> None:
    world = started()
    for site in SITES:
        world.update(site)
    world.tick()
    assert kinds(revoke(world)) == ["SiteRevokedV1"]
    assert kinds(world.commit(0)) == ["RoundCommittedV1"]


def test_every_open_round_of_every_run_gets_its_verdict() -> None:
    world = World(num_fragments=2, max_rounds_in_flight=2, tau=2, theta_digests=("0" * 64, "1" * 64))
    world.ready()
    assert kinds(world.tick()) == ["RoundOpenedV1"] * 2
    _, *verdicts = revoke(world)
    assert [v.round for v in verdicts if isinstance(v, lv.VerdictV1)] == [0, 1]


def says_update(world: World) -> list[lv.Body]:
    return world.update("gamma", payload="late")


def says_stray_update(world: World) -> list[lv.Body]:
    return world.update("gamma", round_number=77, reason=Reason.WRONG_ROUND)


def says_decline(world: World) -> list[lv.Body]:
    decline = RoundDeclined(run="demo", round=0, reason=Reason.JOB_FAILED, sentence="")
    return world.put(DeclineReceived(site="gamma", decline=decline))


def says_answer(world: World) -> list[lv.Body]:
    answer = ManifestAnswer(run="demo", manifest_digest="m" * 64, accepted=False, reason=Reason.POLICY, sentence="")
    return world.put(AnswerReceived(site="gamma", answer=answer))


def says_evaluation(world: World) -> list[lv.Body]:
    scores = (lv.LanguageScore(language="de", bits_per_byte=1.0, num_bytes=10),)
    evaluation = Evaluation(run="demo", site="gamma", request=0, num_commits=0, versions=(0,), scores=scores)
    return world.put(EvaluationReceived(evaluation=evaluation, evidence_digest="e" * 64))


@pytest.mark.parametrize("says", [says_update, says_stray_update, says_decline, says_answer, says_evaluation])
def test_nothing_that_a_revoked_site_says_becomes_a_leaf(says: Callable[[World], list[lv.Body]]) -> None:
    world = started()
    revoke(world)
    before = world.state
    assert says(world) == []
    assert world.state == before


@pytest.mark.parametrize("says", [says_update, says_stray_update, says_decline, says_answer, says_evaluation])
def test_they_would_be_leaves_were_it_not_revoked(says: Callable[[World], list[lv.Body]]) -> None:
    assert says(started()) != []


def test_a_revoked_site_is_neither_invited_nor_does_it_join() -> None:
    world = World()
    revoke(world)
    world.ready()
    (opened,) = world.tick()
    assert isinstance(opened, lv.RoundOpenedV1)
    assert [i.site for i in opened.invitations] == ["alpha", "beta"]
    assert "2 of 2 sites" in opened.sentence
    world.ready()
    assert world.tick(1) == []


def test_it_comes_back_with_another_key_only() -> None:
    world = World()
    revoke(world)
    assert kinds(world.roster(2)) == ["RosterInstalledV1"], "the same key"
    assert kinds(world.roster(3, ("alpha", "beta"))) == ["RosterInstalledV1"], "not in the roster"
    assert world.state.revoked == {"gamma": key_of("gamma")}
    installed, readmitted = world.roster(4, gamma="another-key")
    assert isinstance(installed, lv.RosterInstalledV1)
    assert isinstance(readmitted, lv.SiteReadmittedV1)
    assert (readmitted.site, readmitted.key_digest, readmitted.roster_version) == ("gamma", "another-key", 4)
    assert world.state.revoked == {}
    world.ready()
    (opened,) = world.tick()
    assert isinstance(opened, lv.RoundOpenedV1)
    assert [i.site for i in opened.invitations] == list(SITES)


def test_another_key_of_another_site_readmits_nobody() -> None:
    world = World()
    revoke(world)
    assert kinds(world.roster(2, alpha="another-key")) == ["RosterInstalledV1"]


def test_a_readmitted_site_can_be_revoked_again_and_drained_stays_drained() -> None:
    world = World()
    world.command(CommandKind.SITE_DRAIN, subject="gamma")
    revoke(world)
    world.roster(2, gamma="another-key")
    assert world.state.excluded == {"gamma"}
    assert kinds(revoke(world)) == ["SiteRevokedV1"]


@pytest.mark.parametrize(
    ("site", "words"), [("atlantis", "not in roster version 1"), ("gamma", "gamma: is revoked already")]
)
def test_a_revocation_that_does_not_fit_is_refused_in_words(site: str, words: str) -> None:
    world = started()
    revoke(world)
    before = world.state
    with pytest.raises(UsageError, match=words):
        revoke(world, site)
    assert world.state == before


def test_a_repeated_revocation_does_nothing() -> None:
    world = started()
    assert kinds(revoke(world, command_id="r1")) == ["SiteRevokedV1", "VerdictV1"]
    leaf = world.state.commands["olga/r1"]
    assert revoke(world, command_id="r1") == []
    assert world.state.commands["olga/r1"] == leaf
    assert leaf == world.state.size - 2, "the command's answer is its own leaf, not the verdict's"


def test_no_run_is_created_with_a_revoked_member() -> None:
    world = World()
    revoke(world)
    with pytest.raises(UsageError, match="sites gamma: expected members that are not revoked"):
        world.command(CommandKind.RUN_CREATE, subject="other")


def test_the_fold_refuses_a_second_revocation() -> None:
    world = World()
    revoke(world)
    body = lv.SiteRevokedV1(site="gamma", key_digest="k", operator="olga", command="x")
    with pytest.raises(InvalidTransition, match="from revoked on revoked"):
        apply(world.state, lv.Leaf(at_us=0, body=body))


# --- ends of rounds ---------------------------------------------------------------------------------------------------


def test_an_ordered_end_of_a_round_names_its_operator_and_command() -> None:
    world = started()
    ordered, abandoned = world.command(CommandKind.ROUND_ABANDON, number=0, command_id="stop")
    assert isinstance(ordered, lv.RoundAbandonOrderedV1)
    assert (ordered.run, ordered.round, ordered.operator, ordered.command) == ("demo", 0, "olga", "stop")
    assert isinstance(abandoned, lv.RoundAbandonedV1)
    assert abandoned.reason is Reason.OPERATOR
    assert world.run.rounds[0].state is RoundState.ABANDONED
    assert world.command(CommandKind.ROUND_ABANDON, number=0, command_id="stop") == [], "retry-safe"
    with pytest.raises(UsageError, match="round 0 is abandoned"):
        world.command(CommandKind.ROUND_ABANDON, number=0, command_id="again")


def test_abandoning_drops_what_a_revoked_site_had_in_the_round() -> None:
    world = started()
    world.update("gamma")
    revoke(world)
    world.command(CommandKind.ROUND_ABANDON, number=0)
    world.ready()
    (opened,) = world.tick()
    assert isinstance(opened, lv.RoundOpenedV1)
    assert [i.site for i in opened.invitations] == ["alpha", "beta"]


# --- invites ----------------------------------------------------------------------------------------------------------


def invite(world: World, party: str = "delta", hours: float = 1.0, **values: object) -> list[lv.Body]:
    wanted = {
        "kind": CommandKind.SITE_INVITE,
        "token_digest": TOKEN,
        "public": b"key",
        "expires_at_us": int(world.now * 1e6 + hours * HOUR_US),
    }
    return world.command(subject=party, **(wanted | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("command", "kind"), [(CommandKind.SITE_INVITE, PartyKind.SITE), (CommandKind.OPERATOR_INVITE, PartyKind.OPERATOR)]
)
def test_an_invite_is_a_leaf_without_a_secret(command: CommandKind, kind: PartyKind) -> None:
    world = World()
    (issued,) = invite(world, kind=command, command_id="i1")
    assert issued == lv.InviteIssuedV1(
        kind=kind,
        party="delta",
        token_digest=TOKEN,
        expires_at_us=int(world.now * 1e6 + HOUR_US),
        operator="olga",
        command="i1",
    )
    assert world.state.invites == {TOKEN: issued}
    assert invite(world, kind=command, command_id="i1") == []


def test_members_and_revoked_sites_can_be_invited_to_enrol_anew() -> None:
    world = World()
    revoke(world)
    assert kinds(invite(world, "gamma")) == ["InviteIssuedV1"]
    assert kinds(invite(world, "alpha", token_digest="8" * 64)) == ["InviteIssuedV1"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hours": 0.0}, "more than 0 and at most 720 hours, found 0.0 hours"),
        ({"hours": -3.0}, "found -3.0 hours"),
        ({"hours": 721.0}, "found 721.0 hours"),
        ({"party": "../up"}, "lower-case"),
        ({"party": "coordinator"}, "expected one of its own"),
        ({"token_digest": "short"}, "SHA-256 of a token"),
        ({"public": b""}, "public key of its bootstrap certificate"),
        ({"party": "alpha", "kind": CommandKind.OPERATOR_INVITE}, "has a site of that name"),
    ],
)
def test_an_invite_that_does_not_fit_is_refused_in_words(values: dict[str, object], words: str) -> None:
    world = World()
    before = world.state
    with pytest.raises(Exception, match=words) as caught:
        invite(world, **values)  # type: ignore[arg-type]
    assert getattr(caught.value, "exit_code", 0) == 2
    assert world.state == before


def test_720_hours_are_still_allowed() -> None:
    assert kinds(invite(World(), hours=720.0)) == ["InviteIssuedV1"]


def test_one_token_is_good_for_one_invite() -> None:
    world = World()
    invite(world)
    with pytest.raises(UsageError, match="a token of its own"):
        invite(world, "epsilon")


def test_a_revocation_voids_the_invites_of_its_site_alone() -> None:
    world = World()
    invite(world, "gamma")
    invite(world, "alpha", token_digest="8" * 64)
    invite(world, "otto", token_digest="9" * 64, kind=CommandKind.OPERATOR_INVITE)
    revoke(world)
    assert sorted(world.state.invites) == ["8" * 64, "9" * 64]


# --- consequences -----------------------------------------------------------------------------------------------------


def test_the_consequences_of_a_revocation_name_rounds_quorum_and_the_way_back() -> None:
    world = started()
    invite(world, "gamma")
    text = "\n".join(of_revocation(world.state, "gamma"))
    assert "nothing that gamma sends is taken" in text
    assert "run demo, round 0: its participation ends as rejected (revoked)" in text
    assert "run demo can go on: 2 of 2 sites (alpha, beta), 2 needed" in text
    assert "Its 1 open invite becomes void" in text
    assert "another update key" in text
    assert "the round goes on with the others, and commits if they deliver: 2 of 2 sites (alpha, beta)" in text
    assert "NO QUORUM" not in text
    assert "witnesses" not in text
    assert "void" not in "\n".join(of_revocation(world.state, "gamma", used=(TOKEN,))), "a used invite is no open one"


@pytest.mark.parametrize(
    ("plan", "first", "words", "end"),
    [
        ({}, "", "goes on with the others", "RoundSealedV1"),
        ({"quorum_sites": 3}, "", "will be ABANDONED, the others are no quorum: 2 of 2 sites", "RoundAbandonedV1"),
        ({}, "alpha", "will be ABANDONED, the others are no quorum: 1 of 1 sites", "RoundAbandonedV1"),
    ],
)
def test_what_they_say_of_the_open_round_is_what_becomes_of_it(
    plan: dict[str, object], first: str, words: str, end: str
) -> None:
    world = started(**plan)
    if first:
        revoke(world, first)
    assert words in "\n".join(of_revocation(world.state, "gamma"))
    revoke(world)
    ends = kinds(world.tick())
    for site in world.run.rounds[0].waiting_for():
        world.update(site)
        ends += kinds(world.tick())
    assert end in ends


def test_they_say_that_an_admitted_update_stays_and_how_to_drop_it() -> None:
    world = started()
    world.update("gamma")
    text = "\n".join(of_revocation(world.state, "gamma"))
    assert "its update was admitted and stays" in text
    assert "coordinator round abandon demo --round 0" in text


def test_they_warn_of_a_quorum_and_of_witnesses_that_will_be_missing() -> None:
    world = started()
    revoke(world, "beta")
    text = "\n".join(of_revocation(world.state, "gamma"))
    assert "run demo: NO QUORUM without gamma" in text
    assert "it pauses once none could open for 1000 s (max_open_wait_seconds)" in text
    assert "2 witnesses must cosign, 1 is left" in text
    assert "the run pauses once they have been missing for 300 s (witness_seconds)" in text
    world.command(CommandKind.RUN_PAUSE)
    assert "pauses" not in "\n".join(of_revocation(world.state, "gamma")), "it is paused already"


def test_a_revoked_site_is_not_resumed_but_told_how_it_comes_back() -> None:
    world = World()
    revoke(world)
    with pytest.raises(UsageError, match="is revoked, not drained") as caught:
        world.command(CommandKind.SITE_RESUME, subject="gamma")
    assert "another update key" in caught.value.advice


def test_of_a_revoked_site_they_say_just_that() -> None:
    world = World()
    revoke(world)
    (sentence,) = of_revocation(world.state, "gamma")
    assert "revoked already" in sentence


def test_runs_that_ended_are_not_spoken_of() -> None:
    world = started()
    world.command(CommandKind.RUN_ABORT)
    assert "demo" not in "\n".join(of_revocation(world.state, "gamma"))


def test_the_consequences_of_an_abort_name_commits_rounds_and_dropped_updates() -> None:
    world = started()
    for site in SITES:
        world.update(site)
    world.tick()
    world.commit(0)
    world.ready()
    world.tick()
    world.update("beta", 1)
    text = "\n".join(of_abort(world.state, world.run))
    assert "ends for good after 1 of 3 commits" in text
    assert "Round 1 is abandoned; admitted updates of beta are dropped" in text
    assert "Jobs for it end at alpha, beta, gamma." in text
    assert "coordinator run export demo" in text
    world.command(CommandKind.RUN_ABORT)
    assert world.run.state is RunState.ABORTED
    assert of_abort(world.state, world.run) == ()


def test_an_abort_does_not_reach_a_revoked_site() -> None:
    world = started()
    revoke(world, "beta")
    text = "\n".join(of_abort(world.state, world.run))
    assert "Jobs for it end at alpha, gamma." in text
    assert "beta is revoked and is not told: its job ends when it has been idle." in text
