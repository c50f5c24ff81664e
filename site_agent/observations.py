# SPDX-License-Identifier: Apache-2.0
"""What the agent sees in one pass, besides ledger and journal: the deciders' third argument. Plain data, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from federation.leaves import LanguageScore, Reason, TaskScore
from site_agent.start_delay import SuggestionSeen


class Answer(StrEnum):
    """What the site's policy says to a manifest by itself."""

    ACCEPT = "accept"
    ASK = "ask"
    DECLINE = "decline"


class Execution(StrEnum):
    """What the launcher says about a handle. UNKNOWN never counts as ended."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"


class JobPhase(StrEnum):
    """What a job says about itself; NONE before its first report."""

    NONE = "none"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class ManifestSeen:
    """A manifest that lies durably at the site, and what the policy says to it.

    Attributes:
        digest: blob digest of its exact bytes.
        theta_blob: blob digest of theta_0, "" if the manifest is unusable.
        codec: codec of updates.
        trainer: name of the trainer, as site.toml resolves it.
        consortium: that the manifest belongs to.
        num_elements: of each fragment.
        data_sets: names of the site's data sets that jobs train on, () where the site names none.
        bytes_in_flight: of the updates that a job of it may have on their way at once.
        shortage: why the policy lets no job start now, "" if it does; `shortage_reason` in one code.
        stop: word for the order to end that the policy gives a running job, "" if it may go on; `stop_sentence` says
            why.
        num_gpus, seconds_limit: what one job may use, for the budget.
    """

    run: str
    digest: str
    answer: Answer
    reason: Reason = Reason.NONE
    sentence: str = ""
    theta_blob: str = ""
    codec: str = ""
    trainer: str = ""
    consortium: str = ""
    num_elements: tuple[int, ...] = ()
    data_sets: tuple[str, ...] = ()
    bytes_in_flight: int = 0
    shortage: str = ""
    shortage_reason: Reason = Reason.BUDGET
    stop: str = ""
    stop_sentence: str = ""
    num_gpus: int = -1
    seconds_limit: int = -1


@dataclass(frozen=True, kw_only=True)
class HumanAnswer:
    """What the site's operator said about a run. A refusal holds for every manifest of that run id.

    Attributes:
        manifest_digest: the manifest that was looked at; an acceptance holds for this one only.
        retry_at_us: when the operator last asked to try failed jobs again, 0 for never.
        ended: numbers of allocations that the operator found to have ended.
        handles: per number of an allocation of unknown fate the handle of its job that the operator found.
    """

    run: str
    accepted: bool | None = None
    manifest_digest: str = ""
    retry_at_us: int = 0
    ended: tuple[int, ...] = ()
    handles: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class JobEndSeen:
    """The job's last word. `code` is a word of `jobs.EndCode`; `failed` says that it counts towards the back-off."""

    code: str
    sentence: str
    failed: bool


@dataclass(frozen=True, kw_only=True)
class AllocationSeen:
    """One live allocation as its files and the launcher show it.

    Attributes:
        execution: the launcher's word; UNKNOWN where there is no handle.
        phase, round, step, loss, seconds_left, seconds_per_step, applied: of the job's newest report that carries
            this allocation's fencing number.
        training: whether the report's round is being trained (else its window is done).
        orders: rounds whose work order lies there.
        evaluations: (request, commits, versions) of the evaluation orders that lie there, in the order of their ids.
        task_orders, task_results: how many orders to score tasks lie there, and how many results.
        attempted: whether its work order lies there: an attempt to submit it has begun.
        stopping: whether the order to end lies there.
        fate: of a job that has ended, the batch system's reason as a code of `failures`; "" if it gives none.
        remark: what the batch system says about a job that waits, for people; "" if nothing.
        start_in_seconds: of a job that waits, until its start as far as that can be told; 0 if it cannot.
        may_begin_anew: whether its last word was that it was told to end, and the batch system may start it once more.
        ready_at: unix seconds at which its first execution was ready, 0.0 if that is not known.
        language_tokens: (code, tokens) that the run's jobs here have trained on, as of this one's newest report.
    """

    run: str
    number: int
    execution: Execution = Execution.UNKNOWN
    phase: JobPhase = JobPhase.NONE
    round: int = -1
    training: bool = False
    step: int = 0
    loss: float = 0.0
    seconds_left: int = -1
    seconds_per_step: float = 0.0
    applied: tuple[int, ...] = ()
    end: JobEndSeen | None = None
    orders: frozenset[int] = frozenset()
    evaluations: tuple[tuple[int, int, tuple[int, ...]], ...] = ()
    task_orders: int = 0
    task_results: int = 0
    attempted: bool = False
    stopping: bool = False
    fate: str = ""
    remark: str = ""
    start_in_seconds: int = 0
    may_begin_anew: bool = False
    ready_at: float = 0.0
    language_tokens: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class UpdateSeen:
    """An encoded update that a job left. `problem` says why it cannot be signed; "": its payload is durable here."""

    run: str
    allocation: int
    round: int
    fragment: int
    base_digest: str
    codec: str
    payload_digest: str
    payload_bytes: int
    weight_tokens: int
    new_tokens: int
    num_steps: int
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class EvaluationSeen:
    """Scores that a job left."""

    run: str
    allocation: int
    request: int
    num_commits: int
    versions: tuple[int, ...]
    scores: tuple[LanguageScore, ...]


