# SPDX-License-Identifier: Apache-2.0
"""Names in the spool, and which ends of a job are no failure."""

import pytest

from federation.durable.simulated import SimulatedFileSystem
from site_agent.jobs import AllocationPaths, EndCode, RunPaths, numbered


def test_paths_are_below_the_base_or_relative_to_the_root() -> None:
    assert RunPaths("spool/runs/r").outcome(12) == "spool/runs/r/outcomes/12.json"
    assert RunPaths().manifest == "manifest.bin"
    assert AllocationPaths("spool/allocations/r/a1").owner == "spool/allocations/r/a1/claim/owner.json"
    assert AllocationPaths().evaluation_result(3) == "evaluations/3.result.json"


def test_numbered_sorts_as_numbers_and_leaves_other_names_out() -> None:
    fs = SimulatedFileSystem()
    for name in ("10.json", "9.json", "9.payload", "x.json", "3.result.json", "²3.json"):
        fs.write(f"d/{name}", b"")
    assert numbered(fs, "d") == [9, 10]
    assert numbered(fs, "d", ".result.json") == [3]
    assert numbered(fs, "nowhere") == []


@pytest.mark.parametrize("code", list(EndCode))
def test_only_four_ends_are_no_failure(code: EndCode) -> None:
    assert code.resumable == (code in {"stopped", "idle", "terminated", "wall-time"})
