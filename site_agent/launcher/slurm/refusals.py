# SPDX-License-Identifier: Apache-2.0
"""Why sbatch said no, as a code: by the sentences of Slurm's own `slurm_errno`, which sites do not change.

Only what is listed here is a certain no. Any other failure may have left a job behind, and counts as uncertain.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One kind of no."""

    code: str
    sentence: str
    advice: str


_LIMITS: Final = "See `sacctmgr show assoc` and the centre's page on limits; then `[job]` and `[slurm]` of site.toml."

_REFUSALS: Final = (
    (
        ("invalid partition", "user not permitted to use this partition", "user's group not permitted"),
        Refusal(
            code="unknown-partition",
            sentence="expected a partition that this user may use",
            advice="Set slurm.partition in site.toml to one that `sinfo` lists for you.",
        ),
    ),
    (
        ("invalid account",),
        Refusal(
            code="unknown-account",
            sentence="expected an account that this user may charge",
            advice="Set slurm.account in site.toml; `sacctmgr show assoc user=$USER` lists yours.",
        ),
    ),
    (
        ("invalid qos",),
        Refusal(
            code="unknown-qos",
            sentence="expected a quality of service that this account may use",
            advice="Set slurm.qos in site.toml; `sacctmgr show assoc user=$USER` lists yours.",
        ),
    ),
    (
        ("requested reservation is invalid", "access denied to requested reservation", "invalid reservation"),
        Refusal(
            code="unknown-reservation",
            sentence="expected a reservation that is open to this user",
            advice="Set slurm.reservation in site.toml; `scontrol show reservation` lists them.",
        ),
    ),
    (
        ("requested time limit is invalid", "time limit exceeds", "time limit specified"),
        Refusal(
            code="wall-time-limit",
            sentence="expected a wall time within the partition's limit",
            advice="Lower job.seconds_limit in site.toml; `sinfo -o '%P %l'` shows limits.",
        ),
    ),
    (
        ("exceeded budget", "insufficient balance", "out of budget", "no budget"),
        Refusal(
            code="account-exhausted",
            sentence="expected budget left on the account",
            advice="Ask the centre for budget, or set slurm.account in site.toml to another account.",
        ),
    ),
    (
        ("job violates accounting/qos policy",),
        Refusal(code="limit-exceeded", sentence="expected a job within the account's limits", advice=_LIMITS),
    ),
    (
        (
            "node configuration is not available",
            "invalid generic resource",
            "invalid gres",
            "more processors requested than permitted",
            "memory specification can not be satisfied",
            "node count specification invalid",
        ),
        Refusal(
            code="resources-unavailable",
            sentence="expected resources that the partition's nodes have",
            advice="Compare nodes, GPUs, processors and memory in `[slurm]` with `sinfo -o '%P %D %c %m %G'`.",
        ),
    ),
    (
        ("invalid feature specification", "unrecognized option", "invalid option", "invalid --"),
        Refusal(
            code="options-refused",
            sentence="expected options that this sbatch knows",
            advice="Compare `site-agent job render` with `sbatch --help` here.",
        ),
    ),
    (
        ("unable to open file", "no space left on device", "disk quota exceeded", "stale file handle"),
        Refusal(
            code="storage-failed",
            sentence="expected that sbatch can read its script",
            advice="Look at space, inodes and the file system of the site's directory.",
        ),
    ),
)


def refusal_of(words: str) -> Refusal | None:
    """Which certain no these words of sbatch are; None if a job may have been made all the same."""
    said = words.lower()
    return next((refusal for phrases, refusal in _REFUSALS if any(phrase in said for phrase in phrases)), None)
