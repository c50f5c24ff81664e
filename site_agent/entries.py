# SPDX-License-Identifier: Apache-2.0
"""The private journal's vocabulary: one frozen dataclass per entry, past tense. Times are microseconds, this site's."""

from dataclasses import dataclass
from typing import TypeAlias

from federation.leaves import Reason
from federation.messages import Evaluation, TaskEvaluation, Update


@dataclass(frozen=True, kw_only=True)
class EpochBegan:
    """This process took the directory over; what a forgotten one still signs is void. The mailbox knows the rest."""

    epoch: int


@dataclass(frozen=True, kw_only=True)
class ManifestAnswered:
    """The site's answer to a run's manifest. `by_human` tells a person's answer from the policy's."""

    run: str
    manifest_digest: str
    accepted: bool
    reason: Reason
    sentence: str
    by_human: bool = False


@dataclass(frozen=True, kw_only=True)
class AllocationIntended:
    """Allocation `number` of a run will be submitted. `evaluate_only`: no training is left, a model is to be scored.

    `num_gpus`, `seconds_limit`: what it may use, for the budget; -1 where an older release did not say.
    `begin_after_seconds`: from `at_us`, before which its job need not begin.
    """

    run: str
    number: int
    fencing: int
    at_us: int
    evaluate_only: bool = False
    num_gpus: int = -1
    seconds_limit: int = -1
    begin_after_seconds: int = 0


@dataclass(frozen=True, kw_only=True)
class AllocationSubmitted:
    """The launcher took it and calls it `handle`."""

    run: str
    number: int
    handle: str
    at_us: int


@dataclass(frozen=True, kw_only=True)
class AllocationStopped:
    """The job was told to end; it is cancelled if it does not within the grace time."""

    run: str
    number: int
    reason: str
    at_us: int


@dataclass(frozen=True, kw_only=True)
class AllocationEnded:
    """Nothing of this allocation runs any more. `failed` counts towards the back-off."""

    run: str
    number: int
    failed: bool
    reason: str
    sentence: str
    at_us: int


@dataclass(frozen=True, kw_only=True)
class AllocationAccounted:
    """What the batch system's accounting says an allocation used, over all its executions that have ended.

    A later entry replaces an earlier one. Of a live allocation it tells what executions before the present one used.
    """

    run: str
    number: int
    elapsed_seconds: float
    num_gpus: int
    at_us: int


@dataclass(frozen=True, kw_only=True)
class RoundIssued:
    """A job of this allocation may train the round; only its update will be signed."""

    run: str
    round: int
    allocation: int


@dataclass(frozen=True, kw_only=True)
class UpdateSigned:
    """The one update that this site signs for (run, round, fragment, base), whole: a resend is identical."""

    update: Update
    at_us: int


@dataclass(frozen=True, kw_only=True)
class RoundRefused:
    """No update of this round will come from this site."""

    run: str
    round: int
    reason: Reason
    sentence: str


@dataclass(frozen=True, kw_only=True)
class EvaluationSigned:
    """The one evaluation that this site signs for (run, request, commits, versions), and whose job scored it."""

    evaluation: Evaluation
    allocation: int


@dataclass(frozen=True, kw_only=True)
class TasksSigned:
    """The one task evaluation that this site signs for (run, request, commits, versions); without scores, none.

    `problems`: why tasks have no score, in sentences that stay here.
    """

    evaluation: TaskEvaluation
    allocation: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cosigned:
    """This site vouches for the ledger of that size and root; no other root of that size is ever cosigned."""

    size: int
    root: str


@dataclass(frozen=True, kw_only=True)
class Posted:
    """The message named by `key` lies durably in the mailbox."""

    key: str


@dataclass(frozen=True, kw_only=True)
class PayloadDropped:
    """The payload of an ended round is no longer kept at this site."""

    run: str
    round: int


Entry: TypeAlias = (
    EpochBegan
    | ManifestAnswered
    | AllocationIntended
    | AllocationSubmitted
    | AllocationStopped
    | AllocationEnded
    | AllocationAccounted
    | RoundIssued
    | UpdateSigned
    | RoundRefused
    | EvaluationSigned
    | TasksSigned
    | Cosigned
    | Posted
    | PayloadDropped
)
