# SPDX-License-Identifier: Apache-2.0
"""The ledger's vocabulary: one frozen dataclass per leaf type, past tense, only ids, codes, numbers and digests.

A leaf is a decision with the figures it rests on. Types are versioned by their name's suffix; a changed meaning is a
new type. `federation.wire` turns a `Leaf` into its exact bytes and back.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from federation.plan import Bounds as Bounds
from federation.plan import Member as Member
from federation.plan import Plan as Plan
from federation.task_scores import TaskScore as TaskScore


class Outcome(StrEnum):
    """How one site's participation in one round ended."""

    ADMITTED = "admitted"
    REJECTED = "rejected"
    MISSED = "missed"
    DECLINED = "declined"
    EQUIVOCATION = "equivocation"
    """A second digest for a round that has a verdict: evidence only, the first verdict stands."""


class Reason(StrEnum):
    """Why, in one code; the sentence beside it has the arithmetic."""

    NONE = "none"
    # participation
    WRONG_ROUND = "wrong-round"
    WRONG_FRAGMENT = "wrong-fragment"
    WRONG_MANIFEST = "wrong-manifest"
    STALE_BASE = "stale-base"
    NOT_INVITED = "not-invited"
    WRONG_ALLOCATION = "wrong-allocation"
    WRONG_CODEC = "wrong-codec"
    WRONG_STEPS = "wrong-steps"
    WRONG_TOKENS = "wrong-tokens"
    WRONG_LENGTH = "wrong-length"
    PAYLOAD_DIGEST = "payload-digest"
    MALFORMED_PAYLOAD = "malformed-payload"
    NON_FINITE = "non-finite"
    NORM_TOO_LARGE = "norm-too-large"
    SECOND_DIGEST = "second-digest"
    LATE = "late"
    NO_ANSWER = "no-answer"
    TRAINING_TOO_LONG = "training-too-long"
    UPLOAD_TOO_LONG = "upload-too-long"
    ROUND_TOO_LONG = "round-too-long"
    JOB_FAILED = "job-failed"
    LOSS_SPIKE = "loss-spike"
    DIVERGED = "diverged"
    REVOKED = "revoked"
    # answers to a manifest
    POLICY = "policy"
    MANIFEST_INVALID = "manifest-invalid"
    MODEL_DIFFERS = "model-differs"
    UNKNOWN_TRAINER = "unknown-trainer"
    BUDGET = "budget"
    # rounds and runs
    NO_QUORUM = "no-quorum"
    OPERATOR = "operator"
    REVERTED = "reverted"
    COULD_NOT_OPEN = "could-not-open"
    ABANDONED_TOO_OFTEN = "abandoned-too-often"
    WITNESSES_SILENT = "witnesses-silent"
    DISK_FULL = "disk-full"


@dataclass(frozen=True, kw_only=True)
class RosterInstalledV1:
    """A root-signed roster version came into force."""

    version: int
    digest: str
    sites: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunCreatedV1:
    """A run's manifest was accepted by the coordinator; its state is DRAFT."""

    run: str
    manifest_digest: str
    plan: Plan
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class RunApprovedV1:
    """One operator approved the manifest; with enough of them the run is APPROVED."""

    run: str
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class RunStartedV1:
    """Rounds may open."""

    run: str
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class RunPausedV1:
    """No new round opens. `operator` is "" where the decider paused by itself."""

    run: str
    operator: str
    command: str
    reason: Reason
    sentence: str


@dataclass(frozen=True, kw_only=True)
class RunResumedV1:
    """Rounds may open again."""

    run: str
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class RunAbortedV1:
    """The run ended without its planned rounds."""

    run: str
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class RunCompletedV1:
    """All planned rounds are committed."""

    run: str


@dataclass(frozen=True, kw_only=True)
class RunRevertedV1:
    """The last version of a round <= to_round of each fragment is current again; later rounds are void."""

    run: str
    to_round: int
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class SiteAnsweredV1:
    """A site accepted or declined a run's manifest by its own policy."""

    run: str
    site: str
    manifest_digest: str
    accepted: bool
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class SiteDrainedV1:
    """An operator took a site out of new rounds of all runs."""

    site: str
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class SiteResumedV1:
    """A drained site may be invited again."""

    site: str
    operator: str
    command: str


class PartyKind(StrEnum):
    """Who can be invited to enrol."""

    SITE = "site"
    OPERATOR = "operator"


@dataclass(frozen=True, kw_only=True)
class InviteIssuedV1:
    """Who holds the token with this SHA-256 may, until then, ask for a channel certificate in the name of `party`."""

    kind: PartyKind
    party: str
    token_digest: str
    expires_at_us: int
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class SiteRevokedV1:
    """Nothing that comes from a site is taken any more, as long as the roster gives it this update key (its key id)."""

    site: str
    key_digest: str
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class SiteReadmittedV1:
    """A roster version gave a revoked site another update key."""

    site: str
    key_digest: str
    roster_version: int


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """One site's work in one round: its allocation at that time and the inner steps of its window."""

    site: str
    allocation: str
    num_steps: int


