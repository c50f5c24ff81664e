# SPDX-License-Identifier: Apache-2.0
"""The agent's decider: feed a state, assert the list."""

from dataclasses import replace

import pytest
from agent_situations import MANIFEST, RUN, SECOND, SITE, Situation, digest_of

from federation import leaves as lv
from federation.leaves import LanguageScore, Reason
from site_agent.entries import (
    AllocationEnded,
    AllocationIntended,
    AllocationStopped,
    AllocationSubmitted,
    Cosigned,
    EvaluationSigned,
    ManifestAnswered,
    RoundIssued,
    RoundRefused,
    UpdateSigned,
)
from site_agent.observations import Answer, EvaluationSeen, Execution, JobEndSeen, JobPhase


def running(**plan: object) -> Situation:
    """Accepted, started, allocation 1 submitted and ready."""
    s = Situation(**plan).started()
    s.settle()
    s.journal(AllocationSubmitted(run=RUN, number=1, handle="h1", at_us=s.now_us))
    return s.job()


def kinds(entries: list) -> list[type]:
    return [type(entry) for entry in entries]


# --- the manifest -----------------------------------------------------------------------------------------------------


def test_policy_accepts() -> None:
    s = Situation()
    assert s.decide() == [
        ManifestAnswered(run=RUN, manifest_digest=MANIFEST, accepted=True, reason=Reason.NONE, sentence="")
    ]
    s.settle()
    assert s.decide() == []


def test_no_answer_before_the_manifest_is_here() -> None:
    assert Situation().see(manifests={}).decide() == []


def test_a_manifest_of_another_digest_is_no_manifest() -> None:
    s = Situation()
    assert s.see(manifests={RUN: replace(s.seen.manifests[RUN], digest="cc" * 32)}).decide() == []


def test_ask_waits_for_the_operator_and_her_yes_is_for_this_digest_only() -> None:
    s = Situation().policy(Answer.ASK)
    assert s.decide() == []
    assert s.human(accepted=True, manifest_digest="cc" * 32).decide() == []
    (answer,) = s.human(accepted=True, manifest_digest=MANIFEST).decide()
    assert isinstance(answer, ManifestAnswered)
    assert (answer.accepted, answer.by_human) == (True, True)


def test_the_operators_yes_does_not_overrule_the_policys_no() -> None:
    s = Situation().policy(Answer.DECLINE, Reason.UNKNOWN_TRAINER).human(accepted=True, manifest_digest=MANIFEST)
    (answer,) = s.decide()
    assert (answer.accepted, answer.reason) == (False, Reason.UNKNOWN_TRAINER)


def test_refuse_wins_over_the_policys_yes_even_before_the_manifest_is_here() -> None:
    s = Situation().human(accepted=False).see(manifests={})
    (answer,) = s.decide()
    assert (answer.accepted, answer.reason, answer.by_human) == (False, Reason.POLICY, True)


def test_refuse_takes_back_an_acceptance_stops_the_job_and_signs_nothing() -> None:
    s = running().opened(0)
    s.settle()
    s.update(0).human(accepted=False)
    found = s.settle()
    assert kinds(found) == [ManifestAnswered, RoundRefused, AllocationStopped]
    assert found[1].reason is Reason.POLICY
    assert found[2].reason == "refused"
    assert not s.state.signed


@pytest.mark.parametrize("run", ["../x", "a\n#SBATCH --uid=0", "$(reboot)", "A", ""])
def test_a_run_that_cannot_be_named_safely_is_declined_and_nothing_starts(run: str) -> None:
    s = Situation(run=run).started()
    (answer,) = s.settle()
    assert (answer.accepted, answer.reason) == (False, Reason.MANIFEST_INVALID)


def test_a_malformed_manifest_digest_is_declined() -> None:
    (answer,) = Situation(manifest_digest="../../etc/passwd").settle()
    assert (answer.accepted, answer.reason) == (False, Reason.MANIFEST_INVALID)


def test_runs_of_others_are_none_of_our_business() -> None:
    assert Situation(sites={"beta": 4, "gamma": 4}).started().settle() == []


# --- allocations ------------------------------------------------------------------------------------------------------


