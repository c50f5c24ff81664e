# SPDX-License-Identifier: Apache-2.0
"""The files through which an agent and its training jobs talk. Neither holds a socket or a key of the other.

Two directories in the spool, both named by the agent; every path below is relative to a `FileSystem`:

`runs/<run>/` outlives allocations: manifest, training checkpoints, outcomes of rounds, metrics. The agent writes an
outcome for EVERY round of the run (also for those this site took no part in), once, before it issues the order of a
round that depends on it; after a rollback it rewrites those of reverted rounds as `reverted` before it issues an
order of the new generation. The committed outcomes of a fragment are its chain from theta_0 on.

`allocations/<run>/<allocation>/` belongs to one execution of one job. The agent writes `order.json` first, then round
orders in ascending number (a job takes the lowest one above its last round, so a lower one must not follow a higher
one), evaluation orders (of bits per byte, and of benchmark tasks), and at last a stop order. The job writes the claim,
its report, updates (payload first, then the JSON file that names its digest), evaluation results, and at last
`ended.json`.

All files are replaced atomically. Digests are SHA-256 tree digests in hex (`federation.merkle`), times unix seconds.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from federation.leaves import LanguageScore, TaskScore
from site_agent.data_sets import DataSet
from site_agent.job_paths import AllocationPaths, RunPaths, numbered
from site_agent.json_records import read_record, write_record
from site_agent.task_orders import NO_TASKS, TaskPlan

__all__ = [
    "AllocationPaths",
    "ChainLink",
    "Claim",
    "EndCode",
    "EvaluationFile",
    "EvaluationOrder",
    "JobEnded",
    "JobPhase",
    "JobReport",
    "JobState",
    "OutcomeFile",
    "OutcomeKind",
    "RoundOrder",
    "RunPaths",
    "StopOrder",
    "TaskAttempts",
    "TaskFile",
    "UpdateFile",
    "WorkOrder",
    "numbered",
    "read_record",
    "write_record",
]


@dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """Agent to job: everything an execution needs before the first round.

    Attributes:
        fencing: of this execution; a requeue of the same execution re-enters with a higher one.
        manifest_path, theta0_path: absolute paths of the manifest's exact bytes and of theta_0 (safetensors).
        run_dir: absolute path of the run's directory (`RunPaths`).
        data_dir: absolute path of the site's text files.
        languages: ISO codes of the files to train and to evaluate on.
        data_sets: in place of `data_dir` and `languages`, where there are any.
        seed: of this site's data order.
        num_threads: of torch; bit-exact resumption is promised for 1.
        num_codec_threads: that encode updates and apply commits, the same bits for any number; 0: every processor that
            the job may use.
        check_theta_every: of so many commits of a fragment, the job compares one with its digest.
        device: "cpu" or a torch device.
        max_idle_seconds: a job without an order for so long exits, resumable.
        seconds_limit: wall time of the allocation, 0 for none.
        checkpoint_every_seconds: inside a window; one is written at each boundary anyway.
        first_poll_seconds, poll_seconds: between two looks into the spool while waiting: at first, and at most.
        command: executable and arguments that site.toml gives the command trainer; empty for any other.
        drain_seconds: before the end of the wall time, in which nothing new is begun; 0 takes what a checkpoint needs.
        parallelism: of a trainer of several ranks: "ddp" (each holds the model) or "fsdp" (it is spread over them).
        evaluation: benchmark tasks that the site scores.
    """

    run: str
    site: str
    allocation: str
    fencing: int
    manifest_path: str
    theta0_path: str
    run_dir: str
    data_dir: str
    languages: tuple[str, ...]
    seed: int
    num_threads: int = 1
    num_codec_threads: int = 0
    check_theta_every: int = 1
    device: str = "cpu"
    max_idle_seconds: float = 600.0
    seconds_limit: int = 0
    checkpoint_every_seconds: float = 900.0
    first_poll_seconds: float = 0.005
    poll_seconds: float = 0.1
    command: tuple[str, ...] = ()
    drain_seconds: int = 0
    parallelism: str = "ddp"
    data_sets: tuple[DataSet, ...] = ()
    evaluation: TaskPlan = NO_TASKS


@dataclass(frozen=True, kw_only=True)
class RoundOrder:
    """Agent to job: enter the window of this round.

    Attributes:
        base_version, base_digest: the fragment's last committed version; the pseudo-gradient is taken against it.
        lr_position: of the window's begin in the learning-rate schedule, in nominal inner steps.
        num_steps: inner steps of this window.
        generation: rollbacks of the run so far; a change makes the job reload every fragment and forget its feedback.
    """

    round: int
    fragment: int
    base_version: int
    base_digest: str
    lr_position: int
    num_steps: int
    generation: int = 0


class OutcomeKind(StrEnum):
    """How a round ended."""

    COMMITTED = "committed"
    ABANDONED = "abandoned"
    REVERTED = "reverted"
    """Committed once, void since a rollback."""


@dataclass(frozen=True, kw_only=True)
class OutcomeFile:
    """Agent to job: how a round ended; what a job may use only under the witness rule and durable.

    A commit has its blob, or the snapshot of the version it made, or (older than a snapshot of its fragment) neither:
    such a commit cannot be merged, the job begins its next window from the snapshot.

    Attributes:
        version: that the commit made (round + 1), 0 otherwise.
        theta_digest: of the fragment after the commit.
        blob_path: absolute path of the commit blob, "" otherwise.
        snapshot_path: absolute path of theta as raw little-endian fp32, not verified: its digest must be theta_digest.
        listed_payload_digest: digest of this site's payload if the seal lists it, else "".
    """

    round: int
    kind: OutcomeKind
    fragment: int
    version: int = 0
    theta_digest: str = ""
    blob_path: str = ""
    listed_payload_digest: str = ""
    snapshot_path: str = ""


@dataclass(frozen=True, kw_only=True)
class ChainLink:
    """One commit of a fragment: the version it made, its blob (absolute path), digest of theta after it.

    `blob_path` is "" where a snapshot (absolute path) stands in for it, or where a later link has one.
    """

    version: int
    blob_path: str
    theta_digest: str
    snapshot_path: str = ""


@dataclass(frozen=True, kw_only=True)
class EvaluationOrder:
    """Agent to job: evaluate the model made of these versions.

    Attributes:
        id: number of the order in this allocation; names its files.
        request: the operator's request, 0 for the schedule's own.
        num_commits: commits in force in that model.
        versions: version of each fragment; 0 is theta_0.
        chains: per fragment every commit from theta_0, or from a snapshot, to that version, oldest first.
    """

    id: int
    request: int
    num_commits: int
    versions: tuple[int, ...]
    chains: tuple[tuple[ChainLink, ...], ...]


@dataclass(frozen=True, kw_only=True)
class StopOrder:
    """Agent to job: write a training checkpoint and exit. Evaluations that are ordered are finished first.

    Attributes:
        reason: one word, for the log.
        finish_evaluations: False makes the job leave them.
    """

    reason: str
    finish_evaluations: bool = True


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Job: the execution that owns this allocation (batch job id, or pid and start time), and its fencing number."""

    execution: str
    fencing: int


