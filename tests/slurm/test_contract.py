# SPDX-License-Identifier: Apache-2.0
"""What a launcher asks and gets: the fake commands answer as the real ones do."""

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from slurm_bed import SlurmBed
from slurm_bed.daemons import becomes

SECONDS = 30.0
Ask = Callable[..., "subprocess.CompletedProcess[str]"]


class Cluster:
    """Either of the two, asked by its commands only."""

    def __init__(self, run: Ask) -> None:
        self.run = run

    def submit(self, script: str, *options: str) -> str:
        result = self.run(["sbatch", "--parsable", *options], input=f"#!/bin/bash\n{script}\n")
        assert (result.returncode, result.stderr) == (0, "")
        assert re.fullmatch(r"\d+\n", result.stdout)
        return result.stdout.strip()

    def queue(self, job: str, form: str = "%T") -> str:
        return self.run(["squeue", "-h", "-t", "all", "-j", job, "-o", form]).stdout.strip()

    def accounts(self, *options: str, fields: str = "JobIDRaw,State") -> list[str]:
        result = self.run(["sacct", "-n", "-P", "-X", *options, f"--format={fields}"])
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout.splitlines()

    def wait(self, condition: Callable[[], object], what: str) -> None:
        assert becomes(condition, SECONDS), f"expected {what}, found {self.run(['squeue', '-t', 'all']).stdout}"

    def reach(self, job: str, *states: str) -> None:
        self.wait(lambda: self.queue(job) in states, f"job {job} {states}")


