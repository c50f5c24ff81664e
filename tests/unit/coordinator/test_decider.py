# SPDX-License-Identifier: Apache-2.0
"""One event in, the list of leaves out: no server, no sleep, no mock."""

from dataclasses import replace

import pytest
from decider_world import BOUNDS, MANIFEST, SITES, World, kinds, plan

from coordinator.decider import Aggregate, RecordState, pending
from coordinator.inputs import (
    CommandReceived,
    DeclineReceived,
    RoundAggregated,
)
from federation import leaves as lv
from federation.errors import UsageError
from federation.leaves import Outcome, Reason
from federation.messages import (
    Command,
    CommandKind,
    Phase,
    RoundDeclined,
)
from federation.rounds import RoundState, RunState


def test_round_opens_for_all_ready_sites_and_names_the_base() -> None:
    world = World()
    world.ready()
    (opened,) = world.tick()
    assert isinstance(opened, lv.RoundOpenedV1)
    assert [i.site for i in opened.invitations] == list(SITES)
    assert (opened.round, opened.base_version, opened.base_digest, opened.lr_position) == (0, 0, "0" * 64, 0)
    assert "3 of 3 sites" in opened.sentence


def test_a_quorum_waits_for_the_grace_then_opens_without_the_rest() -> None:
    world = World()
    world.ready("alpha", "beta")
    assert world.tick() == []
    assert world.tick(29) == []
    (opened,) = world.tick(2)
    assert isinstance(opened, lv.RoundOpenedV1)
    assert [i.site for i in opened.invitations] == ["alpha", "beta"]
    assert "missing: gamma" in opened.sentence


def test_grace_starts_again_when_the_quorum_was_lost_in_between() -> None:
    world = World()
    world.ready("alpha", "beta")
    world.tick()
    world.seen = replace(world.seen, sites={"alpha": world.seen.sites["alpha"]})
    world.tick(20)
    world.ready("alpha", "beta")
    world.tick()
    assert world.tick(20) == []


def test_a_late_site_joins_the_open_round_if_its_window_fits() -> None:
    world = World()
    world.ready("alpha", "beta")
    world.tick()
    world.tick(31)
    world.ready()
    (joined,) = world.tick(1)
    assert isinstance(joined, lv.SiteInvitedV1)
    assert joined.invitation.site == "gamma"
    assert world.tick() == []


def test_a_late_site_does_not_join_when_too_little_of_the_round_is_left() -> None:
    world = World()
    world.ready("alpha", "beta")
    world.tick()
    world.tick(31)
    world.report("alpha", 0)
    world.report("beta", 0)
    world.now += 450  # 450 + 100 of training is beyond 500
    world.report("alpha", 0)
    world.ready("gamma")
    assert not any(isinstance(b, lv.SiteInvitedV1) for b in world.tick())


def test_seals_when_every_invited_site_has_a_verdict_and_commits_once() -> None:
    world = World()
    world.ready()
    world.tick()
    for site in SITES:
        (verdict,) = world.update(site)
        assert isinstance(verdict, lv.VerdictV1)
        assert verdict.outcome is Outcome.ADMITTED
    (sealed,) = world.tick()
    assert isinstance(sealed, lv.RoundSealedV1)
    assert [u.site for u in sealed.updates] == list(SITES)
    assert sum(u.weight for u in sealed.updates) == pytest.approx(1.0)
    assert pending(world.state) == [Aggregate(run="demo", round=0)]
    assert kinds(world.commit(0)) == ["RoundCommittedV1"]
    assert pending(world.state) == []
    assert world.commit(0) == []
    assert world.run.num_commits() == 1


def test_state_must_be_recorded_before_the_next_aggregation() -> None:
    world = World()
    world.ready()
    world.tick()
    for site in SITES:
        world.update(site)
    world.tick()
    facts = RoundAggregated(
        run="demo",
        round=0,
        theta_digest="t",
        blob_digest="b",
        blob_bytes=1,
        aggregate_norm=0.0,
        contributions=(),
        numerics_version=1,
    )
    world.put(facts)
    assert pending(world.state) == [RecordState(run="demo", round=0, fragment=0)]


