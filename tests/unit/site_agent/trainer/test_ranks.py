# SPDX-License-Identifier: Apache-2.0
"""Sequences of a batch are dealt out to ranks one by one; a batch that cannot be divided is refused."""

import pytest
import torch

from federation.errors import ConfigError
from site_agent.trainer.ranks import RankShare


def test_every_sequence_goes_to_one_rank_by_its_number() -> None:
    rows = torch.arange(12).reshape(6, 2)
    found = [RankShare(rank=rank, size=3).of_batch(rows) for rank in range(3)]
    assert [part[:, 0].tolist() for part in found] == [[0, 6], [2, 8], [4, 10]]
    assert RankShare().of_batch(rows).equal(rows)


def test_a_batch_must_be_a_multiple() -> None:
    RankShare(size=3).check(6)
    with pytest.raises(ConfigError, match="multiple of the 4 ranks of this job, found 6"):
        RankShare(size=4).check(6)


def test_without_torchrun_a_job_is_alone() -> None:
    assert RankShare.here("whatever") == RankShare()
