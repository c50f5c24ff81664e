# SPDX-License-Identifier: Apache-2.0
"""Jobs without processes, for an agent on a simulated disk. Each execution 'encodes' other bytes, on purpose."""

from pathlib import Path

from federation.durable.simulated import SimulatedFileSystem
from federation.leaves import LanguageScore
from federation.merkle import blob_digest
from site_agent.jobs import (
    AllocationPaths,
    Claim,
    EndCode,
    EvaluationFile,
    EvaluationOrder,
    JobEnded,
    JobReport,
    JobState,
    RoundOrder,
    StopOrder,
    UpdateFile,
    WorkOrder,
    numbered,
    read_record,
    write_record,
)
from site_agent.launcher.api import JobPresence, Launcher

ROOT = Path("/site")


class VirtualJob:
    """One execution. It obeys invariant I5: without the claim it does nothing."""

    def __init__(self, directory: str, execution: str) -> None:
        self.paths, self.directory, self.execution = AllocationPaths(directory), directory, execution
        self.alive, self.published = True, set[int]()

    def step(self, fs: SimulatedFileSystem) -> None:
        """Does everything that its files ask for."""
        order = read_record(fs, self.paths.order, WorkOrder)
        owner = read_record(fs, self.paths.owner, Claim)
        if order is None or (owner is not None and owner.execution != self.execution):
            self.alive = False
            return
        if owner is None:
            fs.mkdir(self.paths.claim)
            write_record(fs, self.paths.owner, Claim(execution=self.execution, fencing=order.fencing))
        write_record(fs, self.paths.report, JobReport(fencing=order.fencing, state=JobState.READY))
        for number in set(numbered(fs, self.paths.rounds)) - set(numbered(fs, self.paths.updates)):
            self._publish(fs, order, number)
        self._evaluate(fs)
        if read_record(fs, self.paths.stop, StopOrder) is not None:
            ended = JobEnded(code=EndCode.STOPPED, reason="stop", sentence="told to", fencing=order.fencing)
            write_record(fs, self.paths.ended, ended)
            self.alive = False

    def _publish(self, fs: SimulatedFileSystem, order: WorkOrder, number: int) -> None:
        wanted = read_record(fs, self.paths.round_order(number), RoundOrder)
        assert wanted is not None
        data = f"round {number} by {self.execution} of {self.directory}".encode()
        fs.write(self.paths.payload(number), data)
        update = UpdateFile(
            round=number,
            fragment=wanted.fragment,
            base_digest=wanted.base_digest,
            codec="fp32",
            payload_digest=blob_digest(data),
            payload_bytes=len(data),
            weight_tokens=1,
            new_tokens=1,
            num_steps=wanted.num_steps,
            fencing=order.fencing,
        )
        write_record(fs, self.paths.update(number), update)
        self.published.add(number)

    def _evaluate(self, fs: SimulatedFileSystem) -> None:
        for number in set(numbered(fs, self.paths.evaluations)):
            wanted = read_record(fs, self.paths.evaluation(number), EvaluationOrder)
            if wanted is None or fs.exists(self.paths.evaluation_result(number)):
                continue
            scores = (LanguageScore(language="de", bits_per_byte=2.0, num_bytes=1),)
            result = EvaluationFile(
                id=number,
                request=wanted.request,
                num_commits=wanted.num_commits,
                versions=wanted.versions,
                scores=scores,
            )
            write_record(fs, self.paths.evaluation_result(number), result)


class VirtualLauncher(Launcher):
    """Knows for certain what runs."""

    def __init__(self) -> None:
        self.jobs: dict[str, VirtualJob] = {}

    def submit(self, allocation_dir: Path, name: str, fencing: int, begin_after_seconds: int = 0) -> str:
        handle = f"job-{len(self.jobs) + 1}"
        self.jobs[handle] = VirtualJob(str(allocation_dir.relative_to(ROOT)), handle)
        return handle

    def query(self, handle: str) -> JobPresence:
        job = self.jobs.get(handle)
        return JobPresence.RUNNING if job is not None and job.alive else JobPresence.ENDED

    def cancel(self, handle: str, *, force: bool = False) -> None:
        if handle in self.jobs:
            self.jobs[handle].alive = False

    def find(self, allocation_dir: Path, name: str) -> str | None:
        directory = str(allocation_dir.relative_to(ROOT))
        return next((h for h, job in self.jobs.items() if job.alive and job.directory == directory), None)