def test_the_same_digest_again_gets_no_second_verdict_and_another_one_is_equivocation() -> None:
    world = World()
    world.ready()
    world.tick()
    world.update("alpha", payload="one")
    assert world.update("alpha", payload="one") == []
    (second,) = world.update("alpha", payload="two", update_digest="evidence")
    assert isinstance(second, lv.VerdictV1)
    assert (second.outcome, second.update_digest) == (Outcome.EQUIVOCATION, "evidence")
    assert world.run.rounds[0].verdicts["alpha"].payload_digest == "one"
    for attempt in range(10):
        world.update("alpha", payload=f"more-{attempt}")
    assert world.run.rounds[0].num_verdict_leaves["alpha"] == 4


def test_a_rejected_update_ends_the_participation_and_the_round_goes_on() -> None:
    world = World()
    world.ready()
    world.tick()
    (verdict,) = world.update("alpha", reason=Reason.NON_FINITE, sentence="NaN at element 3")
    assert isinstance(verdict, lv.VerdictV1)
    assert verdict.outcome is Outcome.REJECTED
    world.update("beta")
    world.update("gamma")
    (sealed,) = world.tick()
    assert isinstance(sealed, lv.RoundSealedV1)
    assert [u.site for u in sealed.updates] == ["beta", "gamma"]


def test_an_update_for_a_round_that_never_was_is_recorded_and_bounded() -> None:
    world = World()
    world.ready()
    world.tick()
    for attempt in range(8):
        world.update("alpha", round_number=77, payload=f"p{attempt}", reason=Reason.WRONG_ROUND)
    assert world.run.num_stray_verdicts["alpha"] == 4
    assert kinds(world.update("alpha")) == ["VerdictV1"]
    assert world.run.rounds[0].verdicts["alpha"].outcome is Outcome.ADMITTED


def test_strangers_and_unknown_runs_cause_nothing() -> None:
    world = World()
    world.ready()
    world.tick()
    assert world.update("mallory") == []


@pytest.mark.parametrize(
    ("phase", "seconds", "reason"),
    [
        (None, 11, Reason.NO_ANSWER),
        (Phase.TRAINING, 101, Reason.TRAINING_TOO_LONG),
        (Phase.UPLOADING, 21, Reason.UPLOAD_TOO_LONG),
        (Phase.INVITED, 501, Reason.ROUND_TOO_LONG),
    ],
)
def test_bounds_run_from_the_coordinators_own_receipt(phase: Phase | None, seconds: int, reason: Reason) -> None:
    world = World()
    world.ready()
    world.tick()
    world.update("alpha")
    world.update("beta")
    world.now += 5
    if phase is not None:
        world.report("gamma", 0, phase)
        world.tick()
    bodies = world.tick(seconds)
    assert isinstance(bodies[0], lv.VerdictV1)
    assert (bodies[0].site, bodies[0].outcome, bodies[0].reason) == ("gamma", Outcome.MISSED, reason)
    assert isinstance(bodies[1], lv.RoundSealedV1)


def test_a_slow_courier_lengthens_the_bounds_of_its_site() -> None:
    members = tuple(
        lv.Member(site=s, num_inner_steps=4, planned_tokens=100, courier_round_trip_seconds=60 if s == "gamma" else 0)
        for s in SITES
    )
    world = World(members=members)
    world.ready()
    world.tick()
    bodies = world.tick(11)
    assert [b.site for b in bodies if isinstance(b, lv.VerdictV1)] == ["alpha", "beta"]


