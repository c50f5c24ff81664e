# SPDX-License-Identifier: Apache-2.0
"""Batch scripts as text: what sbatch is told, what the shell does, and that no value can break out of its place."""

import shlex
import subprocess
from pathlib import Path

import pytest

from site_agent.launcher.slurm.batch import BatchJob, control_script, render, wall_time
from site_agent.launcher.slurm.settings import SlurmSection


def job(directory: str = "/spool/a1", *, seconds_limit: int = 7200, **changes: object) -> BatchJob:
    settings = SlurmSection.model_validate(changes)
    return BatchJob(
        name="federation-r-a1-site-1-0123abcd",
        directory=directory,
        site_dir="/site",
        module="site_agent.trainer.job",
        python="/venv/bin/python",
        seconds_limit=seconds_limit,
        settings=settings,
    )


def directives(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]


def step(script: str) -> list[str]:
    line = next(line for line in script.splitlines() if line.startswith("srun "))
    return shlex.split(line.removesuffix(" &"))


def test_what_keeps_an_allocation_single_and_its_log_whole_is_always_there() -> None:
    found = directives(render(job()))
    for line in (
        "job-name=federation-r-a1-site-1-0123abcd",
        "dependency=singleton",
        "open-mode=append",
        "output=/spool/a1/job.log",
        "chdir=/spool/a1",
        "export=NIL",
        "time=02:00:00",
        "signal=TERM@240",
        "requeue",
    ):
        assert line in found
    assert not any(line.startswith("signal=B:") for line in found)


def test_a_site_with_gpus_in_the_centres_own_counting() -> None:
    settings = {
        "partition": "standard-g", "account": "project_1", "qos": "q", "reservation": "res", "nodes": 2,
        "gpus_per_node": 8, "cpus_per_rank": 7, "memory": "480G", "exclusive": True, "exclude_nodes": "nid[1-3]",
        "options": ("--constraint=a|b",), "requeue": False,
    }  # fmt: skip
    found = directives(render(job(**settings)))
    for line in (
        "partition=standard-g", "account=project_1", "qos=q", "reservation=res", "nodes=2", "gpus-per-node=8",
        "ntasks-per-node=1", "cpus-per-task=56", "mem=480G", "exclusive", "exclude=nid[1-3]", "constraint=a|b",
        "no-requeue",
    ):  # fmt: skip
        assert line in found
    assert "gres=gpu:a100:4" in directives(render(job(gpus_per_node=4, gpu_type="a100", gpu_request="gres")))
    assert not any("gpu" in line for line in directives(render(job(gpus_per_node=4, gpu_request="none"))))


def test_one_rank_is_started_as_it_is() -> None:
    words = step(render(job()))
    assert words[words.index("/venv/bin/python") :] == [
        "/venv/bin/python", "-P", "-m", "site_agent.trainer.job", "/spool/a1",
    ]  # fmt: skip


def test_several_ranks_are_started_by_torchrun_on_each_node() -> None:
    script = render(job(nodes=2, ranks_per_node=4))
    words = step(script)
    assert words[-3:-1] == ["bash", "-c"]
    inner = shlex.split(words[-1])
    for word in ("--nnodes=2", "--nproc-per-node=4", "--node-rank=$SLURM_NODEID", "--max-restarts=0"):
        assert word in inner
    assert inner[-3:] == ["--module", "site_agent.trainer.job", "/spool/a1"]
    assert 'scontrol show hostnames "$SLURM_JOB_NODELIST"' in script


def test_a_container_sees_the_sites_directory_and_what_the_operator_binds() -> None:
    words = step(render(job(container={"image": "/i.sif", "binds": ("/data:/data:ro",), "options": ("--rocm",)})))
    start = words.index("apptainer")
    assert words[start : start + 6] == [
        "apptainer",
        "exec",
        "--rocm",
        "--bind=/site",
        "--bind=/data:/data:ro",
        "/i.sif",
    ]


