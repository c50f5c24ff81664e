# SPDX-License-Identifier: Apache-2.0
"""A federation in one process and one thread: real inner loops, codecs, commits; files in memory; no sockets, no waits.

Its results have the oracle's shape, so that the two can be compared bit by bit.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from job_bench.late_writer import LateWriter

from federation import chunks
from federation import reference as ref
from federation.aggregate import CommitResult, commit_round, initial_state
from federation.blobs.store import BlobStore
from federation.chunks import fragment_digest
from federation.durable.simulated import SimulatedFileSystem
from federation.fragments import build_fragments
from federation.leaves import SealedUpdate
from federation.manifest import Manifest
from federation.schedule import lr_position
from federation.state.memory_store import MemoryStateStore
from federation.testing.comparison import differences, different_bits
from federation.testing.manifests import inner_settings, manifest_of, plan_of
from federation.weights import round_weights
from site_agent.inner_loop import Shard, StepResult, TrainerState
from site_agent.inner_loop.claim import claim_allocation
from site_agent.inner_loop.evaluations import EvaluationQueue
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.global_model import GlobalModel
from site_agent.inner_loop.loop import InnerLoop
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.patience import Patience
from site_agent.inner_loop.progress import site_schedule
from site_agent.inner_loop.reporter import Reporter
from site_agent.inner_loop.seam import shards_of
from site_agent.inner_loop.spool import JobSpool
from site_agent.inner_loop.torch_state import load_optimizer_state, optimizer_state
from site_agent.jobs import (
    AllocationPaths,
    Claim,
    OutcomeFile,
    OutcomeKind,
    RoundOrder,
    RunPaths,
    StopOrder,
    UpdateFile,
    WorkOrder,
    read_record,
    write_record,
)
from site_agent.trainer.checkpoint import TrainingCheckpoints
from site_agent.trainer.metrics import MetricsLog

CLAIM = Claim(execution="one-process", fencing=1)
SHORT_CHUNK = 4096
ALLOCATION, RUN = AllocationPaths(), RunPaths()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums of matrix products must not depend on how many tests run beside this one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def short_chunks() -> Iterator[None]:
    """Chunks of 4,096 elements, a block of `sparse`, instead of 2^20: several per fragment, and quick to hash."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith(("federation.", "site_agent.")) and hasattr(module, "CHUNK_ELEMENTS"):
                patch.setattr(module, "CHUNK_ELEMENTS", SHORT_CHUNK)
        patch.setattr(chunks, "CHUNK_BYTES", 4 * SHORT_CHUNK)
        patch.setattr(chunks, "_ZEROS", bytes(4 * SHORT_CHUNK))
        chunks._zero_leaf_hash.cache_clear()
        yield
    chunks._zero_leaf_hash.cache_clear()


class TinyModel(torch.nn.Module):
    """A residual network: 10,032 parameters at width 48, most of them in strided layers."""

    def __init__(self, width: int, num_layers: int, num_inputs: int = 12) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(num_inputs, width, bias=False)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width, bias=False) for _ in range(num_layers))
        self.norm = torch.nn.Parameter(torch.ones(width))
        self.head = torch.nn.Linear(width, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        for layer in self.layers:
            h = h + torch.tanh(layer(h))
        return self.head(h * self.norm)


class TinyTrainer:
    """AdamW on batches that depend on site and step alone, as do their token counts. Fits the inner loop's seam."""

    def __init__(self, seed: int, *, width: int = 48, num_layers: int = 4, num_inputs: int = 12) -> None:
        self.model = TinyModel(width, num_layers, num_inputs)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), betas=(0.9, 0.95), weight_decay=0.0, foreach=False, fused=False
        )
        self.seed, self.steps, self.num_inputs = seed, 0, num_inputs

    def step(self, lr: float) -> StepResult:
        generator = np.random.default_rng((self.seed, self.steps))
        size = 2 + (self.seed + self.steps) % 3
        x = torch.from_numpy(generator.standard_normal((size, self.num_inputs), np.float32))
        y = torch.from_numpy(generator.integers(0, 4, size))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        return StepResult(loss.item(), size * (5 + self.seed))

    def parameters(self) -> dict[str, ref.Vector]:
        return {name: p.detach().numpy() for name, p in self.model.named_parameters()}

    def local_shards(self) -> Iterable[Shard]:
        return shards_of(self.model)

    def state_dict(self) -> TrainerState:
        state = optimizer_state(self.optimizer)
        return TrainerState(tensors=state.tensors, values={**state.values, "steps": self.steps})

    def load_state_dict(self, state: TrainerState) -> None:
        values = dict(state.values)
        self.steps = values.pop("steps")
        load_optimizer_state(self.optimizer, TrainerState(tensors=state.tensors, values=values))