@dataclass(frozen=True, kw_only=True)
class TasksSeen:
    """Scores of benchmark tasks that a job left, and why others are missing, in sentences for this site only."""

    run: str
    allocation: int
    request: int
    num_commits: int
    versions: tuple[int, ...]
    scores: tuple[TaskScore, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OutcomeSeen:
    """An outcome that was written for a run's jobs. `kind` is "committed", "abandoned" or "reverted".

    Of a commit: whether it names the commit's blob, and the digest of the snapshot that it names, "" if none.
    """

    kind: str
    theta_digest: str = ""
    has_blob: bool = True
    snapshot: str = ""


@dataclass(frozen=True, kw_only=True)
class SnapshotSeen:
    """What the coordinator sent in place of a long chain, durable here; not `usable` if there is none or it is no
    vector of the fragment's length: then the chain must do. Only a job can tell whether its content is right.
    """

    version: int
    blob_digest: str
    usable: bool


@dataclass(frozen=True, kw_only=True)
class Observations:
    """One pass's view.

    Attributes:
        manifests, humans: per run.
        allocations: live ones, per run.
        outcomes: per (run, round).
        snapshots: per (run, fragment).
        blobs: digests, among those that the site needs, that are durable here.
        witnessed: per site the largest ledger size it cosigned, verified against this site's copy of the tree.
        checkpoint_size, checkpoint_root: newest checkpoint that covers the copy, 0 and "" if none.
        accounts: per (run, number) of an allocation whose accounts are open: seconds and GPUs that it used.
        suggestions: per run what the coordinator suggests about the start of new jobs, where it counts.
        heard_at_us: when the coordinator was last heard.
        fault: why the ledger cannot be followed any further, "" if it can: nothing new starts, nothing is cosigned.
        round_trip_seconds: that the longest of the newest messages took until it was acknowledged; 0.0 if none was.
    """

    manifests: Mapping[str, ManifestSeen] = field(default_factory=dict)
    humans: Mapping[str, HumanAnswer] = field(default_factory=dict)
    allocations: Mapping[str, AllocationSeen] = field(default_factory=dict)
    updates: tuple[UpdateSeen, ...] = ()
    evaluations: tuple[EvaluationSeen, ...] = ()
    tasks: tuple[TasksSeen, ...] = ()
    outcomes: Mapping[tuple[str, int], OutcomeSeen] = field(default_factory=dict)
    snapshots: Mapping[tuple[str, int], SnapshotSeen] = field(default_factory=dict)
    blobs: frozenset[str] = frozenset()
    witnessed: Mapping[str, int] = field(default_factory=dict)
    checkpoint_size: int = 0
    checkpoint_root: str = ""
    accounts: Mapping[tuple[str, int], tuple[float, int]] = field(default_factory=dict)
    suggestions: Mapping[str, SuggestionSeen] = field(default_factory=dict)
    heard_at_us: int = 0
    fault: str = ""
    round_trip_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """The site's id and its own patience, all in seconds.

    Attributes:
        heartbeat_seconds: between two status reports when nothing changes.
        max_silence_seconds: without a word from the coordinator after which no new work starts.
        backoff_seconds: wait after the first failed job; doubles with each further one, at most an hour.
        max_failures: failed jobs in a row after which rounds are declined until the operator says `run retry`.
        stop_grace_seconds: between asking a job to end and cancelling it.
        max_start_delay_seconds: that a new job waits at most for other sites' jobs; 0.0 where jobs begin at once.
        adopt_grace_seconds: after a crash between intent and submission, how long an attempt may still come through
            before the job is submitted again.
        round_trip_seconds: of a message and its answer, as the operator declares; 0.0 if she does not.
        tasks_every: commits between two evaluations of benchmark tasks; 0: of the first and the last model only; -1:
            this site scores none.
    """

    site: str
    heartbeat_seconds: float = 30.0
    max_silence_seconds: float = 3600.0
    backoff_seconds: float = 30.0
    max_failures: int = 5
    stop_grace_seconds: float = 120.0
    adopt_grace_seconds: float = 60.0
    max_start_delay_seconds: float = 0.0
    round_trip_seconds: float = 0.0
    tasks_every: int = -1
