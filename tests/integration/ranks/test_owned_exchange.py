# SPDX-License-Identifier: Apache-2.0
"""Payloads, digests and training checkpoints are the same for any number of ranks and any layout of parameters."""

import shutil
from pathlib import Path

import pytest
import torch
from rank_bench.start import run_ranks

from federation.durable.real import RealFileSystem
from site_agent.jobs import OutcomeFile
from site_agent.trainer.checkpoint import TrainingCheckpoints

pytestmark = pytest.mark.processes

CASES = ("int4:0.9", "sparse:0.95")


def phase(name: str, size: int, directory: Path, layout: str) -> None:
    run_ranks(size, ["rank_bench.exchange", name, str(directory), layout, *CASES], directory / f"logs-{name}")


def content(directory: Path, case: str) -> dict[str, torch.Tensor]:
    """Everything of the newest training checkpoint, whoever wrote it."""
    loaded = TrainingCheckpoints(RealFileSystem(directory / case.replace(":", "-"))).load(OutcomeFile)
    assert loaded is not None
    return {f"{part}/{name}": t for part, tensors in loaded[1].items() for name, t in tensors.items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole story on one rank, and what it was after the first half."""
    root = tmp_path_factory.mktemp("alone")
    phase("first", 1, root / "half", "replicas")
    shutil.copytree(root / "half", root / "whole")
    phase("second", 1, root / "whole", "replicas")
    return root


@pytest.mark.parametrize(
    ("before", "after", "layout"),
    [(2, 3, "replicas"), (3, 1, "fsdp"), (1, 2, "columns")],
)
def test_any_number_of_ranks_gives_the_bytes_of_one(
    alone: Path, tmp_path: Path, before: int, after: int, layout: str
) -> None:
    phase("first", before, tmp_path, layout)
    for case in CASES:
        same(content(tmp_path, case), content(alone / "half", case))
    phase("second", after, tmp_path, layout)
    for case in CASES:
        same(content(tmp_path, case), content(alone / "whole", case))
        for number in range(4):
            for suffix in ("payload", "digest"):
                name = f"{case.replace(':', '-')}/{number}.{suffix}"
                assert (tmp_path / name).read_bytes() == (alone / "whole" / name).read_bytes(), name


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name].reshape(-1), tensor.reshape(-1)), name
