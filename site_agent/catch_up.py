# SPDX-License-Identifier: Apache-2.0
"""From where this site builds each fragment: theta_0 and the chain of commits, or a snapshot in place of a long one.

Pure. A snapshot is used while its version is in force and no job has refused one of this run: then the coordinator is
not believed again, and the chain, whose every link is checked, is fetched after all.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Final

from federation.rounds import Round, Run
from site_agent.agent_state import AgentState
from site_agent.observations import Observations, OutcomeSeen

MAX_MISSING_COMMITS: Final = 8
"""Commit blobs of one fragment that a site fetches one by one; of more it asks for a snapshot. With 4-bit codecs eight
commits are as long as the fragment itself."""

SNAPSHOT_REFUSED: Final = "snapshot-refused"
"""`jobs.EndCode` of a job that found another theta in a snapshot than the ledger names."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where the chain of a fragment begins: a version and its snapshot, or 0 and "" for theta_0."""

    version: int = 0
    blob_digest: str = ""


def refuses_snapshots(run: str, state: AgentState) -> bool:
    """Whether a job of this run has met a wrong snapshot."""
    ended = (allocation.end for allocation in state.allocations.get(run, ()))
    return any(end is not None and end.reason == SNAPSHOT_REFUSED for end in ended)


def starts_of(run: Run, state: AgentState, seen: Observations) -> tuple[Start, ...]:
    """Per fragment where its chain begins at this site."""
    if refuses_snapshots(run.id, state):
        return (Start(),) * len(run.versions)
    return tuple(_start(run, fragment, seen) for fragment in range(len(run.versions)))


def _start(run: Run, fragment: int, seen: Observations) -> Start:
    held = seen.snapshots.get((run.id, fragment))
    in_force = held is not None and any(held.version == v.number for v in run.versions[fragment])
    if held is None or not held.usable or not in_force:
        return Start()
    return Start(version=held.version, blob_digest=held.blob_digest)


def outcome_kind(found: Round) -> str:
    """How a round that has ended ended, in the words of `jobs.OutcomeKind`."""
    if found.commit is None:
        return "abandoned"
    return "reverted" if found.reverted else "committed"


def is_told(found: Round, start: Start, written: OutcomeSeen | None) -> bool:
    """Whether jobs read the right thing about a round that has ended.

    Of commits after the start they need the blob, of the start itself the snapshot, of older ones only that they were.
    """
    kind = outcome_kind(found)
    theta_digest = found.commit.theta_digest if found.commit is not None and kind == "committed" else ""
    if written is None or (written.kind, written.theta_digest) != (kind, theta_digest):
        return False
    if kind != "committed" or found.number + 1 < start.version:
        return True
    if found.number + 1 == start.version:
        return written.snapshot == start.blob_digest
    return written.has_blob and not written.snapshot


def begins_too_late(starts: Sequence[Start], merged: Container[int]) -> bool:
    """Whether a snapshot is newer than what a window may begin from: than every round that is merged by then."""
    return any(start.version and start.version - 1 not in merged for start in starts)


def can_build(run: Run, versions: Sequence[int], starts: Sequence[Start], seen: Observations) -> bool:
    """Whether this site can have the model of these versions, now or once the blobs behind its snapshots are here."""
    return all(
        version >= start.version or all(v.blob_digest in seen.blobs for v in chain if 0 < v.number <= version)
        for version, start, chain in zip(versions, starts, run.versions, strict=True)
    )
