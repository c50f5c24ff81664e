# SPDX-License-Identifier: Apache-2.0
"""Jobs of the command trainer against hand-written orders and the oracle's history of the same run."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from job_bench.job_process import start_job
from job_bench.scripted_agent import ScriptedAgent
from job_bench.toy import PARAMETERS
from safetensors.numpy import save
from toy_command import ToyCommandSite

from federation.chunks import fragment_digest
from federation.durable.real import RealFileSystem
from federation.fragments import build_fragments, flatten
from federation.manifest import Manifest
from federation.reference import Reference, Site
from federation.testing.manifests import inner_settings, manifest_of, plan_of
from federation.wire import manifest_to_bytes
from site_agent.jobs import (
    AllocationPaths,
    JobEnded,
    RunPaths,
    UpdateFile,
    WorkOrder,
    numbered,
    read_record,
    write_record,
)

NUM_ROUNDS = 4
A, R = AllocationPaths(), RunPaths()
TOY = (sys.executable, str(Path(__file__).parent / "toy_command.py"))
COMMAND_MODULE = "site_agent.trainer.command"


class CommandBench:
    """A run of one site, P = 2 and tau = 0 unless told otherwise, and the oracle's history of it.

    Args:
        tensors: theta_0 by name.
        site: the same training for the oracle; None leaves the history out.
    """

    def __init__(
        self,
        root: Path,
        tensors: Mapping[str, np.ndarray] | None = None,
        site: Site | None = None,
        *,
        num_fragments: int = 2,
        num_inner_steps: int = 6,
        tau: int = 0,
    ) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.tensors = dict(tensors) if tensors is not None else toy_tensors()
        fragments = build_fragments([(name, value.shape) for name, value in self.tensors.items()], num_fragments)
        theta0 = [flatten(table, self.tensors.__getitem__) for table in fragments]
        plan = plan_of(
            {"a": num_inner_steps},
            num_fragments=num_fragments,
            tau=tau,
            num_rounds=NUM_ROUNDS,
            theta_digests=tuple(fragment_digest(theta) for theta in theta0),
        )
        inner = replace(inner_settings(lr=0.05, warmup_steps=2))
        self.manifest: Manifest = manifest_of(
            plan,
            fragments,
            alpha=0.5 if tau else 0.0,
            momentum=0.9,
            up="int4",
            down="int8",
            feedback_beta=0.95,
            inner=inner,
        )
        (root / "theta0.safetensors").write_bytes(save(self.tensors))
        (root / "manifest.bin").write_bytes(manifest_to_bytes(self.manifest))
        shapes = {name: value.shape for name, value in self.tensors.items()}
        self.reference = Reference(self.manifest, theta0, {"a": site or ToyCommandSite(shapes)})
        for _ in range(NUM_ROUNDS):
            self.reference.run_round()
        (root / "blobs").mkdir(exist_ok=True)
        self.agent = ScriptedAgent(self.manifest, "a", self.reference.history, {}, root / "blobs")


def toy_tensors() -> dict[str, np.ndarray]:
    """theta_0 of the toy."""
    draw = np.random.default_rng(0)
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in PARAMETERS}


class CommandAllocation:
    """One allocation of site a with every round ordered and every outcome known."""

    def __init__(
        self, bench: CommandBench, run_dir: Path, name: str, command: Sequence[str] = TOY, **changes: object
    ) -> None:
        self.bench, self.directory = bench, run_dir.parent / name
        self.fs, self.run = RealFileSystem(self.directory), RealFileSystem(run_dir)
        self.fencing, self.changes = 0, {"command": tuple(command), **changes}
        for number in range(NUM_ROUNDS):
            write_record(self.fs, A.round_order(number), bench.agent.order(number))
            write_record(self.run, R.outcome(number), bench.agent.outcome(number))

    def write_order(self) -> None:
        """The next start's work order."""
        self.fencing += 1
        order = WorkOrder(
            run=self.bench.manifest.run,
            site="a",
            allocation=self.directory.name,
            fencing=self.fencing,
            manifest_path=str(self.bench.root / "manifest.bin"),
            theta0_path=str(self.bench.root / "theta0.safetensors"),
            run_dir=str(self.run.root),
            data_dir=str(self.bench.root / "data"),
            languages=("de", "fr"),
            seed=3,
            max_idle_seconds=0.3,
            poll_seconds=0.05,
        )
        write_record(self.fs, A.order, replace(order, **self.changes))  # type: ignore[arg-type]

    def start(self, failpoints: str = "", module: str = COMMAND_MODULE) -> BaseProcess:
        """A process of the job."""
        self.write_order()
        environment = {
            "FEDERATION_FAILPOINTS": failpoints,
            "FEDERATION_EXECUTION": f"job-{self.directory.name}",
            "OMP_NUM_THREADS": "1",
            "PASSWORD": "SECRET-CANARY",
            "SLURM_JWT": "SECRET-CANARY",
            "RANK": "0",
        }
        return start_job(self.directory, environment, self.directory / "stderr", module)

    def run_job(self, failpoints: str = "", module: str = COMMAND_MODULE) -> tuple[int | None, str]:
        """Exit status and standard error of a whole execution."""
        process = self.start(failpoints, module)
        process.join(timeout=120)
        return process.exitcode, self.errors()

    def errors(self) -> str:
        """What the job printed."""
        return (self.directory / "stderr").read_text()

    def updates(self) -> dict[int, tuple[UpdateFile, bytes]]:
        """What it published."""
        found = {}
        for number in numbered(self.fs, A.updates):
            update = read_record(self.fs, A.update(number), UpdateFile)
            assert update is not None
            found[number] = (update, self.fs.read(A.payload(number)))
        return found

    def ended(self) -> JobEnded:
        """Its last word."""
        ended = read_record(self.fs, A.ended, JobEnded)
        assert ended is not None
        return ended


def check_sent(bench: CommandBench, *allocations: CommandAllocation) -> None:
    """Every round was sent, always with the oracle's bytes."""
    sent = [item for allocation in allocations for item in allocation.updates().items()]
    assert {number for number, _ in sent} == set(range(NUM_ROUNDS))
    for number, (update, payload) in sent:
        result = bench.reference.history[number]
        assert payload == result.payloads["a"], f"round {number}"
        assert update.weight_tokens == result.weight_tokens["a"]
        assert update.num_steps == bench.agent.order(number).num_steps
