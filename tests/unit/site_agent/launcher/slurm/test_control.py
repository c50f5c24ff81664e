# SPDX-License-Identifier: Apache-2.0
"""The control job: one, adopted after a crash, replaced when the accounting says that it is gone, and not too often."""

from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from federation.errors import PeerUnavailableError
from site_agent.launcher.slurm.commands import AccountRow, QueueRow, SlurmCommands
from site_agent.launcher.slurm.control import MIN_SECONDS_BETWEEN, SCRIPT, ControlJob
from site_agent.launcher.slurm.settings import SlurmSection

NAME = "federation-control-x"


class Queue(SlurmCommands):
    """A queue in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, QueueRow] = {}
        self.is_down, self.cancelled = False, list[str]()

    def queue(self) -> list[QueueRow]:
        if self.is_down:
            raise PeerUnavailableError("squeue: down")
        return list(self.rows.values())

    def submit(self, script: Path) -> tuple[str, str]:
        assert "--hold" in script.read_text()
        job = str(len(self.rows) + 1)
        self.rows[job] = QueueRow(job=job, state="PENDING", reason="JobHeldUser", restarts=0, name=NAME)
        return job, ""

    def cancel(self, job: str, *arguments: str) -> None:
        self.cancelled.append(job)


@pytest.fixture
def queue() -> Queue:
    return Queue()


def control(queue: Queue, directory: Path, now: float = 1000.0) -> ControlJob:
    return ControlJob(RealFileSystem(directory), queue, SlurmSection(), NAME, now=lambda: now)


def ended(job: str) -> AccountRow:
    return AccountRow(
        job=job, state="CANCELLED", exit_code="0:0", elapsed_seconds=0, num_nodes=0, num_gpus=0, name=NAME
    )


def test_there_is_one_however_often_it_is_asked_for(queue: Queue, tmp_path: Path) -> None:
    first = control(queue, tmp_path)
    first.ensure()
    first.ensure()
    control(queue, tmp_path).ensure()
    assert list(queue.rows) == ["1"]
    assert (tmp_path / SCRIPT).exists()
    assert control(queue, tmp_path).is_shown(dict(queue.rows))
    assert not control(queue, tmp_path).is_shown({})


def test_one_that_an_agent_submitted_which_died_at_that_moment_is_adopted(queue: Queue, tmp_path: Path) -> None:
    queue.submit_for = None
    queue.rows["9"] = QueueRow(job="9", state="PENDING", reason="JobHeldUser", restarts=0, name=NAME)
    found = control(queue, tmp_path)
    found.ensure()
    assert (found.job, list(queue.rows)) == ("9", ["9"])


def test_nothing_is_submitted_while_the_queue_does_not_answer(queue: Queue, tmp_path: Path) -> None:
    queue.is_down = True
    with pytest.raises(PeerUnavailableError):
        control(queue, tmp_path).ensure()
    assert not queue.rows


def test_another_one_follows_only_on_the_accountings_word_and_not_too_soon(queue: Queue, tmp_path: Path) -> None:
    control(queue, tmp_path).ensure()
    late = control(queue, tmp_path, 1000.0 + MIN_SECONDS_BETWEEN)
    late.renew(None)
    assert late.job == "1"
    control(queue, tmp_path, 1001.0).renew(ended("1"))
    assert control(queue, tmp_path).job == "1"
    late.renew(ended("1"))
    assert late.job == "2"
    assert control(queue, tmp_path).job == "2"


def test_it_can_be_taken_out(queue: Queue, tmp_path: Path) -> None:
    found = control(queue, tmp_path)
    found.ensure()
    found.remove()
    assert (queue.cancelled, found.job, control(queue, tmp_path).job) == (["1"], "", "")
