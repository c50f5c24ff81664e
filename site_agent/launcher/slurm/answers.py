# SPDX-License-Identifier: Apache-2.0
"""What squeue and sacct together say of a job: three-valued, and pure.

A list that lacks the control job is false, whatever else is in it: overloaded login nodes answer with empty lists. What
a list shows is believed; what it does not show is believed only of a list with the control job in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from site_agent.launcher.api import JobPresence
from site_agent.launcher.slurm.commands import AccountRow, QueueRow
from site_agent.launcher.slurm.states import ENDED_STATES, WAITING_STATES


@dataclass(frozen=True, kw_only=True)
class Lists:
    """One look at both lists, the queue first.

    Attributes:
        queue: by job id. is_queue_true: whether it shows the control job, or none is kept.
        accounts: newest records by job id, of the jobs that were asked for and have ended.
        earlier: records of requeued jobs that are not over, once they show every execution but the present one.
        has_accounting: whether sacct answers at this site at all.
        taken_at: when the look began, by a clock that never goes back.
    """

    queue: Mapping[str, QueueRow] = field(default_factory=dict)
    is_queue_true: bool
    accounts: Mapping[str, AccountRow] = field(default_factory=dict)
    earlier: Mapping[str, AccountRow] = field(default_factory=dict)
    has_accounting: bool = True
    taken_at: float = 0.0


def presence(lists: Lists, job: str) -> JobPresence:
    """What is known of one job whose id is known, so that it was certainly submitted.

    Live in the queue: it is there. Ended needs both: a queue that is true and doesn't show it live, and a record that
    says how it ended. Where there is no accounting, a row of the queue that says so must do.
    """
    row, record = lists.queue.get(job), lists.accounts.get(job)
    if row is not None and row.state not in ENDED_STATES:
        return JobPresence.QUEUED if row.state in WAITING_STATES else JobPresence.RUNNING
    if not lists.is_queue_true:
        return JobPresence.UNKNOWN
    if not lists.has_accounting:
        return JobPresence.ENDED if row is not None else JobPresence.UNKNOWN
    ended = record is not None and record.state in ENDED_STATES
    return JobPresence.ENDED if ended else JobPresence.UNKNOWN


def found_by_name(queue: Sequence[QueueRow], accounts: Sequence[AccountRow], name: str) -> list[str]:
    """Ids of the jobs of that name, live ones first, then ascending. Names are unique to an allocation."""
    live = {row.job for row in queue if row.name == name and row.state not in ENDED_STATES}
    known = {row.job for row in queue if row.name == name} | {row.job for row in accounts if row.name == name}
    ended = known - live
    return [*sorted(live, key=int), *sorted(ended, key=int, reverse=True)]
