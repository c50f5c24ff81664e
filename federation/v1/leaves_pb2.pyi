from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_ADMITTED: _ClassVar[Outcome]
    OUTCOME_REJECTED: _ClassVar[Outcome]
    OUTCOME_MISSED: _ClassVar[Outcome]
    OUTCOME_DECLINED: _ClassVar[Outcome]
    OUTCOME_EQUIVOCATION: _ClassVar[Outcome]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_NONE: _ClassVar[Reason]
    REASON_WRONG_ROUND: _ClassVar[Reason]
    REASON_WRONG_FRAGMENT: _ClassVar[Reason]
    REASON_WRONG_MANIFEST: _ClassVar[Reason]
    REASON_STALE_BASE: _ClassVar[Reason]
    REASON_NOT_INVITED: _ClassVar[Reason]
    REASON_WRONG_ALLOCATION: _ClassVar[Reason]
    REASON_WRONG_CODEC: _ClassVar[Reason]
    REASON_WRONG_STEPS: _ClassVar[Reason]
    REASON_WRONG_TOKENS: _ClassVar[Reason]
    REASON_WRONG_LENGTH: _ClassVar[Reason]
    REASON_PAYLOAD_DIGEST: _ClassVar[Reason]
    REASON_MALFORMED_PAYLOAD: _ClassVar[Reason]
    REASON_NON_FINITE: _ClassVar[Reason]
    REASON_NORM_TOO_LARGE: _ClassVar[Reason]
    REASON_SECOND_DIGEST: _ClassVar[Reason]
    REASON_LATE: _ClassVar[Reason]
    REASON_NO_ANSWER: _ClassVar[Reason]
    REASON_TRAINING_TOO_LONG: _ClassVar[Reason]
    REASON_UPLOAD_TOO_LONG: _ClassVar[Reason]
    REASON_ROUND_TOO_LONG: _ClassVar[Reason]
    REASON_JOB_FAILED: _ClassVar[Reason]
    REASON_LOSS_SPIKE: _ClassVar[Reason]
    REASON_DIVERGED: _ClassVar[Reason]
    REASON_REVOKED: _ClassVar[Reason]
    REASON_POLICY: _ClassVar[Reason]
    REASON_MANIFEST_INVALID: _ClassVar[Reason]
    REASON_MODEL_DIFFERS: _ClassVar[Reason]
    REASON_UNKNOWN_TRAINER: _ClassVar[Reason]
    REASON_BUDGET: _ClassVar[Reason]
    REASON_NO_QUORUM: _ClassVar[Reason]
    REASON_OPERATOR: _ClassVar[Reason]
    REASON_REVERTED: _ClassVar[Reason]
    REASON_COULD_NOT_OPEN: _ClassVar[Reason]
    REASON_ABANDONED_TOO_OFTEN: _ClassVar[Reason]
    REASON_WITNESSES_SILENT: _ClassVar[Reason]
    REASON_DISK_FULL: _ClassVar[Reason]

class PartyKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PARTY_KIND_UNSPECIFIED: _ClassVar[PartyKind]
    PARTY_KIND_SITE: _ClassVar[PartyKind]
    PARTY_KIND_OPERATOR: _ClassVar[PartyKind]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_ADMITTED: Outcome
