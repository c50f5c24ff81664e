# SPDX-License-Identifier: Apache-2.0
"""Reads the files that jobs leave into what the decider sees. Every number in them is checked before it is believed."""

from dataclasses import dataclass, replace
from math import isfinite
from typing import Final, TypeAlias

from federation.durable.api import FileSystem
from federation.egress import or_nothing
from federation.errors import FederationError, ObjectNotFoundError, ProtocolError
from federation.ids import is_digest
from federation.leaves import LanguageScore
from federation.task_scores import problem_of
from site_agent import jobs, layout
from site_agent.agent_state import Allocation
from site_agent.failures import code_of_error
from site_agent.jobs import (
    Claim,
    EndCode,
    EvaluationFile,
    EvaluationOrder,
    JobEnded,
    JobReport,
    OutcomeFile,
    OutcomeKind,
    TaskFile,
    UpdateFile,
)
from site_agent.observations import (
    AllocationSeen,
    EvaluationSeen,
    Execution,
    JobEndSeen,
    JobPhase,
    OutcomeSeen,
    TasksSeen,
    UpdateSeen,
)

_MAX_COUNT: Final = 2**53
"""Counts above this are nobody's honest count, and would not survive JSON."""

_MAX_SCORES: Final = 256
_MAX_PROBLEMS: Final = 20
RESULT: Final = ".result.json"
_MAX_SENTENCE_CHARS: Final = 300

Orders: TypeAlias = dict[str, EvaluationOrder]
"""Orders of evaluations by the paths of their files, which are written once."""


@dataclass(frozen=True, kw_only=True)
class BatchSeen:
    """What the launcher says of a job; `restarts` counts requeues, each of which adds one to the fencing number.

    `can_requeue`: whether there may be another one.
    """

    execution: Execution = Execution.UNKNOWN
    restarts: int = 0
    fate: str = ""
    remark: str = ""
    start_in_seconds: int = 0
    can_requeue: bool = False


def allocation_seen(fs: FileSystem, live: Allocation, batch: BatchSeen, known: Orders) -> AllocationSeen:
    """A live allocation as its files show it. What an execution with a lower fencing number left in them is past.

    The files are younger than the launcher's last look: a job that it saw waiting may be at work by now. A requeue
    counts from the moment at which the job waits again.

    What is read of orders is added to `known`, and not read again.
    """
    fencing = live.fencing + batch.restarts
    paths = layout.allocation_paths(live.run, live.number)
    end = _end_now(fs, live, batch, fencing)
    seen = AllocationSeen(
        run=live.run,
        number=live.number,
        execution=batch.execution,
        end=end,
        may_begin_anew=batch.can_requeue and end is not None and end.code == EndCode.TERMINATED,
        orders=frozenset(jobs.numbered(fs, paths.rounds)),
        evaluations=_evaluation_orders(fs, paths, known),
        task_orders=len(jobs.numbered(fs, paths.tasks)),
        task_results=len(jobs.numbered(fs, paths.tasks, RESULT)),
        attempted=fs.exists(paths.order),
        stopping=fs.exists(paths.stop),
        fate=batch.fate,
        remark=_printable(batch.remark),
        start_in_seconds=batch.start_in_seconds,
    )
    report = jobs.read_record(fs, paths.report, JobReport)
    if report is None or report.fencing < fencing:
        return seen
    return replace(
        _reported(seen, report),
        ready_at=ready_at(report, live),
        language_tokens=language_tokens(report),
    )


def past_report(fs: FileSystem, allocation: Allocation) -> JobReport | None:
    """The last report of an allocation that has ended; None if there is none that can be read."""
    try:
        return jobs.read_record(fs, layout.allocation_paths(allocation.run, allocation.number).report, JobReport)
    except FederationError:
        return None


def ready_at(report: JobReport, allocation: Allocation) -> float:
    """When the allocation's first execution was ready, in unix seconds; 0.0 where the report is a later one's."""
    is_first = report.fencing == allocation.fencing
    return report.ready_at if is_first and 0 < report.ready_at < _MAX_COUNT else 0.0


def language_tokens(report: JobReport) -> tuple[tuple[str, int], ...]:
    """What a report says of languages, by code; what is no code or no count is left out."""
    return tuple(
        (code, tokens)
        for code, tokens in sorted(report.language_tokens.items())[:_MAX_SCORES]
        if or_nothing("LanguageTokens", "language", code) and 0 <= tokens < _MAX_COUNT
    )


def _end_now(fs: FileSystem, live: Allocation, batch: BatchSeen, fencing: int) -> JobEndSeen | None:
    """The last word, if no later start of the job made it one of its past."""
    if batch.execution is Execution.ENDED:  # the batch system may have forgotten how often it started the job
        owner = jobs.read_record(fs, layout.allocation_paths(live.run, live.number).owner, Claim)
        fencing = max(fencing, owner.fencing if owner else 0)
    return end_seen(fs, live, fencing)


def _reported(seen: AllocationSeen, report: JobReport) -> AllocationSeen:
    figures = (report.step, report.seconds_left + 1, *report.applied)
    if not all(0 <= n < _MAX_COUNT for n in figures) or not isfinite(report.seconds_per_step):
        raise ProtocolError(f"job report: expected counts from 0 to 2^53, found {figures}")
    return replace(
        seen,
        phase=JobPhase(report.state.value),
        round=report.round,
        training=report.phase is jobs.JobPhase.TRAINING,
        step=report.step,
        loss=report.loss if isfinite(report.loss) else 0.0,
        seconds_left=report.seconds_left,
        seconds_per_step=report.seconds_per_step,
        applied=report.applied,
    )


