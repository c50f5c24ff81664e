# SPDX-License-Identifier: Apache-2.0
"""What parties say to each other: a signed header and one body. `federation.wire` has the exact bytes."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from federation.leaves import LanguageScore, Reason, TaskScore

PROTOCOL_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Header:
    """Signed with every message.

    Attributes:
        sequence: number of this message from sender to recipient, from 1, one count over all epochs; 0 in a bare
            acknowledgement, which is overwritten and never acknowledged.
        received_through: highest sequence of the other direction up to which all is done.
        epoch: the sender's agent epoch, from 1; a new one names `previous_epoch_last`, the last sequence before it.
        checkpoint_size, checkpoint_root: newest ledger checkpoint that the sender has seen (0 and "" if none).
        expires_at_us: microseconds since 1970 after which the message is refused; 0 means never.
        blobs: digests that must be durable at the receiver before it acknowledges.
        algorithm: signature algorithm, "ed25519".
        encryption: recipient encryption, "" for none.
    """

    consortium: str
    sender: str
    recipient: str
    sequence: int
    received_through: int
    epoch: int
    previous_epoch_last: int = 0
    roster_version: int = 0
    checkpoint_size: int = 0
    checkpoint_root: str = ""
    expires_at_us: int = 0
    blobs: tuple[str, ...] = ()
    protocol_version: int = PROTOCOL_VERSION
    algorithm: str = "ed25519"
    encryption: str = ""


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """Nothing but the header's `received_through`."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Where theta of one version lies: a blob of its real elements as raw little-endian fp32.

    It needs no trust: who uses it compares `chunks.fragment_digest` with the theta digest of the commit leaf.

    Attributes:
        version: a version in force; not older than the one that was asked for.
        blob_digest: "" where none can be made and the chain of commits must do.
    """

    run: str
    fragment: int
    version: int
    blob_digest: str


@dataclass(frozen=True, kw_only=True)
class SuggestedStart:
    """A new allocation for the run need not begin before `seconds` from now are over; 0 takes an earlier word back.

    Advice that lets the allocations of a run's sites overlap: the site decides, and a round needs nobody to follow it.
    """

    run: str
    seconds: int


@dataclass(frozen=True, kw_only=True)
class LedgerTail:
    """Coordinator to site: leaves from `first_index` on (exact bytes), and a signed checkpoint that covers them.

    Attributes:
        checkpoint: signed note with every cosignature that the coordinator holds for this size.
        cosigned: further signed notes of smaller sizes with cosignatures the site may not have seen.
        roster: root-signed roster document, if the site's header named an older version, else b"".
        snapshots: answers to the site's `snapshots_wanted`; their blobs are blobs of the header.
        suggested_starts: one per run at most, where there is something to say that was not said before.
    """

    first_index: int
    leaves: tuple[bytes, ...]
    checkpoint: bytes
    cosigned: tuple[bytes, ...] = ()
    roster: bytes = b""
    snapshots: tuple[Snapshot, ...] = ()
    suggested_starts: tuple[SuggestedStart, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ManifestAnswer:
    """Site to coordinator: its policy's answer to a run."""

    run: str
    manifest_digest: str
    accepted: bool
    reason: Reason
    sentence: str


class AllocationState(StrEnum):
    """Life of an allocation, as its agent knows it."""

    INTENDED = "intended"
    SUBMITTED = "submitted"
    QUEUED = "queued"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class AllocationReport:
    """One allocation of a site.

    Attributes:
        seconds_left: until its wall time, when READY; -1 for no limit.
        seconds_per_step: measured, 0.0 if unknown.
        start_in_seconds: while it waits, until its start as the batch system expects it; 0 if unknown.
    """

    run: str
    allocation: str
    state: AllocationState
    seconds_left: int
    seconds_per_step: float = 0.0
    start_in_seconds: int = 0


class Phase(StrEnum):
    """Where a site is in a round, between invitation and verdict."""

    INVITED = "invited"
    TRAINING = "training"
    UPLOADING = "uploading"


@dataclass(frozen=True, kw_only=True)
class ParticipationReport:
    """One open round of a site. `step` counts inner steps done of the window."""

    run: str
    round: int
    phase: Phase
    step: int
    loss: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SnapshotWanted:
    """A version in force of one fragment that the site would rather have whole than as a long chain of commits."""

    run: str
    fragment: int
    version: int


class StartChange(StrEnum):
    """What ends, or begins, the time in which a site's policy lets jobs start."""

    NONE = "none"
    HOURS = "hours"
    MAINTENANCE = "maintenance"
    BUDGET = "budget"


