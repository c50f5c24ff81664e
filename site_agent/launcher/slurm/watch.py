# SPDX-License-Identifier: Apache-2.0
"""Looks at queue and accounting beside the agent's passes: rarely, one question at a time, and never in their way.

The batch system of a centre is shared by thousands; its commands take seconds when it is busy, minutes when it is ill.
"""

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Final

from federation.errors import FederationError
from federation.log import in_one_line
from site_agent.launcher.slurm.answers import Lists
from site_agent.launcher.slurm.commands import AccountRow, QueueRow, SlurmCommands
from site_agent.launcher.slurm.control import ControlJob
from site_agent.launcher.slurm.states import ENDED_STATES

LOG: Final = logging.getLogger("site_agent")

MAX_AGE_LOOKS: Final = 10
"""A look older than so many times the interval says nothing about now."""


class Watch:
    """The newest look at queue and accounting.

    Args:
        control: the control job; None if the site keeps none.
        poll_seconds: between two looks.
        executor: takes the looks; by default a thread of its own.
        monotonic: a clock that never goes back, seconds.
    """

    def __init__(
        self,
        commands: SlurmCommands,
        control: ControlJob | None,
        *,
        poll_seconds: float,
        has_accounting: bool = True,
        executor: Executor | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commands, self._control = commands, control
        self._poll_seconds, self._has_accounting, self._monotonic = poll_seconds, has_accounting, monotonic
        self._executor = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix="slurm")
        self._wanted: set[str] = set()
        self._covered: frozenset[str] = frozenset()
        self._ended: dict[str, AccountRow] = {}
        self._earlier: dict[str, AccountRow] = {}
        self._newest: Lists | None = None
        self._look: Future[Lists] | None = None
        self._looked_at = float("-inf")
        self.trouble = ""

    def lists(self, job: str, *, patient: bool = False) -> Lists | None:
        """The newest look, None if there is none that is young enough.

        The first one for a job is waited for, unless the caller is `patient`; later ones are taken in the background.
        """
        is_new = job not in self._covered and not patient
        self._wanted.add(job)
        self._collect(wait=False)
        if self._look is None and (is_new or self._monotonic() - self._looked_at >= self._poll_seconds):
            self._looked_at = self._monotonic()
            # Who is asked for between two looks is looked at: what is over drops out by itself.
            self._covered, self._wanted = frozenset(self._wanted), set()
            self._look = self._executor.submit(self._take, self._covered)
        self._collect(wait=is_new)
        return self._young()

    def _young(self) -> Lists | None:
        newest = self._newest
        if newest is None or self._monotonic() - newest.taken_at > MAX_AGE_LOOKS * self._poll_seconds:
            return None
        return newest

    def _collect(self, *, wait: bool) -> None:
        look = self._look
        if look is None or not (wait or look.done()):
            return
        try:
            self._newest, trouble = look.result(), ""
        except FederationError as error:
            trouble = in_one_line(error)
            if trouble != self.trouble:
                LOG.warning("batch system: %s; nothing is submitted until it answers", trouble)
        self._look, self.trouble = None, trouble

    def _take(self, jobs: Iterable[str]) -> Lists:
        """One look: the queue, then the accounting of the jobs that the queue does not show live."""
        taken_at = self._monotonic()
        queue = {row.job: row for row in self._commands.queue()}
        is_true = self._control is None or self._control.is_shown(queue)
        gone = [job for job in sorted(jobs) if job not in self._ended and not _is_live(queue.get(job))]
        if self._has_accounting:
            self._account(gone, is_true)
            self._account_earlier([row for job in sorted(jobs) if _is_live(row := queue.get(job)) and row])
        return Lists(
            queue=queue,
            is_queue_true=is_true,
            accounts=dict(self._ended),
            earlier=dict(self._earlier),
            has_accounting=self._has_accounting,
            taken_at=taken_at,
        )

    def _account(self, gone: list[str], is_true: bool) -> None:
        """Records of jobs that ended stay as they are; a control job that ended is replaced."""
        control = self._control.job if self._control is not None and not is_true else ""
        asked = [*gone, control] if control else gone
        if not asked:
            return
        records = {row.job: row for row in self._commands.accounts(asked)}
        self._ended |= {job: records[job] for job in gone if job in records and records[job].state in ENDED_STATES}
        if self._control is not None and control:
            self._control.renew(records.get(control))

    def _account_earlier(self, live: Iterable[QueueRow]) -> None:
        """What jobs used before their last requeue: asked until the records show it, and not again."""
        known = self._earlier
        due = {row.job: row for row in live if row.job not in known or known[row.job].num_over < row.restarts}
        asked = [job for job, row in due.items() if row.restarts]
        if asked:
            records = self._commands.accounts(asked)
            known |= {record.job: record for record in records if record.num_over >= due[record.job].restarts}


def _is_live(row: QueueRow | None) -> bool:
    return row is not None and row.state not in ENDED_STATES