class OracleSite:
    """The same trainer as the oracle wants it."""

    def __init__(self, trainer: Any) -> None:
        self.parameters = trainer.parameters
        self._trainer = trainer

    def step(self, lr: float) -> int:
        return int(self._trainer.step(lr).tokens)


class Parked(BaseException):
    """A job has nothing to do until somebody else does something."""


class StandingClock:
    """Time that never passes: whoever would sleep is parked instead, once everything is written."""

    def __init__(self, writer: LateWriter) -> None:
        self._writer = writer

    def now(self) -> float:
        return 1.0

    def sleep(self, seconds: float) -> None:
        self._writer.flush()
        raise Parked


@dataclass
class Job:
    """One site's job over file systems in memory; `restart` rebuilds it from what is on them."""

    manifest: Manifest
    site: str
    theta0: Sequence[ref.Vector]
    make_trainer: Callable[[], Any]
    delay: int = 0
    check_every: int = 1
    allocation: SimulatedFileSystem = field(default_factory=SimulatedFileSystem)
    run: SimulatedFileSystem = field(default_factory=SimulatedFileSystem)

    def __post_init__(self) -> None:
        claim_allocation(self.allocation, ALLOCATION, CLAIM)
        self.restart()

    def restart(self) -> None:
        self.trainer = self.make_trainer()
        writer = LateWriter(self.delay)
        spool, patience = JobSpool(self.allocation, self.run, CLAIM), Patience(self._order(), StandingClock(writer))
        theta0 = lambda: [theta.copy() for theta in self.theta0]  # noqa: E731
        model = GlobalModel(self.manifest, theta0, num_threads=2, check_every=self.check_every)
        local = LocalParameters(self.trainer.local_shards, self.manifest.fragments)
        self.exchange = Exchange(self.manifest, model, local)
        self.loop = InnerLoop(
            manifest=self.manifest,
            site=self.site,
            trainer=self.trainer,
            exchange=self.exchange,
            evaluations=EvaluationQueue(spool, None, lambda: model),
            spool=spool,
            checkpoints=TrainingCheckpoints(self.run, RUN.training),
            reporter=Reporter(spool, MetricsLog(self.run, RUN.metrics), patience),
            patience=patience,
            writer=writer,
        )
        self.loop.begin()

    def _order(self) -> WorkOrder:
        nowhere = dict.fromkeys(("manifest_path", "theta0_path", "run_dir", "data_dir"), "/nonexistent")
        return WorkOrder(
            run=self.manifest.run, site=self.site, allocation="a1", fencing=1, languages=("en",), seed=1, **nowhere
        )

    def advance(self) -> None:
        """Trains until it waits or ends."""
        with suppress(Parked):
            while (rate := self.loop.prepare()) is not None:
                self.loop.complete(*self.trainer.step(rate))

    def update(self, number: int) -> tuple[UpdateFile, bytes]:
        update = read_record(self.allocation, ALLOCATION.update(number), UpdateFile)
        assert update is not None, f"round {number}: no update of {self.site}"
        return update, self.allocation.read(ALLOCATION.payload(number))


