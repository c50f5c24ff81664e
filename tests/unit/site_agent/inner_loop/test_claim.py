# SPDX-License-Identifier: Apache-2.0
"""One execution per allocation, for ever."""

import pytest

from federation.durable.simulated import SimulatedFileSystem
from site_agent.inner_loop.claim import FencedError, check_still_ours, claim_allocation, this_execution
from site_agent.jobs import AllocationPaths, Claim, read_record

PATHS = AllocationPaths()


def claim(execution: str, fencing: int) -> Claim:
    return Claim(execution=execution, fencing=fencing)


def test_the_first_execution_gets_it_and_another_one_never() -> None:
    fs = SimulatedFileSystem()
    claim_allocation(fs, PATHS, claim("a", 1))
    with pytest.raises(FencedError, match="found execution a"):
        claim_allocation(fs, PATHS, claim("b", 9))
    assert read_record(fs, PATHS.owner, Claim) == claim("a", 1)


@pytest.mark.parametrize("fencing", [1, 0])
def test_a_second_start_without_a_higher_number_is_refused(fencing: int) -> None:
    fs = SimulatedFileSystem()
    claim_allocation(fs, PATHS, claim("a", 1))
    with pytest.raises(FencedError, match="above 1 for another start of a"):
        claim_allocation(fs, PATHS, claim("a", fencing))


def test_a_requeue_takes_over_and_fences_its_predecessor() -> None:
    fs = SimulatedFileSystem()
    claim_allocation(fs, PATHS, claim("a", 1))
    check_still_ours(fs, PATHS, claim("a", 1))
    claim_allocation(fs, PATHS, claim("a", 2))
    check_still_ours(fs, PATHS, claim("a", 2))
    with pytest.raises(FencedError):
        check_still_ours(fs, PATHS, claim("a", 1))


def test_a_directory_without_an_owner_is_still_free() -> None:
    fs = SimulatedFileSystem()
    fs.mkdir(PATHS.claim)
    claim_allocation(fs, PATHS, claim("a", 1))
    assert read_record(fs, PATHS.owner, Claim) == claim("a", 1)


def test_slurm_names_the_execution_and_counts_its_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert this_execution(5) == claim("slurm-77", 5)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert this_execution(5) == claim("slurm-77", 7)


def test_without_slurm_a_process_is_its_own_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("FEDERATION_EXECUTION", raising=False)
    assert this_execution(1).execution.startswith("pid-")
    assert this_execution(1) == this_execution(1)
    monkeypatch.setenv("FEDERATION_EXECUTION", "x")
    assert this_execution(1) == claim("x", 1)