class JobState(StrEnum):
    """Life of a job as it reports it."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"


class JobPhase(StrEnum):
    """What a ready job is doing."""

    IDLE = "idle"
    """Waits for a round order."""
    TRAINING = "training"
    ENCODING = "encoding"
    WAITING = "waiting"
    """Waits for the outcome of a round that it must merge."""


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """Job to agent, overwritten.

    Attributes:
        round: of the current window, or the last one; -1 before the first.
        step: inner steps done of the window.
        loss: of the last step, 0.0 before the first.
        seconds_left: until the allocation's wall time, -1 for no limit.
        seconds_per_step: measured, 0.0 if unknown.
        applied: version of each fragment that the job holds.
        idle_since: unix time since which the job has been without an order, 0.0 if it has one.
        updated_at: unix time of this report.
        error: one sentence, "" if all is well.
        ready_at: unix time at which this execution was ready for its first order, 0.0 if it is not yet.
        language_tokens: per language code the tokens that the run's jobs at this site have trained on, as of the
            training state that this job has; {} where its trainer cannot tell.
    """

    fencing: int
    state: JobState
    round: int = -1
    phase: JobPhase = JobPhase.IDLE
    step: int = 0
    loss: float = 0.0
    seconds_left: int = -1
    seconds_per_step: float = 0.0
    applied: tuple[int, ...] = ()
    idle_since: float = 0.0
    updated_at: float = 0.0
    error: str = ""
    ready_at: float = 0.0
    language_tokens: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class UpdateFile:
    """Job to agent: an encoded pseudo-gradient is ready to be signed. Written after its payload.

    Attributes:
        weight_tokens: tokens trained since the boundary whose commit made the base (or since the job last set its
            parameters to the base).
        new_tokens: tokens of this window.
        num_steps: inner steps of this window.
        fencing: of the execution that wrote it; the agent refuses a lower one than it issued last.
    """

    round: int
    fragment: int
    base_digest: str
    codec: str
    payload_digest: str
    payload_bytes: int
    weight_tokens: int
    new_tokens: int
    num_steps: int
    fencing: int


@dataclass(frozen=True, kw_only=True)
class EvaluationFile:
    """Job to agent: the scores that an `EvaluationOrder` asked for."""

    id: int
    request: int
    num_commits: int
    versions: tuple[int, ...]
    scores: tuple[LanguageScore, ...]


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """Job to agent: scores of benchmark tasks that an `EvaluationOrder` asked for, all that could be had.

    Attributes:
        problems: why others could not, a sentence each, for this site only.
    """

    id: int
    request: int
    num_commits: int
    versions: tuple[int, ...]
    scores: tuple[TaskScore, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaskAttempts:
    """Job to its successors: how often the tasks of this model were begun. What kills a job does not do so for ever."""

    request: int
    num_commits: int
    versions: tuple[int, ...]
    count: int


class EndCode(StrEnum):
    """Why a job ended. The first four are no failure: the next allocation resumes from the training checkpoint."""

    STOPPED = "stopped"
    IDLE = "idle"
    TERMINATED = "terminated"
    """A signal, usually the batch system's at the end of the wall time."""
    WALL_TIME = "wall-time"
    LOSS_SPIKE = "loss-spike"
    NON_FINITE = "non-finite"
    DIVERGED = "diverged"
    SNAPSHOT_REFUSED = "snapshot-refused"
    """A snapshot is not the version that the ledger names; the successor gets the chain of commits."""
    MODEL_DIFFERS = "model-differs"
    NUMERICS = "numerics-mismatch"
    FENCED = "fenced"
    """Another execution owns the allocation."""
    FAILED = "failed"

    @property
    def resumable(self) -> bool:
        """Whether a successor simply goes on, without counting as a failure."""
        return self in (EndCode.STOPPED, EndCode.IDLE, EndCode.TERMINATED, EndCode.WALL_TIME)


@dataclass(frozen=True, kw_only=True)
class JobEnded:
    """Job to agent: the last word. A job that is gone without it was killed; the next one resumes as well.

    Attributes:
        reason: one word: of the stop order, of the signal, or of the error class.
        sentence: for people.
    """

    code: EndCode
    reason: str
    sentence: str
    fencing: int = 0
