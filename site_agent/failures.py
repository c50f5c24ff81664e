# SPDX-License-Identifier: Apache-2.0
"""Why a job was not started or ended badly: one code each, whether another try can help, and what to do. Pure.

Codes come from three places: the launcher, when it certainly started nothing (`LAUNCH`); the batch system, for a job
that is gone without a last word (its state in lower case, with hyphens); the job's own last word (`jobs.EndCode`, and
the class of the error behind it, which `code_of_error` makes finer).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Retry(StrEnum):
    """Whether another job of the run may start by itself."""

    BACKOFF = "backoff"
    """After a pause that doubles with each failure in a row, and at most `max_failures` times."""

    WAIT_FOR_HUMAN = "wait-for-human"
    """After `site-agent run retry`: only a change at this site can help."""

    NEVER = "never"
    """Not for this run: it would end the same way whatever is done here."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One kind of failure. `sentence` says what happened, `advice` what the site's operator can do."""

    retry: Retry
    sentence: str
    advice: str


def _backoff(
    sentence: str, advice: str = "Nothing, unless it happens again and again; the next job continues."
) -> Failure:
    return Failure(retry=Retry.BACKOFF, sentence=sentence, advice=advice)


def _human(sentence: str, advice: str) -> Failure:
    advice = f"{advice} Then start the agent again, and `site-agent run retry`."
    return Failure(retry=Retry.WAIT_FOR_HUMAN, sentence=sentence, advice=advice)


def _never(sentence: str, advice: str) -> Failure:
    return Failure(retry=Retry.NEVER, sentence=sentence, advice=advice)


EXIT_MODULE_MISSING: Final = 72
"""Status of a batch script that could not load a module."""

LAUNCH: Final[Mapping[str, Failure]] = MappingProxyType(
    {
        "launch-failed": _backoff("the job could not be started", "Read the sentence beside it and the agent's log."),
        "no-sbatch": _human(
            "the batch system's commands were not found", "Set slurm.bin_dir in site.toml, or load its module."
        ),
        "unknown-partition": _human("the batch system does not know the partition", "Correct slurm.partition."),
        "unknown-account": _human("the batch system does not know the account", "Correct slurm.account."),
        "unknown-qos": _human("the batch system does not know the quality of service", "Correct slurm.qos."),
        "unknown-reservation": _human(
            "the reservation is not there, or not for this user", "Correct or empty slurm.reservation."
        ),
        "wall-time-limit": _human(
            "the wall time is above the partition's or the quality of service's limit", "Lower job.seconds_limit."
        ),
        "account-exhausted": _human(
            "the account has no budget left", "Ask the centre for budget, or name another account in slurm.account."
        ),
        "limit-exceeded": _backoff(
            "a limit of the account is reached, such as of jobs in the queue",
            "Wait for other jobs to end; if nothing else runs, lower what `[slurm]` asks for.",
        ),
        "resources-unavailable": _human(
            "no node of the partition has what the job asks for", "Correct nodes, GPUs and memory in `[slurm]`."
        ),
        "options-refused": _human("the batch system refuses an option", "Correct slurm.options."),
        "storage-failed": _backoff(
            "the batch system could not read or store the job's script",
            "Look at space, inodes and quota of the site's directory.",
        ),
    }
)
"""Codes of a job that was certainly not started."""

BATCH: Final[Mapping[str, Failure]] = MappingProxyType(
    {
        "killed": _backoff("the job is gone without a last word"),
        "failed-early": _backoff("the job ended with an error before it could say why", "Read the job's log."),
        "node-fail": _backoff("a node of the job failed"),
        "boot-fail": _backoff("a node of the job did not boot"),
        "preempted": _backoff("a job of higher priority took the nodes"),
        "timeout": _backoff(
            "the wall time was over before the job had ended itself",
            "Raise slurm.signal_seconds, so that there is time for the last training checkpoint.",
        ),
        "deadline": _backoff("the batch system's deadline for the job was over"),
        "cancelled": _backoff("the centre or a person cancelled the job", "Ask who did, if it happens again."),
        "revoked": _backoff("another cluster of the federation of clusters took the job"),
        "out-of-memory": _human("the job needed more memory than it was given", "Raise slurm.memory or use more GPUs."),
        "completed": _backoff("the job's script ended well, but the job left no last word", "Read the job's log."),
        "reconfig-fail": _backoff("the batch system could not reconfigure a node"),
    }
)
"""Codes of a job that the batch system ended."""