@pytest.mark.parametrize("directory", ["/a b/c%j", '/quote"d/$(touch x)', "/back\\slash/'single'", "/ü/;rm"])
def test_a_path_is_a_word_whatever_is_in_it(directory: str) -> None:
    for changes in ({}, {"ranks_per_node": 2}):
        script = render(job(directory, **changes))
        words = step(script)
        inner = shlex.split(words[-1]) if changes else words
        assert inner[-1] == directory
        found = next(line for line in directives(script) if line.startswith("chdir="))
        assert shlex.split(found.removeprefix("chdir=")) == [directory]


def test_a_directory_name_does_not_make_sbatch_fill_anything_in() -> None:
    assert "output=/spool/%%j/job.log" in directives(render(job("/spool/%j")))


def test_bash_can_read_every_script(tmp_path: Path) -> None:
    for number, changes in enumerate(({}, {"nodes": 3, "ranks_per_node": 2}, {"modules": ("cray/1.0", "rocm")})):
        path = tmp_path / f"{number}.sh"
        path.write_text(render(job("/a 'b\" $c/`d`", **changes)))
        assert subprocess.run(["bash", "-n", str(path)], capture_output=True, check=False).stderr == b""


def test_a_module_that_is_missing_ends_the_job_with_a_status_of_its_own() -> None:
    script = render(job(modules=("rocm/9.9",)))
    assert script.startswith("#!/bin/bash -l\n")
    assert "module load rocm/9.9 || { echo 'module-missing: rocm/9.9' >&2; exit 72; }" in script


def test_the_signal_comes_within_the_wall_time_however_short_that_is() -> None:
    assert "signal=TERM@30" in directives(render(job(seconds_limit=60)))


def test_the_shell_waits_for_its_step_though_it_is_told_to_end(tmp_path: Path) -> None:
    """With a stand-in for srun: the step gets no TERM here, and its status is the script's."""
    (tmp_path / "srun").write_text("#!/bin/sh\nkill -TERM $PPID\nsleep 0.2\necho done > said\nexit 7\n")
    (tmp_path / "srun").chmod(0o755)
    (tmp_path / "job.sh").write_text(render(job(str(tmp_path))))
    done = subprocess.run(["bash", "job.sh"], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
    assert (done.returncode, (tmp_path / "said").read_text()) == (7, "done\n")


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ("echo 'no-space: disk full' > ended.txt", "no-space: disk full"),
        ("true", "srun: error: task 0"),
    ],
)
def test_the_reason_is_the_last_line_of_the_log(tmp_path: Path, says: str, expected: str) -> None:
    """Also after what srun and torchrun say about a step that failed, and not that of an earlier start."""
    (tmp_path / "ended.txt").write_text("preempted: of the start before\n")
    (tmp_path / "srun").write_text(f"#!/bin/sh\n{says}\necho srun: error: task 0 >&2\nexit 7\n")
    (tmp_path / "srun").chmod(0o755)
    (tmp_path / "job.sh").write_text(render(job(str(tmp_path))))
    with (tmp_path / "job.log").open("wb") as log:
        argv, path = ["bash", "job.sh"], f"{tmp_path}:/usr/bin:/bin"
        done = subprocess.run(argv, cwd=tmp_path, env={"PATH": path}, stdout=log, stderr=log, check=False)
    assert done.returncode == 7
    assert (tmp_path / "job.log").read_text().splitlines()[-1] == expected


def test_the_control_job_is_held_and_does_nothing() -> None:
    text = control_script(SlurmSection(partition="p", account="a"), "federation-control-x")
    assert {"hold", "job-name=federation-control-x", "partition=p", "account=a"} <= set(directives(text))
    assert text.splitlines()[-1] == "exit 0"


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "00:01:00"), (7265, "02:01:05"), (86_400, "1-00:00:00"), (200_000, "2-07:33:20")]
)
def test_wall_times(seconds: int, text: str) -> None:
    assert wall_time(seconds) == text
