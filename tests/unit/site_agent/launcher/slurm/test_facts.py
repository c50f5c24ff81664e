# SPDX-License-Identifier: Apache-2.0
"""Lines of sinfo and sacctmgr."""

from pathlib import Path

import pytest

from federation.errors import LaunchFailedError, PeerUnavailableError
from site_agent.launcher.slurm.commands import Completed
from site_agent.launcher.slurm.facts import (
    Association,
    NodeGroup,
    SlurmFacts,
    association,
    gpus_of,
    megabytes_of,
    node_group,
    seconds_of,
)


def test_a_line_of_sinfo() -> None:
    line = "standard-g*|up|2-00:00:00|2900|128+|480000|gpu:mi250:8(S:0-3)"
    assert node_group(line) == NodeGroup(
        partition="standard-g",
        is_default=True,
        state="up",
        max_seconds=2 * 86_400,
        num_nodes=2900,
        num_cpus=128,
        memory_mb=480_000,
        num_gpus=8,
    )
    assert node_group("a notice of the centre") is None


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("infinite", 0), ("n/a", 0), ("1:00:00", 3600), ("30:00", 1800), ("2-12:00:00", 60 * 3600), ("0:30", 30)],
)
def test_wall_times(limit: str, seconds: int) -> None:
    assert seconds_of(limit) == seconds


@pytest.mark.parametrize(
    ("gres", "count"),
    [("(null)", 0), ("gpu:4", 4), ("gpu:a100:4(S:0-1)", 4), ("gpu:a:2,gpu:b:1", 3), ("nvme:1,gpu:8", 8), ("", 0)],
)
def test_gpus(gres: str, count: int) -> None:
    assert gpus_of(gres) == count


@pytest.mark.parametrize(
    ("size", "megabytes"), [("", 0), ("2000", 2000), ("480G", 491_520), ("1T", 2**20), ("4096K", 4)]
)
def test_memory(size: str, megabytes: int) -> None:
    assert megabytes_of(size) == megabytes


def test_a_line_of_sacctmgr() -> None:
    assert association("fed||normal,urgent") == Association(account="fed", partition="", qos=("normal", "urgent"))
    assert association("fed|short|") == Association(account="fed", partition="short", qos=())
    assert association("") is None


def test_a_command_that_complains() -> None:
    facts = SlurmFacts(run=lambda argv, seconds: Completed(status=1, out="", err="sinfo: no controller\n"))
    with pytest.raises(PeerUnavailableError, match="sinfo: no controller"):
        facts.nodes("batch")


def test_where_there_is_no_sacctmgr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert SlurmFacts().associations() is None
    assert "sbatch" in SlurmFacts().missing()


def test_a_script_that_sbatch_only_looks_at() -> None:
    said = Completed(status=0, out="", err="sbatch: Job 1 to start at 2026-01-01T00:00:00 in partition batch\n")
    assert SlurmFacts(run=lambda argv, seconds: said).rehearse(Path("x")).startswith("sbatch: Job 1")
    refused = Completed(status=1, out="", err="allocation failure: Invalid qos specification\n")
    with pytest.raises(LaunchFailedError, match="Invalid qos") as found:
        SlurmFacts(run=lambda argv, seconds: refused).rehearse(Path("x"))
    assert found.value.code == "unknown-qos"
    down = Completed(status=1, out="", err="Unable to contact slurm controller\n")
    with pytest.raises(PeerUnavailableError, match="controller"):
        SlurmFacts(run=lambda argv, seconds: down).rehearse(Path("x"))
