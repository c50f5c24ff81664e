# SPDX-License-Identifier: Apache-2.0
"""What `doctor` makes of partitions, nodes and accounts."""

from dataclasses import replace
from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from site_agent.doctor_case import Case, Verdict
from site_agent.doctor_slurm import (
    examine_slurm,
    fit_of_account,
    fit_of_container,
    fit_of_nodes,
    fit_of_partition,
)
from site_agent.launcher.slurm.facts import Association, NodeGroup
from site_agent.launcher.slurm.settings import ContainerSection, SlurmSection
from site_agent.site_config import JobSection, SiteConfig

SMALL = NodeGroup(
    partition="gpu",
    is_default=True,
    state="up",
    max_seconds=3600,
    num_nodes=10,
    num_cpus=64,
    memory_mb=256_000,
    num_gpus=4,
)
LARGE = replace(SMALL, num_nodes=2, memory_mb=1_000_000)


def test_a_partition_that_fits() -> None:
    verdict, words, advice = fit_of_partition([SMALL], "gpu", 3600)
    assert (verdict, words, advice) == (Verdict.OK, "gpu is up, wall time at most 01:00:00", "")


@pytest.mark.parametrize(
    ("groups", "seconds", "verdict", "words", "advice"),
    [
        ([], 60, Verdict.FAILED, "no partition gpu", "slurm.partition"),
        ([SMALL], 3601, Verdict.FAILED, "jobs ask for 01:00:01", "job.seconds_limit from 3601 to 3600"),
        ([replace(SMALL, state="down")], 60, Verdict.WARNING, "gpu is down", "announcements"),
    ],
)
def test_a_partition_that_does_not(
    groups: list[NodeGroup], seconds: int, verdict: Verdict, words: str, advice: str
) -> None:
    found = fit_of_partition(groups, "gpu", seconds)
    assert found[0] is verdict
    assert words in found[1]
    assert advice in found[2]


def test_a_partition_without_limit_and_no_default() -> None:
    assert fit_of_partition([replace(SMALL, max_seconds=0)], "gpu", 10**6)[0] is Verdict.OK
    assert "no default partition" in fit_of_partition([], "", 60)[1]


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({"nodes": 12, "gpus_per_node": 4, "cpus_per_rank": 16}, Verdict.OK),
        ({"nodes": 13}, Verdict.FAILED),
        ({"gpus_per_node": 8}, Verdict.FAILED),
        ({"gpus_per_node": 4, "cpus_per_rank": 17}, Verdict.FAILED),
        ({"nodes": 2, "memory": "900G"}, Verdict.OK),
        ({"nodes": 3, "memory": "900G"}, Verdict.FAILED),
    ],
)
def test_nodes(settings: dict, verdict: Verdict) -> None:
    found = fit_of_nodes([SMALL, LARGE], SlurmSection(**settings))
    assert found[0] is verdict
    assert bool(found[2]) is (verdict is Verdict.FAILED)


def test_whole_nodes_whose_gpus_slurm_does_not_count() -> None:
    settings = SlurmSection(gpus_per_node=4, gpu_request="none")
    assert fit_of_nodes([replace(SMALL, num_gpus=0)], settings)[0] is Verdict.WARNING


MINE = [
    Association(account="a", partition="", qos=("normal", "urgent")),
    Association(account="b", partition="gpu", qos=("normal",)),
]


@pytest.mark.parametrize(
    ("settings", "verdict", "words"),
    [
        ({}, Verdict.OK, "by default"),
        ({"account": "a", "qos": "urgent"}, Verdict.OK, "account a, QOS urgent"),
        ({"account": "b", "partition": "gpu"}, Verdict.OK, "account b"),
        ({"account": "b", "partition": "cpu"}, Verdict.FAILED, "no account b in partition cpu; yours are a, b"),
        ({"account": "c"}, Verdict.FAILED, "no account c; yours are a, b"),
        ({"account": "b", "partition": "gpu", "qos": "urgent"}, Verdict.FAILED, "no QOS urgent; there are normal"),
    ],
)
def test_accounts(settings: dict, verdict: Verdict, words: str) -> None:
    found = fit_of_account(MINE, SlurmSection(**settings))
    assert found[0] is verdict
    assert words in found[1]


@pytest.mark.parametrize("found", [None, []])
def test_accounts_that_nobody_tells(found: list[Association] | None) -> None:
    assert fit_of_account(found, SlurmSection(account="a"))[0] is Verdict.SKIPPED


IMAGE = ContainerSection(image="/images/torch.sif", runtime="singularity")


@pytest.mark.parametrize(
    ("settings", "is_there", "verdict", "words", "advice"),
    [
        ({}, True, Verdict.OK, "none: jobs run with /agent/bin/python", ""),
        ({"python": "/opt/python"}, True, Verdict.OK, "none: jobs run with /opt/python", ""),
        ({"container": IMAGE, "python": "/opt/python"}, True, Verdict.OK, "with /opt/python inside it", ""),
        ({"container": IMAGE, "python": "/opt/python"}, False, Verdict.WARNING, "not found from here", "image"),
        ({"container": IMAGE}, True, Verdict.WARNING, "own /agent/bin/python is looked for inside", "slurm.python to"),
        ({"container": IMAGE}, False, Verdict.WARNING, "slurm.python is empty", "singularity exec /images/torch.sif"),
    ],
)
def test_an_image_needs_an_interpreter_of_its_own(
    settings: dict, is_there: bool, verdict: Verdict, words: str, advice: str
) -> None:
    found = fit_of_container(SlurmSection(**settings), "/agent/bin/python", is_there=is_there)
    assert found[0] is verdict
    assert words in found[1]
    assert advice in found[2]
    assert bool(found[2]) is (verdict is Verdict.WARNING)


@pytest.mark.parametrize("python", ["", "/usr/bin/python3"])
def test_the_image_is_looked_at_where_the_batch_systems_commands_are_not_found(tmp_path: Path, python: str) -> None:
    image = tmp_path / "torch.sif"
    image.write_bytes(b"")
    slurm = SlurmSection(bin_dir=str(tmp_path), python=python, container=ContainerSection(image=str(image)))
    config = SiteConfig(site="alpha", launcher="slurm", job=JobSection(seconds_limit=60), slurm=slurm)
    case = Case(directory=tmp_path, fs=RealFileSystem(tmp_path), config=config, now=0.0, probed=None)
    found = {item.check: item for item in examine_slurm(case)}
    assert found.keys() == {"slurm commands", "container"}
    assert found["slurm commands"].verdict is Verdict.FAILED
    assert found["container"].verdict is (Verdict.OK if python else Verdict.WARNING)
