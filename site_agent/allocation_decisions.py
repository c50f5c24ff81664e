# SPDX-License-Identifier: Apache-2.0
"""When this site wants a job, when it gives one up, and when one has ended. Pure: part of the decider."""

from collections.abc import Iterator
from typing import Final

from federation.rounds import RunState
from site_agent import derived
from site_agent.agent_state import Allocation
from site_agent.entries import (
    AllocationEnded,
    AllocationIntended,
    AllocationStopped,
    AllocationSubmitted,
    Entry,
)
from site_agent.failures import PREEMPTED, failure_of
from site_agent.observations import Execution
from site_agent.run_situation import RunSituation
from site_agent.start_delay import SOONER, comes_too_late, start_delay_seconds

_US: Final = 1_000_000
_MAX_BACKOFF_SECONDS: Final = 3600.0


def end_allocation(situation: RunSituation) -> Iterator[Entry]:
    """The live allocation, once nothing of it runs. The launcher's UNKNOWN never ends one; the operator can."""
    live, job = situation.live, situation.job
    if live is None:
        return
    if situation.human is not None and live.number in situation.human.ended:
        yield _ended(situation, live, False, "operator", "the site's operator found that it has ended")
    elif job is None or job.execution is not Execution.ENDED:
        return
    elif job.end is not None:
        yield _ended(situation, live, job.end.failed, job.end.code, job.end.sentence)
    elif live.stop is not None:
        yield _ended(situation, live, False, "stopped", f"ended after a stop ({live.stop.reason}) without a last word")
    else:
        code = job.fate or "killed"
        yield _ended(situation, live, code != PREEMPTED, code, failure_of(code).sentence)


def _ended(situation: RunSituation, live: Allocation, failed: bool, reason: str, sentence: str) -> AllocationEnded:
    return AllocationEnded(
        run=live.run, number=live.number, failed=failed, reason=reason, sentence=sentence, at_us=situation.now_us
    )


def adopt_allocation(situation: RunSituation) -> Iterator[Entry]:
    """The job that the site's operator found of an allocation of which no agent knows whether it was submitted."""
    if situation.live is None or situation.live.handle or situation.human is None:
        return
    handle = dict(situation.human.handles).get(situation.live.number, "")
    if handle:
        yield AllocationSubmitted(
            run=situation.run.id, number=situation.live.number, handle=handle, at_us=situation.now_us
        )


def stop_allocation(situation: RunSituation) -> Iterator[Entry]:
    """An order to end, once per allocation."""
    if situation.live is None or situation.live.stop is not None:
        return
    reason = _stop_reason(situation)
    if reason:
        yield AllocationStopped(
            run=situation.run.id, number=situation.live.number, reason=reason, at_us=situation.now_us
        )


def _stop_reason(situation: RunSituation) -> str:
    """Why the live job has nothing more to do, "" if it has."""
    if not situation.accepted:
        return "refused"
    if situation.run.state is RunState.ABORTED:
        return "run-aborted"
    if situation.job is not None and situation.job.end is not None and not situation.job.may_begin_anew:
        return "ended"  # said its last word but still runs: what hangs is cancelled after the grace time
    if situation.manifest is not None and situation.manifest.stop:
        return situation.manifest.stop
    if _comes_too_late(situation):
        return SOONER
    if situation.run.open_rounds or derived.evaluation_wanted(
        situation.run, situation.settings, situation.state, situation.seen
    ):
        return ""
    if situation.run.state in (RunState.PAUSED, RunState.COMPLETED):
        return f"run-{situation.run.state}"
    if situation.revoked:
        return "site-revoked"
    return "site-drained" if situation.excluded else ""


def intend_allocation(situation: RunSituation) -> Iterator[Entry]:
    """A new allocation: accepted, none live, work to do, inputs here, budget left, not silent, no back-off."""
    if situation.live is not None or not situation.accepted or situation.silent or situation.manifest is None:
        return
    evaluate_only = derived.evaluation_wanted(situation.run, situation.settings, situation.state, situation.seen)
    trains = situation.run.state in (RunState.APPROVED, RunState.RUNNING) and not situation.excluded
    inputs_here = {situation.run.manifest_digest, situation.manifest.theta_blob} <= situation.seen.blobs
    if not (trains or evaluate_only) or not inputs_here or situation.manifest.shortage or not _may_retry(situation):
        return
    number = max((a.number for a in situation.state.allocations.get(situation.run.id, ())), default=0) + 1
    yield AllocationIntended(
        run=situation.run.id,
        number=number,
        fencing=number,
        at_us=situation.now_us,
        evaluate_only=not trains,
        num_gpus=situation.manifest.num_gpus,
        seconds_limit=situation.manifest.seconds_limit,
        begin_after_seconds=_start_delay(situation) if trains else 0,
    )


def _start_delay(situation: RunSituation) -> int:
    """Seconds that the new job is to wait for other sites' jobs; none where an open round waits for this site."""
    if any(not situation.settled(found) for found, _ in derived.my_open_rounds(situation.run, situation.site)):
        return 0
    suggestion, before = (
        situation.seen.suggestions.get(situation.run.id),
        situation.state.allocations.get(situation.run.id, ()),
    )
    return start_delay_seconds(suggestion, before, situation.settings.max_start_delay_seconds)


def _comes_too_late(situation: RunSituation) -> bool:
    """Whether the live job waits for others that are there already, or will be soon."""
    if situation.live is None or situation.job is None or situation.job.execution is not Execution.QUEUED:
        return False
    return comes_too_late(situation.seen.suggestions.get(situation.run.id), situation.live, situation.now_us)


def _may_retry(situation: RunSituation) -> bool:
    """Back-off: 1, 2, 4 … times `backoff_seconds` after failures in a row, once after a job without a result."""
    last = derived.last_ended(situation.run.id, situation.state)
    if last is None or last.end is None:
        return True
    if situation.failures >= situation.settings.max_failures or _evaluates_in_vain(situation):
        return False
    if not situation.may_try_again(last.end):
        return False
    if situation.human is not None and situation.human.retry_at_us > last.end.at_us:
        return True
    wait = situation.settings.backoff_seconds * 2.0 ** max(0, situation.failures - 1)
    if not situation.failures and (last.delivered or last.stop is not None):
        wait = 0.0
    return situation.now_us - last.end.at_us >= min(wait, _MAX_BACKOFF_SECONDS) * _US


def _evaluates_in_vain(situation: RunSituation) -> bool:
    """Whether jobs that were started only to evaluate keep ending without having done so."""
    tail = situation.state.allocations.get(situation.run.id, ())[-situation.settings.max_failures :]
    retry_at_us = situation.human.retry_at_us if situation.human else 0
    vain = [a for a in tail if a.evaluate_only and a.intended_at_us > retry_at_us and not a.delivered]
    return len(vain) >= situation.settings.max_failures
