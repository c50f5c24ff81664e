# SPDX-License-Identifier: Apache-2.0
"""What this site says about rounds: orders for its job, signed updates, refusals. Pure: part of the decider."""

from collections.abc import Iterator
from typing import Final

from federation import leaves as lv
from federation.leaves import Reason
from federation.messages import Evaluation, TaskEvaluation, Update
from federation.rounds import Round
from federation.witnesses import may_use
from site_agent import catch_up, derived
from site_agent.agent_state import Allocation, EvaluationKey
from site_agent.entries import Entry, EvaluationSigned, RoundIssued, RoundRefused, TasksSigned, UpdateSigned
from site_agent.failures import failure_of
from site_agent.observations import AllocationSeen, Execution, JobPhase, UpdateSeen
from site_agent.run_situation import RunSituation

_REASON_OF_END: Final = {
    "loss-spike": Reason.LOSS_SPIKE,
    "non-finite": Reason.NON_FINITE,
    "diverged": Reason.DIVERGED,
    catch_up.SNAPSHOT_REFUSED: Reason.DIVERGED,
    "model-differs": Reason.MODEL_DIFFERS,
    "run-not-for-trainer": Reason.MODEL_DIFFERS,
    "wrong-precision": Reason.MODEL_DIFFERS,
}
"""Ends of a job that its successor would meet again in the same round; the round is declined with that reason."""


def issue_rounds(situation: RunSituation) -> Iterator[Entry]:
    """Rounds that the ready job may enter, ascending: a job must not meet a lower order after a higher one."""
    job, live = situation.job, situation.live
    if live is None or live.stop is not None or not situation.accepted or situation.silent:
        return
    if job is None or not job_is_ready(job):
        return
    newest = situation.newest_issued(live)
    for found, invitation in derived.my_open_rounds(situation.run, situation.site):
        if situation.settled(found) or found.number <= newest:
            continue
        if not 0 < derived.allocation_number(invitation.allocation) <= live.number:
            continue
        if not _as_planned(situation, found, invitation) or not _enterable(situation, found):
            return
        yield RoundIssued(run=situation.run.id, round=found.number, allocation=live.number)


def _as_planned(situation: RunSituation, found: Round, invitation: lv.Invitation) -> bool:
    """Whether the window is the one of the accepted manifest: no coordinator can ask for a longer one."""
    schedule = situation.run.schedule(situation.site)
    planned = (schedule.fragment_of(found.number), schedule.steps_of_window(found.number))
    return (found.fragment, invitation.num_steps) == planned


def _enterable(situation: RunSituation, found: Round) -> bool:
    """The witness rule holds for the base, and the outcomes that the window builds on lie there."""
    if not derived.base_in_force(situation.run, found):
        return False
    if not may_use(situation.run, derived.base_commits(situation.run, found), situation.seen.witnessed):
        return False
    return derived.outcomes_known(situation.run, situation.site, found.number, situation.state, situation.seen)


def sign_updates(situation: RunSituation) -> Iterator[Entry]:
    """Updates of open rounds that this agent ordered, from the allocation that it ordered last, as ordered."""
    if not situation.accepted or situation.manifest is None:
        return
    for update, found, invitation in _updates(situation):
        if not update.problem and not _mismatch(update, found, invitation, situation.manifest.codec):
            yield UpdateSigned(update=_descriptor(situation, update), at_us=situation.now_us)


def _updates(situation: RunSituation) -> Iterator[tuple[UpdateSeen, Round, lv.Invitation]]:
    """What jobs left for rounds that are still to be answered."""
    left = {(u.round, u.allocation): u for u in situation.seen.updates if u.run == situation.run.id}
    for found, invitation in derived.my_open_rounds(situation.run, situation.site):
        ordered = situation.state.issued.get((situation.run.id, found.number), -1)
        update = left.get((found.number, ordered))
        if update is not None and not situation.settled(found):
            yield update, found, invitation


def _descriptor(situation: RunSituation, update: UpdateSeen) -> Update:
    return Update(
        consortium=situation.manifest.consortium if situation.manifest else "",
        run=situation.run.id,
        manifest_digest=situation.run.manifest_digest,
        round=update.round,
        fragment=update.fragment,
        base_digest=update.base_digest,
        site=situation.site,
        allocation=f"a{update.allocation}",
        codec=update.codec,
        weight_tokens=update.weight_tokens,
        new_tokens=update.new_tokens,
        num_steps=update.num_steps,
        payload_digest=update.payload_digest,
        payload_bytes=update.payload_bytes,
    )


