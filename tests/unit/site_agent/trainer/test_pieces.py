# SPDX-License-Identifier: Apache-2.0
"""Pieces of tensors are found by place, whoever wrote them; a file of one process is one large piece."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from federation.durable.simulated import SimulatedFileSystem
from federation.errors import CorruptObjectError
from site_agent.trainer.checkpoint import TrainingCheckpoints
from site_agent.trainer.pieces import piece_name, range_of


@dataclass(frozen=True, kw_only=True)
class Record:
    step: int = 1


VALUES = torch.arange(10.0)


def of_ranks(*cuts: int) -> dict[str, dict[str, torch.Tensor]]:
    """theta 0 cut there, one file a piece."""
    edges = [0, *cuts, 10]
    return {
        f"pieces-{i}": {piece_name("theta", "0", start): VALUES[start:stop]}
        for i, (start, stop) in enumerate(pairwise(edges))
    }


def saved(parts: dict[str, dict[str, torch.Tensor]]) -> TrainingCheckpoints:
    checkpoints = TrainingCheckpoints(SimulatedFileSystem())
    checkpoints.save(Record(), parts)
    return checkpoints


@pytest.mark.parametrize("parts", [{"theta": {"0": VALUES}}, of_ranks(), of_ranks(3), of_ranks(1, 7)])
def test_any_cut_gives_any_range(parts: dict[str, dict[str, torch.Tensor]]) -> None:
    checkpoints = saved(parts)
    stored = checkpoints.open_parts(1)["theta"]
    for start, stop in ((0, 10), (2, 8), (3, 3), (6, 10)):
        assert range_of(stored, "0", start, stop).equal(VALUES[start:stop])
    loaded = checkpoints.load(Record)
    assert loaded is not None
    assert loaded[1]["theta"]["0"].equal(VALUES)


def test_a_hole_is_said() -> None:
    parts = of_ranks(3, 7)
    del parts["pieces-1"]
    stored = saved(parts).open_parts(1)["theta"]
    with pytest.raises(CorruptObjectError, match="found none from 3"):
        stored.part("0", 0, 10)


def test_each_rank_has_its_own_generators_and_a_new_one_has_none() -> None:
    ones = torch.ones(1)
    own = {piece_name("trainer", "rank-1.generator.cpu", 0): 2 * ones}
    stored = saved({"trainer": {"generator.cpu": ones, "cursor": ones}, "trainer-1": own}).open_parts(1)["trainer"]
    assert set(stored.of_rank(0)) == {"generator.cpu", "cursor"}
    assert stored.of_rank(0)["generator.cpu"].equal(ones)
    assert stored.of_rank(1)["generator.cpu"].equal(2 * ones)
    assert set(stored.of_rank(2)) == {"cursor"}


@pytest.mark.parametrize(("parts", "found"), [({"theta": {"0": VALUES}}, 1), (of_ranks(3), 2)])
def test_the_manifest_says_who_may_read_it(parts: dict[str, dict[str, torch.Tensor]], found: int) -> None:
    assert saved(parts).manifest(1).format == found


def test_a_part_that_is_not_the_manifests_is_refused() -> None:
    fs = SimulatedFileSystem()
    checkpoints = TrainingCheckpoints(fs)
    checkpoints.save(Record(), of_ranks(3))
    path, part = "training/1/pieces-0.safetensors", checkpoints.manifest(1).parts[0]
    checkpoints.check_part(1, part)
    data = fs.read(path)
    fs.write(path, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptObjectError, match="pieces-0"):
        checkpoints.check_part(1, part)
