# SPDX-License-Identifier: Apache-2.0
"""What runs when a test calls one of the fake's commands: `NAME STATE_DIRECTORY ARGUMENTS…`."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from fake_slurm import accounts, control, life, processes, query, submission
from fake_slurm.faults import Fault, take_fault
from fake_slurm.outcome import Outcome
from fake_slurm.store import Cluster, Store

_HANDLERS: Final = {
    "sbatch": submission.sbatch,
    "squeue": query.squeue,
    "sacct": query.sacct,
    "sacctmgr": accounts.sacctmgr,
    "sinfo": query.sinfo,
    "scancel": control.scancel,
    "scontrol": control.scontrol,
}
_NO_CONTROLLER: Final = "Unable to contact slurm controller (connect failure)"
_UNREACHABLE: Final = {
    "sbatch": f"sbatch: error: Batch job submission failed: {_NO_CONTROLLER}",
    "squeue": f"slurm_load_jobs error: {_NO_CONTROLLER}",
    "sinfo": f"slurm_load_partitions: {_NO_CONTROLLER}",
    "scontrol": f"slurm_load_jobs error: {_NO_CONTROLLER}",
    "scancel": f"scancel: error: Kill job error on job id 0: {_NO_CONTROLLER}",
    "sacct": "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to "
    "host:127.0.0.1:6819: Connection refused\nsacct: error: Sending PersistInit msg: Connection refused\n"
    "sacct: error: Problem talking to the database: Connection refused",
}


def main() -> int:
    """Runs one call; returns its exit status."""
    name, directory, arguments = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    store = Store(directory)
    if name == "srun":
        processes.srun(store, arguments)
    if name == "run-job":
        return processes.run_job(store, int(arguments[0]))
    with store.open():
        _note_call(directory, [name, *arguments])
        fault = take_fault(directory, name, arguments) or Fault(command=name, kind="none")
    outcome = _with_fault(store, name, arguments, fault)
    sys.stdout.write(outcome.output)
    sys.stderr.write(outcome.error)
    return outcome.status


def _with_fault(store: Store, name: str, arguments: list[str], fault: Fault) -> Outcome:
    if fault.kind == "delay":
        time.sleep(fault.seconds)
    elif fault.kind == "refuse":
        return Outcome(status=fault.status, error=f"{fault.says}\n")
    elif fault.kind == "unreachable":
        return Outcome(status=8 if name == "scancel" else 1, error=f"{_UNREACHABLE[name]}\n")
    elif fault.kind == "empty":
        return Outcome()
    elif fault.kind == "hang_before":
        _hang(store.directory)
    elif fault.kind == "orphan":
        _leave_orphan(store, arguments, fault)
        _hang(store.directory)
    outcome = _work(store, name, arguments)
    if fault.kind == "duplicate":
        outcome = _work(store, name, arguments)
    elif fault.kind == "hang_after":
        _hang(store.directory)
    elif fault.kind == "fail_after":
        return Outcome(status=fault.status, error=f"{fault.says}\n")
    return outcome


def _work(store: Store, name: str, arguments: list[str]) -> Outcome:
    with store.open() as cluster:
        _start_ready(store, cluster)
        outcome = _HANDLERS[name](store, cluster, arguments)
        _start_ready(store, cluster)
    return outcome


def _start_ready(store: Store, cluster: Cluster) -> None:
    processes.collect(store, cluster)
    for job in life.settle(cluster):
        if cluster.runs_jobs or cluster.starts_jobs:
            life.move(cluster, job, "RUNNING")
        if cluster.runs_jobs:
            processes.start(store, job)


def _leave_orphan(store: Store, arguments: list[str], fault: Fault) -> None:
    with store.open() as cluster:
        job, refused = submission.parse(store, cluster, arguments)
        if job is not None:
            submission.keep_later(cluster, job, ticks=fault.ticks, seconds=fault.seconds)
        elif refused is not None:
            sys.stderr.write(refused.error)


def _hang(directory: Path) -> None:
    """Waits for a signal, as a command does that got no answer. Its process id lies in `hanging/`, for `close`."""
    (directory / "hanging").mkdir(exist_ok=True)
    (directory / "hanging" / str(os.getpid())).touch()
    signal.pause()
    sys.exit(1)


def _note_call(directory: Path, call: list[str]) -> None:
    with (directory / "calls").open("a") as file:
        file.write("\x1f".join(word.replace("\n", " ") for word in call) + "\n")
