# SPDX-License-Identifier: Apache-2.0
"""The job's files: what it waits for, and what it must not wait for."""

import pytest

from federation.durable.simulated import SimulatedFileSystem
from site_agent.inner_loop.spool import JobSpool
from site_agent.jobs import AllocationPaths, Claim, JobReport, JobState, read_record

CLAIM = Claim(execution="e1", fencing=3)


def syncs_of(state: JobState) -> list[str]:
    """Durable operations of one report over another; the report lies there afterwards."""
    allocation, run = SimulatedFileSystem(), SimulatedFileSystem()
    spool = JobSpool(allocation, run, CLAIM)
    spool.report(JobReport(fencing=3, state=state))
    done: list[str] = []
    allocation.hook = lambda operation, path: done.append(operation)
    spool.report(JobReport(fencing=3, state=state, step=7))
    found = read_record(allocation, AllocationPaths().report, JobReport)
    assert found is not None
    assert (found.state, found.step) == (state, 7)
    return [operation for operation in done if "sync" in operation]


def test_training_does_not_wait_for_the_disk_to_report() -> None:
    assert syncs_of(JobState.READY) == []


@pytest.mark.parametrize("state", [JobState.STARTING, JobState.ENDED])
def test_the_first_and_the_last_report_are_durable(state: JobState) -> None:
    assert syncs_of(state)
