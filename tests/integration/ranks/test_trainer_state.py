# SPDX-License-Identifier: Apache-2.0
"""A trainer's state goes on with another number of ranks, and anybody's loop runs on several."""

from pathlib import Path

import pytest
import torch
from rank_bench.job import NUM_ROUNDS, Site, payloads
from rank_bench.start import run_ranks
from rank_bench.trainer import Values

from federation.durable.real import RealFileSystem
from site_agent.inner_loop.progress import SavedLoop
from site_agent.trainer.checkpoint import TrainingCheckpoints

pytestmark = pytest.mark.processes


def content(root: Path) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    """Of the newest state: values, and tensors without the generators of ranks other than 0."""
    loaded = TrainingCheckpoints(RealFileSystem(root / "state")).load(Values)
    assert loaded is not None
    tensors = {name: t.reshape(-1) for name, t in loaded[1]["trainer"].items() if not name.startswith("rank-")}
    return loaded[0].values, tensors


@pytest.mark.parametrize(("before", "after", "strategy"), [(2, 3, "fsdp"), (3, 1, "fsdp"), (1, 2, "fsdp")])
def test_optimizer_and_cursor_are_the_same_on_another_number_of_ranks(
    tmp_path: Path, before: int, after: int, strategy: str
) -> None:
    Site(tmp_path).allocate("a1")
    run_ranks(before, ["rank_bench.trainer", "first", str(tmp_path), strategy], tmp_path / "first")
    values, tensors = content(tmp_path)
    assert values["cursors"] == [12]
    assert any(name.endswith(".exp_avg") for name in tensors)
    run_ranks(after, ["rank_bench.trainer", "again", str(tmp_path), strategy], tmp_path / "again")
    values_after, tensors_after = content(tmp_path)
    assert values_after == values
    assert set(tensors_after) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(tensors_after[name], tensor), name


@pytest.mark.parametrize("layout", ["ddp", "fsdp"])
def test_three_lines_on_every_rank(tmp_path: Path, layout: str) -> None:
    site = Site(tmp_path)
    fs = site.allocate("a1")
    run_ranks(2, ["rank_bench.three_lines", str(fs.root), layout], tmp_path / "logs")
    assert sorted(payloads(fs)) == list(range(NUM_ROUNDS))
    loaded = TrainingCheckpoints(site.run).load(SavedLoop)
    assert loaded is not None
    assert loaded[0].progress.tokens == 3 * NUM_ROUNDS * 2 * 16
    for rank in range(2):
        assert f"rank {rank}: {3 * NUM_ROUNDS} steps" in (tmp_path / "logs" / f"rank{rank}.err").read_text()
