# SPDX-License-Identifier: Apache-2.0
"""The Slurm launcher on a fake Slurm that lies, delays and forgets: nothing is ever started twice, nothing is guessed.

The fake's answers are those of the real one (tests/slurm/test_contract.py compares them).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm, Fault

from federation.durable.real import RealFileSystem
from federation.errors import LaunchFailedError, TransportError
from site_agent.launcher.api import JobPresence
from site_agent.launcher.slurm.commands import SlurmCommands
from site_agent.launcher.slurm.control import ControlJob
from site_agent.launcher.slurm.launcher import SlurmLauncher, SlurmSite
from site_agent.launcher.slurm.settings import SlurmSection
from site_agent.launcher.slurm.watch import Watch

pytestmark = pytest.mark.processes
NAME, CONTROL = "federation-r-a1-x", "federation-control-x"


class Bench:
    """A launcher over a fake Slurm, with a clock of its own for the launcher's looks."""

    def __init__(self, directory: Path) -> None:
        self.slurm = FakeSlurm(directory / "slurm", clock=1_800_000_000.0)
        self.site_dir, self.allocation = directory / "site", directory / "site" / "a1"
        self.allocation.mkdir(parents=True)
        self.now = 0.0
        self.again()

    def again(self) -> SlurmLauncher:
        """The launcher of a new process."""
        settings = SlurmSection(bin_dir=str(self.slurm.bin_dir), command_timeout_seconds=1, poll_seconds=30)
        commands = SlurmCommands(settings.bin_dir, settings.command_timeout_seconds)
        control = ControlJob(RealFileSystem(self.site_dir), commands, settings, CONTROL)
        site = SlurmSite(
            site_dir=str(self.site_dir),
            data_dirs=(),
            seconds_limit=600,
            python="/usr/bin/python3",
            settings=settings,
            commands=commands,
            control=control,
            watch=Watch(commands, control, poll_seconds=30, monotonic=lambda: self.now),
        )
        self.launcher = SlurmLauncher(site, "a_trainer.job", environment={})
        return self.launcher

    def prepare(self) -> None:
        """Asks and submits all that comes before a job's own submission."""
        assert self.launcher._site.control is not None
        self.launcher._site.control.ensure()
        self.launcher._site.commands.version()

    def submit(self) -> str:
        return self.launcher.submit(self.allocation, NAME, 1)

    def find(self) -> str | None:
        return self.launcher.find(self.allocation, NAME)

    def presence(self, handle: str) -> JobPresence:
        """As a look that is taken now shows it."""
        self.now += 31
        self.launcher.query(handle)
        self.launcher._site.watch._collect(wait=True)
        return self.launcher.query(handle)

    @property
    def jobs(self) -> list[str]:
        """Ids of the allocation's jobs, whatever became of them."""
        return [str(job.id) for job in self.slurm.jobs(NAME)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.slurm.close()


def test_a_jobs_way(bench: Bench) -> None:
    handle = bench.submit()
    job = bench.jobs[0]
    assert handle == f"slurm:-:{job}"
    assert bench.presence(handle) is JobPresence.QUEUED
    bench.slurm.move(job, "RUNNING")
    assert bench.presence(handle) is JobPresence.RUNNING
    bench.slurm.move(job, "COMPLETED")
    assert bench.presence(handle) is JobPresence.ENDED
    usage = bench.launcher.usage(handle)
    assert usage is not None
    assert usage.state == "COMPLETED"


def test_a_requeue_is_the_same_job_with_one_start_more(bench: Bench) -> None:
    handle = bench.submit()
    bench.slurm.move(bench.jobs[0], "RUNNING")
    bench.slurm.move(bench.jobs[0], "REQUEUED")
    assert bench.presence(handle) is JobPresence.QUEUED
    assert bench.launcher.restarts(handle) == 1


def test_a_requeued_job_has_used_something_already(bench: Bench) -> None:
    handle = bench.submit()
    bench.slurm.move(bench.jobs[0], "RUNNING")
    assert bench.presence(handle) is JobPresence.RUNNING
    assert bench.launcher.earlier_seconds(handle) is None
    bench.slurm.advance(7)
    bench.slurm.move(bench.jobs[0], "REQUEUED")
    assert bench.presence(handle) is JobPresence.QUEUED
    found = bench.launcher.earlier_seconds(handle)
    assert found is not None
    assert found >= 7


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "TIMEOUT", "CANCELLED", "FAILED"])
def test_each_end_has_the_batch_systems_word(bench: Bench, state: str) -> None:
    handle = bench.submit()
    bench.slurm.move(bench.jobs[0], "RUNNING")
    bench.slurm.move(bench.jobs[0], state)
    assert bench.presence(handle) is JobPresence.ENDED
    usage = bench.launcher.usage(handle)
    assert usage is not None
    assert usage.state == state