OUTCOME_REJECTED: Outcome
OUTCOME_MISSED: Outcome
OUTCOME_DECLINED: Outcome
OUTCOME_EQUIVOCATION: Outcome
REASON_UNSPECIFIED: Reason
REASON_NONE: Reason
REASON_WRONG_ROUND: Reason
REASON_WRONG_FRAGMENT: Reason
REASON_WRONG_MANIFEST: Reason
REASON_STALE_BASE: Reason
REASON_NOT_INVITED: Reason
REASON_WRONG_ALLOCATION: Reason
REASON_WRONG_CODEC: Reason
REASON_WRONG_STEPS: Reason
REASON_WRONG_TOKENS: Reason
REASON_WRONG_LENGTH: Reason
REASON_PAYLOAD_DIGEST: Reason
REASON_MALFORMED_PAYLOAD: Reason
REASON_NON_FINITE: Reason
REASON_NORM_TOO_LARGE: Reason
REASON_SECOND_DIGEST: Reason
REASON_LATE: Reason
REASON_NO_ANSWER: Reason
REASON_TRAINING_TOO_LONG: Reason
REASON_UPLOAD_TOO_LONG: Reason
REASON_ROUND_TOO_LONG: Reason
REASON_JOB_FAILED: Reason
REASON_LOSS_SPIKE: Reason
REASON_DIVERGED: Reason
REASON_REVOKED: Reason
REASON_POLICY: Reason
REASON_MANIFEST_INVALID: Reason
REASON_MODEL_DIFFERS: Reason
REASON_UNKNOWN_TRAINER: Reason
REASON_BUDGET: Reason
REASON_NO_QUORUM: Reason
REASON_OPERATOR: Reason
REASON_REVERTED: Reason
REASON_COULD_NOT_OPEN: Reason
REASON_ABANDONED_TOO_OFTEN: Reason
REASON_WITNESSES_SILENT: Reason
REASON_DISK_FULL: Reason
PARTY_KIND_UNSPECIFIED: PartyKind
PARTY_KIND_SITE: PartyKind
PARTY_KIND_OPERATOR: PartyKind