JOB: Final[Mapping[str, Failure]] = MappingProxyType(
    {
        "failed": _backoff("the trainer ended with an error", "Read the job's log; its last line has the error."),
        "rank-lost": _backoff(
            "a rank of the job ended or fell silent, and the others with it",
            "Read the job's log: the last words of that rank; without any, look at its machine and at memory.",
        ),
        "trainer-exit": _backoff("the trainer's executable did not end with exit status 0", "Read the job's log."),
        "no-result": _backoff(
            "the trainer ended well but left no result", "Let it write result.json and the weights before it ends."
        ),
        "wrong-precision": _human(
            "the trainer left weights that are not fp32, such as bf16", "Let it write fp32 weights."
        ),
        "module-missing": _human(
            "a module, a container image or a Python package that the job needs is missing on the compute node",
            "Correct slurm.modules, slurm.container or slurm.python.",
        ),
        "data-missing": _human("the site's data are not what site.toml says", "Run `site-agent data check SITE_DIR`."),
        "no-space": _human("no space or no inode is left, or a quota is reached", "Make room in the site's directory."),
        "stale-file-handle": _backoff("a network file system did not answer, or its handles went stale"),
        "non-finite": _backoff("the loss or the update is not finite", "Look at the learning rate and at the data."),
        "loss-spike": _backoff("the loss rose above what the run allows", "Look at the data of that round."),
        "diverged": _backoff("the job's copy of the model differed from the committed one; the next one reloads it"),
        "snapshot-refused": _backoff(
            "a snapshot was not the version that the ledger names; the chain is taken instead"
        ),
        "fenced": _backoff("another execution of the same job was already there"),
        "model-differs": _never(
            "the trainer's model has other parameters than the run's", "The run needs another trainer, or another run."
        ),
        "run-not-for-trainer": _never("the trainer cannot train a run with these settings", "Refuse the run here."),
        "numerics-mismatch": _human(
            "the compute node does not reproduce the golden vectors, so its updates would be wrong",
            "Run `site-agent doctor SITE_DIR` there, and change hardware, driver or software.",
        ),
    }
)
"""Codes of a job's own last word, where that is a failure."""

PREEMPTED: Final = "preempted"
"""Gave way to another job, as was agreed: no failure of anything here."""

_STATES: Final[Mapping[str, str]] = MappingProxyType({"FAILED": "failed-early"})

NO_FAILURE: Final = frozenset({"stopped", "idle", "terminated", "wall-time", "operator", PREEMPTED})
"""Ends after which the next job simply continues."""

_BY_ERROR: Final[Mapping[str, str]] = MappingProxyType(
    {
        "DiskFullError": "no-space",
        "StorageUnavailableError": "stale-file-handle",
        "NonFiniteUpdateError": "non-finite",
        "NonFinitePayloadError": "non-finite",
        "LossSpikeError": "loss-spike",
        "RankLostError": "rank-lost",
        "NumericsMismatchError": "numerics-mismatch",
        "ModelDiffersError": "model-differs",
        "RunNotForCommandsError": "run-not-for-trainer",
        "ModuleNotFoundError": "module-missing",
        "ImportError": "module-missing",
        "MissingDataError": "data-missing",
        "UnreadableDataError": "data-missing",
        "EmptyDataError": "data-missing",
        "BrokenArchiveError": "data-missing",
        "CommandFailedError": "trainer-exit",
        "MemoryError": "out-of-memory",
        "OutOfMemoryError": "out-of-memory",
    }
)

_BY_WORDS: Final = (
    ("no space left on device", "no-space"),
    ("disk quota exceeded", "no-space"),
    ("stale file handle", "stale-file-handle"),
    ("no module named", "module-missing"),
    ("unable to locate a modulefile", "module-missing"),
    ("dtype bf16", "wrong-precision"),
    ("dtype f16", "wrong-precision"),
    ("dtype f64", "wrong-precision"),
    ("expected the executable to leave this file", "no-result"),
)
"""Beginnings of the operating system's, the module system's and our own sentences, in lower case."""

_UNKNOWN: Final = _backoff("the job failed", "Read the job's log.")


def failure_of(code: str) -> Failure:
    """What is known of a code; one of another release counts as a failure that another try may help."""
    return LAUNCH.get(code) or BATCH.get(code) or JOB.get(code) or _UNKNOWN


def retry_of(code: str) -> Retry:
    """Whether another job may start by itself after an end with this code."""
    return Retry.BACKOFF if code in NO_FAILURE else failure_of(code).retry


def code_of_error(code: str, error: str, sentence: str) -> str:
    """A finer code than a job's last word has.

    Args:
        code: of the last word; only "failed" and "model-differs" are made finer.
        error: name of the error's class.
        sentence: of the last word; what the operating system said counts more than the class.
    """
    if code not in ("failed", "model-differs"):
        return code
    said = sentence.lower()
    return next((found for words, found in _BY_WORDS if words in said), _BY_ERROR.get(error, code))


def code_of_state(state: str, exit_code: str = "") -> str:
    """The batch system's word for how a job ended, as a code: `NODE_FAIL` is "node-fail", anything else "killed".

    Args:
        state: in capitals; "" is not known.
        exit_code: status and signal of the batch script, such as "72:0".
    """
    if exit_code == f"{EXIT_MODULE_MISSING}:0":
        return "module-missing"
    code = _STATES.get(state) or state.partition(" ")[0].lower().replace("_", "-")
    return code if code in BATCH else "killed"
