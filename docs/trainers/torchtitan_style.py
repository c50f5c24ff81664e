# SPDX-License-Identifier: Apache-2.0
"""A training program with torchtitan's structure inside a run: `torchrun … -m torchtitan_style ALLOCATION_DIR`.

A train spec names how to build model, optimizer and data and how to parallelise; a `Trainer` puts them together and has
the components that must survive a restart in one mapping of states. What torchtitan does with checkpoints and learning
rates is the session's: `join` takes the states, and the loop asks `session.running`. On one rank the model is plain, on
several it is sharded with FSDP2's `fully_shard`.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from federation.errors import FederationError
from site_agent.inner_loop import join

VOCABULARY, WIDTH, NUM_LAYERS, SEQUENCE, BATCH = 256, 16, 2, 16, 4
"""BATCH sequences per inner step and site, whatever the number of ranks."""


class Block(torch.nn.Module):
    """Mixes each position with the mean of those before it, then a small feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = torch.nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.down = torch.nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        counts = torch.arange(1, x_BLD.shape[1] + 1, device=x_BLD.device)[:, None]
        x_BLD = x_BLD + self.mix(x_BLD.cumsum(1) / counts)
        return x_BLD + self.down(torch.nn.functional.silu(self.up(x_BLD)))


class Decoder(torch.nn.Module):
    """Bytes to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.tok_embeddings = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.layers = torch.nn.ModuleList(Block() for _ in range(NUM_LAYERS))
        self.output = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """Logits f32[B, L, VOCABULARY]."""
        x_BLD = self.tok_embeddings(tokens_BL)
        for layer in self.layers:
            x_BLD = layer(x_BLD)
        return self.output(x_BLD)


class DataLoader:
    """This rank's part of each of the site's batches. Its state is the same on every rank, for any number of ranks."""

    def __init__(self, order: Mapping[str, Any], rank: int, world_size: int) -> None:
        paths = [Path(order["data_dir"]) / f"{language}.txt" for language in order["languages"]]
        data = bytearray(b"".join(path.read_bytes() for path in paths))
        self._bytes = torch.frombuffer(data, dtype=torch.uint8).long()
        self._rank, self._world_size, self._num_batches = rank, world_size, 0

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        numbers = torch.arange(self._rank, BATCH, self._world_size) + self._num_batches * BATCH
        self._num_batches += 1
        starts = numbers * SEQUENCE % (len(self._bytes) - SEQUENCE - 1)
        rows = self._bytes[starts[:, None] + torch.arange(SEQUENCE + 1)]
        return rows[:, :-1], rows[:, 1:]

    def state_dict(self) -> dict[str, int]:
        """JSON values."""
        return {"num_batches": self._num_batches}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Puts it back."""
        self._num_batches = state["num_batches"]


def parallelize(model: torch.nn.Module, mesh: DeviceMesh) -> None:
    """FSDP2: each block and the whole. Parameters stay fp32: what is exchanged are the master copies."""
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """What a model family brings."""

    build_model: Callable[[], torch.nn.Module]
    parallelize: Callable[[torch.nn.Module, DeviceMesh], None]
    build_optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer]
    build_dataloader: Callable[[Mapping[str, Any], int, int], DataLoader]


SPEC = TrainSpec(
    build_model=Decoder,
    parallelize=parallelize,
    build_optimizer=lambda model: torch.optim.AdamW(model.parameters(), foreach=False),
    build_dataloader=DataLoader,
)


class States:
    """The checkpointable components besides model and optimizer, by name, as one."""

    def __init__(self, components: Mapping[str, Any]) -> None:
        self._components = components

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {name: component.state_dict() for name, component in self._components.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts them back."""
        for name, component in self._components.items():
            component.load_state_dict(state[name])


class Trainer:
    """Builds everything from a train spec, then trains what the session orders."""

    def __init__(self, spec: TrainSpec, allocation: Path) -> None:
        order = json.loads((allocation / "order.json").read_text())
        torch.set_num_threads(order["num_threads"])
        torch.manual_seed(order["seed"])
        self.world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.device = self._device(order["device"])
        self.model = spec.build_model().to(self.device)
        if self.world_size > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            spec.parallelize(self.model, init_device_mesh(self.device.type, (self.world_size,)))
        self.optimizer = spec.build_optimizer(self.model)
        self.dataloader = spec.build_dataloader(order, rank, self.world_size)
        states = States({"dataloader": self.dataloader})
        self.session = join(self.model, self.optimizer, state=states, allocation=allocation)

    @staticmethod
    def _device(named: str) -> torch.device:
        device = torch.device(named)
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(device)
        return device

    def forward_backward_step(self) -> tuple[torch.Tensor, int]:
        """Mean loss of this rank's part of a batch, and its tokens."""
        inputs_BL, labels_BL = (part.to(self.device) for part in next(self.dataloader))
        logits_BLV = self.model(inputs_BL)
        loss = torch.nn.functional.cross_entropy(logits_BLV.flatten(0, 1), labels_BL.flatten())
        loss.backward()
        return loss.detach(), labels_BL.numel()

    def train_step(self) -> None:
        """One inner step."""
        self.optimizer.zero_grad()
        loss, tokens = self.forward_backward_step()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=False)
        self.optimizer.step()
        self.session.step(loss.item(), tokens)

    def train(self) -> None:
        """Until the session says that it is over."""
        while self.session.running:
            self.train_step()

    def close(self) -> None:
        """Leaves the process group."""
        if self.world_size > 1:
            dist.destroy_process_group()


def main(arguments: list[str]) -> int:
    """The process's exit status. A reason is already in the allocation's `ended.json`."""
    try:
        trainer = Trainer(SPEC, Path(arguments[0]))
        trainer.train()
        trainer.close()
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