@pytest.fixture(params=["fake", "real"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    if request.param == "real":
        bed: SlurmBed = request.getfixturevalue("slurm")
        yield Cluster(lambda argv, **options: bed.run(argv, check=False, **options))
        return
    fake = FakeSlurm(tmp_path / "fake", runs_jobs=True)

    def run(argv: Sequence[str], **options: object) -> "subprocess.CompletedProcess[str]":
        command = [str(fake.bin_dir / argv[0]), *argv[1:]]
        keywords = {"capture_output": True, "text": True, "check": False, "cwd": tmp_path, **options}
        result: subprocess.CompletedProcess[str] = subprocess.run(command, **keywords)  # type: ignore[call-overload]
        return result

    yield Cluster(run)
    fake.close()


def test_a_job_runs_and_is_accounted(cluster: Cluster, tmp_path: Path) -> None:
    options = ("--job-name=a-job", "--gpus-per-node=2", "--time=5", f"--output={tmp_path}/out-%j")
    job = cluster.submit("echo job=$SLURM_JOB_ID restart=$SLURM_RESTART_COUNT.", *options)
    cluster.reach(job, "COMPLETED")
    cluster.wait(lambda: cluster.accounts("--name=a-job"), "the name in sacct")
    fields = "JobIDRaw,JobName,State,ExitCode,AllocTRES,NNodes,TimelimitRaw,Partition,Account"
    assert cluster.accounts("-j", job, fields=fields) == [
        f"{job}|a-job|COMPLETED|0:0|billing=1,cpu=1,gres/gpu=2,node=1|1|5|batch|fed"
    ]
    assert (tmp_path / f"out-{job}").read_text() == f"job={job} restart=.\n"


def test_options_of_the_script_and_a_failing_job(cluster: Cluster) -> None:
    job = cluster.submit("#SBATCH --job-name=written --time=00:02:00\nexit 3")
    assert cluster.queue(job, "%j|%l") == "written|2:00"
    cluster.reach(job, "FAILED")
    cluster.wait(lambda: cluster.accounts("-j", job, "-D") == [f"{job}|FAILED"], "the failure in sacct")
    assert cluster.accounts("-j", job, fields="ExitCode") == ["3:0"]


def test_held_delayed_and_waiting_jobs(cluster: Cluster) -> None:
    held = cluster.submit("true", "--job-name=contract-same", "--hold")
    later = cluster.submit("true", "--job-name=contract-later", "--begin=now+3600")
    second = cluster.submit("true", "--job-name=contract-same", "--dependency=singleton")
    states = [cluster.queue(job, "%T|%t|%r") for job in (held, later, second)]
    assert states == ["PENDING|PD|JobHeldUser", "PENDING|PD|BeginTime", "PENDING|PD|Dependency"]
    cluster.wait(lambda: len(cluster.accounts("-j", f"{held},{later},{second}")) == 3, "three pending jobs in sacct")
    # They never were eligible: without their ids sacct knows nothing of them.
    for name in ("contract-same", "contract-later"):
        assert cluster.accounts(f"--name={name}", "--starttime=2020-01-01") == []
    assert cluster.accounts("--name=contract-later", "--endtime=now+2hours") == [f"{later}|PENDING"]
    assert cluster.accounts("--name=contract-same", "--endtime=now+2hours") == []
    assert cluster.run(["scontrol", "release", held]).returncode == 0
    cluster.reach(second, "COMPLETED")
    assert cluster.queue(held) == "COMPLETED"


def test_an_account_without_budget(cluster: Cluster) -> None:
    job = cluster.submit("true", "--account=empty")
    cluster.wait(lambda: cluster.queue(job, "%T|%r|%a") == "PENDING|AssocGrpCPUMinutesLimit|empty", "the reason")


def test_a_job_is_cancelled(cluster: Cluster) -> None:
    job = cluster.submit("sleep 300", "--job-name=long")
    cluster.reach(job, "RUNNING")
    assert cluster.run(["squeue", "--noheader", "--name=long", "--format=%i %T"]).stdout == f"{job} RUNNING\n"
    result = cluster.run(["scancel", job])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    cluster.reach(job, "CANCELLED")
    assert cluster.run(["squeue", "--noheader", "--name=long"]).stdout == ""
    cluster.wait(lambda: cluster.accounts("-j", job) == [f"{job}|CANCELLED by 0"], "the end in sacct")


def test_a_signal_goes_to_steps(cluster: Cluster, tmp_path: Path) -> None:
    step = tmp_path / "step.sh"
    step.write_text("trap 'echo step TERM; exit 0' TERM\necho up\nsleep 300 & wait\n")
    script = f"trap 'echo shell TERM' TERM\nsrun bash {step}\necho after $?"
    job = cluster.submit(script, f"--output={tmp_path}/out", "--job-name=steps")
    cluster.wait(lambda: (tmp_path / "out").exists() and "up" in (tmp_path / "out").read_text(), "a step")
    cluster.run(["scancel", "--signal=TERM", job])
    cluster.reach(job, "COMPLETED")
    said = (tmp_path / "out").read_text()
    assert "step TERM" in said
    assert "shell TERM" not in said


def test_a_requeue(cluster: Cluster, tmp_path: Path) -> None:
    options = ("--job-name=again", "--open-mode=append", f"--output={tmp_path}/out")
    job = cluster.submit("echo start=$SLURM_RESTART_COUNT.\nexec sleep 300", *options)
    cluster.reach(job, "RUNNING")
    cluster.wait(lambda: cluster.accounts("--name=again"), "the job in sacct")
    out = tmp_path / "out"
    cluster.wait(lambda: out.exists() and "start=." in out.read_text(), "the first start's word")
    assert cluster.run(["scontrol", "requeue", job]).returncode == 0
    cluster.wait(lambda: cluster.accounts("-j", job, "-D") == [f"{job}|REQUEUED", f"{job}|RUNNING"], "two executions")
    assert cluster.accounts("-j", job) == [f"{job}|RUNNING"]
    cluster.wait(lambda: "start=1." in out.read_text(), "the restart count")
    assert out.read_text().splitlines()[0] == "start=."
    assert " Restarts=1 " in cluster.run(["scontrol", "show", "job", job]).stdout


@pytest.mark.parametrize(
    "argv",
    [
        ["squeue", "-h", "-j", "999999"],
        ["squeue", "-h", "-j", "999998,999999"],
        ["squeue", "-h", "-n", "nobody"],
        ["squeue", "--bogus"],
        ["sacct", "-n", "-P", "-X", "-j", "999999", "--format=State"],
        ["sacct", "-n", "-P", "-X", "--name=nobody", "--starttime=2020-01-01", "--format=State"],
        ["sacct", "--bogus"],
        ["sacct", "--format=Nonsense"],
        ["scancel", "999999"],
        ["scancel"],
        ["scontrol", "requeue", "999999"],
        ["scontrol", "show", "job", "999999"],
        ["sbatch", "--version"],
        ["sbatch", "--bogus"],
        ["sbatch", "missing.sh"],
        ["sinfo", "-h", "-o", "%P|%a|%l|%D"],
        ["sinfo", "-h", "-p", "nope"],
        ["sinfo", "--noheader", "--format=%P|%a|%l|%D|%c|%m|%G", "--partition=short"],
        ["sacctmgr", "-n", "-P", "show", "assoc", "user=root", "account=fed,empty", "format=Account,Partition,QOS"],
    ],
    ids=" ".join,
)
def test_the_same_words_and_status(argv: list[str], slurm: SlurmBed, tmp_path: Path) -> None:
    fake = FakeSlurm(tmp_path / "fake")
    real = slurm.run(argv, check=False)
    answer = subprocess.run(
        [str(fake.bin_dir / argv[0]), *argv[1:]], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (real.returncode, real.stdout, real.stderr)


@pytest.mark.parametrize(
    "option",
    [
        *("--partition=nope", "--account=nope", "--qos=nope", "--reservation=nope", "--time=2:00:00"),
        *("--nodes=2", "--gpus-per-node=8", "--gres=gpu:8"),
    ],
)
def test_the_same_refusal(option: str, slurm: SlurmBed, tmp_path: Path) -> None:
    fake = FakeSlurm(tmp_path / "fake")
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n")
    real = slurm.run(["sbatch", "--parsable", option, str(script)], check=False)
    answer = subprocess.run(
        [str(fake.bin_dir / "sbatch"), "--parsable", option, str(script)], capture_output=True, text=True, check=False
    )
    said = real.stderr.splitlines()[-1]  # of a partition the real one says more than this
    assert (answer.returncode, answer.stdout, answer.stderr) == (real.returncode, "", f"{said}\n")


@pytest.mark.parametrize("option", ["--partition=nope", "--account=nope", "--time=2:00:00", "--gpus-per-node=8"])
def test_the_same_refusal_of_what_is_only_looked_at(option: str, slurm: SlurmBed, tmp_path: Path) -> None:
    fake = FakeSlurm(tmp_path / "fake")
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n")
    argv = ["sbatch", "--test-only", option, str(script)]
    real = slurm.run(argv, check=False)
    answer = subprocess.run([fake.bin_dir / argv[0], *argv[1:]], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (real.returncode, real.stdout)
    assert answer.stderr.splitlines()[-1] == real.stderr.splitlines()[-1]


def test_what_is_only_looked_at_is_not_submitted(slurm: SlurmBed, tmp_path: Path) -> None:
    fake = FakeSlurm(tmp_path / "fake")
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n")
    argv = ["sbatch", "--test-only", str(script)]
    real = slurm.run(argv)
    answer = subprocess.run([fake.bin_dir / argv[0], *argv[1:]], capture_output=True, text=True, check=True)
    numbers = re.compile(r"[0-9][0-9T:-]*")
    assert numbers.sub("N", answer.stderr) == numbers.sub("N", real.stderr)
    assert (slurm.run(["squeue", "--noheader"]).stdout, fake.jobs()) == ("", [])