def end_seen(fs: FileSystem, allocation: Allocation, fencing: int = 0) -> JobEndSeen | None:
    """The job's last word, None if it has not said it, or went on after it with a higher fencing number."""
    ended = jobs.read_record(fs, layout.allocation_paths(allocation.run, allocation.number).ended, JobEnded)
    if ended is None or ended.fencing < fencing:
        return None
    sentence = _printable(ended.sentence)
    code = code_of_error(ended.code.value, ended.reason, ended.sentence)
    return JobEndSeen(code=code, sentence=sentence, failed=not ended.code.resumable)


def _evaluation_orders(
    fs: FileSystem, paths: jobs.AllocationPaths, known: Orders
) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    names = [paths.evaluation(number) for number in jobs.numbered(fs, paths.evaluations)]
    for name in names:
        if name not in known and (order := jobs.read_record(fs, name, EvaluationOrder)) is not None:
            known[name] = order
    orders = (known[name] for name in names if name in known)
    return tuple((order.request, order.num_commits, order.versions) for order in orders)


def update_seen(fs: FileSystem, allocation: Allocation, round_number: int) -> UpdateSeen | None:
    """The update of a round, None if the job has not finished it; `problem` where it cannot be signed."""
    path = layout.allocation_paths(allocation.run, allocation.number).update(round_number)
    found = jobs.read_record(fs, path, UpdateFile)
    if found is None:
        return None
    return UpdateSeen(
        run=allocation.run,
        allocation=allocation.number,
        round=round_number,
        fragment=found.fragment,
        base_digest=found.base_digest,
        codec=found.codec,
        payload_digest=found.payload_digest,
        payload_bytes=found.payload_bytes,
        weight_tokens=found.weight_tokens,
        new_tokens=found.new_tokens,
        num_steps=found.num_steps,
        problem=_update_problem(found, allocation, round_number),
    )


def _update_problem(found: UpdateFile, allocation: Allocation, round_number: int) -> str:
    if found.round != round_number:
        return f"expected an update of round {round_number}, the job wrote one of round {found.round}"
    if found.fencing < allocation.fencing:
        return f"expected fencing number {allocation.fencing} or higher, the job wrote {found.fencing}"
    counts = (found.fragment, found.payload_bytes, found.weight_tokens, found.new_tokens, found.num_steps)
    if not all(0 <= n < _MAX_COUNT for n in counts):
        return f"expected counts from 0 to 2^53, the job wrote {counts}"
    return "" if is_digest(found.payload_digest) else "expected a payload digest, the job wrote something else"


def evaluation_seen(fs: FileSystem, allocation: Allocation, path: str) -> EvaluationSeen:
    """Scores that a job left.

    Raises:
        ProtocolError: the file is damaged, or a score is impossible.
    """
    found = jobs.read_record(fs, path, EvaluationFile)
    if found is None:
        raise ObjectNotFoundError(f"{path}: expected a result, found none")
    if len(found.scores) > _MAX_SCORES or not all(map(_plausible, found.scores)):
        raise ProtocolError(f"{path}: expected at most {_MAX_SCORES} finite scores, found something else")
    return EvaluationSeen(
        run=allocation.run,
        allocation=allocation.number,
        request=found.request,
        num_commits=found.num_commits,
        versions=found.versions,
        scores=found.scores,
    )


def tasks_seen(fs: FileSystem, allocation: Allocation, number: int) -> TasksSeen:
    """Scores of benchmark tasks that a job left; a file that is none counts as one without scores, and says why.

    Raises:
        FederationError: the agent's own order cannot be read.
    """
    paths = layout.allocation_paths(allocation.run, allocation.number)
    order = jobs.read_record(fs, paths.task_order(number), EvaluationOrder)
    if order is None:
        raise ObjectNotFoundError(f"{paths.task_order(number)}: expected the order of a result, found none")
    try:
        found = jobs.read_record(fs, paths.task_result(number), TaskFile)
        problem = "the job left no result" if found is None else problem_of(found.scores) if found.scores else ""
    except FederationError as error:
        found, problem = None, str(error)
    is_good = found is not None and not problem
    problems = (problem,) if problem else found.problems[:_MAX_PROBLEMS] if found else ()
    return TasksSeen(
        run=allocation.run,
        allocation=allocation.number,
        request=order.request,
        num_commits=order.num_commits,
        versions=order.versions,
        scores=found.scores if found and is_good else (),
        problems=tuple(_printable(text) for text in problems),
    )


def _plausible(score: LanguageScore) -> bool:
    named = 0 < len(score.language) <= 16 and score.language.isascii() and score.language.isprintable()
    return named and isfinite(score.bits_per_byte) and score.bits_per_byte >= 0 and 0 <= score.num_bytes < _MAX_COUNT


def outcome_seen(outcome: OutcomeFile) -> OutcomeSeen:
    """What was written for the jobs of a run about a round."""
    is_bare = outcome.kind is OutcomeKind.COMMITTED and not outcome.blob_path
    return OutcomeSeen(
        kind=outcome.kind.value,
        theta_digest=outcome.theta_digest,
        has_blob=not is_bare,
        snapshot=outcome.snapshot_path.rpartition("/")[2],  # blobs are named by their digests
    )


def with_problem(update: UpdateSeen, problem: str) -> UpdateSeen:
    """The same update, which cannot be signed."""
    return replace(update, problem=_printable(problem))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_SENTENCE_CHARS]
