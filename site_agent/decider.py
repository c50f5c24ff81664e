# SPDX-License-Identifier: Apache-2.0
"""What this site decides next: a pure function of journal, ledger, observations and time; its result is journaled.

`decide` returns entries that are made durable before anything else happens; `site_agent.pending` then says what is to
be done about them. A refusal by the site's operator wins over everything that ledger, manifest or policy say.
"""

from collections.abc import Iterator
from typing import Final

from federation import leaves as lv
from federation.ids import is_digest, is_slug
from federation.leaves import Reason
from federation.messages import Evaluation, Update
from federation.rounds import Federation, Round, Run, RunState
from federation.witnesses import may_use
from site_agent import catch_up, derived
from site_agent.agent_state import AgentState, Allocation
from site_agent.entries import (
    AllocationAccounted,
    AllocationEnded,
    AllocationIntended,
    AllocationStopped,
    AllocationSubmitted,
    Cosigned,
    Entry,
    EvaluationSigned,
    ManifestAnswered,
    RoundIssued,
    RoundRefused,
    UpdateSigned,
)
from site_agent.failures import PREEMPTED, Retry, failure_of, retry_of
from site_agent.observations import (
    AgentSettings,
    AllocationSeen,
    Answer,
    Execution,
    JobPhase,
    ManifestSeen,
    Observations,
    UpdateSeen,
)
from site_agent.start_delay import SOONER, comes_too_late, start_delay_seconds

_US: Final = 1_000_000
_MAX_BACKOFF_SECONDS: Final = 3600.0
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


def decide(
    settings: AgentSettings, state: AgentState, federation: Federation, seen: Observations, now_us: int
) -> list[Entry]:
    """Entries to journal now; [] when nothing is to be decided. `now_us` is this site's clock, in microseconds.

    One decision may enable another (an answer enables a start): callers repeat until the list is empty.
    """
    entries: list[Entry] = [*_cosign(state, seen), *_account(seen, now_us)]
    for run in derived.runs_of(federation, settings.site):
        view = _View(settings, state, federation, seen, now_us, run)
        steps = (
            view.answer,
            view.adopt_allocation,
            view.end_allocation,
            view.sign_updates,
            view.sign_evaluations,
            view.refuse_rounds,
            view.stop_allocation,
            view.intend_allocation,
            view.issue_rounds,
        )
        # the first step that decides something ends the run's pass: the next ones must see what it decided
        entries += next((found for step in steps if (found := list(step()))), [])
        if any(isinstance(entry, AllocationIntended) for entry in entries):
            break  # the policy's budgets must see this job before they are asked for another run's
    return entries


def _cosign(state: AgentState, seen: Observations) -> Iterator[Entry]:
    """A checkpoint larger than all cosigned before, whose consistency the ledger copy has verified."""
    last = state.cosigned.size if state.cosigned else 0
    if seen.checkpoint_size > last and not seen.fault:
        yield Cosigned(size=seen.checkpoint_size, root=seen.checkpoint_root)


def _account(seen: Observations, now_us: int) -> Iterator[Entry]:
    """What the batch system charged for jobs that have ended, once it says so."""
    for (run, number), (seconds, num_gpus) in seen.accounts.items():
        yield AllocationAccounted(run=run, number=number, elapsed_seconds=seconds, num_gpus=num_gpus, at_us=now_us)


