# SPDX-License-Identifier: Apache-2.0
"""How the reference trainer's ranks share a site's work: which sequences each takes, and how gradients meet.

Both strategies repeat themselves to the bit for a given number of ranks: gradients of replicas are added up parameter
by parameter, never in buckets whose borders depend on what happened before.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.distributed as dist

from federation.errors import ConfigError


class Parallelism(StrEnum):
    """What `WorkOrder.parallelism` may say."""

    DDP = "ddp"
    """Every rank holds the whole model."""
    FSDP = "fsdp"
    """Parameters, gradients and optimizer state are spread over the ranks (FSDP2)."""


@dataclass(frozen=True, kw_only=True)
class RankShare:
    """This process's place in a step. Alone by default."""

    rank: int = 0
    size: int = 1
    parallelism: Parallelism = Parallelism.DDP

    @classmethod
    def here(cls, parallelism: str) -> "RankShare":
        """As torch's process group and a work order say.

        Raises:
            ConfigError: there is no such strategy.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        known = [strategy.value for strategy in Parallelism]
        if parallelism not in known:
            raise ConfigError(f"parallelism: expected one of {', '.join(known)}, found {parallelism}")
        return cls(rank=dist.get_rank(), size=dist.get_world_size(), parallelism=Parallelism(parallelism))

    def check(self, batch_size: int) -> None:
        """Raises ConfigError where a batch cannot be divided over the ranks."""
        if batch_size % self.size:
            raise ConfigError(
                f"trainer.batch_size: expected a multiple of the {self.size} ranks of this job, found {batch_size}",
                advice="Ask for a number of ranks that divides the run's batch size.",
            )

    def of_batch(self, rows: torch.Tensor) -> torch.Tensor:
        """This rank's rows: sequence n of the site goes to rank n mod size, since batches begin at multiples of it."""
        return rows[self.rank :: self.size]

    def spread(self, model: torch.nn.Module, layers: Iterable[torch.nn.Module], device: str) -> None:
        """Cuts the parameters of a model over the ranks, where the strategy says so."""
        if self.size == 1 or self.parallelism is not Parallelism.FSDP:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(torch.device(device).type, (self.size,))
        for layer in layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replicas' gradients become their mean; FSDP has done so in the backward pass."""
        if self.size == 1 or self.parallelism is not Parallelism.DDP:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad.div_(self.size)