def test_an_allocation_is_intended_once_the_run_is_approved() -> None:
    s = Situation()
    assert kinds(s.settle()) == [ManifestAnswered]
    s.leaf(lv.RunApprovedV1(run=RUN, operator="olga", command="c2"))
    assert s.settle() == [AllocationIntended(run=RUN, number=1, fencing=1, at_us=s.now_us)]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.see(blobs=frozenset({MANIFEST})),
        lambda s: s.see(heard_at_us=s.now_us - 3601 * SECOND),
        lambda s: s.see(fault="a fork"),
        lambda s: s.policy(Answer.ACCEPT, Reason.NONE, shortage="no hours left"),
        lambda s: s.leaf(lv.SiteDrainedV1(site=SITE, operator="olga", command="d")),
        lambda s: s.leaf(lv.RunAbortedV1(run=RUN, operator="olga", command="d")),
    ],
    ids=["no theta_0", "silence", "fault", "budget", "drained", "aborted"],
)
def test_no_allocation_is_intended(change) -> None:
    s = Situation()
    s.settle()
    change(s.started())
    assert s.settle() == []


@pytest.mark.parametrize(
    ("job", "failed", "reason"),
    [
        ({"execution": Execution.ENDED}, True, "killed"),
        (
            {"execution": Execution.ENDED, "end": JobEndSeen(code="wall-time", sentence="", failed=False)},
            False,
            "wall-time",
        ),
        ({"execution": Execution.ENDED, "end": JobEndSeen(code="failed", sentence="x", failed=True)}, True, "failed"),
    ],
)
def test_an_allocation_ends(job, failed, reason) -> None:
    s = running().job(**job)
    (end,) = s.decide()
    assert isinstance(end, AllocationEnded)
    assert (end.failed, end.reason) == (failed, reason)


def test_unknown_never_ends_an_allocation_but_the_operator_can() -> None:
    s = running().job(execution=Execution.UNKNOWN)
    assert s.later(10**6).settle() == []
    s.human(ended=(1,))
    (end,) = s.settle()
    assert (end.reason, end.failed) == ("operator", False)
    (again,) = s.later(10).settle()
    assert again.number == 2


def test_a_last_word_of_a_job_that_still_runs_is_followed_by_a_stop() -> None:
    s = running().job(end=JobEndSeen(code="idle", sentence="", failed=False))
    (stop,) = s.settle()
    assert (type(stop), stop.reason) == (AllocationStopped, "ended")


def test_a_job_that_was_told_to_end_and_may_be_requeued_finds_no_order_to_end() -> None:
    s = running().job(end=JobEndSeen(code="terminated", sentence="", failed=False), may_begin_anew=True)
    assert s.settle() == []
    s.job(end=JobEndSeen(code="terminated", sentence="", failed=False))
    (stop,) = s.settle()
    assert (type(stop), stop.reason) == (AllocationStopped, "ended")


def test_backoff_doubles_and_ends_after_max_failures() -> None:
    s = running()
    waits = []
    for number in (1, 2, 3):
        s.job(number, execution=Execution.ENDED)
        (end,) = s.settle()
        assert isinstance(end, AllocationEnded)
        waited = 0
        while not s.no_job().settle() and waited < 1000:
            s.later(1)
            waited += 1
        waits.append(waited)
        if waited < 1000:
            s.journal(AllocationSubmitted(run=RUN, number=number + 1, handle="h", at_us=s.now_us))
    assert waits == [10, 20, 1000]
    (start,) = s.human(retry_at_us=s.now_us).settle()
    assert start.number == 4


def test_failures_in_a_row_decline_the_round() -> None:
    s = running().opened(0)
    s.settle()
    s.settings = replace(s.settings, max_failures=1)
    s.job(execution=Execution.ENDED)
    found = s.settle()
    assert kinds(found) == [AllocationEnded, RoundRefused]
    assert found[1].reason is Reason.JOB_FAILED
    assert "1 jobs failed in a row" in found[1].sentence


def test_a_delivered_update_forgives_the_failures_before_it() -> None:
    s = running().opened(0)
    s.settle()
    s.update(0).settle()
    s.job(execution=Execution.ENDED)
    found = s.settle()
    assert found[-1] == AllocationIntended(run=RUN, number=2, fencing=2, at_us=s.now_us)


