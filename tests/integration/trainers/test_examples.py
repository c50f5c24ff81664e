# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/trainers, as they stand there: each trains a run to its end, and sends the same when resumed."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from command_bench import COMMAND_MODULE, NUM_ROUNDS, CommandAllocation, CommandBench

from federation.corpus import write_corpus
from site_agent.jobs import EndCode

pytestmark = pytest.mark.processes

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "trainers"


def module_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def parameters_of(name: str) -> dict[str, np.ndarray]:
    """What an example's model begins with."""
    import torch

    if name == "command_trainer":
        return {module_of(name).NAME: np.zeros((256, 256), np.float32)}
    build = {"plain_torch": "ByteModel", "huggingface_trainer": "build_model", "torchtitan_style": "Decoder"}[name]
    torch.manual_seed(1)
    model = getattr(module_of(name), build)()
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


@dataclass(frozen=True, kw_only=True)
class Example:
    """How an example is started."""

    name: str
    num_fragments: int = 2
    tau: int = 1
    launch: Sequence[str] = field(default_factory=lambda: (sys.executable, "-P"))

    def start(self, allocation: CommandAllocation) -> "subprocess.Popen[bytes]":
        allocation.write_order()
        argv = [*self.launch, str(EXAMPLES / f"{self.name}.py"), str(allocation.directory)]
        if self.name == "command_trainer":
            argv = [*self.launch, "-m", COMMAND_MODULE, str(allocation.directory)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        environment["FEDERATION_EXECUTION"] = f"job-{allocation.directory.name}"
        with (allocation.directory / "stderr").open("wb") as log:
            return subprocess.Popen(argv, env=environment, stdout=log, stderr=log, cwd=allocation.directory)


ONE_RANK = [
    Example(name="plain_torch"),
    Example(name="torchtitan_style"),
    Example(name="huggingface_trainer"),
    Example(name="command_trainer", num_fragments=1, tau=0),
]


def allocate(bench: CommandBench, run_dir: Path, name: str) -> CommandAllocation:
    command = (sys.executable, str(EXAMPLES / "command_trainer.py"))
    return CommandAllocation(bench, run_dir, name, command)


def bench_for(example: Example, root: Path) -> CommandBench:
    """A run of this example's model, in which every commit is made of somebody else's updates."""
    write_corpus(root / "bench" / "data", ("de", "fr"), 20_000)
    parameters = parameters_of(example.name)
    return CommandBench(root / "bench", parameters, num_fragments=example.num_fragments, tau=example.tau)


def wait_for(condition: Callable[[], object], seconds: float = 100) -> None:
    """Until the condition holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not reached in time"
        time.sleep(0.005)


def payloads(*allocations: CommandAllocation) -> dict[int, bytes]:
    return {n: payload for a in allocations for n, (_, payload) in a.updates().items()}


@pytest.mark.parametrize("example", ONE_RANK, ids=[example.name for example in ONE_RANK])
def test_an_example_trains_a_run_and_resumes_to_the_bit(example: Example, tmp_path: Path) -> None:
    if example.name == "huggingface_trainer":
        pytest.importorskip("accelerate", reason="Hugging Face's Trainer needs accelerate, which is not installed")
    bench = bench_for(example, tmp_path)
    whole = allocate(bench, tmp_path / "whole" / "run", "a1")
    code = example.start(whole).wait(120)
    assert code == 0, whole.errors()
    assert whole.ended().code is EndCode.IDLE, whole.ended()
    assert set(payloads(whole)) == set(range(NUM_ROUNDS))
    first, second = (allocate(bench, tmp_path / "cut" / "run", name) for name in ("a1", "a2"))
    process = example.start(first)
    wait_for(lambda: process.poll() is not None or first.updates())
    process.kill()
    process.wait(60)
    assert example.start(second).wait(120) == 0, second.errors()
    assert payloads(first, second) == payloads(whole)
    assert {update.new_tokens for update, _ in second.updates().values()}


TWO_RANKS = Example(
    name="torchtitan_style",
    launch=(sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
)


def test_the_torchtitan_style_example_shards_over_two_ranks(tmp_path: Path) -> None:
    bench = bench_for(TWO_RANKS, tmp_path)
    allocation = allocate(bench, tmp_path / "run", "a1")
    process = TWO_RANKS.start(allocation)
    try:
        assert process.wait(200) == 0, allocation.errors()
    finally:
        process.kill()
    assert allocation.ended().code is EndCode.IDLE
    updates = allocation.updates()
    assert set(updates) == set(range(NUM_ROUNDS))
    assert {update.new_tokens for update, _ in updates.values()} == {3 * 4 * 16}
