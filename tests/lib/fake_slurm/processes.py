# SPDX-License-Identifier: Apache-2.0
"""Jobs of the fake as processes: a runner per job, in a session of its own, that notes how its script ended."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from fake_slurm import life
from fake_slurm.store import COMPLETED, FAILED, LIB, RUNNING, START, TIMEOUT, Cluster, Job, Store

_KEPT: Final = ("HOME", "PATH", "USER", "LANG", "TMPDIR")


def start(store: Store, job: Job) -> None:
    """Starts the runner of a job."""
    argv = [sys.executable, "-S", "-E", "-c", START, str(LIB), "run-job", str(store.directory), str(job.id)]
    null = subprocess.DEVNULL
    child = subprocess.Popen(argv, start_new_session=True, stdin=null, stdout=null, stderr=null)
    child.returncode = 0  # not ours to wait for: this command ends before the job does
    job.process = child.pid


def run_job(store: Store, number: int) -> int:
    """Runs the script of a job to its end, or to its wall time; how it ended lies in `ended/ID.RESTARTS`."""
    with store.open() as cluster:
        job = cluster.job(number)
        assert job is not None
        kill_wait_seconds, name = cluster.kill_wait_seconds, cluster.cluster
    script = store.directory / job.command
    script.chmod(0o700)
    output = Path(job.output.replace("%j", str(job.id)).replace("%x", job.name))
    mode = "ab" if job.options.get("open-mode") == "append" or not job.restarts else "wb"
    with output.open(mode) as log:
        child = subprocess.Popen(
            [script, *job.arguments],
            cwd=job.work_dir,
            env=_environment(store, job, name),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )
    state = _wait(child, job, kill_wait_seconds)
    (store.directory / "ended").mkdir(exist_ok=True)
    temporary = store.directory / "ended" / f"new-{os.getpid()}"
    temporary.write_text(f"{state} {child.returncode}")
    temporary.replace(store.directory / "ended" / f"{job.id}.{job.restarts}")
    return 0


def srun(store: Store, arguments: list[str]) -> NoReturn:
    """Becomes the command: a step, the only part of a job that gets `scancel --signal` without `--batch`."""
    os.setpgid(0, 0)
    with store.open() as cluster:
        job = cluster.job(int(os.environ.get("SLURM_JOB_ID", "0")))
        if job is not None:
            job.steps.append(os.getpid())
    while arguments and arguments[0].startswith("-"):
        arguments = arguments[1:]  # options of srun are given as --NAME=VALUE
    os.environ["SLURM_STEP_ID"] = "0"
    os.execvp(arguments[0], arguments)


def collect(store: Store, cluster: Cluster) -> None:
    """Takes over how jobs ended."""
    for job in cluster.jobs:
        note = store.directory / "ended" / f"{job.id}.{job.restarts}"
        if job.state == RUNNING and job.process and note.exists():
            state, code = note.read_text().split()
            life.move(cluster, job, state)
            job.exit_code = "0:0" if state == TIMEOUT else _exit_code(int(code))


def send(job: Job, name: str, *, batch: bool, full: bool) -> None:
    """Sends a signal to the steps of a job; `batch`: to its script alone; `full`: to both."""
    number = signal.Signals[f"SIG{name.removeprefix('SIG')}"] if not name.isdecimal() else signal.Signals(int(name))
    if not batch:
        for step in job.steps:
            _kill_group(step, number)
    if (batch or full) and job.process:
        for child in _children(job.process):
            with suppress(ProcessLookupError):
                os.kill(child, number)


def end(store: Store, job: Job) -> None:
    """TERM for everything of a job, KILL a little later; a child does it, nobody waits for it."""
    if not job.process:
        return
    groups = [*job.steps, *_children(job.process)]
    for group in groups:
        _kill_group(group, signal.SIGTERM)
    if os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # whoever reads this command's output must not wait for its child
            os.dup2(null, descriptor)
        kill_wait_seconds = store.load().kill_wait_seconds
        deadline = time.monotonic() + kill_wait_seconds
        while time.monotonic() < deadline and any(Path(f"/proc/{group}").exists() for group in groups):
            time.sleep(0.02)
        for group in groups:
            _kill_group(group, signal.SIGKILL)
        os._exit(0)


def _wait(child: "subprocess.Popen[bytes]", job: Job, kill_wait_seconds: float) -> str:
    try:
        child.wait(job.limit_seconds)
    except subprocess.TimeoutExpired:
        _kill_group(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(kill_wait_seconds)
        _kill_group(child.pid, signal.SIGKILL)
        child.wait()
        return TIMEOUT
    return COMPLETED if child.returncode == 0 else FAILED


def _environment(store: Store, job: Job, cluster: str) -> dict[str, str]:
    """What a script finds with `--export=NIL`: variables of Slurm, and those of a login."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    bin_dir = store.directory / "bin"
    slurm = {
        "SLURM_JOB_ID": str(job.id),
        "SLURM_JOBID": str(job.id),
        "SLURM_JOB_NAME": job.name,
        "SLURM_JOB_NUM_NODES": str(job.num_nodes),
        "SLURM_NNODES": str(job.num_nodes),
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_JOB_PARTITION": job.partition,
        "SLURM_JOB_ACCOUNT": job.account,
        "SLURM_CLUSTER_NAME": cluster,
        "SLURM_SUBMIT_DIR": job.work_dir,
    }
    restarts = {"SLURM_RESTART_COUNT": str(job.restarts)} if job.restarts else {}
    return {**kept, "PATH": f"{bin_dir}{os.pathsep}{kept.get('PATH', os.defpath)}", **slurm, **restarts}


def _exit_code(code: int) -> str:
    return f"0:{-code}" if code < 0 else f"{code}:0"


def _kill_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