def test_an_empty_queue_is_not_believed(bench: Bench) -> None:
    handle = bench.submit()
    bench.slurm.move(bench.jobs[0], "RUNNING")
    bench.slurm.faults(Fault(command="squeue", kind="empty"))
    assert bench.presence(handle) is JobPresence.UNKNOWN
    with pytest.raises(TransportError, match="expected the queue to show the control job"):
        bench.find()
    bench.slurm.faults()
    assert bench.presence(handle) is JobPresence.RUNNING


def test_an_accounting_that_has_forgotten_the_job_ends_nothing(bench: Bench) -> None:
    handle = bench.submit()
    bench.slurm.move(bench.jobs[0], "RUNNING")
    bench.slurm.move(bench.jobs[0], "COMPLETED")
    bench.slurm.forget(bench.jobs[0])
    bench.slurm.faults(Fault(command="sacct", kind="empty"))
    assert bench.presence(handle) is JobPresence.UNKNOWN
    bench.slurm.faults(Fault(command="sacct", kind="unreachable"))
    assert bench.presence(handle) is JobPresence.UNKNOWN
    bench.slurm.faults()
    assert bench.presence(handle) is JobPresence.ENDED


def test_a_submission_that_timed_out_after_it_was_accepted_is_found(bench: Bench) -> None:
    bench.prepare()
    bench.slurm.faults(Fault(command="sbatch", kind="hang_after", seconds=5))
    with pytest.raises(TransportError):
        bench.submit()
    bench.slurm.faults()
    bench.again()
    assert bench.find() == f"slurm:-:{bench.jobs[0]}"
    assert len(bench.jobs) == 1


def test_a_submission_that_failed_after_it_was_accepted_is_no_certain_no(bench: Bench) -> None:
    bench.prepare()
    bench.slurm.faults(Fault(command="sbatch", kind="fail_after", status=1, says="Socket timed out on send/recv"))
    with pytest.raises(TransportError):
        bench.submit()
    bench.slurm.faults()
    assert bench.find() == f"slurm:-:{bench.jobs[0]}"


def test_a_refused_submission_left_nothing(bench: Bench) -> None:
    bench.prepare()
    bench.slurm.faults(Fault(command="sbatch", kind="refuse", says="sbatch: error: invalid partition specified: x"))
    with pytest.raises(LaunchFailedError) as raised:
        bench.submit()
    assert raised.value.code == "unknown-partition"
    assert not bench.jobs


def test_nothing_is_found_only_if_both_lists_answer(bench: Bench) -> None:
    bench.prepare()
    assert bench.find() is None
    for command in ("squeue", "sacct"):
        bench.slurm.faults(Fault(command=command, kind="unreachable"))
        with pytest.raises(TransportError):
            bench.find()
    bench.slurm.faults(Fault(command="sacct", kind="empty"))
    with pytest.raises(TransportError, match="expected the accounting to show the control job"):
        bench.find()


def test_without_a_control_job_nothing_is_submitted(bench: Bench) -> None:
    bench.slurm.faults(Fault(command="sbatch", kind="unreachable"))
    with pytest.raises(TransportError):
        bench.submit()
    assert not bench.slurm.jobs()


def test_of_a_duplicate_the_waiting_twin_is_taken_out(bench: Bench) -> None:
    bench.prepare()
    bench.slurm.faults(Fault(command="sbatch", kind="duplicate"))
    bench.submit()
    bench.slurm.faults()
    first, second = bench.jobs
    bench.slurm.move(first, "RUNNING")
    assert bench.find() == f"slurm:-:{first}"
    assert bench.slurm.job(first).state == "RUNNING"
    assert bench.slurm.job(second).state == "CANCELLED"


def test_cancel_asks_first_and_takes_a_waiting_job_out_at_once(bench: Bench) -> None:
    handle = bench.submit()
    bench.slurm.move(bench.jobs[0], "RUNNING")
    bench.launcher.cancel(handle)
    assert bench.slurm.job(bench.jobs[0]).state == "RUNNING"
    assert ["scancel", "--signal=TERM", bench.jobs[0]] in [list(call) for call in bench.slurm.calls("scancel")]
    bench.launcher.cancel(handle, force=True)
    assert bench.slurm.job(bench.jobs[0]).state == "CANCELLED"
    bench.launcher.cancel(handle, force=True)


@pytest.mark.parametrize("handle", ["", "slurm:-:x", "slurm:1", "local:h:b:1:2", "slurm:-:²", "slurm:-:7:8"])
def test_a_handle_that_means_nothing_here_is_unknown(bench: Bench, handle: str) -> None:
    assert bench.launcher.query(handle) is JobPresence.UNKNOWN
    bench.launcher.cancel(handle, force=True)
    assert bench.launcher.usage(handle) is None
