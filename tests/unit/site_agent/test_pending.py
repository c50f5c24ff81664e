# SPDX-License-Identifier: Apache-2.0
"""Instructions are level-triggered: given until their effect is visible, never after it."""

import pytest
from agent_situations import MANIFEST, RUN, SITE, THETA, Situation, digest_of

from federation import leaves as lv
from federation.leaves import Reason
from federation.messages import AllocationState, Phase
from site_agent import instructions as do
from site_agent.entries import AllocationSubmitted, PayloadDropped, Posted
from site_agent.observations import Answer, Execution, OutcomeSeen


def running(**plan: object) -> Situation:
    s = Situation(**plan).started()
    s.settle()
    s.journal(AllocationSubmitted(run=RUN, number=1, handle="h1", at_us=s.now_us), Posted(key=f"answer/{RUN}/1"))
    return s.job(evaluations=((0, 0, (0,) * s.plan.num_fragments),))


def only(found: list, kind: type):
    return [instruction for instruction in found if isinstance(instruction, kind)]


# --- messages ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_posted_until_mailbox_or_ledger_have_it() -> None:
    s = Situation()
    s.settle()
    (post,) = s.pending()
    assert isinstance(post, do.PostAnswer)
    assert post.answer.accepted
    s.journal(Posted(key=post.key))
    assert s.pending() == []
    s.policy(Answer.DECLINE, Reason.BUDGET).settle()
    (again,) = s.pending()
    assert not again.answer.accepted
    answered = lv.SiteAnsweredV1(run=RUN, site=SITE, manifest_digest=MANIFEST, accepted=False, reason=Reason.BUDGET)
    assert s.leaf(answered).pending() == []


def test_an_update_is_posted_once_and_not_after_its_verdict() -> None:
    s = running().opened(0)
    s.settle()
    s.update(0).settle()
    (post,) = only(s.pending(), do.PostUpdate)
    assert post.update.payload_digest == digest_of("payload", 0)
    lost = running().opened(0)
    lost.settle()
    lost.update(0).settle()
    missed = lv.VerdictV1(run=RUN, round=0, site=SITE, outcome=lv.Outcome.MISSED, reason=Reason.LATE, sentence="")
    assert only(lost.leaf(missed).pending(), do.PostUpdate) == []
    s.journal(Posted(key=post.key))
    assert only(s.pending(), do.PostUpdate) == []


def test_a_decline_is_posted_once() -> None:
    s = running().opened(0)
    s.settle()
    s.update(0, num_steps=1).settle()
    (post,) = only(s.pending(), do.PostDecline)
    assert post.refusal.reason is Reason.JOB_FAILED
    s.journal(Posted(key=post.key))
    assert only(s.pending(), do.PostDecline) == []


def test_only_the_newest_checkpoint_is_cosigned() -> None:
    s = Situation().see(checkpoint_size=3, checkpoint_root="dd" * 32)
    s.settle()
    (post,) = only(s.pending(), do.PostCosignature)
    assert (post.cosigned.size, post.cosigned.root) == (3, "dd" * 32)
    assert only(s.see(checkpoint_size=4).pending(), do.PostCosignature) == []
    assert only(s.see(checkpoint_size=3, fault="a fork").pending(), do.PostCosignature) == []


# --- allocations ------------------------------------------------------------------------------------------------------


def test_an_intended_allocation_is_submitted() -> None:
    s = Situation().started()
    s.settle()
    s.job(attempted=False, execution=Execution.UNKNOWN)
    (submit,) = only(s.pending(), do.SubmitAllocation)
    assert (submit.number, submit.theta_blob, submit.manifest_digest) == (1, THETA, MANIFEST)
    assert submit.otherwise is do.Submission.START


def test_an_interrupted_submission_waits_before_it_is_repeated() -> None:
    s = Situation().started()
    s.settle()
    s.job(attempted=True, execution=Execution.UNKNOWN)
    assert only(s.pending(), do.SubmitAllocation)[0].otherwise is do.Submission.WAIT
    assert only(s.later(61).pending(), do.SubmitAllocation)[0].otherwise is do.Submission.START
    s.human(accepted=False).settle()
    assert only(s.pending(), do.SubmitAllocation)[0].otherwise is do.Submission.GIVE_UP


