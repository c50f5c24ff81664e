# SPDX-License-Identifier: Apache-2.0
"""What the agent is to do next: imperative, idempotent, derived anew in every pass from what is on disk."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from federation.messages import Evaluation, SiteStatus, TaskEvaluation, Update
from site_agent.entries import Cosigned, ManifestAnswered, RoundRefused


@dataclass(frozen=True, kw_only=True)
class PostAnswer:
    """Tell the coordinator what this site says to a manifest."""

    key: str
    answer: ManifestAnswered


class Submission(StrEnum):
    """What to do where no earlier attempt to submit the allocation is found."""

    START = "start"
    WAIT = "wait"
    """An attempt that died may still come through (an orphaned `sbatch`)."""
    GIVE_UP = "give-up"


@dataclass(frozen=True, kw_only=True)
class SubmitAllocation:
    """Look for an earlier attempt; if there certainly is none: write the work order and start the job, or don't.

    `data_sets`: names of those of the site that the job is given, () where the site names none.
    `begin_after_seconds`: from now, before which the job need not begin.
    """

    run: str
    number: int
    fencing: int
    theta_blob: str
    manifest_digest: str
    otherwise: Submission
    data_sets: tuple[str, ...] = ()
    begin_after_seconds: int = 0


@dataclass(frozen=True, kw_only=True)
class WriteOutcome:
    """Tell the jobs of a run how a round ended: "committed", "abandoned" or "reverted".

    `version` and digests are of the commit, 0 and "" otherwise. One of `blob_digest` and `snapshot_digest` at most.
    """

    run: str
    round: int
    fragment: int
    kind: str
    version: int = 0
    theta_digest: str = ""
    blob_digest: str = ""
    listed_payload_digest: str = ""
    snapshot_digest: str = ""


@dataclass(frozen=True, kw_only=True)
class IssueRound:
    """Let the job of this allocation train a round."""

    run: str
    allocation: int
    round: int
    fragment: int
    base_version: int
    base_digest: str
    lr_position: int
    num_steps: int
    generation: int


@dataclass(frozen=True, kw_only=True)
class ChainLink:
    """One commit of a fragment: its version, its blob (or the version's snapshot) and the digest of theta after it."""

    version: int
    blob_digest: str
    theta_digest: str
    snapshot_digest: str = ""


@dataclass(frozen=True, kw_only=True)
class IssueEvaluation:
    """Let the job of this allocation score the model of these versions; `chains` are the commits that lead there.

    `of_tasks`: on benchmark tasks, else in bits per byte.
    """

    run: str
    allocation: int
    id: int
    request: int
    num_commits: int
    versions: tuple[int, ...]
    chains: tuple[tuple[ChainLink, ...], ...]
    of_tasks: bool = False


@dataclass(frozen=True, kw_only=True)
class OrderStop:
    """Ask the job of this allocation to checkpoint and end."""

    run: str
    allocation: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class CancelAllocation:
    """Have the launcher end a job that did not end when asked; `force` after a second grace time."""

    run: str
    allocation: int
    handle: str
    force: bool


@dataclass(frozen=True, kw_only=True)
class PostUpdate:
    """Sign and offer an update; the same bytes every time."""

    key: str
    update: Update


@dataclass(frozen=True, kw_only=True)
class PostDecline:
    """Tell the coordinator that no update of a round will come."""

    key: str
    refusal: RoundRefused


@dataclass(frozen=True, kw_only=True)
class PostEvaluation:
    """Sign and offer an evaluation; the same bytes every time."""

    key: str
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class PostTasks:
    """Sign and offer scores of benchmark tasks; the same bytes every time."""

    key: str
    evaluation: TaskEvaluation


@dataclass(frozen=True, kw_only=True)
class PostCosignature:
    """Cosign the ledger checkpoint of this size and send the cosignature."""

    key: str
    cosigned: Cosigned


@dataclass(frozen=True, kw_only=True)
class DropPayload:
    """Free the space of a payload whose round has ended for good."""

    run: str
    round: int
    allocation: int
    payload_digest: str


@dataclass(frozen=True, kw_only=True)
class ReportStatus:
    """The level-triggered report; the driver sends it when it changed and as a heartbeat."""

    status: SiteStatus


Instruction: TypeAlias = (
    PostAnswer
    | SubmitAllocation
    | WriteOutcome
    | IssueRound
    | IssueEvaluation
    | OrderStop
    | CancelAllocation
    | PostUpdate
    | PostDecline
    | PostEvaluation
    | PostTasks
    | PostCosignature
    | DropPayload
    | ReportStatus
)
