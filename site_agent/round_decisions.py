# SPDX-License-Identifier: Apache-2.0
"""What this site says about rounds: orders for its job, signed updates, refusals. Pure: part of the decider."""

from collections.abc import Iterator
from typing import Final

from federation import leaves as lv
from federation.leaves import Reason
from federation.messages import Evaluation, Update
from federation.rounds import Round
from federation.witnesses import may_use
from site_agent import catch_up, derived
from site_agent.agent_state import Allocation
from site_agent.entries import Entry, EvaluationSigned, RoundIssued, RoundRefused, UpdateSigned
from site_agent.failures import failure_of
from site_agent.observations import AllocationSeen, Execution, JobPhase, UpdateSeen
from site_agent.run_view import RunView

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


def issue_rounds(view: RunView) -> Iterator[Entry]:
    """Rounds that the ready job may enter, ascending: a job must not meet a lower order after a higher one."""
    job, live = view.job, view.live
    if live is None or live.stop is not None or not view.accepted or view.silent:
        return
    if job is None or not job_is_ready(job):
        return
    newest = view.newest_issued(live)
    for found, invitation in derived.my_open_rounds(view.run, view.site):
        if view.settled(found) or found.number <= newest:
            continue
        if not 0 < derived.allocation_number(invitation.allocation) <= live.number:
            continue
        if not _as_planned(view, found, invitation) or not _enterable(view, found):
            return
        yield RoundIssued(run=view.run.id, round=found.number, allocation=live.number)


def _as_planned(view: RunView, found: Round, invitation: lv.Invitation) -> bool:
    """Whether the window is the one of the accepted manifest: no coordinator can ask for a longer one."""
    schedule = view.run.schedule(view.site)
    planned = (schedule.fragment_of(found.number), schedule.steps_of_window(found.number))
    return (found.fragment, invitation.num_steps) == planned


def _enterable(view: RunView, found: Round) -> bool:
    """The witness rule holds for the base, and the outcomes that the window builds on lie there."""
    if not derived.base_in_force(view.run, found):
        return False
    if not may_use(view.run, derived.base_commits(view.run, found), view.seen.witnessed):
        return False
    return derived.outcomes_known(view.run, view.site, found.number, view.state, view.seen)


def sign_updates(view: RunView) -> Iterator[Entry]:
    """Updates of open rounds that this agent ordered, from the allocation that it ordered last, as ordered."""
    if not view.accepted or view.manifest is None:
        return
    for update, found, invitation in _updates(view):
        if not update.problem and not _mismatch(update, found, invitation, view.manifest.codec):
            yield UpdateSigned(update=_descriptor(view, update), at_us=view.now_us)


def _updates(view: RunView) -> Iterator[tuple[UpdateSeen, Round, lv.Invitation]]:
    """What jobs left for rounds that are still to be answered."""
    left = {(u.round, u.allocation): u for u in view.seen.updates if u.run == view.run.id}
    for found, invitation in derived.my_open_rounds(view.run, view.site):
        ordered = view.state.issued.get((view.run.id, found.number), -1)
        update = left.get((found.number, ordered))
        if update is not None and not view.settled(found):
            yield update, found, invitation


def _descriptor(view: RunView, update: UpdateSeen) -> Update:
    return Update(
        consortium=view.manifest.consortium if view.manifest else "",
        run=view.run.id,
        manifest_digest=view.run.manifest_digest,
        round=update.round,
        fragment=update.fragment,
        base_digest=update.base_digest,
        site=view.site,
        allocation=f"a{update.allocation}",
        codec=update.codec,
        weight_tokens=update.weight_tokens,
        new_tokens=update.new_tokens,
        num_steps=update.num_steps,
        payload_digest=update.payload_digest,
        payload_bytes=update.payload_bytes,
    )


def refuse_rounds(view: RunView) -> Iterator[Entry]:
    """Rounds that this site cannot serve any more, so that the others need not wait for a bound."""
    bad = {found.number: _why_bad(view, u, found, invitation) for u, found, invitation in _updates(view)}
    for found, _ in derived.my_open_rounds(view.run, view.site):
        if view.settled(found):
            continue
        reason, sentence = _why_hopeless(view, found)
        if reason is Reason.NONE and bad.get(found.number):
            reason, sentence = Reason.JOB_FAILED, bad[found.number]
        if reason is not Reason.NONE:
            yield RoundRefused(run=view.run.id, round=found.number, reason=reason, sentence=sentence)


def _why_bad(view: RunView, update: UpdateSeen, found: Round, invitation: lv.Invitation) -> str:
    codec = view.manifest.codec if view.manifest else ""
    return update.problem or _mismatch(update, found, invitation, codec)


def _why_hopeless(view: RunView, found: Round) -> tuple[Reason, str]:
    """The reason why no update of the round will come, NONE if one may."""
    last = derived.last_ended(view.run.id, view.state)
    if view.refused or (view.run.id in view.state.answers and not view.accepted):
        return Reason.POLICY, "the site does not take part in this run"
    if view.live is None and view.failures >= view.settings.max_failures:
        return Reason.JOB_FAILED, f"{view.failures} jobs failed in a row, at most {view.settings.max_failures}"
    if view.live is None and last is not None and last.end is not None and not view.may_try_again(last.end):
        return Reason.JOB_FAILED, failure_of(last.end.reason).sentence
    if view.live is None and view.manifest is not None and view.manifest.shortage:
        return view.manifest.shortage_reason, view.manifest.shortage
    hindrance = derived.hindrance(view.job)
    if hindrance is not None and hindrance.needs_human:
        return hindrance.reason, hindrance.sentence
    if last is not None and last.end is not None and view.ordered_of(last, found):
        reason = _REASON_OF_END.get(last.end.reason, Reason.NONE)
        return reason, last.end.sentence
    if derived.begins_too_late(view.run, view.site, found, view.state, view.seen):
        return Reason.LATE, "this site begins from a later version than the round does"
    if view.live is not None and _passed_over(view, found, view.live):
        return Reason.LATE, f"the job has entered round {view.newest_issued(view.live)} already"
    return Reason.NONE, ""


def _passed_over(view: RunView, found: Round, live: Allocation) -> bool:
    """Whether a later window was ordered of this allocation, but not this one."""
    return not view.ordered_of(live, found) and view.newest_issued(live) > found.number


def sign_evaluations(view: RunView) -> Iterator[Entry]:
    """Scores of evaluations that are due."""
    if not view.accepted:
        return
    due = set(derived.due_evaluations(view.run, view.site, view.state, view.seen))
    for left in view.seen.evaluations:
        key = (left.run, left.request, left.num_commits, left.versions)
        if key in due:
            due.discard(key)
            yield EvaluationSigned(
                allocation=left.allocation,
                evaluation=Evaluation(
                    run=left.run,
                    site=view.site,
                    request=left.request,
                    num_commits=left.num_commits,
                    versions=left.versions,
                    scores=left.scores,
                ),
            )


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