def test_a_stop_is_ordered_then_the_job_is_cancelled_then_killed() -> None:
    s = running().human(accepted=False)
    s.settle()
    (stop,) = only(s.pending(), do.OrderStop)
    assert (stop.allocation, stop.reason) == (1, "refused")
    s.job(stopping=True)
    assert only(s.pending(), do.OrderStop) == []
    assert only(s.pending(), do.CancelAllocation) == []
    assert [c.force for c in only(s.later(61).pending(), do.CancelAllocation)] == [False]
    assert [c.force for c in only(s.later(61).pending(), do.CancelAllocation)] == [True]
    assert only(s.job(stopping=True, execution=Execution.ENDED).pending(), do.CancelAllocation) == []


# --- rounds and outcomes ----------------------------------------------------------------------------------------------


def test_an_issued_round_is_ordered_until_the_order_lies_there() -> None:
    s = running().opened(0)
    s.settle()
    (order,) = only(s.pending(), do.IssueRound)
    assert (order.round, order.allocation, order.num_steps, order.base_version, order.generation) == (0, 1, 4, 0, 0)
    assert only(s.job(orders=frozenset({0})).pending(), do.IssueRound) == []


def test_a_committed_outcome_needs_its_blob() -> None:
    s = running().opened(0)
    s.settle()
    s.committed(0, listed=digest_of("payload", 0))
    assert only(s.pending(), do.WriteOutcome) == []
    (outcome,) = only(s.blobs(0).pending(), do.WriteOutcome)
    assert (outcome.kind, outcome.version, outcome.blob_digest) == ("committed", 1, digest_of("blob", 0))
    assert outcome.listed_payload_digest == digest_of("payload", 0)
    assert only(s.outcomes(r0="committed").pending(), do.WriteOutcome) == []


def test_a_committed_outcome_needs_its_witnesses() -> None:
    s = running(witness_lag=0)
    s.opened(0).settle()
    s.committed(0).blobs(0)
    assert only(s.pending(), do.WriteOutcome) == []  # L = 0: the commit's own leaf must be witnessed
    assert len(only(s.witnessed().pending(), do.WriteOutcome)) == 1


def test_an_abandoned_outcome_needs_neither() -> None:
    s = running(witness_lag=0).see(witnessed={}).opened(0).abandoned(0)
    (outcome,) = only(s.pending(), do.WriteOutcome)
    assert (outcome.kind, outcome.version, outcome.blob_digest) == ("abandoned", 0, "")


def test_outcomes_of_one_fragment_are_written_in_order() -> None:
    s = running(num_fragments=2, tau=2, witness_lag=9)
    s.opened(0).opened(1).committed(0).committed(1).opened(2).abandoned(2).blobs(1)
    assert [o.round for o in only(s.pending(), do.WriteOutcome)] == [1]  # 2 is of the same fragment as 0
    assert [o.round for o in only(s.blobs(0).pending(), do.WriteOutcome)] == [0, 1, 2]


def test_a_rollback_rewrites_outcomes_and_changes_the_generation() -> None:
    s = running(witness_lag=9)
    s.opened(0).committed(0).opened(1).committed(1).blobs(0, 1).outcomes(r0="committed", r1="committed")
    assert only(s.pending(), do.WriteOutcome) == []
    s.leaf(lv.RunRevertedV1(run=RUN, to_round=0, operator="o", command="r")).opened(2)
    (rewritten,) = only(s.pending(), do.WriteOutcome)
    assert (rewritten.round, rewritten.kind) == (1, "reverted")
    assert s.settle() == []  # the order waits for it
    s.see(outcomes={**s.seen.outcomes, (RUN, 1): OutcomeSeen(kind="reverted")}).settle()
    (order,) = only(s.pending(), do.IssueRound)
    assert (order.base_version, order.generation) == (1, s.federation.runs[RUN].reverted_at + 1)


def test_outcomes_come_before_the_orders_that_build_on_them() -> None:
    s = running(num_fragments=2, tau=2, witness_lag=9).opened(0).opened(1)
    s.settle()
    s.committed(0).blobs(0)
    found = [type(i) for i in s.pending()]
    assert found.index(do.WriteOutcome) < found.index(do.IssueRound)


