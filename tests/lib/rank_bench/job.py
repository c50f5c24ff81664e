# SPDX-License-Identifier: Apache-2.0
"""A run of one site with made-up commits, for jobs of the reference trainer on any number of ranks."""

from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from ports import free_port

from federation.chunks import fragment_digest
from federation.codecs.payload import decode_vector, encode_vector
from federation.codecs.registry import get_codec
from federation.corpus import write_corpus
from federation.durable.real import RealFileSystem
from federation.manifest import ModelSettings
from federation.testing.manifests import inner_settings, manifest_of, plan_of
from federation.wire import manifest_to_bytes
from rank_bench.start import start_program, start_ranks, wait_all
from site_agent.inner_loop.global_model import read_theta0
from site_agent.jobs import (
    AllocationPaths,
    JobEnded,
    OutcomeFile,
    OutcomeKind,
    RoundOrder,
    RunPaths,
    UpdateFile,
    WorkOrder,
    numbered,
    read_record,
    write_record,
)
from site_agent.trainer.init import THETA_FILE, InitSettings, initialise

NUM_ROUNDS = 5
SEED = 3
MODEL = ModelSettings(
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    max_positions=16,
    vocab_size=264,
    tie_embeddings=True,
)
A, R = AllocationPaths(), RunPaths()
JOB = "site_agent.trainer.job"


class Site:
    """One site's directories below a root: the run, its allocations, and everything that the agent would write."""

    def __init__(self, root: Path) -> None:
        self.root, self.run = root, RealFileSystem(root / "run")
        write_corpus(root / "data", ("de", "fr"), 20_000)
        data, model = initialise(InitSettings(model=MODEL, num_fragments=2, seed=SEED))
        (root / THETA_FILE).write_bytes(data)
        plan = plan_of({"a": 6}, num_fragments=2, tau=2, num_rounds=NUM_ROUNDS, theta_digests=model.theta_digests)
        inner = replace(inner_settings(lr=3e-3, total_steps=18, warmup_steps=2), grad_clip=1.0, weight_decay=0.1)
        made = manifest_of(plan, model.fragments, alpha=0.5, up="int4", down="int8", feedback_beta=0.95, inner=inner)
        trainer = replace(made.trainer, batch_size=6, sequence_length=16, seed=SEED, evaluation_bytes=300)
        self.manifest = replace(made, model=MODEL, trainer=trainer, aliases=model.aliases)
        (root / "manifest.bin").write_bytes(manifest_to_bytes(self.manifest))
        self._write_outcomes()

    def _write_outcomes(self) -> None:
        theta = read_theta0(self.root / THETA_FILE, self.manifest)
        self.orders: list[RoundOrder] = []
        versions, digests = [0, 0], list(self.manifest.plan.theta_digests)
        for number in range(NUM_ROUNDS):
            p, codec = number % 2, get_codec("int8")
            order = RoundOrder(
                round=number,
                fragment=p,
                base_version=versions[p],
                base_digest=digests[p],
                lr_position=3 * number,
                num_steps=3,
            )
            self.orders.append(order)
            noise = np.random.default_rng(number).standard_normal(theta[p].size, np.float32) * np.float32(1e-3)
            blob = encode_vector(codec, noise)
            theta[p] = theta[p] - decode_vector(codec, noise.size, blob)
            versions[p], digests[p] = number + 1, fragment_digest(theta[p])
            (self.root / f"{number}.blob").write_bytes(blob)
            outcome = OutcomeFile(
                round=number,
                kind=OutcomeKind.COMMITTED,
                fragment=p,
                version=number + 1,
                theta_digest=digests[p],
                blob_path=str(self.root / f"{number}.blob"),
                listed_payload_digest="00" * 32,
            )
            write_record(self.run, R.outcome(number), outcome)

    def allocate(self, name: str, **changes: object) -> RealFileSystem:
        """An allocation with an order for every round."""
        fs = RealFileSystem(self.root / name)
        order = WorkOrder(
            run=self.manifest.run,
            site="a",
            allocation=name,
            fencing=1,
            manifest_path=str(self.root / "manifest.bin"),
            theta0_path=str(self.root / THETA_FILE),
            run_dir=str(self.run.root),
            data_dir=str(self.root / "data"),
            languages=("de", "fr"),
            seed=SEED,
            max_idle_seconds=0.5,
            poll_seconds=0.05,
        )
        write_record(fs, A.order, replace(order, **changes))  # type: ignore[arg-type]
        for order_of_round in self.orders:
            write_record(fs, A.round_order(order_of_round.round), order_of_round)
        return fs

    def torchrun(self, fs: RealFileSystem, size: int, **variables: str) -> BaseProcess:
        """A job on several ranks, as a batch script would start it."""
        command = [
            *("torch.distributed.run", f"--nproc-per-node={size}", "--master-addr=127.0.0.1"),
            *(f"--master-port={free_port()}", "--monitor-interval=0.1", "-m", JOB, str(fs.root)),
        ]
        return start_program(command, logs(fs) / "torchrun.err", {**execution(fs), **variables})

    def start(
        self, fs: RealFileSystem, size: int, special: dict[int, dict[str, str]] | None = None
    ) -> list[BaseProcess]:
        """The ranks of a job without torchrun, each perhaps with variables of its own; one rank is a plain job."""
        if size == 1:
            return [start_program([JOB, str(fs.root)], logs(fs) / "rank0.err", execution(fs))]
        variables = {rank: execution(fs) | (special or {}).get(rank, {}) for rank in range(size)}
        return start_ranks(size, [JOB, str(fs.root)], logs(fs), variables)

    def run_job(self, name: str, size: int, **changes: object) -> RealFileSystem:
        """A whole job that must end well."""
        fs = self.allocate(name, **changes)
        assert wait_all(self.start(fs, size)) == [0] * size, log_of(fs)
        return fs


def execution(fs: RealFileSystem) -> dict[str, str]:
    """What the batch system calls a job."""
    return {"FEDERATION_EXECUTION": fs.root.name}


def logs(fs: RealFileSystem) -> Path:
    """Where a job says something."""
    return Path(fs.root) / "logs"


def log_of(fs: RealFileSystem) -> str:
    """What a job said, on all ranks."""
    return "\n".join(path.read_text() for path in sorted(logs(fs).glob("*.err")))


def ended(fs: RealFileSystem) -> JobEnded | None:
    """A job's last word."""
    return read_record(fs, A.ended, JobEnded)


def payloads(*allocations: RealFileSystem) -> dict[int, bytes]:
    """What was sent, by round; every allocation that sent a round must have sent the same."""
    found: dict[int, bytes] = {}
    for fs in allocations:
        for number in numbered(fs, A.updates):
            update = read_record(fs, A.update(number), UpdateFile)
            data = fs.read(A.payload(number))
            assert update is not None
            assert update.payload_bytes == len(data)
            assert found.setdefault(number, data) == data, f"round {number} was sent twice, differently"
    return found
