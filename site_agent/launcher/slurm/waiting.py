# SPDX-License-Identifier: Apache-2.0
"""Why a job waits, where that does not go away by itself: squeue's reason word → a code, and what to do. Pure.

A reason that time alone mends (Priority, Resources, Dependency, BeginTime, a limit of jobs that run at once…) is none
of these. The words are those of Slurm's own table of reasons, which sites do not change; limits come for accounts
(Assoc…) and for qualities of service (QOS…), and for each countable thing (CPU, GRES, Billing, Node…).
"""

import re
from dataclasses import dataclass
from typing import Final

from federation.leaves import Reason


@dataclass(frozen=True, kw_only=True)
class Hindrance:
    """Why a job that waits will not start by itself.

    Attributes:
        code: one word; where a refused submission has the same cause, that one's of `site_agent.failures`.
        sentence: what is wrong; `advice`: what to do.
        needs_human: nothing but a person's doing helps, so that rounds of this site need not be waited for. False where
            the centre usually mends it without being asked.
        reason: of a round that is declined for it.
    """

    code: str
    sentence: str
    advice: str
    needs_human: bool = True
    reason: Reason = Reason.JOB_FAILED


_AGAIN: Final = "Then restart the agent and `scancel` the job: the next one has the new settings."
_RELEASE: Final = "`scontrol release JOBID` lets it go on; `scancel JOBID` lets the agent submit another one."

_EXHAUSTED: Final = Hindrance(
    code="account-exhausted",
    sentence="the account or its quality of service has no budget left",
    advice="Ask the centre for budget: the job then starts by itself. Or name another account in slurm.account. "
    + _AGAIN,
    reason=Reason.BUDGET,
)
_TOO_LONG: Final = Hindrance(
    code="wall-time-limit",
    sentence="the job's wall time is above a limit of the partition, the account or the quality of service",
    advice=f"Lower job.seconds_limit, or choose another slurm.partition or slurm.qos. {_AGAIN}",
)
_TOO_MUCH: Final = Hindrance(
    code="resources-unavailable",
    sentence="one job may not have what it asks for, or no node of the partition has it",
    advice=f"Correct nodes, GPUs, processors and memory in `[slurm]` of site.toml. {_AGAIN}",
)
_ACCOUNT: Final = Hindrance(
    code="unknown-account",
    sentence="the account may not be used here any more",
    advice=f"Correct slurm.account; `sacctmgr show assoc user=$USER` lists yours. {_AGAIN}",
)
_QOS: Final = Hindrance(
    code="unknown-qos",
    sentence="the quality of service may not be used here any more",
    advice=f"Correct slurm.qos; `sacctmgr show assoc user=$USER` lists yours. {_AGAIN}",
)
_HELD_BY_ADMIN: Final = Hindrance(
    code="job-held",
    sentence="an administrator of the centre holds the job",
    advice="Ask the centre why; only they can release it.",
)
_HELD: Final = Hindrance(code="job-held", sentence="somebody of this account's users holds the job", advice=_RELEASE)
_HELD_AFTER_FAILURES: Final = Hindrance(
    code="job-held",
    sentence="the batch system could not start the job, or started it too often, and holds it",
    advice=f"Read the job's log and `scontrol show job JOBID`; if a node is to blame, tell the centre. {_RELEASE}",
)
_PARTITION: Final = Hindrance(
    code="partition-down",
    sentence="the partition takes no jobs to its nodes",
    advice="Look at the centre's announcements (a maintenance ends by itself); else choose another slurm.partition. "
    + _AGAIN,
    needs_human=False,
)
_NODES: Final = Hindrance(
    code="nodes-unavailable",
    sentence="nodes that the job needs are down, drained or reserved",
    advice="If it stays so, ask the centre, or ask for fewer or other nodes in `[slurm]`.",
    needs_human=False,
)

_TABLE: Final = (
    # RunMinutes count what running jobs may still use: that goes away as they end.
    (r"(Assoc|QOS)Grp(?!\w*Run)\w*Minutes(Limit)?", _EXHAUSTED),
    (r"(Assoc|QOS)GrpWall(Limit)?", _EXHAUSTED),
    (r"(Assoc|QOS)MaxWallDurationPerJob(Limit)?|(Association|QOS|Partition)TimeLimit", _TOO_LONG),
    (r"(Assoc|QOS)Max\w*Minutes(PerJob)?(Limit)?", _TOO_LONG),
    (r"(Assoc|QOS)Max\w*Per(Job|Node)(Limit)?|QOSMin\w*|PartitionNodeLimit|MaxMemPerLimit|BadConstraints", _TOO_MUCH),
    (r"InvalidAccount|AccountNotAllowed", _ACCOUNT),
    (r"InvalidQOS|QOSNotAllowed", _QOS),
    (r"JobHeldAdmin", _HELD_BY_ADMIN),
    (r"JobHeldUser", _HELD),
    (
        r"JobHoldMaxRequeue|JobLaunchFailure|launch failed requeued held|job requeued in held state",
        _HELD_AFTER_FAILURES,
    ),
    (r"PartitionDown|PartitionInactive", _PARTITION),
    # With the end of a reservation beside it, it is a date, and no hindrance.
    (r"ReqNodeNotAvail(?!.*Reserved for maintenance)(,.*)?", _NODES),
)


def hindrance_of(reason: str) -> Hindrance | None:
    """What squeue's reason of a waiting job means, None if the job may start by itself.

    Args:
        reason: as `squeue --Format=Reason` prints it, blanks or underscores between words, brackets around it or not.
    """
    word = reason.strip().strip("()").replace("_", " ").strip()
    return next((found for pattern, found in _TABLE if re.fullmatch(pattern, word, re.IGNORECASE)), None)