@pytest.mark.parametrize(
    ("leaves", "reason"),
    [
        ([lv.RunPausedV1(run=RUN, operator="o", command="p", reason=Reason.OPERATOR, sentence="")], "run-paused"),
        ([lv.RunAbortedV1(run=RUN, operator="o", command="p")], "run-aborted"),
        ([lv.SiteDrainedV1(site=SITE, operator="o", command="p")], "site-drained"),
        ([lv.SiteRevokedV1(site=SITE, key_digest="k", operator="o", command="p")], "site-revoked"),
    ],
)
def test_jobs_are_stopped(leaves, reason) -> None:
    s = running().leaf(*leaves)
    assert s.settle() == [AllocationStopped(run=RUN, number=1, reason=reason, at_us=s.now_us)]


def test_a_pause_lets_open_rounds_finish() -> None:
    s = running().opened(0)
    s.settle()
    s.leaf(lv.RunPausedV1(run=RUN, operator="o", command="p", reason=Reason.OPERATOR, sentence=""))
    assert s.settle() == []
    assert kinds(s.abandoned(0).settle()) == [AllocationStopped]


# --- rounds -----------------------------------------------------------------------------------------------------------


def test_a_round_is_issued_to_a_ready_job() -> None:
    s = running().opened(0)
    assert s.settle() == [RoundIssued(run=RUN, round=0, allocation=1)]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.job(phase=JobPhase.STARTING),
        lambda s: s.job(phase=JobPhase.DRAINING),
        lambda s: s.no_job(),
        lambda s: s.witnessed(sites=(SITE,)),
        lambda s: s.witnessed(size=1),
        lambda s: s.see(heard_at_us=0),
        lambda s: s.see(fault="a fork"),
    ],
    ids=["starting", "draining", "unseen", "one witness of two", "before the approval", "silence", "fault"],
)
def test_a_round_is_not_issued(change) -> None:
    s = running().opened(0)
    change(s)
    assert s.settle() == []


def test_a_round_of_others_or_of_a_later_allocation_is_not_issued() -> None:
    assert running().opened(0, sites=("beta",)).settle() == []
    assert running().opened(0, allocation="a2").settle() == []


def test_the_witness_rule_counts_commits_back_by_the_lag() -> None:
    s = running(witness_lag=1)
    s.opened(0).settle()
    s.committed(0).blobs(0).outcomes(r0="committed").opened(1)
    assert kinds(s.settle()) == [RoundIssued]  # n = 1 <= L: the approval is enough
    s.committed(1).blobs(1).outcomes(r0="committed", r1="committed").opened(2)
    assert s.settle() == []  # n = 2: the first commit's leaf must be witnessed
    first_commit = s.federation.runs[RUN].commit_leaves[0]
    assert s.witnessed(first_commit).settle() == []
    assert kinds(s.witnessed(first_commit + 1).settle()) == [RoundIssued]


def test_a_round_waits_for_the_outcomes_that_its_window_builds_on() -> None:
    s = running().opened(0)
    s.settle()
    s.abandoned(0).opened(1)
    assert s.settle() == []
    assert s.outcomes(r0="abandoned").settle() == [RoundIssued(run=RUN, round=1, allocation=1)]


def test_with_overlap_the_newest_outcome_is_not_waited_for() -> None:
    s = running(num_fragments=2, tau=2, witness_lag=2)
    s.opened(0).opened(1)
    assert [e.round for e in s.settle()] == [0, 1]
    s.committed(0).opened(2)  # merge of round 0: position 4; window 2 begins at 4
    assert s.settle() == []
    assert [e.round for e in s.outcomes(r0="committed").settle()] == [2]


def test_a_lower_order_never_follows_a_higher_one_and_is_declined() -> None:
    s = running(num_fragments=2, tau=2, witness_lag=2)
    s.opened(0, sites=("beta",)).opened(1)
    assert s.settle() == [RoundIssued(run=RUN, round=1, allocation=1)]
    s.leaf(lv.SiteInvitedV1(run=RUN, round=0, invitation=lv.Invitation(site=SITE, allocation="a1", num_steps=2)))
    (refused,) = s.settle()
    assert (type(refused), refused.round, refused.reason) == (RoundRefused, 0, Reason.LATE)


