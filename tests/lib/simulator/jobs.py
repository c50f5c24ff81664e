# SPDX-License-Identifier: Apache-2.0
"""Jobs of the simulator: they speak the job protocol and train by a fixed formula, so that the result is known.

A job keeps nothing between two steps but its files: killed and started again, it leaves the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from federation.chunks import Float32Vector, fragment_digest
from federation.codecs.payload import encode_vector
from federation.codecs.registry import get_codec
from federation.durable.simulated import SimulatedFileSystem
from federation.leaves import LanguageScore, TaskScore
from federation.manifest import Manifest
from federation.merkle import blob_digest
from federation.pseudo_gradient import pseudo_gradient
from federation.published import apply_commit
from federation.task_scores import wilson
from site_agent import jobs
from site_agent.jobs import (
    ChainLink,
    Claim,
    EndCode,
    EvaluationFile,
    EvaluationOrder,
    JobEnded,
    JobPhase,
    JobReport,
    JobState,
    OutcomeFile,
    OutcomeKind,
    RoundOrder,
    StopOrder,
    TaskFile,
    UpdateFile,
    WorkOrder,
    read_record,
    write_record,
)
from site_agent.launcher.api import JobPresence, Launcher

ROOT = Path("/site")
STEPS_PER_WINDOW = 3
_digests: dict[bytes, str] = {}
_thetas: dict[str, Float32Vector] = {}
"""Committed thetas that a job has computed and compared, by digest: a chain is not computed twice."""


def digest_of(vector: Float32Vector) -> str:
    """`fragment_digest`, remembered: a digest hashes a whole padded chunk."""
    key = vector.tobytes()
    if key not in _digests:
        _digests[key] = fragment_digest(vector)
    return _digests[key]


def trained(site: str, round_number: int, theta: Float32Vector) -> Float32Vector:
    """What a site's parameters are after its window: a formula in place of an inner optimizer, f32 like theta."""
    pattern = (np.arange(theta.size) * (3 + len(site)) + ord(site[-1]) + 5 * round_number) % 17 - 8
    return theta - (pattern.astype(np.float32) / np.float32(64.0) + theta / np.float32(8.0))


def task_score(site: str) -> TaskScore:
    """What a site finds on 100 items: site-b is far from the others."""
    num_right = 90 if site == "site-b" else 40
    low, high = wilson(num_right, 100)
    return TaskScore(
        task="quiz",
        language="de",
        task_version="1",
        metric="acc",
        num_items=100,
        score=num_right / 100,
        low=low,
        high=high,
    )


class WrongSnapshotError(Exception):
    """A snapshot is not the version that the outcome names."""


