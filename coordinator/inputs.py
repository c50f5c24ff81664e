# SPDX-License-Identifier: Apache-2.0
"""What the decider is asked about. Inputs are verified facts, not leaves; decisions about them are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from coordinator.observations import Observations
from federation.leaves import Contribution, Plan, Reason
from federation.messages import Command, Evaluation, ManifestAnswer, RoundDeclined, TaskEvaluation, Update


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Time has passed."""

    observations: Observations


@dataclass(frozen=True, kw_only=True)
class CommandReceived:
    """An operator with the right role signed this command.

    Attributes:
        plan: that of the manifest of a run-create.
        key: id of the update key that the roster in force gives the site of a site-revoke.
        operators: all that the roster in force names.
    """

    operator: str
    command: Command
    plan: Plan | None = None
    key: str = ""
    operators: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AnswerReceived:
    """A site's answer to a manifest."""

    site: str
    answer: ManifestAnswer


@dataclass(frozen=True, kw_only=True)
class UpdateExamined:
    """A signed update passed or failed admission's checks.

    Attributes:
        reason: NONE where all checks passed.
        norm: fp64 Euclidean norm of the decoded pseudo-gradient, 0.0 where it was not decoded.
    """

    update: Update
    update_digest: str
    reason: Reason
    sentence: str
    norm: float


@dataclass(frozen=True, kw_only=True)
class DeclineReceived:
    """A site says that no update of a round will come."""

    site: str
    decline: RoundDeclined


@dataclass(frozen=True, kw_only=True)
class RoundAggregated:
    """The commit of a sealed round was computed and is durable."""

    run: str
    round: int
    theta_digest: str
    blob_digest: str
    blob_bytes: int
    aggregate_norm: float
    contributions: tuple[Contribution, ...]
    numerics_version: int


@dataclass(frozen=True, kw_only=True)
class StateDigested:
    """Momentum and residual of a committed version were digested."""

    run: str
    round: int
    fragment: int
    momentum_digest: str
    residual_digest: str


@dataclass(frozen=True, kw_only=True)
class EvaluationReceived:
    """A site signed scores of a model."""

    evaluation: Evaluation
    evidence_digest: str


@dataclass(frozen=True, kw_only=True)
class TasksReceived:
    """A site signed scores of benchmark tasks."""

    evaluation: TaskEvaluation
    evidence_digest: str


@dataclass(frozen=True, kw_only=True)
class RosterAccepted:
    """A root-signed roster version was verified. `keys` holds the id of each site's update key."""

    version: int
    digest: str
    sites: tuple[str, ...]
    keys: Mapping[str, str] = field(default_factory=dict)


Input: TypeAlias = (
    Tick
    | CommandReceived
    | AnswerReceived
    | UpdateExamined
    | DeclineReceived
    | RoundAggregated
    | StateDigested
    | EvaluationReceived
    | TasksReceived
    | RosterAccepted
)