def test_a_successor_allocation_gets_the_round_again() -> None:
    s = running().opened(0)
    s.settle()
    s.job(execution=Execution.ENDED, end=JobEndSeen(code="wall-time", sentence="", failed=False))
    assert kinds(s.settle()) == [AllocationEnded]
    assert kinds(s.no_job().later(10).settle()) == [AllocationIntended]
    s.journal(AllocationSubmitted(run=RUN, number=2, handle="h2", at_us=s.now_us)).job(2)
    assert s.settle() == [RoundIssued(run=RUN, round=0, allocation=2)]


def test_a_round_against_a_base_that_is_not_in_force_is_not_issued() -> None:
    s = running()
    s.leaf(
        lv.RoundOpenedV1(
            run=RUN,
            round=0,
            fragment=0,
            base_version=0,
            base_digest=digest_of("other"),
            lr_position=0,
            invitations=(lv.Invitation(site=SITE, allocation="a1", num_steps=4),),
            sentence="",
        )
    )
    assert s.settle() == []


# --- updates ----------------------------------------------------------------------------------------------------------


def test_an_update_is_signed_once_as_ordered() -> None:
    s = running().opened(0)
    s.settle()
    (signed,) = s.update(0).settle()
    assert isinstance(signed, UpdateSigned)
    u = signed.update
    assert (u.run, u.round, u.site, u.allocation, u.consortium, u.manifest_digest) == (
        RUN,
        0,
        SITE,
        "a1",
        "test",
        MANIFEST,
    )
    assert u.payload_digest == digest_of("payload", 0)
    assert s.settle() == []