@dataclass(frozen=True, kw_only=True)
class RunBudget:
    """What one run has cost a site and may cost, for people. GPU-hours as the site's batch system counts GPUs.

    Attributes:
        gpu_hours_effective, gpu_hours_discarded, gpu_hours_open, gpu_hours_idle: training that is in the model, that is
            not, that is not decided, and all else; together what jobs have used so far.
        gpu_hours_counted: what the site's limits look at: jobs that live count with all that they may still use.
        gpu_hours_limit: of the run in all; 0.0 for none.
        native_unit: the centre's own unit as a slug, "" where its price is not known: then the next two say nothing.
        native_spent, native_limit: used so far, and the run's limit in that unit; 0.0 for no limit.
        forecast_gpu_hours: that the rounds which are left will probably need; -1.0 if nothing is measured yet.
    """

    run: str
    gpu_hours_effective: float = 0.0
    gpu_hours_discarded: float = 0.0
    gpu_hours_open: float = 0.0
    gpu_hours_idle: float = 0.0
    gpu_hours_counted: float = 0.0
    gpu_hours_limit: float = 0.0
    native_unit: str = ""
    native_spent: float = 0.0
    native_limit: float = 0.0
    forecast_gpu_hours: float = -1.0


@dataclass(frozen=True, kw_only=True)
class LanguageTokens:
    """Tokens of one language that a site's jobs of a run have trained on so far; a repeated step counts once."""

    run: str
    language: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class SiteFacts:
    """What a site says about itself for people: nothing is decided from it. What is not known is "", or -1 of counts.

    Attributes:
        profile: of the centre, as shipped with this software.
        launcher, courier: "local" or "slurm", "grpc" or "spool".
        python: of the agent. torch, accelerator, num_accelerators, architecture: of the newest job that looked at its
            machine; the first is "" and the last two are the site's configuration before there was one.
        num_accelerators: of one job.
        certificate_not_after_us: end of the channel's certificate, microseconds since 1970; 0 if there is none.
        queue_wait_seconds: of the newest job that began, from when it could begin; -1 if none did yet.
        waiting_seconds: of the job that has waited longest of those that wait now; -1 if none does.
        may_start: whether the site's policy lets a job start now, whatever its run.
        next_change: what ends that, or (where it is false) what forbids it now. `next_change_seconds` until then, by
            the site's rules as they are now; 0 if that is not known.
        budgets: of runs that had jobs here, newest first.
        language_tokens: per run and language, where the trainer can tell; a run that is not there is not known.
    """

    profile: str = ""
    launcher: str = ""
    courier: str = ""
    python: str = ""
    torch: str = ""
    accelerator: str = ""
    num_accelerators: int = -1
    architecture: str = ""
    certificate_not_after_us: int = 0
    queue_wait_seconds: int = -1
    waiting_seconds: int = -1
    may_start: bool = False
    next_change: StartChange = StartChange.NONE
    next_change_seconds: int = 0
    budgets: tuple[RunBudget, ...] = ()
    language_tokens: tuple[LanguageTokens, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SiteStatus:
    """Site to coordinator: level-triggered report, sent when it changes and as a heartbeat. Never a ledger leaf.

    Attributes:
        ledger_size: leaves that the site has folded.
        blobs_wanted: digests the site needs and does not have.
        applied: per run the version of each fragment that its job has applied ("run:v0,v1,...").
        waits_for_witnesses: whether the witness rule holds a job back now.
        snapshots_wanted: versions to be sent whole; the commit blobs up to them are not in `blobs_wanted`.
        measured_round_trip_seconds: the longest of the newest messages took, until acknowledged; 0 if none was timed.
        declared_round_trip_seconds: what the site's operator says about it; 0 for nothing.
        facts: None from agents that know none.
    """

    ledger_size: int
    allocations: tuple[AllocationReport, ...] = ()
    participations: tuple[ParticipationReport, ...] = ()
    blobs_wanted: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    waits_for_witnesses: bool = False
    software: str = ""
    sent_at_us: int = 0
    snapshots_wanted: tuple[SnapshotWanted, ...] = ()
    measured_round_trip_seconds: int = 0
    declared_round_trip_seconds: int = 0
    facts: SiteFacts | None = None


@dataclass(frozen=True, kw_only=True)
class Update:
    """An update's descriptor: signed on its own, so that it stays evidence without the message that carried it.

    Attributes:
        base_digest: fragment digest of the base (last committed theta of this fragment).
        weight_tokens: tokens trained since that base; what the weight may use.
        new_tokens: tokens of this window; each token counts once in accounting.
        num_steps: inner steps of this window.
        payload_digest, payload_bytes: of the payload blob.
    """

    consortium: str
    run: str
    manifest_digest: str
    round: int
    fragment: int
    base_digest: str
    site: str
    allocation: str
    codec: str
    weight_tokens: int
    new_tokens: int
    num_steps: int
    payload_digest: str
    payload_bytes: int


@dataclass(frozen=True, kw_only=True)
class UpdateOffer:
    """Site to coordinator: a signed update (DSSE bytes around `Update`); its payload is a blob of the header."""

    signed_update: bytes


@dataclass(frozen=True, kw_only=True)
class RoundDeclined:
    """Site to coordinator: no update of this round will come."""

    run: str
    round: int
    reason: Reason
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Cosignature:
    """Site to coordinator: a C2SP cosignature/v1 line for a checkpoint it verified against its own tree."""

    size: int
    root: str
    note: bytes


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Site to coordinator: scores of one model, bound to its fragment versions."""

    run: str
    site: str
    request: int
    num_commits: int
    versions: tuple[int, ...]
    scores: tuple[LanguageScore, ...]


@dataclass(frozen=True, kw_only=True)
class TaskEvaluation:
    """Site to coordinator: scores of benchmark tasks of one model, bound to its fragment versions."""

    run: str
    site: str
    request: int
    num_commits: int
    versions: tuple[int, ...]
    scores: tuple[TaskScore, ...]


@dataclass(frozen=True, kw_only=True)
class EvaluationOffer:
    """Site to coordinator: a signed evaluation (DSSE bytes around `Evaluation` or `TaskEvaluation`, told by type)."""

    signed_evaluation: bytes


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Site to coordinator: step metrics of a job as JSON lines, bounded; kept beside the ledger, never in it."""

    run: str
    allocation: str
    lines: tuple[str, ...]


class CommandKind(StrEnum):
    """What an operator can ask for."""

    RUN_CREATE = "run-create"
    RUN_APPROVE = "run-approve"
    RUN_START = "run-start"
    RUN_PAUSE = "run-pause"
    RUN_RESUME = "run-resume"
    RUN_ROLLBACK = "run-rollback"
    RUN_ABORT = "run-abort"
    RUN_EVALUATE = "run-evaluate"
    ROUND_ABANDON = "round-abandon"
    SITE_DRAIN = "site-drain"
    SITE_RESUME = "site-resume"
    SITE_INVITE = "site-invite"
    SITE_REVOKE = "site-revoke"
    OPERATOR_INVITE = "operator-invite"


@dataclass(frozen=True, kw_only=True)
class Command:
    """Operator to coordinator. The same `id` from the same operator is answered alike and acted upon once.

    Attributes:
        id: chosen by the client.
        subject: run, site or operator.
        number: round, for rollback and abandon.
        manifest_digest: for run-create; manifest and theta_0 travel as blobs of the header.
        token_digest, public, expires_at_us: for invites: SHA-256 of the one-time token, public key (DER) of the
            bootstrap certificate, microseconds since 1970 after which neither counts.
    """

    id: str
    kind: CommandKind
    subject: str
    number: int = 0
    manifest_digest: str = ""
    blobs: tuple[str, ...] = field(default=())
    token_digest: str = ""
    public: bytes = b""
    expires_at_us: int = 0


@dataclass(frozen=True, kw_only=True)
class CommandReply:
    """Coordinator to operator: what became of a command; `document` is JSON where there is more to answer."""

    id: str
    ok: bool
    sentence: str
    leaf_index: int = -1
    document: str = ""


class QueryKind(StrEnum):
    """What an operator, viewer or auditor can look at; answers are projections of ledger and telemetry."""

    RUNS = "runs"
    RUN = "run"
    MODEL = "model"
    """The chain of blobs that defines the model after a round: they arrive as blobs of the reply."""

    SITES = "sites"
    STATUS = "status"
    METRICS = "metrics"
    """A run's figures: a blob of the reply holds the ledger's leaves and the members' telemetry."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Operator to coordinator: read-only, leaves nothing in the ledger. `number` is a round, -1 for the newest."""

    id: str
    kind: QueryKind
    subject: str = ""
    number: int = -1


@dataclass(frozen=True, kw_only=True)
class QueryReply:
    """Coordinator to operator: `document` is JSON; `sentence` says why where `ok` is false."""

    id: str
    ok: bool
    sentence: str
    document: str = ""


MessageBody: TypeAlias = (
    Acknowledgement
    | LedgerTail
    | ManifestAnswer
    | SiteStatus
    | UpdateOffer
    | RoundDeclined
    | Cosignature
    | EvaluationOffer
    | Telemetry
    | Command
    | CommandReply
    | Query
    | QueryReply
)


@dataclass(frozen=True, kw_only=True)
class Message:
    """A header and its body."""

    header: Header
    body: MessageBody
