# SPDX-License-Identifier: Apache-2.0
"""Looks at the batch system: rare, not in the agent's way, and nothing concluded from one that failed or is old."""

from concurrent.futures import Executor, Future

import pytest

from federation.errors import PeerUnavailableError
from site_agent.launcher.api import JobPresence
from site_agent.launcher.slurm.answers import presence
from site_agent.launcher.slurm.commands import AccountRow, QueueRow, SlurmCommands
from site_agent.launcher.slurm.watch import MAX_AGE_LOOKS, Watch


class Slurm(SlurmCommands):
    """Lists in memory; counts the questions."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, str] = {}
        self.ends: dict[str, str] = {}
        self.restarts: dict[str, int] = {}
        self.num_over: dict[str, int] = {}
        self.is_down = False
        self.asked: list[list[str]] = []
        self.num_looks = 0

    def queue(self) -> list[QueueRow]:
        self.num_looks += 1
        if self.is_down:
            raise PeerUnavailableError("squeue: no answer")
        return [
            QueueRow(job=j, state=s, reason="None", restarts=self.restarts.get(j, 0), name="n")
            for j, s in self.states.items()
        ]

    def accounts(self, jobs: list[str]) -> list[AccountRow]:  # type: ignore[override]
        self.asked.append(list(jobs))
        shape = {"exit_code": "0:0", "elapsed_seconds": 1, "num_nodes": 1, "num_gpus": 0, "name": "n"}
        known = [j for j in jobs if j in self.ends or j in self.num_over]
        return [
            AccountRow(job=j, state=self.ends.get(j, "RUNNING"), num_over=self.num_over.get(j, 1), **shape)  # type: ignore[arg-type]
            for j in known
        ]


class Inline(Executor):
    """Takes work at once, or when it is told to."""

    def __init__(self) -> None:
        self.waits = False
        self._left: list = []

    def submit(self, work, /, *arguments):  # type: ignore[no-untyped-def,override]
        future: Future = Future()

        def run() -> None:
            try:
                future.set_result(work(*arguments))
            except Exception as error:
                future.set_exception(error)

        self._left.append(run)
        if not self.waits:
            self.go_on()
        return future

    def go_on(self) -> None:
        while self._left:
            self._left.pop()()


class World:
    def __init__(self) -> None:
        self.slurm, self.executor, self.now = Slurm(), Inline(), 0.0
        self.watch = Watch(self.slurm, None, poll_seconds=30, executor=self.executor, monotonic=lambda: self.now)

    def presence(self, job: str) -> JobPresence:
        lists = self.watch.lists(job)
        return presence(lists, job) if lists else JobPresence.UNKNOWN


@pytest.fixture
def world() -> World:
    return World()


def test_a_job_is_looked_at_once_an_interval(world: World) -> None:
    world.slurm.states["7"] = "RUNNING"
    assert {world.presence("7") for _ in range(50)} == {JobPresence.RUNNING}
    assert world.slurm.num_looks == 1
    world.now = 31
    world.presence("7")
    assert world.slurm.num_looks == 2
    assert not world.slurm.asked, "the accounting is asked of jobs that the queue does not show live"


def test_an_end_is_asked_of_the_accounting_once(world: World) -> None:
    world.slurm.ends["7"] = "COMPLETED"
    for minute in range(5):
        world.now = 60.0 * minute
        assert world.presence("7") is JobPresence.ENDED
    assert world.slurm.asked == [["7"]]


def test_a_look_that_takes_long_holds_nobody_up(world: World) -> None:
    world.slurm.states["7"] = "PENDING"
    assert world.presence("7") is JobPresence.QUEUED
    world.executor.waits = True
    world.slurm.states["7"] = "RUNNING"
    world.now = 31
    assert world.presence("7") is JobPresence.QUEUED
    world.now = 90
    assert world.presence("7") is JobPresence.QUEUED
    world.executor.go_on()
    assert world.presence("7") is JobPresence.RUNNING
    assert world.slurm.num_looks == 2


def test_while_nothing_answers_the_last_look_holds_for_a_while_and_then_nothing_does(world: World) -> None:
    world.slurm.states["7"] = "RUNNING"
    world.presence("7")
    world.slurm.is_down = True
    world.now = 31
    assert world.presence("7") is JobPresence.RUNNING
    world.presence("7")
    assert "no answer" in world.watch.trouble
    world.now = 30 * MAX_AGE_LOOKS + 1
    world.presence("7")
    assert world.presence("7") is JobPresence.UNKNOWN
    world.slurm.is_down, world.now = False, world.now + 31
    world.presence("7")
    assert world.presence("7") is JobPresence.RUNNING
    assert world.watch.trouble == ""


def test_what_nobody_asks_for_any_more_is_not_looked_at(world: World) -> None:
    world.presence("7")
    for world.now in (31, 62):
        world.presence("8")
    assert world.slurm.asked == [["7"], ["8"], ["8"]]


def test_what_a_requeued_job_used_before_is_asked_until_the_accounting_shows_it(world: World) -> None:
    world.slurm.states["7"], world.slurm.restarts["7"] = "RUNNING", 2
    world.slurm.num_over["7"] = 1
    for num_asked in (1, 2):
        lists = world.watch.lists("7")
        assert lists is not None
        assert lists.earlier == {}, "one execution is missing"
        assert len(world.slurm.asked) == num_asked
        world.now += 31
    world.slurm.num_over["7"] = 2
    for _ in range(3):
        lists = world.watch.lists("7")
        world.now += 31
    assert lists is not None
    assert lists.earlier["7"].num_over == 2
    assert len(world.slurm.asked) == 3, "it is not asked again before another requeue"
    world.slurm.restarts["7"] = 3
    world.watch.lists("7")
    assert len(world.slurm.asked) == 4