class Leaf(_message.Message):
    __slots__ = ("at_us", "roster_installed_v1", "run_created_v1", "run_approved_v1", "run_started_v1", "run_paused_v1", "run_resumed_v1", "run_aborted_v1", "run_completed_v1", "run_reverted_v1", "site_answered_v1", "site_drained_v1", "site_resumed_v1", "round_opened_v1", "verdict_v1", "round_sealed_v1", "round_committed_v1", "state_recorded_v1", "round_abandoned_v1", "evaluation_requested_v1", "evaluation_recorded_v1", "site_invited_v1", "round_abandon_ordered_v1", "tasks_evaluated_v1", "invite_issued_v1", "site_revoked_v1", "site_readmitted_v1")
    AT_US_FIELD_NUMBER: _ClassVar[int]
    ROSTER_INSTALLED_V1_FIELD_NUMBER: _ClassVar[int]
    RUN_CREATED_V1_FIELD_NUMBER: _ClassVar[int]
    RUN_APPROVED_V1_FIELD_NUMBER: _ClassVar[int]
    RUN_STARTED_V1_FIELD_NUMBER: _ClassVar[int]
    RUN_PAUSED_V1_FIELD_NUMBER: _ClassVar[int]
    RUN_RESUMED_V1_FIELD_NUMBER: _ClassVar[int]
    RUN_ABORTED_V1_FIELD_NUMBER: _ClassVar[int]
    RUN_COMPLETED_V1_FIELD_NUMBER: _ClassVar[int]
    RUN_REVERTED_V1_FIELD_NUMBER: _ClassVar[int]
    SITE_ANSWERED_V1_FIELD_NUMBER: _ClassVar[int]
    SITE_DRAINED_V1_FIELD_NUMBER: _ClassVar[int]
    SITE_RESUMED_V1_FIELD_NUMBER: _ClassVar[int]
    ROUND_OPENED_V1_FIELD_NUMBER: _ClassVar[int]
    VERDICT_V1_FIELD_NUMBER: _ClassVar[int]
    ROUND_SEALED_V1_FIELD_NUMBER: _ClassVar[int]
    ROUND_COMMITTED_V1_FIELD_NUMBER: _ClassVar[int]
    STATE_RECORDED_V1_FIELD_NUMBER: _ClassVar[int]
    ROUND_ABANDONED_V1_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_REQUESTED_V1_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_RECORDED_V1_FIELD_NUMBER: _ClassVar[int]
    SITE_INVITED_V1_FIELD_NUMBER: _ClassVar[int]
    ROUND_ABANDON_ORDERED_V1_FIELD_NUMBER: _ClassVar[int]
    TASKS_EVALUATED_V1_FIELD_NUMBER: _ClassVar[int]
    INVITE_ISSUED_V1_FIELD_NUMBER: _ClassVar[int]
    SITE_REVOKED_V1_FIELD_NUMBER: _ClassVar[int]
    SITE_READMITTED_V1_FIELD_NUMBER: _ClassVar[int]
    at_us: int
    roster_installed_v1: RosterInstalledV1
    run_created_v1: RunCreatedV1
    run_approved_v1: RunApprovedV1
    run_started_v1: RunStartedV1
    run_paused_v1: RunPausedV1
    run_resumed_v1: RunResumedV1
    run_aborted_v1: RunAbortedV1
    run_completed_v1: RunCompletedV1
    run_reverted_v1: RunRevertedV1
    site_answered_v1: SiteAnsweredV1
    site_drained_v1: SiteDrainedV1
    site_resumed_v1: SiteResumedV1
    round_opened_v1: RoundOpenedV1
    verdict_v1: VerdictV1
    round_sealed_v1: RoundSealedV1
    round_committed_v1: RoundCommittedV1
    state_recorded_v1: StateRecordedV1
    round_abandoned_v1: RoundAbandonedV1
    evaluation_requested_v1: EvaluationRequestedV1
    evaluation_recorded_v1: EvaluationRecordedV1
    site_invited_v1: SiteInvitedV1
    round_abandon_ordered_v1: RoundAbandonOrderedV1
    tasks_evaluated_v1: TasksEvaluatedV1
    invite_issued_v1: InviteIssuedV1
    site_revoked_v1: SiteRevokedV1
    site_readmitted_v1: SiteReadmittedV1
    def __init__(self, at_us: _Optional[int] = ..., roster_installed_v1: _Optional[_Union[RosterInstalledV1, _Mapping]] = ..., run_created_v1: _Optional[_Union[RunCreatedV1, _Mapping]] = ..., run_approved_v1: _Optional[_Union[RunApprovedV1, _Mapping]] = ..., run_started_v1: _Optional[_Union[RunStartedV1, _Mapping]] = ..., run_paused_v1: _Optional[_Union[RunPausedV1, _Mapping]] = ..., run_resumed_v1: _Optional[_Union[RunResumedV1, _Mapping]] = ..., run_aborted_v1: _Optional[_Union[RunAbortedV1, _Mapping]] = ..., run_completed_v1: _Optional[_Union[RunCompletedV1, _Mapping]] = ..., run_reverted_v1: _Optional[_Union[RunRevertedV1, _Mapping]] = ..., site_answered_v1: _Optional[_Union[SiteAnsweredV1, _Mapping]] = ..., site_drained_v1: _Optional[_Union[SiteDrainedV1, _Mapping]] = ..., site_resumed_v1: _Optional[_Union[SiteResumedV1, _Mapping]] = ..., round_opened_v1: _Optional[_Union[RoundOpenedV1, _Mapping]] = ..., verdict_v1: _Optional[_Union[VerdictV1, _Mapping]] = ..., round_sealed_v1: _Optional[_Union[RoundSealedV1, _Mapping]] = ..., round_committed_v1: _Optional[_Union[RoundCommittedV1, _Mapping]] = ..., state_recorded_v1: _Optional[_Union[StateRecordedV1, _Mapping]] = ..., round_abandoned_v1: _Optional[_Union[RoundAbandonedV1, _Mapping]] = ..., evaluation_requested_v1: _Optional[_Union[EvaluationRequestedV1, _Mapping]] = ..., evaluation_recorded_v1: _Optional[_Union[EvaluationRecordedV1, _Mapping]] = ..., site_invited_v1: _Optional[_Union[SiteInvitedV1, _Mapping]] = ..., round_abandon_ordered_v1: _Optional[_Union[RoundAbandonOrderedV1, _Mapping]] = ..., tasks_evaluated_v1: _Optional[_Union[TasksEvaluatedV1, _Mapping]] = ..., invite_issued_v1: _Optional[_Union[InviteIssuedV1, _Mapping]] = ..., site_revoked_v1: _Optional[_Union[SiteRevokedV1, _Mapping]] = ..., site_readmitted_v1: _Optional[_Union[SiteReadmittedV1, _Mapping]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("site", "num_inner_steps", "planned_tokens", "courier_round_trip_seconds")
    SITE_FIELD_NUMBER: _ClassVar[int]
    NUM_INNER_STEPS_FIELD_NUMBER: _ClassVar[int]
    PLANNED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COURIER_ROUND_TRIP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    site: str
    num_inner_steps: int
    planned_tokens: int
    courier_round_trip_seconds: int
    def __init__(self, site: _Optional[str] = ..., num_inner_steps: _Optional[int] = ..., planned_tokens: _Optional[int] = ..., courier_round_trip_seconds: _Optional[int] = ...) -> None: ...

class Bounds(_message.Message):
    __slots__ = ("answer_seconds", "training_seconds", "upload_seconds", "max_round_seconds", "open_grace_seconds", "max_open_wait_seconds", "seal_grace_seconds", "witness_seconds", "max_abandoned")
    ANSWER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROUND_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OPEN_GRACE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_OPEN_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SEAL_GRACE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WITNESS_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_ABANDONED_FIELD_NUMBER: _ClassVar[int]
    answer_seconds: int
    training_seconds: int
    upload_seconds: int
    max_round_seconds: int
    open_grace_seconds: int
    max_open_wait_seconds: int
    seal_grace_seconds: int
    witness_seconds: int
    max_abandoned: int
    def __init__(self, answer_seconds: _Optional[int] = ..., training_seconds: _Optional[int] = ..., upload_seconds: _Optional[int] = ..., max_round_seconds: _Optional[int] = ..., open_grace_seconds: _Optional[int] = ..., max_open_wait_seconds: _Optional[int] = ..., seal_grace_seconds: _Optional[int] = ..., witness_seconds: _Optional[int] = ..., max_abandoned: _Optional[int] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("members", "num_rounds", "num_fragments", "num_inner_steps", "tau", "first_window_steps", "max_rounds_in_flight", "quorum_sites", "quorum_token_percent", "weighting", "approvals_required", "evaluate_every", "witness_quorum", "witness_lag", "bounds", "theta_digests")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAGMENTS_FIELD_NUMBER: _ClassVar[int]
    NUM_INNER_STEPS_FIELD_NUMBER: _ClassVar[int]
    TAU_FIELD_NUMBER: _ClassVar[int]
    FIRST_WINDOW_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROUNDS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    QUORUM_SITES_FIELD_NUMBER: _ClassVar[int]
    QUORUM_TOKEN_PERCENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTING_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_EVERY_FIELD_NUMBER: _ClassVar[int]
    WITNESS_QUORUM_FIELD_NUMBER: _ClassVar[int]
    WITNESS_LAG_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    THETA_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    num_rounds: int
    num_fragments: int
    num_inner_steps: int
    tau: int
    first_window_steps: int
    max_rounds_in_flight: int
    quorum_sites: int
    quorum_token_percent: int
    weighting: str
    approvals_required: int
    evaluate_every: int
    witness_quorum: int
    witness_lag: int
    bounds: Bounds
    theta_digests: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., num_rounds: _Optional[int] = ..., num_fragments: _Optional[int] = ..., num_inner_steps: _Optional[int] = ..., tau: _Optional[int] = ..., first_window_steps: _Optional[int] = ..., max_rounds_in_flight: _Optional[int] = ..., quorum_sites: _Optional[int] = ..., quorum_token_percent: _Optional[int] = ..., weighting: _Optional[str] = ..., approvals_required: _Optional[int] = ..., evaluate_every: _Optional[int] = ..., witness_quorum: _Optional[int] = ..., witness_lag: _Optional[int] = ..., bounds: _Optional[_Union[Bounds, _Mapping]] = ..., theta_digests: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RosterInstalledV1(_message.Message):
    __slots__ = ("version", "digest", "sites")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    version: int
    digest: bytes
    sites: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[int] = ..., digest: _Optional[bytes] = ..., sites: _Optional[_Iterable[str]] = ...) -> None: ...

class RunCreatedV1(_message.Message):
    __slots__ = ("run", "manifest_digest", "plan", "operator", "command")
    RUN_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    run: str
    manifest_digest: bytes
    plan: Plan
    operator: str
    command: str
    def __init__(self, run: _Optional[str] = ..., manifest_digest: _Optional[bytes] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class RunApprovedV1(_message.Message):
    __slots__ = ("run", "operator", "command")
    RUN_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    run: str
    operator: str
    command: str
    def __init__(self, run: _Optional[str] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class RunStartedV1(_message.Message):
    __slots__ = ("run", "operator", "command")
    RUN_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    run: str
    operator: str
    command: str
    def __init__(self, run: _Optional[str] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class RunPausedV1(_message.Message):
    __slots__ = ("run", "operator", "command", "reason", "sentence")
    RUN_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    run: str
    operator: str
    command: str
    reason: Reason
    sentence: str
    def __init__(self, run: _Optional[str] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ..., reason: _Optional[_Union[Reason, str]] = ..., sentence: _Optional[str] = ...) -> None: ...

class RunResumedV1(_message.Message):
    __slots__ = ("run", "operator", "command")
    RUN_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    run: str
    operator: str
    command: str
    def __init__(self, run: _Optional[str] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class RunAbortedV1(_message.Message):
    __slots__ = ("run", "operator", "command")
    RUN_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    run: str
    operator: str
    command: str
    def __init__(self, run: _Optional[str] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class RunCompletedV1(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class RunRevertedV1(_message.Message):
    __slots__ = ("run", "to_round", "operator", "command")
    RUN_FIELD_NUMBER: _ClassVar[int]
    TO_ROUND_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    run: str
    to_round: int
    operator: str
    command: str
    def __init__(self, run: _Optional[str] = ..., to_round: _Optional[int] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class SiteAnsweredV1(_message.Message):
    __slots__ = ("run", "site", "manifest_digest", "accepted", "reason")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run: str
    site: str
    manifest_digest: bytes
    accepted: bool
    reason: Reason
    def __init__(self, run: _Optional[str] = ..., site: _Optional[str] = ..., manifest_digest: _Optional[bytes] = ..., accepted: _Optional[bool] = ..., reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class SiteDrainedV1(_message.Message):
    __slots__ = ("site", "operator", "command")
    SITE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    site: str
    operator: str
    command: str
    def __init__(self, site: _Optional[str] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class InviteIssuedV1(_message.Message):
    __slots__ = ("kind", "party", "token_digest", "expires_at_us", "operator", "command")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_US_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    kind: PartyKind
    party: str
    token_digest: bytes
    expires_at_us: int
    operator: str
    command: str
    def __init__(self, kind: _Optional[_Union[PartyKind, str]] = ..., party: _Optional[str] = ..., token_digest: _Optional[bytes] = ..., expires_at_us: _Optional[int] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class SiteRevokedV1(_message.Message):
    __slots__ = ("site", "key_digest", "operator", "command")
    SITE_FIELD_NUMBER: _ClassVar[int]
    KEY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    site: str
    key_digest: bytes
    operator: str
    command: str
    def __init__(self, site: _Optional[str] = ..., key_digest: _Optional[bytes] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class SiteReadmittedV1(_message.Message):
    __slots__ = ("site", "key_digest", "roster_version")
    SITE_FIELD_NUMBER: _ClassVar[int]
    KEY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROSTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    site: str
    key_digest: bytes
    roster_version: int
    def __init__(self, site: _Optional[str] = ..., key_digest: _Optional[bytes] = ..., roster_version: _Optional[int] = ...) -> None: ...

class SiteResumedV1(_message.Message):
    __slots__ = ("site", "operator", "command")
    SITE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    site: str
    operator: str
    command: str
    def __init__(self, site: _Optional[str] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class Invitation(_message.Message):
    __slots__ = ("site", "allocation", "num_steps")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    site: str
    allocation: str
    num_steps: int
    def __init__(self, site: _Optional[str] = ..., allocation: _Optional[str] = ..., num_steps: _Optional[int] = ...) -> None: ...

class RoundOpenedV1(_message.Message):
    __slots__ = ("run", "round", "fragment", "base_version", "base_digest", "lr_position", "invitations", "sentence")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LR_POSITION_FIELD_NUMBER: _ClassVar[int]
    INVITATIONS_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    fragment: int
    base_version: int
    base_digest: bytes
    lr_position: int
    invitations: _containers.RepeatedCompositeFieldContainer[Invitation]
    sentence: str
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., fragment: _Optional[int] = ..., base_version: _Optional[int] = ..., base_digest: _Optional[bytes] = ..., lr_position: _Optional[int] = ..., invitations: _Optional[_Iterable[_Union[Invitation, _Mapping]]] = ..., sentence: _Optional[str] = ...) -> None: ...

class SiteInvitedV1(_message.Message):
    __slots__ = ("run", "round", "invitation")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    INVITATION_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    invitation: Invitation
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., invitation: _Optional[_Union[Invitation, _Mapping]] = ...) -> None: ...

class VerdictV1(_message.Message):
    __slots__ = ("run", "round", "site", "outcome", "reason", "sentence", "update_digest", "payload_digest", "payload_bytes", "weight_tokens", "new_tokens", "num_steps", "norm")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    site: str
    outcome: Outcome
    reason: Reason
    sentence: str
    update_digest: bytes
    payload_digest: bytes
    payload_bytes: int
    weight_tokens: int
    new_tokens: int
    num_steps: int
    norm: float
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., site: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[_Union[Reason, str]] = ..., sentence: _Optional[str] = ..., update_digest: _Optional[bytes] = ..., payload_digest: _Optional[bytes] = ..., payload_bytes: _Optional[int] = ..., weight_tokens: _Optional[int] = ..., new_tokens: _Optional[int] = ..., num_steps: _Optional[int] = ..., norm: _Optional[float] = ...) -> None: ...

class SealedUpdate(_message.Message):
    __slots__ = ("site", "weight", "update_digest", "payload_digest")
    SITE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_DIGEST_FIELD_NUMBER: _ClassVar[int]
    site: str
    weight: float
    update_digest: bytes
    payload_digest: bytes
    def __init__(self, site: _Optional[str] = ..., weight: _Optional[float] = ..., update_digest: _Optional[bytes] = ..., payload_digest: _Optional[bytes] = ...) -> None: ...

class RoundSealedV1(_message.Message):
    __slots__ = ("run", "round", "updates", "sentence")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    updates: _containers.RepeatedCompositeFieldContainer[SealedUpdate]
    sentence: str
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., updates: _Optional[_Iterable[_Union[SealedUpdate, _Mapping]]] = ..., sentence: _Optional[str] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("site", "norm", "cosine")
    SITE_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    site: str
    norm: float
    cosine: float
    def __init__(self, site: _Optional[str] = ..., norm: _Optional[float] = ..., cosine: _Optional[float] = ...) -> None: ...

class RoundCommittedV1(_message.Message):
    __slots__ = ("run", "round", "fragment", "version", "theta_digest", "blob_digest", "blob_bytes", "aggregate_norm", "contributions", "numerics_version")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    THETA_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BLOB_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BLOB_BYTES_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_NORM_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_VERSION_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    fragment: int
    version: int
    theta_digest: bytes
    blob_digest: bytes
    blob_bytes: int
    aggregate_norm: float
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    numerics_version: int
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., fragment: _Optional[int] = ..., version: _Optional[int] = ..., theta_digest: _Optional[bytes] = ..., blob_digest: _Optional[bytes] = ..., blob_bytes: _Optional[int] = ..., aggregate_norm: _Optional[float] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., numerics_version: _Optional[int] = ...) -> None: ...

class StateRecordedV1(_message.Message):
    __slots__ = ("run", "round", "fragment", "momentum_digest", "residual_digest")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    MOMENTUM_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    fragment: int
    momentum_digest: bytes
    residual_digest: bytes
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., fragment: _Optional[int] = ..., momentum_digest: _Optional[bytes] = ..., residual_digest: _Optional[bytes] = ...) -> None: ...

class RoundAbandonOrderedV1(_message.Message):
    __slots__ = ("run", "round", "operator", "command")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    operator: str
    command: str
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class RoundAbandonedV1(_message.Message):
    __slots__ = ("run", "round", "reason", "sentence")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    reason: Reason
    sentence: str
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., reason: _Optional[_Union[Reason, str]] = ..., sentence: _Optional[str] = ...) -> None: ...

class EvaluationRequestedV1(_message.Message):
    __slots__ = ("run", "request", "versions", "operator", "command")
    RUN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    run: str
    request: int
    versions: _containers.RepeatedScalarFieldContainer[int]
    operator: str
    command: str
    def __init__(self, run: _Optional[str] = ..., request: _Optional[int] = ..., versions: _Optional[_Iterable[int]] = ..., operator: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class LanguageScore(_message.Message):
    __slots__ = ("language", "bits_per_byte", "num_bytes")
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    BITS_PER_BYTE_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    language: str
    bits_per_byte: float
    num_bytes: int
    def __init__(self, language: _Optional[str] = ..., bits_per_byte: _Optional[float] = ..., num_bytes: _Optional[int] = ...) -> None: ...

class EvaluationRecordedV1(_message.Message):
    __slots__ = ("run", "site", "request", "num_commits", "versions", "scores", "evidence_digest")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NUM_COMMITS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    run: str
    site: str
    request: int
    num_commits: int
    versions: _containers.RepeatedScalarFieldContainer[int]
    scores: _containers.RepeatedCompositeFieldContainer[LanguageScore]
    evidence_digest: bytes
    def __init__(self, run: _Optional[str] = ..., site: _Optional[str] = ..., request: _Optional[int] = ..., num_commits: _Optional[int] = ..., versions: _Optional[_Iterable[int]] = ..., scores: _Optional[_Iterable[_Union[LanguageScore, _Mapping]]] = ..., evidence_digest: _Optional[bytes] = ...) -> None: ...

class TaskScore(_message.Message):
    __slots__ = ("task", "language", "task_version", "metric", "num_items", "score", "low", "high")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TASK_VERSION_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    NUM_ITEMS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    task: str
    language: str
    task_version: str
    metric: str
    num_items: int
    score: float
    low: float
    high: float
    def __init__(self, task: _Optional[str] = ..., language: _Optional[str] = ..., task_version: _Optional[str] = ..., metric: _Optional[str] = ..., num_items: _Optional[int] = ..., score: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class TasksEvaluatedV1(_message.Message):
    __slots__ = ("run", "site", "request", "num_commits", "versions", "scores", "evidence_digest")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NUM_COMMITS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    run: str
    site: str
    request: int
    num_commits: int
    versions: _containers.RepeatedScalarFieldContainer[int]
    scores: _containers.RepeatedCompositeFieldContainer[TaskScore]
    evidence_digest: bytes
    def __init__(self, run: _Optional[str] = ..., site: _Optional[str] = ..., request: _Optional[int] = ..., num_commits: _Optional[int] = ..., versions: _Optional[_Iterable[int]] = ..., scores: _Optional[_Iterable[_Union[TaskScore, _Mapping]]] = ..., evidence_digest: _Optional[bytes] = ...) -> None: ...