def test_without_a_quorum_the_round_is_abandoned_and_after_two_the_run_pauses_with_names() -> None:
    world = World()
    world.ready()
    world.tick()
    bodies = world.tick(501)
    assert kinds(bodies) == ["VerdictV1"] * 3 + ["RoundAbandonedV1", "RoundOpenedV1"]
    bodies = world.tick(501)
    assert kinds(bodies) == ["VerdictV1"] * 3 + ["RoundAbandonedV1", "RunPausedV1"]
    pause = world.run.pause
    assert pause.reason is Reason.ABANDONED_TOO_OFTEN
    assert "alpha (missed: no-answer)" in pause.sentence or "alpha (missed: round-too-long)" in pause.sentence
    assert world.run.void == {0, 1}


def test_numbers_of_abandoned_rounds_are_not_reused_and_the_schedule_does_not_advance() -> None:
    world = World()
    world.ready()
    world.tick()
    bodies = world.tick(501)
    opened = bodies[-1]
    assert isinstance(opened, lv.RoundOpenedV1)
    assert (opened.round, opened.lr_position) == (1, 0)


def test_late_updates_are_recorded_and_discarded() -> None:
    world = World()
    world.ready()
    world.tick()
    world.update("alpha")
    world.update("beta")
    world.tick(501)
    (late,) = world.update("gamma")
    assert isinstance(late, lv.VerdictV1)
    assert (late.outcome, late.reason) == (Outcome.REJECTED, Reason.LATE)
    assert world.run.rounds[0].verdicts["gamma"].outcome is Outcome.MISSED
    assert [u.site for u in world.run.rounds[0].sealed] == ["alpha", "beta"]


def test_a_decline_frees_the_round_at_once() -> None:
    world = World()
    world.ready()
    world.tick()
    decline = RoundDeclined(run="demo", round=0, reason=Reason.LOSS_SPIKE, sentence="")
    (verdict,) = world.put(DeclineReceived(site="alpha", decline=decline))
    assert isinstance(verdict, lv.VerdictV1)
    assert verdict.outcome is Outcome.DECLINED
    assert world.put(DeclineReceived(site="alpha", decline=decline)) == []


def test_seal_grace_closes_the_round_once_the_quorum_has_held() -> None:
    world = World(bounds=replace(BOUNDS, seal_grace_seconds=15, answer_seconds=400))
    world.ready()
    world.tick()
    world.update("alpha")
    world.update("beta")
    assert world.tick() == []
    assert world.tick(14) == []
    (sealed,) = world.tick(2)
    assert isinstance(sealed, lv.RoundSealedV1)
    assert [u.site for u in sealed.updates] == ["alpha", "beta"]


def test_when_no_round_could_open_in_time_the_run_pauses_and_says_who_was_missing() -> None:
    world = World()
    world.ready("alpha")
    assert world.tick(999) == []
    (paused,) = world.tick(2)
    assert isinstance(paused, lv.RunPausedV1)
    assert paused.reason is Reason.COULD_NOT_OPEN
    assert "missing: beta, gamma" in paused.sentence


def test_silent_witnesses_pause_the_run_by_name() -> None:
    world = World()
    world.seen = replace(world.seen, witnessed={"alpha": 10**6})
    world.ready()
    world.tick()
    assert not any(isinstance(b, lv.RunPausedV1) for b in world.tick(299))
    bodies = world.tick(2)
    paused = next(b for b in bodies if isinstance(b, lv.RunPausedV1))
    assert paused.reason is Reason.WITNESSES_SILENT
    assert paused.sentence.endswith("beta, gamma")


def test_completes_after_the_planned_commits() -> None:
    world = World(num_rounds=1)
    world.ready()
    world.tick()
    for site in SITES:
        world.update(site)
    world.tick()
    world.commit(0)
    assert kinds(world.tick()) == ["RunCompletedV1"]
    assert world.run.state is RunState.COMPLETED