def refuse_rounds(situation: RunSituation) -> Iterator[Entry]:
    """Rounds that this site cannot serve any more, so that the others need not wait for a bound."""
    bad = {found.number: _why_bad(situation, u, found, invitation) for u, found, invitation in _updates(situation)}
    for found, _ in derived.my_open_rounds(situation.run, situation.site):
        if situation.settled(found):
            continue
        reason, sentence = _why_hopeless(situation, found)
        if reason is Reason.NONE and bad.get(found.number):
            reason, sentence = Reason.JOB_FAILED, bad[found.number]
        if reason is not Reason.NONE:
            yield RoundRefused(run=situation.run.id, round=found.number, reason=reason, sentence=sentence)


def _why_bad(situation: RunSituation, update: UpdateSeen, found: Round, invitation: lv.Invitation) -> str:
    codec = situation.manifest.codec if situation.manifest else ""
    return update.problem or _mismatch(update, found, invitation, codec)


def _why_hopeless(situation: RunSituation, found: Round) -> tuple[Reason, str]:
    """The reason why no update of the round will come, NONE if one may."""
    last = derived.last_ended(situation.run.id, situation.state)
    if situation.refused or (situation.run.id in situation.state.answers and not situation.accepted):
        return Reason.POLICY, "the site does not take part in this run"
    if last is not None and last.end is not None and situation.ordered_of(last, found):
        reason = _REASON_OF_END.get(last.end.reason, Reason.NONE)
        if reason is not Reason.NONE:  # says more than that jobs fail
            return reason, last.end.sentence
    if situation.live is None and situation.failures >= situation.settings.max_failures:
        return (
            Reason.JOB_FAILED,
            f"{situation.failures} jobs failed in a row, at most {situation.settings.max_failures}",
        )
    if situation.live is None and last is not None and last.end is not None and not situation.may_try_again(last.end):
        return Reason.JOB_FAILED, failure_of(last.end.reason).sentence
    if situation.live is None and situation.manifest is not None and situation.manifest.shortage:
        return situation.manifest.shortage_reason, situation.manifest.shortage
    hindrance = derived.hindrance(situation.job)
    if hindrance is not None and hindrance.needs_human:
        return hindrance.reason, hindrance.sentence
    if last is not None and situation.ordered_of(last, found):
        return Reason.NONE, ""
    if derived.begins_too_late(situation.run, situation.site, found, situation.state, situation.seen):
        return Reason.LATE, "this site begins from a later version than the round does"
    if situation.live is not None and _passed_over(situation, found, situation.live):
        return Reason.LATE, f"the job has entered round {situation.newest_issued(situation.live)} already"
    return Reason.NONE, ""


def _passed_over(situation: RunSituation, found: Round, live: Allocation) -> bool:
    """Whether a later window was ordered of this allocation, but not this one."""
    return not situation.ordered_of(live, found) and situation.newest_issued(live) > found.number


def sign_evaluations(situation: RunSituation) -> Iterator[Entry]:
    """Scores of evaluations that are due."""
    if not situation.accepted:
        return
    due = set(derived.due_evaluations(situation.run, situation.site, situation.state, situation.seen))
    for left in situation.seen.evaluations:
        key = (left.run, left.request, left.num_commits, left.versions)
        if key in due:
            due.discard(key)
            yield EvaluationSigned(
                allocation=left.allocation,
                evaluation=Evaluation(
                    run=left.run,
                    site=situation.site,
                    request=left.request,
                    num_commits=left.num_commits,
                    versions=left.versions,
                    scores=left.scores,
                ),
            )


def sign_tasks(situation: RunSituation) -> Iterator[Entry]:
    """Scores of benchmark tasks that a job was asked for; one that got none is settled too, and is not posted."""
    if not situation.accepted:
        return
    signed: set[EvaluationKey] = set()
    for left in situation.seen.tasks:
        key = (left.run, left.request, left.num_commits, left.versions)
        mine = left.run == situation.run.id and key not in signed
        if mine and derived.may_sign_tasks(situation.run, situation.settings, situation.state, key):
            signed.add(key)
            evaluation = TaskEvaluation(
                run=left.run,
                site=situation.site,
                request=left.request,
                num_commits=left.num_commits,
                versions=left.versions,
                scores=left.scores,
            )
            yield TasksSigned(allocation=left.allocation, evaluation=evaluation, problems=left.problems)


def _mismatch(update: UpdateSeen, found: Round, invitation: lv.Invitation, codec: str) -> str:
    """How an update differs from what was ordered, "" if it does not."""
    pairs = (
        ("fragment", found.fragment, update.fragment),
        ("base digest", found.base_digest, update.base_digest),
        ("codec", codec, update.codec),
        ("inner steps", invitation.num_steps, update.num_steps),
    )
    differs = (f"{what}: ordered {wanted}, the job wrote {got}" for what, wanted, got in pairs if wanted != got)
    return next(differs, "")


def job_is_ready(job: AllocationSeen) -> bool:
    """Whether a job says that it can take work."""
    return job.phase is JobPhase.READY and job.end is None and job.execution is not Execution.ENDED