class _View:
    """One run, as this pass sees it."""

    def __init__(
        self,
        settings: AgentSettings,
        state: AgentState,
        federation: Federation,
        seen: Observations,
        now_us: int,
        run: Run,
    ) -> None:
        self.settings, self.state, self.seen, self.now_us, self.run = settings, state, seen, now_us, run
        self.site = settings.site
        self.excluded = settings.site in federation.excluded
        self.revoked = settings.site in federation.revoked
        self.manifest = _known_manifest(run, seen)
        self.human = seen.humans.get(run.id)
        self.live = state.live_allocation(run.id)
        self.job = derived.job_of(run.id, state, seen)
        self.accepted = derived.accepted(run, state) and not self.refused
        self.silent = derived.silent(settings, seen, now_us)
        self.failures = derived.failures_in_a_row(run.id, state, self.human.retry_at_us if self.human else 0)

    @property
    def refused(self) -> bool:
        """Whether the site's operator said no to this run, whatever else was said."""
        return self.human is not None and self.human.accepted is False

    # --- the manifest -------------------------------------------------------------------------------------------------

    def answer(self) -> Iterator[Entry]:
        """The site's answer, where it differs from the one given before."""
        wanted = self._wanted_answer()
        if wanted is None or not derived.asks_for_answer(self.run):
            return
        before = self.state.answers.get(self.run.id)
        if before is None or (before.accepted, before.reason, before.manifest_digest) != (
            wanted.accepted,
            wanted.reason,
            wanted.manifest_digest,
        ):
            yield wanted

    def _wanted_answer(self) -> ManifestAnswered | None:
        """In this order, the first that applies is the answer; None waits.

        1 the site's operator refuses, 2 the run cannot be named safely, 3 its manifest is unusable or the policy says
        no, 4 the site's operator accepts this very manifest, 5 the policy says yes.
        """
        digest, manifest = self.run.manifest_digest, self.manifest
        if self.refused:
            return self._answered(False, Reason.POLICY, "the site's operator refused this run", by_human=True)
        if not is_slug(self.run.id) or not is_digest(digest):
            return self._answered(False, Reason.MANIFEST_INVALID, "run id or manifest digest is malformed")
        if manifest is None:
            return None
        if manifest.answer is Answer.DECLINE:
            return self._answered(False, manifest.reason, manifest.sentence)
        if self.human is not None and self.human.accepted and self.human.manifest_digest == digest:
            return self._answered(True, Reason.NONE, "the site's operator accepted this manifest", by_human=True)
        if manifest.answer is Answer.ACCEPT:
            return self._answered(True, Reason.NONE, manifest.sentence)
        return None

    def _answered(self, accepted: bool, reason: Reason, sentence: str, *, by_human: bool = False) -> ManifestAnswered:
        return ManifestAnswered(
            run=self.run.id,
            manifest_digest=self.run.manifest_digest,
            accepted=accepted,
            reason=reason,
            sentence=sentence,
            by_human=by_human,
        )

    # --- allocations --------------------------------------------------------------------------------------------------

    def end_allocation(self) -> Iterator[Entry]:
        """The live allocation, once nothing of it runs. The launcher's UNKNOWN never ends one; the operator can."""
        live, job = self.live, self.job
        if live is None:
            return
        if self.human is not None and live.number in self.human.ended:
            yield self._ended(live, False, "operator", "the site's operator found that it has ended")
        elif job is None or job.execution is not Execution.ENDED:
            return
        elif job.end is not None:
            yield self._ended(live, job.end.failed, job.end.code, job.end.sentence)
        elif live.stop is not None:
            yield self._ended(live, False, "stopped", f"ended after a stop ({live.stop.reason}) without a last word")
        else:
            code = job.fate or "killed"
            yield self._ended(live, code != PREEMPTED, code, failure_of(code).sentence)

    def _ended(self, live: Allocation, failed: bool, reason: str, sentence: str) -> AllocationEnded:
        return AllocationEnded(
            run=live.run, number=live.number, failed=failed, reason=reason, sentence=sentence, at_us=self.now_us
        )

    def adopt_allocation(self) -> Iterator[Entry]:
        """The job that the site's operator found of an allocation of which no agent knows whether it was submitted."""
        if self.live is None or self.live.handle or self.human is None:
            return
        handle = dict(self.human.handles).get(self.live.number, "")
        if handle:
            yield AllocationSubmitted(run=self.run.id, number=self.live.number, handle=handle, at_us=self.now_us)

    def stop_allocation(self) -> Iterator[Entry]:
        """An order to end, once per allocation."""
        if self.live is None or self.live.stop is not None:
            return
        reason = self._stop_reason()
        if reason:
            yield AllocationStopped(run=self.run.id, number=self.live.number, reason=reason, at_us=self.now_us)

    def _stop_reason(self) -> str:
        """Why the live job has nothing more to do, "" if it has."""
        if not self.accepted:
            return "refused"
        if self.run.state is RunState.ABORTED:
            return "run-aborted"
        if self.job is not None and self.job.end is not None:
            return "ended"  # said its last word but still runs: what hangs is cancelled after the grace time
        if self.manifest is not None and self.manifest.stop:
            return self.manifest.stop
        if self._comes_too_late():
            return SOONER
        if self.run.open_rounds or derived.evaluation_wanted(self.run, self.site, self.state, self.seen):
            return ""
        if self.run.state in (RunState.PAUSED, RunState.COMPLETED):
            return f"run-{self.run.state}"
        if self.revoked:
            return "site-revoked"
        return "site-drained" if self.excluded else ""

    def intend_allocation(self) -> Iterator[Entry]:
        """A new allocation: accepted, none live, work to do, inputs here, budget left, not silent, no back-off."""
        if self.live is not None or not self.accepted or self.silent or self.manifest is None:
            return
        evaluate_only = derived.evaluation_wanted(self.run, self.site, self.state, self.seen)
        trains = self.run.state in (RunState.APPROVED, RunState.RUNNING) and not self.excluded
        inputs_here = {self.run.manifest_digest, self.manifest.theta_blob} <= self.seen.blobs
        if not (trains or evaluate_only) or not inputs_here or self.manifest.shortage or not self._may_retry():
            return
        number = max((a.number for a in self.state.allocations.get(self.run.id, ())), default=0) + 1
        yield AllocationIntended(
            run=self.run.id,
            number=number,
            fencing=number,
            at_us=self.now_us,
            evaluate_only=not trains,
            num_gpus=self.manifest.num_gpus,
            seconds_limit=self.manifest.seconds_limit,
            begin_after_seconds=self._start_delay() if trains else 0,
        )

    def _start_delay(self) -> int:
        """Seconds that the new job is to wait for other sites' jobs; none where an open round waits for this site."""
        if any(not self._settled(found) for found, _ in derived.my_open_rounds(self.run, self.site)):
            return 0
        suggestion, before = self.seen.suggestions.get(self.run.id), self.state.allocations.get(self.run.id, ())
        return start_delay_seconds(suggestion, before, self.settings.max_start_delay_seconds)

    def _comes_too_late(self) -> bool:
        """Whether the live job waits for others that are there already, or will be soon."""
        if self.live is None or self.job is None or self.job.execution is not Execution.QUEUED:
            return False
        return comes_too_late(self.seen.suggestions.get(self.run.id), self.live, self.now_us)

    def _may_retry(self) -> bool:
        """Back-off: 1, 2, 4 … times `backoff_seconds` after failures in a row, once after a job without a result."""
        last = derived.last_ended(self.run.id, self.state)
        if last is None or last.end is None:
            return True
        if self.failures >= self.settings.max_failures or self._evaluates_in_vain():
            return False
        if not self._may_try_again(last.end):
            return False
        if self.human is not None and self.human.retry_at_us > last.end.at_us:
            return True
        wait = self.settings.backoff_seconds * 2.0 ** max(0, self.failures - 1)
        if not self.failures and (last.delivered or last.stop is not None):
            wait = 0.0
        return self.now_us - last.end.at_us >= min(wait, _MAX_BACKOFF_SECONDS) * _US

    def _may_try_again(self, end: AllocationEnded) -> bool:
        """Whether another job can end differently: by itself, or since the site's operator asked for one."""
        asked = self.human is not None and self.human.retry_at_us > end.at_us
        retry = retry_of(end.reason) if end.failed else Retry.BACKOFF
        return retry is Retry.BACKOFF or (asked and retry is Retry.WAIT_FOR_HUMAN)

    def _evaluates_in_vain(self) -> bool:
        """Whether jobs that were started only to evaluate keep ending without having done so."""
        tail = self.state.allocations.get(self.run.id, ())[-self.settings.max_failures :]
        retry_at_us = self.human.retry_at_us if self.human else 0
        vain = [a for a in tail if a.evaluate_only and a.intended_at_us > retry_at_us and not a.delivered]
        return len(vain) >= self.settings.max_failures

    # --- rounds -------------------------------------------------------------------------------------------------------

    def issue_rounds(self) -> Iterator[Entry]:
        """Rounds that the ready job may enter, ascending: a job must not meet a lower order after a higher one."""
        job, live = self.job, self.live
        if live is None or live.stop is not None or not self.accepted or self.silent:
            return
        if job is None or not job_is_ready(job):
            return
        newest = self._newest_issued(live)
        for found, invitation in derived.my_open_rounds(self.run, self.site):
            if self._settled(found) or found.number <= newest:
                continue
            if not 0 < derived.allocation_number(invitation.allocation) <= live.number:
                continue
            if not self._as_planned(found, invitation) or not self._enterable(found):
                return
            yield RoundIssued(run=self.run.id, round=found.number, allocation=live.number)

    def _newest_issued(self, live: Allocation) -> int:
        mine = (r for (run, r), number in self.state.issued.items() if run == self.run.id and number == live.number)
        return max(mine, default=-1)

    def _as_planned(self, found: Round, invitation: lv.Invitation) -> bool:
        """Whether the window is the one of the accepted manifest: no coordinator can ask for a longer one."""
        schedule = self.run.schedule(self.site)
        planned = (schedule.fragment_of(found.number), schedule.steps_of_window(found.number))
        return (found.fragment, invitation.num_steps) == planned

    def _enterable(self, found: Round) -> bool:
        """The witness rule holds for the base, and the outcomes that the window builds on lie there."""
        if not derived.base_in_force(self.run, found):
            return False
        if not may_use(self.run, derived.base_commits(self.run, found), self.seen.witnessed):
            return False
        return derived.outcomes_known(self.run, self.site, found.number, self.state, self.seen)

    def _settled(self, found: Round) -> bool:
        """Whether this site has said its word about the round."""
        key = (self.run.id, found.number, found.fragment, found.base_digest)
        return key in self.state.signed or (self.run.id, found.number) in self.state.refused

    def sign_updates(self) -> Iterator[Entry]:
        """Updates of open rounds that this agent ordered, from the allocation that it ordered last, as ordered."""
        if not self.accepted or self.manifest is None:
            return
        for update, found, invitation in self._updates():
            if not update.problem and not _mismatch(update, found, invitation, self.manifest.codec):
                yield UpdateSigned(update=self._descriptor(update), at_us=self.now_us)

    def _updates(self) -> Iterator[tuple[UpdateSeen, Round, lv.Invitation]]:
        """What jobs left for rounds that are still to be answered."""
        left = {(u.round, u.allocation): u for u in self.seen.updates if u.run == self.run.id}
        for found, invitation in derived.my_open_rounds(self.run, self.site):
            ordered = self.state.issued.get((self.run.id, found.number), -1)
            update = left.get((found.number, ordered))
            if update is not None and not self._settled(found):
                yield update, found, invitation

    def _descriptor(self, update: UpdateSeen) -> Update:
        return Update(
            consortium=self.manifest.consortium if self.manifest else "",
            run=self.run.id,
            manifest_digest=self.run.manifest_digest,
            round=update.round,
            fragment=update.fragment,
            base_digest=update.base_digest,
            site=self.site,
            allocation=f"a{update.allocation}",
            codec=update.codec,
            weight_tokens=update.weight_tokens,
            new_tokens=update.new_tokens,
            num_steps=update.num_steps,
            payload_digest=update.payload_digest,
            payload_bytes=update.payload_bytes,
        )

    def refuse_rounds(self) -> Iterator[Entry]:
        """Rounds that this site cannot serve any more, so that the others need not wait for a bound."""
        bad = {found.number: self._why_bad(u, found, invitation) for u, found, invitation in self._updates()}
        for found, _ in derived.my_open_rounds(self.run, self.site):
            if self._settled(found):
                continue
            reason, sentence = self._why_hopeless(found)
            if reason is Reason.NONE and bad.get(found.number):
                reason, sentence = Reason.JOB_FAILED, bad[found.number]
            if reason is not Reason.NONE:
                yield RoundRefused(run=self.run.id, round=found.number, reason=reason, sentence=sentence)

    def _why_bad(self, update: UpdateSeen, found: Round, invitation: lv.Invitation) -> str:
        codec = self.manifest.codec if self.manifest else ""
        return update.problem or _mismatch(update, found, invitation, codec)

    def _why_hopeless(self, found: Round) -> tuple[Reason, str]:
        """The reason why no update of the round will come, NONE if one may."""
        last = derived.last_ended(self.run.id, self.state)
        if self.refused or (self.run.id in self.state.answers and not self.accepted):
            return Reason.POLICY, "the site does not take part in this run"
        if self.live is None and self.failures >= self.settings.max_failures:
            return Reason.JOB_FAILED, f"{self.failures} jobs failed in a row, at most {self.settings.max_failures}"
        if self.live is None and last is not None and last.end is not None and not self._may_try_again(last.end):
            return Reason.JOB_FAILED, failure_of(last.end.reason).sentence
        if self.live is None and self.manifest is not None and self.manifest.shortage:
            return self.manifest.shortage_reason, self.manifest.shortage
        hindrance = derived.hindrance(self.job)
        if hindrance is not None and hindrance.needs_human:
            return hindrance.reason, hindrance.sentence
        if last is not None and last.end is not None and self._ordered_of(last, found):
            reason = _REASON_OF_END.get(last.end.reason, Reason.NONE)
            return reason, last.end.sentence
        if derived.begins_too_late(self.run, self.site, found, self.state, self.seen):
            return Reason.LATE, "this site begins from a later version than the round does"
        if self.live is not None and self._passed_over(found, self.live):
            return Reason.LATE, f"the job has entered round {self._newest_issued(self.live)} already"
        return Reason.NONE, ""

    def _ordered_of(self, allocation: Allocation, found: Round) -> bool:
        return self.state.issued.get((self.run.id, found.number)) == allocation.number

    def _passed_over(self, found: Round, live: Allocation) -> bool:
        """Whether a later window was ordered of this allocation, but not this one."""
        return not self._ordered_of(live, found) and self._newest_issued(live) > found.number

    # --- evaluations --------------------------------------------------------------------------------------------------

    def sign_evaluations(self) -> Iterator[Entry]:
        """Scores of evaluations that are due."""
        if not self.accepted:
            return
        due = set(derived.due_evaluations(self.run, self.site, self.state, self.seen))
        for left in self.seen.evaluations:
            key = (left.run, left.request, left.num_commits, left.versions)
            if key in due:
                due.discard(key)
                yield EvaluationSigned(
                    allocation=left.allocation,
                    evaluation=Evaluation(
                        run=left.run,
                        site=self.site,
                        request=left.request,
                        num_commits=left.num_commits,
                        versions=left.versions,
                        scores=left.scores,
                    ),
                )


def _known_manifest(run: Run, seen: Observations) -> ManifestSeen | None:
    """What is known of exactly the manifest that the ledger names."""
    manifest = seen.manifests.get(run.id)
    return manifest if manifest is not None and manifest.digest == run.manifest_digest else None


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
