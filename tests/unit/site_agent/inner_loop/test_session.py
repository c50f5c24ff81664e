# SPDX-License-Identifier: Apache-2.0
"""A plain torch loop joins a run in three lines, and is resumed to the bit."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from federation.chunks import fragment_digest
from federation.durable.real import RealFileSystem
from federation.fragments import build_fragments, flatten
from federation.manifest import Manifest
from federation.testing.manifests import inner_settings, manifest_of, plan_of
from federation.wire import manifest_to_bytes
from site_agent.inner_loop import join
from site_agent.inner_loop.session import ModelDiffersError, TorchTrainer
from site_agent.jobs import (
    AllocationPaths,
    EndCode,
    JobEnded,
    OutcomeFile,
    OutcomeKind,
    RoundOrder,
    RunPaths,
    StopOrder,
    WorkOrder,
    write_record,
)
from site_agent.json_records import read_record

NUM_ROUNDS = 4
A = AllocationPaths()


@pytest.fixture(autouse=True)
def _restore_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Net(torch.nn.Module):
    """Two layers and dropout, so that torch's generator matters."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(width, width), torch.nn.Linear(width, width)])
        self.dropout = torch.nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = self.dropout(torch.tanh(layer(x)))
        return x


class Data:
    """A user's own data order."""

    def __init__(self) -> None:
        self.position = 0

    def next(self) -> torch.Tensor:
        self.position += 1
        return torch.sin(torch.arange(24.0).reshape(4, 6) * self.position)

    def state_dict(self) -> Any:
        return self.position

    def load_state_dict(self, state: Any) -> None:
        self.position = state


def theta0() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {name: p.detach().clone() for name, p in Net().named_parameters()}


def set_up(root: Path) -> Manifest:
    """A run of one site whose rounds are all abandoned but for the first, which commits nothing new."""
    tensors = theta0()
    fragments = build_fragments([(name, t.shape) for name, t in tensors.items()], 2)
    digests = [fragment_digest(flatten(table, lambda n: tensors[n].numpy())) for table in fragments]
    plan = plan_of({"a": 4}, num_fragments=2, tau=1, num_rounds=NUM_ROUNDS, theta_digests=digests)
    manifest = manifest_of(plan, fragments, alpha=0.5, up="int8", inner=inner_settings(lr=0.1, warmup_steps=2))
    root.mkdir(parents=True, exist_ok=True)
    (root / "theta0.safetensors").write_bytes(save(tensors))
    (root / "manifest.bin").write_bytes(manifest_to_bytes(manifest))
    run = RealFileSystem(root / "run")
    for number in range(NUM_ROUNDS):
        outcome = OutcomeFile(
            round=number, kind=OutcomeKind.ABANDONED, fragment=number % 2, listed_payload_digest="00" * 32
        )
        write_record(run, RunPaths().outcome(number), outcome)
    return manifest


def allocate(root: Path, manifest: Manifest, name: str, **changes: object) -> Path:
    order = WorkOrder(
        run=manifest.run,
        site="a",
        allocation=name,
        fencing=1,
        manifest_path=str(root / "manifest.bin"),
        theta0_path=str(root / "theta0.safetensors"),
        run_dir=str(root / "run"),
        data_dir="",
        languages=(),
        seed=0,
        max_idle_seconds=0.05,
        poll_seconds=0.01,
    )
    fs = RealFileSystem(root / name)
    write_record(fs, A.order, replace(order, **changes))  # type: ignore[arg-type]
    for number in range(NUM_ROUNDS):
        round_order = RoundOrder(
            round=number,
            fragment=number % 2,
            base_version=0,
            base_digest=manifest.plan.theta_digests[number % 2],
            lr_position=2 * number,
            num_steps=2,
        )
        write_record(fs, A.round_order(number), round_order)
    return root / name


def users_program(steps: list[float], stop_after: int = 100, allocation: Path | None = None) -> None:
    """What a user writes; the first two lines and the last one are ours."""
    torch.manual_seed(1)
    model, data = Net(), Data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    session = join(model, optimizer, state=data, allocation=allocation)
    while session.running:
        inputs = data.next()
        loss = (model(inputs) - inputs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps.append(session.learning_rate)
        if len(steps) == stop_after and allocation is not None:
            write_record(RealFileSystem(allocation), A.stop, StopOrder(reason="paused"))
        session.step(float(loss.detach()), inputs.numel())


def payloads(*directories: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for d in directories for path in sorted(d.glob("updates/*.payload"))}


def ended(directory: Path) -> JobEnded:
    found = read_record(RealFileSystem(directory), A.ended, JobEnded)
    assert found is not None
    return found


def test_a_plain_loop_trains_what_is_ordered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = set_up(tmp_path)
    directory = allocate(tmp_path, manifest, "a1")
    monkeypatch.setenv("FEDERATION_ALLOCATION", str(directory))
    rates: list[float] = []
    users_program(rates)
    assert len(payloads(directory)) == NUM_ROUNDS
    assert rates == pytest.approx([0.0, 0.05, *[0.1] * 6], abs=1e-5)
    assert ended(directory).code is EndCode.IDLE


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_a_resumed_loop_sends_the_same_bytes(tmp_path: Path, stop_after: int) -> None:
    whole = tmp_path / "whole"
    expected_dir = allocate(whole, set_up(whole), "a1")
    users_program([], allocation=expected_dir)
    cut = tmp_path / "cut"
    manifest = set_up(cut)
    first, second = allocate(cut, manifest, "a1"), allocate(cut, manifest, "a2")
    steps: list[float] = []
    users_program(steps, stop_after, first)
    assert len(steps) == stop_after
    assert ended(first).code is EndCode.STOPPED
    users_program(steps, allocation=second)
    assert len(steps) == 2 * NUM_ROUNDS
    assert payloads(first, second) == payloads(expected_dir)


class CountingData(Data):
    """One that counts what it gave out."""

    def language_tokens(self) -> dict[str, int]:
        return {"de": 24 * self.position}


def test_a_program_s_state_may_tell_its_tokens_per_language() -> None:
    model, data = Net(), CountingData()
    data.next()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert TorchTrainer(model, optimizer, data).language_tokens() == {"de": 24}
    assert TorchTrainer(model, optimizer, Data()).language_tokens() == {}
    assert TorchTrainer(model, optimizer, None).language_tokens() == {}


def test_another_model_is_declined_with_what_differs(tmp_path: Path) -> None:
    directory = allocate(tmp_path, set_up(tmp_path), "a1")
    model = Net(width=5)
    with pytest.raises(ModelDiffersError, match=r"layers.0.weight: expected shape \[6, 6\], found \[5, 5\]"):
        join(model, torch.optim.SGD(model.parameters()), allocation=directory)
    assert ended(directory).code is EndCode.MODEL_DIFFERS


def test_a_model_in_another_precision_is_declined(tmp_path: Path) -> None:
    directory = allocate(tmp_path, set_up(tmp_path), "a1")
    model = Net().to(torch.bfloat16)
    with pytest.raises(ModelDiffersError, match=r"expected fp32, found torch\.bfloat16"):
        join(model, torch.optim.SGD(model.parameters()), allocation=directory)
