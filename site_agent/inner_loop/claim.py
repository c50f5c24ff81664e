# SPDX-License-Identifier: Apache-2.0
"""The job's first act: one execution claims an allocation, for ever (invariant I5)."""

import os
from pathlib import Path

from federation.durable.api import FileSystem
from federation.errors import TrainingError
from site_agent.jobs import AllocationPaths, Claim, read_record
from site_agent.json_records import encode

EXECUTION_VARIABLE = "FEDERATION_EXECUTION"
"""Names the execution where there is no batch system; a restart under the same name needs a higher fencing number."""


class FencedError(TrainingError):
    """Another execution owns this allocation, or a later start of the same one."""


def this_execution(fencing: int) -> Claim:
    """Who this process is: the Slurm job (a requeue keeps its id and counts restarts), else a name or pid.

    Args:
        fencing: of the work order; each requeue by Slurm adds one.
    """
    slurm = os.environ.get("SLURM_JOB_ID")
    if slurm:
        return Claim(execution=f"slurm-{slurm}", fencing=fencing + int(os.environ.get("SLURM_RESTART_COUNT", "0")))
    named = os.environ.get(EXECUTION_VARIABLE)
    return Claim(execution=named or f"pid-{os.getpid()}-{_start_time()}", fencing=fencing)


def claim_allocation(fs: FileSystem, paths: AllocationPaths, claim: Claim) -> None:
    """Makes this execution the only one that may train or publish under an allocation.

    Raises:
        FencedError: another execution holds it, or this one's fencing number is not higher than that of its last start.
    """
    fs.mkdir(paths.claim)
    if not fs.create(paths.owner, encode(claim)):
        _claim_again(fs, paths, claim)
    if fs.exists(paths.closed):  # between two looks at the owner, perhaps
        raise FencedError("allocation: expected to be unclaimed, found execution closed")


def _claim_again(fs: FileSystem, paths: AllocationPaths, claim: Claim) -> None:
    """A requeue of the execution that holds the claim already."""
    owner = read_record(fs, paths.owner, Claim)
    assert owner is not None, "claims are never removed"
    if owner.execution != claim.execution:
        raise FencedError(f"allocation: expected to be unclaimed, found execution {owner.execution}")
    if owner.fencing >= claim.fencing:
        raise FencedError(
            f"allocation: expected a fencing number above {owner.fencing} for another start of {claim.execution}, "
            f"found {claim.fencing}"
        )
    fs.write(paths.owner, encode(claim))


def check_still_ours(fs: FileSystem, paths: AllocationPaths, claim: Claim) -> None:
    """Raises FencedError if a later start of this execution has taken over."""
    owner = read_record(fs, paths.owner, Claim)
    if owner != claim:
        raise FencedError(f"allocation: expected to be owned by {claim}, found {owner}")


def _start_time() -> str:
    """This process's start in clock ticks since boot: with the pid it names a process uniquely."""
    try:
        return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "unknown"
