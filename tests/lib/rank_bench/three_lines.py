# SPDX-License-Identifier: Apache-2.0
"""`python -m rank_bench.three_lines ALLOCATION LAYOUT`: somebody's own torch loop on several ranks."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from rank_bench.job import MODEL
from site_agent.inner_loop import join
from site_agent.trainer.model import build_model


def main(allocation: Path, layout: str) -> None:
    """Trains on noise until the run has had enough."""
    dist.init_process_group("gloo")
    torch.manual_seed(dist.get_rank())
    model = build_model(MODEL)
    if layout == "fsdp":
        fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    else:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters())
    session = join(model, optimizer, allocation=allocation)
    while session.running:
        tokens = torch.randint(0, 256, (1, 16 + dist.get_rank()))[:, :16]
        loss = torch.nn.functional.cross_entropy(model(input_ids=tokens).logits.flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        session.step(float(loss.detach()), tokens.numel())
    print(f"rank {dist.get_rank()}: {session.num_steps} steps", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