def test_fragments_in_flight_open_ahead_and_each_fragment_once() -> None:
    world = World(
        num_fragments=2,
        num_inner_steps=4,
        tau=2,
        max_rounds_in_flight=2,
        theta_digests=("0" * 64, "1" * 64),
        num_rounds=4,
    )
    world.ready()
    opened = world.tick()
    assert [(b.round, b.fragment) for b in opened if isinstance(b, lv.RoundOpenedV1)] == [(0, 0), (1, 1)]
    assert world.tick() == []


def test_rollback_abandons_open_rounds_and_makes_older_versions_current() -> None:
    world = World()
    for number in range(2):
        world.ready()
        world.tick()
        for site in SITES:
            world.update(site, number)
        world.tick()
        world.commit(number)
    world.tick()
    bodies = world.command(CommandKind.RUN_ROLLBACK, number=0)
    assert kinds(bodies) == ["RoundAbandonedV1", "RunRevertedV1"]
    assert world.run.heads()[0].number == 1
    assert world.run.void == {1, 2}
    assert world.run.rounds[1].reverted
    (opened,) = world.tick()
    assert isinstance(opened, lv.RoundOpenedV1)
    assert (opened.round, opened.base_digest, opened.lr_position) == (3, "t0", 4)


@pytest.mark.parametrize(
    ("kind", "number", "words"),
    [
        (CommandKind.RUN_APPROVE, 0, "needs a run that is draft, found running"),
        (CommandKind.RUN_RESUME, 0, "needs a run that is paused, found running"),
        (CommandKind.RUN_CREATE, 0, "exists"),
        (CommandKind.RUN_ROLLBACK, 9, "--to-round expected"),
        (CommandKind.ROUND_ABANDON, 5, "round 5 is unknown"),
    ],
)
def test_commands_that_do_not_fit_are_refused_in_words(kind: CommandKind, number: int, words: str) -> None:
    world = World()
    before = world.state
    with pytest.raises(UsageError, match=words):
        world.command(kind, number)
    assert world.state == before


def test_a_repeated_command_does_nothing() -> None:
    world = World()
    assert kinds(world.command(CommandKind.RUN_PAUSE, command_id="x1")) == ["RunPausedV1"]
    assert world.command(CommandKind.RUN_PAUSE, command_id="x1") == []
    assert kinds(world.command(CommandKind.RUN_RESUME, command_id="x2")) == ["RunResumedV1"]


def test_pause_lets_open_rounds_finish_and_opens_no_new_one() -> None:
    world = World()
    world.ready()
    world.tick()
    world.command(CommandKind.RUN_PAUSE)
    for site in SITES:
        world.update(site)
    assert kinds(world.tick()) == ["RoundSealedV1"]
    world.commit(0)
    assert world.tick() == []
    assert world.run.rounds[0].state is RoundState.COMMITTED


def test_drained_sites_are_not_invited_and_do_not_count() -> None:
    world = World()
    drain = Command(id="d", kind=CommandKind.SITE_DRAIN, subject="gamma")
    world.put(CommandReceived(operator="olga", command=drain))
    world.ready()
    (opened,) = world.tick()
    assert isinstance(opened, lv.RoundOpenedV1)
    assert [i.site for i in opened.invitations] == ["alpha", "beta"]


def test_unknown_sites_in_a_manifest_are_refused_by_name() -> None:
    world = World()
    members = (*world.plan.members, lv.Member(site="atlantis", num_inner_steps=4, planned_tokens=1))
    command = Command(id="n", kind=CommandKind.RUN_CREATE, subject="other", manifest_digest=MANIFEST)
    event = CommandReceived(operator="olga", command=command, plan=plan(members=members))
    with pytest.raises(UsageError, match="atlantis: not in roster version 1"):
        world.put(event)


def test_no_round_opens_on_the_strength_of_an_expired_roster() -> None:
    world = World()
    world.ready()
    world.seen = replace(world.seen, roster_expired=True)
    assert world.tick() == []
    world.seen = replace(world.seen, roster_expired=False)
    assert kinds(world.tick()) == ["RoundOpenedV1"]
