# SPDX-License-Identifier: Apache-2.0
"""What the fake cluster knows: jobs, clock and settings in one JSON file under a lock."""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

LIB: Final = Path(__file__).resolve().parents[1]
START: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); from fake_slurm.command import main; sys.exit(main())"
"""A Python program that runs one command; its first argument is `LIB`."""

PENDING: Final = "PENDING"
RUNNING: Final = "RUNNING"
COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"
CANCELLED: Final = "CANCELLED"
TIMEOUT: Final = "TIMEOUT"
NODE_FAIL: Final = "NODE_FAIL"
PREEMPTED: Final = "PREEMPTED"
REQUEUED: Final = "REQUEUED"
ENDED: Final = frozenset({COMPLETED, FAILED, CANCELLED, TIMEOUT, NODE_FAIL, PREEMPTED, "OUT_OF_MEMORY", "BOOT_FAIL"})
SHORT: Final = {PENDING: "PD", RUNNING: "R", COMPLETED: "CD", FAILED: "F", CANCELLED: "CA", TIMEOUT: "TO"} | {
    NODE_FAIL: "NF",
    PREEMPTED: "PR",
    "COMPLETING": "CG",
    "OUT_OF_MEMORY": "OOM",
}


@dataclass(kw_only=True)
class Job:
    """One job. Times are seconds since 1970; 0 means not yet.

    Attributes:
        reason: why it waits, in Slurm's word.
        restarts: how often it was requeued.
        eligible: since when it might have started: 0 while it is held or depends on another. sacct finds a job that was
            not eligible by its id only.
        is_accounted: sacct knows it.
        earlier: the executions before a requeue, as `sacct -D` shows them.
        process: process id of what runs it, 0 where jobs are states only.
    """

    id: int
    name: str
    state: str = PENDING
    reason: str = "None"
    account: str = "fed"
    partition: str = "batch"
    qos: str = "normal"
    comment: str = ""
    work_dir: str = "/"
    output: str = ""
    command: str = ""
    arguments: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    num_nodes: int = 1
    num_gpus: int = 0
    limit_seconds: int = 600
    begin: float = 0.0
    is_held: bool = False
    is_singleton: bool = False
    submitted: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    restarts: int = 0
    exit_code: str = "0:0"
    eligible: float = 0.0
    is_accounted: bool = True
    is_purged: bool = False
    earlier: list[dict[str, Any]] = field(default_factory=list)
    process: int = 0
    steps: list[int] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.state in ENDED


@dataclass(kw_only=True)
class Cluster:
    """Everything that the commands share.

    Attributes:
        clock: seconds since 1970 that stand still, 0 for the machine's clock.
        ticks: how often a test called `tick`; late submissions wait for it.
        runs_jobs: jobs are started as processes; otherwise a test moves them.
        starts_jobs: an eligible job runs at the next command, without a test's doing.
        accounting_lag_seconds: for so long after a job became eligible sacct knows it by its id only, under the name
            "allocation"; five seconds on a real Slurm.
        late: submissions of an sbatch that nobody waits for any more.
        partitions: longest wall time in seconds of each.
    """

    next_id: int = 1
    clock: float = 0.0
    ticks: int = 0
    version: str = "22.05.8"
    cluster: str = "fake"
    runs_jobs: bool = False
    starts_jobs: bool = False
    kill_wait_seconds: float = 2.0
    accounting_lag_seconds: float = 0.0
    jobs: list[Job] = field(default_factory=list)
    late: list[dict[str, Any]] = field(default_factory=list)
    partitions: dict[str, int] = field(default_factory=lambda: {"batch": 3600, "short": 120})
    accounts: list[str] = field(default_factory=lambda: ["fed", "empty"])
    empty_accounts: list[str] = field(default_factory=lambda: ["empty"])
    qos: list[str] = field(default_factory=lambda: ["normal", "urgent"])

    @property
    def now(self) -> float:
        return self.clock or time.time()

    def job(self, number: int) -> Job | None:
        """The job of an id; None when Slurm has forgotten it, or never knew it."""
        return next((job for job in self.jobs if job.id == number), None)


class Store:
    """The state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def open(self) -> Iterator[Cluster]:
        """The cluster under a lock; what was changed is kept when the block ends without an exception."""
        with (self.directory / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            cluster = self.load()
            yield cluster
            self._save(cluster)

    def load(self) -> Cluster:
        """The cluster as it is now; for reading only."""
        try:
            content = json.loads((self.directory / "cluster.json").read_text())
        except FileNotFoundError:
            return Cluster()
        return Cluster(**{**content, "jobs": [Job(**job) for job in content["jobs"]]})

    def _save(self, cluster: Cluster) -> None:
        temporary = self.directory / "cluster.json.new"
        temporary.write_text(json.dumps(asdict(cluster)))
        temporary.replace(self.directory / "cluster.json")
