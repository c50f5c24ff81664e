# SPDX-License-Identifier: Apache-2.0
"""`python -m rank_bench.trainer PHASE ROOT STRATEGY`: the reference trainer's state, written and read by ranks.

Phase "first" trains two steps and writes the state, phase "again" reads it and writes it once more, on as many ranks as
there are.
"""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from federation.durable.real import RealFileSystem
from federation.manifest import Manifest
from federation.wire import manifest_from_bytes
from site_agent.inner_loop.rank_checkpoints import LeadingCheckpoints, RankCheckpoints
from site_agent.inner_loop.seam import TrainerState
from site_agent.inner_loop.team import gather_teams
from site_agent.jobs import WorkOrder, read_record
from site_agent.trainer.checkpoint import TrainingCheckpoints
from site_agent.trainer.llama import LlamaTrainer, for_order
from site_agent.trainer.pieces import TRAINER, TRAINER_PARTS, trainer_pieces


@dataclass(frozen=True, kw_only=True)
class Values:
    """A training checkpoint's record, as far as it is needed here."""

    values: dict[str, Any]


def main(phase: str, root: Path, strategy: str) -> None:
    """One phase on this rank."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    fs = RealFileSystem(root / "state")
    teams = gather_teams() if size > 1 else None
    manifest: Manifest = manifest_from_bytes((root / "manifest.bin").read_bytes())
    order = read_record(RealFileSystem(root / "a1"), "order.json", WorkOrder)
    assert order is not None
    trainer, _ = for_order(manifest, replace(order, parallelism=strategy))
    if teams is None:
        checkpoints = TrainingCheckpoints(fs)
    else:
        checkpoints = (LeadingCheckpoints if rank == 0 else RankCheckpoints)(fs, "training", teams)
    if phase == "first":
        trainer.step(1e-3)
        trainer.step(1e-3)
    elif teams is None:
        loaded = checkpoints.load(Values)
        assert loaded is not None
        trainer.load_state_dict(TrainerState(tensors=loaded[1][TRAINER], values=loaded[0].values))
    else:
        newest = max(int(path.name) for path in (root / "state" / "training").iterdir())
        record, parts = checkpoints.open_together(newest, Values)
        trainer.load_state_dict(TrainerState(tensors=parts[TRAINER].of_rank(rank), values=record.values))
    save(trainer, checkpoints, rank)


def save(trainer: LlamaTrainer, checkpoints: TrainingCheckpoints, rank: int) -> None:
    """Writes this rank's state."""
    state = trainer.state_dict()
    parts = {f"{TRAINER_PARTS}{rank}": trainer_pieces(state, rank)} if state.parts or rank else {}
    if rank:
        checkpoints.write_share(parts)
    else:
        checkpoints.save(Values(values=dict(state.values)), {**parts, TRAINER: dict(state.tensors)})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
