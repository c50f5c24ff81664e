# SPDX-License-Identifier: Apache-2.0
"""Before a successor is submitted its predecessor is closed: whatever may still start or go on for it is fenced off."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from federation.blobs.store import BlobStore
from federation.durable.simulated import SimulatedFileSystem
from site_agent import layout
from site_agent.executor import Executor
from site_agent.inner_loop.claim import FencedError, check_still_ours, claim_allocation
from site_agent.jobs import Claim
from site_agent.orders import JobSettings, OrderDesk

PATHS = layout.allocation_paths("r", 1)
JOB = Claim(execution="slurm-7", fencing=1)


@pytest.fixture
def fs() -> SimulatedFileSystem:
    return SimulatedFileSystem()


@pytest.fixture
def desk(fs: SimulatedFileSystem) -> OrderDesk:
    settings = JobSettings(data_dir="/data", languages=("fi",))
    return OrderDesk(fs, Path("/site"), BlobStore(fs, layout.BLOBS), "alpha", settings)


def test_a_submission_that_comes_through_too_late_finds_it_closed(fs: SimulatedFileSystem, desk: OrderDesk) -> None:
    assert not desk.is_closed("r", 1)
    desk.close("r", 1)
    assert desk.is_closed("r", 1)
    with pytest.raises(FencedError, match="found execution closed"):
        claim_allocation(fs, PATHS, JOB)


def test_a_job_that_was_thought_lost_is_fenced_off_and_cannot_be_requeued(
    fs: SimulatedFileSystem, desk: OrderDesk
) -> None:
    claim_allocation(fs, PATHS, JOB)
    check_still_ours(fs, PATHS, JOB)
    desk.close("r", 1)
    with pytest.raises(FencedError):
        check_still_ours(fs, PATHS, JOB)
    with pytest.raises(FencedError, match="found execution closed"):
        claim_allocation(fs, PATHS, Claim(execution="slurm-7", fencing=9))


@pytest.mark.parametrize(("number", "closed"), [(1, False), (2, True)])
def test_only_a_predecessor_is_closed(desk: OrderDesk, number: int, closed: bool) -> None:
    instruction = SimpleNamespace(run="r", number=number)
    Executor._close_earlier(cast(Executor, SimpleNamespace(orders=desk)), cast(Any, instruction))
    assert desk.is_closed("r", 1) is closed
    assert not desk.is_closed("r", number)
