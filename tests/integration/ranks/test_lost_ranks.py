# SPDX-License-Identifier: Apache-2.0
"""A rank that is lost is named by all that are left, whatever they were doing; what to do is said beside it."""

import signal
from pathlib import Path

import pytest
from rank_bench.start import start_ranks, wait_all, words_of

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("case", ["killed", "in-step", "before-leader"])
def test_the_lost_rank_is_named(tmp_path: Path, case: str) -> None:
    ranks = start_ranks(3, ["rank_bench.lost", case, str(tmp_path)], tmp_path / "logs")
    assert wait_all(ranks) == [0, -signal.SIGKILL, 0], words_of(tmp_path / "logs")
    for rank in (0, 2):
        said = (tmp_path / f"{case}.{rank}").read_text()
        assert said.startswith(f"rank {rank}: expected answers of all 3 ranks, found rank 1 gone ("), said
        assert "last words of rank 1" in said
        assert "goes on from the last training checkpoint" in said


def test_silence_is_no_end(tmp_path: Path) -> None:
    ranks = start_ranks(3, ["rank_bench.lost", "silent", str(tmp_path)], tmp_path / "logs")
    ranks[0].join(60)
    ranks[1].kill()
    wait_all(ranks)
    said = (tmp_path / "silent.0").read_text()
    assert said.startswith("rank 0: expected answers of all 3 ranks, found no answer in time ("), said