@dataclass(frozen=True, kw_only=True)
class RoundOpenedV1:
    """Invited sites train window `round` and encode `fragment` against `base_digest`."""

    run: str
    round: int
    fragment: int
    base_version: int
    base_digest: str
    lr_position: int
    invitations: tuple[Invitation, ...]
    sentence: str


@dataclass(frozen=True, kw_only=True)
class SiteInvitedV1:
    """A site that became ready after the opening joins a round that is still open."""

    run: str
    round: int
    invitation: Invitation


@dataclass(frozen=True, kw_only=True)
class VerdictV1:
    """What became of one site's part in one round.

    Attributes:
        update_digest: of the signed update's exact bytes ("" where there is none).
        payload_digest: of the payload blob.
        norm: Euclidean norm of the decoded pseudo-gradient, as admission measured it.
    """

    run: str
    round: int
    site: str
    outcome: Outcome
    reason: Reason
    sentence: str
    update_digest: str = ""
    payload_digest: str = ""
    payload_bytes: int = 0
    weight_tokens: int = 0
    new_tokens: int = 0
    num_steps: int = 0
    norm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SealedUpdate:
    """One admitted update with its final weight (an fp32 value)."""

    site: str
    weight: float
    update_digest: str
    payload_digest: str


@dataclass(frozen=True, kw_only=True)
class RoundSealedV1:
    """The frozen list of a round, ascending by site; from here the commit's bits are determined."""

    run: str
    round: int
    updates: tuple[SealedUpdate, ...]
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """How one site's decoded pseudo-gradient relates to the aggregate g."""

    site: str
    norm: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class RoundCommittedV1:
    """A new version of a fragment. `version` is round + 1; version 0 is (theta_0, 0, 0)."""

    run: str
    round: int
    fragment: int
    version: int
    theta_digest: str
    blob_digest: str
    blob_bytes: int
    aggregate_norm: float
    contributions: tuple[Contribution, ...]
    numerics_version: int


@dataclass(frozen=True, kw_only=True)
class StateRecordedV1:
    """Digests of momentum and residual that belong to a commit; precedes the fragment's next commit."""

    run: str
    round: int
    fragment: int
    momentum_digest: str
    residual_digest: str


@dataclass(frozen=True, kw_only=True)
class RoundAbandonOrderedV1:
    """An operator ended a round; the abandonment itself follows as a leaf of its own."""

    run: str
    round: int
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class RoundAbandonedV1:
    """A round ended without a commit; (theta, m, r) are unchanged and its number is never used again."""

    run: str
    round: int
    reason: Reason
    sentence: str


@dataclass(frozen=True, kw_only=True)
class EvaluationRequestedV1:
    """An operator asked the members for an evaluation of the current versions, as a work order of its own."""

    run: str
    request: int
    versions: tuple[int, ...]
    operator: str
    command: str


@dataclass(frozen=True, kw_only=True)
class LanguageScore:
    """Bits per byte of one language (ISO 639-1 or 639-3 code) on `num_bytes` held-out bytes."""

    language: str
    bits_per_byte: float
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class EvaluationRecordedV1:
    """One site's signed evaluation of the model made of these fragment versions.

    Attributes:
        request: number of the operator's request, 0 for the schedule's own.
        num_commits: commits in force in the model that was evaluated.
        versions: version of each fragment.
        evidence_digest: of the site's signed evaluation.
    """

    run: str
    site: str
    request: int
    num_commits: int
    versions: tuple[int, ...]
    scores: tuple[LanguageScore, ...]
    evidence_digest: str


@dataclass(frozen=True, kw_only=True)
class TasksEvaluatedV1:
    """One site's signed scores of benchmark tasks, of the model made of these fragment versions.

    Attributes: as of `EvaluationRecordedV1`; `evidence_digest` is of the site's signed task evaluation.
    """

    run: str
    site: str
    request: int
    num_commits: int
    versions: tuple[int, ...]
    scores: tuple[TaskScore, ...]
    evidence_digest: str


Body: TypeAlias = (
    RosterInstalledV1
    | RunCreatedV1
    | RunApprovedV1
    | RunStartedV1
    | RunPausedV1
    | RunResumedV1
    | RunAbortedV1
    | RunCompletedV1
    | RunRevertedV1
    | SiteAnsweredV1
    | SiteDrainedV1
    | SiteResumedV1
    | RoundOpenedV1
    | SiteInvitedV1
    | RoundAbandonOrderedV1
    | InviteIssuedV1
    | SiteRevokedV1
    | SiteReadmittedV1
    | VerdictV1
    | RoundSealedV1
    | RoundCommittedV1
    | StateRecordedV1
    | RoundAbandonedV1
    | EvaluationRequestedV1
    | EvaluationRecordedV1
    | TasksEvaluatedV1
)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One entry of the ledger: when the coordinator decided (microseconds since 1970, its own clock), and what."""

    at_us: int
    body: Body
