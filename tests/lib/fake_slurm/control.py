# SPDX-License-Identifier: Apache-2.0
"""The fake scancel and scontrol: change jobs."""

from typing import Final

from fake_slurm import life, processes
from fake_slurm.outcome import BadOptionError, Outcome, options_of
from fake_slurm.store import CANCELLED, PENDING, REQUEUED, RUNNING, Cluster, Job, Store

_SCANCEL: Final = {
    "n": "name=",
    "s": "signal=",
    "u": "user=",
    "t": "state=",
    "b": "batch",
    "f": "full",
    "Q": "quiet",
} | {
    "me": "me",
    "A": "account=",
    "p": "partition=",
    "V": "version",
    "M": "clusters=",
    "jobname": "jobname=",
}
_INVALID: Final = "slurm_load_jobs error: Invalid job id specified\n"


def scancel(store: Store, cluster: Cluster, arguments: list[str]) -> Outcome:
    """Cancels jobs, or sends a signal. Says nothing of an unknown job, or of one that is over, as the real one."""
    try:
        options, numbers = options_of("scancel", arguments, "n:s:u:t:bfQA:p:VM:", _SCANCEL)
    except BadOptionError as error:
        return Outcome(status=1, error=str(error))
    if "version" in options:
        return Outcome(output=f"slurm-wlm {cluster.version}\n")
    name = options.get("name", options.get("jobname"))
    if not numbers and not options:
        return Outcome(status=1, error="scancel: error: No job identification provided\n")
    for job in cluster.jobs:
        if job.is_over or (numbers and str(job.id) not in numbers) or name not in (None, job.name):
            continue
        if "state" in options and job.state not in options["state"].upper().split(","):
            continue
        if "signal" in options and options["signal"].removeprefix("SIG") != "KILL":
            if job.state == RUNNING:
                processes.send(job, options["signal"], batch="batch" in options, full="full" in options)
        else:
            processes.end(store, job)
            life.move(cluster, job, CANCELLED)
    return Outcome()


def scontrol(store: Store, cluster: Cluster, arguments: list[str]) -> Outcome:
    """requeue, requeuehold, hold, release, show job, ping, --version."""
    words = [word for word in arguments if word not in ("-o", "--oneliner", "-d", "--details")]
    if words in (["--version"], ["-V"], ["version"]):
        return Outcome(output=f"slurm-wlm {cluster.version}\n")
    if words == ["ping"]:
        return Outcome(output="Slurmctld(primary) at fake is UP\n")
    if words[:2] == ["show", "job"]:
        return _show(cluster, words[2:])
    if len(words) == 2 and words[0] in ("requeue", "requeuehold", "hold", "release"):
        return _change(store, cluster, words[0], words[1])
    return Outcome(status=1, error=f"invalid keyword: {' '.join(words)}\n")


def _change(store: Store, cluster: Cluster, action: str, number: str) -> Outcome:
    job = cluster.job(int(number))
    if job is None or job.is_purged:
        return Outcome(status=1, error=f"Invalid job id specified for job {number}\n")
    if action in ("hold", "release"):
        job.is_held, job.begin = action == "hold", 0.0 if action == "release" else job.begin
        return Outcome()
    if job.state == PENDING or "no-requeue" in job.options:
        why = "Job is pending execution" if job.state == PENDING else "Requested operation is presently disabled"
        return Outcome(status=1, error=f"{why} for job {number}\n")
    processes.end(store, job)
    life.move(cluster, job, REQUEUED)
    job.is_held = action == "requeuehold"
    return Outcome()


def _show(cluster: Cluster, numbers: list[str]) -> Outcome:
    wanted = [job for job in cluster.jobs if not job.is_purged and (not numbers or str(job.id) in numbers)]
    if not wanted:
        return Outcome(status=1, error=_INVALID) if numbers else Outcome(output="No jobs in the system\n")
    return Outcome(output="".join(_description(job) for job in wanted))


def _description(job: Job) -> str:
    requeue = 0 if "no-requeue" in job.options else 1
    return (
        f"JobId={job.id} JobName={job.name}\n"
        f"   Account={job.account} QOS={job.qos}\n"
        f"   JobState={job.state} Reason={job.reason} Dependency=(null)\n"
        f"   Requeue={requeue} Restarts={job.restarts} BatchFlag=1 Reboot=0 ExitCode={job.exit_code}\n"
        f"   Partition={job.partition}\n"
        f"   WorkDir={job.work_dir}\n\n"
    )
