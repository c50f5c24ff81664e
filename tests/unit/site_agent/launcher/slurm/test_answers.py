# SPDX-License-Identifier: Apache-2.0
"""What queue and accounting together say: never that a job has ended unless both are sure."""

from itertools import product

import pytest

from site_agent.launcher.api import JobPresence
from site_agent.launcher.slurm.answers import Lists, found_by_name, presence
from site_agent.launcher.slurm.commands import AccountRow, QueueRow
from site_agent.launcher.slurm.states import ENDED_STATES, WAITING_STATES

QUEUE_STATES = (None, "PENDING", "RUNNING", "COMPLETING", "COMPLETED", "TIMEOUT", "A-STATE-OF-TOMORROW")
ACCOUNT_STATES = (None, "PENDING", "RUNNING", "REQUEUED", "COMPLETED", "NODE_FAIL")


def row(state: str | None, job: str = "7", name: str = "n") -> dict[str, QueueRow]:
    return {job: QueueRow(job=job, state=state, reason="None", restarts=0, name=name)} if state else {}


def record(state: str | None, job: str = "7", name: str = "n") -> dict[str, AccountRow]:
    if state is None:
        return {}
    found = AccountRow(job=job, state=state, exit_code="0:0", elapsed_seconds=1, num_nodes=1, num_gpus=0, name=name)
    return {job: found}


def seen(queue: str | None, account: str | None, *, is_true: bool = True, has_accounting: bool = True) -> JobPresence:
    lists = Lists(queue=row(queue), is_queue_true=is_true, accounts=record(account), has_accounting=has_accounting)
    return presence(lists, "7")


@pytest.mark.parametrize(("queue", "account", "is_true"), list(product(QUEUE_STATES, ACCOUNT_STATES, (True, False))))
def test_every_pair_of_answers(queue: str | None, account: str | None, is_true: bool) -> None:
    found = seen(queue, account, is_true=is_true)
    if queue == "PENDING":
        assert found is JobPresence.QUEUED
    elif queue is not None and queue not in ENDED_STATES:
        assert found is JobPresence.RUNNING, "what is not known to be an end is none"
    elif is_true and account in ENDED_STATES:
        assert found is JobPresence.ENDED
    else:
        assert found is JobPresence.UNKNOWN


def test_without_accounting_only_the_queue_itself_can_say_that_a_job_has_ended() -> None:
    assert seen("COMPLETED", None, has_accounting=False) is JobPresence.ENDED
    assert seen(None, None, has_accounting=False) is JobPresence.UNKNOWN
    assert seen("COMPLETED", None, is_true=False, has_accounting=False) is JobPresence.UNKNOWN


def test_no_state_both_waits_and_has_ended() -> None:
    assert not ENDED_STATES & WAITING_STATES


def test_jobs_of_a_name_live_ones_first() -> None:
    queue = [*row("COMPLETED", "5").values(), *row("PENDING", "9").values(), *row("RUNNING", "8", "other").values()]
    accounts = [*record("TIMEOUT", "4").values(), *record("RUNNING", "6", "other").values()]
    assert found_by_name(queue, accounts, "n") == ["9", "5", "4"]
    assert found_by_name([], [], "n") == []
