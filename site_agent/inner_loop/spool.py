# SPDX-License-Identifier: Apache-2.0
"""The job's side of the files in `site_agent.jobs`: what it reads, and what it publishes."""

from collections.abc import Callable
from contextlib import suppress

from federation.durable.api import BlobWriter, FileSystem
from federation.errors import JobFailedError, StorageError
from federation.ids import short
from site_agent.failures import code_of_error
from site_agent.inner_loop.claim import check_still_ours
from site_agent.jobs import (
    AllocationPaths,
    ChainLink,
    Claim,
    EvaluationFile,
    EvaluationOrder,
    JobEnded,
    JobReport,
    JobState,
    OutcomeFile,
    OutcomeKind,
    RoundOrder,
    RunPaths,
    StopOrder,
    TaskAttempts,
    TaskFile,
    UpdateFile,
    numbered,
    read_record,
    write_record,
)
from site_agent.json_records import encode


class JobSpool:
    """Orders and outcomes in, updates and reports out.

    Args:
        allocation: file system whose root is the allocation's directory.
        run: file system whose root is the run's directory.
        claim: under which everything is published.
    """

    def __init__(self, allocation: FileSystem, run: FileSystem, claim: Claim) -> None:
        self.claim = claim
        self._fs, self._run = allocation, run
        self._paths, self._run_paths = AllocationPaths(), RunPaths()

    def check_still_ours(self) -> None:
        """Raises FencedError if a later start of this execution has taken over."""
        check_still_ours(self._fs, self._paths, self.claim)

    def round_numbers(self, above: int) -> list[int]:
        """Rounds above a number for which there is an order, ascending."""
        return [n for n in numbered(self._fs, self._paths.rounds) if n > above]

    def round_order(self, number: int) -> RoundOrder | None:
        """The order of a round, or None."""
        return read_record(self._fs, self._paths.round_order(number), RoundOrder)

    def outcome(self, number: int) -> OutcomeFile | None:
        """How a round ended, or None if that isn't known."""
        return read_record(self._run, self._run_paths.outcome(number), OutcomeFile)

    def has_outcome(self, number: int) -> bool:
        """Whether it is known how a round ended; a look at one name."""
        return self._run.exists(self._run_paths.outcome(number))

    def ended_rounds(self) -> list[int]:
        """Rounds with an outcome, ascending."""
        return numbered(self._run, self._run_paths.outcomes)

    def chains(self, num_fragments: int, is_wanted: Callable[[int], bool]) -> list[list[ChainLink]]:
        """Per fragment its commits in force, of the rounds that are wanted; those before a snapshot may be bare."""
        chains: list[list[ChainLink]] = [[] for _ in range(num_fragments)]
        for number in filter(is_wanted, self.ended_rounds()):
            outcome = self.outcome(number)
            if outcome is not None and outcome.kind is OutcomeKind.COMMITTED:
                chains[outcome.fragment].append(link_of(outcome))
        return chains

    def stop_order(self) -> StopOrder | None:
        """Whether the agent wants this job to end."""
        return read_record(self._fs, self._paths.stop, StopOrder)

    def next_evaluation(self) -> EvaluationOrder | None:
        """The evaluation order of the lowest number that has no result."""
        done = set(numbered(self._fs, self._paths.evaluations, ".result.json"))
        for number in numbered(self._fs, self._paths.evaluations):
            if number not in done:
                return read_record(self._fs, self._paths.evaluation(number), EvaluationOrder)
        return None

    def write_evaluation(self, result: EvaluationFile) -> None:
        """Publishes scores."""
        write_record(self._fs, self._paths.evaluation_result(result.id), result)

    def next_task_order(self) -> EvaluationOrder | None:
        """The order to score benchmark tasks of the lowest number that has no result."""
        done = set(numbered(self._fs, self._paths.tasks, ".result.json"))
        for number in numbered(self._fs, self._paths.tasks):
            if number not in done:
                return read_record(self._fs, self._paths.task_order(number), EvaluationOrder)
        return None

    def count_task_attempt(self, order: EvaluationOrder) -> int:
        """One more job begins the tasks of this model: the how manieth, over all allocations."""
        path, key = self._run_paths.task_attempts, (order.request, order.num_commits, order.versions)
        last = read_record(self._run, path, TaskAttempts)
        before = last.count if last is not None and (last.request, last.num_commits, last.versions) == key else 0
        attempt = TaskAttempts(
            request=order.request, num_commits=order.num_commits, versions=order.versions, count=before + 1
        )
        write_record(self._run, path, attempt)
        return attempt.count

    def write_tasks(self, result: TaskFile) -> None:
        """Publishes scores of benchmark tasks."""
        write_record(self._fs, self._paths.task_result(result.id), result)

    def begin_payload(self) -> BlobWriter:
        """A file for a payload that is still being encoded: it is on its way to the disk meanwhile."""
        return self._fs.writer()

    def write_payload(self, number: int, payload: BlobWriter | memoryview) -> None:
        """Makes a payload durable, whole or from its file; nobody looks at it before its update file."""
        self.check_still_ours()
        if isinstance(payload, BlobWriter):
            payload.publish(self._paths.payload(number))
        else:
            self._fs.write(self._paths.payload(number), payload)

    def publish(self, update: UpdateFile) -> None:
        """Makes an update visible to the agent. Publishing it again changes nothing but the fencing number.

        Raises:
            JobFailedError: this round was published with another digest: training did not repeat itself to the bit.
        """
        known = read_record(self._fs, self._paths.update(update.round), UpdateFile)
        if known is not None and known.payload_digest != update.payload_digest:
            raise JobFailedError(
                f"round {update.round}: expected payload {short(known.payload_digest)} as published before, "
                f"found {short(update.payload_digest)}",
                advice="Set num_threads to 1, and resume on the kind of machine where the job began.",
            )
        write_record(self._fs, self._paths.update(update.round), update)

    def report(self, report: JobReport) -> None:
        """Overwrites the report.

        While the job works it is not made durable: training would wait for the disk, which is busy with a training
        checkpoint just then, and after a crash such a report tells nobody anything.
        """
        if report.state is JobState.READY:
            self._fs.place(self._paths.report, encode(report))
        else:
            write_record(self._fs, self._paths.report, report)

    def write_ended(self, ended: JobEnded) -> None:
        """The job's last word; as text first, since the agent may end what is left of the job once it is there."""
        with suppress(StorageError):  # the record matters more, and may find room
            self._fs.write(self._paths.last_word, last_word_of(ended))
        write_record(self._fs, self._paths.ended, ended)


def last_word_of(ended: JobEnded) -> bytes:
    """One line: the code by which the agent knows this end, and the sentence."""
    code = code_of_error(ended.code.value, ended.reason, ended.sentence)
    return f"{code}: {' '.join(ended.sentence.split())}\n".encode(errors="replace")


def link_of(outcome: OutcomeFile) -> ChainLink:
    """The commit that an outcome tells of."""
    return ChainLink(
        version=outcome.version,
        blob_path=outcome.blob_path,
        theta_digest=outcome.theta_digest,
        snapshot_path=outcome.snapshot_path,
    )


def is_bare(link: ChainLink | OutcomeFile) -> bool:
    """Whether a commit came without its blob and without a snapshot: its theta is only known from a later one."""
    return not link.blob_path and not link.snapshot_path