@dataclass
class OneProcess:
    """Coordinator and agents without their deciders: opens rounds, seals what was sent, commits, tells the jobs.

    Attributes:
        late: rounds are opened as early, and ended as late, as the protocol lets them; else one after another.
        restart: every job is killed and resumed each time it waits.
        delay: how long jobs go on before they write what they have to (`LateWriter`).
        check_every: of so many commits of a fragment, jobs compare one with its digest.
        commits: of each round, None where it was abandoned.
    """

    manifest: Manifest
    theta0: Sequence[ref.Vector]
    trainers: Mapping[str, Callable[[], Any]]
    directory: Path
    plans: Mapping[int, ref.RoundPlan] = field(default_factory=dict)
    late: bool = False
    restart: bool = False
    delay: int = 0
    check_every: int = 1
    results: list[ref.RoundResult] = field(default_factory=list)
    commits: list[CommitResult | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blobs, self.store = BlobStore(SimulatedFileSystem()), MemoryStateStore()
        initial_state(self.store, self.manifest.run, self.manifest, self.theta0)
        self.versions = [0] * self.manifest.plan.num_fragments
        self.digests = list(self.manifest.plan.theta_digests)
        self.void = 0
        self.num_opened = 0
        self.jobs = {
            site: Job(
                self.manifest, site, self.theta0, self.trainers[site], delay=self.delay, check_every=self.check_every
            )
            for site in (member.site for member in self.manifest.plan.members)
        }

    def run(self) -> list[ref.RoundResult]:
        """All rounds, then the end of all jobs."""
        plan = self.manifest.plan
        while len(self.results) < plan.num_rounds:
            ahead = plan.num_fragments if self.late else 1
            while self.num_opened < min(len(self.results) + ahead, plan.num_rounds):
                self._open(self.num_opened)
                self.num_opened += 1
            self._advance()
            self._end(len(self.results))
        for job in self.jobs.values():
            write_record(job.allocation, ALLOCATION.stop, StopOrder(reason="completed"))
        self._advance()
        return self.results

    def local(self, site: str) -> dict[str, ref.Vector]:
        return self.jobs[site].trainer.parameters()

    def _advance(self) -> None:
        for job in self.jobs.values():
            if self.restart:
                job.restart()
            job.advance()

    def _plan(self, number: int) -> ref.RoundPlan:
        return self.plans.get(number, ref.RoundPlan())

    def _open(self, number: int) -> None:
        plan = self.manifest.plan
        p, last = number % plan.num_fragments, max(0, number - plan.num_fragments + 1)
        num_void = sum(commit is None for commit in self.commits[:last])
        for site, job in self.jobs.items():
            if site in self._plan(number).absent:
                continue
            order = RoundOrder(
                round=number,
                fragment=p,
                base_version=self.versions[p],
                base_digest=self.digests[p],
                lr_position=lr_position(number, num_void, plan.num_inner_steps // plan.num_fragments),
                num_steps=site_schedule(self.manifest, site).steps_of_window(number),
            )
            write_record(job.allocation, ALLOCATION.round_order(number), order)

    def _end(self, number: int) -> None:
        todo, p = self._plan(number), number % self.manifest.plan.num_fragments
        sent = {site: job.update(number) for site, job in self.jobs.items() if site not in todo.absent}
        assert all((u.base_digest, u.fragment) == (self.digests[p], p) for u, _ in sent.values())
        sealed = [] if todo.abandoned else self._seal({s: u for s, u in sent.items() if s not in todo.not_sealed})
        commit = self._commit(number, p, sealed) if sealed else None
        self.commits.append(commit)
        self._tell(number, p, commit, {update.site: update.payload_digest for update in sealed})
        state = self.store.open(self.manifest.run, p, self.versions[p])
        assert state is not None
        parts = [state.read_chunk(i) for i in range(state.grid.num_chunks)]
        theta, momentum, residual = (np.concatenate(column) for column in zip(*parts, strict=True))
        result = ref.RoundResult(
            fragment=p,
            theta=theta,
            momentum=momentum,
            residual=residual,
            payloads={site: payload for site, (_, payload) in sent.items()},
            weight_tokens={site: update.weight_tokens for site, (update, _) in sent.items()},
            weights={update.site: update.weight for update in sealed},
            blob=self.blobs.read(commit.blob_digest) if commit else b"",
        )
        self.results.append(result)

    def _seal(self, sent: Mapping[str, tuple[UpdateFile, bytes]]) -> list[SealedUpdate]:
        sites = sorted(sent)
        tokens = [(site, sent[site][0].weight_tokens) for site in sites]
        for update, payload in sent.values():
            assert self.blobs.put(payload) == update.payload_digest
        return [
            SealedUpdate(site=site, weight=weight, update_digest="", payload_digest=sent[site][0].payload_digest)
            for site, weight in zip(sites, round_weights(tokens, self.manifest.plan.weighting), strict=True)
        ]

    def _commit(self, number: int, p: int, sealed: Sequence[SealedUpdate]) -> CommitResult:
        base, run = self.versions[p], self.manifest.run
        commit = commit_round(self.blobs, self.store, run, self.manifest, number, p, base, sealed)
        self.versions[p], self.digests[p] = number + 1, commit.theta_digest
        return commit

    def _tell(self, number: int, p: int, commit: CommitResult | None, listed: Mapping[str, str]) -> None:
        blob_path = self.directory / f"{number}.blob"
        if commit:
            blob_path.write_bytes(self.blobs.read(commit.blob_digest))
        for site, job in self.jobs.items():
            outcome = OutcomeFile(round=number, kind=OutcomeKind.ABANDONED, fragment=p)
            if commit:
                outcome = OutcomeFile(
                    round=number,
                    kind=OutcomeKind.COMMITTED,
                    fragment=p,
                    version=number + 1,
                    theta_digest=commit.theta_digest,
                    blob_path=str(blob_path),
                    listed_payload_digest=listed.get(site, ""),
                )
            write_record(job.run, RUN.outcome(number), outcome)


@dataclass(frozen=True)
class Lab:
    """What the tests of this directory use, since test files cannot import one another."""

    directory: Path
    trainer: type[TinyTrainer] = TinyTrainer

    def setting(
        self, plan: Mapping[str, Any], trainer: Callable[[int], Any] = TinyTrainer, **settings: Any
    ) -> tuple[Manifest, list[ref.Vector], dict[str, Callable[[], Any]]]:
        """Manifest, θ0 and one trainer per site; `plan` and `settings` as of `federation.testing.manifests`."""
        shapes = [(name, value.shape) for name, value in trainer(0).parameters().items()]
        tables = build_fragments(shapes, plan.get("num_fragments", 1))
        generator = np.random.default_rng(7)
        theta0 = [np.float32(0.2) * generator.standard_normal(t.num_elements, np.float32) for t in tables]
        agreed = plan_of(**plan, theta_digests=[fragment_digest(theta) for theta in theta0])
        inner = inner_settings(lr=0.02, warmup_steps=3, total_steps=20, joiner_warmup_steps=3)
        manifest = manifest_of(agreed, tables, **{"inner": inner, **settings})
        return manifest, theta0, {site: partial(trainer, seed) for seed, site in enumerate(sorted(plan["steps"]))}

    def federate(self, manifest: Manifest, theta0: Sequence[ref.Vector], trainers: Any, **how: Any) -> OneProcess:
        """A federation that has run to its end."""
        federation = OneProcess(manifest, theta0, trainers, self.directory, **how)
        federation.run()
        return federation

    def compare(self, manifest: Manifest, theta0: Sequence[ref.Vector], trainers: Any, **how: Any) -> list[str]:
        """Runs federation and oracle; returns where they differ, local parameters at the end included."""
        federation = self.federate(manifest, theta0, trainers, **how)
        sites = {site: make() for site, make in trainers.items()}
        oracle = {site: OracleSite(trainer) for site, trainer in sites.items()}
        expected = ref.run_reference(manifest, theta0, oracle, how.get("plans"))
        problems = differences(federation.results, expected)
        for site, trainer in sites.items():
            local = federation.local(site)
            for name, value in trainer.parameters().items():
                problems += different_bits(f"{site} at the end: {name}", local[name], value)
        return problems


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