def test_a_second_digest_is_never_signed() -> None:
    s = running().opened(0)
    s.settle()
    s.update(0).settle()
    s.see(updates=()).update(0, payload_digest=digest_of("another"))
    assert s.settle() == []
    assert [u.payload_digest for u in s.state.signed.values()] == [digest_of("payload", 0)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"fragment": 1},
        {"base_digest": digest_of("other")},
        {"codec": "int4"},
        {"num_steps": 3},
        {"problem": "the payload is not what it says"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_update_that_differs_from_its_order_is_declined(wrong) -> None:
    s = running().opened(0)
    s.settle()
    (refused,) = s.update(0, **wrong).settle()
    assert (type(refused), refused.reason) == (RoundRefused, Reason.JOB_FAILED)


def test_an_update_without_an_order_of_ours_is_not_signed() -> None:
    s = running().opened(0)
    s.see(fault="so that nothing is issued").update(0)
    assert s.settle() == []


def test_an_update_of_an_older_allocation_is_not_signed_once_another_got_the_round() -> None:
    s = running().opened(0)
    s.settle()
    s.journal(
        AllocationEnded(run=RUN, number=1, failed=False, reason="x", sentence="", at_us=s.now_us),
        AllocationIntended(run=RUN, number=2, fencing=2, at_us=s.now_us),
        RoundIssued(run=RUN, round=0, allocation=2),
    )
    assert s.job(2).update(0, allocation=1).settle() == []


def test_an_update_of_a_round_with_a_verdict_is_not_signed() -> None:
    s = running().opened(0)
    s.settle()
    missed = lv.VerdictV1(run=RUN, round=0, site=SITE, outcome=lv.Outcome.MISSED, reason=Reason.LATE, sentence="")
    assert s.leaf(missed).update(0).settle() == []


def test_a_round_whose_job_ended_with_a_loss_spike_is_declined_with_that_reason() -> None:
    s = running().opened(0)
    s.settle()
    s.job(execution=Execution.ENDED, end=JobEndSeen(code="loss-spike", sentence="loss 99", failed=True))
    found = s.settle()
    assert kinds(found) == [AllocationEnded, RoundRefused]
    assert (found[1].reason, found[1].sentence) == (Reason.LOSS_SPIKE, "loss 99")


def test_without_budget_an_invited_round_is_declined() -> None:
    s = running().opened(0)
    s.settle()
    s.job(execution=Execution.ENDED).policy(Answer.ACCEPT, Reason.NONE, shortage="no hours left")
    assert [e.reason for e in s.settle()] == ["killed", Reason.BUDGET]


# --- evaluations, witnesses -------------------------------------------------------------------------------------------


def scores(num_commits: int, versions: tuple[int, ...]) -> EvaluationSeen:
    return EvaluationSeen(
        run=RUN,
        allocation=1,
        request=0,
        num_commits=num_commits,
        versions=versions,
        scores=(LanguageScore(language="de", bits_per_byte=2.0, num_bytes=10),),
    )


def test_an_evaluation_that_is_due_is_signed_once() -> None:
    s = running().see(evaluations=(scores(0, (0,)), scores(0, (0,))))
    (signed,) = s.settle()
    assert isinstance(signed, EvaluationSigned)
    assert signed.evaluation.site == SITE


def test_an_evaluation_that_nobody_asked_for_is_not_signed() -> None:
    assert running().see(evaluations=(scores(7, (7,)),)).settle() == []


def test_at_the_end_a_job_is_started_for_the_last_evaluation_and_stopped_after_it() -> None:
    s = running().opened(0)
    s.settle()
    s.see(evaluations=(scores(0, (0,)),)).settle()
    s.committed(0).blobs(0)
    s.job(execution=Execution.ENDED, end=JobEndSeen(code="wall-time", sentence="", failed=False))
    s.leaf(lv.RunCompletedV1(run=RUN))
    end, start = s.settle()
    assert isinstance(end, AllocationEnded)
    assert start.evaluate_only
    s.journal(AllocationSubmitted(run=RUN, number=2, handle="h2", at_us=s.now_us)).job(2)
    assert s.settle() == []
    found = s.see(evaluations=(replace(scores(1, (1,)), allocation=2),)).settle()
    assert kinds(found) == [EvaluationSigned, AllocationStopped]
    assert found[1].reason == "run-completed"


def test_jobs_that_never_evaluate_are_not_started_for_ever() -> None:
    s = running()
    s.job(execution=Execution.ENDED, end=JobEndSeen(code="idle", sentence="", failed=False)).settle()
    s.leaf(lv.RunCompletedV1(run=RUN)).no_job()
    starts = 0
    for _ in range(10):
        found = s.later(1000).settle()
        starts += sum(isinstance(e, AllocationIntended) for e in found)
        live = s.state.live_allocation(RUN)
        if live:
            s.journal(
                AllocationEnded(run=RUN, number=live.number, failed=False, reason="idle", sentence="", at_us=s.now_us)
            )
    assert starts == 3


def test_a_larger_checkpoint_is_cosigned_once() -> None:
    s = Situation().see(manifests={}, checkpoint_size=3, checkpoint_root="dd" * 32)
    assert s.settle() == [Cosigned(size=3, root="dd" * 32)]
    assert s.settle() == []
    assert s.see(checkpoint_size=2, checkpoint_root="ee" * 32).settle() == []
    assert s.see(checkpoint_size=4).settle() == [Cosigned(size=4, root="ee" * 32)]


def test_nothing_is_cosigned_once_the_ledger_contradicts_itself() -> None:
    s = Situation().see(manifests={}, checkpoint_size=3, checkpoint_root="dd" * 32, fault="a fork")
    assert s.settle() == []


# --- jobs that wait for what does not go away -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remark", "reason"),
    [("AssocGrpBillingMinutes", Reason.BUDGET), ("PartitionTimeLimit", Reason.JOB_FAILED)],
)
def test_a_round_whose_job_waits_for_a_person_is_declined(remark: str, reason: Reason) -> None:
    s = running().opened(0).job(execution=Execution.QUEUED, phase=JobPhase.NONE, remark=remark)
    (refused,) = s.settle()
    assert isinstance(refused, RoundRefused)
    assert (refused.round, refused.reason) == (0, reason)


@pytest.mark.parametrize(
    "job",
    [
        {"execution": Execution.QUEUED, "phase": JobPhase.NONE, "remark": "Priority"},
        {"execution": Execution.QUEUED, "phase": JobPhase.NONE, "remark": "ReqNodeNotAvail, UnavailableNodes:n1"},
        {"execution": Execution.UNKNOWN, "phase": JobPhase.NONE, "remark": "AssocGrpBillingMinutes"},
        {"execution": Execution.QUEUED, "phase": JobPhase.STARTING, "remark": "AssocGrpBillingMinutes"},
    ],
    ids=["in line", "the centre mends it", "in doubt", "has started since"],
)
def test_a_round_whose_job_may_still_start_is_not_declined(job: dict) -> None:
    assert running().opened(0).job(**job).settle() == []
