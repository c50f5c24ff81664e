# SPDX-License-Identifier: Apache-2.0
"""The fake's own behaviour: states that a test moves, and faults."""

import subprocess
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm, Fault

START = 1_700_000_000.0


@pytest.fixture
def fake(tmp_path: Path) -> FakeSlurm:
    (tmp_path / "job.sh").write_text("#!/bin/sh\n#SBATCH --job-name=named --time=10\n")
    return FakeSlurm(tmp_path / "fake", clock=START)


def call(fake: FakeSlurm, *argv: str, timeout: float = 30.0) -> "subprocess.CompletedProcess[str]":
    command = [str(fake.bin_dir / argv[0]), *argv[1:]]
    where = fake.directory.parent
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=where, timeout=timeout)


def submit(fake: FakeSlurm, *options: str) -> str:
    result = call(fake, "sbatch", "--parsable", *options, "job.sh")
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def accounted(fake: FakeSlurm, *options: str, fields: str = "JobID,State,ElapsedRaw") -> list[str]:
    return call(fake, "sacct", "-n", "-P", "-X", *options, f"--format={fields}").stdout.splitlines()


def hangs(fake: FakeSlurm, *argv: str) -> bool:
    try:
        call(fake, *argv, timeout=1.0)
    except subprocess.TimeoutExpired:
        return True
    return False


def test_a_test_moves_a_job_and_its_clock(fake: FakeSlurm) -> None:
    job = submit(fake)
    assert fake.job(job).name == "named"
    fake.move(job, "RUNNING")
    fake.advance(90)
    assert accounted(fake) == ["1|RUNNING|90"]
    fake.move(job, "TIMEOUT")
    fake.advance(10)
    assert accounted(fake) == ["1|TIMEOUT|90"]
    with pytest.raises(ValueError, match="not over"):
        fake.move(job, "RUNNING")


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "RUNNING"])
def test_a_requeued_job_has_an_execution_more(fake: FakeSlurm, state: str) -> None:
    job = submit(fake)
    fake.move(job, "RUNNING")
    if state != "RUNNING":
        fake.move(job, state)
    fake.move(job, "REQUEUED")
    fake.move(job, "RUNNING")
    first = "REQUEUED" if state == "RUNNING" else state
    assert accounted(fake, "-D") == [f"{job}|{first}|0", f"{job}|RUNNING|0"]
    assert fake.job(job).restarts == 1


def test_an_old_job_is_found_by_id_or_start_time_only(fake: FakeSlurm) -> None:
    job = submit(fake)
    fake.move(job, "RUNNING")
    fake.move(job, "COMPLETED")
    fake.advance(2 * 86_400)
    assert accounted(fake, "--name=named") == []
    assert accounted(fake, "--name=named", "--starttime=2020-01-01") == [f"{job}|COMPLETED|0"]
    assert accounted(fake, "-j", job) == [f"{job}|COMPLETED|0"]


def test_a_forgotten_job_is_unknown_to_squeue(fake: FakeSlurm) -> None:
    job = submit(fake)
    fake.move(job, "COMPLETED")
    fake.forget(job)
    assert call(fake, "squeue", "-h", "-t", "all", "-j", job).returncode == 1
    assert accounted(fake) == [f"{job}|COMPLETED|0"]


def test_accounting_learns_names_late(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("#!/bin/sh\n#SBATCH --job-name=named\n")
    fake = FakeSlurm(tmp_path / "fake", clock=START, accounting_lag_seconds=5.0)
    job = submit(fake)
    assert accounted(fake, "--name=named") == []
    assert accounted(fake, "-j", job, fields="JobName") == ["allocation"]
    fake.advance(5)
    assert accounted(fake, "--name=named", fields="JobID") == [job]


def test_sbatch_accepts_and_then_hangs(fake: FakeSlurm) -> None:
    fake.faults(Fault(command="sbatch", kind="hang_after", times=1))
    assert hangs(fake, "sbatch", "--parsable", "job.sh")
    assert [job.id for job in fake.jobs("named")] == [1]
    assert submit(fake) == "2"
    fake.close()


def test_sbatch_accepts_and_then_fails(fake: FakeSlurm) -> None:
    says = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    fake.faults(Fault(command="sbatch", kind="fail_after", says=says))
    result = call(fake, "sbatch", "--parsable", "job.sh")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"{says}\n")
    assert len(fake.jobs()) == 1


def test_sbatch_submits_twice(fake: FakeSlurm) -> None:
    fake.faults(Fault(command="sbatch", kind="duplicate", times=1))
    assert submit(fake) == "2"
    assert [job.id for job in fake.jobs("named")] == [1, 2]


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_an_orphaned_sbatch_submits_late(fake: FakeSlurm, seconds: float) -> None:
    fake.faults(Fault(command="sbatch", kind="orphan", times=1, ticks=0 if seconds else 2, seconds=seconds))
    assert hangs(fake, "sbatch", "--parsable", "job.sh")
    fake.advance(59)
    fake.tick()
    assert fake.jobs() == []
    assert submit(fake, "--job-name=first") == "1"
    fake.advance(1)
    fake.tick()
    assert [(job.id, job.name) for job in fake.jobs()] == [(1, "first"), (2, "named")]
    fake.close()


def test_answers_that_are_falsely_empty_or_missing(fake: FakeSlurm) -> None:
    job = submit(fake)
    fake.move(job, "RUNNING")
    fake.faults(Fault(command="squeue", kind="empty", when="named"), Fault(command="sacct", kind="unreachable"))
    empty = call(fake, "squeue", "-h", "--name=named")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert call(fake, "squeue", "-h", "-o", "%i").stdout == f"{job}\n"
    lost = call(fake, "sacct", "-n")
    assert (lost.returncode, lost.stdout) == (1, "")
    assert "Connection refused" in lost.stderr
    fake.faults()
    assert call(fake, "squeue", "-h", "--name=named", "-o", "%i").stdout == f"{job}\n"


def test_a_refusal_does_nothing(fake: FakeSlurm) -> None:
    fake.faults(Fault(command="sbatch", kind="refuse", says="sbatch: error: no", status=7))
    result = call(fake, "sbatch", "job.sh")
    assert (result.returncode, result.stderr, fake.jobs()) == (7, "sbatch: error: no\n", [])


def test_an_unknown_fault_is_refused(fake: FakeSlurm) -> None:
    with pytest.raises(ValueError, match="found nonsense"):
        fake.faults(Fault(command="sbatch", kind="nonsense"))


def test_calls_are_noted(fake: FakeSlurm) -> None:
    submit(fake, "--dependency=singleton")
    assert fake.calls("sbatch") == [["sbatch", "--parsable", "--dependency=singleton", "job.sh"]]
