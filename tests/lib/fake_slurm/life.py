# SPDX-License-Identifier: Apache-2.0
"""How a job of the fake goes from state to state; no files, no processes."""

from dataclasses import asdict

from fake_slurm.store import (
    CANCELLED,
    COMPLETED,
    ENDED,
    FAILED,
    NODE_FAIL,
    PENDING,
    PREEMPTED,
    REQUEUED,
    RUNNING,
    TIMEOUT,
    Cluster,
    Job,
)

EXIT_CODES = {COMPLETED: "0:0", FAILED: "1:0", CANCELLED: "0:15", TIMEOUT: "0:0", NODE_FAIL: "0:0", PREEMPTED: "0:0"}


def reason(cluster: Cluster, job: Job) -> str:
    """Why a pending job doesn't start, "None" if it could."""
    if job.is_held:
        return "JobHeldUser"
    if job.begin > cluster.now:
        return "BeginTime"
    if job.is_singleton and any(
        other.id < job.id and other.name == job.name and not other.is_over for other in cluster.jobs
    ):
        return "Dependency"
    return "AssocGrpCPUMinutesLimit" if job.account in cluster.empty_accounts else "None"


def settle(cluster: Cluster) -> list[Job]:
    """Brings late submissions in and looks at every pending job again; returns those that can start now."""
    for entry in [late for late in cluster.late if late["tick"] <= cluster.ticks and late["time"] <= cluster.now]:
        cluster.late.remove(entry)
        submit(cluster, Job(**entry["job"]))
    ready = []
    for job in cluster.jobs:
        if job.state == PENDING:
            job.reason = reason(cluster, job)
            if job.reason == "BeginTime":
                job.eligible = job.begin
            elif job.reason in ("None", "AssocGrpCPUMinutesLimit"):
                job.eligible = job.eligible or cluster.now
                job.is_accounted = True
            if job.reason == "None":
                ready.append(job)
    return ready


def submit(cluster: Cluster, job: Job) -> Job:
    """Puts a new job into the queue under the next id."""
    job.id = cluster.next_id
    cluster.next_id += 1
    job.submitted = cluster.now
    cluster.jobs.append(job)
    return job


def move(cluster: Cluster, job: Job, state: str) -> None:
    """Brings a job into a state.

    Raises:
        ValueError: no job of a real Slurm goes from where it is to there.
    """
    if job.is_over and state != REQUEUED:
        raise ValueError(f"job {job.id}: expected one that is not over, found {job.state}")
    if state == REQUEUED:
        _requeue(cluster, job)
    elif state == RUNNING:
        job.eligible = job.eligible or cluster.now
        job.state, job.reason, job.started, job.is_held = RUNNING, "None", cluster.now, False
        job.is_accounted = True
    elif state in ENDED:
        job.state, job.ended, job.is_accounted = state, cluster.now, True
        job.exit_code = EXIT_CODES.get(state, "0:0") if job.started else "0:0"
    else:
        job.state = state


def _requeue(cluster: Cluster, job: Job) -> None:
    if job.state == PENDING:
        raise ValueError(f"job {job.id}: expected one that has started, found {PENDING}")
    ended = {**asdict(job), "state": job.state if job.is_over else REQUEUED, "ended": job.ended or cluster.now}
    job.earlier.append({**ended, "earlier": []})
    job.state, job.reason, job.is_accounted = PENDING, "BeginTime", False
    job.restarts += 1
    job.submitted, job.eligible, job.exit_code = cluster.now, 0.0, "0:0"
    job.started = job.ended = 0.0
    job.process, job.steps = 0, []