def test_nothing_is_written_for_a_run_that_was_not_accepted() -> None:
    s = Situation().policy(Answer.DECLINE).started().opened(0).committed(0).blobs(0)
    s.settle()
    assert [type(i) for i in s.pending()] == [do.PostAnswer]


# --- evaluations, space, status ---------------------------------------------------------------------------------------


def test_evaluations_are_ordered_with_their_chains() -> None:
    s = running(evaluate_every=1, witness_lag=9).opened(0).committed(0).blobs(0)
    (order,) = only(s.pending(), do.IssueEvaluation)
    assert (order.id, order.num_commits, order.versions) == (2, 1, (1,))
    assert [[link.version for link in chain] for chain in order.chains] == [[1]]
    assert only(s.job(evaluations=((0, 0, (0,)), (0, 1, (1,)))).pending(), do.IssueEvaluation) == []


@pytest.mark.parametrize(
    "change", [lambda s: s.see(blobs=frozenset()), lambda s: s.witnessed(1)], ids=["no blob", "not witnessed"]
)
def test_an_evaluation_waits(change) -> None:
    s = running(evaluate_every=1, witness_lag=0).opened(0).committed(0).blobs(0)
    change(s)
    assert only(s.pending(), do.IssueEvaluation) == []


def test_a_payload_is_kept_until_its_commit_is_witnessed_by_a_quorum() -> None:
    s = running().opened(0)
    s.settle()
    s.update(0).settle()
    s.committed(0, listed=digest_of("payload", 0))
    assert only(s.pending(), do.DropPayload) == []
    (drop,) = only(s.witnessed().pending(), do.DropPayload)
    assert (drop.round, drop.allocation, drop.payload_digest) == (0, 1, digest_of("payload", 0))
    s.journal(PayloadDropped(run=RUN, round=0))
    assert only(s.pending(), do.DropPayload) == []


def test_the_status_report_follows_the_job() -> None:
    s = Situation().see(blobs=frozenset())
    s.settle()
    assert s.report().status.blobs_wanted == (MANIFEST, THETA)
    s = running().opened(0)
    status = s.report().status
    assert [a.state for a in status.allocations] == [AllocationState.READY]
    assert [p.phase for p in status.participations] == [Phase.INVITED]
    s.job(round=0, training=True, step=3, applied=(0,))
    (taking_part,) = s.report().status.participations
    assert (taking_part.phase, taking_part.step) == (Phase.TRAINING, 3)
    assert s.report().status.applied == (f"{RUN}:0",)
    s.settle()
    s.job(round=1, training=True, step=1, applied=(0,))
    assert s.report().status.participations[0].phase is Phase.UPLOADING, "encoded, but not written yet"
    s.job(round=0, training=True, step=3, applied=(0,))
    s.update(0).settle()
    assert s.report().status.participations[0].phase is Phase.UPLOADING


def test_the_status_report_says_when_witnesses_hold_a_job_back() -> None:
    s = running().opened(0)
    assert not s.report().status.waits_for_witnesses
    assert s.witnessed(1).report().status.waits_for_witnesses


def test_a_hostile_ledger_does_not_take_the_report_down() -> None:
    s = Situation()
    s.leaf(
        lv.RunApprovedV1(run=RUN, operator="o", command="a"),
        lv.RunStartedV1(run=RUN, operator="o", command="b"),
        lv.RoundOpenedV1(
            run=RUN,
            round=0,
            fragment=10**9,
            base_version=-5,
            base_digest="../../x",
            lr_position=0,
            invitations=(lv.Invitation(site=SITE, allocation="$(reboot)", num_steps=10**18),),
            sentence="#SBATCH",
        ),
    )
    s.settle()
    s.journal(AllocationSubmitted(run=RUN, number=1, handle="h1", at_us=s.now_us)).job()
    assert s.settle() == []
    assert only(s.pending(), do.IssueRound) == []
    assert s.report().status.ledger_size == s.federation.size


def test_wanted_blobs_are_digests() -> None:
    s = Situation(manifest_digest="../../etc/passwd")
    s.settle()
    assert s.report().status.blobs_wanted == ()
