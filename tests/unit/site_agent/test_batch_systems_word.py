# SPDX-License-Identifier: Apache-2.0
"""What a batch system says of jobs, as the agent takes it: ends without a last word, requeues, accounts."""

from pathlib import Path

import pytest
from agent_situations import Situation

from federation.durable.real import RealFileSystem
from federation.leaves import Reason
from site_agent import job_files, layout
from site_agent.agent_state import Allocation
from site_agent.entries import (
    AllocationAccounted,
    AllocationEnded,
    AllocationIntended,
    AllocationSubmitted,
    RoundRefused,
)
from site_agent.job_files import BatchSeen
from site_agent.jobs import Claim, EndCode, JobEnded, JobReport, JobState, write_record
from site_agent.observations import Execution, JobEndSeen, JobPhase

SECOND = 1_000_000


def running() -> Situation:
    """Allocation 1 was submitted as job 7."""
    situation = Situation().started()
    situation.settle()
    submitted = AllocationSubmitted(run=situation.run, number=1, handle="slurm:-:7", at_us=situation.now_us)
    return situation.journal(submitted).job()


@pytest.mark.parametrize(
    ("fate", "failed", "reason"),
    [
        ("node-fail", True, "node-fail"),
        ("preempted", False, "preempted"),
        ("timeout", True, "timeout"),
        ("module-missing", True, "module-missing"),
        ("", True, "killed"),
    ],
)
def test_an_end_without_a_last_word_has_the_batch_systems_reason(fate: str, failed: bool, reason: str) -> None:
    (end,) = running().job(execution=Execution.ENDED, fate=fate).decide()
    assert isinstance(end, AllocationEnded)
    assert (end.failed, end.reason) == (failed, reason)
    assert end.sentence


def test_the_jobs_own_last_word_counts_more() -> None:
    last = JobEndSeen(code="wall-time", sentence="", failed=False)
    (end,) = running().job(execution=Execution.ENDED, fate="timeout", end=last).decide()
    assert isinstance(end, AllocationEnded)
    assert (end.failed, end.reason) == (False, "wall-time")


def test_what_no_new_job_can_mend_waits_for_a_person_and_the_round_is_declined() -> None:
    situation = running().opened(0)
    last = JobEndSeen(code="wrong-precision", sentence="bf16", failed=True)
    situation.job(execution=Execution.ENDED, end=last).settle()
    situation.no_job().later(10**6)
    found = situation.settle()
    assert [type(entry) for entry in found] == [RoundRefused] or not found
    refused = situation.state.refused[situation.run, 0]
    assert refused.reason in (Reason.JOB_FAILED, Reason.MODEL_DIFFERS)
    situation.human(retry_at_us=situation.now_us)
    assert AllocationIntended in {type(entry) for entry in situation.settle()}


def test_a_run_that_this_trainer_can_never_train_is_not_tried_again_even_if_asked() -> None:
    situation = running()
    last = JobEndSeen(code="model-differs", sentence="x", failed=True)
    situation.job(execution=Execution.ENDED, end=last).settle()
    situation.no_job().later(10**6).human(retry_at_us=situation.now_us)
    assert AllocationIntended not in {type(entry) for entry in situation.settle()}


def test_a_person_can_name_the_job_of_a_submission_whose_fate_nobody_knows() -> None:
    situation = Situation().started()
    situation.settle()
    situation.job(execution=Execution.UNKNOWN, phase=JobPhase.NONE)
    assert situation.later(10**6).settle() == []
    (found,) = situation.human(handles=((1, "slurm:-:9"),)).settle()
    assert isinstance(found, AllocationSubmitted)
    assert found.handle == "slurm:-:9"


def test_accounts_are_journaled_once() -> None:
    situation = running()
    situation.job(execution=Execution.ENDED, fate="timeout").settle()
    situation.no_job().see(accounts={(situation.run, 1): (3600.0, 8)})
    found = [entry for entry in situation.decide() if isinstance(entry, AllocationAccounted)]
    assert [(entry.elapsed_seconds, entry.num_gpus) for entry in found] == [(3600.0, 8)]
    situation.journal(*found)
    (allocation,) = [a for a in situation.state.allocations[situation.run] if a.number == 1]
    assert allocation.accounted == found[0]


# --- files of a job that was requeued ---------------------------------------------------------------------------------


class Files:
    """An allocation's directory, in which the first start of a job left a report and its last word."""

    def __init__(self, directory: Path) -> None:
        self.fs = RealFileSystem(directory)
        self.live = Allocation(run="r", number=1, fencing=5, intended_at_us=0, handle="slurm:-:7")
        self.paths = layout.allocation_paths("r", 1)
        self.fs.mkdir(self.paths.claim)
        self.starts(5)
        ended = JobEnded(code=EndCode.TERMINATED, reason="sigterm", sentence="ended by sigterm", fencing=5)
        write_record(self.fs, self.paths.ended, ended)

    def starts(self, fencing: int) -> None:
        write_record(self.fs, self.paths.owner, Claim(execution="slurm-7", fencing=fencing))
        write_record(self.fs, self.paths.report, JobReport(fencing=fencing, state=JobState.READY))

    def seen(self, execution: Execution, restarts: int) -> tuple[JobPhase, str]:
        found = job_files.allocation_seen(self.fs, self.live, BatchSeen(execution=execution, restarts=restarts), {})
        return found.phase, found.end.code if found.end else ""


def test_a_requeued_job_has_said_nothing_until_it_starts_again(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.seen(Execution.RUNNING, 0) == (JobPhase.READY, "terminated")
    assert files.seen(Execution.QUEUED, 1) == (JobPhase.NONE, "")
    assert files.seen(Execution.RUNNING, 1) == (JobPhase.NONE, "")
    files.starts(6)
    assert files.seen(Execution.RUNNING, 1) == (JobPhase.READY, "")


@pytest.mark.parametrize("can_requeue", [True, False])
def test_only_a_batch_system_that_requeues_may_begin_a_job_anew(tmp_path: Path, can_requeue: bool) -> None:
    files = Files(tmp_path)

    def may_begin_anew() -> bool:
        batch = BatchSeen(execution=Execution.RUNNING, can_requeue=can_requeue)
        return job_files.allocation_seen(files.fs, files.live, batch, {}).may_begin_anew

    assert may_begin_anew() is can_requeue
    ended = JobEnded(code=EndCode.FAILED, reason="ValueError", sentence="x", fencing=5)
    write_record(files.fs, files.paths.ended, ended)
    assert not may_begin_anew()


def test_an_earlier_starts_last_word_is_not_that_of_a_later_one_which_was_killed(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.starts(6)
    assert files.seen(Execution.ENDED, 0)[1] == "", "the batch system has forgotten how often it started the job"


def test_what_a_job_wrote_counts_though_the_last_look_saw_it_waiting(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.starts(5)
    assert files.seen(Execution.QUEUED, 0) == (JobPhase.READY, "terminated")
