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
from site_agent.run_view import RunView
from site_agent.start_delay import SOONER, comes_too_late, start_delay_seconds

_US: Final = 1_000_000
_MAX_BACKOFF_SECONDS: Final = 3600.0


def end_allocation(view: RunView) -> Iterator[Entry]:
    """The live allocation, once nothing of it runs. The launcher's UNKNOWN never ends one; the operator can."""
    live, job = view.live, view.job
    if live is None:
        return
    if view.human is not None and live.number in view.human.ended:
        yield _ended(view, live, False, "operator", "the site's operator found that it has ended")
    elif job is None or job.execution is not Execution.ENDED:
        return
    elif job.end is not None:
        yield _ended(view, live, job.end.failed, job.end.code, job.end.sentence)
    elif live.stop is not None:
        yield _ended(view, live, False, "stopped", f"ended after a stop ({live.stop.reason}) without a last word")
    else:
        code = job.fate or "killed"
        yield _ended(view, live, code != PREEMPTED, code, failure_of(code).sentence)


def _ended(view: RunView, live: Allocation, failed: bool, reason: str, sentence: str) -> AllocationEnded:
    return AllocationEnded(
        run=live.run, number=live.number, failed=failed, reason=reason, sentence=sentence, at_us=view.now_us
    )


def adopt_allocation(view: RunView) -> Iterator[Entry]:
    """The job that the site's operator found of an allocation of which no agent knows whether it was submitted."""
    if view.live is None or view.live.handle or view.human is None:
        return
    handle = dict(view.human.handles).get(view.live.number, "")
    if handle:
        yield AllocationSubmitted(run=view.run.id, number=view.live.number, handle=handle, at_us=view.now_us)


def stop_allocation(view: RunView) -> Iterator[Entry]:
    """An order to end, once per allocation."""
    if view.live is None or view.live.stop is not None:
        return
    reason = _stop_reason(view)
    if reason:
        yield AllocationStopped(run=view.run.id, number=view.live.number, reason=reason, at_us=view.now_us)


def _stop_reason(view: RunView) -> str:
    """Why the live job has nothing more to do, "" if it has."""
    if not view.accepted:
        return "refused"
    if view.run.state is RunState.ABORTED:
        return "run-aborted"
    if view.job is not None and view.job.end is not None:
        return "ended"  # said its last word but still runs: what hangs is cancelled after the grace time
    if view.manifest is not None and view.manifest.stop:
        return view.manifest.stop
    if _comes_too_late(view):
        return SOONER
    if view.run.open_rounds or derived.evaluation_wanted(view.run, view.site, view.state, view.seen):
        return ""
    if view.run.state in (RunState.PAUSED, RunState.COMPLETED):
        return f"run-{view.run.state}"
    if view.revoked:
        return "site-revoked"
    return "site-drained" if view.excluded else ""


def intend_allocation(view: RunView) -> Iterator[Entry]:
    """A new allocation: accepted, none live, work to do, inputs here, budget left, not silent, no back-off."""
    if view.live is not None or not view.accepted or view.silent or view.manifest is None:
        return
    evaluate_only = derived.evaluation_wanted(view.run, view.site, view.state, view.seen)
    trains = view.run.state in (RunState.APPROVED, RunState.RUNNING) and not view.excluded
    inputs_here = {view.run.manifest_digest, view.manifest.theta_blob} <= view.seen.blobs
    if not (trains or evaluate_only) or not inputs_here or view.manifest.shortage or not _may_retry(view):
        return
    number = max((a.number for a in view.state.allocations.get(view.run.id, ())), default=0) + 1
    yield AllocationIntended(
        run=view.run.id,
        number=number,
        fencing=number,
        at_us=view.now_us,
        evaluate_only=not trains,
        num_gpus=view.manifest.num_gpus,
        seconds_limit=view.manifest.seconds_limit,
        begin_after_seconds=_start_delay(view) if trains else 0,
    )


def _start_delay(view: RunView) -> int:
    """Seconds that the new job is to wait for other sites' jobs; none where an open round waits for this site."""
    if any(not view.settled(found) for found, _ in derived.my_open_rounds(view.run, view.site)):
        return 0
    suggestion, before = view.seen.suggestions.get(view.run.id), view.state.allocations.get(view.run.id, ())
    return start_delay_seconds(suggestion, before, view.settings.max_start_delay_seconds)


def _comes_too_late(view: RunView) -> bool:
    """Whether the live job waits for others that are there already, or will be soon."""
    if view.live is None or view.job is None or view.job.execution is not Execution.QUEUED:
        return False
    return comes_too_late(view.seen.suggestions.get(view.run.id), view.live, view.now_us)


def _may_retry(view: RunView) -> bool:
    """Back-off: 1, 2, 4 … times `backoff_seconds` after failures in a row, once after a job without a result."""
    last = derived.last_ended(view.run.id, view.state)
    if last is None or last.end is None:
        return True
    if view.failures >= view.settings.max_failures or _evaluates_in_vain(view):
        return False
    if not view.may_try_again(last.end):
        return False
    if view.human is not None and view.human.retry_at_us > last.end.at_us:
        return True
    wait = view.settings.backoff_seconds * 2.0 ** max(0, view.failures - 1)
    if not view.failures and (last.delivered or last.stop is not None):
        wait = 0.0
    return view.now_us - last.end.at_us >= min(wait, _MAX_BACKOFF_SECONDS) * _US


def _evaluates_in_vain(view: RunView) -> bool:
    """Whether jobs that were started only to evaluate keep ending without having done so."""
    tail = view.state.allocations.get(view.run.id, ())[-view.settings.max_failures :]
    retry_at_us = view.human.retry_at_us if view.human else 0
    vain = [a for a in tail if a.evaluate_only and a.intended_at_us > retry_at_us and not a.delivered]
    return len(vain) >= view.settings.max_failures
