# SPDX-License-Identifier: Apache-2.0
"""`federation demo --slurm`: the same federation, its sites' jobs under a real Slurm, and nothing left in the queue."""

import json
from pathlib import Path

import pytest
from services import run_command
from slurm_bed import SlurmBed

pytestmark = pytest.mark.timeout(600)


def test_the_demo_runs_under_slurm(slurm: SlurmBed, tmp_path: Path) -> None:
    options = ("--slurm", "--account", slurm.account, "--sites", "2", "--rounds", "2", "--json")
    keep = tmp_path / "kept"
    said = run_command("federation", "demo", *options, "--keep", keep, seconds=500, **slurm.environment)
    result = json.loads(said)
    assert result["verify"]["verdict"] == "TRUE"
    names = [name for (name,) in slurm.accounted("--allocations", fields="JobName%200")]
    assert {name.split("-a1-")[0] for name in names if "-a1-site-" in name} == {"federation-demo"}
    assert slurm.run(["squeue", "--noheader"]).stdout == ""


def test_it_says_what_is_missing_where_there_is_no_slurm(tmp_path: Path) -> None:
    said = run_command("federation", "demo", "--slurm", "--keep", tmp_path / "kept", code=2, PATH="/nowhere")
    assert "--slurm: expected sbatch in PATH, found none" in said