@dataclass
class FakeJob:
    """One execution of one allocation. `loaded`: versions that it began from, as snapshots."""

    fs: SimulatedFileSystem
    directory: str
    execution: str
    manifest: Manifest
    theta0: tuple[Float32Vector, ...]
    alive: bool = True
    done: dict[int, int] = field(default_factory=dict)
    order: WorkOrder | None = None
    loaded: list[int] = field(default_factory=list)

    def step(self, now: float) -> None:
        """A little of what is due."""
        paths = jobs.AllocationPaths(self.directory)
        if self.order is None:
            self._claim(paths)
            return
        stop = read_record(self.fs, paths.stop, StopOrder)
        try:
            self._evaluate(paths)
            self._score_tasks(paths)
            if stop is not None:
                self._end(paths, EndCode.STOPPED)
                return
            phase, number = self._train(paths)
        except WrongSnapshotError:
            self._end(paths, EndCode.SNAPSHOT_REFUSED)
            return
        self._report(paths, now, phase, number)

    def _claim(self, paths: jobs.AllocationPaths) -> None:
        order = read_record(self.fs, paths.order, WorkOrder)
        if order is None:
            return
        if not self.fs.mkdir(paths.claim):
            self.alive = False  # another execution has it
            return
        write_record(self.fs, paths.owner, Claim(execution=self.execution, fencing=order.fencing))
        self.order = order

    def _train(self, paths: jobs.AllocationPaths) -> tuple[JobPhase, int]:
        for number in jobs.numbered(self.fs, paths.rounds):
            if self.fs.exists(paths.update(number)):
                continue
            order = read_record(self.fs, paths.round_order(number), RoundOrder)
            assert order is not None
            theta = self.theta(order.fragment, order.base_version)
            if theta is None:
                return JobPhase.WAITING, number
            assert digest_of(theta) == order.base_digest, "base differs from the order's"
            self.done[number] = self.done.get(number, 0) + 1
            if self.done[number] >= STEPS_PER_WINDOW:
                self._publish(paths, order, theta)
            return JobPhase.TRAINING, number
        return JobPhase.IDLE, max(jobs.numbered(self.fs, paths.rounds), default=-1)

    def _publish(self, paths: jobs.AllocationPaths, order: RoundOrder, theta: Float32Vector) -> None:
        assert self.order is not None
        delta = pseudo_gradient(theta, trained(self.order.site, order.round, theta))
        payload = encode_vector(get_codec(self.manifest.codecs.up), delta)
        self.fs.write(paths.payload(order.round), payload)
        tokens = self.manifest.trainer.batch_size * self.manifest.trainer.sequence_length * order.num_steps
        update = UpdateFile(
            round=order.round,
            fragment=order.fragment,
            base_digest=order.base_digest,
            codec=self.manifest.codecs.up,
            payload_digest=blob_digest(payload),
            payload_bytes=len(payload),
            weight_tokens=tokens,
            new_tokens=tokens,
            num_steps=order.num_steps,
            fencing=self.order.fencing,
        )
        write_record(self.fs, paths.update(order.round), update)

    def theta(self, fragment: int, version: int) -> Float32Vector | None:
        """A version, from the outcomes that the agent has written; None if they do not lead there yet."""
        if version == 0:
            return self.theta0[fragment]
        paths = jobs.RunPaths(f"spool/runs/{self.manifest.run}")
        found = [read_record(self.fs, paths.outcome(n), OutcomeFile) for n in jobs.numbered(self.fs, paths.outcomes)]
        chain = [
            ChainLink(
                version=o.version, blob_path=o.blob_path, theta_digest=o.theta_digest, snapshot_path=o.snapshot_path
            )
            for o in found
            if o and o.kind is OutcomeKind.COMMITTED and o.fragment == fragment and o.version <= version
        ]
        if not chain or chain[-1].version != version:
            return None
        return self._built(fragment, chain)

    def _built(self, fragment: int, chain: Sequence[ChainLink]) -> Float32Vector:
        """The end of a chain: from its newest snapshot on, or from theta_0."""
        theta, links = self.theta0[fragment], list(chain)
        begin = next((i for i in reversed(range(len(links))) if links[i].snapshot_path), -1)
        if begin >= 0:
            theta, links = self._snapshot(links[begin]), links[begin + 1 :]
        for link in links:
            assert link.blob_path, f"version {link.version} was told without its blob and without a later snapshot"
            if link.theta_digest not in _thetas:
                blob = self._read(link.blob_path)
                _thetas[link.theta_digest] = apply_commit(self.manifest, fragment, theta, blob, link.theta_digest)
            theta = _thetas[link.theta_digest]
        return theta

    def _snapshot(self, link: ChainLink) -> Float32Vector:
        theta = np.frombuffer(self._read(link.snapshot_path), "<f4").astype(np.float32)
        if digest_of(theta) != link.theta_digest:
            raise WrongSnapshotError(link.snapshot_path)
        self.loaded.append(link.version)
        return theta

    def _read(self, path: str) -> bytes:
        return self.fs.read(str(Path(path).relative_to(ROOT)))

    def _score_tasks(self, paths: jobs.AllocationPaths) -> None:
        for number in jobs.numbered(self.fs, paths.tasks):
            order = read_record(self.fs, paths.task_order(number), EvaluationOrder)
            if order is None or self.fs.exists(paths.task_result(number)):
                continue
            assert self.order is not None
            result = TaskFile(
                id=order.id,
                request=order.request,
                num_commits=order.num_commits,
                versions=order.versions,
                scores=(task_score(self.order.site),),
            )
            write_record(self.fs, paths.task_result(number), result)

    def _evaluate(self, paths: jobs.AllocationPaths) -> None:
        for number in jobs.numbered(self.fs, paths.evaluations):
            order = read_record(self.fs, paths.evaluation(number), EvaluationOrder)
            if order is None or self.fs.exists(paths.evaluation_result(number)):
                continue
            for fragment, (chain, version) in enumerate(zip(order.chains, order.versions, strict=True)):
                assert (chain[-1].version if chain else 0) == version, "a chain that does not lead to its version"
                self._built(fragment, chain)
            score = LanguageScore(language="de", bits_per_byte=3.0, num_bytes=100)
            result = EvaluationFile(
                id=order.id,
                request=order.request,
                num_commits=order.num_commits,
                versions=order.versions,
                scores=(score,),
            )
            write_record(self.fs, paths.evaluation_result(number), result)

    def _report(self, paths: jobs.AllocationPaths, now: float, phase: JobPhase, number: int) -> None:
        assert self.order is not None
        report = JobReport(
            fencing=self.order.fencing,
            state=JobState.READY,
            round=number,
            phase=phase,
            step=self.done.get(number, 0),
            loss=3.0,
            updated_at=now,
        )
        write_record(self.fs, paths.report, report)

    def _end(self, paths: jobs.AllocationPaths, code: EndCode) -> None:
        assert self.order is not None
        write_record(self.fs, paths.ended, JobEnded(code=code, reason="", sentence="", fencing=self.order.fencing))
        self.alive = False


class FakeLauncher(Launcher):
    """Starts `FakeJob`s; knows for certain what runs."""

    def __init__(self, manifest: Manifest, theta0: tuple[Float32Vector, ...]) -> None:
        self.manifest, self.theta0 = manifest, theta0
        self.jobs: dict[str, FakeJob] = {}
        self.fs: SimulatedFileSystem | None = None
        self.num_started = 0

    def submit(self, allocation_dir: Path, name: str, fencing: int, begin_after_seconds: int = 0) -> str:
        assert self.fs is not None
        self.num_started += 1
        handle = f"job-{self.num_started}"
        directory = str(allocation_dir.relative_to(ROOT))
        self.jobs[handle] = FakeJob(self.fs, directory, handle, self.manifest, self.theta0)
        return handle

    def query(self, handle: str) -> JobPresence:
        job = self.jobs.get(handle)
        return JobPresence.RUNNING if job is not None and job.alive else JobPresence.ENDED

    def cancel(self, handle: str, *, force: bool = False) -> None:
        if handle in self.jobs:
            self.jobs[handle].alive = False

    def find(self, allocation_dir: Path, name: str) -> str | None:
        directory = str(allocation_dir.relative_to(ROOT))
        return next((h for h, j in self.jobs.items() if j.alive and j.directory == directory), None)

    def living(self) -> list[FakeJob]:
        """Jobs that run now."""
        return [job for job in self.jobs.values() if job.alive]
